//! ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861) at the front end's ports.
//!
//! For addresses that routed network functions share, and for everything a routed function asks, the front end answers with
//! its own MAC address. Between hosts of the two sides of a chain of transparent functions, the question and its answer are
//! carried across, so that the hosts learn each other's addresses as on a wire. On the way the hosts' addresses are learnt.

use crate::frame::Frame;
use crate::tables::Tables;
use crate::verdict::{Delivery, Step, Verdict};
use crate::wire::{ETHERNET, be16, nd, protocol};
use xdp_layout::flow::{Neighbour, NeighbourKey};
use xdp_layout::plan::RouteKey;
use xdp_layout::port::{OwnedKey, Port, PortKind, Side, instance_traits, target_flags};
use xdp_layout::{Addr, Counter, DropReason, InstanceId, TenantId};

/// Where a control frame arrived.
pub(crate) struct At<'a> {
    pub(crate) port: &'a Port,
    pub(crate) vlan: u16,
    pub(crate) tenant: TenantId,
}

const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
/// ND messages with one link-layer address option: Ethernet, IPv6, 24 bytes of message, 8 of option.
const ND_FRAME: u32 = 86;
/// Flags of an answer: solicited, override (RFC 4861 section 4.4).
const ND_SOLICITED_OVERRIDE: u8 = 0x60;

/// An ARP packet: answered, carried across, or learnt from and ended.
#[inline(never)]
pub(crate) fn arp<F: Frame, T: Tables>(frame: &mut F, tables: &T, at: &At<'_>) -> Step<Verdict> {
    let packet: [u8; 28] = frame.load(ETHERNET).ok_or(DropReason::Malformed)?;
    if packet[..6] != [0, 1, 8, 0, 6, 4] {
        return Err(DropReason::Malformed);
    }
    let operation = be16(packet[6], packet[7]);
    let sender_mac = [packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]];
    let sender = Addr::v4([packet[14], packet[15], packet[16], packet[17]]);
    let target = Addr::v4([packet[24], packet[25], packet[26], packet[27]]);
    let has_sender = sender.0[12] != 0;
    if has_sender {
        learn(tables, at, sender, sender_mac);
    }
    if !has_sender || sender.halves() == target.halves() {
        return Err(DropReason::LinkLocal);
    }
    match operation {
        ARP_REQUEST if answers(tables, at, target) => {
            let mac = tables.mac();
            let mut answer = packet;
            answer[7] = ARP_REPLY as u8;
            answer[8..14].copy_from_slice(&mac);
            answer[14..18].copy_from_slice(&packet[24..28]);
            answer[18..24].copy_from_slice(&sender_mac);
            answer[24..28].copy_from_slice(&packet[14..18]);
            reply(frame, at, sender_mac, mac, |frame| frame.store(ETHERNET, answer))
        }
        ARP_REQUEST | ARP_REPLY => across(frame, tables, at, target),
        _ => Err(DropReason::Malformed),
    }
}

/// A neighbour solicitation or advertisement.
#[inline(never)]
pub(crate) fn neighbour<F: Frame, T: Tables>(frame: &mut F, tables: &T, at: &At<'_>, kind: u8) -> Step<Verdict> {
    let header: [u8; 40] = frame.load(ETHERNET).ok_or(DropReason::Malformed)?;
    let message: [u8; 24] = frame.load(54).ok_or(DropReason::Malformed)?;
    // RFC 4861 section 7.1: hop limit 255 proves that no router has passed it on.
    if header[7] != 255 || message[1] != 0 || header[6] != protocol::ICMPV6 {
        return Err(DropReason::Malformed);
    }
    let source = address(&header, 8);
    let destination = address(&header, 24);
    let target = address(&message, 8);
    let option: Option<[u8; 8]> = frame.load(78);
    let mac = option.filter(|o| o[1] == 1 && o[0] == if kind == nd::SOLICITATION { 1 } else { 2 });
    let mac = mac.map(|o| [o[2], o[3], o[4], o[5], o[6], o[7]]);
    let is_unspecified = source.halves() == [0, 0];
    if kind == nd::ADVERTISEMENT {
        if let Some(mac) = mac {
            learn(tables, at, target, mac);
        }
        if destination.0[0] == 0xff {
            return Err(DropReason::LinkLocal);
        }
        return across(frame, tables, at, destination);
    }
    if is_unspecified {
        // Duplicate address detection: nobody else may answer for the host's own address.
        return Err(DropReason::LinkLocal);
    }
    if let Some(mac) = mac {
        learn(tables, at, source, mac);
    }
    if !answers(tables, at, target) {
        return across(frame, tables, at, target);
    }
    let own = tables.mac();
    let ethernet: [u8; 12] = frame.load(0).ok_or(DropReason::Malformed)?;
    let asker = [ethernet[6], ethernet[7], ethernet[8], ethernet[9], ethernet[10], ethernet[11]];
    let mut answer = header;
    answer[4] = 0;
    answer[5] = 32;
    answer[8..24].copy_from_slice(&target.0);
    answer[24..40].copy_from_slice(&source.0);
    let mut body = [0; 32];
    body[0] = nd::ADVERTISEMENT;
    body[4] = ND_SOLICITED_OVERRIDE;
    body[8..24].copy_from_slice(&target.0);
    body[24] = 2;
    body[25] = 1;
    body[26..32].copy_from_slice(&own);
    let sum = checksum(&answer, &body);
    body[2] = (sum >> 8) as u8;
    body[3] = sum as u8;
    reply(frame, at, asker, own, |frame| {
        (frame.len() == ND_FRAME || frame.resize(ND_FRAME)) && frame.store(ETHERNET, answer) && frame.store(54, body)
    })
}

#[inline(always)]
fn address<const N: usize>(bytes: &[u8; N], offset: usize) -> Addr {
    let mut addr = [0; 16];
    addr.copy_from_slice(&bytes[offset..offset + 16]);
    Addr(addr)
}

/// The ICMPv6 checksum (RFC 8200 section 8.1) of a 32-byte message, its checksum field 0.
#[inline(always)]
fn checksum(header: &[u8; 40], body: &[u8; 32]) -> u16 {
    let mut sum = 32 + protocol::ICMPV6 as u32;
    let mut index = 8;
    while index < 40 {
        sum += be16(header[index], header[index + 1]) as u32;
        index += 2;
    }
    index = 0;
    while index < 32 {
        sum += be16(body[index], body[index + 1]) as u32;
        index += 2;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Remembers a host behind an attachment.
#[inline(always)]
fn learn<T: Tables>(tables: &T, at: &At<'_>, addr: Addr, mac: [u8; 6]) {
    if at.port.kind != PortKind::Attachment as u8 || mac[0] & 1 != 0 {
        return;
    }
    let key = NeighbourKey { addr, attachment: at.port.id, reserved: 0 };
    if tables.neighbour(&key).is_some_and(|known| known.mac == mac) {
        return;
    }
    tables.neighbour_put(&key, &Neighbour { mac, reserved: 0 });
    tables.count(Counter::NeighbourLearnt);
}

/// Whether the front end answers here for `target`: at attachments for shared addresses, at routed functions for everything.
#[inline(always)]
fn answers<T: Tables>(tables: &T, at: &At<'_>, target: Addr) -> bool {
    if at.port.kind == PortKind::Attachment as u8 {
        return tables.owns(OwnedKey { addr: target, tenant: at.tenant.get() });
    }
    InstanceId::new(at.port.id)
        .and_then(|id| tables.instance(id))
        .is_some_and(|instance| instance.traits & instance_traits::ROUTED != 0)
}

/// Sends the frame back with new addresses and what `fill` writes behind them.
#[inline(always)]
fn reply<F: Frame>(
    frame: &mut F,
    at: &At<'_>,
    destination: [u8; 6],
    source: [u8; 6],
    fill: impl FnOnce(&mut F) -> bool,
) -> Step<Verdict> {
    let mut macs = [0; 12];
    macs[..6].copy_from_slice(&destination);
    macs[6..].copy_from_slice(&source);
    if !fill(frame) || !frame.store(0, macs) || (at.vlan != 0 && !frame.tag(at.vlan)) {
        return Err(DropReason::FrameEdit);
    }
    Ok(Verdict::Reply)
}

/// Carries a control frame to the attachment of the other side that takes `addr`.
#[inline(always)]
fn across<F: Frame, T: Tables>(frame: &mut F, tables: &T, at: &At<'_>, addr: Addr) -> Step<Verdict> {
    let destination: [u8; 6] = frame.load(0).ok_or(DropReason::Malformed)?;
    if at.port.kind != PortKind::Attachment as u8 || destination == tables.mac() {
        return Err(DropReason::LinkLocal);
    }
    let key = RouteKey {
        graph: (at.port.graph as u16).to_be_bytes(),
        side: Side::from_raw(at.port.side).other() as u8,
        reserved: 0,
        addr,
    };
    let attachment = tables.route(key).ok_or(DropReason::NoRoute)?;
    let target = tables.attachment(attachment).ok_or(DropReason::PortDown)?;
    if target.tenant != at.tenant.get() {
        return Err(DropReason::WrongTenant);
    }
    let wanted = target_flags::EXISTS | target_flags::UP;
    if target.flags & wanted != wanted {
        return Err(DropReason::PortDown);
    }
    if target.vlan != 0 && !frame.tag(target.vlan) {
        return Err(DropReason::FrameEdit);
    }
    tables.count(Counter::ControlForwarded);
    Ok(Verdict::Deliver(Delivery {
        ifindex: target.ifindex,
        flags: target.flags,
        vlan: target.vlan,
        tenant: at.tenant.get(),
        spi: 0,
        element: attachment.get() as u32 + 65_536,
    }))
}
