//! What happens besides frames and orders.

use crate::config::{Config, NODES};
use crate::flow::{Flow, Leg, Message, Node};
use crate::world::{FrontEnd, Record, World};
use std::sync::Arc;

impl World {
    /// A message arrives.
    pub(crate) fn receives(&mut self, from: Node, to: Node, index: usize) {
        let message = self.stream_mut(from, to).remove(index);
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
    pub(crate) fn ends(&mut self) {
        self.reuses += 1;
        self.frames.clear();
        self.flow = Flow::default();
        for node in 0..NODES as Node {
            if let Some(record) = &mut self.node_mut(node).record {
                record.is_idle = true;
            }
        }
    }

    /// The owner has seen no frame for the idle time, which ends a flow. It is longer than a lease and the way here: what a
    /// lease let pass before has arrived or is lost.
    pub(crate) fn expires(&mut self, node: Node) {
        self.frames.retain(|frame| frame.leg != Leg::Home);
        if self.flow.home[0].is_none() {
            self.flow = Flow { is_dead: self.flow.is_dead, ..Flow::default() };
        }
        self.withdraws(node);
    }

    /// The record goes.
    fn withdraws(&mut self, node: Node) {
        if let Some(record) = self.node_mut(node).record.take()
            && record.is_told
        {
            self.tell(node, Message::Gone);
        }
    }

    /// The instance fails, and with it a flow that it was in; the next frame is another flow's.
    pub(crate) fn crashes(&mut self, config: &Config) {
        self.is_crashed = true;
        self.loses(config);
    }

    /// A front end hears that the instance is down. For the first one that hears, flows that it was in are over.
    pub(crate) fn learns(&mut self, config: &Config, node: Node) {
        if !self.nodes.iter().any(|front_end| front_end.knows_down) {
            self.loses(config);
        }
        let Some(overlay) = &config.overlay else { return };
        let front_end = self.node_mut(node);
        front_end.knows_down = true;
        front_end.exception = front_end.exception.filter(|path| path.first != overlay.host);
        if node == overlay.host {
            self.withdraws(node);
        }
    }

    fn loses(&mut self, config: &Config) {
        let host = config.overlay.as_ref().map(|overlay| overlay.host);
        if self.flow.home[0] == host {
            self.flow = Flow::default();
        }
    }

    /// Nothing is promised to a dead flow: it is left out, the protocol goes on.
    pub(crate) fn bury(&mut self) {
        self.frames.clear();
        self.flow = Flow { is_dead: true, ..Flow::default() };
        self.streams = Arc::default();
        (0..NODES as Node).for_each(|node| self.node_mut(node).clear());
    }
}
