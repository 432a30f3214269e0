//! Versions of a graph, for people.

use crate::GraphSpec;
use chain_graph::rollout::Timestamp;
use xdp_layout::ViewId;

/// What a version of a graph is good for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// New flows take it, apart from the candidate's share.
    Stable,
    /// On trial, or installed to be so next.
    Candidate,
    /// Takes no new flows; some that exist are still on it.
    Draining,
    /// Not installed any more; kept as history.
    Retired,
}

impl Role {
    /// The one name used everywhere, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Candidate => "candidate",
            Self::Draining => "draining",
            Self::Retired => "retired",
        }
    }
}

/// A version of a graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// The view it was compiled to.
    pub view: ViewId,
    /// The view it was made from.
    pub parent: Option<ViewId>,
    /// What was written.
    pub spec: GraphSpec,
    /// When it was first asked for; `None` if that was not recorded.
    pub made: Option<Timestamp>,
    /// What it is good for.
    pub role: Role,
}
