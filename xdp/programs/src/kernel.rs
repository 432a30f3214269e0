//! The core's tables over kernel maps.

use crate::maps::*;
use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::maps::lpm_trie::Key;
use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};
use core::ptr;
use xdp_forward::frame::Frame;
use xdp_forward::tables::{FlowRef, Inserted, Notice, Observed, PlanTables, Round, SetRef, Tables, Usage, owner};
use xdp_layout::cache::{CacheConfig, CacheSet, CachedPath, PortWord};
use xdp_layout::config::{Config, MAGIC};
use xdp_layout::event::{EVENT_FRAME, Event, TenantDropKey};
use xdp_layout::flow::{FlowKey, FlowRecord, FragmentKey, FragmentPorts, Neighbour, NeighbourKey, Note, NoteKey};
use xdp_layout::plan::{
    ActiveWord, BANK_WORDS, Edge, GraphWord, Node, NodeKey, OUTSIDE_KEY_FIXED_BITS, OriginKey, OutsideKey, PAGE_SLOTS,
    REPLICA_SETS_MAX, ROUTE_KEY_FIXED_BITS, RouteKey, TableWord, View, ViewKey,
};
use xdp_layout::port::{FrontEnd, Instance, OwnedKey, Port, PortKey, TagKey, Target, instance_traits, target_flags};
use xdp_layout::{Addr, AttachmentId, Counter, DropReason, GraphId, InstanceId, NodeId, ReplicaSetId};

/// `E2BIG`: the map is full.
const E2BIG: i32 = -7;
/// `EEXIST`.
const EEXIST: i32 = -17;

/// First word of a cached path that is not there yet; no path has it.
const BEING_WRITTEN: u64 = u64::MAX;

/// The kernel's maps. Without data: the maps are statics.
pub struct Kernel;

/// A record in the kernel's hash; may be recycled, see [`FlowRecord`].
pub struct KernelFlow(*mut FlowRecord);

impl FlowRef for KernelFlow {
    #[inline(always)]
    fn load(&self, into: &mut FlowRecord) {
        let (from, into) = (self.0.cast::<u64>(), (&raw mut *into).cast::<u64>());
        let mut word = 0;
        while word < size_of::<FlowRecord>() / 8 {
            // SAFETY: the map returned the pointer and the RCU section of this program keeps the memory mapped. Another CPU
            // may write it meanwhile: the reads are volatile, any bytes are a record, and the caller compares the tag. Word
            // by word, since a copy of the whole would go over the stack.
            unsafe { into.add(word).write(ptr::read_volatile(from.add(word))) };
            word += 1;
        }
    }

    #[inline(always)]
    fn touch(&self, now: u32) {
        // SAFETY: as above; `last_seen` may be written blindly.
        unsafe { ptr::write_volatile(&raw mut (*self.0).last_seen, now) }
    }

    #[inline(always)]
    fn swap_state(&self, old: u32, new: u32) -> bool {
        // `core` has no atomics for this target, though the machine has (instruction set v3, kernel 5.12).
        // SAFETY: as above; the field is aligned and only ever changed atomically or with the whole element.
        unsafe { cas(&raw mut (*self.0).state, old, new) }
    }

    #[inline(always)]
    fn swap_seen(&self, old: u32, new: u32) -> bool {
        // SAFETY: as above.
        unsafe { cas(&raw mut (*self.0).last_seen, old, new) }
    }
}

/// A set of the path cache, which other CPUs may write meanwhile.
pub struct KernelSet(*mut CacheSet);

impl SetRef for KernelSet {
    #[inline(always)]
    fn load(&self, way: usize) -> u64 {
        // SAFETY: the map returned the pointer, callers pass ways of the set, and any bytes are a value.
        unsafe { ptr::read_volatile(self.0.cast::<u64>().add(way)) }
    }
    #[inline(always)]
    fn store(&self, way: usize, entry: u64) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.0.cast::<u64>().add(way), entry) }
    }
    #[inline(always)]
    fn swap(&self, way: usize, old: u64, new: u64) -> bool {
        // SAFETY: as above. An exchange that succeeds is a full barrier.
        unsafe { cas64(self.0.cast::<u64>().add(way), old, new) }
    }
}

#[inline(always)]
unsafe fn cas(word: *mut u32, old: u32, new: u32) -> bool {
    // SAFETY: the caller passes an aligned word of a map value.
    unsafe { atomic_cxchg::<_, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new).1 }
}

/// As [`cas`], of 64 bits.
#[inline(always)]
unsafe fn cas64(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: the caller passes an aligned word of a map value.
    unsafe { atomic_cxchg::<_, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new).1 }
}

/// Adds and returns what was there before.
#[inline(always)]
unsafe fn fetch_add(word: *mut u64, value: u64) -> u64 {
    // SAFETY: the caller passes an aligned word of a map value.
    unsafe { atomic_xadd::<_, u64, { AtomicOrdering::SeqCst }>(word, value) }
}

/// Runs one round for `bpf_loop`.
extern "C" fn round<R: Round>(_index: u32, rounds: *mut c_void) -> i64 {
    // SAFETY: `repeat` below passes a valid exclusive pointer and does not touch it during the loop.
    let rounds = unsafe { &mut *rounds.cast::<R>() };
    !rounds.round() as i64
}

/// The element of a hash, copied.
macro_rules! copied {
    ($map:ident, $key:expr) => {
        // SAFETY: the pointer comes from the map; a torn read gives some other valid bit pattern, since elements are
        // replaced as a whole and any bytes are a value.
        $map.get_ptr($key).map(|value| unsafe { *value })
    };
}

impl PlanTables for Kernel {
    #[inline(always)]
    fn active(&self) -> ActiveWord {
        // SAFETY: a valid pointer into a memory-mapped array; user space stores the word as a whole.
        ActiveWord(ACTIVE.get_ptr(0).map_or(0, |word| unsafe { ptr::read_volatile(word) }))
    }
    #[inline(always)]
    fn flow_hash_key(&self) -> [u64; 2] {
        CONFIG.get(0).map_or([0; 2], |config| config.flow_key)
    }
    #[inline(always)]
    fn graph(&self, plan: ActiveWord, graph: GraphId) -> GraphWord {
        let index = plan.bank() * BANK_WORDS + REPLICA_SETS_MAX + graph.get() as u32;
        // SAFETY: as for `active`.
        GraphWord(PLAN.get_ptr(index).map_or(0, |word| unsafe { ptr::read_volatile(word) }))
    }
    #[inline(always)]
    fn table(&self, plan: ActiveWord, set: ReplicaSetId) -> TableWord {
        let index = plan.bank() * BANK_WORDS + set.get() as u32;
        // SAFETY: as for `active`.
        TableWord(PLAN.get_ptr(index).map_or(0, |word| unsafe { ptr::read_volatile(word) }))
    }
    #[inline(always)]
    fn page_entry(&self, index: u32) -> Option<u16> {
        let page = PAGES.get(index / PAGE_SLOTS)?;
        page.get(index as usize % PAGE_SLOTS as usize).copied()
    }
    #[inline(always)]
    fn view(&self, slot: u32) -> Option<View> {
        VIEWS.get(slot).copied()
    }
    #[inline(always)]
    fn view_slot(&self, key: ViewKey) -> Option<u32> {
        copied!(VIEW_SLOTS, key)
    }
    #[inline(always)]
    fn node(&self, index: u32) -> Option<Node> {
        NODES.get(index).copied()
    }
    #[inline(always)]
    fn node_of(&self, key: NodeKey) -> Option<u32> {
        copied!(NODE_OF, key)
    }
    #[inline(always)]
    fn edge(&self, index: u32) -> Option<Edge> {
        EDGES.get(index).copied()
    }
    #[inline(always)]
    fn route(&self, key: RouteKey) -> Option<AttachmentId> {
        AttachmentId::new(*ROUTES.get(Key::new(ROUTE_KEY_FIXED_BITS + 128, key))? as u16)
    }
    #[inline(always)]
    fn outside(&self, key: OutsideKey, port: u16) -> Option<InstanceId> {
        owner(OUTSIDE.get(Key::new(OUTSIDE_KEY_FIXED_BITS + 128, key))?, port)
    }
    #[inline(always)]
    fn is_outside(&self, key: OutsideKey) -> bool {
        OUTSIDE.get(Key::new(OUTSIDE_KEY_FIXED_BITS + 128, key)).is_some()
    }
    #[inline(always)]
    fn origin(&self, key: OriginKey) -> Option<GraphId> {
        GraphId::new(copied!(ORIGINS, key)? as u16)
    }
    #[inline(always)]
    fn is_live(&self, instance: InstanceId) -> bool {
        INSTANCES
            .get(instance.get() as u32)
            .is_some_and(|i| i.traits & instance_traits::DOWN == 0 && i.ports[0].flags & target_flags::EXISTS != 0)
    }
    #[inline(always)]
    fn replica_set_of(&self, instance: InstanceId) -> Option<ReplicaSetId> {
        ReplicaSetId::new(INSTANCES.get(instance.get() as u32)?.replica_set)
    }
    #[inline(always)]
    fn repeat<R: Round>(&self, max: u32, rounds: &mut R) {
        // SAFETY: the callback gets the pointer to `rounds`, which outlives the call.
        unsafe { bpf_loop(max, round::<R> as *mut c_void, (&raw mut *rounds).cast(), 0) };
    }
}

/// The counter of a tenant's usage.
#[inline(always)]
fn counter(tenant: u32, usage: Usage) -> Option<*mut u64> {
    let record: *mut xdp_layout::port::Usage = USAGE.get_ptr_mut(tenant)?;
    // SAFETY: the pointer comes from the map; only the field's address is taken.
    Some(unsafe {
        match usage {
            Usage::Unanswered => &raw mut (*record).unanswered,
            Usage::Established => &raw mut (*record).established,
        }
    })
}

impl Kernel {
    /// Counts as a drop what the core has counted otherwise: the shell could not carry out the verdict.
    #[inline(always)]
    pub fn turn_into_drop(&self, counted: Counter, reason: DropReason, tenant: u32) {
        if let Some(count) = COUNTERS.get_ptr_mut(counted as u32) {
            // SAFETY: this CPU's own word.
            unsafe { *count -= 1 }
        }
        self.count_drop(reason, tenant);
    }
}

impl Tables for Kernel {
    type Flow = KernelFlow;
    type Set = KernelSet;

    #[inline(always)]
    fn config(&self) -> Option<Config> {
        CONFIG.get(0).copied().filter(|config| config.magic == MAGIC)
    }
    #[inline(always)]
    fn mac(&self) -> [u8; 6] {
        CONFIG.get(0).map_or([0; 6], |config| config.mac)
    }
    #[inline(always)]
    fn port(&self, key: PortKey) -> Option<Port> {
        copied!(PORTS, key)
    }
    #[inline(always)]
    fn attachment(&self, id: AttachmentId) -> Option<&Target> {
        ATTACHMENTS.get(id.get() as u32)
    }
    #[inline(always)]
    fn instance(&self, id: InstanceId) -> Option<&Instance> {
        INSTANCES.get(id.get() as u32).filter(|instance| instance.ports[0].flags & target_flags::EXISTS != 0)
    }
    #[inline(always)]
    fn tag(&self, key: TagKey) -> Option<u16> {
        copied!(TAGS, key).map(|vlan| vlan as u16)
    }
    #[inline(always)]
    fn owns(&self, key: OwnedKey) -> bool {
        OWNED.get_ptr(key).is_some()
    }
    #[inline(always)]
    fn front_end(&self, id: NodeId) -> Option<FrontEnd> {
        // An array has an element for everybody; one that stands for nobody leads out of no interface.
        FRONT_ENDS.get(id.get() as u32).copied().filter(|front_end| front_end.ifindex != 0)
    }
    #[inline(always)]
    fn sender(&self, addr: Addr) -> Option<NodeId> {
        NodeId::new(copied!(SENDERS, addr.0)? as u16)
    }
    #[inline(always)]
    fn tag_key(&self) -> u64 {
        CONFIG.get(0).map_or(0, |config| config.tag_key)
    }
    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<KernelFlow> {
        FLOWS.get_ptr_mut(key).map(KernelFlow)
    }
    #[inline(always)]
    fn flow_insert(&self, key: &FlowKey, record: &FlowRecord) -> Inserted {
        match FLOWS.insert(key, record, BPF_NOEXIST as u64) {
            Ok(()) => Inserted::Yes,
            Err(EEXIST) => Inserted::Exists,
            Err(E2BIG) => Inserted::Full,
            // No memory, or the bucket is locked by this CPU: no room for this frame.
            Err(_) => Inserted::Full,
        }
    }
    #[inline(always)]
    fn flow_replace(&self, key: &FlowKey, record: &FlowRecord) -> bool {
        FLOWS.insert(key, record, BPF_EXIST as u64).is_ok()
    }
    #[inline(always)]
    fn flow_delete(&self, key: &FlowKey) -> bool {
        FLOWS.remove(key).is_ok()
    }
    #[inline(always)]
    fn cache(&self) -> Option<&CacheConfig> {
        CACHE_CONFIG.get(0).filter(|config| config.sets_mask != 0)
    }
    #[inline(always)]
    fn cache_set(&self, index: u32) -> Option<KernelSet> {
        CACHE.get_ptr_mut(index).map(KernelSet)
    }
    #[inline(always)]
    fn path(&self, index: u32) -> Option<&CachedPath> {
        PATHS.get(index)
    }
    #[inline(always)]
    fn path_put(&self, index: u32, path: &CachedPath) -> bool {
        let Some(place) = PATHS.get_ptr_mut(index) else { return false };
        let (place, words) = (place.cast::<u64>(), path.words());
        // SAFETY: the map returned the pointer, and the element has four words. Nobody reads the others of them before the entry of a
        // flow names the element, which is written behind a full barrier; who compares takes what is half written for another.
        unsafe {
            if !cas64(place, 0, BEING_WRITTEN) {
                return false;
            }
            ptr::write_volatile(place.add(1), words[1]);
            ptr::write_volatile(place.add(2), words[2]);
            ptr::write_volatile(place.add(3), words[3]);
            ptr::write_volatile(place, words[0]);
        }
        true
    }
    #[inline(always)]
    fn port_word(&self, ifindex: u32) -> PortWord {
        // SAFETY: as for `active`.
        PortWord(PORT_WORDS.get_ptr(PortWord::index(ifindex)).map_or(0, |word| unsafe { ptr::read_volatile(word) }))
    }
    #[inline(always)]
    fn usage_take(&self, tenant: u32, usage: Usage) -> bool {
        let (Some(budget), Some(counter)) = (copied!(TENANTS, tenant), counter(tenant, usage)) else {
            return false;
        };
        let max = match usage {
            Usage::Unanswered => budget.unanswered_max,
            Usage::Established => budget.established_max,
        };
        // SAFETY: a counter of a map value, only changed atomically.
        unsafe {
            if fetch_add(counter, 1) < max {
                return true;
            }
            fetch_add(counter, u64::MAX);
        }
        false
    }
    #[inline(always)]
    fn usage_give(&self, tenant: u32, usage: Usage) {
        if let Some(counter) = counter(tenant, usage) {
            // SAFETY: a counter of a map value, only changed atomically.
            unsafe { fetch_add(counter, u64::MAX) };
        }
    }
    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        copied!(FRAGMENTS, key)
    }
    #[inline(always)]
    fn fragment_put(&self, key: &FragmentKey, ports: &FragmentPorts) {
        let _full = FRAGMENTS.insert(key, ports, 0);
    }
    #[inline(always)]
    fn note(&self, key: &NoteKey) -> Option<Note> {
        copied!(NOTES, key)
    }
    #[inline(always)]
    fn note_put(&self, key: &NoteKey, note: &Note) {
        let _full = NOTES.insert(key, note, 0);
    }
    #[inline(always)]
    fn neighbour(&self, key: &NeighbourKey) -> Option<Neighbour> {
        copied!(NEIGHBOURS, key)
    }
    #[inline(always)]
    fn neighbour_put(&self, key: &NeighbourKey, neighbour: &Neighbour) {
        let _full = NEIGHBOURS.insert(key, neighbour, 0);
    }
    #[inline(always)]
    fn count(&self, counter: Counter) {
        if let Some(count) = COUNTERS.get_ptr_mut(counter as u32) {
            // SAFETY: this CPU's own word.
            unsafe { *count += 1 }
        }
    }
    #[inline(always)]
    fn count_drop(&self, reason: DropReason, tenant: u32) {
        if let Some(count) = DROPS.get_ptr_mut(reason as u32) {
            // SAFETY: this CPU's own word.
            unsafe { *count += 1 }
        }
        if tenant == 0 {
            return;
        }
        let key = TenantDropKey { tenant, reason: reason as u32 };
        if let Some(count) = TENANT_DROPS.get_ptr_mut(key) {
            // SAFETY: this CPU's own word.
            unsafe { *count += 1 }
        } else {
            let _full = TENANT_DROPS.insert(key, 1, 0);
        }
    }
    #[inline(always)]
    fn count_instance(&self, instance: InstanceId, bytes: u32) {
        if let Some(traffic) = INSTANCE_TRAFFIC.get_ptr_mut(instance.get() as u32) {
            // SAFETY: this CPU's own words.
            unsafe {
                (*traffic).frames += 1;
                (*traffic).bytes += bytes as u64;
            }
        }
    }
    #[inline(never)]
    fn count_view(&self, key: ViewKey, observed: Observed) {
        let Some(traffic) = VIEW_TRAFFIC.get_ptr_mut(key) else {
            return;
        };
        // SAFETY: this CPU's own words.
        unsafe {
            match observed {
                Observed::Flow => (*traffic).flows += 1,
                Observed::TcpFlow => {
                    (*traffic).flows += 1;
                    (*traffic).tcp_flows += 1;
                }
                Observed::Reset => (*traffic).tcp_resets += 1,
                Observed::Frame => (*traffic).frames += 1,
                Observed::DroppedFrame => {
                    (*traffic).frames += 1;
                    (*traffic).dropped += 1;
                }
            }
        }
    }
    #[inline(always)]
    fn emit<F: Frame>(&self, notice: &Notice, frame: &F) {
        let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
            return;
        };
        let event = entry.as_mut_ptr();
        // SAFETY: the entry is reserved memory of the event's size; every field is written before it is submitted.
        unsafe {
            (*event).kind = notice.kind as u32;
            (*event).tenant = notice.tenant;
            (*event).element = notice.element;
            (*event).value = notice.value;
            (*event).addr = notice.addr;
            (*event).frame = [0; EVENT_FRAME];
            frame.head(&mut (*event).frame);
        }
        entry.submit(0);
    }
}
