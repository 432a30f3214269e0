//! What each state makes of an order.

use super::{Member, MemberCommand, MemberRejection, MemberState};
use crate::phase::place::{At, Order, Phase};
use crate::plan::PlanRef;
use std::collections::BTreeSet;
use xdp_layout::{Generation, NodeId};

/// A state, and what to do besides entering its rules and reporting it.
type Turn = (MemberState, Vec<MemberCommand>);

/// A change, as a member sees it.
#[derive(Clone, Copy)]
struct Change {
    plan: PlanRef,
    before: Option<Generation>,
    next: PlanRef,
}

impl Member {
    /// One step towards an order that is not stale.
    pub(super) fn follow(&self, order: &Order) -> Result<Turn, MemberRejection> {
        if !order.members.contains(&self.node) {
            return Ok(self.outside(order));
        }
        match &self.state {
            MemberState::Outside { .. } => Ok((self.state.clone(), vec![MemberCommand::Leave])),
            MemberState::Joining { .. } => self.admitted(order),
            MemberState::Stable { plan, before, .. } => self.stable(order, *plan, *before),
            MemberState::Prepare { plan, before, next, installed } => {
                self.prepare(order, Change { plan: *plan, before: *before, next: *next }, *installed)
            }
            MemberState::Hold { plan, next } => self.hold(order, Change { plan: *plan, before: None, next: *next }),
            MemberState::Flush { plan, next, waiting } => {
                self.flush(order, Change { plan: *plan, before: None, next: *next }, waiting.as_ref())
            }
        }
    }

    /// Not a member, by the order: on the way to become one while a plan is settled, else waiting for that.
    fn outside(&self, order: &Order) -> Turn {
        let at = order.place.at();
        let At::Stable { plan, last } = at else {
            let has_nothing = matches!(self.state, MemberState::Outside { .. });
            let commands = if has_nothing { Vec::new() } else { vec![MemberCommand::Clear] };
            return (MemberState::Outside { heard: Some(at) }, commands);
        };
        let mut commands = Vec::new();
        let (installed, synchronized) = match &self.state {
            // Whoever was taken in meanwhile has exceptions of its own.
            MemberState::Joining { installed, synchronized, .. } if self.place() == Some(order.place) => {
                (*installed, synchronized.clone().filter(|with| with.is_superset(&order.members)))
            }
            _ => {
                commands.push(MemberCommand::Clear);
                (false, None)
            }
        };
        if !installed {
            commands.push(MemberCommand::Install(plan));
        }
        if synchronized.is_none() {
            commands.push(MemberCommand::Synchronize(order.members.clone()));
        }
        (MemberState::Joining { plan, last, installed, synchronized }, commands)
    }

    /// Taken in, by the order. A change may have begun since.
    fn admitted(&self, order: &Order) -> Result<Turn, MemberRejection> {
        match self.state {
            MemberState::Joining { plan, installed: true, synchronized: Some(_), .. } => self.stable(order, plan, None),
            _ => Ok((self.state.clone(), vec![MemberCommand::Leave])),
        }
    }

    fn stable(&self, order: &Order, plan: PlanRef, before: Option<Generation>) -> Result<Turn, MemberRejection> {
        let prepare =
            |next| (MemberState::Prepare { plan, before, next, installed: false }, vec![MemberCommand::Install(next)]);
        match order.place.at() {
            At::Stable { plan: wanted, last } if wanted == plan => {
                Ok((MemberState::Stable { plan, before, last }, Vec::new()))
            }
            At::Change { plan: wanted, next, .. } if wanted == plan => Ok(prepare(next)),
            At::Stable { plan: next, .. } if order.is_lone(self.node) => Ok(prepare(next)),
            At::Stable { .. } | At::Change { .. } => Err(self.left_out(order)),
        }
    }

    fn prepare(&self, order: &Order, change: Change, installed: bool) -> Result<Turn, MemberRejection> {
        let Change { plan, next, .. } = change;
        let install = || (self.state.clone(), vec![MemberCommand::Install(next)]);
        match order.place.at() {
            At::Change { plan: wanted, next: to, phase } if (wanted, to) == (plan, next) => {
                Ok(match (installed, phase) {
                    (false, _) => install(),
                    (true, Phase::Prepare) => (self.state.clone(), Vec::new()),
                    (true, Phase::Hold | Phase::Flush) => (MemberState::Hold { plan, next }, Vec::new()),
                })
            }
            // Alone, there is nobody whose answers could differ in between, nor a frame that another one picked a path for.
            At::Stable { plan: wanted, last } if wanted == next && order.is_lone(self.node) => Ok(if installed {
                (MemberState::Stable { plan: next, before: None, last }, vec![MemberCommand::Discard(plan)])
            } else {
                install()
            }),
            _ => self.turn_back(order, change),
        }
    }

    fn hold(&self, order: &Order, change: Change) -> Result<Turn, MemberRejection> {
        let Change { plan, next, .. } = change;
        match order.place.at() {
            At::Change { plan: wanted, next: to, phase } if (wanted, to) == (plan, next) && phase != Phase::Prepare => {
                Ok(match phase {
                    Phase::Flush => self.send(order, plan, next),
                    Phase::Prepare | Phase::Hold => (self.state.clone(), Vec::new()),
                })
            }
            _ => self.turn_back(order, change),
        }
    }

    fn flush(
        &self,
        order: &Order,
        change: Change,
        waiting: Option<&BTreeSet<NodeId>>,
    ) -> Result<Turn, MemberRejection> {
        let Change { plan, next, .. } = change;
        match order.place.at() {
            At::Change { plan: wanted, next: to, phase: Phase::Flush } if (wanted, to) == (plan, next) => {
                Ok(match waiting {
                    None => self.send(order, plan, next),
                    Some(waiting) => {
                        let waiting = Some(waiting.intersection(&order.members).copied().collect());
                        (MemberState::Flush { plan, next, waiting }, Vec::new())
                    }
                })
            }
            // That it was decided tells that this member had reported, if perhaps before a restart.
            At::Stable { plan: wanted, last } if wanted == next => {
                let before = Some(plan.generation);
                Ok((MemberState::Stable { plan: next, before, last }, vec![MemberCommand::Discard(plan)]))
            }
            _ => self.turn_back(order, change),
        }
    }

    /// Into Flush: the fence goes up before the exceptions are looked for.
    fn send(&self, order: &Order, plan: PlanRef, next: PlanRef) -> Turn {
        let waiting = order.peers(self.node);
        (MemberState::Flush { plan, next, waiting: Some(waiting) }, vec![MemberCommand::Send(next)])
    }

    /// Out of a change that is aborted, or that another one replaced before its end was heard of.
    fn turn_back(&self, order: &Order, change: Change) -> Result<Turn, MemberRejection> {
        let Change { plan, before, next } = change;
        let prepare = |to| {
            let discard = (to != next).then_some(MemberCommand::Discard(next));
            let commands = discard.into_iter().chain([MemberCommand::Install(to)]).collect();
            (MemberState::Prepare { plan, before, next: to, installed: false }, commands)
        };
        match order.place.at() {
            At::Stable { plan: wanted, last } if wanted == plan => {
                Ok((MemberState::Stable { plan, before, last }, vec![MemberCommand::Discard(next)]))
            }
            At::Change { plan: wanted, next: to, .. } if wanted == plan => Ok(prepare(to)),
            At::Stable { plan: to, .. } if order.is_lone(self.node) => Ok(prepare(to)),
            At::Stable { .. } | At::Change { .. } => Err(self.left_out(order)),
        }
    }

    fn left_out(&self, order: &Order) -> MemberRejection {
        let have = self.place().expect("a member is somewhere");
        MemberRejection::LeftOut { node: self.node, have, got: order.place }
    }
}
