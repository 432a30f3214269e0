//! The flow, its path, and what travels for it.

use chain_graph::phase::forward::Stamp;

/// A front end, by its index.
pub(crate) type Node = u8;

/// The hosts of the path's instances, from the clients' side. The instance of a stage on a host has the host's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Path {
    /// Host of the first stage, and so the owner.
    pub(crate) first: Node,
    /// Host of the second stage, if there is one.
    pub(crate) second: Option<Node>,
}

impl Path {
    /// One stage.
    pub(crate) const fn one(first: Node) -> Self {
        Self { first, second: None }
    }

    /// Two stages.
    pub(crate) const fn two(first: Node, second: Node) -> Self {
        Self { first, second: Some(second) }
    }

    /// Whether one of its instances is on this host.
    pub(crate) fn has(self, node: Node) -> bool {
        self.first == node || self.second == Some(node)
    }

    /// Host of a stage.
    pub(crate) fn stage(self, stage: usize) -> Option<Node> {
        if stage == 0 { Some(self.first) } else { self.second }
    }
}

/// A frame's way through the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Leg {
    /// From the clients' side, to the owner.
    Down,
    /// From the owner, to the second stage.
    Onward,
    /// From the servers' side, to the last stage.
    Up,
    /// From the second stage to the owner, for its word.
    Ask,
    /// From the owner to the second stage, with its word.
    Granted,
    /// From the second stage, which has delivered it, to the owner.
    Home,
}

/// A frame between two front ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Frame {
    /// Where it goes.
    pub(crate) to: Node,
    /// Where it entered, if that front end may have to be told to forget an exception.
    pub(crate) from: Option<Node>,
    /// Which part of the way.
    pub(crate) leg: Leg,
    /// By whose word.
    pub(crate) stamp: Stamp,
    /// The path it carries.
    pub(crate) path: Path,
}

impl Frame {
    /// The same frame on its next part of the way.
    pub(crate) fn goes(self, to: Node, leg: Leg) -> Self {
        Self { to, leg, ..self }
    }

    /// The same frame with the owner's word for a path.
    pub(crate) fn owned(self, path: Path) -> Self {
        Self { from: None, stamp: Stamp::Owner, path, ..self }
    }
}

/// A message on the stream of an owner to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Message {
    /// The flow has this path.
    Exception(Path),
    /// The owner has no record of the flow.
    Gone,
}

/// What the flow has seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Flow {
    /// The instance its first frame was delivered to, by stage.
    pub(crate) home: [Option<Node>; 2],
    /// The path of its first frame.
    pub(crate) path: Option<Path>,
    /// The first plan of the chain that its last frame may have been picked by; counts for flows without a record only.
    pub(crate) content: u8,
    /// Whether one of its instances died, and the flow with it.
    pub(crate) is_dead: bool,
}
