//! ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861) at the front end's ports.
//!
//! For addresses that routed network functions share, and for everything a routed function asks, the front end answers with
//! its own MAC address. Between hosts of the two sides of a chain of transparent functions, the question and its answer are
//! carried across, so that the hosts learn each other's addresses as on a wire. On the way the hosts' addresses are learnt.

use crate::frame::Frame;
use crate::route::ATTACHMENT_ELEMENT;
use crate::step::{Scratch, Visit};
use crate::tables::Tables;
use crate::verdict::{Delivery, Outcome, Step};
use crate::wire::{ETHERNET, be16, nd, protocol};
use xdp_layout::flow::{Neighbour, NeighbourKey};
use xdp_layout::plan::{OutsideKey, RouteKey};
use xdp_layout::port::{OwnedKey, PortKind, Side, instance_traits, target_flags};
use xdp_layout::{Addr, AttachmentId, Counter, DropReason, InstanceId};

const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
/// A neighbour-discovery message: 24 bytes, and 8 of a link-layer address option.
const ND_LENGTH: u32 = 32;
/// The same with its IPv6 header.
pub(crate) const ND_BYTES: usize = 40 + ND_LENGTH as usize;
/// Flags of an answer: solicited, override (RFC 4861 section 4.4).
const ND_SOLICITED_OVERRIDE: u8 = 0x60;

/// An ARP packet: answered, carried across, or learnt from and ended.
#[inline(never)]
pub(crate) fn arp<F: Frame, T: Tables>(frame: &mut F, tables: &T, scratch: &mut Scratch) -> Step<Outcome> {
    let Scratch { visit: at, delivery, .. } = scratch;
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
        ARP_REQUEST | ARP_REPLY => across(frame, tables, at, target, delivery),
        _ => Err(DropReason::Malformed),
    }
}

/// A neighbour solicitation or advertisement.
#[inline(never)]
pub(crate) fn neighbour<F: Frame, T: Tables>(frame: &mut F, tables: &T, scratch: &mut Scratch) -> Step<Outcome> {
    let Scratch { visit: at, delivery, message, .. } = scratch;
    let has_option = match frame.load(ETHERNET) {
        Some(whole) => {
            *message = whole;
            true
        }
        None => {
            let short: [u8; ND_BYTES - 8] = frame.load(ETHERNET).ok_or(DropReason::Malformed)?;
            message[..ND_BYTES - 8].copy_from_slice(&short);
            false
        }
    };
    // RFC 4861 section 7.1: hop limit 255 proves that no router has passed it on.
    if message[7] != 255 || message[41] != 0 || message[6] != protocol::ICMPV6 {
        return Err(DropReason::Malformed);
    }
    let is_solicitation = message[40] == nd::SOLICITATION;
    let target = address(message, 48);
    let has_mac = has_option && message[65] == 1 && message[64] == if is_solicitation { 1 } else { 2 };
    let mac = [message[66], message[67], message[68], message[69], message[70], message[71]];
    if !is_solicitation {
        if has_mac {
            learn(tables, at, target, mac);
        }
        if message[24] == 0xff {
            return Err(DropReason::LinkLocal);
        }
        return across(frame, tables, at, address(message, 24), delivery);
    }
    let source = address(message, 8);
    if source.halves() == [0, 0] {
        // Duplicate address detection: nobody else may answer for the host's own address.
        return Err(DropReason::LinkLocal);
    }
    if has_mac {
        learn(tables, at, source, mac);
    }
    if !answers(tables, at, target) {
        return across(frame, tables, at, target, delivery);
    }
    advertise(frame, tables, at, message)
}

/// Turns a solicitation into its answer, in place.
#[inline(always)]
fn advertise<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    at: &Visit,
    message: &mut [u8; ND_BYTES],
) -> Step<Outcome> {
    let own = tables.mac();
    let asker: [u8; 6] = frame.load(6).ok_or(DropReason::Malformed)?;
    message.copy_within(8..24, 24);
    message.copy_within(48..64, 8);
    message[4..6].copy_from_slice(&[0, ND_LENGTH as u8]);
    message[40..48].copy_from_slice(&[nd::ADVERTISEMENT, 0, 0, 0, ND_SOLICITED_OVERRIDE, 0, 0, 0]);
    message[64..66].copy_from_slice(&[2, 1]);
    message[66..72].copy_from_slice(&own);
    let [high, low] = checksum(message).to_be_bytes();
    message[42] = high;
    message[43] = low;
    let len = (ETHERNET + ND_BYTES) as u32;
    if frame.len() < len && !frame.resize(len) {
        return Err(DropReason::FrameEdit);
    }
    let message = *message;
    reply(frame, at, asker, own, |frame| frame.store(ETHERNET, message))
}

#[inline(always)]
fn address(bytes: &[u8; ND_BYTES], offset: usize) -> Addr {
    let mut addr = [0; 16];
    addr.copy_from_slice(&bytes[offset..offset + 16]);
    Addr(addr)
}

/// The ICMPv6 checksum (RFC 8200 section 8.1) of a message whose checksum field is 0.
#[inline(always)]
fn checksum(message: &[u8; ND_BYTES]) -> u16 {
    let mut sum = ND_LENGTH + protocol::ICMPV6 as u32;
    let mut index = 8;
    while index < ND_BYTES {
        sum += be16(message[index], message[index + 1]) as u32;
        index += 2;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Remembers a host behind an attachment. Only addresses that the attachment takes: the table is shared, and a host must not
/// teach others' addresses.
#[inline(always)]
fn learn<T: Tables>(tables: &T, at: &Visit, addr: Addr, mac: [u8; 6]) {
    if at.port.kind != PortKind::Attachment as u8 || mac[0] & 1 != 0 {
        return;
    }
    let own = RouteKey { graph: (at.port.graph as u16).to_be_bytes(), side: at.port.side, reserved: 0, addr };
    if tables.route(own).map_or(0, AttachmentId::get) != at.port.id {
        return;
    }
    let key = NeighbourKey { addr, attachment: at.port.id, reserved: 0 };
    if tables.neighbour(&key).is_some_and(|known| known.mac == mac) {
        return;
    }
    tables.neighbour_put(&key, &Neighbour { mac, reserved: 0 });
    tables.count(Counter::NeighbourLearnt);
}

/// Whether the front end answers here for `target`: at attachments for addresses that functions share or own outside, at
/// routed functions for everything.
#[inline(always)]
fn answers<T: Tables>(tables: &T, at: &Visit, target: Addr) -> bool {
    if at.port.kind == PortKind::Attachment as u8 {
        return tables.owns(OwnedKey { addr: target, tenant: at.tenant })
            || tables.is_outside(OutsideKey { tenant: at.tenant.to_be_bytes(), addr: target });
    }
    InstanceId::new(at.port.id)
        .and_then(|id| tables.instance(id))
        .is_some_and(|instance| instance.traits & instance_traits::ROUTED != 0)
}

/// Sends the frame back with new addresses and what `fill` writes behind them.
#[inline(always)]
fn reply<F: Frame>(
    frame: &mut F,
    at: &Visit,
    destination: [u8; 6],
    source: [u8; 6],
    fill: impl FnOnce(&mut F) -> bool,
) -> Step<Outcome> {
    let mut macs = [0; 12];
    macs[..6].copy_from_slice(&destination);
    macs[6..].copy_from_slice(&source);
    if !fill(frame) || !frame.store(0, macs) || (at.vlan != 0 && !frame.tag(at.vlan)) {
        return Err(DropReason::FrameEdit);
    }
    Ok(Outcome::Reply)
}

/// Carries a control frame to the attachment of the other side that takes `addr`.
#[inline(always)]
fn across<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    at: &Visit,
    addr: Addr,
    delivery: &mut Delivery,
) -> Step<Outcome> {
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
    let target = *tables.attachment(attachment).ok_or(DropReason::PortDown)?;
    if target.tenant != at.tenant {
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
    *delivery = Delivery {
        ifindex: target.ifindex,
        flags: target.flags,
        vlan: target.vlan,
        tenant: at.tenant,
        spi: 0,
        element: attachment.get() as u32 + ATTACHMENT_ELEMENT,
    };
    Ok(Outcome::Deliver)
}
