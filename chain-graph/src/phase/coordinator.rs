//! The control plane's side.

use super::place::{At, Named, Order, Phase, Place};
use crate::plan::{PlanNumber, PlanRef};
use std::collections::{BTreeMap, BTreeSet};
use xdp_layout::{Generation, NodeId};

/// The chain of plans and who follows it. Part of the replicated state: an event is a log entry, and commands are carried
/// out only when the state they come with is durable, so a decision is committed before anybody is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Coordinator {
    incarnation: u64,
    epoch: u64,
    /// Where each member said it was.
    members: BTreeMap<NodeId, Option<Place>>,
    at: At,
    wanted: u64,
    covered: u64,
}

/// What happens to the coordinator.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum CoordinatorEvent {
    /// The desired state changed in a way that a path depends on. Changes that come while another one is under way are
    /// one change after it.
    Want {
        /// Revision of the desired state, rising.
        revision: u64,
    },
    /// A plan that follows the one in force.
    Propose {
        /// Its place in the chain.
        number: PlanNumber,
        /// Digest of its content.
        digest: u64,
        /// Revision of the desired state it was made from.
        revision: u64,
    },
    /// A member has arrived at a place.
    Report {
        /// The member.
        node: NodeId,
        /// The place.
        place: Place,
    },
    /// The change to this number shall not be.
    Abort {
        /// The number.
        next: Generation,
    },
    /// A front end that answers nothing and has everything for it asks to become a member.
    Join {
        /// The front end.
        node: NodeId,
        /// The place whose plan it has installed.
        place: Place,
        /// The members whose exceptions it has, and keeps being told.
        with: BTreeSet<NodeId>,
    },
    /// A member stops answering, on purpose.
    Leave {
        /// The member.
        node: NodeId,
    },
    /// A member is known to receive nothing: its route is withdrawn and that is confirmed, or the operator says so, or it
    /// says itself that it has started from nothing. Silence is no such knowledge: a silent member delays plans, and no
    /// frames.
    Lost {
        /// The member.
        node: NodeId,
    },
}

/// What the control plane has to do, in this order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum CoordinatorCommand {
    /// Tell every front end, members and others, until each has heard this or a later one.
    Tell(Order),
    /// Make a plan from the latest desired state and propose it, as a child of `parent`, with this number or a higher one.
    Build {
        /// The plan in force.
        parent: PlanRef,
        /// The lowest number that is not used up.
        generation: Generation,
    },
    /// Every member runs this plan and knows of no other: whatever waited for the end of a change may go on.
    Settled(PlanRef),
}

/// Why the coordinator does not do what it was asked to. Its state stays as it was.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum CoordinatorRejection {
    /// A change is under way, or not every member has heard of its end.
    #[error("propose plan {next}: busy, {at}; say what is wanted, it follows")]
    Busy {
        /// The number proposed.
        next: Generation,
        /// Where the coordinator is.
        at: At,
    },
    /// The number was used, perhaps by a plan that was aborted.
    #[error("propose plan {next}: numbers up to {last} are used up")]
    Used {
        /// The number proposed.
        next: Generation,
        /// The highest used.
        last: Generation,
    },
    /// The plan follows another one than the one in force, or belongs to another life of the cluster.
    #[error("propose plan {next}: it must follow plan {} of incarnation {incarnation}", Named(plan))]
    NotAChild {
        /// The number proposed.
        next: Generation,
        /// The plan in force.
        plan: PlanRef,
        /// Life of the cluster.
        incarnation: u64,
    },
    /// That change is not under way: it is committed, aborted already, or was never proposed.
    #[error("abort the change to plan {next}: not under way, {at}")]
    NotUnderWay {
        /// The number.
        next: Generation,
        /// Where the coordinator is.
        at: At,
    },
    /// It is a member already.
    #[error("join of front end {node}: it is a member; if it started from nothing, it says so first")]
    Member {
        /// The front end.
        node: NodeId,
    },
    /// No member.
    #[error("{what} of front end {node}: it is not a member")]
    NotAMember {
        /// What was asked.
        what: &'static str,
        /// The front end.
        node: NodeId,
    },
    /// Members come and go between changes only.
    #[error("{what} of front end {node}: not between changes, {at}; ask again after the change")]
    NotSettled {
        /// What was asked.
        what: &'static str,
        /// The front end.
        node: NodeId,
        /// Where the coordinator is.
        at: At,
    },
    /// The front end has another plan installed than the one in force.
    #[error("join of front end {node}: it is at {got}, the members are at {have}")]
    Elsewhere {
        /// The front end.
        node: NodeId,
        /// Where the members are.
        have: Place,
        /// Where it is.
        got: Place,
    },
    /// The front end lacks the exceptions of a member.
    #[error("join of front end {node}: it has not the exceptions of front end {missing}")]
    NotSynchronized {
        /// The front end.
        node: NodeId,
        /// The first member it lacks.
        missing: NodeId,
    },
    /// A member is where nobody sent it. An alarm: there are two coordinators, or this one forgot what it decided.
    #[error("report of front end {node}: it is at {got}, it was sent to {have}; stop one of the control planes")]
    Contradiction {
        /// The front end.
        node: NodeId,
        /// Where it was sent.
        have: Place,
        /// Where it is.
        got: Place,
    },
}

impl CoordinatorRejection {
    /// Whether an operator has to look at it.
    pub fn is_alarm(&self) -> bool {
        match self {
            Self::Contradiction { .. } => true,
            Self::Busy { .. }
            | Self::Used { .. }
            | Self::NotAChild { .. }
            | Self::NotUnderWay { .. }
            | Self::Member { .. }
            | Self::NotAMember { .. }
            | Self::NotSettled { .. }
            | Self::Elsewhere { .. }
            | Self::NotSynchronized { .. } => false,
        }
    }
}

/// A step of the coordinator: what it is then, and what to do.
pub type CoordinatorStep = Result<(Coordinator, Vec<CoordinatorCommand>), CoordinatorRejection>;

impl Coordinator {
    /// A life of the cluster begins with a plan in force. After a restore from a backup that is the plan the members run,
    /// under a higher incarnation: what the backup says is then a change like any other. `last` is the highest number ever
    /// proposed; `members` are believed to be members and not known to be anywhere.
    pub fn new(incarnation: u64, plan: PlanRef, last: Generation, members: impl IntoIterator<Item = NodeId>) -> Self {
        let at = At::Stable { plan, last: last.max(plan.generation) };
        let members = members.into_iter().map(|member| (member, None)).collect();
        Self { incarnation, epoch: 1, members, at, wanted: 0, covered: 0 }
    }

    /// Where the members are sent.
    pub fn place(&self) -> Place {
        Place::made(self.incarnation, self.at)
    }

    /// What every front end is told.
    pub fn order(&self) -> Order {
        Order { place: self.place(), epoch: self.epoch, members: self.members.keys().copied().collect() }
    }

    /// The members, each with where it said it was; `None` if it said nothing in this life of the cluster.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, Option<Place>)> + '_ {
        self.members.iter().map(|(node, place)| (*node, *place))
    }

    /// Whether no change is under way and every member knows it.
    pub fn is_settled(&self) -> bool {
        matches!(self.at, At::Stable { .. }) && self.is_reached()
    }

    /// Whether a change waits for the end of the one under way.
    pub fn is_waiting(&self) -> bool {
        self.wanted > self.covered
    }

    /// All that is to be done in this state, in this order. Whoever takes the control plane over begins with it.
    pub fn outstanding(&self) -> Vec<CoordinatorCommand> {
        let mut commands = vec![CoordinatorCommand::Tell(self.order())];
        if let At::Stable { plan, last } = self.at
            && self.is_reached()
        {
            commands.push(CoordinatorCommand::Settled(plan));
            let generation = Generation::new(last.get().saturating_add(1)).unwrap_or(Generation::MAX);
            commands.extend(self.is_waiting().then_some(CoordinatorCommand::Build { parent: plan, generation }));
        }
        commands
    }

    /// Takes one step. The commands are what is outstanding and was not before.
    ///
    /// # Errors
    /// Why not; the state stays as it was.
    pub fn step(&self, event: &CoordinatorEvent) -> CoordinatorStep {
        let mut next = self.clone();
        let mut commands = Vec::new();
        match *event {
            CoordinatorEvent::Want { revision } => next.wanted = next.wanted.max(revision),
            CoordinatorEvent::Propose { number, digest, revision } => next.propose(number, digest, revision)?,
            CoordinatorEvent::Report { node, place } => {
                next.report(node, place)?;
                if place != self.place() {
                    commands.push(CoordinatorCommand::Tell(self.order()));
                }
            }
            CoordinatorEvent::Abort { next: number } => next.abort(number)?,
            CoordinatorEvent::Join { node, place, ref with } => next.join(node, place, with)?,
            CoordinatorEvent::Leave { node } => next.leave(node)?,
            CoordinatorEvent::Lost { node } => next.remove(node, "loss")?,
        }
        next.advance();
        let before = self.outstanding();
        commands.extend(next.outstanding().into_iter().filter(|command| !before.contains(command)));
        Ok((next, commands))
    }

    fn propose(&mut self, number: PlanNumber, digest: u64, revision: u64) -> Result<(), CoordinatorRejection> {
        let next = number.generation;
        let At::Stable { plan, last } = self.at else {
            return Err(CoordinatorRejection::Busy { next, at: self.at });
        };
        if !self.is_reached() {
            return Err(CoordinatorRejection::Busy { next, at: self.at });
        }
        if number.incarnation != self.incarnation || number.parent != Some(plan) {
            return Err(CoordinatorRejection::NotAChild { next, plan, incarnation: self.incarnation });
        }
        if next <= last {
            return Err(CoordinatorRejection::Used { next, last });
        }
        self.at = At::Change { plan, next: PlanRef { generation: next, digest }, phase: Phase::Prepare };
        (self.wanted, self.covered) = (self.wanted.max(revision), self.covered.max(revision));
        Ok(())
    }

    fn report(&mut self, node: NodeId, got: Place) -> Result<(), CoordinatorRejection> {
        let have = self.place();
        let Some(known) = self.members.get_mut(&node) else {
            return Err(CoordinatorRejection::NotAMember { what: "report", node });
        };
        if got.rank() >= have.rank() && got != have {
            return Err(CoordinatorRejection::Contradiction { node, have, got });
        }
        *known = Some(got);
        Ok(())
    }

    fn abort(&mut self, number: Generation) -> Result<(), CoordinatorRejection> {
        match self.at {
            At::Change { plan, next, .. } if next.generation == number => {
                self.at = At::Stable { plan, last: number };
                Ok(())
            }
            At::Stable { .. } | At::Change { .. } => {
                Err(CoordinatorRejection::NotUnderWay { next: number, at: self.at })
            }
        }
    }

    fn join(&mut self, node: NodeId, got: Place, with: &BTreeSet<NodeId>) -> Result<(), CoordinatorRejection> {
        if self.members.contains_key(&node) {
            return Err(CoordinatorRejection::Member { node });
        }
        if !self.is_settled() {
            return Err(CoordinatorRejection::NotSettled { what: "join", node, at: self.at });
        }
        let have = self.place();
        if got != have {
            return Err(CoordinatorRejection::Elsewhere { node, have, got });
        }
        if let Some(missing) = self.members.keys().copied().find(|member| !with.contains(member)) {
            return Err(CoordinatorRejection::NotSynchronized { node, missing });
        }
        self.members.insert(node, Some(got));
        self.epoch += 1;
        Ok(())
    }

    fn leave(&mut self, node: NodeId) -> Result<(), CoordinatorRejection> {
        match self.at {
            At::Stable { .. } => self.remove(node, "leave"),
            At::Change { .. } => Err(CoordinatorRejection::NotSettled { what: "leave", node, at: self.at }),
        }
    }

    fn remove(&mut self, node: NodeId, what: &'static str) -> Result<(), CoordinatorRejection> {
        self.members.remove(&node).ok_or(CoordinatorRejection::NotAMember { what, node })?;
        self.epoch += 1;
        Ok(())
    }

    /// Whether every member is where it was sent.
    fn is_reached(&self) -> bool {
        let place = self.place();
        self.members.values().all(|known| *known == Some(place))
    }

    /// Sends the members on when all have arrived. The step out of Flush is the decision to commit.
    fn advance(&mut self) {
        while let At::Change { plan, next, phase } = self.at
            && self.is_reached()
        {
            let commit = At::Stable { plan: next, last: next.generation };
            self.at = match phase {
                // Hold and Flush keep members from answering differently; one alone cannot.
                Phase::Prepare if self.members.len() <= 1 => commit,
                Phase::Prepare => At::Change { plan, next, phase: Phase::Hold },
                Phase::Hold => At::Change { plan, next, phase: Phase::Flush },
                Phase::Flush => commit,
            };
        }
    }
}
