//! Numbers for sampling: seeded, the same on every machine.

use crate::cidr::Cidr;
use xdp_layout::Addr;

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014). Seeds that lie close
/// together give unrelated sequences, so a flow's own sequence may be seeded with anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// One of `0..count`, by multiply-shift: for counts of 32 bits the bias is below 2^-32.
    pub(super) const fn below(&mut self, count: u64) -> u64 {
        ((self.number() as u128 * count as u128) >> 64) as u64
    }

    pub(super) const fn coin(&mut self) -> bool {
        self.number() >> 63 == 0
    }

    pub(super) fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        if list.is_empty() { None } else { list.get(self.below(list.len() as u64) as usize) }
    }

    /// A port from `first` to `last`, which is not below it.
    pub(super) const fn port(&mut self, first: u16, last: u16) -> u16 {
        first + self.below(last.saturating_sub(first) as u64 + 1) as u16
    }

    /// An address of the prefix.
    pub(super) fn addr(&mut self, prefix: Cidr) -> Addr {
        let (first, last) = prefix.bounds();
        let bits = u128::from(self.number()) << 64 | u128::from(self.number());
        Addr((first | bits & (first ^ last)).to_be_bytes())
    }
}
