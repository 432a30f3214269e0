//! Whether flows may return to the stable view: an abort never puts more load on a replica set than its declared capacity.
//!
//! Argo Rollouts once returned 70 % of the traffic to replicas that were sized for 5 % (argo-rollouts pull request 4612).
//! So the order is: capacity of the live members, then their tables, then the weights.
//!
//! A set's load with the candidate at share `s` goes from what it is to `others + own_and_returning * (1 - s)` as flows end
//! and new ones begin. It stays within the capacity all the way if both ends do. The second does not depend on the share
//! in force, so asking again after a partial return, before the flows have turned over, does not return them twice.

use super::event::Sequence;
use super::share::Share;
use serde::{Deserialize, Serialize};
use std::fmt;
use xdp_layout::ReplicaSetId;

/// The load of the stable view's replica sets and their room.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CapacityReport {
    /// The number of the command that asked.
    pub sequence: Sequence,
    /// The candidate's share of the new flows while this was measured.
    pub share: Share,
    /// Every replica set that the stable view names.
    pub sets: Vec<SetLoad>,
}

/// The load of a replica set of the stable view, and its room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SetLoad {
    /// The replica set.
    pub set: ReplicaSetId,
    /// Flows it has, of all graphs and views.
    pub flows: u64,
    /// Those of `flows` that it has by this graph's stable view.
    pub own: u64,
    /// Flows of the candidate that would come on top, were they flows of the stable view.
    pub returning: u64,
    /// Flows that its live members may have together, as declared; `None` if it declares no capacity.
    pub capacity: Option<u64>,
    /// The table in the data path has the members that `capacity` counts, and at least one of them is live.
    pub serving: bool,
}

/// What a replica set lacks for all flows to return.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shortage {
    /// The replica set.
    pub set: ReplicaSetId,
    /// What it lacks.
    pub lack: Lack,
}

/// See [`Shortage`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// A live member, or the table that has it.
    Members,
    /// Room for this many flows.
    Flows(u64),
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.set;
        match self.lack {
            Lack::Members => write!(f, "replica set {set} has no live member installed"),
            Lack::Flows(flows) => write!(f, "replica set {set} lacks room for {flows} flows"),
        }
    }
}

impl CapacityReport {
    /// What keeps the flows from returning; nothing if all may return at once.
    pub(super) fn shortages(&self) -> Vec<Shortage> {
        let lacking = self.sets.iter().filter_map(|load| Some(Shortage { set: load.set, lack: load.lack()? }));
        lacking.collect()
    }

    /// The least share of the candidate that overloads nobody.
    pub(super) fn lowest_share(&self) -> Share {
        self.sets.iter().map(SetLoad::lowest_share).max().unwrap_or(Share::NONE)
    }
}

impl SetLoad {
    fn lack(&self) -> Option<Lack> {
        if !self.serving {
            return Some(Lack::Members);
        }
        // A set to which nothing returns gets no load by the abort, however loaded it is.
        let capacity = self.capacity.filter(|_| self.returning > 0)?;
        let over = self.flows.saturating_add(self.returning).saturating_sub(capacity);
        (over > 0).then_some(Lack::Flows(over))
    }

    fn lowest_share(&self) -> Share {
        let (lack, capacity) = (self.lack(), self.capacity.unwrap_or(u64::MAX));
        match lack {
            None => Share::NONE,
            Some(Lack::Flows(_)) if self.flows <= capacity => {
                let others = self.flows.saturating_sub(self.own);
                let graph = self.own.min(self.flows).saturating_add(self.returning);
                Share::leaving_at_most(capacity - others, graph)
            }
            Some(Lack::Members | Lack::Flows(_)) => Share::ALL,
        }
    }
}
