//! The front end's side.

mod order;

use super::forward::Rules;
use super::place::{At, Named, Order, Phase, Place};
use crate::plan::PlanRef;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use xdp_layout::{Generation, NodeId};

/// A front end in the protocol. Made durable, in the data path's phase word, before its commands are carried out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Member {
    node: NodeId,
    incarnation: u64,
    epoch: u64,
    /// The members it was told last; none while it is not one.
    members: BTreeSet<NodeId>,
    state: MemberState,
}

/// How far a front end is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum MemberState {
    /// Not a member, and not able to become one: nothing was heard, or a change is under way. Answers nothing.
    Outside {
        /// What was heard last.
        heard: Option<At>,
    },
    /// Not a member, on its way to become one. Answers nothing.
    Joining {
        /// The plan in force.
        plan: PlanRef,
        /// See [`At::Stable`].
        last: Generation,
        /// Whether the plan is installed.
        installed: bool,
        /// The members whose exceptions it has, and keeps being told.
        synchronized: Option<BTreeSet<NodeId>>,
    },
    /// One plan is in force.
    Stable {
        /// The plan.
        plan: PlanRef,
        /// The plan before it; see [`Rules::Stable`].
        before: Option<Generation>,
        /// See [`At::Stable`].
        last: Generation,
    },
    /// See [`Phase::Prepare`]. Frames are answered as in `Stable`.
    Prepare {
        /// The plan in force.
        plan: PlanRef,
        /// As in `Stable`.
        before: Option<Generation>,
        /// The plan to come.
        next: PlanRef,
        /// Whether it is installed, which is what a member reports.
        installed: bool,
    },
    /// See [`Phase::Hold`].
    Hold {
        /// The plan in force.
        plan: PlanRef,
        /// The plan to come.
        next: PlanRef,
    },
    /// See [`Phase::Flush`].
    Flush {
        /// The plan in force.
        plan: PlanRef,
        /// The plan to come.
        next: PlanRef,
        /// Members that have not acknowledged every exception; none left is what a member reports. `None` after a
        /// restart, until the exceptions are sent again.
        waiting: Option<BTreeSet<NodeId>>,
    },
}

/// What happens to a front end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum MemberEvent {
    /// The control plane has spoken.
    Order(Order),
    /// The plan is installed, with this digest.
    Installed(PlanRef),
    /// A peer has every exception that [`MemberCommand::Send`] against `next` sent it, in its data path. A peer whose table
    /// refused some has them too: those flows are unprotected, and counted.
    Acknowledged {
        /// The peer.
        peer: NodeId,
        /// The plan to come.
        next: PlanRef,
    },
    /// A snapshot of the exceptions of all of `with` is in the data path, followed by what each of them announces later.
    Synchronized {
        /// The plan in force when it was asked for.
        plan: PlanRef,
        /// The members it has it from.
        with: BTreeSet<NodeId>,
    },
}

/// What a front end has to do, in this order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum MemberCommand {
    /// Write the plan beside what is in force, then say [`MemberEvent::Installed`]. Doing it again does no harm.
    Install(PlanRef),
    /// Free what is installed of the plan.
    Discard(PlanRef),
    /// Accept frames and exceptions of these front ends only; forget the exceptions, and the words for a later stage, of
    /// any other.
    Heed(BTreeSet<NodeId>),
    /// One write: from here on, frames are treated by these rules. What was parked is looked at again if the rules no longer park.
    Enter(Rules),
    /// Tell every peer the records that are exceptions under the plan and were not told yet, then each one that is created
    /// until the change ends, on the stream of this front end to that peer. When a peer has all there were at this moment, say
    /// [`MemberEvent::Acknowledged`].
    Send(PlanRef),
    /// Stop answering; drop all records, exceptions and plans.
    Clear,
    /// Subscribe to these members and take their snapshots, then say [`MemberEvent::Synchronized`].
    Synchronize(BTreeSet<NodeId>),
    /// Ask the coordinator to be taken in: [`super::CoordinatorEvent::Join`].
    Join {
        /// Where the members are.
        place: Place,
        /// The members whose exceptions it has.
        with: BTreeSet<NodeId>,
    },
    /// Tell the coordinator that this front end has nothing and answers nothing: [`super::CoordinatorEvent::Lost`].
    Leave,
    /// Tell the coordinator where this front end is: [`super::CoordinatorEvent::Report`].
    Report(Place),
}

/// Why a front end does not do what it was told. Its state stays as it was.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum MemberRejection {
    /// A later order was heard. Harmless.
    #[error("order {got} at front end {node}: it is at {have} already")]
    Stale {
        /// The front end.
        node: NodeId,
        /// Where it is.
        have: Place,
        /// What it was told.
        got: Place,
    },
    /// Nothing waits for this, for instance because the change was aborted. Harmless.
    #[error("{what} at front end {node}: nothing waits for it in state {state}")]
    NotAwaited {
        /// The front end.
        node: NodeId,
        /// What happened.
        what: &'static str,
        /// The state's name.
        state: &'static str,
    },
    /// Two orders, or an order and this front end, say different things under the same number. An alarm: there are two
    /// coordinators, or one that forgot what it decided.
    #[error(
        "order {got} at front end {node}, which is at {have}: same number, other content; stop one of the control planes"
    )]
    Contradiction {
        /// The front end.
        node: NodeId,
        /// Where it is.
        have: Place,
        /// What it was told.
        got: Place,
    },
    /// What was installed is not what was proposed. An alarm.
    #[error("install plan {} at front end {node}: the digest is {:x}", Named(wanted), got.digest)]
    Digest {
        /// The front end.
        node: NodeId,
        /// What was proposed.
        wanted: PlanRef,
        /// What was installed.
        got: PlanRef,
    },
    /// The order leaves out a step that this front end has not taken. An alarm: it was decided without it. It has to leave
    /// and join again.
    #[error(
        "order {got} at front end {node}, which is at {have}: decided without it; remove the front end and let it join again"
    )]
    LeftOut {
        /// The front end.
        node: NodeId,
        /// Where it is.
        have: Place,
        /// What it was told.
        got: Place,
    },
}

impl MemberRejection {
    /// Whether an operator has to look at it.
    pub fn is_alarm(&self) -> bool {
        match self {
            Self::Stale { .. } | Self::NotAwaited { .. } => false,
            Self::Contradiction { .. } | Self::Digest { .. } | Self::LeftOut { .. } => true,
        }
    }
}

/// A step of a front end: what it is then, and what to do.
pub type MemberStep = Result<(Member, Vec<MemberCommand>), MemberRejection>;

impl Member {
    /// A front end that has nothing.
    pub fn new(node: NodeId) -> Self {
        let (members, state) = (BTreeSet::new(), MemberState::Outside { heard: None });
        Self { node, incarnation: 0, epoch: 0, members, state }
    }

    /// A front end whose data path went on while its agent was away: where it was, by the phase word. What was installed,
    /// sent and acknowledged is not known any more and is done again. Not for one whose rules are [`Rules::Closed`]: that
    /// one begins anew.
    pub fn resume(node: NodeId, place: Place) -> Self {
        let state = match place.at() {
            At::Stable { plan, last } => MemberState::Stable { plan, before: None, last },
            At::Change { plan, next, phase: Phase::Prepare } => {
                MemberState::Prepare { plan, before: None, next, installed: false }
            }
            At::Change { plan, next, phase: Phase::Hold } => MemberState::Hold { plan, next },
            At::Change { plan, next, phase: Phase::Flush } => MemberState::Flush { plan, next, waiting: None },
        };
        Self { node, incarnation: place.incarnation(), epoch: 0, members: BTreeSet::new(), state }
    }

    /// The front end.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// How far it is.
    pub fn state(&self) -> &MemberState {
        &self.state
    }

    /// Where it is, or, outside, what it heard last. `None` if it has heard nothing.
    pub fn place(&self) -> Option<Place> {
        let at = match self.state {
            MemberState::Outside { heard } => heard?,
            MemberState::Joining { plan, last, .. } | MemberState::Stable { plan, last, .. } => {
                At::Stable { plan, last }
            }
            MemberState::Prepare { plan, next, .. } => At::Change { plan, next, phase: Phase::Prepare },
            MemberState::Hold { plan, next } => At::Change { plan, next, phase: Phase::Hold },
            MemberState::Flush { plan, next, .. } => At::Change { plan, next, phase: Phase::Flush },
        };
        Some(Place::made(self.incarnation, at))
    }

    /// How its data path treats frames.
    pub fn rules(&self) -> Rules {
        match &self.state {
            MemberState::Outside { .. } | MemberState::Joining { .. } => Rules::Closed,
            MemberState::Stable { plan, before, .. } | MemberState::Prepare { plan, before, .. } => {
                Rules::Stable { plan: plan.generation, before: *before }
            }
            MemberState::Hold { plan, next } => Rules::Hold { plan: plan.generation, next: next.generation },
            MemberState::Flush { plan, next, .. } => Rules::Flush { plan: plan.generation, next: next.generation },
        }
    }

    /// The plan to come, against which owners announce exceptions.
    pub fn next(&self) -> Option<PlanRef> {
        match self.state {
            MemberState::Outside { .. } | MemberState::Joining { .. } | MemberState::Stable { .. } => None,
            MemberState::Prepare { next, .. } | MemberState::Hold { next, .. } | MemberState::Flush { next, .. } => {
                Some(next)
            }
        }
    }

    /// Takes one step.
    ///
    /// # Errors
    /// Why not; the state stays as it was.
    pub fn step(&self, event: &MemberEvent) -> MemberStep {
        match event {
            MemberEvent::Order(order) => {
                self.is_later(order)?;
                let (state, commands) = self.follow(order)?;
                let is_member = !matches!(state, MemberState::Outside { .. } | MemberState::Joining { .. });
                let members = if is_member { order.members.clone() } else { BTreeSet::new() };
                let (incarnation, epoch) = (order.place.incarnation(), order.epoch);
                Ok(self.reach(Self { node: self.node, incarnation, epoch, members, state }, commands))
            }
            MemberEvent::Installed(plan) => self.installed(*plan),
            MemberEvent::Acknowledged { peer, next } => self.acknowledged(*peer, *next),
            MemberEvent::Synchronized { plan, with } => self.synchronized(*plan, with),
        }
    }

    /// Adds to a step's commands what follows from where it leads: the rules come first, the report last.
    fn reach(&self, member: Self, mut commands: Vec<MemberCommand>) -> (Self, Vec<MemberCommand>) {
        if member.rules() != self.rules() {
            commands.insert(0, MemberCommand::Enter(member.rules()));
        }
        if member.members != self.members && !member.members.is_empty() {
            commands.insert(0, MemberCommand::Heed(member.members.clone()));
        }
        commands.extend(member.says());
        (member, commands)
    }

    /// What a front end tells the coordinator, over and over if it is asked to: that it is where it was sent.
    fn says(&self) -> Option<MemberCommand> {
        let place = self.place()?;
        match &self.state {
            MemberState::Joining { installed: true, synchronized: Some(with), .. } => {
                Some(MemberCommand::Join { place, with: with.clone() })
            }
            MemberState::Stable { .. } | MemberState::Prepare { installed: true, .. } | MemberState::Hold { .. } => {
                Some(MemberCommand::Report(place))
            }
            MemberState::Flush { waiting: Some(waiting), .. } if waiting.is_empty() => {
                Some(MemberCommand::Report(place))
            }
            MemberState::Outside { .. }
            | MemberState::Joining { .. }
            | MemberState::Prepare { .. }
            | MemberState::Flush { .. } => None,
        }
    }

    /// Whether an order may be looked at: lower is refused, equal with another content is an alarm.
    fn is_later(&self, order: &Order) -> Result<(), MemberRejection> {
        let (node, got) = (self.node, order.place);
        let Some(have) = self.place() else { return Ok(()) };
        let is_same = (got.rank(), order.epoch) == (have.rank(), self.epoch);
        let is_other_set = is_same && !self.members.is_empty() && self.members != order.members;
        if got.rank() == have.rank() && got != have || is_other_set {
            return Err(MemberRejection::Contradiction { node, have, got });
        }
        match (got.rank(), order.epoch).cmp(&(have.rank(), self.epoch)) {
            Ordering::Less => Err(MemberRejection::Stale { node, have, got }),
            Ordering::Equal | Ordering::Greater => Ok(()),
        }
    }

    fn installed(&self, got: PlanRef) -> MemberStep {
        let mut member = self.clone();
        let (wanted, installed, commands) = match &mut member.state {
            MemberState::Joining { plan, installed, .. } => (*plan, installed, Vec::new()),
            MemberState::Prepare { next, installed, .. } => (*next, installed, vec![MemberCommand::Send(*next)]),
            MemberState::Outside { .. }
            | MemberState::Stable { .. }
            | MemberState::Hold { .. }
            | MemberState::Flush { .. } => return Err(self.not_awaited("an installed plan")),
        };
        if wanted.generation != got.generation {
            return Err(self.not_awaited("an installed plan"));
        }
        if wanted.digest != got.digest {
            return Err(MemberRejection::Digest { node: self.node, wanted, got });
        }
        *installed = true;
        Ok(self.reach(member, commands))
    }

    fn acknowledged(&self, peer: NodeId, of: PlanRef) -> MemberStep {
        let mut member = self.clone();
        let is_awaited = match &mut member.state {
            MemberState::Flush { next, waiting: Some(waiting), .. } => *next == of && waiting.remove(&peer),
            _ => false,
        };
        if is_awaited { Ok(self.reach(member, Vec::new())) } else { Err(self.not_awaited("an acknowledgement")) }
    }

    fn synchronized(&self, of: PlanRef, with: &BTreeSet<NodeId>) -> MemberStep {
        let mut member = self.clone();
        match &mut member.state {
            MemberState::Joining { plan, synchronized, .. } if *plan == of => *synchronized = Some(with.clone()),
            _ => return Err(self.not_awaited("a snapshot of exceptions")),
        }
        Ok(self.reach(member, Vec::new()))
    }

    fn not_awaited(&self, what: &'static str) -> MemberRejection {
        MemberRejection::NotAwaited { node: self.node, what, state: self.state.name() }
    }
}

impl MemberState {
    /// The state's name, for messages and pictures.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Outside { .. } => "Outside",
            Self::Joining { .. } => "Joining",
            Self::Stable { .. } => "Stable",
            Self::Prepare { .. } => "Prepare",
            Self::Hold { .. } => "Hold",
            Self::Flush { .. } => "Flush",
        }
    }
}
