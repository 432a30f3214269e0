//! What a front end does with a frame, as far as the phase decides it. Needs `core` alone, so that the data path can run
//! it as it is.
//!
//! `P` is a flow's path; two paths are equal if they name the same instances. `pick` is `recompute` under the plan of a
//! number, with the instances stepped over that this front end knows to be down under that plan.

use std::fmt;
use xdp_layout::{Generation, NodeId};

/// What the data path needs to know of the phase: its phase word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rules {
    /// Answers nothing: the front end is not a member.
    Closed,
    /// One plan is in force; a change may be prepared beside it.
    Stable {
        /// The plan.
        plan: Generation,
        /// The plan before it, until the next change: frames that were picked by it may still arrive. It is not needed
        /// any more, its number is.
        before: Option<Generation>,
    },
    /// Unknown flows at risk are parked.
    Hold {
        /// The plan in force.
        plan: Generation,
        /// The plan to come.
        next: Generation,
    },
    /// As [`Self::Hold`], and the fence is up.
    Flush {
        /// The plan in force.
        plan: Generation,
        /// The plan to come.
        next: Generation,
    },
}

/// What a front end has in its tables about a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Known<P> {
    /// Nothing: the plan tells its path.
    Nothing,
    /// A replica of another owner's record, whose path is not what the plan tells.
    Exception(P),
    /// A record of its own.
    Record(P),
}

/// By whose word a frame travels between front ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stamp {
    /// The sender picked the path by this plan.
    Plan(Generation),
    /// The sender took the path from an exception.
    Exception,
    /// The sender is the owner and has a record with this path.
    Owner,
}

/// What becomes of a frame that enters at an attachment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Entry<P> {
    /// It goes to the first element of the path in its direction.
    Forward {
        /// The path.
        path: P,
        /// What the frame carries if that element is behind another front end, or what counts if it is behind this one.
        stamp: Stamp,
    },
    /// It waits for the end of the change; with no room left it is dropped as `plan_hold`.
    Park,
    /// It is dropped: this front end is not a member.
    Closed,
}

/// A frame that enters the cluster at this front end. A record goes before an exception, an exception before the plan.
pub fn enter<P: PartialEq>(rules: Rules, known: Known<P>, pick: impl Fn(Generation) -> P) -> Entry<P> {
    let plan = match rules {
        Rules::Closed => return Entry::Closed,
        Rules::Stable { plan, .. } | Rules::Hold { plan, .. } | Rules::Flush { plan, .. } => plan,
    };
    match (known, rules) {
        (Known::Record(path), _) => Entry::Forward { path, stamp: Stamp::Owner },
        (Known::Exception(path), _) => Entry::Forward { path, stamp: Stamp::Exception },
        (Known::Nothing, Rules::Hold { next, .. } | Rules::Flush { next, .. }) if pick(plan) != pick(next) => {
            Entry::Park
        }
        (Known::Nothing, _) => Entry::Forward { path: pick(plan), stamp: Stamp::Plan(plan) },
    }
}

/// What the owner, the host of the first live instance of the path, does with a frame for that path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Claim {
    /// Go by the record that is there, whatever path the frame carries.
    Record,
    /// Create a record with the frame's path, then go by it. With no budget left the frame goes that path without one.
    Create,
    /// Drop the frame as `not_owner`.
    Refuse(Refusal),
}

/// Why an owner refuses a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// Not a member.
    Closed,
    /// The flow is known to live elsewhere: this front end has an exception for it.
    Elsewhere,
    /// The instance is down, under the plan that the path was picked by.
    Down,
    /// There is no record, and the sender believed that there is one. Tell it to forget.
    NoRecord,
    /// The plan that the path was picked by is neither the one in force nor a neighbour of it.
    Unknown,
    /// The plan that the path was picked by is over, and the one that follows tells another path.
    Stale,
}

/// A frame at the owner of `path`, under the fence: a record is created by the plan in force or a neighbour of it, from
/// Flush on not by the old one unless the new one tells the same path, and never by the word of a replica. Frames that
/// enter at the owner itself are no exception.
///
/// `pick` is this host's: a sender that knew of a failure before this host did, or the other way round, may have picked
/// otherwise. `is_down` tells whether this host's own instance is down under the plan of a number.
pub fn claim<P: PartialEq>(
    rules: Rules,
    known: &Known<P>,
    stamp: Stamp,
    path: &P,
    pick: impl Fn(Generation) -> P,
    is_down: impl Fn(Generation) -> bool,
) -> Claim {
    let (fence, old) = match rules {
        Rules::Closed => return Claim::Refuse(Refusal::Closed),
        Rules::Stable { plan, before } => (plan, before),
        Rules::Hold { plan, .. } => (plan, None),
        Rules::Flush { plan, next } => (next, Some(plan)),
    };
    match (known, stamp) {
        (Known::Record(_), _) => Claim::Record,
        (Known::Exception(_), _) => Claim::Refuse(Refusal::Elsewhere),
        (Known::Nothing, Stamp::Exception | Stamp::Owner) => Claim::Refuse(Refusal::NoRecord),
        (Known::Nothing, Stamp::Plan(by)) if by != fence && Some(by) != old => Claim::Refuse(Refusal::Unknown),
        (Known::Nothing, Stamp::Plan(by)) if is_down(by) => Claim::Refuse(Refusal::Down),
        (Known::Nothing, Stamp::Plan(by)) if by != fence && pick(fence) != *path => Claim::Refuse(Refusal::Stale),
        (Known::Nothing, Stamp::Plan(_)) => Claim::Create,
    }
}

/// What the host of a later instance of the path does with a frame for that instance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hop {
    /// Deliver it. By the owner's own word, this also renews the lease.
    Deliver,
    /// Send it to the owner, who claims it and sends it back with [`Stamp::Owner`], or refuses it.
    Ask,
    /// Drop it: this front end is not a member, or the owner is not.
    Refuse,
}

/// A frame at the host of an instance that is not the path's first live one. `is_heeded`: the owner is a member.
/// `is_leased`: this host has heard the owner's word for exactly this path, less than the lease ago.
///
/// A flow's frames towards the client meet the later instances before its owner. Delivered unasked, they would reach an
/// instance that the owner's fence then refuses. The lease must end before the owner's record can: it is shorter than the
/// record's idle time by two one-way delays of the underlay, and only the owner's word renews it.
pub fn hop(rules: Rules, is_heeded: bool, is_leased: bool, stamp: Stamp) -> Hop {
    match (rules, stamp) {
        (Rules::Closed, _) => Hop::Refuse,
        _ if !is_heeded => Hop::Refuse,
        (_, Stamp::Owner) => Hop::Deliver,
        (_, Stamp::Plan(_) | Stamp::Exception) if is_leased => Hop::Deliver,
        (_, Stamp::Plan(_) | Stamp::Exception) => Hop::Ask,
    }
}

/// The owner of a path: the host of its first live instance. `elements` gives each instance's host and whether it is live,
/// from the client's end.
pub fn owner(elements: impl IntoIterator<Item = (NodeId, bool)>) -> Option<NodeId> {
    elements.into_iter().find(|(_, is_live)| *is_live).map(|(host, _)| host)
}

/// Whether, and by when, a record goes to every member as an exception.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Announce {
    /// The plan tells the same path.
    Never,
    /// The plan to come tells another path: before this front end reports Flush.
    BeforeCommit,
    /// The plan in force tells another path: at once.
    AtOnce,
}

/// Whether a record is an exception under the plan in force, or under the one to come. Only the owner announces: its death
/// ends the flow, so nobody is left with half of what it said. `told` is `recompute` with no instance stepped over: what is
/// down is not known everywhere at the same time.
pub fn announce<P: PartialEq>(
    is_owner: bool,
    plan: Generation,
    next: Option<Generation>,
    path: &P,
    told: impl Fn(Generation) -> P,
) -> Announce {
    if !is_owner {
        Announce::Never
    } else if told(plan) != *path {
        Announce::AtOnce
    } else if next.is_some_and(|next| told(next) != *path) {
        Announce::BeforeCommit
    } else {
        Announce::Never
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Stable { plan, before: None } => write!(f, "by {plan}"),
            Self::Stable { plan, before: Some(before) } => write!(f, "by {plan}, after {before}"),
            Self::Hold { plan, next } => write!(f, "by {plan}, park what {next} tells otherwise"),
            Self::Flush { plan, next } => write!(f, "by {plan}, park what {next} tells otherwise, fence"),
        }
    }
}
