//! Addresses as the maps hold them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An IPv6 address, or an IPv4 address in its v4-mapped form (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2), in network
/// byte order. Frames that carry a v4-mapped address as IPv6 are dropped, so the two families never collide.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(4))]
pub struct Addr(pub [u8; 16]);

impl Addr {
    /// The v4-mapped form of an IPv4 address.
    #[inline(always)]
    pub const fn v4(a: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a[0], a[1], a[2], a[3]])
    }

    /// The v4-mapped form of an IPv4 address whose bytes are the word's in memory order.
    #[inline(always)]
    pub const fn v4_word(word: u32) -> Self {
        Self::words([0, 0, 0xffff_u32.to_be(), word])
    }

    /// The address whose bytes are the words' in memory order.
    #[inline(always)]
    pub const fn words(w: [u32; 4]) -> Self {
        Self::from_native([pair(w[0], w[1]), pair(w[2], w[3])])
    }

    /// The address whose bytes are the two integers' in memory order. Two stores: what is written byte by byte the
    /// processor cannot read back as integers without waiting.
    #[inline(always)]
    pub const fn from_native(halves: [u64; 2]) -> Self {
        Self(zerocopy::transmute!(halves))
    }

    /// The two integers whose bytes in memory order are the address.
    #[inline(always)]
    pub const fn native(&self) -> [u64; 2] {
        zerocopy::transmute!(self.0)
    }

    /// Upper and lower half as integers that order like the address does.
    #[inline(always)]
    pub const fn halves(&self) -> [u64; 2] {
        let [upper, lower] = self.native();
        [u64::from_be(upper), u64::from_be(lower)]
    }

    /// Whether this is an IPv4 address in v4-mapped form.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        let [high, low] = self.halves();
        high == 0 && low >> 32 == 0xffff
    }

    /// The four bytes of an IPv4 address; meaningless for IPv6.
    #[inline(always)]
    pub const fn v4_bytes(&self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }
}

/// The integer whose bytes are `first`'s, then `second`'s.
#[inline(always)]
const fn pair(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "little") {
        first as u64 | (second as u64) << 32
    } else {
        (first as u64) << 32 | second as u64
    }
}
