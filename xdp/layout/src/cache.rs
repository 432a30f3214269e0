//! The path cache: where the frames of a flow go, in half a cache line, and the ports in a word each. Both only say again
//! what the connection table and the port table say; whoever does not find something here asks those.

use crate::TenantId;
use crate::port::{EITHER_SIDE, Port, PortKey, PortKind};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries of a set, which is a cache line.
pub const CACHE_WAYS: usize = 2;
/// 64-bit words of an entry: a seal, and the three of a [`CachedPath`].
pub const CACHE_ENTRY_WORDS: usize = 4;
/// Sets of the cache: 8 MiB, what the second level of a processor's address translation reaches.
pub const CACHE_SETS: u32 = 1 << 17;
/// Instances of the longest path that is cached.
pub const CACHE_PATH_MAX: usize = 5;
/// Words of a key of the cache's hash for IPv4 flows: one to begin with, and one for each word that differs between flows.
pub const CACHE_V4_WORDS: usize = 5;
/// As [`CACHE_V4_WORDS`], for IPv6: all 32-bit words of a [`crate::flow::FlowKey`].
pub const CACHE_V6_WORDS: usize = 11;
/// Elements of the array of [`PortWord`]s.
pub const PORT_WORDS: u32 = 1 << 16;

/// A set of the cache.
pub type CacheSet = [u64; CACHE_WAYS * CACHE_ENTRY_WORDS];

/// How the cache is used. All zero: not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CacheConfig {
    /// Sets in use, at most [`CACHE_SETS`]; 0 for no cache.
    pub sets: u32,
    /// Ticks for which an entry holds. A record may have been touched so much earlier than its flow's last frame came.
    pub fresh: u32,
    /// Two random keys of the fingerprints' hash of IPv4 flows, of this node.
    pub v4: [[u64; CACHE_V4_WORDS]; 2],
    /// Those of IPv6 flows.
    pub v6: [[u64; CACHE_V6_WORDS]; 2],
}

/// Bits of [`CachedPath::flags`]. Those that repeat one of [`crate::flow::record_flags`] have its value.
pub mod cache_flags {
    use crate::flow::record_flags;

    /// The client's end is the key's `a` endpoint.
    pub const CLIENT_IS_A: u8 = record_flags::CLIENT_IS_A;
    /// Holds for frames towards the server.
    pub const TOWARDS_SERVER: u8 = 2;
    /// Holds for frames towards the client.
    pub const TOWARDS_CLIENT: u8 = 4;
    /// As [`crate::flow::record_flags::STARTS_AT_FUNCTION`].
    pub const STARTS_AT_FUNCTION: u8 = record_flags::STARTS_AT_FUNCTION;
    /// As [`crate::flow::record_flags::ENDS_AT_FUNCTION`].
    pub const ENDS_AT_FUNCTION: u8 = record_flags::ENDS_AT_FUNCTION;
}

/// What a cache entry says of a flow. 24 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CachedPath {
    /// Client attachment, 0 for none.
    pub entry: u16,
    /// Server attachment, 0 for none.
    pub exit: u16,
    /// [`cache_flags`].
    pub flags: u8,
    /// Elements used in `path`.
    pub path_len: u8,
    /// Instances in client-to-server order.
    pub path: [u16; CACHE_PATH_MAX],
    /// The view ([`crate::ViewId`]).
    pub view: u32,
    /// Ticks when it was read from the flow's record.
    pub stamp: u32,
}

impl CachedPath {
    /// From the words of an entry.
    #[inline(always)]
    pub fn from_words(words: [u64; 3]) -> Self {
        zerocopy::transmute!(words)
    }

    /// As the words of an entry.
    #[inline(always)]
    pub fn words(self) -> [u64; 3] {
        zerocopy::transmute!(self)
    }
}

/// An untagged port of a tenant in one word, at the low 16 bits of its interface index: instance or attachment in bits 0..16,
/// tenant 16..40, side 40..42, whether it is an instance's 42, always set 43, the upper half of the interface index 44..60. 0 for
/// none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct PortWord(pub u64);

impl PortWord {
    /// The word of a port; 0 for one that has none: tagged, or of no tenant.
    pub const fn new(key: PortKey, port: &Port) -> Self {
        let is_ours = port.kind == PortKind::Attachment as u8 || port.kind == PortKind::Instance as u8;
        if key.vlan != 0 || !is_ours || TenantId::new(port.tenant).is_none() || port.side > EITHER_SIDE {
            return Self(0);
        }
        Self(
            port.id as u64
                | (port.tenant as u64) << 16
                | (port.side as u64) << 40
                | ((port.kind == PortKind::Instance as u8) as u64) << 42
                | 1 << 43
                | ((key.ifindex >> 16) as u64) << 44,
        )
    }

    /// Where the word of an interface lies.
    #[inline(always)]
    pub const fn index(ifindex: u32) -> u32 {
        ifindex & (PORT_WORDS - 1)
    }

    /// Whether it stands for this interface rather than one with the same low bits.
    #[inline(always)]
    pub const fn is_of(self, ifindex: u32) -> bool {
        self.0 != 0 && (self.0 >> 44) as u32 == ifindex >> 16
    }

    /// [`Port::id`].
    #[inline(always)]
    pub const fn id(self) -> u16 {
        self.0 as u16
    }

    /// [`Port::tenant`].
    #[inline(always)]
    pub const fn tenant(self) -> u32 {
        (self.0 >> 16) as u32 & 0x00ff_ffff
    }

    /// [`Port::side`].
    #[inline(always)]
    pub const fn side(self) -> u8 {
        (self.0 >> 40) as u8 & 3
    }

    /// [`Port::kind`].
    #[inline(always)]
    pub const fn kind(self) -> PortKind {
        if self.0 & 1 << 42 != 0 { PortKind::Instance } else { PortKind::Attachment }
    }
}

const _: () = assert!(size_of::<CachedPath>() == 8 * (CACHE_ENTRY_WORDS - 1));
