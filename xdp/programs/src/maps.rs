//! The maps. Names and sizes are those of `xdp_layout::names`; the loader sets the number of flows.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use xdp_forward::Scratch;
use xdp_layout::cache::{CACHE_SETS, CACHED_PATHS, CacheConfig, CacheSet, CachedPath, PORT_WORDS as PORT_WORDS_MAX};
use xdp_layout::config::Config;
use xdp_layout::counter::COUNTERS as COUNTERS_MAX;
use xdp_layout::event::{TenantDropKey, Traffic, ViewTraffic};
use xdp_layout::flow::{FlowKey, FlowRecord, FragmentKey, FragmentPorts, Neighbour, NeighbourKey, Note, NoteKey};
use xdp_layout::plan::{
    BANK_WORDS, BANKS, EDGES_MAX, Edge, NODES_MAX, Node, NodeKey, OriginKey, OutsideKey, OutsideOwners, PAGE_SLOTS,
    PAGES_MAX, RouteKey, VIEW_SLOTS_MAX, View, ViewKey,
};
use xdp_layout::port::{FrontEnd, Instance, OwnedKey, Port, PortKey, TagKey, Target, Tenant, Usage};
use xdp_layout::reason::REASONS;

/// Array elements that user space maps into its memory (kernel 5.5).
const MMAPABLE: u32 = 1 << 10;
const IDS: u32 = 65_536;
const NO_PREALLOC: u32 = BPF_F_NO_PREALLOC;

#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
pub static ACTIVE: Array<u64> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static PORTS: HashMap<PortKey, Port> = HashMap::with_max_entries(65_536, NO_PREALLOC);
#[map]
pub static PORT_WORDS: Array<u64> = Array::with_max_entries(PORT_WORDS_MAX, MMAPABLE);
#[map]
pub static ATTACHMENTS: Array<Target> = Array::with_max_entries(IDS, MMAPABLE);
#[map]
pub static INSTANCES: Array<Instance> = Array::with_max_entries(IDS, MMAPABLE);
#[map]
pub static TAGS: HashMap<TagKey, u32> = HashMap::with_max_entries(65_536, NO_PREALLOC);
#[map]
pub static OWNED: HashMap<OwnedKey, u32> = HashMap::with_max_entries(65_536, NO_PREALLOC);
#[map]
pub static TENANTS: HashMap<u32, Tenant> = HashMap::with_max_entries(65_536, NO_PREALLOC);
#[map]
pub static USAGE: HashMap<u32, Usage> = HashMap::with_max_entries(65_536, NO_PREALLOC);
#[map]
pub static FRONT_ENDS: Array<FrontEnd> = Array::with_max_entries(1024, 0);
#[map]
pub static SENDERS: HashMap<[u8; 16], u32> = HashMap::with_max_entries(1024, NO_PREALLOC);
#[map]
pub static PLAN: Array<u64> = Array::with_max_entries(BANKS * BANK_WORDS, MMAPABLE);
#[map]
pub static VIEWS: Array<View> = Array::with_max_entries(VIEW_SLOTS_MAX, MMAPABLE);
#[map]
pub static VIEW_SLOTS: HashMap<ViewKey, u32> = HashMap::with_max_entries(VIEW_SLOTS_MAX, NO_PREALLOC);
#[map]
pub static NODES: Array<Node> = Array::with_max_entries(NODES_MAX, MMAPABLE);
#[map]
pub static NODE_OF: HashMap<NodeKey, u32> = HashMap::with_max_entries(2 * NODES_MAX, NO_PREALLOC);
#[map]
pub static EDGES: Array<Edge> = Array::with_max_entries(EDGES_MAX, MMAPABLE);
#[map]
pub static PAGES: Array<[u16; PAGE_SLOTS as usize]> = Array::with_max_entries(PAGES_MAX, MMAPABLE);
#[map]
pub static ROUTES: LpmTrie<RouteKey, u32> = LpmTrie::with_max_entries(262_144, NO_PREALLOC);
#[map]
pub static OUTSIDE: LpmTrie<OutsideKey, OutsideOwners> = LpmTrie::with_max_entries(65_536, NO_PREALLOC);
#[map]
pub static ORIGINS: HashMap<OriginKey, u32> = HashMap::with_max_entries(65_536, NO_PREALLOC);
#[map]
pub static FLOWS: HashMap<FlowKey, FlowRecord> = HashMap::with_max_entries(1 << 20, 0);
/// Memory-mapped for their alignment: each set of the cache is a line of the processor's then.
#[map]
pub static CACHE_CONFIG: Array<CacheConfig> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub static CACHE: Array<CacheSet> = Array::with_max_entries(CACHE_SETS, MMAPABLE);
#[map]
pub static PATHS: Array<CachedPath> = Array::with_max_entries(CACHED_PATHS, MMAPABLE);
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts> = LruHashMap::with_max_entries(16_384, 0);
#[map]
pub static NOTES: LruHashMap<NoteKey, Note> = LruHashMap::with_max_entries(65_536, 0);
#[map]
pub static NEIGHBOURS: LruHashMap<NeighbourKey, Neighbour> = LruHashMap::with_max_entries(65_536, 0);
#[map]
pub static DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASONS, 0);
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS_MAX, 0);
#[map]
pub static TENANT_DROPS: PerCpuHashMap<TenantDropKey, u64> = PerCpuHashMap::with_max_entries(262_144, NO_PREALLOC);
#[map]
pub static INSTANCE_TRAFFIC: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(IDS, 0);
#[map]
pub static VIEW_TRAFFIC: PerCpuHashMap<ViewKey, ViewTraffic> = PerCpuHashMap::with_max_entries(4096, NO_PREALLOC);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
/// Working memory, in place of the stack.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
