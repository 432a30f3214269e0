//! From a frame to a packet: three-valued (ours, control, malformed with its reason), bounded, never past the frame.

use crate::frame::Frame;
use crate::key::Tuple;
use crate::verdict::Step;
use crate::wire::{ETHERNET, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, be16, nd, protocol};
use xdp_layout::{Addr, DropReason};

/// IPv6 extension headers that are followed. Behind more, the flow is told by addresses and next header only.
pub const EXTENSION_HEADERS_MAX: u32 = 8;

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Fragment {
    /// Not fragmented.
    #[default]
    Whole = 0,
    /// The first fragment: it has the ports.
    First = 1,
    /// A later fragment.
    Later = 2,
}

/// A unicast IP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Packet {
    /// The flow it belongs to, in its own direction. For an ICMP error the embedded tuple, reversed.
    pub tuple: Tuple,
    /// Destination of the IP header (differs from the tuple's for some ICMP errors).
    pub destination: Addr,
    /// Fragmentation.
    pub fragment: Fragment,
    /// Identification of a fragmented datagram.
    pub identification: u32,
    /// TCP flags, 0 for other protocols.
    pub tcp_flags: u8,
    /// An ICMP error.
    pub is_error: bool,
    /// More extension headers than are followed.
    pub beyond_limit: bool,
    /// What an NF that rewrites the tuple keeps, see [`xdp_layout::flow::NoteKey`].
    pub fingerprint: u64,
    /// Length of the IP datagram in bytes, by its header; 0 for jumbo segments.
    pub length: u32,
    /// Offset of the transport header in the frame.
    pub transport: u32,
    /// Length of the transport header in bytes, for TCP and UDP.
    pub transport_header: u8,
}

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A packet of a flow.
    Packet,
    /// An ARP packet for IPv4 over Ethernet.
    Arp,
    /// A neighbour solicitation or advertisement.
    Neighbour,
}

/// Parses a frame without VLAN tag into `packet`.
#[inline(never)]
pub(crate) fn parse<F: Frame>(frame: &F, packet: &mut Packet) -> Step<Parsed> {
    let ethertype: [u8; 2] = frame.load(12).ok_or(DropReason::Malformed)?;
    packet.tcp_flags = 0;
    packet.is_error = false;
    packet.fingerprint = 0;
    packet.transport_header = 8;
    packet.tuple.source_port = 0;
    packet.tuple.destination_port = 0;
    match be16(ethertype[0], ethertype[1]) {
        ETHERTYPE_IPV4 => {
            let header: [u32; 5] = frame.words(ETHERNET).ok_or(DropReason::Malformed)?;
            ipv4(frame, &header, ETHERNET as u32, packet)?;
            check_v4(packet)?;
            // Without options the transport header lies at a constant offset, which the kernel reads without a helper.
            if packet.transport == 34 {
                let head = Half::of(frame.words(34));
                let more = Half::of(frame.words(42));
                transport(frame, packet, head, more, protocol::ICMP)
            } else {
                let head = Half::of(frame.words_at(packet.transport));
                let more = Half::of(frame.words_at(packet.transport + 8));
                transport(frame, packet, head, more, protocol::ICMP)
            }
        }
        ETHERTYPE_IPV6 => {
            let header: [u32; 10] = frame.words(ETHERNET).ok_or(DropReason::Malformed)?;
            ipv6(frame, &header, ETHERNET as u32, packet)?;
            check_v6(packet)?;
            if packet.transport == 54 {
                let head = Half::of(frame.words(54));
                let more = Half::of(frame.words(62));
                transport(frame, packet, head, more, protocol::ICMPV6)
            } else {
                let head = Half::of(frame.words_at(packet.transport));
                let more = Half::of(frame.words_at(packet.transport + 8));
                transport(frame, packet, head, more, protocol::ICMPV6)
            }
        }
        ETHERTYPE_ARP => Ok(Parsed::Arp),
        _ => Err(DropReason::UnsupportedEthertype),
    }
}

/// An IPv4 header, outer or embedded.
#[inline(always)]
fn ipv4<F: Frame>(frame: &F, header: &[u32; 5], offset: u32, packet: &mut Packet) -> Step<()> {
    let first = u32::from_be(header[0]);
    let header_len = (first >> 24 & 0xf) * 4;
    let length = first & 0xffff;
    if first >> 28 != 4 || header_len < 20 {
        return Err(DropReason::Malformed);
    }
    // A zero length is a segment larger than 64 KiB, only possible with segmentation offload.
    if length < header_len && !(length == 0 && frame.gso_size() != 0) {
        return Err(DropReason::Malformed);
    }
    let second = u32::from_be(header[1]);
    packet.identification = second >> 16;
    packet.fragment = if second & 0x1fff != 0 {
        Fragment::Later
    } else if second & 0x2000 != 0 {
        Fragment::First
    } else {
        Fragment::Whole
    };
    packet.tuple.source = Addr::v4_word(header[3]);
    packet.tuple.destination = Addr::v4_word(header[4]);
    packet.tuple.protocol = (u32::from_be(header[2]) >> 16) as u8;
    packet.transport = offset + header_len;
    packet.length = length;
    packet.beyond_limit = false;
    Ok(())
}

/// Outer IPv4 addresses: both ends are unicast.
#[inline(always)]
fn check_v4(packet: &Packet) -> Step<()> {
    let (source, destination) = (packet.tuple.source.0[12], packet.tuple.destination.0[12]);
    if destination >= 224 {
        return Err(DropReason::Multicast);
    }
    if source >= 224 || source == 0 || destination == 0 {
        return Err(DropReason::Malformed);
    }
    Ok(())
}

#[inline(always)]
fn check_v6(packet: &Packet) -> Step<()> {
    if packet.tuple.source.is_v4() || packet.tuple.destination.is_v4() {
        return Err(DropReason::V4Mapped);
    }
    if packet.tuple.source.0[0] == 0xff {
        return Err(DropReason::Malformed);
    }
    Ok(())
}

/// An IPv6 header and its extension headers, outer or embedded.
#[inline(always)]
fn ipv6<F: Frame>(frame: &F, header: &[u32; 10], offset: u32, packet: &mut Packet) -> Step<()> {
    if u32::from_be(header[0]) >> 28 != 6 {
        return Err(DropReason::Malformed);
    }
    packet.tuple.source = Addr::words([header[2], header[3], header[4], header[5]]);
    packet.tuple.destination = Addr::words([header[6], header[7], header[8], header[9]]);
    let second = u32::from_be(header[1]);
    let payload = second >> 16;
    let next = (second >> 8) as u8;
    packet.tuple.protocol = next;
    packet.transport = offset + 40;
    packet.fragment = Fragment::Whole;
    packet.beyond_limit = false;
    packet.length = if payload == 0 { 0 } else { payload + 40 };
    if is_extension(next) { extension_headers(frame, packet) } else { Ok(()) }
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION_OPTIONS)
}

/// Follows the extension headers (RFC 8200 section 4) up to the transport header.
#[inline(never)]
fn extension_headers<F: Frame>(frame: &F, packet: &mut Packet) -> Step<()> {
    let mut seen = 0;
    while is_extension(packet.tuple.protocol) {
        if seen == EXTENSION_HEADERS_MAX {
            packet.beyond_limit = true;
            return Ok(());
        }
        seen += 1;
        let header: [u8; 8] = frame.load_at(packet.transport).ok_or(DropReason::Malformed)?;
        let is_fragment = packet.tuple.protocol == protocol::FRAGMENT;
        packet.tuple.protocol = header[0];
        if !is_fragment {
            packet.transport += (header[1] as u32 + 1) * 8;
            continue;
        }
        let offset_word = be16(header[2], header[3]);
        packet.identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        packet.transport += 8;
        if offset_word & 0xfff8 != 0 {
            // What follows is payload, not headers.
            packet.fragment = Fragment::Later;
            return Ok(());
        }
        if offset_word & 1 != 0 {
            packet.fragment = Fragment::First;
        }
    }
    Ok(())
}

/// Eight bytes that may be missing; zeros then. Not an `Option`: what that holds when it is `None` is undefined, and the
/// kernel refuses arithmetic on it that the compiler knows to be without effect.
#[derive(Clone, Copy)]
struct Half {
    words: [u32; 2],
    present: bool,
}

impl Half {
    #[inline(always)]
    fn of(loaded: Option<[u32; 2]>) -> Self {
        match loaded {
            Some([first, second]) => Self { words: [u32::from_be(first), u32::from_be(second)], present: true },
            None => Self { words: [0; 2], present: false },
        }
    }

    /// The bytes, which must lie within the datagram's `room` from their start on.
    #[inline(always)]
    fn required(self, room: u32) -> Step<[u32; 2]> {
        if self.present && room >= 8 { Ok(self.words) } else { Err(DropReason::Malformed) }
    }
}

/// Reads the transport header. `head` and `more` are its first and second 8 bytes.
#[inline(always)]
fn transport<F: Frame>(frame: &F, packet: &mut Packet, head: Half, more: Half, icmp: u8) -> Step<Parsed> {
    packet.destination = packet.tuple.destination;
    // What lies behind the datagram, the padding of short frames, is not its transport header.
    let end = if packet.length == 0 { u32::MAX } else { packet.length + ETHERNET as u32 };
    if packet.length != 0 && (end > frame.len() || packet.transport > end) {
        return Err(DropReason::Malformed);
    }
    let room = end - packet.transport;
    if packet.fragment != Fragment::Later && !packet.beyond_limit {
        match packet.tuple.protocol {
            protocol::TCP | protocol::UDP | protocol::SCTP => {
                let head = head.required(room)?;
                packet.tuple.source_port = (head[0] >> 16) as u16;
                packet.tuple.destination_port = head[0] as u16;
                if packet.tuple.protocol == protocol::TCP {
                    let more = more.required(room.saturating_sub(8))?;
                    packet.tcp_flags = (more[1] >> 16) as u8;
                    packet.transport_header = (more[1] >> 28) as u8 * 4;
                    packet.fingerprint = head[1] as u64;
                } else {
                    packet.fingerprint = fingerprint((head[1] >> 16) as u16, more);
                }
            }
            kind if kind == icmp => {
                let head = head.required(room)?;
                let kind = (head[0] >> 24) as u8;
                if icmp == protocol::ICMPV6 && matches!(kind, 130..=137 | 143) {
                    return match kind {
                        nd::SOLICITATION | nd::ADVERTISEMENT => Ok(Parsed::Neighbour),
                        _ => Err(DropReason::LinkLocal),
                    };
                }
                if is_error(icmp, kind) {
                    embedded(frame, packet, icmp)?;
                } else if is_query(icmp, kind) {
                    let identifier = (head[1] >> 16) as u16;
                    packet.tuple.source_port = identifier;
                    packet.tuple.destination_port = identifier;
                    packet.fingerprint = fingerprint(head[1] as u16, more);
                }
            }
            _ => {}
        }
    }
    // After neighbour discovery, which is multicast.
    if packet.destination.0[0] == 0xff {
        return Err(DropReason::Multicast);
    }
    Ok(Parsed::Packet)
}

#[inline(always)]
fn fingerprint(word: u16, payload: Half) -> u64 {
    ((payload.words[0] as u64) << 32 | payload.words[1] as u64) ^ (word as u64) << 48 ^ word as u64
}

/// ICMP messages that quote the datagram they are about (RFC 792, RFC 4443 section 2.1).
#[inline(always)]
const fn is_error(icmp: u8, kind: u8) -> bool {
    if icmp == protocol::ICMP { matches!(kind, 3 | 4 | 5 | 11 | 12) } else { kind < 128 && kind != 0 }
}

/// ICMP messages with an identifier: echo, timestamp.
#[inline(always)]
const fn is_query(icmp: u8, kind: u8) -> bool {
    if icmp == protocol::ICMP { matches!(kind, 0 | 8 | 13 | 14) } else { matches!(kind, 128 | 129) }
}

/// Replaces the packet's tuple by that of the embedded datagram, reversed: the error travels against it. Eight bytes of
/// its transport header suffice. Destination and length stay those of the error itself.
#[inline(never)]
fn embedded<F: Frame>(frame: &F, packet: &mut Packet, icmp: u8) -> Step<()> {
    let (length, start) = (packet.length, packet.transport);
    quoted(frame, packet, icmp).map_err(|_| DropReason::IcmpUnrelated)?;
    if packet.fragment == Fragment::Later || packet.beyond_limit {
        return Err(DropReason::IcmpUnrelated);
    }
    packet.fragment = Fragment::Whole;
    packet.is_error = true;
    let tuple = &mut packet.tuple;
    core::mem::swap(&mut tuple.source, &mut tuple.destination);
    match tuple.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            let ports: [u8; 4] = frame.load_at(packet.transport).ok_or(DropReason::IcmpUnrelated)?;
            tuple.source_port = be16(ports[2], ports[3]);
            tuple.destination_port = be16(ports[0], ports[1]);
        }
        kind if kind == icmp => {
            let head: [u8; 8] = frame.load_at(packet.transport).ok_or(DropReason::IcmpUnrelated)?;
            if !is_query(icmp, head[0]) {
                return Err(DropReason::IcmpUnrelated);
            }
            tuple.source_port = be16(head[4], head[5]);
            tuple.destination_port = tuple.source_port;
        }
        _ => {}
    }
    packet.length = length;
    packet.transport = start;
    Ok(())
}

/// The embedded IP header, behind the 8 bytes of the ICMP header.
#[inline(always)]
fn quoted<F: Frame>(frame: &F, packet: &mut Packet, icmp: u8) -> Step<()> {
    let offset = packet.transport + 8;
    if icmp == protocol::ICMP {
        let header: [u32; 5] = frame.words_at(offset).ok_or(DropReason::IcmpUnrelated)?;
        ipv4(frame, &header, offset, packet)
    } else {
        let header: [u32; 10] = frame.words_at(offset).ok_or(DropReason::IcmpUnrelated)?;
        ipv6(frame, &header, offset, packet)?;
        check_v6(packet)
    }
}
