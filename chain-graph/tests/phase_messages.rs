//! Orders and reports that are late, repeated and out of order, under a model checker.
//!
//! Every order that was ever told may reach any front end at any time, again and again; so may every report the coordinator.
//! The model of `phase` takes the shortcut that a front end hears the latest order and the coordinator what is; this is why
//! it may.

use chain_graph::phase::{
    At, Coordinator, CoordinatorCommand, CoordinatorEvent, Member, MemberCommand, MemberEvent, MemberState, Order,
    Phase, Place,
};
use chain_graph::plan::{PlanNumber, PlanRef};
use stateright::{Checker, Model, Property};
use std::collections::BTreeSet;
use xdp_layout::{Generation, NodeId};

/// What a run allows.
struct Config {
    members: u16,
    changes: u64,
    aborts: u8,
    losses: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    coordinator: Coordinator,
    members: Vec<Member>,
    /// All that was ever told.
    orders: Vec<Order>,
    /// All that was ever reported.
    reports: Vec<(NodeId, Place)>,
    aborts: u8,
    lost: BTreeSet<NodeId>,
    /// What was refused as an alarm.
    alarm: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Action {
    /// A front end hears an order.
    Order {
        member: usize,
        order: usize,
    },
    /// What the front end was told to do is done.
    Done {
        member: usize,
    },
    /// The coordinator hears a report.
    Report(usize),
    Propose,
    Abort,
    Lose(NodeId),
}

fn node(node: u16) -> NodeId {
    NodeId::new(node).expect("above 0")
}

fn plan(generation: u64) -> PlanRef {
    PlanRef { generation: Generation::new(generation).expect("above 0"), digest: generation }
}

impl Config {
    fn world(&self) -> World {
        let nodes = (1..=self.members).map(node);
        let coordinator = Coordinator::new(1, plan(1), plan(1).generation, nodes.clone());
        let order = coordinator.order();
        let mut world = World {
            coordinator,
            members: nodes.map(|node| Member::resume(node, order.place)).collect(),
            orders: vec![order],
            reports: Vec::new(),
            aborts: 0,
            lost: BTreeSet::new(),
            alarm: None,
        };
        for member in 0..world.members.len() {
            world.happens(member, &MemberEvent::Order(world.orders[0].clone()));
            world.decides(&CoordinatorEvent::Report { node: world.reports[member].0, place: world.reports[member].1 });
        }
        world
    }
}

impl World {
    fn happens(&mut self, member: usize, event: &MemberEvent) {
        match self.members[member].step(event) {
            Ok((next, commands)) => {
                self.members[member] = next;
                let node = self.members[member].node();
                for command in commands {
                    if let MemberCommand::Report(place) = command
                        && !self.reports.contains(&(node, place))
                    {
                        self.reports.push((node, place));
                    }
                }
            }
            Err(rejection) if rejection.is_alarm() => self.alarm = Some(rejection.to_string()),
            Err(_) => {}
        }
    }

    fn decides(&mut self, event: &CoordinatorEvent) {
        match self.coordinator.step(event) {
            Ok((next, commands)) => {
                self.coordinator = next;
                for command in commands {
                    if let CoordinatorCommand::Tell(order) = command
                        && !self.orders.contains(&order)
                    {
                        self.orders.push(order);
                    }
                }
            }
            Err(rejection) if rejection.is_alarm() => self.alarm = Some(rejection.to_string()),
            Err(_) => {}
        }
    }

    /// What a front end waits for: a plan that is installed, or acknowledgements of all its peers.
    fn awaited(&self, member: usize) -> Vec<MemberEvent> {
        match self.members[member].state() {
            MemberState::Prepare { next, installed: false, .. } => vec![MemberEvent::Installed(*next)],
            MemberState::Flush { next, waiting: Some(waiting), .. } => {
                waiting.iter().map(|peer| MemberEvent::Acknowledged { peer: *peer, next: *next }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The members that are there.
    fn present(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !self.lost.contains(&member.node()))
    }

    /// I7: no two front ends are a plan apart while neither parks.
    fn has_one_answer(&self) -> bool {
        let plans = self.present().filter_map(|member| match member.state() {
            MemberState::Stable { plan, .. } | MemberState::Prepare { plan, .. } => Some(plan.generation),
            _ => None,
        });
        plans.collect::<BTreeSet<_>>().len() <= 1
    }

    /// The barriers: nobody is two phases from anybody.
    fn is_close(&self) -> bool {
        let phases = self.present().filter_map(|member| match member.place()?.at() {
            At::Change { next, phase, .. } => Some((next.generation.get(), phase)),
            At::Stable { .. } => None,
        });
        let phases = phases.collect::<BTreeSet<_>>();
        let same = |change: u64, phase| phases.contains(&(change, phase));
        phases.iter().all(|(change, _)| !(same(*change, Phase::Prepare) && same(*change, Phase::Flush)))
    }
}

impl Model for Config {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.world()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (member, _) in world.members.iter().enumerate().filter(|(_, one)| !world.lost.contains(&one.node())) {
            actions.extend((0..world.orders.len()).map(|order| Action::Order { member, order }));
            if !world.awaited(member).is_empty() {
                actions.push(Action::Done { member });
            }
        }
        actions.extend((0..world.reports.len()).map(Action::Report));
        match world.coordinator.place().at() {
            At::Stable { plan, .. } if plan.generation.get() <= self.changes + u64::from(world.aborts) => {
                actions.push(Action::Propose);
            }
            At::Change { .. } if world.aborts < self.aborts => actions.push(Action::Abort),
            At::Stable { .. } | At::Change { .. } => {}
        }
        if world.lost.len() < usize::from(self.losses) {
            actions.extend(world.present().map(|member| Action::Lose(member.node())));
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Order { member, order } => world.happens(member, &MemberEvent::Order(world.orders[order].clone())),
            Action::Done { member } => {
                for event in world.awaited(member) {
                    world.happens(member, &event);
                }
            }
            Action::Report(report) => {
                let (node, place) = world.reports[report];
                world.decides(&CoordinatorEvent::Report { node, place });
            }
            Action::Propose => {
                let parent = world.coordinator.place().at().plan();
                let next = plan(world.coordinator.place().at().last().get() + 1);
                let number = PlanNumber { incarnation: 1, generation: next.generation, parent: Some(parent) };
                world.decides(&CoordinatorEvent::Propose { number, digest: next.digest, revision: 0 });
            }
            Action::Abort => {
                world.aborts += 1;
                world.decides(&CoordinatorEvent::Abort { next: world.coordinator.place().at().last() });
            }
            Action::Lose(node) => {
                world.lost.insert(node);
                world.decides(&CoordinatorEvent::Lost { node });
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no alarm", |_, world: &World| world.alarm.is_none()),
            Property::always("one answer", |_, world: &World| world.has_one_answer()),
            Property::always("barriers", |_, world: &World| world.is_close()),
            Property::sometimes("the last plan everywhere", |config: &Self, world: &World| {
                let at = world.coordinator.place().at();
                world.coordinator.is_settled() && at.last().get() > config.changes + u64::from(config.aborts)
            }),
        ]
    }
}

#[track_caller]
fn check(config: Config) {
    let checker = config.checker().spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn late_and_repeated_messages_change_nothing() {
    check(Config { members: 2, changes: 2, aborts: 0, losses: 0 });
}

#[test]
fn late_and_repeated_messages_around_an_abort() {
    check(Config { members: 2, changes: 1, aborts: 1, losses: 0 });
}

#[test]
fn late_and_repeated_messages_around_a_loss() {
    check(Config { members: 3, changes: 1, aborts: 0, losses: 1 });
}
