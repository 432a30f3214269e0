//! What happens to a rollout, and what it asks for.

use super::capacity::CapacityReport;
use super::measure::Sample;
use super::share::Share;
use super::spec::{CheckedSpec, Drain};
use serde::{Deserialize, Serialize};
use std::fmt;
use xdp_layout::ViewId;

/// Number of a command; rises with every command of a graph. Who carries commands out keeps the highest number seen
/// and refuses lower ones: what a confirmation or a report says then cannot be overtaken by an older command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(u64);

impl Sequence {
    /// Before the first command.
    pub const NONE: Self = Self(0);

    /// Takes the plain number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The plain number.
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happens to a rollout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Begin a rollout.
    Start {
        /// How.
        spec: CheckedSpec,
        /// To which view.
        target: ViewId,
    },
    /// End the one that is running and begin another. The share of the one that ends returns first.
    Replace {
        /// How.
        spec: CheckedSpec,
        /// To which view.
        target: ViewId,
        /// Without asking for room.
        force: bool,
    },
    /// Time passes. Due at [`super::Status::next_deadline`] at the latest.
    Tick,
    /// The data path has what a command asked for; for [`Action::Install`] also: the candidate's replicas are ready.
    Applied {
        /// The command's number.
        sequence: Sequence,
    },
    /// A command could not be carried out. It stays in force and is tried again until the progress deadline.
    ApplyFailed {
        /// The command's number.
        sequence: Sequence,
        /// Why, for people.
        reason: String,
    },
    /// The candidate was measured.
    Sample(Sample),
    /// The stable view's room was measured, as [`Action::ReportCapacity`] asks. An open question may be answered again
    /// and again.
    Capacity(CapacityReport),
    /// An operator wants no further steps.
    Pause,
    /// An operator ends a pause.
    Resume,
    /// An operator goes on without waiting, whatever the measurements say.
    Promote {
        /// Skip all remaining steps, not only the pause in hand.
        full: bool,
    },
    /// An operator wants the stable view back.
    Abort {
        /// Why, for people.
        reason: String,
        /// Without asking for room.
        force: bool,
    },
}

impl Event {
    /// Its name in messages, in snake case.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Replace { .. } => "replace",
            Self::Tick => "tick",
            Self::Applied { .. } => "applied",
            Self::ApplyFailed { .. } => "apply_failed",
            Self::Sample(_) => "sample",
            Self::Capacity(_) => "capacity",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote { .. } => "promote",
            Self::Abort { .. } => "abort",
        }
    }
}

/// What has to be done. A rollout has at most one command in force; a later one takes its place. Leaves no choice to who
/// carries it out, and doing it twice does no harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Its number, for the answer.
    pub sequence: Sequence,
    /// The stable view.
    pub stable: ViewId,
    /// The candidate.
    pub target: ViewId,
    /// What has to hold.
    pub action: Action,
}

/// What a command asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The candidate is installed beside the stable view, with no share of the new flows, and its replicas are ready.
    Install,
    /// The candidate gets this share of the new flows, the stable view all others.
    SetShare(Share),
    /// The candidate gets every new flow, and the stable view leaves the plan. It drains like this once that is confirmed.
    Promote(Drain),
    /// The stable view gets every new flow, and the candidate leaves the plan. It drains like this once that is confirmed.
    Withdraw(Drain),
    /// Answer with [`Event::Capacity`], at once and whenever the figures change, until there is another command.
    ReportCapacity,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Install => f.write_str("install the candidate"),
            Self::SetShare(share) => write!(f, "give the candidate {share} of the new flows"),
            Self::Promote(_) => f.write_str("promote the candidate"),
            Self::Withdraw(_) => f.write_str("withdraw the candidate"),
            Self::ReportCapacity => f.write_str("report the capacity of the stable view"),
        }
    }
}
