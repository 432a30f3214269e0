//! Map names: one constant each, used by the programs' statics (a test compares) and by the agent.

/// Every map with its key and value size in bytes (0 where the layout is not this crate's).
pub const MAPS: &[(&str, u32, u32)] = &[
    (CONFIG, 4, 88),
    (ACTIVE, 4, 8),
    (PORTS, 8, 12),
    (PORT_WORDS, 4, 8),
    (ATTACHMENTS, 4, 16),
    (INSTANCES, 4, 56),
    (TAGS, 8, 4),
    (OWNED, 20, 4),
    (TENANTS, 4, 16),
    (USAGE, 4, 16),
    (FRONT_ENDS, 4, 32),
    (SENDERS, 16, 4),
    (PLAN, 4, 8),
    (VIEWS, 4, 16),
    (VIEW_SLOTS, 8, 4),
    (NODES, 4, 8),
    (NODE_OF, 8, 4),
    (EDGES, 4, 88),
    (PAGES, 4, 4096),
    (ROUTES, 24, 4),
    (OUTSIDE, 24, 128),
    (ORIGINS, 8, 4),
    (FLOWS, 40, 64),
    (CACHE_CONFIG, 4, 304),
    (CACHE, 4, 64),
    (PATHS, 4, 32),
    (FRAGMENTS, 40, 8),
    (NOTES, 32, 48),
    (NEIGHBOURS, 20, 8),
    (DROPS, 4, 8),
    (COUNTERS, 4, 8),
    (TENANT_DROPS, 8, 8),
    (INSTANCE_TRAFFIC, 4, 16),
    (VIEW_TRAFFIC, 8, 40),
    (EVENTS, 0, 0),
    (SCRATCH, 4, 0),
];

/// Array of one [`crate::config::Config`].
pub const CONFIG: &str = "CONFIG";
/// Memory-mapped array of one [`crate::plan::ActiveWord`].
pub const ACTIVE: &str = "ACTIVE";
/// Hash: [`crate::port::PortKey`] to [`crate::port::Port`].
pub const PORTS: &str = "PORTS";
/// Memory-mapped array by the low bits of the interface index: [`crate::cache::PortWord`].
pub const PORT_WORDS: &str = "PORT_WORDS";
/// Memory-mapped array by attachment id: [`crate::port::Target`].
pub const ATTACHMENTS: &str = "ATTACHMENTS";
/// Memory-mapped array by instance id: [`crate::port::Instance`].
pub const INSTANCES: &str = "INSTANCES";
/// Hash: [`crate::port::TagKey`] to the VLAN tag.
pub const TAGS: &str = "TAGS";
/// Hash: [`crate::port::OwnedKey`] to 1.
pub const OWNED: &str = "OWNED";
/// Hash: tenant id to [`crate::port::Tenant`].
pub const TENANTS: &str = "TENANTS";
/// Hash: tenant id to [`crate::port::Usage`].
pub const USAGE: &str = "USAGE";
/// Array by node id: [`crate::port::FrontEnd`].
pub const FRONT_ENDS: &str = "FRONT_ENDS";
/// Hash: underlay address to node id.
pub const SENDERS: &str = "SENDERS";
/// Memory-mapped array of plan banks.
pub const PLAN: &str = "PLAN";
/// Memory-mapped array by view slot: [`crate::plan::View`].
pub const VIEWS: &str = "VIEWS";
/// Hash: [`crate::plan::ViewKey`] to view slot.
pub const VIEW_SLOTS: &str = "VIEW_SLOTS";
/// Memory-mapped array of [`crate::plan::Node`].
pub const NODES: &str = "NODES";
/// Hash: [`crate::plan::NodeKey`] to node index.
pub const NODE_OF: &str = "NODE_OF";
/// Memory-mapped array of [`crate::plan::Edge`].
pub const EDGES: &str = "EDGES";
/// Memory-mapped array of pages of table entries.
pub const PAGES: &str = "PAGES";
/// Longest-prefix match: [`crate::plan::RouteKey`] to attachment id.
pub const ROUTES: &str = "ROUTES";
/// Longest-prefix match: [`crate::plan::OutsideKey`] to [`crate::plan::OutsideOwners`].
pub const OUTSIDE: &str = "OUTSIDE";
/// Hash: [`crate::plan::OriginKey`] to graph id.
pub const ORIGINS: &str = "ORIGINS";
/// Preallocated hash: [`crate::flow::FlowKey`] to [`crate::flow::FlowRecord`].
pub const FLOWS: &str = "FLOWS";
/// Array of one [`crate::cache::CacheConfig`].
pub const CACHE_CONFIG: &str = "CACHE_CONFIG";
/// Array of [`crate::cache::CacheSet`].
pub const CACHE: &str = "CACHE";
/// Memory-mapped array of [`crate::cache::CachedPath`].
pub const PATHS: &str = "PATHS";
/// LRU hash: [`crate::flow::FragmentKey`] to [`crate::flow::FragmentPorts`].
pub const FRAGMENTS: &str = "FRAGMENTS";
/// LRU hash: [`crate::flow::NoteKey`] to [`crate::flow::Note`].
pub const NOTES: &str = "NOTES";
/// LRU hash: [`crate::flow::NeighbourKey`] to [`crate::flow::Neighbour`].
pub const NEIGHBOURS: &str = "NEIGHBOURS";
/// Per-CPU array by [`crate::DropReason`].
pub const DROPS: &str = "DROPS";
/// Per-CPU array by [`crate::Counter`].
pub const COUNTERS: &str = "COUNTERS";
/// Per-CPU hash: (tenant, reason) to count.
pub const TENANT_DROPS: &str = "TENANT_DROPS";
/// Per-CPU array by instance id: frames and bytes delivered to it.
pub const INSTANCE_TRAFFIC: &str = "INSTANCE_TRAFFIC";
/// Per-CPU hash: [`crate::plan::ViewKey`] of a view on trial to [`crate::event::ViewTraffic`].
pub const VIEW_TRAFFIC: &str = "VIEW_TRAFFIC";
/// Ring buffer of [`crate::event::Event`].
pub const EVENTS: &str = "EVENTS";
/// Per-CPU array of one `xdp_forward::Scratch`.
pub const SCRATCH: &str = "SCRATCH";
