//! How flows get into the cache.

use super::{ODD, Spot, wipe};
use crate::step::Scratch;
use crate::tables::{FlowRef, Round, SetRef, Tables};
use crate::wire::{ETHERNET, protocol};
use xdp_layout::Counter;
use xdp_layout::cache::{CACHE_PATH_MAX, CACHE_WAYS, CACHED_PATHS, CacheEntry, CachedPath, cache_flags};
use xdp_layout::flow::{FlowRecord, FlowState, record_flags};
use xdp_layout::port::PortKind;

/// Elements of the array of paths that are looked at for one.
const PATH_PROBES: u32 = 16;

/// Stamps after which an entry's record is gone.
const OUTLIVED: u32 = 60;

/// No way of a set is free.
const NO_WAY: u32 = CACHE_WAYS as u32;

/// Enters the flow of a plain frame that was delivered here by its record; takes it out if its record is closing.
#[inline(never)]
pub(crate) fn fill<T: Tables>(tables: &T, scratch: &mut Scratch) {
    let Scratch { visit, record, previous, delivery, .. } = scratch;
    let packet = &visit.packet;
    let is_plain = packet.transport == ETHERNET as u32 + if packet.tuple.source.is_v4() { 20 } else { 40 };
    let is_kept = record.flags & record_flags::WATCHED == 0 && record.path_len as usize <= CACHE_PATH_MAX;
    let protocol = packet.tuple.protocol;
    let is_kind = protocol == protocol::UDP || protocol == protocol::TCP;
    let is_local = visit.kind as u8 != PortKind::Uplink as u8 && visit.vlan == 0 && delivery.vlan == 0;
    if !(is_plain & is_kept & is_kind & is_local) || packet.is_error {
        return;
    }
    let Some(config) = tables.cache() else { return };
    let spot = Spot::of(config, &visit.key);
    let Some(set) = tables.cache_set(spot.set) else { return };
    let entry = spot.entry(config.stamp(visit.now));
    let mut choice = Choice { set, entry, home: spot.home, step: 1, way: NO_WAY, seen: 0 };
    tables.repeat(CACHE_WAYS as u32, &mut choice);
    let Choice { set, way, seen, .. } = choice;
    if way == NO_WAY {
        return;
    }
    // Not the copy the frame went by: what matters is what the record says by the time of the second look.
    let Some(flow) = tables.flow(&visit.key) else { return };
    let tag = record.tag;
    flow.load(record);
    // Another flow's by now, if the kernel has recycled the element since it was found.
    let flags = if record.tag == tag { flags(record) } else { 0 };
    if flags != 0 {
        let path = CachedPath {
            flags,
            path_len: record.path_len,
            entry: record.entry,
            exit: record.exit,
            path: [record.path[0], record.path[1], record.path[2], record.path[3], record.path[4]],
            view: record.view,
            tenant: visit.tenant,
            reserved: 0,
        };
        let Some(index) = enter(tables, &path) else {
            tables.count(Counter::CachePathsFull);
            return;
        };
        if !set.swap(way as usize & (CACHE_WAYS - 1), seen, entry.with(index).0) {
            return;
        }
    }
    let is_same = flags != 0
        && tables.flow(&visit.key).is_some_and(|flow| {
            flow.load(previous);
            says_the_same(record, previous)
        });
    if !is_same {
        wipe(&set, entry);
    }
}

/// The search for the way of a flow's entry: where it is, else the one that is looked at first if it is free, else any free one. More
/// flows than there is room for do not take each other's place: what an entry says of its last use is nowhere else.
struct Choice<S> {
    set: S,
    entry: CacheEntry,
    home: usize,
    step: usize,
    way: u32,
    /// What is in that way.
    seen: u64,
}

impl<S: SetRef> Round for Choice<S> {
    #[inline(always)]
    fn round(&mut self) -> bool {
        // Backwards, so that the first free one stays.
        let way = self.home.wrapping_sub(self.step) & (CACHE_WAYS - 1);
        self.step += 1;
        let word = self.set.load(way);
        let is_own = self.entry.path(word).is_some();
        if is_own || word == 0 || self.entry.age(word) > OUTLIVED {
            self.way = way as u32;
            self.seen = word;
        }
        !is_own
    }
}

/// The search for a path's index among the cached ones; the path is entered if it is not there, and there is room near its place.
struct Entering<'a, T> {
    tables: &'a T,
    path: &'a CachedPath,
    next: u32,
    /// 0 for none.
    index: u32,
}

impl<T: Tables> Round for Entering<'_, T> {
    #[inline(always)]
    fn round(&mut self) -> bool {
        let index = self.next & (CACHED_PATHS - 1);
        self.next = self.next.wrapping_add(1);
        let is_there = match self.tables.path(index) {
            Some(known) if known.flags != 0 => known.words() == self.path.words(),
            _ => index != 0 && self.tables.path_put(index, self.path),
        };
        if is_there {
            self.index = index;
        }
        !is_there
    }
}

#[inline(always)]
fn enter<T: Tables>(tables: &T, path: &CachedPath) -> Option<u32> {
    let words = path.words();
    let mut mixed = words[0].wrapping_mul(ODD);
    mixed = (mixed ^ mixed >> 32 ^ words[1]).wrapping_mul(ODD);
    mixed = (mixed ^ mixed >> 32 ^ words[2]).wrapping_mul(ODD);
    let mut entering = Entering { tables, path, next: (mixed >> 32) as u32, index: 0 };
    tables.repeat(PATH_PROBES, &mut entering);
    (entering.index != 0).then_some(entering.index)
}

/// The flags of a record's entry, with the directions it may be repeated for; 0 if for none, since it is about to go.
#[inline(always)]
fn flags(record: &FlowRecord) -> u8 {
    let kept = cache_flags::CLIENT_IS_A | cache_flags::STARTS_AT_FUNCTION | cache_flags::ENDS_AT_FUNCTION;
    let directions = match FlowState::from_word(record.state) {
        FlowState::Established => cache_flags::TOWARDS_SERVER | cache_flags::TOWARDS_CLIENT,
        // The answer promotes the record.
        FlowState::Unanswered if record.flags & record_flags::FROM_CLIENT != 0 => cache_flags::TOWARDS_SERVER,
        FlowState::Unanswered => cache_flags::TOWARDS_CLIENT,
        _ => return 0,
    };
    record.flags & kept | directions
}

/// Whether two readings of a record lead to the same entry, and the record lives. Without branches, each of which the
/// kernel's verifier would follow.
#[inline(always)]
fn says_the_same(one: &FlowRecord, other: &FlowRecord) -> bool {
    let numbers = (one.tag ^ other.tag) | ((one.view ^ other.view) | (one.state ^ other.state)) as u64;
    let ends = (one.entry ^ other.entry) | (one.exit ^ other.exit);
    let shape = (one.path_len ^ other.path_len) | (one.flags ^ other.flags);
    let mut path = 0;
    let mut index = 0;
    while index < CACHE_PATH_MAX {
        path |= one.path[index] ^ other.path[index];
        index += 1;
    }
    numbers | (ends | path) as u64 | shape as u64 == 0
}
