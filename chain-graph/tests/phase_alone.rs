//! One front end: from a change to the plan in force in one go, by the shipped functions, with every command in its order.

use chain_graph::phase::{
    Coordinator, CoordinatorCommand, CoordinatorEvent, Member, MemberCommand, MemberEvent, Order, Place,
};
use chain_graph::plan::{PlanNumber, PlanRef};
use xdp_layout::{Generation, NodeId};

fn plan(generation: u64) -> PlanRef {
    PlanRef { generation: Generation::new(generation).expect("not 0"), digest: 100 + generation }
}

/// A coordinator and its only member, who is where it says.
struct Pair {
    coordinator: Coordinator,
    member: Member,
    done: Vec<String>,
}

impl Pair {
    fn new() -> Self {
        let node = NodeId::new(1).expect("not 0");
        let coordinator = Coordinator::new(1, plan(1), plan(1).generation, [node]);
        let member = Member::resume(node, coordinator.place());
        let mut pair = Self { coordinator, member, done: Vec::new() };
        pair.report(pair.coordinator.place());
        pair.done.clear();
        pair
    }

    fn tell(&mut self, event: &CoordinatorEvent) {
        let (next, commands) = self.coordinator.step(event).expect("the event fits");
        self.coordinator = next;
        for command in commands {
            match command {
                CoordinatorCommand::Tell(order) => self.order(order),
                CoordinatorCommand::Build { parent, generation } => {
                    self.done.push(format!("build {generation} after {}", parent.generation));
                }
                CoordinatorCommand::Settled(plan) => self.done.push(format!("settled {}", plan.generation)),
            }
        }
    }

    fn order(&mut self, order: Order) {
        self.follow(&MemberEvent::Order(order));
    }

    fn report(&mut self, place: Place) {
        let node = self.member.node();
        self.tell(&CoordinatorEvent::Report { node, place });
    }

    fn follow(&mut self, event: &MemberEvent) {
        let (next, commands) = self.member.step(event).expect("the event fits");
        self.member = next;
        for command in commands {
            match command {
                MemberCommand::Install(plan) => {
                    self.done.push(format!("install {}", plan.generation));
                    self.follow(&MemberEvent::Installed(plan));
                }
                MemberCommand::Enter(rules) => self.done.push(format!("enter {rules:?}").chars().take(12).collect()),
                MemberCommand::Report(place) => self.report(place),
                MemberCommand::Discard(plan) => self.done.push(format!("discard {}", plan.generation)),
                other => self.done.push(format!("{other:?}").chars().take(12).collect()),
            }
        }
    }

    fn change(&mut self, generation: u64, revision: u64) {
        let number = PlanNumber {
            incarnation: 1,
            generation: plan(generation).generation,
            parent: Some(self.coordinator.place().at().plan()),
        };
        self.tell(&CoordinatorEvent::Propose { number, digest: plan(generation).digest, revision });
    }
}

#[test]
fn a_lone_front_end_goes_from_plan_to_plan_in_one_go() {
    let mut pair = Pair::new();
    pair.tell(&CoordinatorEvent::Want { revision: 1 });
    assert_eq!(pair.done, ["build 2 after 1"]);
    pair.done.clear();
    pair.change(2, 1);
    assert_eq!(pair.coordinator.place().at().plan(), plan(2));
    assert_eq!(pair.member.place(), Some(pair.coordinator.place()));
    assert!(pair.coordinator.is_settled());
    println!("{:?}", pair.done);
    let installed = pair.done.iter().position(|done| done == "install 2").expect("it is installed");
    let entered = pair.done.iter().position(|done| done.starts_with("enter")).expect("it is entered");
    assert!(installed < entered, "frames meet a plan before it is there: {:?}", pair.done);
    assert!(pair.done.contains(&"settled 2".to_owned()), "{:?}", pair.done);
}

#[test]
fn changes_that_wait_are_one_change() {
    let mut pair = Pair::new();
    for revision in 1..=3 {
        pair.tell(&CoordinatorEvent::Want { revision });
    }
    pair.change(2, 3);
    assert!(pair.coordinator.is_settled() && !pair.coordinator.is_waiting());
    assert_eq!(pair.coordinator.place().at().plan(), plan(2));
}
