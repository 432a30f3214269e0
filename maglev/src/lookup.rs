//! From a flow's hash to a member. Runs inside eBPF: no panics, no allocation, bounded loops, no division.

/// How many times a flow whose member is down is hashed again before the members are scanned.
pub const REHASHES: u32 = 8;

/// How many members the last resort of [`pick`] looks at. A constant, so that the eBPF verifier sees the bound.
pub const MAX_MEMBERS_SCAN: u32 = 64;

/// A table as the lookup sees it: some array of entries and the state of its members.
pub trait Table {
    /// Number of slots (a prime, see `TableSize`).
    fn size(&self) -> u32;
    /// The member that owns `slot`; `None` if the slot cannot be read.
    fn entry(&self, slot: u32) -> Option<u16>;
    /// Whether `member` may be given a flow: it is up **and** its weight is not zero. (The table itself never names a member of
    /// weight zero, but the scan of [`pick`] asks about every index.)
    fn is_live(&self, member: u16) -> bool;
    /// Number of members, those of weight zero included; valid indexes are `0..members`.
    fn members(&self) -> u16;
}

/// The outcome of [`pick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Index of the chosen member in the sorted member list.
    pub member: u16,
    /// Whether the table's own choice was down and stepped over. Such a flow is an exception to the table.
    pub overlay: bool,
}

/// The slot of a 32-bit hash in a table of `size` slots: multiply-shift, so neither a division nor a remainder is needed.
/// The result is below `size`; 0 if `size` is 0.
#[inline(always)]
pub const fn slot(hash32: u32, size: u32) -> u32 {
    ((hash32 as u64 * size as u64) >> 32) as u32
}

/// The 32-bit hash of a flow for one table and one attempt.
///
/// `flow_hash` is the keyed 64-bit hash of the canonical flow key; `seed` is the id of the replica set, so that the choices at two
/// stages of a path are not correlated; `attempt` 0 is the table's own choice, `1..=`[`REHASHES`] the re-hashes. The steps are
/// those of the 32-bit MurmurHash3 finaliser, with the upper half of `flow_hash` added between them.
#[inline(always)]
pub const fn mix(flow_hash: u64, seed: u32, attempt: u32) -> u32 {
    let mut x = (flow_hash as u32) ^ seed.wrapping_mul(0x9E37_79B1);
    x ^= x >> 16;
    x = x.wrapping_mul(0x85EB_CA6B);
    x ^= (flow_hash >> 32) as u32;
    x = x.wrapping_add(attempt.wrapping_mul(0x6C07_8965));
    x ^= x >> 13;
    x = x.wrapping_mul(0xC2B2_AE35);
    x ^= x >> 16;
    x
}

/// Candidates a flow has: its slot, [`REHASHES`] further slots, [`MAX_MEMBERS_SCAN`] members.
pub const ATTEMPTS: u32 = 1 + REHASHES + MAX_MEMBERS_SCAN;

/// The member that a flow tries at `attempt`, live or not; `None` if there is none at that attempt.
///
/// Attempt 0 is the owner of the flow's slot; then come the owners of the slots of [`REHASHES`] re-hashes, which keep to the
/// weights; then up to [`MAX_MEMBERS_SCAN`] members by index, beginning at one that depends on the flow, wrapping once.
#[inline(always)]
pub fn candidate<T: Table>(table: &T, flow_hash: u64, seed: u32, attempt: u32) -> Option<u16> {
    if attempt <= REHASHES {
        return table.entry(slot(mix(flow_hash, seed, attempt), table.size()));
    }
    let members = u32::from(table.members());
    let looked_at = attempt - (REHASHES + 1);
    if looked_at >= MAX_MEMBERS_SCAN || looked_at >= members {
        return None;
    }
    let member = slot(mix(flow_hash, seed, REHASHES + 1), members) + looked_at;
    Some(if member >= members { member - members } else { member } as u16)
}

/// The member of a flow: the first live one in the flow's own order, see [`candidate`].
///
/// So a member that goes down moves only the flows that it had, and a flow that was moved moves again only if its new member goes
/// down or an earlier one comes back.
///
/// `None` if no member is live. With more than [`MAX_MEMBERS_SCAN`] members, also if all the members looked at are down; at least
/// nine of ten members must be down for a share above 0.43 of the flows even to reach the scan.
#[inline(always)]
pub fn pick<T: Table>(table: &T, flow_hash: u64, seed: u32) -> Option<Pick> {
    (0..ATTEMPTS).find_map(|attempt| {
        let member = candidate(table, flow_hash, seed, attempt)?;
        table.is_live(member).then_some(Pick { member, overlay: attempt != 0 })
    })
}
