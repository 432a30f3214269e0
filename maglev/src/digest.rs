//! A short name for a table's bytes.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

/// Public and fixed: digests are compared between nodes, they authenticate nothing.
const KEY: &[u8; 16] = b"switchyard/table";

/// SipHash-1-3, under a fixed public key, of the number of slots (u32, little-endian) and the entries (u16, little-endian each).
///
/// Two nodes whose digests are equal map every flow to the same index, so equal member lists mean equal choices.
pub fn digest(entries: &[u16]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(KEY);
    hasher.write(&(entries.len() as u32).to_le_bytes());
    let mut block = [0u8; 512];
    for chunk in entries.chunks(block.len() / 2) {
        for (bytes, entry) in block.chunks_exact_mut(2).zip(chunk) {
            bytes.copy_from_slice(&entry.to_le_bytes());
        }
        hasher.write(&block[..chunk.len() * 2]);
    }
    hasher.finish()
}
