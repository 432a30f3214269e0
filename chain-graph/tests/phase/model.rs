//! The model: what may happen in a state.

use crate::config::{Config, Mutant, NODES, Overlay};
use crate::flow::{Frame, Node};
use crate::world::World;
use chain_graph::phase::At;
use chain_graph::phase::forward::{Announce, Entry, Known, Stamp};
use stateright::{Model, Property};
use std::fmt;

/// Something that may happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// A frame of the flow enters at a front end.
    Enter { node: Node, is_up: bool, has_budget: bool },
    /// A frame arrives at a front end.
    Arrive { frame: Frame, has_budget: bool },
    /// A message arrives: the one at this place of the stream.
    Receive { from: Node, to: Node, index: usize },
    /// A front end hears what all are told.
    Obey(Node),
    /// The owner announces in the background.
    Announce(Node),
    /// The coordinator hears of its members.
    Hear,
    /// The next plan of the chain is proposed.
    Propose,
    /// The change under way is aborted.
    Abort,
    /// A front end dies with its instances.
    Die(Node),
    /// A dead front end comes back.
    Join(Node),
    /// An agent forgets.
    Restart(Node),
    /// The flow ends; its tuple may be used again.
    End,
    /// The owner's record expires.
    Expire(Node),
    /// The owner's word to a later stage's host expires.
    ExpireLease(Node),
    /// The instance of [`crate::config::Overlay`] fails.
    Crash,
    /// It runs again, without its state.
    Start,
    /// The control plane declares it down.
    Declare,
    /// A front end hears that.
    Learn(Node),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = |has_budget: &bool| if *has_budget { "" } else { " without budget" };
        match self {
            Self::Enter { node, is_up: false, has_budget } => write!(f, "frame enters {node}{}", record(has_budget)),
            Self::Enter { node, is_up: true, has_budget } => write!(f, "answer enters {node}{}", record(has_budget)),
            Self::Arrive { frame: Frame { to, leg, stamp, path, .. }, has_budget } => {
                let stamp = match stamp {
                    Stamp::Plan(number) => format!("plan {number}"),
                    Stamp::Exception => "an exception".into(),
                    Stamp::Owner => "its owner".into(),
                };
                let path = path.second.map_or(path.first.to_string(), |second| format!("{} {second}", path.first));
                write!(f, "{leg:?} frame arrives at {to} for path {path} by {stamp}{}", record(has_budget))
            }
            Self::Receive { from, to, .. } => write!(f, "{to} hears {from}"),
            Self::Obey(node) => write!(f, "{node} obeys"),
            Self::Announce(node) => write!(f, "{node} announces"),
            Self::Hear => f.write_str("reports"),
            Self::Propose => f.write_str("propose"),
            Self::Abort => f.write_str("abort"),
            Self::Die(node) => write!(f, "{node} dies"),
            Self::Join(node) => write!(f, "{node} joins"),
            Self::Restart(node) => write!(f, "{node}'s agent restarts"),
            Self::End => f.write_str("flow ends"),
            Self::Expire(node) => write!(f, "record expires at {node}"),
            Self::ExpireLease(node) => write!(f, "lease expires at {node}"),
            Self::Crash => f.write_str("instance fails"),
            Self::Start => f.write_str("instance starts"),
            Self::Declare => f.write_str("declared down"),
            Self::Learn(node) => write!(f, "{node} learns of it"),
        }
    }
}

/// A frame of a living flow reaches the instance of its first frame only. I1, I4.
pub(crate) const ONE_INSTANCE: &str = "one instance";
/// No two front ends answer an unknown flow differently. I7.
pub(crate) const ONE_ANSWER: &str = "one answer";

impl Model for Config {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::new(self);
        world.saturate(self);
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        if !world.flow.is_dead {
            self.flow_actions(world, actions);
        }
        actions.extend(world.alive().map(Action::Obey));
        if world.has_news() {
            actions.push(Action::Hear);
        }
        match world.coordinator.place().at() {
            At::Stable { .. } if world.coordinator.is_settled() => {
                actions.push(Action::Propose);
                if world.joins < self.joins {
                    actions.extend((0..NODES as Node).filter(|node| !world.node(*node).is_alive).map(Action::Join));
                }
            }
            At::Stable { .. } => {}
            At::Change { .. } if world.aborts < self.aborts => actions.push(Action::Abort),
            At::Change { .. } => {}
        }
        if world.deaths < self.deaths {
            actions.extend(world.alive().map(Action::Die));
        }
        if world.restarts < self.restarts {
            actions.extend(world.alive().map(Action::Restart));
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        if !world.acts(self, action) {
            return None;
        }
        world.acknowledge(self);
        if world.flow.is_dead {
            world.bury();
        } else if world.broken.is_none() {
            world.saturate(self);
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_INSTANCE, |_, world: &World| world.broken.is_none()),
            Property::always(ONE_ANSWER, |config: &Self, world: &World| world.has_one_answer(config)),
        ]
    }
}

impl Config {
    fn flow_actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.frame_actions(world, if self.stateless { &[true, false] } else { &[true] }, actions);
        for (from, streams) in world.streams.iter().enumerate() {
            for (to, stream) in streams.iter().enumerate() {
                let arriving = if self.lacks(Mutant::Unordered) { stream.len() } else { stream.len().min(1) };
                let receive = |index| Action::Receive { from: from as Node, to: to as Node, index };
                actions.extend((0..arriving).map(receive));
            }
        }
        if self.background {
            let due = world.alive().filter(|node| world.due(self, *node) != Announce::Never);
            actions.extend(due.map(Action::Announce));
        }
        self.end_actions(world, actions);
        if let Some(overlay) = &self.overlay {
            overlay.actions(world, actions);
        }
    }

    fn frame_actions(&self, world: &World, budgets: &[bool], actions: &mut Vec<Action>) {
        let directions = if self.has_two_stages() { &[false, true][..] } else { &[false] };
        for has_budget in budgets.iter().copied() {
            for is_up in directions.iter().copied() {
                actions.extend(world.alive().map(|node| Action::Enter { node, is_up, has_budget }));
            }
            let arriving = world.frames.iter().filter(|frame| world.node(frame.to).is_alive);
            actions.extend(arriving.map(|frame| Action::Arrive { frame: *frame, has_budget }));
        }
    }

    /// The end of a flow, and what follows.
    fn end_actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.reuses < self.reuses && world.flow.path.is_some() {
            actions.push(Action::End);
        }
        let leases = || world.alive().filter(|node| world.node(*node).lease.is_some());
        actions.extend(leases().map(Action::ExpireLease));
        // A lease is shorter than the idle time of the record it is for.
        let may_expire = |owner: &Node| {
            let is_leased = || leases().any(|node| world.node(node).lease.is_some_and(|path| path.first == *owner));
            world.node(*owner).record.is_some_and(|record| record.is_idle)
                && (self.lacks(Mutant::LeaseOutlives) || !is_leased())
        };
        actions.extend(world.alive().filter(may_expire).map(Action::Expire));
    }
}

impl Overlay {
    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.push(if world.is_crashed { Action::Start } else { Action::Crash });
        if !world.is_declared {
            actions.push(Action::Declare);
            return;
        }
        let host = world.node(self.host);
        let may_hear = |node: &Node| *node == self.host || host.knows_down || !host.is_alive || !self.host_first;
        actions.extend(world.alive().filter(|node| !world.node(*node).knows_down).filter(may_hear).map(Action::Learn));
    }
}

impl World {
    /// Something happens. `false` if it cannot.
    fn acts(&mut self, config: &Config, action: Action) -> bool {
        match action {
            Action::Enter { node, is_up, has_budget } => self.enters(config, node, is_up, has_budget),
            Action::Arrive { frame, has_budget } => self.arrives(config, frame, false, has_budget),
            Action::Receive { from, to, index } => self.receives(from, to, index),
            Action::Obey(node) => self.obeys(config, node),
            Action::Announce(node) => self.announces(node),
            Action::Hear => self.hear(),
            Action::Propose => return self.propose(config),
            Action::Abort => return self.abort(),
            Action::Die(node) => self.dies(node),
            Action::Join(node) => return self.joins(config, node),
            Action::Restart(node) => self.restarts(node),
            Action::End => self.ends(),
            Action::Expire(node) => self.expires(node),
            Action::ExpireLease(node) => self.node_mut(node).lease = None,
            Action::Crash => self.crashes(config),
            Action::Start => self.is_crashed = false,
            Action::Declare => self.is_declared = true,
            Action::Learn(node) => self.learns(config, node),
        }
        true
    }

    /// Lets every frame enter, and go on, that changes nothing but what is under way. What is under way need never arrive,
    /// so a state with more of it can do all that one with less can: it stands for both.
    fn saturate(&mut self, config: &Config) {
        let mut actions = Vec::new();
        config.frame_actions(self, &[true], &mut actions);
        let mut frames = std::mem::take(&mut self.frames);
        while let Some(action) = actions.pop() {
            let mut next = self.clone();
            next.acts(config, action);
            let added = std::mem::take(&mut next.frames);
            if next == *self {
                let added = added.into_iter().filter(|frame| frames.insert(*frame));
                let added = added.filter(|frame| self.node(frame.to).is_alive);
                actions.extend(added.map(|frame| Action::Arrive { frame, has_budget: true }));
            }
        }
        self.frames = frames;
    }

    /// I7: what front ends that know nothing of the flow would do with it, by plan.
    fn has_one_answer(&self, config: &Config) -> bool {
        let told = |number| self.told(config, number);
        let answers = self.alive().map(|node| self.entry(config, node, Known::Nothing, told));
        let mut paths = answers.filter_map(|answer| match answer {
            Entry::Forward { path, .. } => Some(path),
            Entry::Park | Entry::Closed => None,
        });
        let first = paths.next();
        paths.all(|path| Some(path) == first)
    }
}
