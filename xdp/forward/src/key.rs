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
