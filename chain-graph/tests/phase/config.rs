//! What a run of the model allows.

use crate::flow::{Node, Path};

/// Front ends.
pub(crate) const NODES: usize = 3;

/// One run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// Front ends that never were.
    pub(crate) absent: u8,
    /// The flow's path under each plan of the chain, in the order they are proposed.
    pub(crate) chain: Vec<Path>,
    /// How often a front end may die, and with it what it hosts.
    pub(crate) deaths: u8,
    /// How often a dead front end may come back.
    pub(crate) joins: u8,
    /// How often a change may be aborted.
    pub(crate) aborts: u8,
    /// How often the flow may end and its tuple be used again.
    pub(crate) reuses: u8,
    /// How often an agent may forget everything that its data path does not hold.
    pub(crate) restarts: u8,
    /// Whether exceptions may be sent before Flush.
    pub(crate) background: bool,
    /// Whether an owner may be out of budget when a record is due.
    pub(crate) stateless: bool,
    /// Whether a refused frame is a fault.
    pub(crate) lossless: bool,
    /// The instance that may fail while its host lives.
    pub(crate) overlay: Option<Overlay>,
    /// Whether front ends that do not own a flow remember the path they picked.
    pub(crate) caches: Caches,
    /// What is broken on purpose.
    pub(crate) lacking: Vec<Mutant>,
}

/// An instance that may crash, start again, and be declared down, rightly or wrongly.
#[derive(Clone, Debug)]
pub(crate) struct Overlay {
    /// Its host.
    pub(crate) host: Node,
    /// The flow's path under each plan of the chain if the instance is stepped over.
    pub(crate) spare: Vec<Path>,
    /// The first plan of the chain under which it is up again.
    pub(crate) up_from: usize,
    /// Whether its host hears first that it is down.
    pub(crate) host_first: bool,
}

/// Memory of front ends that do not own the flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Caches {
    /// None: the product.
    #[default]
    None,
    /// Paths that the next plan does not tell are forgotten at its commit.
    Dropped,
    /// Remembered for ever.
    Kept,
}

/// A part of the protocol that is missing. The switches are in the model: what ships has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// Unknown flows at risk are not parked.
    NoHold,
    /// Exceptions are sent in Prepare and never again; no fence before commit.
    NoFlush,
    /// An owner creates a record by whatever stamp.
    NoFence,
    /// An owner creates a record for whatever enters at itself.
    NoFenceAtHome,
    /// A member reports Flush before its peers have acknowledged.
    NoAcknowledgement,
    /// A front end joins without a snapshot of the exceptions.
    NoSynchronization,
    /// Every front end that knows a flow announces it, not only its owner.
    AnybodyAnnounces,
    /// Only the front end that picked the path announces it.
    PickerAnnounces,
    /// Messages of one front end to another overtake each other.
    Unordered,
    /// An owner creates a record by the word of a replica.
    ReplicaTrusted,
    /// The host of a later stage delivers without the owner's word.
    HopUnasked,
    /// The host of a later stage delivers without the owner's word what an owner would not refuse by its stamp.
    HopFenced,
    /// The owner's word outlives the record.
    LeaseOutlives,
    /// The word of an owner that is no member any more counts.
    DeadHeeded,
    /// A record that was picked around a failure waits for the next change.
    OverlayNotAnnounced,
    /// A host creates records of its own instance that is down.
    DownServed,
}

impl Config {
    /// One chain, nothing else happens.
    pub(crate) fn new(chain: impl IntoIterator<Item = Path>) -> Self {
        Self { chain: chain.into_iter().collect(), ..Self::default() }
    }

    pub(crate) fn deaths(self, deaths: u8) -> Self {
        Self { deaths, ..self }
    }

    pub(crate) fn joins(self, joins: u8) -> Self {
        Self { joins, ..self }
    }

    pub(crate) fn aborts(self, aborts: u8) -> Self {
        Self { aborts, ..self }
    }

    pub(crate) fn reuses(self, reuses: u8) -> Self {
        Self { reuses, ..self }
    }

    pub(crate) fn restarts(self, restarts: u8) -> Self {
        Self { restarts, ..self }
    }

    pub(crate) fn background(self) -> Self {
        Self { background: true, ..self }
    }

    pub(crate) fn absent(self, absent: u8) -> Self {
        Self { absent, ..self }
    }

    pub(crate) fn stateless(self) -> Self {
        Self { stateless: true, ..self }
    }

    pub(crate) fn lossless(self) -> Self {
        Self { lossless: true, ..self }
    }

    pub(crate) fn overlay(self, overlay: Overlay) -> Self {
        Self { overlay: Some(overlay), ..self }
    }

    pub(crate) fn caches(self, caches: Caches) -> Self {
        Self { caches, ..self }
    }

    pub(crate) fn without(mut self, mutant: Mutant) -> Self {
        self.lacking.push(mutant);
        self
    }

    /// Whether this is missing.
    pub(crate) fn lacks(&self, mutant: Mutant) -> bool {
        self.lacking.contains(&mutant)
    }

    /// Whether the path has two stages.
    pub(crate) fn has_two_stages(&self) -> bool {
        self.chain.iter().any(|path| path.second.is_some())
    }
}
