//! The path cache: what a flow's record says, again, where one memory access finds it.
//!
//! An entry is a seal and three words that say the path. The seal is the flow's fingerprint mixed with those words, so that
//! no reader takes the halves of two entries for one, whatever it reads while others write (Hyatt and Mann, "A lock-less
//! transposition table implementation for parallel search", 2002). The fingerprint is two multilinear hashes of 32 bits with
//! secret keys: any two flows share one with a probability of 2^-64 (Carter and Wegman, 1979; Lemire and Kaser, "Strongly
//! universal string hashing is fast", 2014). The tenant of a destination is compared besides.
//!
//! The record stays what decides. Whoever replaces, deletes or resets one clears the entry afterwards; whoever writes an entry
//! looks at the record again afterwards, and clears what has become wrong. A full barrier on either side makes one of the two
//! see the other, so no wrong entry is there once both have ended. Besides, an entry holds for [`CacheConfig::fresh`] only,
//! which is how the record learns that its flow lives.
//!
//! A frame for which anything is unusual finds nothing here, and goes by [`crate::step`]'s long way.

use crate::frame::Frame;
use crate::key::{self, Tuple};
use crate::route::{self, Place, Stations};
use crate::step::{Arrival, Scratch};
use crate::tables::{FlowRef, SetRef, Tables};
use crate::verdict::Delivery;
use crate::wire::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, protocol, tcp};
use xdp_layout::cache::{
    CACHE_ENTRY_WORDS, CACHE_PATH_MAX, CACHE_V4_WORDS, CACHE_WAYS, CacheConfig, CachedPath, PortWord, cache_flags,
};
use xdp_layout::flow::{FlowKey, FlowRecord, FlowState, NeighbourKey, record_flags};
use xdp_layout::port::{PortKind, Side, Target, instance_traits, target_flags};
use xdp_layout::{Addr, AttachmentId, Counter, InstanceId};

const ODD: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

/// TCP flags of segments that may change a record.
const MARKED: u8 = tcp::SYN | tcp::FIN | tcp::RST;

/// Where a flow's entry lies, and how it is told from others.
#[derive(Clone, Copy)]
struct Spot {
    fingerprint: u64,
    set: u32,
}

impl Spot {
    #[inline(always)]
    fn of(config: &CacheConfig, key: &FlowKey) -> Self {
        let ports = key.a_port as u32 | (key.b_port as u32) << 16;
        let ([a0, a1], [b0, b1]) = (key.a.native(), key.b.native());
        if key.a.is_v4() && key.b.is_v4() {
            return Self::v4(config, (a1 >> 32) as u32, (b1 >> 32) as u32, ports, key.tenant_protocol);
        }
        let words = [a0, a0 >> 32, a1, a1 >> 32, b0, b0 >> 32, b1, b1 >> 32, ports as u64, key.tenant_protocol as u64];
        let mut hashes = [config.v6[0][10], config.v6[1][10]];
        let mut word = 0;
        while word < words.len() {
            let value = words[word] & 0xffff_ffff;
            hashes[0] = hashes[0].wrapping_add(config.v6[0][word].wrapping_mul(value));
            hashes[1] = hashes[1].wrapping_add(config.v6[1][word].wrapping_mul(value));
            word += 1;
        }
        Self::new(config, hashes)
    }

    /// Of an IPv4 flow: the words that are the same for all of them are left out.
    #[inline(always)]
    fn v4(config: &CacheConfig, a: u32, b: u32, ports: u32, tenant_protocol: u32) -> Self {
        let hash = |keys: &[u64; CACHE_V4_WORDS]| {
            let addresses = keys[1].wrapping_mul(a as u64).wrapping_add(keys[2].wrapping_mul(b as u64));
            let rest = keys[3].wrapping_mul(ports as u64).wrapping_add(keys[4].wrapping_mul(tenant_protocol as u64));
            keys[0].wrapping_add(addresses).wrapping_add(rest)
        };
        Self::new(config, [hash(&config.v4[0]), hash(&config.v4[1])])
    }

    /// The upper halves are the fingerprint; the lower ones, mixed, pick the set.
    #[inline(always)]
    fn new(config: &CacheConfig, [first, second]: [u64; 2]) -> Self {
        let mixed = (first << 32 | second & 0xffff_ffff).wrapping_mul(ODD[0]);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(ODD[1]) >> 32;
        Self {
            fingerprint: first & 0xffff_ffff_0000_0000 | second >> 32,
            set: (mixed.wrapping_mul(config.sets as u64) >> 32) as u32,
        }
    }

    /// What the first word of the entry is if these are the others.
    #[inline(always)]
    fn seal(&self, words: [u64; 3]) -> u64 {
        self.fingerprint ^ words[0].wrapping_mul(ODD[0]) ^ words[1].wrapping_mul(ODD[1]) ^ words[2].wrapping_mul(ODD[2])
    }

    /// The entry in one way of the set, if it is the flow's.
    #[inline(always)]
    fn read<S: SetRef>(&self, set: &S, way: usize) -> Option<CachedPath> {
        let first = way * CACHE_ENTRY_WORDS;
        let words = [set.load(first + 1), set.load(first + 2), set.load(first + 3)];
        (set.load(first) == self.seal(words)).then(|| CachedPath::from_words(words))
    }

    /// The way the flow has its entry in already, else that of the older entry, unless that is younger than `held` too: more
    /// flows than there is room for would take each other's place before it was of use. One that was taken out has no seal.
    #[inline(always)]
    fn way<S: SetRef>(&self, set: &S, now: u32, held: u32) -> Option<usize> {
        let age = |way: usize| {
            let first = way * CACHE_ENTRY_WORDS;
            let stamp = CachedPath::from_words([0, 0, set.load(first + CACHE_ENTRY_WORDS - 1)]).stamp;
            if set.load(first) == 0 { u32::MAX } else { now.wrapping_sub(stamp) }
        };
        if self.read(set, 0).is_some() {
            return Some(0);
        }
        if self.read(set, 1).is_some() {
            return Some(1);
        }
        let older = (age(1) > age(0)) as usize;
        (age(older) >= held).then_some(older)
    }

    #[inline(always)]
    fn find<S: SetRef>(&self, set: &S) -> Option<CachedPath> {
        self.read(set, 0).or_else(|| self.read(set, 1))
    }
}

impl Stations for CachedPath {
    const MAX: usize = CACHE_PATH_MAX;
    #[inline(always)]
    fn len(&self) -> usize {
        self.path_len as usize
    }
    #[inline(always)]
    fn at(&self, index: usize) -> u16 {
        if index < CACHE_PATH_MAX { self.path[index] } else { 0 }
    }
    #[inline(always)]
    fn ends(&self) -> (u16, u16) {
        (self.entry, self.exit)
    }
    #[inline(always)]
    fn flags(&self) -> u8 {
        self.flags
    }
}

/// What is read of a frame that may go by the cache, and what the cache says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cached {
    path: CachedPath,
    port: PortWord,
    /// Bytes of the IP datagram, and of its network and transport headers.
    length: u32,
    headers: u32,
    source_is_a: bool,
}

/// Delivers a frame whose flow has a fresh entry and whose destination is here, up, and of its tenant; false if it is to go
/// the long way. The two parts are not inlined and meet in memory: so the kernel's verifier forgets which of the many ways
/// led to the same point.
#[inline(never)]
pub(crate) fn hit<F: Frame, T: Tables>(frame: &mut F, tables: &T, scratch: &mut Scratch, arrival: Arrival) -> bool {
    find(frame, tables, &mut scratch.cached, arrival) && deliver(frame, tables, scratch)
}

/// Finds the entry of the frame's flow.
#[inline(always)]
fn find<F: Frame, T: Tables>(frame: &F, tables: &T, cached: &mut Cached, arrival: Arrival) -> bool {
    let Some(config) = tables.cache().filter(|config| config.sets != 0) else { return false };
    cached.port = tables.port_word(arrival.ifindex);
    if !cached.port.is_of(arrival.ifindex) || frame.hides_tag() {
        return false;
    }
    let Some([word]) = frame.words(12) else { return false };
    let spot = match (u32::from_be(word) >> 16) as u16 {
        ETHERTYPE_IPV4 => ipv4(frame, config, cached),
        ETHERTYPE_IPV6 => ipv6(frame, config, cached),
        _ => None,
    };
    let Some(spot) = spot else { return false };
    let Some(path) = tables.cache_set(spot.set).and_then(|set| spot.find(&set)) else { return false };
    cached.path = path;
    arrival.now.wrapping_sub(path.stamp) < config.fresh
}

/// Hands the frame to the next element of its path.
#[inline(always)]
fn deliver<F: Frame, T: Tables>(frame: &mut F, tables: &T, scratch: &mut Scratch) -> bool {
    let Scratch { cached, delivery, .. } = scratch;
    let (path, port) = (&cached.path, cached.port);
    // Bits rather than branches: CLIENT_IS_A is bit 0, and so is a bool.
    let against = (cached.source_is_a as u8 ^ path.flags) & cache_flags::CLIENT_IS_A;
    if path.flags & cache_flags::TOWARDS_SERVER << against == 0 {
        return false;
    }
    let place = Place { kind: port.kind(), side: port.side(), id: port.id(), index: 0 };
    let Ok(next) = route::next(&place, path, against) else { return false };
    let (target, element) = if let Some(id) = next.instance() {
        (to_instance(frame, tables, cached, id, next.side()), id.get() as u32)
    } else if let Some(id) = next.attachment() {
        (to_attachment(frame, tables, cached, id), id.get() as u32 + route::ATTACHMENT_ELEMENT)
    } else {
        return false;
    };
    let Some(target) = target else { return false };
    *delivery = Delivery {
        ifindex: target.ifindex,
        flags: target.flags,
        vlan: 0,
        tenant: port.tenant(),
        spi: path.view << 1 | against as u32,
        element,
    };
    tables.count(Counter::TierCache);
    true
}

/// As [`crate::parse`] reads it: a whole TCP or UDP datagram without options.
#[inline(always)]
fn ipv4<F: Frame>(frame: &F, config: &CacheConfig, cached: &mut Cached) -> Option<Spot> {
    let words: [u32; 6] = frame.words(ETHERNET)?;
    let first = u32::from_be(words[0]);
    let length = first & 0xffff;
    let is_fragment = u32::from_be(words[1]) & 0x3fff != 0;
    if first >> 24 != 0x45 || is_fragment || length < 20 || length + ETHERNET as u32 > frame.len() {
        return None;
    }
    let protocol = (u32::from_be(words[2]) >> 16) as u8;
    cached.length = length;
    cached.headers = 20 + transport(frame, 34, protocol, length - 20)?;
    let ports = u32::from_be(words[5]);
    let source_is_a = key::is_canonical_v4(words[3], words[4], ports);
    let tenant_protocol = cached.port.tenant() | (protocol as u32) << 24;
    cached.source_is_a = source_is_a;
    // The ports as the key has them: the lower end's in the lower half.
    Some(if source_is_a {
        Spot::v4(config, words[3], words[4], ports.rotate_left(16), tenant_protocol)
    } else {
        Spot::v4(config, words[4], words[3], ports, tenant_protocol)
    })
}

/// As [`ipv4`]; without extension headers, and not the other family's addresses in disguise.
#[inline(always)]
fn ipv6<F: Frame>(frame: &F, config: &CacheConfig, cached: &mut Cached) -> Option<Spot> {
    let words: [u32; 11] = frame.words(ETHERNET)?;
    let second = u32::from_be(words[1]);
    let payload = second >> 16;
    if u32::from_be(words[0]) >> 28 != 6 || payload + 40 + ETHERNET as u32 > frame.len() {
        return None;
    }
    let protocol = (second >> 8) as u8;
    cached.length = payload + 40;
    cached.headers = 40 + transport(frame, 54, protocol, payload)?;
    let ports = u32::from_be(words[10]);
    let tuple = Tuple {
        source: Addr::words([words[2], words[3], words[4], words[5]]),
        destination: Addr::words([words[6], words[7], words[8], words[9]]),
        source_port: (ports >> 16) as u16,
        destination_port: ports as u16,
        protocol,
    };
    if tuple.source.is_v4() || tuple.destination.is_v4() {
        return None;
    }
    let mut key = FlowKey::default();
    cached.source_is_a = tuple.key(cached.port.tenant(), &mut key);
    Some(Spot::of(config, &key))
}

/// Length of the transport header at a constant offset; `None` for what is not plain TCP or UDP, and for segments that may
/// change a record.
#[inline(always)]
fn transport<F: Frame>(frame: &F, offset: usize, protocol: u8, room: u32) -> Option<u32> {
    if protocol == protocol::UDP {
        return (room >= 8).then_some(8);
    }
    if protocol != protocol::TCP || room < 16 {
        return None;
    }
    let [_, word]: [u32; 2] = frame.words(offset + 8)?;
    let word = u32::from_be(word);
    if (word >> 16) as u8 & MARKED != 0 { None } else { Some((word >> 28) * 4) }
}

/// Whether the destination is here, up, untagged, and takes a datagram of this size.
#[inline(always)]
fn takes<F: Frame>(frame: &F, cached: &Cached, target: &Target) -> bool {
    let mask = target_flags::EXISTS | target_flags::UP | target_flags::REMOTE;
    target.flags & mask == target_flags::EXISTS | target_flags::UP
        && target.vlan == 0
        && route::fits(frame, cached.length, cached.headers, target.mtu)
}

#[inline(always)]
fn to_instance<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    cached: &Cached,
    id: InstanceId,
    side: Side,
) -> Option<Target> {
    let instance = tables.instance(id)?;
    let is_own = instance.ports[0].tenant == cached.port.tenant();
    if instance.traits & (instance_traits::DOWN | instance_traits::TAGGED) != 0 || !is_own {
        return None;
    }
    // By branches: the verifier does not know what bounds a number that the compiler knows to be 0 or 1.
    let (target, mac) = match side {
        Side::Client => (instance.ports[0], &instance.macs[0]),
        Side::Server => (instance.ports[1], &instance.macs[1]),
    };
    if !takes(frame, cached, &target) {
        return None;
    }
    // Each frame of an unanswered flow leaves a note at a function that makes tuples.
    let answered = cache_flags::TOWARDS_SERVER | cache_flags::TOWARDS_CLIENT;
    if instance.traits & instance_traits::CHANGES_TUPLE != 0 && cached.path.flags & answered != answered {
        return None;
    }
    let is_routed = instance.traits & instance_traits::ROUTED != 0;
    if is_routed && !route::rewrite_macs(frame, *mac, tables.mac()) {
        return None;
    }
    tables.count_instance(id, frame.len());
    Some(target)
}

/// Of the IP header, read once more: few frames need it.
#[inline(always)]
fn destination<F: Frame>(frame: &F) -> Option<Addr> {
    let [ethertype] = frame.words(12)?;
    if u32::from_be(ethertype) >> 16 == ETHERTYPE_IPV4 as u32 {
        let [word] = frame.words(ETHERNET + 16)?;
        return Some(Addr::v4_word(word));
    }
    frame.words(ETHERNET + 24).map(Addr::words)
}

#[inline(always)]
fn to_attachment<F: Frame, T: Tables>(frame: &mut F, tables: &T, cached: &Cached, id: AttachmentId) -> Option<Target> {
    let target = *tables.attachment(id)?;
    if target.tenant != cached.port.tenant() || !takes(frame, cached, &target) {
        return None;
    }
    let mac = tables.mac();
    // Four bytes differ for nearly all frames, and are read at once.
    let [start] = frame.words(0)?;
    if start == u32::from_ne_bytes([mac[0], mac[1], mac[2], mac[3]]) && frame.load(0)? == mac {
        let key = NeighbourKey { addr: destination(frame)?, attachment: id.get(), reserved: 0 };
        if !route::rewrite_macs(frame, tables.neighbour(&key)?.mac, mac) {
            return None;
        }
    }
    Some(target)
}

/// Enters the flow of a plain frame that was delivered here by its record; takes it out if its record is closing. Where no such
/// frame comes, a closing flow's entry runs out by itself: [`CacheConfig::fresh`] is not longer than such records stay.
#[inline(never)]
pub(crate) fn fill<T: Tables>(tables: &T, scratch: &mut Scratch) {
    let Scratch { visit, record, previous, delivery, .. } = scratch;
    let packet = &visit.packet;
    let is_plain = packet.transport == ETHERNET as u32 + if packet.tuple.source.is_v4() { 20 } else { 40 };
    let is_kept = record.flags & record_flags::WATCHED == 0 && record.path_len as usize <= CACHE_PATH_MAX;
    let protocol = packet.tuple.protocol;
    let is_kind = protocol == protocol::UDP || protocol == protocol::TCP;
    let is_local = visit.kind as u8 != PortKind::Uplink as u8 && visit.vlan == 0 && delivery.vlan == 0;
    if !is_plain || !is_kept || !is_kind || !is_local || packet.is_error {
        return;
    }
    let Some(config) = tables.cache().filter(|config| config.sets != 0) else { return };
    let spot = Spot::of(config, &visit.key);
    let Some(set) = tables.cache_set(spot.set) else { return };
    let Some(way) = spot.way(&set, visit.now, config.fresh / 2) else { return };
    // Not the copy the frame went by: what matters is what the record says by the time of the second look.
    let Some(flow) = tables.flow(&visit.key) else { return };
    let tag = record.tag;
    flow.load(record);
    // Another flow's by now, if the kernel has recycled the element since it was found.
    let flags = if record.tag == tag { flags(record) } else { 0 };
    if flags != 0 {
        let path = CachedPath {
            entry: record.entry,
            exit: record.exit,
            flags,
            path_len: record.path_len,
            path: [record.path[0], record.path[1], record.path[2], record.path[3], record.path[4]],
            view: record.view,
            stamp: visit.now,
        };
        write(&spot, &set, way, path.words());
    }
    let is_same = flags != 0
        && tables.flow(&visit.key).is_some_and(|flow| {
            flow.load(previous);
            says_the_same(record, previous)
        });
    if !is_same {
        wipe(&spot, &set);
    }
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

#[inline(always)]
fn write<S: SetRef>(spot: &Spot, set: &S, way: usize, words: [u64; 3]) {
    let first = if way == 0 { 0 } else { CACHE_ENTRY_WORDS };
    set.store(first + 1, words[0]);
    set.store(first + 2, words[1]);
    set.store(first + 3, words[2]);
    set.seal(first, spot.seal(words));
}

#[inline(always)]
fn wipe<S: SetRef>(spot: &Spot, set: &S) {
    let mut way = 0;
    while way < CACHE_WAYS {
        if spot.read(set, way).is_some() {
            set.store(way * CACHE_ENTRY_WORDS, 0);
        }
        way += 1;
    }
}

/// Takes a flow's entry out. To be called after its record was changed or deleted, which was a full barrier.
#[inline(never)]
pub(crate) fn clear<T: Tables>(tables: &T, key: &FlowKey) {
    let Some(config) = tables.cache().filter(|config| config.sets != 0) else { return };
    let spot = Spot::of(config, key);
    if let Some(set) = tables.cache_set(spot.set) {
        wipe(&spot, &set);
    }
}
