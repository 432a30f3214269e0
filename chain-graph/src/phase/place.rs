//! Positions in the protocol: what the coordinator orders and what a front end reports.

use crate::plan::PlanRef;
use std::collections::BTreeSet;
use std::fmt;
use xdp_layout::{Generation, NodeId};

/// What a front end does between hearing of a plan and running it, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// The next plan is installed beside the one in force; owners send exceptions against it in the background.
    Prepare,
    /// Frames of unknown flows at risk are parked.
    Hold,
    /// The fence is up; owners have sent every exception and wait until every member has acknowledged.
    Flush,
}

/// A position in the chain of plans.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum At {
    /// One plan is in force.
    Stable {
        /// The plan.
        plan: PlanRef,
        /// The highest number that was ever proposed: of this plan, or of a later one that was aborted.
        last: Generation,
    },
    /// A change is under way.
    Change {
        /// The plan in force.
        plan: PlanRef,
        /// The plan to come.
        next: PlanRef,
        /// How far the change is.
        phase: Phase,
    },
}

impl At {
    /// The plan in force.
    pub fn plan(&self) -> PlanRef {
        match *self {
            Self::Stable { plan, .. } | Self::Change { plan, .. } => plan,
        }
    }

    /// The highest number that was proposed so far.
    pub fn last(&self) -> Generation {
        match *self {
            Self::Stable { last, .. } => last,
            Self::Change { next, .. } => next.generation,
        }
    }
}

/// A position in one life of the cluster. In every life, no position comes twice: numbers rise, and the end of a change,
/// commit or abort, comes after its phases.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    incarnation: u64,
    at: At,
}

impl Place {
    /// A position in the life `incarnation`. `None` if the numbers do not rise: `last` below its plan, or `next` not above.
    pub fn new(incarnation: u64, at: At) -> Option<Self> {
        let rises = match at {
            At::Stable { plan, last } => plan.generation <= last,
            At::Change { plan, next, .. } => plan.generation < next.generation,
        };
        rises.then_some(Self { incarnation, at })
    }

    /// For positions whose numbers rise by construction.
    pub(super) fn made(incarnation: u64, at: At) -> Self {
        debug_assert!(Self::new(incarnation, at).is_some(), "{at:?}");
        Self { incarnation, at }
    }

    /// Life of the cluster; a restore from a backup starts another one.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The position in the chain.
    pub fn at(&self) -> At {
        self.at
    }

    /// Orders positions in time. Two positions of equal rank are the same, or one of them is an alarm.
    pub fn rank(&self) -> (u64, Generation, u8) {
        let step = match self.at {
            At::Change { phase: Phase::Prepare, .. } => 0,
            At::Change { phase: Phase::Hold, .. } => 1,
            At::Change { phase: Phase::Flush, .. } => 2,
            At::Stable { .. } => 3,
        };
        (self.incarnation, self.at.last(), step)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stable { plan, last } if plan.generation == *last => write!(f, "stable {}", Named(plan)),
            Self::Stable { plan, last } => write!(f, "stable {}, {last} used up", Named(plan)),
            Self::Change { plan, next, phase } => write!(f, "{phase} {} to {}", Named(plan), Named(next)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (incarnation {})", self.at, self.incarnation)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::Hold => "hold",
            Self::Flush => "flush",
        })
    }
}

/// A plan as people read it: number and digest.
pub(super) struct Named<'a>(pub(super) &'a PlanRef);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:x}", self.0.generation, self.0.digest)
    }
}

/// What every front end is told. Level-triggered: the last one heard says all, those before it need not have been heard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Order {
    /// Where the members shall be; each goes there step by step.
    pub place: Place,
    /// Number of the membership; rises with every change of it.
    pub epoch: u64,
    /// Front ends that answer frames.
    pub members: BTreeSet<NodeId>,
}

impl Order {
    /// Whether `node` is the only member: there is nobody to agree with.
    pub fn is_lone(&self, node: NodeId) -> bool {
        self.members.len() == 1 && self.members.contains(&node)
    }

    /// The members apart from `node`.
    pub fn peers(&self, node: NodeId) -> BTreeSet<NodeId> {
        self.members.iter().copied().filter(|member| *member != node).collect()
    }
}
