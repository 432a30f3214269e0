//! Digests of content.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Public and fixed: digests are compared between nodes, they authenticate nothing.
const KEY: &[u8; 16] = b"switchyard/graph";

/// Collects content into a 64-bit SipHash-1-3. Integers go in as little-endian bytes and texts with their length, so the
/// digest is the same on every machine and no two different sequences run into each other.
#[derive(Clone)]
pub(crate) struct Digest(SipHasher13);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(SipHasher13::new_with_key(KEY))
    }

    pub(crate) fn number(&mut self, value: impl Into<u64>) -> &mut Self {
        self.0.write(&value.into().to_le_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.write(bytes);
        self
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0.finish()
    }
}
