//! The seams of the core: what it reads and writes. Implemented over kernel maps by the programs, over plain memory on
//! the host.

use crate::frame::Frame;
use xdp_layout::cache::{CacheConfig, CachedPath, PortWord};
use xdp_layout::config::Config;
use xdp_layout::event::EventKind;
use xdp_layout::flow::{FlowKey, FlowRecord, FragmentKey, FragmentPorts, Neighbour, NeighbourKey, Note, NoteKey};
use xdp_layout::plan::{
    ActiveWord, Edge, GraphWord, Node, NodeKey, OriginKey, OutsideKey, OutsideOwners, RouteKey, TableWord, View,
    ViewKey,
};
use xdp_layout::port::{FrontEnd, Instance, OwnedKey, Port, PortKey, TagKey, Target};
use xdp_layout::{Addr, AttachmentId, Counter, DropReason, GraphId, InstanceId, NodeId, ReplicaSetId};

/// One round of a bounded loop whose body the kernel verifies once (`bpf_loop`).
pub trait Round {
    /// Runs a round; false ends the loop.
    fn round(&mut self) -> bool;
}

/// The instance that owns `port` among the owners of an outside address.
#[inline(always)]
pub fn owner(owners: &OutsideOwners, port: u16) -> Option<InstanceId> {
    let mut owner = 0;
    for range in &owners.ranges {
        if range.instance != 0 && range.low <= port && port <= range.high {
            owner = range.instance;
        }
    }
    InstanceId::new(owner)
}

/// Everything a new flow's path depends on: one immutable plan at a time, chosen by [`active`](Self::active).
/// [`crate::recompute`] is a pure function of these.
pub trait PlanTables {
    /// The plan in force. Read once per frame; the other methods take it, so that one frame sees one plan.
    fn active(&self) -> ActiveWord;
    /// The key of instance selection and canary cohorts: the cluster seed.
    fn flow_hash_key(&self) -> [u64; 2];
    /// A graph's active views in that plan.
    fn graph(&self, plan: ActiveWord, graph: GraphId) -> GraphWord;
    /// A replica set's table in that plan.
    fn table(&self, plan: ActiveWord, set: ReplicaSetId) -> TableWord;
    /// The u16 at `index` of the table pages: a member index, or behind the table a member's instance id.
    fn page_entry(&self, index: u32) -> Option<u16>;
    /// The view in a slot.
    fn view(&self, slot: u32) -> Option<View>;
    /// The slot of a view that is installed, active or not.
    fn view_slot(&self, key: ViewKey) -> Option<u32>;
    /// A node by index.
    fn node(&self, index: u32) -> Option<Node>;
    /// The index of a replica set's node in a view.
    fn node_of(&self, key: NodeKey) -> Option<u32>;
    /// An edge by index.
    fn edge(&self, index: u32) -> Option<Edge>;
    /// The attachment that takes an address.
    fn route(&self, key: RouteKey) -> Option<AttachmentId>;
    /// The owner of a port of an outside address, by [`owner`].
    fn outside(&self, key: OutsideKey, port: u16) -> Option<InstanceId>;
    /// Whether an address lies in some outside block, whichever ports.
    fn is_outside(&self, key: OutsideKey) -> bool;
    /// The graph in which a tuple-making replica set continues.
    fn origin(&self, key: OriginKey) -> Option<GraphId>;
    /// Whether an instance exists and is not declared down.
    fn is_live(&self, instance: InstanceId) -> bool;
    /// The replica set of an instance.
    fn replica_set_of(&self, instance: InstanceId) -> Option<ReplicaSetId>;
    /// Runs `rounds` until one says stop, at most `max` times.
    fn repeat<R: Round>(&self, max: u32, rounds: &mut R) {
        for _ in 0..max {
            if !rounds.round() {
                return;
            }
        }
    }
}

/// A record found in the connection table. It may be recycled under the reader's hands, see [`FlowRecord`].
pub trait FlowRef {
    /// Copies the record.
    fn load(&self, into: &mut FlowRecord);
    /// Writes the time of the last frame.
    fn touch(&self, now: u32);
    /// Replaces the state word if it is still `old`.
    fn swap_state(&self, old: u32, new: u32) -> bool;
    /// Replaces the time of the last frame if it is still `old`.
    fn swap_seen(&self, old: u32, new: u32) -> bool;
}

/// A set of the path cache. Ways are 0 to 7.
pub trait SetRef {
    /// Reads an entry.
    fn load(&self, way: usize) -> u64;
    /// Writes an entry.
    fn store(&self, way: usize, entry: u64);
    /// Replaces an entry if it is still `old`, and then lets nothing that follows happen before it.
    fn swap(&self, way: usize, old: u64, new: u64) -> bool;
}

/// How an insert into the connection table ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Inserted {
    /// Written.
    Yes,
    /// Another CPU was first.
    Exists,
    /// No room.
    Full,
}

/// An event without its frame, see [`xdp_layout::event::Event`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice {
    /// What it asks for.
    pub kind: EventKind,
    /// The tenant.
    pub tenant: u32,
    /// [`xdp_layout::event::Event::element`].
    pub element: u32,
    /// Depends on the kind.
    pub value: u32,
    /// The address it is about.
    pub addr: Addr,
}

/// What a view on trial is judged by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observed {
    /// A record was written, not for TCP.
    Flow,
    /// A record was written for TCP.
    TcpFlow,
    /// A TCP flow's record was closed by a RST.
    Reset,
    /// A frame went on to the next element.
    Frame,
    /// A frame was dropped on its way there.
    DroppedFrame,
}

/// Which usage counter of a tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// Records that have seen one direction.
    Unanswered,
    /// Records that have seen both.
    Established,
}

/// All tables of a front end.
pub trait Tables: PlanTables {
    /// Handle of a record.
    type Flow: FlowRef;
    /// Handle of a set of the path cache.
    type Set: SetRef;

    /// The configuration; `None` before it was written.
    fn config(&self) -> Option<Config>;
    /// The MAC address the front end answers with.
    fn mac(&self) -> [u8; 6];
    /// What arrives there.
    fn port(&self, key: PortKey) -> Option<Port>;
    /// An attachment as destination.
    fn attachment(&self, id: AttachmentId) -> Option<&Target>;
    /// An instance as destination.
    fn instance(&self, id: InstanceId) -> Option<&Instance>;
    /// A tenant's VLAN tag at a shared instance.
    fn tag(&self, key: TagKey) -> Option<u16>;
    /// Whether the front end answers for this address.
    fn owns(&self, key: OwnedKey) -> bool;
    /// Another front end.
    fn front_end(&self, id: NodeId) -> Option<FrontEnd>;
    /// The front end that has this underlay address.
    fn sender(&self, addr: Addr) -> Option<NodeId>;

    /// Key of the record tags.
    fn tag_key(&self) -> u64;
    /// The flow's record.
    fn flow(&self, key: &FlowKey) -> Option<Self::Flow>;
    /// Writes a record unless there is one.
    fn flow_insert(&self, key: &FlowKey, record: &FlowRecord) -> Inserted;
    /// Overwrites a record that this CPU has claimed ([`xdp_layout::flow::FlowState::Dead`]).
    fn flow_replace(&self, key: &FlowKey, record: &FlowRecord) -> bool;
    /// Deletes a record that this CPU has claimed.
    fn flow_delete(&self, key: &FlowKey) -> bool;
    /// How the path cache is used; `None` if it is not.
    fn cache(&self) -> Option<&CacheConfig>;
    /// A set of the path cache.
    fn cache_set(&self, index: u32) -> Option<Self::Set>;
    /// A cached path; `None`, or one without flags, if the element is free.
    fn path(&self, index: u32) -> Option<&CachedPath>;
    /// Writes a path into a free element, 1 to 8191; false if another CPU was first.
    fn path_put(&self, index: u32, path: &CachedPath) -> bool;
    /// The port at the place of an interface, which may be another's.
    fn port_word(&self, ifindex: u32) -> PortWord;
    /// Takes one from a tenant's budget; false if it is used up or the tenant is unknown.
    fn usage_take(&self, tenant: u32, usage: Usage) -> bool;
    /// Gives one back.
    fn usage_give(&self, tenant: u32, usage: Usage);

    /// What the first fragment of a datagram said.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts>;
    /// Remembers a first fragment.
    fn fragment_put(&self, key: &FragmentKey, ports: &FragmentPorts);
    /// The inside flow of a note.
    fn note(&self, key: &NoteKey) -> Option<Note>;
    /// Leaves a note.
    fn note_put(&self, key: &NoteKey, note: &Note);
    /// A host's MAC address.
    fn neighbour(&self, key: &NeighbourKey) -> Option<Neighbour>;
    /// Remembers a host's MAC address.
    fn neighbour_put(&self, key: &NeighbourKey, neighbour: &Neighbour);

    /// Adds 1 to a counter.
    fn count(&self, counter: Counter);
    /// Adds 1 to a drop counter, and to the tenant's where there is one.
    fn count_drop(&self, reason: DropReason, tenant: u32);
    /// Counts a frame of `bytes` delivered to an instance.
    fn count_instance(&self, instance: InstanceId, bytes: u32);
    /// Counts what a flow of a view met, if that view is on trial.
    fn count_view(&self, key: ViewKey, observed: Observed);
    /// Tells the agent, with the first bytes of the frame; lost (and harmless) when the ring is full.
    fn emit<F: Frame>(&self, notice: &Notice, frame: &F);
}
