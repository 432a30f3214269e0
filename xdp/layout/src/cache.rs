//! The path cache: where the frames of a flow go, in a word for each flow, the paths themselves, and the ports in a word each.
//! All of them only say again what the connection table and the port table say; whoever does not find something here asks those.

use crate::port::{EITHER_SIDE, Port, PortKey, PortKind};
use crate::{Addr, TenantId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries of a set, which is a cache line.
pub const CACHE_WAYS: usize = 8;
/// Sets there is room for: 8 MiB, what the second level of a processor's address translation reaches.
pub const CACHE_SETS: u32 = 1 << 17;
/// Elements of the array of [`CachedPath`]s; the first stands for none.
pub const CACHED_PATHS: u32 = 1 << CacheEntry::PATH_BITS;
/// Instances of the longest path that is cached.
pub const CACHE_PATH_MAX: usize = 5;
/// Words of a key of the cache's hash: one for each 32-bit word of a [`crate::flow::FlowKey`], and one to begin with.
pub const CACHE_KEY_WORDS: usize = 11;
/// Numbers that are left of a key for IPv4 flows, see [`CacheConfig::v4`].
pub const CACHE_V4_WORDS: usize = 7;
/// Elements of the array of [`PortWord`]s.
pub const PORT_WORDS: u32 = 1 << 16;

/// A set of the cache: [`CacheEntry`]s.
pub type CacheSet = [u64; CACHE_WAYS];

/// An entry of the cache: the flow's fingerprint in bits 19..64; when it was used last, by [`CacheConfig::stamp`], bits 13..19; the
/// index of its [`CachedPath`], bits 0..13. 0 for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheEntry(pub u64);

impl CacheEntry {
    /// Bits of a path's index.
    pub const PATH_BITS: u32 = 13;
    /// Bits of a stamp.
    pub const STAMP_BITS: u32 = 6;

    const FLOW_SHIFT: u32 = Self::PATH_BITS + Self::STAMP_BITS;
    const STAMPS: u32 = 1 << Self::STAMP_BITS;

    /// An entry without its path, of the flow whose fingerprint is in the upper bits. `stamp` is below 64.
    #[inline(always)]
    pub const fn new(fingerprint: u64, stamp: u32) -> Self {
        Self(fingerprint >> Self::FLOW_SHIFT << Self::FLOW_SHIFT | (stamp as u64) << Self::PATH_BITS)
    }

    /// With a path, below [`CACHED_PATHS`].
    #[inline(always)]
    pub const fn with(self, path: u32) -> Self {
        Self(self.0 | path as u64)
    }

    /// The index of the path in `word`, if that is an entry of the same flow, and whether its stamp is another one.
    #[inline(always)]
    pub const fn path(self, word: u64) -> Option<(u32, bool)> {
        let rest = word ^ self.0;
        if rest >> Self::FLOW_SHIFT != 0 {
            return None;
        }
        Some((rest as u32 & (CACHED_PATHS - 1), rest >> Self::PATH_BITS != 0))
    }

    /// By how many stamps the entry in `word` is older than this one, 0 to 62. One stamp ahead is 0: another CPU's clock may already
    /// have moved on.
    #[inline(always)]
    pub const fn age(self, word: u64) -> u32 {
        let older = ((self.0 >> Self::PATH_BITS) as u32).wrapping_sub((word >> Self::PATH_BITS) as u32);
        (older.wrapping_add(1) & (Self::STAMPS - 1)).saturating_sub(1)
    }
}

/// How the cache is used. All zero: not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CacheConfig {
    /// Sets in use, less 1: a power of two, less 1, at most [`CACHE_SETS`] less 1. 0 for no cache. Everything else here changes only
    /// while this is 0.
    pub sets_mask: u32,
    /// Stamps in 2^32 ticks, a multiple of 64. Sixty take longer than any record stays
    /// without a frame, while an agent sweeps.
    pub stamps: u32,
    /// Ticks when the cache was begun anew; they wrap. What it said of earlier frames is forgotten, so no record counts as idle since before.
    pub begun: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Two random keys of the fingerprints' hash, of this node.
    pub keys: [[u64; CACHE_KEY_WORDS]; 2],
    /// What [`CacheConfig::with_keys`] makes of them: the hash of an IPv4 flow is the first number, and one product for each address
    /// and for the rest.
    pub v4: [[u64; CACHE_V4_WORDS]; 2],
}

impl CacheConfig {
    /// With these keys. Most words of an IPv4 flow are the same for all of them, so their products are made once.
    pub fn with_keys(self, keys: [[u64; CACHE_KEY_WORDS]; 2]) -> Self {
        let v4 = keys.map(|[a0, a1, a2, a3, b0, b1, b2, b3, ports, rest, first]| {
            // The words of an IPv4 address in IPv6's form are 0, 0, this one, and its own.
            let mapped = Addr::v4([0; 4]).native()[1] & 0xffff_ffff;
            let same = a0.wrapping_mul(a1).wrapping_add(b0.wrapping_mul(b1));
            [first.wrapping_add(same), a2.wrapping_add(mapped), a3, b2.wrapping_add(mapped), b3, ports, rest]
        });
        Self { keys, v4, ..self }
    }

    /// The stamp of an entry that is used now.
    #[inline(always)]
    pub const fn stamp(&self, now: u32) -> u32 {
        ((now as u64 * self.stamps as u64) >> 32) as u32 & (CacheEntry::STAMPS - 1)
    }

    /// Ticks of a stamp, rounded down.
    #[inline(always)]
    pub const fn ticks(&self) -> u32 {
        match u32::MAX.checked_div(self.stamps) {
            Some(ticks) => ticks,
            None => 0,
        }
    }
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

/// A path that cached flows take. 32 bytes; once written it stays as it is until the cache is begun anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CachedPath {
    /// [`cache_flags`]; 0 in an element that is free.
    pub flags: u8,
    /// Elements used in `path`, at most [`CACHE_PATH_MAX`].
    pub path_len: u8,
    /// Client attachment, 0 for none.
    pub entry: u16,
    /// Server attachment, 0 for none.
    pub exit: u16,
    /// Instances in client-to-server order.
    pub path: [u16; CACHE_PATH_MAX],
    /// The view ([`crate::ViewId`]).
    pub view: u32,
    /// The flows' tenant.
    pub tenant: u32,
    /// Must be 0.
    pub reserved: u64,
}

impl CachedPath {
    /// As words.
    #[inline(always)]
    pub fn words(self) -> [u64; 4] {
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
        // With the bit that none lacks.
        (self.0 >> 43) as u32 == ifindex >> 16 << 1 | 1
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

const _: () = assert!(size_of::<CachedPath>() == 32);
