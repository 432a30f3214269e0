//! From a tuple to a key, and the hashes of a key.

use core::hash::Hasher;
use siphasher::sip::SipHasher13;
use xdp_layout::Addr;
use xdp_layout::flow::FlowKey;
use zerocopy::IntoBytes;

/// A tuple in the direction its frame travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tuple {
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol.
    pub protocol: u8,
}

impl Tuple {
    /// Writes the canonical key of this tuple of `tenant` (a [`xdp_layout::TenantId`]); true if the source is its `a` end.
    #[inline(always)]
    pub fn key(&self, tenant: u32, key: &mut FlowKey) -> bool {
        let source = self.source.native();
        let destination = self.destination.native();
        let source_is_a = if source[0] != destination[0] {
            u64::from_be(source[0]) < u64::from_be(destination[0])
        } else if source[1] != destination[1] {
            u64::from_be(source[1]) < u64::from_be(destination[1])
        } else {
            self.source_port <= self.destination_port
        };
        key.tenant_protocol = tenant | (self.protocol as u32) << 24;
        if source_is_a {
            key.a = Addr::from_native(source);
            key.b = Addr::from_native(destination);
            key.a_port = self.source_port;
            key.b_port = self.destination_port;
        } else {
            key.a = Addr::from_native(destination);
            key.b = Addr::from_native(source);
            key.a_port = self.destination_port;
            key.b_port = self.source_port;
        }
        source_is_a
    }
}

/// Whether the source of an IPv4 frame is the `a` end of its key, as [`Tuple::key`] has it; from the header's words, in memory
/// order, and the ports as one number, the source's in the upper half.
#[inline(always)]
pub(crate) const fn is_canonical_v4(source: u32, destination: u32, ports: u32) -> bool {
    if source == destination { ports >> 16 <= ports & 0xffff } else { u32::from_be(source) < u32::from_be(destination) }
}

/// The keyed hash that picks instances and canary cohorts: SipHash-1-3 (Aumasson and Bernstein, 2012) of the key's bytes.
/// The same on every front end of a cluster.
#[inline(always)]
pub fn flow_hash(key: &FlowKey, hash_key: [u64; 2]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(hash_key[0], hash_key[1]);
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// The record tag: a keyed multiply-xorshift over the key's five words. It only has to make it unlikely that a recycled
/// element passes for the flow's own, at a quarter of SipHash's price; the key is secret to the node.
#[inline(always)]
pub fn tag(key: &FlowKey, tag_key: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let a = key.a.halves();
    let b = key.b.halves();
    let ports = (key.a_port as u64) << 48 | (key.b_port as u64) << 32 | key.tenant_protocol as u64;
    let mut tag = tag_key;
    tag = (tag ^ a[0]).wrapping_mul(ODD);
    tag = (tag ^ tag >> 32 ^ a[1]).wrapping_mul(ODD);
    tag = (tag ^ tag >> 29 ^ b[0]).wrapping_mul(ODD);
    tag = (tag ^ tag >> 32 ^ b[1]).wrapping_mul(ODD);
    tag = (tag ^ tag >> 29 ^ ports).wrapping_mul(ODD);
    tag ^ tag >> 32
}

#[cfg(test)]
mod tests {
    use super::{Tuple, is_canonical_v4};
    use xdp_layout::Addr;
    use xdp_layout::flow::FlowKey;

    #[test]
    fn the_short_way_to_the_lower_end_agrees_with_the_key() {
        let words = [0x0100_000a_u32, 0x0200_000a, 0x0a00_0001, 0xffff_ffff, 0x0100_000b];
        let numbers = [1, 80, 443, 0xff00, 0xffff];
        for (source, destination) in words.iter().flat_map(|a| words.map(|b| (*a, b))) {
            for (source_port, destination_port) in numbers.iter().flat_map(|a| numbers.map(|b| (*a, b))) {
                let tuple = Tuple {
                    source: Addr::v4_word(source),
                    destination: Addr::v4_word(destination),
                    source_port,
                    destination_port,
                    protocol: 17,
                };
                let ports = u32::from(source_port) << 16 | u32::from(destination_port);
                let is_a = tuple.key(7, &mut FlowKey::default());
                assert_eq!(is_canonical_v4(source, destination, ports), is_a, "{tuple:?}");
            }
        }
    }
}
