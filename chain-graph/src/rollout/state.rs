//! Where a rollout is.
//!
//! ```text
//! Idle -> Installing -> Progressing <-> Paused -> Promoting -> Completed(Success)
//!              \____________\____________\___________\
//!                                                     Aborting -> Completed(Failed), or the next target's Installing
//! ```

use super::capacity::Shortage;
use super::event::Sequence;
use super::measure::{Breach, Doubt, Measurement};
use super::share::Share;
use super::spec::CheckedSpec;
use super::time::{Span, Timer, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use xdp_layout::ViewId;

/// What a graph's rollout engine is doing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing, and never did. Every new flow goes to the stable view.
    Idle,
    /// A rollout.
    Running(Box<Run>),
    /// Nothing since a rollout ended. Every new flow goes to the stable view.
    Completed(Ended),
}

/// A rollout that is running.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Run {
    /// How.
    pub spec: CheckedSpec,
    /// The candidate.
    pub target: ViewId,
    /// When it began.
    pub started: Timestamp,
    /// When its phase began.
    pub since: Timestamp,
    /// Number of the step in hand, from 1; 0 before the first one.
    pub step: u8,
    /// The candidate's share of the new flows, as last confirmed by the data path.
    pub share: Share,
    /// What the candidate was seen to do.
    pub measured: Measurement,
    /// Why the command in force last failed; `None` if it has not, and without one.
    pub failure: Option<String>,
    /// Where it is.
    pub phase: Phase,
}

/// Where a running rollout is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The candidate is being installed. No new flow goes there. From: start, or the end of an aborted one.
    Installing(Awaited),
    /// The weight of the step in hand is being set: new flows follow the old or the new one. From: installing, a pause,
    /// another weight.
    Progressing(Awaited),
    /// Nobody changes a weight. From: installing, progressing.
    Paused(Pause),
    /// The candidate is becoming the stable view. From: the last step, an operator.
    Promoting(Awaited),
    /// The candidate's share is returning. From: any phase.
    Aborting {
        /// What it ends as, and what follows.
        why: Why,
        /// How far it has got.
        stage: Stage,
    },
}

/// A command that has to be confirmed in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Awaited {
    /// Its number.
    pub sequence: Sequence,
    /// When the rollout gives up.
    pub deadline: Timer,
}

/// Why a rollout is paused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// The step in hand says so, for this long; `None` until somebody promotes or resumes.
    Step(Option<Timer>),
    /// The step in hand is over and cannot be judged, for these reasons.
    Inconclusive(Vec<Doubt>),
    /// An operator said so.
    Operator(Resume),
}

/// How a rollout goes on after an operator's pause. Timers hold what is left of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// The candidate is still being installed.
    Installing(Awaited),
    /// The weight of the step in hand is still being set.
    Progressing(Awaited),
    /// The step in hand waits for this long.
    Step(Timer),
    /// With the next step.
    Next,
}

/// Why a rollout is aborted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It failed. Another one may have been asked for since.
    Failed(Failure, Option<Next>),
    /// Another one takes its place.
    Superseded(Next),
}

/// A rollout that begins when the one before has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Next {
    /// How.
    pub spec: CheckedSpec,
    /// To which view.
    pub target: ViewId,
}

/// How far an abort has got: capacity, then tables, then weights.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Room for the flows is being looked for. The candidate keeps its share.
    AwaitingCapacity {
        /// Number of the question.
        sequence: Sequence,
        /// The largest share that the candidate may have.
        at_most: Share,
        /// What was lacking at the last report; empty before the first.
        shortages: Vec<Shortage>,
    },
    /// There is room for some of the flows; the candidate's share is being lowered that far.
    Lowering {
        /// Number of the command.
        sequence: Sequence,
        /// How far.
        share: Share,
        /// What is lacking for the rest.
        shortages: Vec<Shortage>,
    },
    /// All of the share returns, and the candidate leaves the plan.
    Withdrawing {
        /// Number of the command.
        sequence: Sequence,
    },
}

/// A rollout that has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// The stable view when it began.
    pub from: ViewId,
    /// The candidate.
    pub target: ViewId,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The step in hand at the end, from 1; 0 before the first.
    pub step: u8,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a rollout. One that cannot be judged is paused, not ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The candidate is the stable view.
    Success,
    /// The stable view is as before.
    Failed(Failure),
    /// The stable view is as before; another target took this one's place.
    Superseded {
        /// The other target.
        by: ViewId,
    },
}

/// Why a rollout failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// An operator aborted it, for this reason.
    Operator(String),
    /// The candidate exceeded these bounds.
    Bounds(Vec<Breach>),
    /// The data path did not confirm a command in time.
    ProgressDeadline {
        /// How long it had.
        waited: Span,
        /// Why the command last failed; `None` if nothing was heard.
        failure: Option<String>,
    },
}

impl Awaited {
    /// With what is left of its deadline, beginning at `now`.
    pub(super) fn rest(self, now: Timestamp) -> Self {
        Self { deadline: self.deadline.rest(now), ..self }
    }

    /// With its whole deadline, beginning at `now`.
    pub(super) fn again(self, now: Timestamp) -> Self {
        Self { deadline: self.deadline.again(now), ..self }
    }
}

impl Why {
    /// What the rollout ends as.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Failed(failure, _) => Outcome::Failed(failure.clone()),
            Self::Superseded(next) => Outcome::Superseded { by: next.target },
        }
    }

    /// What begins afterwards.
    pub(super) fn next(self) -> Option<Next> {
        match self {
            Self::Failed(_, next) => next,
            Self::Superseded(next) => Some(next),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("success"),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
            Self::Superseded { by } => write!(f, "superseded by view {by}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(reason) => write!(f, "aborted by an operator: {reason}"),
            Self::Bounds(breaches) => {
                let all: Vec<String> = breaches.iter().map(ToString::to_string).collect();
                f.write_str(&all.join("; "))
            }
            Self::ProgressDeadline { waited, failure: None } => write!(f, "no progress within {waited}"),
            Self::ProgressDeadline { waited, failure: Some(failure) } => {
                write!(f, "no progress within {waited}; the last failure: {failure}")
            }
        }
    }
}
