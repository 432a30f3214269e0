//! Frames that go by the cache.

use super::Spot;
use crate::frame::Frame;
use crate::key::{self, Tuple};
use crate::route::{self, Place, Stations};
use crate::step::Arrival;
use crate::tables::Tables;
use crate::verdict::Delivery;
use crate::wire::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, protocol, tcp};
use xdp_layout::cache::{CACHE_PATH_MAX, CacheConfig, CachedPath, PortWord, cache_flags};
use xdp_layout::flow::{FlowKey, NeighbourKey};
use xdp_layout::port::{Side, Target, instance_traits, target_flags};
use xdp_layout::{Addr, AttachmentId, Counter, InstanceId};

/// TCP flags of segments that may change a record.
const MARKED: u8 = tcp::SYN | tcp::FIN | tcp::RST;

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

/// What is read of a frame that may go by the cache.
#[derive(Clone, Copy)]
struct Flow {
    spot: Spot,
    source_is_a: bool,
}

/// Delivers a frame whose flow has an entry and whose destination is here, up, and of its tenant; `None` if it is to
/// go the long way.
#[inline(always)]
pub(crate) fn hit<F: Frame, T: Tables>(frame: &mut F, tables: &T, arrival: Arrival) -> Option<Delivery> {
    let config = tables.cache()?;
    let port = tables.port_word(arrival.ifindex);
    if !port.is_of(arrival.ifindex) || frame.hides_tag() {
        return None;
    }
    let flow = match ethertype(frame)? {
        ETHERTYPE_IPV4 => ipv4(frame, config, port)?,
        ETHERTYPE_IPV6 => ipv6(frame, config, port)?,
        _ => return None,
    };
    let set = tables.cache_set(flow.spot.set)?;
    let entry = flow.spot.entry(config.stamp(arrival.now));
    let path = tables.path(flow.spot.find(&set, entry)?)?;
    deliver(frame, tables, port, path, flow.source_is_a)
}

/// [`hit`], not inlined.
#[inline(never)]
pub(crate) fn hit_apart<F: Frame, T: Tables>(frame: &mut F, tables: &T, arrival: Arrival) -> Option<Delivery> {
    hit(frame, tables, arrival)
}

/// Hands the frame to the next element of its path.
#[inline(always)]
fn deliver<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    port: PortWord,
    path: &CachedPath,
    source_is_a: bool,
) -> Option<Delivery> {
    // Bits rather than branches: CLIENT_IS_A is bit 0, and so is a bool.
    let against = (source_is_a as u8 ^ path.flags) & cache_flags::CLIENT_IS_A;
    if path.flags & cache_flags::TOWARDS_SERVER << against == 0 || path.tenant != port.tenant() {
        return None;
    }
    let place = Place { kind: port.kind(), side: port.side(), id: port.id(), index: 0 };
    let index = route::neighbour(&place, path, against).ok()?;
    let (target, element) = if index < path.len() && index < CACHE_PATH_MAX {
        let id = InstanceId::new(path.path[index])?;
        (to_instance(frame, tables, path, id, Side::from_raw(against))?, id.get() as u32)
    } else {
        let id = AttachmentId::new(route::end(path, against))?;
        (to_attachment(frame, tables, path, id)?, id.get() as u32 + route::ATTACHMENT_ELEMENT)
    };
    tables.count(Counter::TierCache);
    Some(Delivery {
        ifindex: target.ifindex,
        flags: target.flags,
        vlan: 0,
        tenant: path.tenant,
        spi: path.view << 1 | against as u32,
        element,
    })
}

#[inline(always)]
fn ethertype<F: Frame>(frame: &F) -> Option<u16> {
    let [word] = frame.words(12)?;
    Some((u32::from_be(word) >> 16) as u16)
}

/// As [`crate::parse`] reads it: a whole TCP or UDP datagram without options.
#[inline(always)]
fn ipv4<F: Frame>(frame: &F, config: &CacheConfig, port: PortWord) -> Option<Flow> {
    let words: [u32; 6] = frame.words(ETHERNET)?;
    let first = u32::from_be(words[0]);
    let length = first & 0xffff;
    let is_fragment = u32::from_be(words[1]) & 0x3fff != 0;
    if first >> 24 != 0x45 || is_fragment || length + ETHERNET as u32 > frame.len() {
        return None;
    }
    let protocol = (u32::from_be(words[2]) >> 16) as u8;
    headers(frame, 20, protocol, length)?;
    let ports = u32::from_be(words[5]);
    let source_is_a = key::is_canonical_v4(words[3], words[4], ports);
    let tenant_protocol = port.tenant() | (protocol as u32) << 24;
    // The ports as the key has them: the lower end's in the lower half.
    let spot = if source_is_a {
        Spot::v4(config, words[3], words[4], ports.rotate_left(16), tenant_protocol)
    } else {
        Spot::v4(config, words[4], words[3], ports, tenant_protocol)
    };
    Some(Flow { spot, source_is_a })
}

/// As [`ipv4`]; without extension headers, and not the other family's addresses in disguise.
#[inline(always)]
fn ipv6<F: Frame>(frame: &F, config: &CacheConfig, port: PortWord) -> Option<Flow> {
    let words: [u32; 11] = frame.words(ETHERNET)?;
    let second = u32::from_be(words[1]);
    let payload = second >> 16;
    if u32::from_be(words[0]) >> 28 != 6 || payload + 40 + ETHERNET as u32 > frame.len() {
        return None;
    }
    let protocol = (second >> 8) as u8;
    headers(frame, 40, protocol, payload + 40)?;
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
    let source_is_a = tuple.key(port.tenant(), &mut key);
    Some(Flow { spot: Spot::of(config, &key), source_is_a })
}

/// Length of the headers of a datagram of `length` bytes whose IP header has `ip`; `None` for what is not plain TCP or UDP, and for
/// segments that may change a record.
#[inline(always)]
fn headers<F: Frame>(frame: &F, ip: usize, protocol: u8, length: u32) -> Option<u32> {
    if protocol == protocol::UDP {
        return (length >= ip as u32 + 8).then_some(ip as u32 + 8);
    }
    if protocol != protocol::TCP || length < ip as u32 + 16 {
        return None;
    }
    let [word] = frame.words(ETHERNET + ip + 12)?;
    let word = u32::from_be(word);
    if (word >> 16) as u8 & MARKED != 0 { None } else { Some(ip as u32 + (word >> 28) * 4) }
}

/// Whether the destination is here, up, untagged, and takes a datagram of this size.
#[inline(always)]
fn takes<F: Frame>(frame: &F, target: &Target) -> bool {
    let mask = target_flags::EXISTS | target_flags::UP | target_flags::REMOTE;
    target.flags & mask == target_flags::EXISTS | target_flags::UP
        && target.vlan == 0
        && (frame.len() <= target.mtu as u32 + ETHERNET as u32 || fits(frame, target.mtu))
}

/// Whether a large frame stands for segments within `mtu`. Few are large, so the headers are read once more.
#[inline(never)]
fn fits<F: Frame>(frame: &F, mtu: u16) -> bool {
    let read = || -> Option<bool> {
        let [start, next, third] = frame.words(ETHERNET)?;
        if ethertype(frame)? == ETHERTYPE_IPV4 {
            let length = u32::from_be(start) & 0xffff;
            let headers = headers(frame, 20, (u32::from_be(third) >> 16) as u8, length)?;
            return Some(route::fits(frame, length, headers, mtu));
        }
        let length = (u32::from_be(next) >> 16) + 40;
        let headers = headers(frame, 40, (u32::from_be(next) >> 8) as u8, length)?;
        Some(route::fits(frame, length, headers, mtu))
    };
    read().unwrap_or(false)
}

#[inline(always)]
fn to_instance<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    path: &CachedPath,
    id: InstanceId,
    side: Side,
) -> Option<Target> {
    let instance = tables.instance(id)?;
    let is_own = instance.ports[0].tenant == path.tenant;
    if instance.traits & (instance_traits::DOWN | instance_traits::TAGGED) != 0 || !is_own {
        return None;
    }
    // By branches: the verifier does not know what bounds a number that the compiler knows to be 0 or 1.
    let (target, mac) = match side {
        Side::Client => (instance.ports[0], &instance.macs[0]),
        Side::Server => (instance.ports[1], &instance.macs[1]),
    };
    if !takes(frame, &target) {
        return None;
    }
    // Each frame of an unanswered flow leaves a note at a function that makes tuples.
    let answered = cache_flags::TOWARDS_SERVER | cache_flags::TOWARDS_CLIENT;
    if instance.traits & instance_traits::CHANGES_TUPLE != 0 && path.flags & answered != answered {
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
    if ethertype(frame)? == ETHERTYPE_IPV4 {
        let [word] = frame.words(ETHERNET + 16)?;
        return Some(Addr::v4_word(word));
    }
    frame.words(ETHERNET + 24).map(Addr::words)
}

#[inline(always)]
fn to_attachment<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    path: &CachedPath,
    id: AttachmentId,
) -> Option<Target> {
    let target = *tables.attachment(id)?;
    if target.tenant != path.tenant || !takes(frame, &target) {
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
