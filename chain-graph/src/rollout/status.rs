//! A rollout for people: what it is doing, how far it has got, what it waits for.

use super::Rollout;
use super::capacity::Shortage;
use super::measure::Figures;
use super::share::Share;
use super::state::{Outcome, Pause, Phase, Run, Stage, State};
use super::time::Timestamp;
use crate::model::ObjectKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use xdp_layout::ViewId;

/// A rollout's phase in one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// There never was a rollout.
    Idle,
    /// The candidate is being installed.
    Installing,
    /// A weight is being set.
    Progressing,
    /// The step in hand is a pause.
    Paused,
    /// The step in hand could not be judged.
    Inconclusive,
    /// An operator paused it.
    PausedByOperator,
    /// The candidate is becoming the stable view.
    Promoting,
    /// An abort waits until the stable view has room.
    AwaitingCapacity,
    /// The candidate's share is returning.
    Aborting,
    /// A rollout has ended.
    Completed,
}

impl PhaseName {
    /// The one name used everywhere, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Installing => "installing",
            Self::Progressing => "progressing",
            Self::Paused => "paused",
            Self::Inconclusive => "inconclusive",
            Self::PausedByOperator => "paused_by_operator",
            Self::Promoting => "promoting",
            Self::AwaitingCapacity => "awaiting_capacity",
            Self::Aborting => "aborting",
            Self::Completed => "completed",
        }
    }
}

/// Where a rollout is: a phase and a step. Its text goes on from "the rollout is".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The phase.
    pub phase: PhaseName,
    /// Number of the step in hand, from 1; 0 before the first and without steps.
    pub step: u8,
    /// How many steps there are.
    pub steps: u8,
}

impl Place {
    /// Of a state.
    pub(super) fn of(state: &State) -> Self {
        let (phase, step, steps) = match state {
            State::Idle => (PhaseName::Idle, 0, 0),
            State::Completed(_) => (PhaseName::Completed, 0, 0),
            State::Running(run) => {
                let phase = match &run.phase {
                    Phase::Installing(_) => PhaseName::Installing,
                    Phase::Progressing(_) => PhaseName::Progressing,
                    Phase::Paused(Pause::Step(_)) => PhaseName::Paused,
                    Phase::Paused(Pause::Inconclusive(_)) => PhaseName::Inconclusive,
                    Phase::Paused(Pause::Operator(_)) => PhaseName::PausedByOperator,
                    Phase::Promoting(_) => PhaseName::Promoting,
                    Phase::Aborting { stage: Stage::AwaitingCapacity { .. } | Stage::Lowering { .. }, .. } => {
                        PhaseName::AwaitingCapacity
                    }
                    Phase::Aborting { stage: Stage::Withdrawing { .. }, .. } => PhaseName::Aborting,
                };
                (phase, run.step, run.spec.steps())
            }
        };
        Self { phase, step, steps }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, step, steps } = self;
        match phase {
            PhaseName::Idle => return f.write_str("not running"),
            PhaseName::Completed => return f.write_str("completed"),
            PhaseName::Installing => f.write_str("being installed")?,
            PhaseName::Progressing => f.write_str("setting a weight")?,
            PhaseName::Paused => f.write_str("paused")?,
            PhaseName::Inconclusive => f.write_str("paused without a judgement")?,
            PhaseName::PausedByOperator => f.write_str("paused by an operator")?,
            PhaseName::Promoting => f.write_str("being promoted")?,
            PhaseName::AwaitingCapacity => f.write_str("being aborted and waiting for capacity")?,
            PhaseName::Aborting => f.write_str("being aborted")?,
        }
        if *step == 0 { Ok(()) } else { write!(f, " at step {step} of {steps}") }
    }
}

/// A rollout for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The graph.
    pub graph: ObjectKey,
    /// Where the rollout is.
    pub place: Place,
    /// The view of new flows, apart from the candidate's share.
    pub stable: ViewId,
    /// The candidate; of the last rollout if none is running, `None` if there never was one.
    pub target: Option<ViewId>,
    /// The candidate's share of the new flows, as last confirmed by the data path.
    pub share: Share,
    /// The share that it is to have.
    pub wanted: Share,
    /// When the rollout began.
    pub started: Option<Timestamp>,
    /// When its phase began.
    pub since: Option<Timestamp>,
    /// When it goes on or gives up unless something happens before.
    pub next_deadline: Option<Timestamp>,
    /// What the candidate was seen to do.
    pub figures: Option<Figures>,
    /// What keeps flows from returning to the stable view.
    pub shortages: Vec<Shortage>,
    /// What came of it; `None` while it runs. For an abort, what it will end as is in `message`.
    pub outcome: Option<Outcome>,
    /// What is going on and what it waits for, in one line.
    pub message: String,
}

impl Rollout {
    /// The rollout for people.
    pub fn status(&self) -> Status {
        let place = Place::of(&self.state);
        let mut status = Status {
            graph: self.graph.clone(),
            place,
            stable: self.stable,
            target: None,
            share: Share::NONE,
            wanted: Share::NONE,
            started: None,
            since: None,
            next_deadline: None,
            figures: None,
            shortages: Vec::new(),
            outcome: None,
            message: place.to_string(),
        };
        match &self.state {
            State::Idle => {}
            State::Running(run) => {
                status.target = Some(run.target);
                status.share = run.share;
                status.wanted = run.wanted();
                status.started = Some(run.started);
                status.since = Some(run.since);
                status.next_deadline = run.deadline();
                status.figures = run.measured.figures();
                status.shortages = run.shortages().to_vec();
                status.message = run.message();
            }
            State::Completed(ended) => {
                status.target = Some(ended.target);
                status.started = Some(ended.started);
                status.since = Some(ended.ended);
                status.outcome = Some(ended.outcome.clone());
                status.message = ended.outcome.to_string();
            }
        }
        status
    }
}

impl Run {
    fn wanted(&self) -> Share {
        match &self.phase {
            Phase::Installing(_) | Phase::Progressing(_) | Phase::Paused(_) | Phase::Promoting(_) => self.asked(),
            Phase::Aborting { .. } => Share::NONE,
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Installing(awaited) | Phase::Progressing(awaited) | Phase::Promoting(awaited) => {
                Some(awaited.deadline.end())
            }
            Phase::Paused(Pause::Step(timer)) => timer.map(|timer| timer.end()),
            Phase::Paused(Pause::Inconclusive(_) | Pause::Operator(_)) | Phase::Aborting { .. } => None,
        }
    }

    fn shortages(&self) -> &[Shortage] {
        match &self.phase {
            Phase::Aborting {
                stage: Stage::AwaitingCapacity { shortages, .. } | Stage::Lowering { shortages, .. },
                ..
            } => shortages,
            Phase::Aborting { stage: Stage::Withdrawing { .. }, .. }
            | Phase::Installing(_)
            | Phase::Progressing(_)
            | Phase::Paused(_)
            | Phase::Promoting(_) => &[],
        }
    }

    fn message(&self) -> String {
        let (target, steps) = (self.target, self.spec.steps());
        let step = format!("step {} of {steps}", self.step);
        let message = match &self.phase {
            Phase::Installing(_) => format!("installs view {target}"),
            Phase::Progressing(_) => format!("{step}: gives view {target} {} of the new flows", self.weight()),
            Phase::Paused(Pause::Step(Some(_))) => format!("{step}: watches view {target}"),
            Phase::Paused(Pause::Step(None)) => format!("{step}: waits until it is resumed or promoted"),
            Phase::Paused(Pause::Inconclusive(doubts)) => {
                let doubts = listed(doubts);
                format!("{step}: no judgement: {doubts}; resume to watch it again, promote to go on, or abort")
            }
            Phase::Paused(Pause::Operator(_)) => "paused by an operator; resume or promote it".to_owned(),
            Phase::Promoting(_) => format!("makes view {target} the stable view"),
            Phase::Aborting { why, stage } => {
                let doing = match stage {
                    Stage::AwaitingCapacity { shortages, .. } if shortages.is_empty() => "asks for room".to_owned(),
                    Stage::AwaitingCapacity { shortages, .. } | Stage::Lowering { shortages, .. } => {
                        format!("waits for capacity: {}; make room or force the abort", listed(shortages))
                    }
                    Stage::Withdrawing { .. } => format!("withdraws view {target}"),
                };
                format!("{}; {doing}", why.outcome())
            }
        };
        match &self.failure {
            None => message,
            Some(failure) => format!("{message}; the last attempt failed: {failure}"),
        }
    }
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
