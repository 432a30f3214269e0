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
        let [a, b, c, d] = [w[0].to_ne_bytes(), w[1].to_ne_bytes(), w[2].to_ne_bytes(), w[3].to_ne_bytes()];
        Self([a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]])
    }

    /// Upper and lower half as integers that order like the address does.
    #[inline(always)]
    pub const fn halves(&self) -> [u64; 2] {
        let b = &self.0;
        [
            u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            u64::from_be_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
        ]
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
