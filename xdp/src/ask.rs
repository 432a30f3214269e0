//! What the agent does for the data path: asks for hosts' MAC addresses, tells senders that a datagram was too big.
#![allow(unsafe_code, reason = "packet sockets have no safe wrapper in std")]

use crate::error::{Error, Result};
use std::io;
use xdp_layout::Addr;
use xdp_layout::event::{EVENT_FRAME, Event, EventKind};

/// IPv4 header and 8 bytes of payload are what an ICMPv4 error must quote (RFC 792); we quote up to this many bytes.
const QUOTE_MAX: usize = EVENT_FRAME - 14;

/// A socket that sends whole frames out of interfaces.
pub(crate) struct FrameSocket(std::os::fd::OwnedFd);

impl FrameSocket {
    /// Opens it; it receives nothing.
    pub(crate) fn open() -> Result<Self> {
        use std::os::fd::FromRawFd;
        // SAFETY: no pointers; the descriptor is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            let source = io::Error::last_os_error();
            return Err(Error::Host { operation: "open", object: "packet socket (needs CAP_NET_RAW)".into(), source });
        }
        // SAFETY: a fresh descriptor of ours.
        let socket = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) };
        let on: libc::c_int = 1;
        // A queue that does not move would hold this socket's frames, and with them the room for frames to other interfaces.
        // SAFETY: the value is an int that lives through the call.
        let answer = unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const on).cast(),
                size_of_val(&on) as u32,
            )
        };
        if answer != 0 {
            let source = io::Error::last_os_error();
            return Err(Error::Host {
                operation: "set PACKET_QDISC_BYPASS of",
                object: "packet socket".into(),
                source,
            });
        }
        Ok(Self(socket))
    }

    /// Sends a frame at once or, where its way is congested, not at all.
    pub(crate) fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        // SAFETY: all zeros is a valid address structure.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = ifindex as i32;
        to.sll_halen = 6;
        to.sll_addr[..6].copy_from_slice(&frame[..6]);
        // SAFETY: frame and address live through the call and have the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A frame that answers an event, untagged, to go out of the attachment the event names. `sender`: MAC address of the host
/// behind it that a datagram came from, if it is known; if not, the host is asked for it, and its next datagram answered.
pub(crate) fn answer(event: &Event, own_mac: [u8; 6], sender: Option<[u8; 6]>) -> Option<Vec<u8>> {
    let probe = || if event.addr.is_v4() { arp_probe(event.addr, own_mac) } else { solicitation(event.addr, own_mac) };
    match event.kind {
        _ if event.element == 0 => None,
        kind if kind == EventKind::NeighbourWanted as u32 => Some(probe()),
        kind if kind == EventKind::TooBig as u32 && may_be_answered(&event.frame) => match sender {
            Some(sender) => too_big(event, own_mac, sender),
            None => Some(probe()),
        },
        kind if kind == EventKind::Reset as u32 => crate::reset::answer(event),
        _ => None,
    }
}

/// Whether an ICMP error may answer a frame (RFC 1122 section 3.2.2, RFC 4443 section 2.4): never an ICMP error, nor what may
/// be one.
fn may_be_answered(frame: &[u8; EVENT_FRAME]) -> bool {
    let packet = &frame[14..];
    match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0800 => {
            let is_group = frame[0] & 1 != 0;
            let is_later_fragment = (packet[6] & 0x1f) != 0 || packet[7] != 0;
            let kind = packet.get(usize::from(packet[0] & 15) * 4);
            let is_error = packet[9] == 1 && kind.is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12));
            !is_group && !is_later_fragment && !is_error
        }
        0x86dd => {
            let (mut protocol, mut offset) = (packet[6], 40);
            loop {
                let Some(&[next, words, ..]) = packet.get(offset..) else { return false };
                match protocol {
                    // Hop-by-hop options, routing header, destination options.
                    0 | 43 | 60 => offset += usize::from(words) * 8 + 8,
                    // A later fragment does not show what it is part of.
                    44 if !matches!(packet.get(offset + 2..offset + 4), Some(&[0, 0..8])) => return false,
                    44 => offset += 8,
                    // Authentication header.
                    51 => offset += usize::from(words) * 4 + 8,
                    // Errors are below 128; a redirect is not to be answered either.
                    58 => return next >= 128 && next != 137,
                    _ => return true,
                }
                protocol = next;
            }
        }
        _ => false,
    }
}

/// An ARP request from nobody (RFC 5227 section 1.1): hosts answer it, and enter nothing for it.
fn arp_probe(target: Addr, own: [u8; 6]) -> Vec<u8> {
    let mut frame = ethernet([0xff; 6], own, 0x0806);
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&own);
    frame.extend_from_slice(&[0; 10]);
    frame.extend_from_slice(&target.v4_bytes());
    frame
}

/// A neighbour solicitation (RFC 4861 section 4.3) from a link-local address made of our MAC address.
fn solicitation(target: Addr, own: [u8; 6]) -> Vec<u8> {
    let low = &target.0[13..];
    let mut frame = ethernet([0x33, 0x33, 0xff, low[0], low[1], low[2]], own, 0x86dd);
    let source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, own[0] ^ 2, own[1], own[2], 0xff, 0xfe, own[3], own[4], own[5]];
    let mut group = [0; 16];
    group[..2].copy_from_slice(&[0xff, 2]);
    group[11..13].copy_from_slice(&[1, 0xff]);
    group[13..].copy_from_slice(low);
    let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&target.0);
    body.extend_from_slice(&[1, 1]);
    body.extend_from_slice(&own);
    push_icmpv6(&mut frame, source, group, 255, body);
    frame
}

/// ICMP "fragmentation needed" (RFC 1191) or ICMPv6 "packet too big" (RFC 4443 section 3.2), from the original destination:
/// the front end has no address of its own in the tenant's network. The MAC address it comes from is the one that the sender
/// used, unless a routed function stood between.
fn too_big(event: &Event, own: [u8; 6], sender: [u8; 6]) -> Option<Vec<u8>> {
    let quoted = &event.frame;
    let is_direct = quoted[6..12] == sender && quoted[0] & 1 == 0;
    let source = if is_direct { quoted[..6].try_into().ok()? } else { own };
    let mut frame = ethernet(sender, source, 0);
    match u16::from_be_bytes([quoted[12], quoted[13]]) {
        0x0800 => {
            // Without "don't fragment" the sender could not make use of the answer, but loses the datagram all the same.
            frame[12..14].copy_from_slice(&[8, 0]);
            let quote = &quoted[14..14 + QUOTE_MAX.min(68)];
            let mut body = vec![3, 4, 0, 0, 0, 0];
            body.extend_from_slice(&(event.value as u16).to_be_bytes());
            body.extend_from_slice(quote);
            let sum = checksum(&body, 0);
            body[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut header = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            header[2..4].copy_from_slice(&((20 + body.len()) as u16).to_be_bytes());
            header[12..16].copy_from_slice(&quoted[30..34]);
            header[16..20].copy_from_slice(&quoted[26..30]);
            let sum = checksum(&header, 0);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend_from_slice(&header);
            frame.extend_from_slice(&body);
        }
        0x86dd => {
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            let mut body = vec![2, 0, 0, 0];
            body.extend_from_slice(&event.value.to_be_bytes());
            body.extend_from_slice(&quoted[14..14 + QUOTE_MAX]);
            let source = quoted[38..54].try_into().ok()?;
            let destination = quoted[22..38].try_into().ok()?;
            push_icmpv6(&mut frame, source, destination, 64, body);
        }
        _ => return None,
    }
    Some(frame)
}

pub(crate) fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(EVENT_FRAME + 64);
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame
}

/// Appends an IPv6 header and an ICMPv6 message, its checksum filled in.
fn push_icmpv6(frame: &mut Vec<u8>, source: [u8; 16], destination: [u8; 16], hop_limit: u8, mut body: Vec<u8>) {
    let pseudo: u32 = source.chunks(2).chain(destination.chunks(2)).map(word).sum::<u32>() + body.len() as u32 + 58;
    let sum = checksum(&body, pseudo);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&(body.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[58, hop_limit]);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(&body);
}

pub(crate) fn word(bytes: &[u8]) -> u32 {
    u32::from(bytes[0]) << 8 | u32::from(bytes.get(1).copied().unwrap_or(0))
}

/// The Internet checksum (RFC 1071) on top of a partial sum.
pub(crate) fn checksum(bytes: &[u8], partial: u32) -> u16 {
    let mut sum = partial + bytes.chunks(2).map(word).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
