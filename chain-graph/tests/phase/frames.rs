//! What happens to a frame: the shipped forwarding rules, and the mutants' in their place.

use crate::config::{Caches, Config, Mutant};
use crate::flow::{Frame, Leg, Message, Node, Path};
use crate::world::{Broken, Record, World};
use chain_graph::phase::forward::{
    Announce, Claim, Entry, Hop, Known, Refusal, Rules, Stamp, announce, claim, enter, hop,
};
use xdp_layout::Generation;

impl World {
    /// What a front end does with a frame of the flow that enters there, if it knows this of the flow.
    pub(crate) fn entry(
        &self,
        config: &Config,
        node: Node,
        known: Known<Path>,
        pick: impl Fn(Generation) -> Path,
    ) -> Entry<Path> {
        let Some(plan) = self.in_force(node) else { return Entry::Closed };
        let rules = if config.lacks(Mutant::NoHold) {
            Rules::Stable { plan, before: None }
        } else {
            self.node(node).member.rules()
        };
        match enter(rules, known, pick) {
            Entry::Forward { path, stamp: Stamp::Exception } if config.lacks(Mutant::ReplicaTrusted) => {
                Entry::Forward { path, stamp: Stamp::Plan(plan) }
            }
            entry => entry,
        }
    }

    /// A frame enters at `node`, from the clients' side or from the servers'.
    pub(crate) fn enters(&mut self, config: &Config, node: Node, is_up: bool, has_budget: bool) {
        let known = self.known(node);
        let cached = self.node(node).cache.filter(|_| known == Known::Nothing).zip(self.in_force(node));
        let entry = match cached {
            Some((path, plan)) => Entry::Forward { path, stamp: Stamp::Plan(plan) },
            None => self.entry(config, node, known, |number| self.pick(config, node, number)),
        };
        let Entry::Forward { path, stamp } = entry else { return };
        self.meets(node);
        if config.caches != Caches::None && path.first != node && known == Known::Nothing {
            self.node_mut(node).cache = Some(path);
        }
        let from = (stamp == Stamp::Exception).then_some(node);
        let (to, leg) = if is_up { (path.second.unwrap_or(path.first), Leg::Up) } else { (path.first, Leg::Down) };
        self.carry(config, node, Frame { to, from, leg, stamp, path }, has_budget);
    }

    /// A frame goes on from `node`: at once if it is there.
    fn carry(&mut self, config: &Config, node: Node, frame: Frame, has_budget: bool) {
        if frame.to == node {
            self.arrives(config, frame, frame.leg == Leg::Down || frame.leg == Leg::Up, has_budget);
        } else {
            self.frames.insert(frame);
        }
    }

    /// A frame is where it was going. `is_home`: it entered there.
    pub(crate) fn arrives(&mut self, config: &Config, frame: Frame, is_home: bool, has_budget: bool) {
        let Frame { to, leg, path, .. } = frame;
        match leg {
            Leg::Down => {
                let Some(path) = self.claims(config, frame, is_home, has_budget) else { return };
                self.deliver(config, 0, path);
                match path.second {
                    Some(second) if second == to => self.deliver(config, 1, path),
                    Some(second) => self.carry(config, to, frame.owned(path).goes(second, Leg::Onward), true),
                    None => {}
                }
            }
            // The host of the last stage is the owner.
            Leg::Up if path.first == to => {
                let Some(path) = self.claims(config, frame, is_home, has_budget) else { return };
                self.deliver(config, 1, path);
                self.deliver(config, 0, path);
            }
            Leg::Onward | Leg::Up | Leg::Granted => match self.hop(config, frame) {
                Hop::Deliver => {
                    if frame.stamp == Stamp::Owner && self.node(to).lease != Some(path) {
                        self.node_mut(to).lease = Some(path);
                    }
                    self.deliver(config, 1, path);
                    if leg != Leg::Onward {
                        self.carry(config, to, frame.goes(path.first, Leg::Home), has_budget);
                    }
                }
                Hop::Ask => self.carry(config, to, frame.goes(path.first, Leg::Ask), has_budget),
                Hop::Refuse => {}
            },
            Leg::Ask => {
                let Some(path) = self.claims(config, frame, is_home, has_budget) else { return };
                let second = path.second.unwrap_or(path.first);
                self.carry(config, to, frame.owned(path).goes(second, Leg::Granted), true);
            }
            Leg::Home => {
                if let Some(path) = self.claims(config, frame, is_home, has_budget) {
                    self.deliver(config, 0, path);
                }
            }
        }
    }

    fn hop(&self, config: &Config, frame: Frame) -> Hop {
        let front_end = self.node(frame.to);
        let is_heeded = front_end.heeds[usize::from(frame.path.first)] || config.lacks(Mutant::DeadHeeded);
        match hop(front_end.member.rules(), is_heeded, front_end.lease == Some(frame.path), frame.stamp) {
            Hop::Ask if config.lacks(Mutant::HopUnasked) => Hop::Deliver,
            Hop::Ask if config.lacks(Mutant::HopFenced) => match self.claim(config, frame, false) {
                Claim::Record | Claim::Create => Hop::Deliver,
                Claim::Refuse(_) => Hop::Refuse,
            },
            hop => hop,
        }
    }

    /// A frame is at the owner of its path. The path it then takes, if it is not refused.
    fn claims(&mut self, config: &Config, frame: Frame, is_home: bool, has_budget: bool) -> Option<Path> {
        let owner = frame.to;
        let claim = self.claim(config, frame, is_home);
        match (claim, self.node(owner).record) {
            (Claim::Record, Some(record)) => {
                self.meets(owner);
                Some(record.path)
            }
            (Claim::Create, _) => {
                if has_budget {
                    self.node_mut(owner).record = Some(Record { path: frame.path, is_told: false, is_idle: false });
                    if self.due(config, owner) == Announce::AtOnce && !config.lacks(Mutant::OverlayNotAnnounced) {
                        self.announces(owner);
                    }
                }
                Some(frame.path)
            }
            (Claim::Record, None) => unreachable!("the rule says that there is a record"),
            (Claim::Refuse(refusal), _) => {
                if config.lossless {
                    self.breaks(Broken::Refused);
                }
                if let (Refusal::NoRecord, Some(from)) = (refusal, frame.from)
                    && from != owner
                    && self.node(from).is_alive
                {
                    self.send(owner, from, Message::Gone);
                }
                None
            }
        }
    }

    /// A frame meets the record of `node`, if there is one.
    fn meets(&mut self, node: Node) {
        if self.node(node).record.is_some_and(|record| record.is_idle)
            && let Some(record) = &mut self.node_mut(node).record
        {
            record.is_idle = false;
        }
    }

    fn claim(&self, config: &Config, frame: Frame, is_home: bool) -> Claim {
        let Frame { to, stamp, path, .. } = frame;
        let rules = match self.node(to).member.rules() {
            Rules::Flush { plan, next } if config.lacks(Mutant::NoFlush) => Rules::Hold { plan, next },
            rules => rules,
        };
        let pick = |number| self.pick(config, to, number);
        let is_down = |number| self.is_down(config, to, path.first, number) && !config.lacks(Mutant::DownServed);
        let is_unfenced = config.lacks(Mutant::NoFence) || is_home && config.lacks(Mutant::NoFenceAtHome);
        match claim(rules, &self.known(to), stamp, &path, pick, is_down) {
            Claim::Refuse(Refusal::Stale | Refusal::Unknown) if is_unfenced => Claim::Create,
            claim => claim,
        }
    }

    /// By when the record of `node` has to be announced.
    pub(crate) fn due(&self, config: &Config, node: Node) -> Announce {
        let front_end = self.node(node);
        let next = front_end.member.next().map(|next| next.generation);
        match (front_end.record, self.in_force(node)) {
            (Some(Record { path, is_told: false, .. }), Some(plan)) => {
                announce(path.first == node, plan, next, &path, |number| self.told(config, number))
            }
            _ => Announce::Never,
        }
    }

    /// The owner announces its record.
    pub(crate) fn announces(&mut self, node: Node) {
        if let Some(record) = &mut self.node_mut(node).record {
            record.is_told = true;
            let message = Message::Exception(record.path);
            self.tell(node, message);
        }
    }
}
