//! A state of the model.

use crate::config::{Config, NODES};
use crate::flow::{Flow, Frame, Message, Node, Path};
use chain_graph::phase::forward::{Known, Rules};
use chain_graph::phase::{Coordinator, CoordinatorEvent, Member, MemberEvent};
use chain_graph::plan::PlanRef;
use std::array;
use std::collections::BTreeSet;
use std::sync::Arc;
use xdp_layout::{Generation, NodeId};

/// A front end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FrontEnd {
    pub(crate) is_alive: bool,
    /// The shipped function's state.
    pub(crate) member: Member,
    /// The front ends whose frames it accepts.
    pub(crate) heeds: [bool; NODES],
    /// The flow's record, if this is its owner.
    pub(crate) record: Option<Record>,
    /// The replica of another owner's record.
    pub(crate) exception: Option<Path>,
    /// The owner's word for a path with a later stage here.
    pub(crate) lease: Option<Path>,
    /// The path it picked before; see [`crate::config::Caches`].
    pub(crate) cache: Option<Path>,
    /// Whether it has heard that the instance of [`crate::config::Overlay`] is down.
    pub(crate) knows_down: bool,
}

/// The flow's record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Record {
    pub(crate) path: Path,
    /// Whether it was announced as an exception.
    pub(crate) is_told: bool,
    /// Whether no frame has met it since a flow of this tuple ended.
    pub(crate) is_idle: bool,
}

/// Everything. Parts that seldom change are shared between states.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) nodes: [Arc<FrontEnd>; NODES],
    /// The shipped function's state.
    pub(crate) coordinator: Arc<Coordinator>,
    /// Index into the chain of each number that was proposed.
    pub(crate) numbered: Arc<Vec<u8>>,
    /// What each owner has sent to each peer and has not arrived, in order.
    pub(crate) streams: Arc<[[Vec<Message>; NODES]; NODES]>,
    /// Frames between front ends. Each may arrive at any time, again and again, or never.
    pub(crate) frames: BTreeSet<Frame>,
    pub(crate) flow: Flow,
    /// Whether the instance of [`crate::config::Overlay`] is not running.
    pub(crate) is_crashed: bool,
    /// Whether that instance was declared down.
    pub(crate) is_declared: bool,
    pub(crate) deaths: u8,
    pub(crate) joins: u8,
    pub(crate) aborts: u8,
    pub(crate) reuses: u8,
    pub(crate) restarts: u8,
    /// The first thing that must not happen.
    pub(crate) broken: Option<Broken>,
}

/// What must not happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Broken {
    /// A frame was delivered to another instance than the flow's first.
    Instance {
        /// Stage.
        stage: usize,
        /// The instance of the first frame.
        home: Node,
        /// The instance of this frame.
        node: Node,
    },
    /// A frame was delivered to another instance than the record names.
    Record {
        /// Stage.
        stage: usize,
        /// The instance of this frame.
        node: Node,
    },
    /// A frame of a flow without a record went back to an instance that a later plan had taken it from.
    Back(Node),
    /// An owner refused a frame of a flow that is not at risk.
    Refused,
    /// A front end or the coordinator raised an alarm.
    Alarm,
}

/// The shipped name of a front end.
pub(crate) fn id(node: Node) -> NodeId {
    NodeId::new(u16::from(node) + 1).expect("above 0")
}

/// A plan of this number with this content.
pub(crate) fn plan(number: usize, content: u8) -> PlanRef {
    PlanRef { generation: Generation::new(number as u64).expect("above 0"), digest: u64::from(content) }
}

impl World {
    /// All front ends run the first plan; nothing is known of the flow.
    pub(crate) fn new(config: &Config) -> Self {
        let first = plan(1, 0);
        let nodes = config.absent..NODES as Node;
        let coordinator = Coordinator::new(1, first, first.generation, nodes.clone().map(id));
        let order = coordinator.order();
        let members = array::from_fn(|node| {
            let is_alive = node >= usize::from(config.absent);
            let resumed = Member::resume(id(node as Node), order.place);
            let (member, _) = resumed.step(&MemberEvent::Order(order.clone())).expect("it is there");
            let member = if is_alive { member } else { Member::new(id(node as Node)) };
            Arc::new(FrontEnd { is_alive, heeds: [true; NODES], ..FrontEnd::new(member) })
        });
        let report = |coordinator: Coordinator, node| {
            let event = CoordinatorEvent::Report { node: id(node), place: order.place };
            coordinator.step(&event).expect("it was sent there").0
        };
        let coordinator = nodes.fold(coordinator, report);
        Self {
            nodes: members,
            coordinator: Arc::new(coordinator),
            numbered: Arc::new(vec![0]),
            streams: Arc::default(),
            frames: BTreeSet::new(),
            flow: Flow::default(),
            is_crashed: false,
            is_declared: false,
            deaths: 0,
            joins: 0,
            aborts: 0,
            reuses: 0,
            restarts: 0,
            broken: None,
        }
    }

    pub(crate) fn node(&self, node: Node) -> &FrontEnd {
        &self.nodes[usize::from(node)]
    }

    pub(crate) fn node_mut(&mut self, node: Node) -> &mut FrontEnd {
        Arc::make_mut(&mut self.nodes[usize::from(node)])
    }

    /// What an owner has sent to a peer and has not arrived.
    pub(crate) fn stream(&self, from: Node, to: Node) -> &[Message] {
        &self.streams[usize::from(from)][usize::from(to)]
    }

    pub(crate) fn stream_mut(&mut self, from: Node, to: Node) -> &mut Vec<Message> {
        &mut Arc::make_mut(&mut self.streams)[usize::from(from)][usize::from(to)]
    }

    /// Front ends that are not dead.
    pub(crate) fn alive(&self) -> impl Iterator<Item = Node> + '_ {
        (0..NODES as Node).filter(|node| self.node(*node).is_alive)
    }

    /// Index into the chain of a number.
    pub(crate) fn content(&self, number: Generation) -> usize {
        usize::from(self.numbered[number.get() as usize - 1])
    }

    /// The flow's path under the plan of a number, nothing stepped over.
    pub(crate) fn told(&self, config: &Config, number: Generation) -> Path {
        config.chain[self.content(number)]
    }

    /// The flow's path under the plan of a number, as far as this front end knows what is down.
    pub(crate) fn pick(&self, config: &Config, node: Node, number: Generation) -> Path {
        match &config.overlay {
            Some(overlay) if self.is_down(config, node, overlay.host, number) => overlay.spare[self.content(number)],
            _ => self.told(config, number),
        }
    }

    /// Whether `node` knows the instance on `host` to be down under the plan of a number.
    pub(crate) fn is_down(&self, config: &Config, node: Node, host: Node, number: Generation) -> bool {
        config.overlay.as_ref().is_some_and(|overlay| {
            overlay.host == host && self.node(node).knows_down && self.content(number) < overlay.up_from
        })
    }

    /// What a front end has about the flow.
    pub(crate) fn known(&self, node: Node) -> Known<Path> {
        let front_end = self.node(node);
        match (front_end.record, front_end.exception) {
            (Some(record), _) => Known::Record(record.path),
            (None, Some(path)) => Known::Exception(path),
            (None, None) => Known::Nothing,
        }
    }

    /// The plan by which a front end answers.
    pub(crate) fn in_force(&self, node: Node) -> Option<Generation> {
        match self.node(node).member.rules() {
            Rules::Closed => None,
            Rules::Stable { plan, .. } | Rules::Hold { plan, .. } | Rules::Flush { plan, .. } => Some(plan),
        }
    }

    /// Puts a message on a stream; one that repeats the last is not worth another state.
    pub(crate) fn send(&mut self, from: Node, to: Node, message: Message) {
        if self.stream(from, to).last() != Some(&message) {
            self.stream_mut(from, to).push(message);
        }
    }

    /// Sends a message to every other front end.
    pub(crate) fn tell(&mut self, from: Node, message: Message) {
        for to in self.alive().filter(|to| *to != from).collect::<Vec<_>>() {
            self.send(from, to, message);
        }
    }

    /// A frame on `path` is delivered to the instance of a stage.
    pub(crate) fn deliver(&mut self, config: &Config, stage: usize, path: Path) {
        let Some(node) = path.stage(stage) else { return };
        let crashed = config.overlay.as_ref().map(|overlay| overlay.host).filter(|_| self.is_crashed);
        if self.flow.is_dead || crashed == Some(node) {
            return;
        }
        let records = self.nodes.iter().filter_map(|front_end| front_end.record);
        let mut named =
            records.map(|record| record.path.stage(stage)).filter(|named| *named != crashed || crashed.is_none());
        if named.any(|named| named != Some(node)) {
            self.breaks(Broken::Record { stage, node });
        }
        let mut later = (usize::from(self.flow.content)..).zip(&config.chain[usize::from(self.flow.content)..]);
        if config.stateless {
            match later.find(|(_, later)| later.stage(stage) == Some(node)) {
                Some((content, _)) => self.flow.content = content as u8,
                None => self.breaks(Broken::Back(node)),
            }
            return;
        }
        let is_cut = (0..NODES as Node).any(|node| path.has(node) && !self.node(node).is_alive);
        match self.flow.home[stage] {
            // A flow that begins with a dead instance in its path is dead already.
            None if is_cut => {}
            None => {
                self.flow.home[stage] = Some(node);
                self.flow.path = self.flow.path.or(Some(path));
            }
            Some(home) if home == node => {}
            Some(home) => self.breaks(Broken::Instance { stage, home, node }),
        }
    }

    /// Notes the first thing that must not happen.
    pub(crate) fn breaks(&mut self, broken: Broken) {
        self.broken = self.broken.or(Some(broken));
    }
}

impl FrontEnd {
    /// A front end that knows nothing of the flow.
    pub(crate) fn new(member: Member) -> Self {
        Self {
            is_alive: true,
            member,
            heeds: [false; NODES],
            record: None,
            exception: None,
            lease: None,
            cache: None,
            knows_down: false,
        }
    }

    /// Forgets the flow.
    pub(crate) fn clear(&mut self) {
        (self.record, self.exception, self.lease, self.cache) = (None, None, None, None);
    }
}
