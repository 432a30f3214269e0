//! The encapsulation between front ends: outer Ethernet, IPv4, UDP 4790, VXLAN-GPE, NSH MD type 2 (RFC 8300), inner
//! Ethernet. `docs/wire-format.md` draws it.
//!
//! The path travels with the frame, in a private context header: a front end that hosts a later instance keeps it as the
//! flow's record, so that it can go on when the frame comes back from the instance without its header.

use crate::frame::Frame;
use crate::key;
use crate::parse::{Parsed, parse};
use crate::record;
use crate::route;
use crate::step::{Arrival, Scratch, count_on_trial, identify};
use crate::tables::Tables;
use crate::verdict::{Outcome, Step};
use crate::wire::{ETHERNET, be16, protocol};
use xdp_layout::config::Config;
use xdp_layout::flow::{FlowRecord, FlowState, PATH_MAX, record_flags};
use xdp_layout::port::{Port, PortKind, Target};
use xdp_layout::{Addr, DropReason, NodeId};

/// Bytes that encapsulation adds in front of the inner Ethernet header.
pub const OVERHEAD: usize = 122;
/// UDP port of VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe section 3).
pub const PORT: u16 = 4790;
/// Index of the entry attachment, which lies before the first instance.
const ENTRY_INDEX: u8 = 0xff;

const UDP: usize = 34;
const VXLAN: usize = 42;
const NSH: usize = 50;
const TENANT: usize = 58;
const FLOW_ID: usize = 66;
const PRIVATE: usize = 74;
const STAMP: usize = 78;
const PATH: usize = 90;
/// NSH length in four-byte words.
const NSH_WORDS: u16 = ((OVERHEAD - NSH) / 4) as u16;
/// Initial time to live (RFC 8300 section 2.2).
pub(crate) const TTL: u8 = 63;
/// MD type 2, next protocol Ethernet.
const MD2_ETHERNET: [u8; 2] = [0x02, 0x03];
/// VXLAN-GPE flags: instance and next-protocol bits.
const VXLAN_FLAGS: u8 = 0x0c;
/// VXLAN-GPE next protocol: NSH.
const VXLAN_NSH: u8 = 0x04;
/// Tenant ID context header (RFC 9263 section 4.1), 4 bytes.
const TENANT_TLV: [u8; 4] = [0, 0, 0x05, 4];
/// Flow ID context header (RFC 9263 section 4.5), 4 bytes.
const FLOW_TLV: [u8; 4] = [0, 0, 0x08, 4];
/// Our path: experimental class (RFC 8300 section 9.1.4), type 1, 44 bytes.
const PATH_TLV: [u8; 4] = [0xff, 0xf6, 0x01, 44];

/// Takes an encapsulated frame apart and delivers what it holds. Frames of other traffic of the underlay are left to the
/// host; only headers as [`encapsulate`] writes them are understood.
#[inline(never)]
pub(crate) fn receive<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    scratch: &mut Scratch,
    arrival: Arrival,
) -> Step<Outcome> {
    let direction = match open(frame, tables, scratch)? {
        Opened::Foreign => return Ok(Outcome::Pass),
        Opened::Forward => 0,
        Opened::Reverse => 1,
    };
    // XDP leaves no frame without an Ethernet header.
    frame.load::<ETHERNET>(OVERHEAD).ok_or(DropReason::Malformed)?;
    if !frame.pull::<OVERHEAD>() {
        return Err(DropReason::FrameEdit);
    }
    let visit = &mut scratch.visit;
    visit.now = arrival.now;
    visit.vlan = 0;
    match parse(frame, &mut visit.packet)? {
        Parsed::Packet => identify(tables, visit)?,
        // Control frames are answered where they arise.
        Parsed::Arp | Parsed::Neighbour => return Err(DropReason::LinkLocal),
    }
    adopt(tables, scratch, direction)?;
    if scratch.visit.is_forward(&scratch.record) != (direction == 0) {
        return Err(DropReason::NshUnknownPath);
    }
    // Whatever the path lacks there, the header led to it.
    let place = scratch.visit.place();
    scratch.next = route::next(&place, &scratch.record, !scratch.visit.is_forward(&scratch.record) as u8)
        .map_err(|_| DropReason::NshUnknownPath)?;
    let outcome = route::deliver(frame, tables, scratch);
    count_on_trial(tables, scratch, outcome.is_err());
    outcome
}

/// What an uplink's frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opened {
    /// None of ours.
    Foreign,
    /// Ours, from client to server.
    Forward,
    /// Ours, from server to client.
    Reverse,
}

/// Checks the outer headers. Apart from [`receive`] for the sake of the stack.
#[inline(never)]
fn open<F: Frame, T: Tables>(frame: &F, tables: &T, scratch: &mut Scratch) -> Step<Opened> {
    let Some(outer) = frame.load::<VXLAN>(0) else {
        return Ok(Opened::Foreign);
    };
    let is_tunnel = outer[12..15] == [8, 0, 0x45] && outer[23] == protocol::UDP && be16(outer[36], outer[37]) == PORT;
    let config = tables.config().ok_or(DropReason::NotConfigured)?;
    let destination = Addr::v4([outer[30], outer[31], outer[32], outer[33]]);
    if !is_tunnel || destination.halves() != config.underlay.halves() {
        return Ok(Opened::Foreign);
    }
    let source = Addr::v4([outer[26], outer[27], outer[28], outer[29]]);
    tables.sender(source).ok_or(DropReason::UnknownSender)?;
    Ok(if unwrap_header(frame, scratch)? == 0 { Opened::Forward } else { Opened::Reverse })
}

/// Checks VXLAN-GPE and NSH; writes tenant and index to the visit, the path to `previous`. The direction (SPI bit 0).
#[inline(always)]
fn unwrap_header<F: Frame>(frame: &F, scratch: &mut Scratch) -> Step<u32> {
    let vxlan: [u8; 8] = frame.load(VXLAN).ok_or(DropReason::NshMalformed)?;
    if vxlan[0] & 1 != 0 {
        return Err(DropReason::NshOam);
    }
    if vxlan[0] != VXLAN_FLAGS || vxlan[3] != VXLAN_NSH {
        return Err(DropReason::NshMalformed);
    }
    let base: [u8; 8] = frame.load(NSH).ok_or(DropReason::NshMalformed)?;
    let first = be16(base[0], base[1]);
    if first & 0x2000 != 0 {
        return Err(DropReason::NshOam);
    }
    if first & 0xc000 != 0 || first & 0x3f != NSH_WORDS || [base[2] & 0x0f, base[3]] != MD2_ETHERNET {
        return Err(DropReason::NshMalformed);
    }
    let tlvs: [u8; 32] = frame.load(TENANT).ok_or(DropReason::NshMalformed)?;
    if tlvs[..4] != TENANT_TLV || tlvs[8..12] != FLOW_TLV || tlvs[16..20] != PATH_TLV {
        return Err(DropReason::NshMalformed);
    }
    if tlvs[4] != 0 || tlvs[5..8] != vxlan[4..7] {
        return Err(DropReason::NshMalformed);
    }
    let tenant = u32::from_be_bytes([tlvs[4], tlvs[5], tlvs[6], tlvs[7]]);
    // From here on a drop is the tenant's.
    scratch.visit.tenant = tenant;
    // RFC 8300 section 2.2: decremented before it is looked at; 0 becomes 63.
    let ttl = (first >> 6).wrapping_sub(1) & 0x3f;
    if ttl == 0 {
        return Err(DropReason::NshTtlZero);
    }
    if base[7] == 0 {
        return Err(DropReason::NshSiZero);
    }
    let spi = u32::from_be_bytes([0, base[4], base[5], base[6]]);
    let (index, len) = (tlvs[25], tlvs[26]);
    let is_forward = spi & 1 == 0;
    let is_element = if is_forward { index <= len } else { index < len || index == ENTRY_INDEX };
    let names_both = tenant != 0 && spi >> 1 != 0;
    if len as usize > PATH_MAX || !is_element || !names_both || base[7] != service_index(len, index, is_forward) {
        return Err(DropReason::NshUnknownPath);
    }
    scratch.visit.port = Port { tenant, kind: PortKind::Uplink as u8, ..Port::default() };
    scratch.visit.kind = PortKind::Uplink;
    scratch.visit.index = index;
    scratch.visit.ttl = ttl as u8;
    let path = &mut scratch.previous;
    path.view = spi >> 1;
    path.generation = u32::from_be_bytes([tlvs[20], tlvs[21], tlvs[22], tlvs[23]]);
    path.flags = tlvs[24] & !record_flags::CLIENT_IS_A;
    path.path_len = len;
    path.entry = be16(tlvs[28], tlvs[29]);
    path.exit = be16(tlvs[30], tlvs[31]);
    let instances: [u8; 2 * PATH_MAX] = frame.load(PATH).ok_or(DropReason::NshMalformed)?;
    let mut at = 0;
    while at < PATH_MAX {
        path.path[at] = be16(instances[2 * at], instances[2 * at + 1]);
        at += 1;
    }
    Ok(spi & 1)
}

/// Uses the flow's record, or writes the one the header brought.
#[inline(always)]
fn adopt<T: Tables>(tables: &T, scratch: &mut Scratch, direction: u32) -> Step<()> {
    let found = record::find(tables, &scratch.visit, &mut scratch.record);
    match found {
        record::Found::Use => return Ok(()),
        record::Found::Reset => return Err(DropReason::FlowReset),
        record::Found::Create | record::Found::Restart => {}
    }
    let Scratch { visit, record, previous, .. } = scratch;
    let tag = key::tag(&visit.key, tables.tag_key());
    *record = FlowRecord {
        tag,
        last_seen: visit.now,
        state: (tag as u32) << 16 | FlowState::Unanswered as u32,
        cut_position: 0,
        reserved: 0,
        ..*previous
    };
    let is_forward = direction == 0;
    if visit.source_is_a == is_forward {
        record.flags |= record_flags::CLIENT_IS_A;
    }
    let is_transient = visit.packet.is_error;
    record::write(tables, scratch, found == record::Found::Restart, is_transient);
    Ok(())
}

/// Puts the header in front of the frame: on to the front end that hosts the next element.
#[inline(never)]
pub(crate) fn encapsulate<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    scratch: &mut Scratch,
    target: &Target,
) -> Step<Outcome> {
    let Config { underlay, uplink_mac, .. } = tables.config().ok_or(DropReason::NotConfigured)?;
    let node = NodeId::new(target.node).ok_or(DropReason::PortDown)?;
    let peer = tables.front_end(node).ok_or(DropReason::PortDown)?;
    let is_forward = scratch.visit.is_forward(&scratch.record);
    let index = position(scratch, is_forward);
    let Scratch { visit, record, header, delivery, .. } = scratch;
    *header = [0; OVERHEAD];
    // For frames that leave from tc the kernel writes what it knows of the next hop over these; from XDP they go as they are.
    header[..6].copy_from_slice(&peer.mac);
    header[6..12].copy_from_slice(&uplink_mac);
    header[12..14].copy_from_slice(&[8, 0]);
    let length = frame.len() + (OVERHEAD - ETHERNET) as u32;
    ipv4(header, length, underlay.v4_bytes(), peer.addr.v4_bytes());
    // One source port a flow, so that the underlay spreads flows and keeps each in order (RFC 7348 section 5).
    let entropy = record.tag as u16 | 0xc000;
    header[UDP..UDP + 2].copy_from_slice(&entropy.to_be_bytes());
    header[UDP + 2..UDP + 4].copy_from_slice(&PORT.to_be_bytes());
    header[UDP + 4..UDP + 6].copy_from_slice(&((length - 20) as u16).to_be_bytes());
    header[VXLAN] = VXLAN_FLAGS;
    header[VXLAN + 3] = VXLAN_NSH;
    let tenant = visit.tenant.to_be_bytes();
    header[VXLAN + 4..VXLAN + 7].copy_from_slice(&tenant[1..]);
    header[NSH..NSH + 2].copy_from_slice(&((visit.ttl as u16) << 6 | NSH_WORDS).to_be_bytes());
    header[NSH + 2..NSH + 4].copy_from_slice(&MD2_ETHERNET);
    let spi = (record.view << 1 | !is_forward as u32).to_be_bytes();
    header[NSH + 4..NSH + 7].copy_from_slice(&spi[1..]);
    header[NSH + 7] = service_index(record.path_len, index, is_forward);
    header[TENANT..TENANT + 4].copy_from_slice(&TENANT_TLV);
    header[TENANT + 4..TENANT + 8].copy_from_slice(&tenant);
    header[FLOW_ID..FLOW_ID + 4].copy_from_slice(&FLOW_TLV);
    header[FLOW_ID + 4..FLOW_ID + 8].copy_from_slice(&(record.tag as u32 & 0xf_ffff).to_be_bytes());
    header[PRIVATE..PRIVATE + 4].copy_from_slice(&PATH_TLV);
    header[STAMP..STAMP + 4].copy_from_slice(&record.generation.to_be_bytes());
    header[STAMP + 4..STAMP + 8].copy_from_slice(&[record.flags, index, record.path_len, 0]);
    header[STAMP + 8..STAMP + 10].copy_from_slice(&record.entry.to_be_bytes());
    header[STAMP + 10..STAMP + 12].copy_from_slice(&record.exit.to_be_bytes());
    let mut at = 0;
    while at < PATH_MAX {
        let [high, low] = record.path[at].to_be_bytes();
        header[PATH + 2 * at] = high;
        header[PATH + 2 * at + 1] = low;
        at += 1;
    }
    let is_gso = frame.gso_size() != 0;
    if !frame.push(header) {
        return Err(if is_gso { DropReason::NestedGso } else { DropReason::FrameEdit });
    }
    delivery.ifindex = peer.ifindex;
    Ok(Outcome::Transmit)
}

/// The index in the path of the element that comes next.
#[inline(always)]
fn position(scratch: &Scratch, is_forward: bool) -> u8 {
    let Scratch { record, next, .. } = scratch;
    match next.instance() {
        Some(id) => route::find(record, id.get()).map_or(record.path_len, |index| index as u8),
        None if is_forward => record.path_len,
        None => ENTRY_INDEX,
    }
}

/// Elements still ahead, this one included: falls along every path and never is 0 on the wire.
#[inline(always)]
const fn service_index(len: u8, index: u8, is_forward: bool) -> u8 {
    if is_forward {
        len - index + 1
    } else if index == ENTRY_INDEX {
        1
    } else {
        index + 2
    }
}

/// The outer IPv4 header: not to be fragmented, identification unused (RFC 6864).
#[inline(always)]
fn ipv4(header: &mut [u8; OVERHEAD], length: u32, source: [u8; 4], destination: [u8; 4]) {
    header[14] = 0x45;
    header[16..18].copy_from_slice(&(length as u16).to_be_bytes());
    header[20] = 0x40;
    header[22] = 64;
    header[23] = protocol::UDP;
    header[26..30].copy_from_slice(&source);
    header[30..34].copy_from_slice(&destination);
    let mut sum = 0;
    let mut at = 14;
    while at < 34 {
        sum += be16(header[at], header[at + 1]) as u32;
        at += 2;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    header[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
