//! The path cache: what a flow's record says, again, where one memory access finds it.
//!
//! An entry is one word: a fingerprint of the flow, when it was used last, and which of the cached paths the flow takes. So no
//! reader takes the halves of two entries for one, whatever it reads while others write. The fingerprint is 45 bits of two
//! multilinear hashes with secret keys, of which any two flows share all with a probability of 2^-45 (Carter and Wegman, 1979;
//! Lemire and Kaser, "Strongly universal string hashing is fast", 2014, "Multilinear-HM"); other bits of them say in which set of
//! eight the entry is. The tenants of a path and of a destination are compared besides.
//!
//! The record stays what decides. Whoever replaces, deletes or resets one clears the entry afterwards; whoever writes an entry
//! looks at the record again afterwards, and clears what has become wrong. A full barrier on either side makes one of the two
//! see the other, so no wrong entry is there once both have ended. An entry stays as long as its record: only from its stamp is
//! known that frames went by it, and whoever is about to delete the record as idle asks for that ([`idle`]).
//!
//! A frame for which anything is unusual finds nothing here, and goes by [`crate::step`]'s long way.

mod fill;
mod hit;

pub(crate) use fill::fill;
pub(crate) use hit::{hit, hit_apart};

use crate::tables::{SetRef, Tables};
use xdp_layout::cache::{CACHE_V4_WORDS, CACHE_WAYS, CacheConfig, CacheEntry};
use xdp_layout::flow::FlowKey;

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where a flow's entry lies, and how it is told from others.
#[derive(Clone, Copy)]
struct Spot {
    /// In the upper bits.
    fingerprint: u64,
    set: u32,
    /// The way that is looked at first.
    home: usize,
}

impl Spot {
    #[inline(always)]
    fn of(config: &CacheConfig, key: &FlowKey) -> Self {
        let ports = key.a_port as u64 | (key.b_port as u64) << 16;
        let ([a0, a1], [b0, b1]) = (key.a.native(), key.b.native());
        let words = [a0, a0 >> 32, a1, a1 >> 32, b0, b0 >> 32, b1, b1 >> 32, ports, key.tenant_protocol as u64];
        let mut hashes = [config.keys[0][10], config.keys[1][10]];
        let mut word = 0;
        while word < words.len() {
            let (one, other) = (words[word] & 0xffff_ffff, words[word + 1] & 0xffff_ffff);
            hashes[0] = hashes[0].wrapping_add(product(config.keys[0][word], one, config.keys[0][word + 1], other));
            hashes[1] = hashes[1].wrapping_add(product(config.keys[1][word], one, config.keys[1][word + 1], other));
            word += 2;
        }
        Self::new(config, hashes)
    }

    /// The same of an IPv4 flow, whose other words were hashed before.
    #[inline(always)]
    fn v4(config: &CacheConfig, a: u32, b: u32, ports: u32, tenant_protocol: u32) -> Self {
        let hash = |[first, a_key, a_other, b_key, b_other, ports_key, rest_key]: &[u64; CACHE_V4_WORDS]| {
            let addresses = product(*a_key, 0, *a_other, a as u64).wrapping_add(product(*b_key, 0, *b_other, b as u64));
            let rest = product(*ports_key, ports as u64, *rest_key, tenant_protocol as u64);
            first.wrapping_add(addresses).wrapping_add(rest)
        };
        Self::new(config, [hash(&config.v4[0]), hash(&config.v4[1])])
    }

    /// Only the upper halves of the hashes are universal: 32 bits of one and 13 of the other are the fingerprint (that the latter are
    /// mixed with bits of the first does not matter: they are of other keys). Set and way are picked by bits that are mixed once more:
    /// the hashes of flows that differ in one word lie on a line, which would fill some sets and leave others empty.
    #[inline(always)]
    fn new(config: &CacheConfig, [first, second]: [u64; 2]) -> Self {
        let fingerprint = first ^ second >> 32;
        let mixed = fingerprint.wrapping_mul(ODD);
        Self {
            fingerprint,
            set: (mixed >> 47) as u32 & config.sets_mask,
            home: (mixed >> 44) as usize & (CACHE_WAYS - 1),
        }
    }

    /// The flow's entry with a stamp, without its path.
    #[inline(always)]
    fn entry(&self, stamp: u32) -> CacheEntry {
        CacheEntry::new(self.fingerprint, stamp)
    }

    /// The path of the flow, if its entry is there, which gets the stamp of `entry`.
    #[inline(always)]
    fn find<S: SetRef>(&self, set: &S, entry: CacheEntry) -> Option<u32> {
        use_way(set, self.home, entry).or_else(|| search(set, entry))
    }
}

/// The path in a way, if the flow's entry is there. The stamp is written by an exchange, so that an entry that was cleared meanwhile
/// does not come back.
#[inline(always)]
fn use_way<S: SetRef>(set: &S, way: usize, entry: CacheEntry) -> Option<u32> {
    let word = set.load(way);
    let (path, is_older) = entry.path(word)?;
    if is_older {
        let _cleared_or_stamped = set.swap(way, word, entry.with(path).0);
    }
    Some(path)
}

/// The path of a flow whose entry is not in the way that is looked at first. Few are elsewhere.
#[inline(always)]
fn search<S: SetRef>(set: &S, entry: CacheEntry) -> Option<u32> {
    let mut way = 0;
    while way < CACHE_WAYS {
        if let Some(path) = use_way(set, way, entry) {
            return Some(path);
        }
        way += 1;
    }
    None
}

/// A pair of a multilinear hash: one multiplication for two words.
#[inline(always)]
const fn product(key: u64, word: u64, other_key: u64, other: u64) -> u64 {
    key.wrapping_add(word).wrapping_mul(other_key.wrapping_add(other))
}

#[inline(always)]
fn wipe<S: SetRef>(set: &S, entry: CacheEntry) {
    let mut way = 0;
    while way < CACHE_WAYS {
        if entry.path(set.load(way)).is_some() {
            set.store(way, 0);
        }
        way += 1;
    }
}

/// Takes a flow's entry out. To be called after its record was changed or deleted, which was a full barrier.
#[inline(never)]
pub(crate) fn clear<T: Tables>(tables: &T, key: &FlowKey) {
    let Some(config) = tables.cache() else { return };
    let spot = Spot::of(config, key);
    if let Some(set) = tables.cache_set(spot.set) {
        wipe(&set, spot.entry(0));
    }
}

/// Ticks since a frame of the flow last went by the cache, at least; up to twice [`CacheConfig::ticks`] more have passed. `None` if it has
/// no entry. `word` reads a way (0 to 7) of a set.
#[inline(always)]
pub fn idle(config: &CacheConfig, key: &FlowKey, now: u32, word: impl Fn(u32, usize) -> Option<u64>) -> Option<u32> {
    let spot = Spot::of(config, key);
    let entry = spot.entry(config.stamp(now));
    let (mut idle, mut way) = (None, 0);
    while way < CACHE_WAYS {
        let word = word(spot.set, way)?;
        // Two CPUs may have entered a flow at once, in two ways of which one is used.
        if entry.path(word).is_some() {
            let age = entry.age(word).saturating_sub(1) * config.ticks();
            idle = Some(idle.map_or(age, |known: u32| known.min(age)));
        }
        way += 1;
    }
    idle
}

#[cfg(test)]
mod tests {
    use super::Spot;
    use crate::key::Tuple;
    use proptest::prelude::{prop_assert_eq, proptest};
    use xdp_layout::Addr;
    use xdp_layout::cache::{CACHE_KEY_WORDS, CACHE_SETS, CacheConfig};
    use xdp_layout::flow::FlowKey;

    proptest! {
        #[test]
        fn the_short_way_to_the_hash_of_an_ipv4_flow_agrees_with_the_long_one(
            keys: [[u64; CACHE_KEY_WORDS]; 2],
            addrs: [u32; 2],
            ports: [u16; 2],
            protocol: u8,
            tenant in 1u32..1 << 24,
        ) {
            let config = CacheConfig { sets_mask: CACHE_SETS - 1, ..CacheConfig::default() }.with_keys(keys);
            let tuple = Tuple {
                source: Addr::v4_word(addrs[0]),
                destination: Addr::v4_word(addrs[1]),
                source_port: ports[0],
                destination_port: ports[1],
                protocol,
            };
            let mut key = FlowKey::default();
            tuple.key(tenant, &mut key);
            let long = Spot::of(&config, &key);
            let [a, b] = [key.a, key.b].map(|addr| (addr.native()[1] >> 32) as u32);
            let ports = u32::from(key.a_port) | u32::from(key.b_port) << 16;
            let short = Spot::v4(&config, a, b, ports, key.tenant_protocol);
            prop_assert_eq!((long.fingerprint, long.set, long.home), (short.fingerprint, short.set, short.home));
        }
    }
}
