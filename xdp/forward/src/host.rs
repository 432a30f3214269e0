//! The core's seams over plain memory: for tests, `explain` and fuzzing.

use crate::frame::Frame;
use crate::tables::{FlowRef, Inserted, Notice, Observed, PlanTables, SetRef, Tables, Usage, owner};
use std::boxed::Box;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;
use xdp_layout::cache::{CACHED_PATHS, CacheConfig, CacheSet, CachedPath, PortWord};
use xdp_layout::config::Config;
use xdp_layout::event::{Traffic, ViewTraffic};
use xdp_layout::flow::{FlowKey, FlowRecord, FragmentKey, FragmentPorts, Neighbour, NeighbourKey, Note, NoteKey};
use xdp_layout::plan::{
    ActiveWord, BANK_WORDS, Edge, GraphWord, Node, NodeKey, OUTSIDE_KEY_FIXED_BITS, OriginKey, OutsideKey,
    OutsideOwners, REPLICA_SETS_MAX, ROUTE_KEY_FIXED_BITS, RouteKey, TableWord, View, ViewKey,
};
use xdp_layout::port::{
    FrontEnd, Instance, OwnedKey, Port, PortKey, TagKey, Target, Tenant, instance_traits, target_flags,
};
use xdp_layout::{Addr, AttachmentId, Counter, DropReason, GraphId, InstanceId, NodeId, ReplicaSetId};
use zerocopy::IntoBytes;

/// A frame in a byte vector; its tag, if any, in the bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostFrame {
    /// The bytes as on the wire, VLAN tag included.
    pub bytes: Vec<u8>,
    /// What [`Frame::gso_size`] says.
    pub gso_size: u32,
}

impl HostFrame {
    /// A frame of these bytes without segmentation offload.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), gso_size: 0 }
    }

    fn has_tag(&self) -> bool {
        self.bytes.len() >= 18 && self.bytes[12..14] == [0x81, 0]
    }
}

impl Frame for HostFrame {
    fn len(&self) -> u32 {
        let tag = if self.has_tag() { 4 } else { 0 };
        (self.bytes.len() - tag) as u32
    }

    fn gso_size(&self) -> u32 {
        self.gso_size
    }

    fn vlan(&self) -> u16 {
        if self.has_tag() { u16::from_be_bytes([self.bytes[14], self.bytes[15]]) & 0xfff } else { 0 }
    }

    fn untag(&mut self) -> bool {
        if self.has_tag() {
            self.bytes.drain(12..16);
        }
        true
    }

    fn tag(&mut self, vlan: u16) -> bool {
        if self.bytes.len() < 14 {
            return false;
        }
        let [high, low] = vlan.to_be_bytes();
        self.bytes.splice(12..12, [0x81, 0, high, low]);
        true
    }

    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.get(offset..offset + N)?.try_into().ok()
    }

    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let bytes = self.bytes.get(offset..offset + 4 * N)?;
        Some(core::array::from_fn(|i| {
            u32::from_ne_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
        }))
    }

    fn words_at<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        self.words(offset as usize)
    }

    fn load_at<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.load(offset as usize)
    }

    fn head<const N: usize>(&self, into: &mut [u8; N]) {
        let len = self.bytes.len().min(N);
        into[..len].copy_from_slice(&self.bytes[..len]);
    }

    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> bool {
        match self.bytes.get_mut(offset..offset + N) {
            Some(place) => {
                place.copy_from_slice(&bytes);
                true
            }
            None => false,
        }
    }

    fn pull<const COUNT: usize>(&mut self) -> bool {
        if self.bytes.len() < COUNT {
            return false;
        }
        self.bytes.drain(..COUNT);
        true
    }

    fn push<const COUNT: usize>(&mut self, bytes: &[u8; COUNT]) -> bool {
        self.bytes.splice(0..0, bytes.iter().copied());
        true
    }

    fn resize(&mut self, len: u32) -> bool {
        self.bytes.resize(len as usize, 0);
        true
    }
}

/// A record on the host.
pub struct HostFlow {
    flows: Rc<RefCell<BTreeMap<Vec<u8>, FlowRecord>>>,
    key: Vec<u8>,
    interrupt: Rc<Interrupt>,
}

impl FlowRef for HostFlow {
    fn load(&self, into: &mut FlowRecord) {
        self.interrupt.access();
        *into = self.flows.borrow().get(&self.key).copied().unwrap_or_default();
    }

    fn touch(&self, now: u32) {
        self.interrupt.access();
        if let Some(record) = self.flows.borrow_mut().get_mut(&self.key) {
            record.last_seen = now;
        }
    }

    fn swap_seen(&self, old: u32, new: u32) -> bool {
        self.interrupt.access();
        match self.flows.borrow_mut().get_mut(&self.key) {
            Some(record) if record.last_seen == old => {
                record.last_seen = new;
                true
            }
            _ => false,
        }
    }

    fn swap_state(&self, old: u32, new: u32) -> bool {
        self.interrupt.access();
        match self.flows.borrow_mut().get_mut(&self.key) {
            Some(record) if record.state == old => {
                record.state = new;
                true
            }
            _ => false,
        }
    }
}

/// Another CPU, for tests: what it does happens at once, before the n-th access to a record or to the path cache.
#[derive(Default)]
pub struct Interrupt {
    accesses: Cell<u32>,
    action: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl Interrupt {
    /// Lets `action` happen before the access with this number, from 1 on.
    pub fn before(&self, access: u32, action: impl FnOnce() + 'static) {
        self.accesses.set(access);
        *self.action.borrow_mut() = Some(Box::new(action));
    }

    /// Whether nothing is to happen any more.
    pub fn has_happened(&self) -> bool {
        self.action.borrow().is_none()
    }

    fn access(&self) {
        let left = self.accesses.get();
        self.accesses.set(left.saturating_sub(1));
        if left == 1 {
            let action = self.action.borrow_mut().take();
            action.into_iter().for_each(|action| action());
        }
    }
}

/// A set of the path cache on the host.
pub struct HostSet {
    sets: Rc<RefCell<BTreeMap<u32, CacheSet>>>,
    index: u32,
    interrupt: Rc<Interrupt>,
}

impl SetRef for HostSet {
    fn load(&self, way: usize) -> u64 {
        self.interrupt.access();
        self.sets.borrow().get(&self.index).map_or(0, |set| set[way])
    }
    fn store(&self, way: usize, entry: u64) {
        self.interrupt.access();
        self.sets.borrow_mut().entry(self.index).or_default()[way] = entry;
    }
    fn swap(&self, way: usize, old: u64, new: u64) -> bool {
        self.interrupt.access();
        let mut sets = self.sets.borrow_mut();
        let place = &mut sets.entry(self.index).or_default()[way];
        if *place == old {
            *place = new;
            return true;
        }
        false
    }
}

/// The cached paths on the host: none is changed once it is there.
#[derive(Default)]
pub struct Paths(OnceCell<Vec<OnceCell<CachedPath>>>);

impl Paths {
    fn all(&self) -> &[OnceCell<CachedPath>] {
        self.0.get_or_init(|| std::vec![OnceCell::new(); CACHED_PATHS as usize])
    }
}

type Cells<K, V> = RefCell<BTreeMap<K, V>>;

/// All tables in memory. Fields are the maps of [`xdp_layout::names`]; fill them directly.
#[derive(Default)]
#[allow(missing_docs, reason = "each field is the map of its name in xdp_layout::names")]
pub struct HostTables {
    pub config: Option<Config>,
    pub active: ActiveWord,
    pub ports: BTreeMap<(u32, u32), Port>,
    pub attachments: BTreeMap<u16, Target>,
    pub instances: BTreeMap<u16, Instance>,
    pub tags: BTreeMap<(u32, u32), u16>,
    pub owned: BTreeMap<(u32, [u8; 16]), ()>,
    pub tenants: BTreeMap<u32, Tenant>,
    pub usage: Cells<u32, xdp_layout::port::Usage>,
    pub front_ends: BTreeMap<u16, FrontEnd>,
    pub senders: BTreeMap<[u8; 16], NodeId>,
    pub plan: BTreeMap<u32, u64>,
    pub views: BTreeMap<u32, View>,
    pub view_slots: BTreeMap<(u32, u32), u32>,
    pub nodes: BTreeMap<u32, Node>,
    pub node_of: BTreeMap<(u32, u32), u32>,
    pub edges: BTreeMap<u32, Edge>,
    pub pages: Vec<u16>,
    pub routes: Vec<(u32, RouteKey, AttachmentId)>,
    pub outside: Vec<(u32, OutsideKey, OutsideOwners)>,
    pub origins: BTreeMap<(u32, u32), GraphId>,
    pub flows: Rc<RefCell<BTreeMap<Vec<u8>, FlowRecord>>>,
    pub flows_max: usize,
    pub cache_config: Option<CacheConfig>,
    pub cache: Rc<RefCell<BTreeMap<u32, CacheSet>>>,
    pub paths: Paths,
    pub interrupt: Rc<Interrupt>,
    pub fragments: Cells<Vec<u8>, FragmentPorts>,
    pub notes: Cells<Vec<u8>, Note>,
    pub neighbours: Cells<Vec<u8>, Neighbour>,
    pub drops: Cells<DropReason, u64>,
    pub tenant_drops: Cells<(u32, DropReason), u64>,
    pub counters: Cells<Counter, u64>,
    pub traffic: Cells<u16, Traffic>,
    /// Only views on trial have an entry.
    pub view_traffic: Cells<(u32, u32), ViewTraffic>,
    pub events: RefCell<Vec<Notice>>,
}

/// Whether the first `bits` bits of two byte strings agree.
fn same_prefix(bits: u32, a: &[u8], b: &[u8]) -> bool {
    (0..bits as usize).all(|bit| (a[bit / 8] ^ b[bit / 8]) & (0x80 >> (bit % 8)) == 0)
}

impl HostTables {
    /// The owners of the longest outside prefix that holds an address.
    fn owners(&self, key: OutsideKey) -> Option<&OutsideOwners> {
        let matching = self
            .outside
            .iter()
            .filter(|(bits, block, _)| same_prefix(OUTSIDE_KEY_FIXED_BITS + bits, block.as_bytes(), key.as_bytes()));
        matching.max_by_key(|(bits, ..)| *bits).map(|(.., owners)| owners)
    }
}

impl PlanTables for HostTables {
    fn active(&self) -> ActiveWord {
        self.active
    }
    fn flow_hash_key(&self) -> [u64; 2] {
        self.config.unwrap_or_default().flow_key
    }
    fn graph(&self, plan: ActiveWord, graph: GraphId) -> GraphWord {
        let index = plan.bank() * BANK_WORDS + REPLICA_SETS_MAX + graph.get() as u32;
        GraphWord(self.plan.get(&index).copied().unwrap_or(0))
    }
    fn table(&self, plan: ActiveWord, set: ReplicaSetId) -> TableWord {
        TableWord(self.plan.get(&(plan.bank() * BANK_WORDS + set.get() as u32)).copied().unwrap_or(0))
    }
    fn page_entry(&self, index: u32) -> Option<u16> {
        self.pages.get(index as usize).copied()
    }
    fn view(&self, slot: u32) -> Option<View> {
        self.views.get(&slot).copied()
    }
    fn view_slot(&self, key: ViewKey) -> Option<u32> {
        self.view_slots.get(&(key.tenant, key.view)).copied()
    }
    fn node(&self, index: u32) -> Option<Node> {
        self.nodes.get(&index).copied()
    }
    fn node_of(&self, key: NodeKey) -> Option<u32> {
        self.node_of.get(&(key.view_slot, key.position_or_set)).copied()
    }
    fn edge(&self, index: u32) -> Option<Edge> {
        self.edges.get(&index).copied()
    }
    fn route(&self, key: RouteKey) -> Option<AttachmentId> {
        let matching = self
            .routes
            .iter()
            .filter(|(bits, route, _)| same_prefix(ROUTE_KEY_FIXED_BITS + bits, route.as_bytes(), key.as_bytes()));
        matching.max_by_key(|(bits, ..)| *bits).map(|(.., attachment)| *attachment)
    }
    fn outside(&self, key: OutsideKey, port: u16) -> Option<InstanceId> {
        owner(self.owners(key)?, port)
    }
    fn is_outside(&self, key: OutsideKey) -> bool {
        self.owners(key).is_some()
    }
    fn origin(&self, key: OriginKey) -> Option<GraphId> {
        self.origins.get(&(key.tenant, key.replica_set)).copied()
    }
    fn is_live(&self, instance: InstanceId) -> bool {
        self.instances
            .get(&instance.get())
            .is_some_and(|i| i.traits & instance_traits::DOWN == 0 && i.ports[0].flags & target_flags::EXISTS != 0)
    }
    fn replica_set_of(&self, instance: InstanceId) -> Option<ReplicaSetId> {
        self.instances.get(&instance.get()).and_then(|i| ReplicaSetId::new(i.replica_set))
    }
}

impl Tables for HostTables {
    type Flow = HostFlow;
    type Set = HostSet;

    fn config(&self) -> Option<Config> {
        self.config
    }
    fn mac(&self) -> [u8; 6] {
        self.config.unwrap_or_default().mac
    }
    fn port(&self, key: PortKey) -> Option<Port> {
        self.ports.get(&(key.ifindex, key.vlan)).copied()
    }
    fn attachment(&self, id: AttachmentId) -> Option<&Target> {
        self.attachments.get(&id.get())
    }
    fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(&id.get())
    }
    fn tag(&self, key: TagKey) -> Option<u16> {
        self.tags.get(&(key.tenant, key.instance)).copied()
    }
    fn owns(&self, key: OwnedKey) -> bool {
        self.owned.contains_key(&(key.tenant, key.addr.0))
    }
    fn front_end(&self, id: NodeId) -> Option<FrontEnd> {
        self.front_ends.get(&id.get()).copied()
    }
    fn sender(&self, addr: Addr) -> Option<NodeId> {
        self.senders.get(&addr.0).copied()
    }
    fn tag_key(&self) -> u64 {
        self.config.unwrap_or_default().tag_key
    }
    fn flow(&self, key: &FlowKey) -> Option<HostFlow> {
        self.interrupt.access();
        let key = key.as_bytes().to_vec();
        let flow =
            || HostFlow { flows: Rc::clone(&self.flows), key: key.clone(), interrupt: Rc::clone(&self.interrupt) };
        self.flows.borrow().contains_key(&key).then(flow)
    }
    fn flow_insert(&self, key: &FlowKey, record: &FlowRecord) -> Inserted {
        self.interrupt.access();
        let mut flows = self.flows.borrow_mut();
        let key = key.as_bytes().to_vec();
        if flows.contains_key(&key) {
            return Inserted::Exists;
        }
        if flows.len() >= self.flows_max {
            return Inserted::Full;
        }
        flows.insert(key, *record);
        Inserted::Yes
    }
    fn flow_replace(&self, key: &FlowKey, record: &FlowRecord) -> bool {
        self.interrupt.access();
        match self.flows.borrow_mut().get_mut(key.as_bytes()) {
            Some(place) => {
                *place = *record;
                true
            }
            None => false,
        }
    }
    fn flow_delete(&self, key: &FlowKey) -> bool {
        self.interrupt.access();
        self.flows.borrow_mut().remove(key.as_bytes()).is_some()
    }
    fn cache(&self) -> Option<&CacheConfig> {
        self.cache_config.as_ref().filter(|config| config.sets_mask != 0)
    }
    fn cache_set(&self, index: u32) -> Option<HostSet> {
        Some(HostSet { sets: Rc::clone(&self.cache), index, interrupt: Rc::clone(&self.interrupt) })
    }
    fn path(&self, index: u32) -> Option<&CachedPath> {
        self.interrupt.access();
        self.paths.all().get(index as usize)?.get()
    }
    fn path_put(&self, index: u32, path: &CachedPath) -> bool {
        self.interrupt.access();
        self.paths.all().get(index as usize).is_some_and(|place| place.set(*path).is_ok())
    }
    fn port_word(&self, ifindex: u32) -> PortWord {
        let key = PortKey { ifindex, vlan: 0 };
        self.port(key).map_or(PortWord(0), |port| PortWord::new(key, &port))
    }
    fn usage_take(&self, tenant: u32, usage: Usage) -> bool {
        let Some(budget) = self.tenants.get(&tenant) else {
            return false;
        };
        let mut records = self.usage.borrow_mut();
        let used = records.entry(tenant).or_default();
        let (counter, max) = match usage {
            Usage::Unanswered => (&mut used.unanswered, budget.unanswered_max),
            Usage::Established => (&mut used.established, budget.established_max),
        };
        if *counter >= max {
            return false;
        }
        *counter += 1;
        true
    }
    fn usage_give(&self, tenant: u32, usage: Usage) {
        if let Some(used) = self.usage.borrow_mut().get_mut(&tenant) {
            match usage {
                Usage::Unanswered => used.unanswered -= 1,
                Usage::Established => used.established -= 1,
            }
        }
    }
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        self.fragments.borrow().get(key.as_bytes()).copied()
    }
    fn fragment_put(&self, key: &FragmentKey, ports: &FragmentPorts) {
        self.fragments.borrow_mut().insert(key.as_bytes().to_vec(), *ports);
    }
    fn note(&self, key: &NoteKey) -> Option<Note> {
        self.notes.borrow().get(key.as_bytes()).copied()
    }
    fn note_put(&self, key: &NoteKey, note: &Note) {
        self.notes.borrow_mut().insert(key.as_bytes().to_vec(), *note);
    }
    fn neighbour(&self, key: &NeighbourKey) -> Option<Neighbour> {
        self.neighbours.borrow().get(key.as_bytes()).copied()
    }
    fn neighbour_put(&self, key: &NeighbourKey, neighbour: &Neighbour) {
        self.neighbours.borrow_mut().insert(key.as_bytes().to_vec(), *neighbour);
    }
    fn count(&self, counter: Counter) {
        *self.counters.borrow_mut().entry(counter).or_default() += 1;
    }
    fn count_drop(&self, reason: DropReason, tenant: u32) {
        *self.drops.borrow_mut().entry(reason).or_default() += 1;
        if tenant != 0 {
            *self.tenant_drops.borrow_mut().entry((tenant, reason)).or_default() += 1;
        }
    }
    fn count_instance(&self, instance: InstanceId, bytes: u32) {
        let mut traffic = self.traffic.borrow_mut();
        let entry = traffic.entry(instance.get()).or_default();
        entry.frames += 1;
        entry.bytes += bytes as u64;
    }
    fn count_view(&self, key: ViewKey, observed: Observed) {
        let mut traffic = self.view_traffic.borrow_mut();
        let Some(entry) = traffic.get_mut(&(key.tenant, key.view)) else {
            return;
        };
        match observed {
            Observed::Flow => entry.flows += 1,
            Observed::TcpFlow => {
                entry.flows += 1;
                entry.tcp_flows += 1;
            }
            Observed::Reset => entry.tcp_resets += 1,
            Observed::Frame => entry.frames += 1,
            Observed::DroppedFrame => {
                entry.frames += 1;
                entry.dropped += 1;
            }
        }
    }
    fn emit<F: Frame>(&self, notice: &Notice, _frame: &F) {
        self.events.borrow_mut().push(*notice);
    }
}
