//! The part of the maps that a plan fills: graph and replica-set words, views, nodes, edges, tables, routes.
//!
//! A plan bank holds one word per replica set and one per graph. There are [`BANKS`] banks; a plan is installed by
//! making the next bank say what it says, and then by one word, [`ActiveWord`]. Views, nodes, edges and tables are immutable while
//! any bank names them.

use crate::Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Replica-set words in a bank.
pub const REPLICA_SETS_MAX: u32 = 32_768;
/// Graph words in a bank.
pub const GRAPHS_MAX: u32 = 32_768;
/// Words in a bank: replica sets first, then graphs. No replica set has number 0: that word is [`DIGEST_WORD`].
pub const BANK_WORDS: u32 = REPLICA_SETS_MAX + GRAPHS_MAX;
/// The word of a bank that holds the digest of its plan; 0 where that is not known. No frame is forwarded by it: it tells
/// who takes the data path over what it runs.
pub const DIGEST_WORD: u32 = 0;
/// Banks, a power of two. A bank is reused only after a grace period, which takes 10 to 20 ms: so many plans can be
/// installed within one before an installation waits for its end.
pub const BANKS: u32 = 32;
/// View slots in the view array.
pub const VIEW_SLOTS_MAX: u32 = 65_536;
/// Nodes of all installed views.
pub const NODES_MAX: u32 = 262_144;
/// Edges of all installed views.
pub const EDGES_MAX: u32 = 524_288;
/// Slots of one page of table entries; pages because the kernel rounds array elements up to 8 bytes.
pub const PAGE_SLOTS: u32 = 2048;
/// Pages of table entries (32 Mi entries, 64 MiB).
pub const PAGES_MAX: u32 = 16_384;
/// Edges one frame may be compared with on its way through a view; the check refuses views that could need more.
pub const WALK_MAX: u32 = 64;
/// `Edge::target` of an edge that leaves the graph.
pub const TARGET_EXIT: u32 = u32::MAX;

/// Selects the plan the data path runs: bits 0..8 the bank, bits 8..64 the generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct ActiveWord(pub u64);

impl ActiveWord {
    /// Packs generation and bank.
    pub const fn new(generation: u64, bank: u32) -> Self {
        Self(generation << 8 | bank as u64)
    }
    /// The bank, below [`BANKS`].
    #[inline(always)]
    pub const fn bank(self) -> u32 {
        self.0 as u32 & (BANKS - 1)
    }
    /// The generation; 0 while no plan was installed.
    #[inline(always)]
    pub const fn generation(self) -> u64 {
        self.0 >> 8
    }
}

/// Where a replica set's table lies: `start` (32 bits) is the first entry's index in units of entries, `size` (20 bits)
/// the table size M, `members` (12 bits) the number of members. The members' instance ids (u16) follow the M entries.
/// 0 means the replica set has no table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct TableWord(pub u64);

/// Members a replica set may have, by the width of [`TableWord::members`].
pub const MEMBERS_MAX: u32 = 4095;

impl TableWord {
    /// Packs; `size` below 2^20, `members` up to [`MEMBERS_MAX`].
    pub const fn new(start: u32, size: u32, members: u32) -> Self {
        Self((start as u64) << 32 | (size as u64 & 0xf_ffff) << 12 | members as u64 & 0xfff)
    }
    /// Index of the first entry.
    #[inline(always)]
    pub const fn start(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// Table size M in entries.
    #[inline(always)]
    pub const fn size(self) -> u32 {
        (self.0 >> 12) as u32 & 0xf_ffff
    }
    /// Number of members.
    #[inline(always)]
    pub const fn members(self) -> u32 {
        self.0 as u32 & 0xfff
    }
}

/// A graph's active views: `stable` and `canary` view slots (24 bits each) and the canary's share of new flows in
/// 1/65535 (16 bits), so that 65,535 is all of them. 0 means the graph has no active view; slot 0 is never used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct GraphWord(pub u64);

impl GraphWord {
    /// Packs.
    pub const fn new(stable: u32, canary: u32, canary_share: u16) -> Self {
        Self((stable as u64 & 0xff_ffff) << 40 | (canary as u64 & 0xff_ffff) << 16 | canary_share as u64)
    }
    /// View slot of the stable view.
    #[inline(always)]
    pub const fn stable(self) -> u32 {
        (self.0 >> 40) as u32
    }
    /// View slot of the canary view; 0 for none.
    #[inline(always)]
    pub const fn canary(self) -> u32 {
        (self.0 >> 16) as u32 & 0xff_ffff
    }
    /// Share of new flows in 1/65535.
    #[inline(always)]
    pub const fn canary_share(self) -> u32 {
        self.0 as u32 & 0xffff
    }
}

/// An installed view, by slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct View {
    /// Owner ([`crate::TenantId`]).
    pub tenant: u32,
    /// [`crate::ViewId`].
    pub view: u32,
    /// [`crate::GraphId`].
    pub graph: u32,
    /// First edge out of the clients' side.
    pub first_edge: u32,
}

/// Bits of [`Node::flags`].
pub mod node_flags {
    /// The NF rewrites the tuple (NAT): the path ends here for this tuple.
    pub const CHANGES_TUPLE: u8 = 1;
    /// The NF ends the connection and opens its own (proxy): as above, and no note links the two.
    pub const ENDS_FLOW: u8 = 2;
}

/// A network function in a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Node {
    /// First of the edges that leave this node.
    pub first_edge: u32,
    /// [`crate::ReplicaSetId`] the node is pinned to.
    pub replica_set: u16,
    /// [`crate::Position`].
    pub position: u8,
    /// [`node_flags`].
    pub flags: u8,
}

/// A prefix in halves, host byte order: `(addr & mask) == value`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Prefix {
    /// Masked address.
    pub value: [u64; 2],
    /// Mask.
    pub mask: [u64; 2],
}

impl Prefix {
    /// The prefix of `addr` with `length` bits, 0..=128 (an IPv4 prefix has 96 more than its own length).
    pub const fn new(addr: Addr, length: u8) -> Self {
        let mask = if length >= 128 { u128::MAX } else { !(u128::MAX >> length) };
        let mask = [(mask >> 64) as u64, mask as u64];
        let halves = addr.halves();
        Self { value: [halves[0] & mask[0], halves[1] & mask[1]], mask }
    }
    /// Whether the address lies in the prefix.
    #[inline(always)]
    pub const fn contains(&self, addr: &Addr) -> bool {
        let halves = addr.halves();
        (halves[0] & self.mask[0]) ^ self.value[0] | (halves[1] & self.mask[1]) ^ self.value[1] == 0
    }
}

/// One match condition and where it leads. A node's edges lie in a row, in order of precedence; the first match wins.
/// Conditions speak of the client's and the server's end, so both directions and both sides match alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Edge {
    /// Client addresses.
    pub client: Prefix,
    /// Server addresses.
    pub server: Prefix,
    /// Client ports, inclusive; 0..=65535 for any.
    pub client_ports: [u16; 2],
    /// Server ports, inclusive.
    pub server_ports: [u16; 2],
    /// Index of the node it leads to, or [`TARGET_EXIT`].
    pub target: u32,
    /// Client attachment, 0 for any.
    pub client_attachment: u16,
    /// Server attachment, 0 for any.
    pub server_attachment: u16,
    /// IP protocol, 0 for any (hop-by-hop options are no protocol of a flow).
    pub protocol: u8,
    /// 1 for the last edge of its node: nothing more to compare.
    pub last: u8,
    /// Must be 0.
    pub reserved: [u8; 6],
}

/// Longest-prefix-match data of a route: to which attachment of a side an address belongs.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RouteKey {
    /// [`crate::GraphId`], big endian.
    pub graph: [u8; 2],
    /// 0 client side, 1 server side.
    pub side: u8,
    /// Must be 0.
    pub reserved: u8,
    /// The address.
    pub addr: Addr,
}
/// Bits of a [`RouteKey`] before the address; a route's prefix length is this plus 0..=128.
pub const ROUTE_KEY_FIXED_BITS: u32 = 32;

/// Longest-prefix-match data of an outside block.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OutsideKey {
    /// [`crate::TenantId`], big endian.
    pub tenant: [u8; 4],
    /// The address.
    pub addr: Addr,
}
/// Bits of an [`OutsideKey`] before the address.
pub const OUTSIDE_KEY_FIXED_BITS: u32 = 32;
/// Port ranges that may share one outside prefix.
pub const OUTSIDE_RANGES_MAX: usize = 16;

/// A range of outside ports and its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OutsideRange {
    /// First port.
    pub low: u16,
    /// Last port.
    pub high: u16,
    /// [`crate::InstanceId`]; 0 for an unused entry.
    pub instance: u16,
    /// Must be 0.
    pub reserved: u16,
}

/// The owners of one outside prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OutsideOwners {
    /// Disjoint ranges; protocols without ports have port 0, so a range from 0 also takes them.
    pub ranges: [OutsideRange; OUTSIDE_RANGES_MAX],
}

/// Names the graph in which a tuple-making NF continues, for (tenant, replica set).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OriginKey {
    /// [`crate::TenantId`].
    pub tenant: u32,
    /// [`crate::ReplicaSetId`].
    pub replica_set: u32,
}

/// Finds the node of a replica set in a view.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NodeKey {
    /// View slot.
    pub view_slot: u32,
    /// Either [`crate::Position`] << 16 or a [`crate::ReplicaSetId`] (then the highest position it is pinned to).
    pub position_or_set: u32,
}

/// Finds the slot of a view.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ViewKey {
    /// [`crate::TenantId`].
    pub tenant: u32,
    /// [`crate::ViewId`].
    pub view: u32,
}
