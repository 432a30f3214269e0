//! The chain of plans, run with one front end: the functions of [`chain_graph::phase`] say what the data path does and when.
//!
//! Both sides are here, and orders and reports are function calls. What is stored is what is wanted; where the data path is
//! needs no store of its own, since it runs on by itself and tells: a life of the chain begins with the plan it runs.

use super::count::Counting;
use crate::dataplane::{DataPlane, DataPlaneError, Installed};
use crate::state::DesiredState;
use chain_graph::Image;
use chain_graph::phase::forward::Rules;
use chain_graph::phase::{
    At, Coordinator, CoordinatorCommand, CoordinatorEvent, CoordinatorRejection, Member, MemberCommand, MemberEvent,
    MemberRejection,
};
use chain_graph::plan::{PlanNumber, PlanRef};
use std::collections::BTreeSet;
use std::sync::Arc;
use xdp_layout::{Generation, NodeId};

/// The one front end.
const NODE: NodeId = match NodeId::new(1) {
    Some(node) => node,
    None => panic!("1 is a number"),
};

/// Why the data path does not run what is wanted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Obstacle {
    /// It could not do what it was told.
    #[error(transparent)]
    DataPath(#[from] DataPlaneError),
    /// What it runs does not come before what is stored: views have other meanings in the two.
    #[error("{0}; give the state that the data path was last run with, or take it down by removing its directory")]
    TakeOver(MemberRejection),
    /// The coordinator refuses a step.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorRejection),
    /// The front end refuses a step.
    #[error(transparent)]
    Member(#[from] MemberRejection),
    /// Neither side has anything to do, and the plan that is wanted is not in force.
    #[error("nobody has anything to do and plan {0} is not in force: restart the control plane")]
    Astray(Generation),
    /// The front end is sent where one that is alone never is.
    #[error("front end {NODE} is to go by {0:?}, and it is alone: restart the control plane")]
    NotAlone(Rules),
}

impl Obstacle {
    /// Whether an operator has to look at it: it does not go away by itself.
    pub(super) fn is_alarm(&self) -> bool {
        match self {
            Self::DataPath(_) => false,
            Self::TakeOver(_) | Self::NotAlone(_) | Self::Astray(_) => true,
            Self::Coordinator(rejection) => rejection.is_alarm(),
            Self::Member(rejection) => rejection.is_alarm(),
        }
    }
}

impl From<Obstacle> for DataPlaneError {
    fn from(obstacle: Obstacle) -> Self {
        let operation = match obstacle {
            Obstacle::DataPath(error) => return error,
            Obstacle::TakeOver(_) => "take over what runs",
            Obstacle::Coordinator(_) | Obstacle::Member(_) | Obstacle::NotAlone(_) | Obstacle::Astray(_) => {
                "follow the chain of plans"
            }
        };
        Self { operation: operation.to_owned(), cause: obstacle.to_string() }
    }
}

/// Who decides, and who follows.
pub(super) struct Chain {
    coordinator: Coordinator,
    member: Member,
    /// The image of the plan that was proposed last, as new as that plan lets it be.
    proposed: Arc<Image>,
}

impl Chain {
    /// Begins with what the data path runs, or with what is stored if it runs nothing.
    ///
    /// # Errors
    /// What is stored, heard as an order, is below what the data path runs, or the same number with another content.
    pub(super) fn new(in_force: Option<PlanRef>, state: &DesiredState) -> Result<Self, Obstacle> {
        let incarnation = state.setting().cluster.incarnation;
        let stored = name(state.image());
        let begin = |plan: PlanRef, members| Coordinator::new(incarnation, plan, plan.generation, members);
        let (coordinator, member) = match in_force {
            None => (begin(stored, None), Member::new(NODE)),
            Some(plan) => {
                let coordinator = begin(plan, Some(NODE));
                let member = Member::resume(NODE, coordinator.place());
                let claim = MemberEvent::Order(begin(stored, Some(NODE)).order());
                member.step(&claim).map_err(Obstacle::TakeOver)?;
                (coordinator, member)
            }
        };
        Ok(Self { coordinator, member, proposed: Arc::clone(state.image()) })
    }

    /// Has the data path run what is stored. A change to an older plan that is under way is aborted; what could not be done
    /// before is tried again.
    ///
    /// # Errors
    /// Why the data path is not there. What was in force goes on, and the next call goes on from where this one stopped.
    pub(super) fn follow(
        &mut self,
        state: &DesiredState,
        dataplane: &mut dyn DataPlane,
        counting: &mut Counting,
    ) -> Result<Installed, Obstacle> {
        let (image, wanted) = (state.image(), name(state.image()));
        if name(&self.proposed) == wanted {
            self.proposed = Arc::clone(image);
        }
        let mut run = Run { chain: self, image, revision: state.revision(), dataplane, counting, installed: None };
        match run.chain.coordinator.place().at() {
            At::Stable { plan, .. } if plan != wanted => {
                run.decide(&CoordinatorEvent::Want { revision: run.revision })?;
            }
            At::Change { next, .. } if next != wanted => {
                run.decide(&CoordinatorEvent::Want { revision: run.revision })?;
                run.decide(&CoordinatorEvent::Abort { next: next.generation })?;
            }
            At::Stable { .. } | At::Change { .. } => {}
        }
        run.carry_out(run.chain.coordinator.outstanding())?;
        let installed = run.installed;
        if self.member.place().map(|place| place.at().plan()) != Some(wanted) {
            return Err(Obstacle::Astray(wanted.generation));
        }
        match installed {
            Some(installed) => Ok(installed),
            // Instances that are down, ports and budgets are part of no plan.
            None => Ok(dataplane.install(image)?),
        }
    }
}

/// Names the plan of an image.
fn name(image: &Image) -> PlanRef {
    PlanRef { generation: image.plan().generation(), digest: image.plan().digest() }
}

/// Carries out what the two sides say, until neither has anything more to say.
struct Run<'a> {
    chain: &'a mut Chain,
    /// What is stored.
    image: &'a Arc<Image>,
    revision: u64,
    dataplane: &'a mut dyn DataPlane,
    counting: &'a mut Counting,
    /// What was entered.
    installed: Option<Installed>,
}

impl Run<'_> {
    fn decide(&mut self, event: &CoordinatorEvent) -> Result<(), Obstacle> {
        let (next, commands) = self.chain.coordinator.step(event)?;
        self.chain.coordinator = next;
        self.carry_out(commands)
    }

    fn carry_out(&mut self, commands: Vec<CoordinatorCommand>) -> Result<(), Obstacle> {
        for command in commands {
            match command {
                CoordinatorCommand::Tell(order) => self.hear(&MemberEvent::Order(order))?,
                CoordinatorCommand::Build { parent, generation: _ } => self.propose(parent)?,
                CoordinatorCommand::Settled(_) => {}
            }
        }
        Ok(())
    }

    /// Proposes what is stored. Its number is above every one that was: plans are numbered where they are stored, those that
    /// are never proposed too.
    fn propose(&mut self, parent: PlanRef) -> Result<(), Obstacle> {
        self.chain.proposed = Arc::clone(self.image);
        let number = PlanNumber { parent: Some(parent), ..self.image.plan().number() };
        let digest = self.image.plan().digest();
        self.decide(&CoordinatorEvent::Propose { number, digest, revision: self.revision })
    }

    fn hear(&mut self, event: &MemberEvent) -> Result<(), Obstacle> {
        let (next, commands) = self.chain.member.step(event)?;
        let before = std::mem::replace(&mut self.chain.member, next);
        for command in commands {
            match command {
                MemberCommand::Enter(rules) => {
                    // The write that enters is the one that tells where the front end is: without it, it is not there.
                    if let Err(obstacle) = self.enter(rules) {
                        self.chain.member = before;
                        return Err(obstacle);
                    }
                }
                MemberCommand::Install(plan) => self.install(plan)?,
                MemberCommand::Synchronize(with) => self.synchronized(with)?,
                MemberCommand::Join { place, with } => {
                    self.decide(&CoordinatorEvent::Join { node: NODE, place, with })?;
                }
                MemberCommand::Leave => self.decide(&CoordinatorEvent::Lost { node: NODE })?,
                MemberCommand::Report(place) => self.decide(&CoordinatorEvent::Report { node: NODE, place })?,
                // There is nobody to heed or to send to. What an image leaves goes when another one is entered.
                MemberCommand::Heed(_) | MemberCommand::Send(_) => {}
                MemberCommand::Discard(_) | MemberCommand::Clear => {}
            }
        }
        Ok(())
    }

    fn install(&mut self, plan: PlanRef) -> Result<(), Obstacle> {
        let image = self.image_of(plan.generation);
        self.dataplane.prepare(&image)?;
        self.hear(&MemberEvent::Installed(name(&image)))
    }

    fn enter(&mut self, rules: Rules) -> Result<(), Obstacle> {
        let Rules::Stable { plan, .. } = rules else { return Err(Obstacle::NotAlone(rules)) };
        let image = self.image_of(plan);
        self.counting.await_resets(&image);
        self.installed = Some(self.dataplane.enter(&image)?);
        Ok(())
    }

    /// What is stored, unless an older plan is still to be entered since that was decided.
    fn image_of(&self, plan: Generation) -> Arc<Image> {
        let is_stored = self.image.plan().generation() == plan;
        Arc::clone(if is_stored { self.image } else { &self.chain.proposed })
    }

    /// Nobody is a member who could have exceptions.
    fn synchronized(&mut self, with: BTreeSet<NodeId>) -> Result<(), Obstacle> {
        let plan = self.chain.coordinator.place().at().plan();
        self.hear(&MemberEvent::Synchronized { plan, with })
    }
}
