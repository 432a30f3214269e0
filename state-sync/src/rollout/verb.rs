//! What can happen to a rollout.

use crate::GraphSpec;
use chain_graph::rollout::{CapacityReport, CheckedSpec, Sample, Sequence};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use xdp_layout::{Generation, ViewId};

/// What happens to the rollout of a graph.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutVerb {
    /// Begin one.
    Start {
        /// How.
        spec: CheckedSpec,
        /// To which version of the graph; of the same tenant, name and attachments.
        target: GraphSpec,
    },
    /// End the one that is running and begin another.
    Replace {
        /// How.
        spec: CheckedSpec,
        /// To which version of the graph.
        target: GraphSpec,
        /// Without asking whether the stable view has room for the flows that return.
        force: bool,
    },
    /// Begin one to a version that the graph had before.
    Undo {
        /// How.
        spec: CheckedSpec,
        /// To which one; `None` for the one before the last rollout that succeeded.
        to: Option<ViewId>,
    },
    /// Take no further steps.
    Pause,
    /// End a pause.
    Resume,
    /// Go on without waiting.
    Promote {
        /// Skip all remaining steps, not only the pause in hand.
        full: bool,
    },
    /// Return to the stable view.
    Abort {
        /// Why, for people.
        reason: String,
        /// Without asking whether the stable view has room.
        force: bool,
    },
    /// Clock and data path tell what they see. Sent by the control plane itself.
    Report(Report),
}

/// What clock and data path tell.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Time has passed.
    Tick,
    /// A command of the rollout was carried out.
    Applied {
        /// The command's number.
        sequence: Sequence,
    },
    /// A command of the rollout could not be carried out yet.
    ApplyFailed {
        /// The command's number.
        sequence: Sequence,
        /// Why, for people.
        reason: String,
    },
    /// The candidate was measured.
    Sample(Sample),
    /// The stable view's room was measured.
    Capacity(CapacityReport),
    /// The records of draining views were counted.
    Count {
        /// The plan that was in force when the count began.
        generation: Generation,
        /// Records of the graph's views; a view that is absent has none.
        records: BTreeMap<ViewId, u64>,
    },
}
