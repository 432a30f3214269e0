//! Front ends and coordinator: the shipped functions, and who carries their commands out.

use crate::config::{Caches, Config, Mutant, NODES};
use crate::flow::{Message, Node, Path};
use crate::world::{Broken, FrontEnd, World, id, plan};
use chain_graph::phase::forward::{Announce, Rules};
use chain_graph::phase::{
    At, CoordinatorEvent, Member, MemberCommand, MemberEvent, MemberRejection, MemberState, Order, Place,
};
use chain_graph::plan::PlanNumber;
use std::array;
use std::collections::BTreeSet;
use std::sync::Arc;

impl World {
    /// The coordinator takes a step; whether it did.
    pub(crate) fn decide(&mut self, event: &CoordinatorEvent) -> bool {
        match self.coordinator.step(event) {
            Ok((coordinator, _)) => {
                self.coordinator = Arc::new(coordinator);
                true
            }
            Err(rejection) => {
                if rejection.is_alarm() {
                    self.breaks(Broken::Alarm);
                }
                false
            }
        }
    }

    /// A front end hears what all are told. Installing takes no time: to be late with it is to hear the order late.
    pub(crate) fn obeys(&mut self, config: &Config, node: Node) {
        self.happens(config, node, &MemberEvent::Order(self.coordinator.order()));
    }

    /// Something happens to a front end, and it does what follows.
    fn happens(&mut self, config: &Config, node: Node, event: &MemberEvent) {
        match self.node(node).member.step(event) {
            Ok((member, commands)) => {
                self.node_mut(node).member = member;
                for command in commands {
                    self.carry_out(config, node, command);
                }
            }
            Err(rejection) => {
                if rejection.is_alarm() {
                    self.breaks(Broken::Alarm);
                }
            }
        }
    }

    fn carry_out(&mut self, config: &Config, node: Node, command: MemberCommand) {
        match command {
            MemberCommand::Install(plan) => self.happens(config, node, &MemberEvent::Installed(plan)),
            MemberCommand::Send(next) => {
                self.sends(config, node);
                if config.lacks(Mutant::NoAcknowledgement) {
                    for peer in self.alive().collect::<Vec<_>>() {
                        self.happens(config, node, &MemberEvent::Acknowledged { peer: id(peer), next });
                    }
                }
            }
            MemberCommand::Enter(Rules::Stable { plan, .. }) if config.caches == Caches::Dropped => {
                let path = self.told(config, plan);
                let cache = &mut self.node_mut(node).cache;
                *cache = cache.filter(|cached| *cached == path);
            }
            MemberCommand::Heed(members) => {
                let is_heeded = |path: &Path| members.contains(&id(path.first));
                let front_end = self.node_mut(node);
                front_end.exception = front_end.exception.filter(is_heeded);
                front_end.lease = front_end.lease.filter(|path| is_heeded(path) || config.lacks(Mutant::DeadHeeded));
                front_end.heeds = array::from_fn(|node| members.contains(&id(node as Node)));
            }
            MemberCommand::Clear => {
                self.node_mut(node).clear();
            }
            MemberCommand::Synchronize(with) => self.synchronizes(config, node, with),
            MemberCommand::Join { place, with } => {
                self.decide(&CoordinatorEvent::Join { node: id(node), place, with });
            }
            // The coordinator hears of reports when it likes; see `hear`. Plans that are not named any more do no harm.
            MemberCommand::Enter(_) | MemberCommand::Discard(_) | MemberCommand::Leave | MemberCommand::Report(_) => {}
        }
    }

    /// Send, in Prepare, only begins to send in the background; in Flush it sends the rest.
    fn sends(&mut self, config: &Config, node: Node) {
        let is_flush = matches!(self.node(node).member.state(), MemberState::Flush { .. });
        if is_flush == config.lacks(Mutant::NoFlush) {
            return;
        }
        if self.due(config, node) != Announce::Never && !config.lacks(Mutant::PickerAnnounces) {
            self.announces(node);
        }
        if let Some(path) = self.node(node).cache
            && (config.lacks(Mutant::AnybodyAnnounces) || config.lacks(Mutant::PickerAnnounces))
            && self.node(node).member.next().is_some_and(|next| self.told(config, next.generation) != path)
        {
            let front_end = self.node_mut(node);
            (front_end.cache, front_end.exception) = (None, Some(path));
            self.tell(node, Message::Exception(path));
        }
    }

    /// A front end takes the snapshots of all members.
    fn synchronizes(&mut self, config: &Config, node: Node, with: BTreeSet<xdp_layout::NodeId>) {
        let owners = self.alive().filter(|owner| with.contains(&id(*owner))).collect::<Vec<_>>();
        for owner in owners {
            let is_exception = self.due(config, owner) != Announce::Never;
            if let Some(record) = &mut self.node_mut(owner).record
                && (is_exception || record.is_told)
                && !config.lacks(Mutant::NoSynchronization)
            {
                record.is_told = true;
                self.node_mut(node).exception = Some(record.path);
            }
        }
        if let MemberState::Joining { plan, .. } = *self.node(node).member.state() {
            self.happens(config, node, &MemberEvent::Synchronized { plan, with });
        }
    }

    /// Peers acknowledge as soon as a stream is empty: later than that delays reports, which the coordinator may do anyway.
    pub(crate) fn acknowledge(&mut self, config: &Config) {
        for node in 0..NODES as Node {
            let MemberState::Flush { next, waiting: Some(waiting), .. } = self.node(node).member.state() else {
                continue;
            };
            let next = *next;
            let is_empty = |peer: &Node| {
                let mut stream = self.stream(node, *peer).iter();
                // Without order, an acknowledgement is of exceptions only.
                !stream.any(|message| !config.lacks(Mutant::Unordered) || matches!(message, Message::Exception(_)))
            };
            let peers =
                (0..NODES as Node).filter(|peer| waiting.contains(&id(*peer))).filter(is_empty).collect::<Vec<_>>();
            for peer in peers {
                self.happens(config, node, &MemberEvent::Acknowledged { peer: id(peer), next });
            }
        }
    }

    /// Where a member says it is, if it is told once more where to be.
    fn report(&self, node: Node, order: &Order) -> Option<Place> {
        let said = self.node(node).member.step(&MemberEvent::Order(order.clone()));
        let reported = |commands: Vec<MemberCommand>| {
            commands.into_iter().find_map(|command| match command {
                MemberCommand::Report(place) => Some(place),
                _ => None,
            })
        };
        match said {
            Ok((member, commands)) if member == self.node(node).member => reported(commands),
            Ok(_) => None,
            Err(MemberRejection::Stale { .. }) => None,
            Err(_) => None,
        }
    }

    /// Whether every member has arrived and has not been heard.
    pub(crate) fn has_news(&self) -> bool {
        let place = self.coordinator.place();
        self.coordinator.members().any(|(_, known)| known != Some(place))
            && self.alive().all(|node| self.node(node).member.place() == Some(place))
            && self.alive().all(|node| self.report(node, &self.coordinator.order()) == Some(place))
    }

    /// The coordinator hears of all members. Hearing of some earlier changes nothing before it hears of the last.
    pub(crate) fn hear(&mut self) {
        let place = self.coordinator.place();
        for node in self.alive().collect::<Vec<_>>() {
            self.decide(&CoordinatorEvent::Report { node: id(node), place });
        }
    }

    /// The next plan of the chain, if there is one and it would be taken.
    pub(crate) fn propose(&mut self, config: &Config) -> bool {
        let At::Stable { plan: parent, last } = self.coordinator.place().at() else { return false };
        let content = parent.digest as u8 + 1;
        if usize::from(content) >= config.chain.len() {
            return false;
        }
        let next = plan(last.get() as usize + 1, content);
        let number = PlanNumber { incarnation: 1, generation: next.generation, parent: Some(parent) };
        let is_taken = self.decide(&CoordinatorEvent::Propose { number, digest: next.digest, revision: 0 });
        if is_taken {
            Arc::make_mut(&mut self.numbered).push(content);
        }
        is_taken
    }

    /// The change under way is aborted.
    pub(crate) fn abort(&mut self) -> bool {
        let At::Change { next, .. } = self.coordinator.place().at() else { return false };
        self.aborts += 1;
        self.decide(&CoordinatorEvent::Abort { next: next.generation })
    }

    /// A front end dies with its instances, and that is known at once: until it is, no phase ends, and no phase has to.
    pub(crate) fn dies(&mut self, node: Node) {
        self.deaths += 1;
        *self.node_mut(node) = FrontEnd { is_alive: false, ..FrontEnd::new(Member::new(id(node))) };
        for other in 0..NODES as Node {
            self.stream_mut(node, other).clear();
            self.stream_mut(other, node).clear();
        }
        self.flow.is_dead |= self.flow.path.is_some_and(|path| path.has(node));
        self.decide(&CoordinatorEvent::Lost { node: id(node) });
    }

    /// A dead front end comes back, if it is taken in.
    pub(crate) fn joins(&mut self, config: &Config, node: Node) -> bool {
        self.joins += 1;
        self.node_mut(node).is_alive = true;
        self.obeys(config, node);
        self.obeys(config, node);
        matches!(self.node(node).member.state(), MemberState::Stable { .. })
    }

    /// An agent forgets; its data path does not.
    pub(crate) fn restarts(&mut self, node: Node) {
        self.restarts += 1;
        if let Some(place) = self.node(node).member.place() {
            self.node_mut(node).member = Member::resume(id(node), place);
        }
    }
}
