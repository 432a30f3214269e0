//! The model: what may happen in a state.

use crate::config::{Config, Mutant, NODES, Overlay};
use crate::flow::{Flow, Frame, Message, Node};
use crate::world::{FrontEnd, Record, World};
use chain_graph::phase::At;
use chain_graph::phase::forward::{Announce, Entry, Known};
use stateright::{Model, Property};

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

/// A frame of a living flow reaches the instance of its first frame only. I1, I4.
pub(crate) const ONE_INSTANCE: &str = "one instance";
/// No two front ends answer an unknown flow differently. I7.
pub(crate) const ONE_ANSWER: &str = "one answer";

impl Model for Config {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
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
        match action {
            Action::Enter { node, is_up, has_budget } => world.enters(self, node, is_up, has_budget),
            Action::Arrive { frame, has_budget } => world.arrives(self, frame, false, has_budget),
            Action::Receive { from, to, index } => world.receives(from, to, index),
            Action::Obey(node) => world.obeys(self, node),
            Action::Announce(node) => world.announces(node),
            Action::Hear => world.hear(),
            Action::Propose => world.propose(self).then_some(())?,
            Action::Abort => world.abort().then_some(())?,
            Action::Die(node) => world.dies(node),
            Action::Join(node) => world.joins(self, node).then_some(())?,
            Action::Restart(node) => world.restarts(node),
            Action::End => world.ends(),
            Action::Expire(node) => world.expires(node),
            Action::ExpireLease(node) => world.node_mut(node).lease = None,
            Action::Crash => world.crashes(self),
            Action::Start => world.is_crashed = false,
            Action::Declare => world.is_declared = true,
            Action::Learn(node) => world.learns(self, node),
        }
        world.acknowledge(self);
        if world.flow.is_dead {
            world.bury();
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
        let directions = if self.has_two_stages() { &[false, true][..] } else { &[false] };
        let budgets = if self.stateless { &[true, false][..] } else { &[true] };
        for has_budget in budgets.iter().copied() {
            for is_up in directions.iter().copied() {
                actions.extend(world.alive().map(|node| Action::Enter { node, is_up, has_budget }));
            }
            let arriving = world.frames.iter().filter(|frame| world.node(frame.to).is_alive);
            actions.extend(arriving.map(|frame| Action::Arrive { frame: *frame, has_budget }));
        }
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
    /// A message arrives.
    fn receives(&mut self, from: Node, to: Node, index: usize) {
        let message = self.streams[usize::from(from)][usize::from(to)].remove(index);
        let FrontEnd { exception, record, .. } = self.node_mut(to);
        match message {
            // Only a mutant tells a front end of its own flows.
            Message::Exception(path) if path.first == to => {
                *record = Some(Record { path, is_told: true, is_idle: false });
            }
            Message::Exception(path) => *exception = Some(path),
            // A replica goes when its owner says so, and not by another one's word.
            Message::Gone => *exception = exception.filter(|path| path.first != from),
        }
    }

    /// The flow ends. Its frames have all arrived or are lost: the tuple is not used again before.
    fn ends(&mut self) {
        self.reuses += 1;
        self.frames.clear();
        self.flow = Flow::default();
        for record in self.nodes.iter_mut().filter_map(|front_end| front_end.record.as_mut()) {
            record.is_idle = true;
        }
    }

    /// The owner has seen no frame for the idle time.
    fn expires(&mut self, node: Node) {
        if let Some(record) = self.node_mut(node).record.take()
            && record.is_told
        {
            self.tell(node, Message::Gone);
        }
    }

    /// The instance fails, and with it a flow that it was in; the next frame is another flow's.
    fn crashes(&mut self, config: &Config) {
        self.is_crashed = true;
        self.loses(config);
    }

    /// A front end hears that the instance is down. For the first one that hears, flows that it was in are over.
    fn learns(&mut self, config: &Config, node: Node) {
        if !self.nodes.iter().any(|front_end| front_end.knows_down) {
            self.loses(config);
        }
        let Some(overlay) = &config.overlay else { return };
        let front_end = self.node_mut(node);
        front_end.knows_down = true;
        front_end.exception = front_end.exception.filter(|path| path.first != overlay.host);
        if node == overlay.host {
            self.expires(node);
        }
    }

    fn loses(&mut self, config: &Config) {
        let host = config.overlay.as_ref().map(|overlay| overlay.host);
        if self.flow.home[0] == host {
            self.flow = Flow::default();
        }
    }

    /// Nothing is promised to a dead flow: it is left out, the protocol goes on.
    fn bury(&mut self) {
        self.frames.clear();
        self.flow = Flow { is_dead: true, ..Flow::default() };
        self.streams.iter_mut().flatten().for_each(Vec::clear);
        self.nodes.iter_mut().for_each(FrontEnd::clear);
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
