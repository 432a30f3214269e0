//! From a frame to a packet: three-valued (ours, control, malformed with its reason), bounded, never past the frame.

use crate::frame::Frame;
use crate::key::Tuple;
use crate::verdict::Step;
use crate::wire::{ETHERNET, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, be16, nd, protocol};
use xdp_layout::{Addr, DropReason};

/// IPv6 extension headers that are followed. Behind more, the flow is told by addresses and next header only.
pub const EXTENSION_HEADERS_MAX: u32 = 8;

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fragment {
    /// Not fragmented.
    Whole,
    /// The first fragment: it has the ports.
    First(u32),
    /// A later fragment, by identification.
    Later(u32),
}

/// A unicast IP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The flow it belongs to, in its own direction. For an ICMP error the embedded tuple, reversed.
    pub tuple: Tuple,
    /// Destination of the IP header (differs from the tuple's for some ICMP errors).
    pub destination: Addr,
    /// Fragmentation.
    pub fragment: Fragment,
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
}

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A packet of a flow.
    Packet(Packet),
    /// An ARP packet for IPv4 over Ethernet.
    Arp,
    /// A neighbour solicitation or advertisement (the ICMPv6 type).
    Neighbour(u8),
}

/// The IP header's facts, of an outer or an embedded datagram.
struct Network {
    source: Addr,
    destination: Addr,
    protocol: u8,
    transport: u32,
    fragment: Fragment,
    beyond_limit: bool,
    length: u32,
}

/// Parses a frame without VLAN tag.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F) -> Step<Parsed> {
    let ethernet: [u8; ETHERNET] = frame.load(0).ok_or(DropReason::Malformed)?;
    match be16(ethernet[12], ethernet[13]) {
        ETHERTYPE_IPV4 => {
            let network = ipv4(frame, frame.load(ETHERNET), ETHERNET as u32)?;
            check_addresses_v4(&network)?;
            // Without options the transport header lies at a constant offset, which the kernel reads without a helper.
            if network.transport == 34 {
                let head = frame.load(34);
                let more = frame.load(42);
                packet(frame, &network, head, more, protocol::ICMP)
            } else {
                let head = frame.load_at(network.transport);
                let more = frame.load_at(network.transport + 8);
                packet(frame, &network, head, more, protocol::ICMP)
            }
        }
        ETHERTYPE_IPV6 => {
            let network = ipv6(frame, frame.load(ETHERNET), ETHERNET as u32)?;
            check_addresses_v6(&network)?;
            if network.transport == 54 {
                let head = frame.load(54);
                let more = frame.load(62);
                packet(frame, &network, head, more, protocol::ICMPV6)
            } else {
                let head = frame.load_at(network.transport);
                let more = frame.load_at(network.transport + 8);
                packet(frame, &network, head, more, protocol::ICMPV6)
            }
        }
        ETHERTYPE_ARP => Ok(Parsed::Arp),
        _ => Err(DropReason::UnsupportedEthertype),
    }
}

#[inline(always)]
fn ipv4<F: Frame>(frame: &F, header: Option<[u8; 20]>, offset: u32) -> Step<Network> {
    let header = header.ok_or(DropReason::Malformed)?;
    let header_len = (header[0] as u32 & 0xf) * 4;
    let length = be16(header[2], header[3]) as u32;
    if header[0] >> 4 != 4 || header_len < 20 {
        return Err(DropReason::Malformed);
    }
    // A zero length is a segment larger than 64 KiB, only possible with segmentation offload.
    if length < header_len && !(length == 0 && frame.gso_size() != 0) {
        return Err(DropReason::Malformed);
    }
    let fragment_word = be16(header[6], header[7]);
    let identification = be16(header[4], header[5]) as u32;
    let fragment = if fragment_word & 0x1fff != 0 {
        Fragment::Later(identification)
    } else if fragment_word & 0x2000 != 0 {
        Fragment::First(identification)
    } else {
        Fragment::Whole
    };
    Ok(Network {
        source: Addr::v4([header[12], header[13], header[14], header[15]]),
        destination: Addr::v4([header[16], header[17], header[18], header[19]]),
        protocol: header[9],
        transport: offset + header_len,
        fragment,
        beyond_limit: false,
        length,
    })
}

/// Outer IPv4 addresses: the datagram lies within the frame and both ends are unicast.
#[inline(always)]
fn check_addresses_v4(network: &Network) -> Step<()> {
    if network.destination.0[12] >= 224 {
        return Err(DropReason::Multicast);
    }
    if network.source.0[12] >= 224 || network.source.0[12] == 0 || network.destination.0[12] == 0 {
        return Err(DropReason::Malformed);
    }
    Ok(())
}

#[inline(always)]
fn check_addresses_v6(network: &Network) -> Step<()> {
    if network.source.is_v4() || network.destination.is_v4() {
        return Err(DropReason::V4Mapped);
    }
    if network.source.0[0] == 0xff {
        return Err(DropReason::Malformed);
    }
    Ok(())
}

#[inline(always)]
fn ipv6<F: Frame>(frame: &F, header: Option<[u8; 40]>, offset: u32) -> Step<Network> {
    let header = header.ok_or(DropReason::Malformed)?;
    if header[0] >> 4 != 6 {
        return Err(DropReason::Malformed);
    }
    let mut source = [0; 16];
    let mut destination = [0; 16];
    source.copy_from_slice(&header[8..24]);
    destination.copy_from_slice(&header[24..40]);
    let payload = be16(header[4], header[5]) as u32;
    let mut network = Network {
        source: Addr(source),
        destination: Addr(destination),
        protocol: header[6],
        transport: offset + 40,
        fragment: Fragment::Whole,
        beyond_limit: false,
        length: if payload == 0 { 0 } else { payload + 40 },
    };
    if is_extension(network.protocol) {
        extension_headers(frame, &mut network)?;
    }
    Ok(network)
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION_OPTIONS
    )
}

/// Follows the extension headers (RFC 8200 section 4) up to the transport header.
#[inline(always)]
fn extension_headers<F: Frame>(frame: &F, network: &mut Network) -> Step<()> {
    let mut seen = 0;
    while is_extension(network.protocol) {
        if seen == EXTENSION_HEADERS_MAX {
            network.beyond_limit = true;
            return Ok(());
        }
        seen += 1;
        let header: [u8; 8] = frame.load_at(network.transport).ok_or(DropReason::Malformed)?;
        if network.protocol == protocol::FRAGMENT {
            let offset_word = be16(header[2], header[3]);
            let identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            network.transport += 8;
            network.protocol = header[0];
            if offset_word & 0xfff8 != 0 {
                // What follows is payload, not headers.
                network.fragment = Fragment::Later(identification);
                return Ok(());
            }
            if offset_word & 1 != 0 {
                network.fragment = Fragment::First(identification);
            }
        } else {
            network.transport += (header[1] as u32 + 1) * 8;
            network.protocol = header[0];
        }
    }
    Ok(())
}

/// Puts network and transport header together. `head` and `more` are the first and second 8 bytes of the transport header.
#[inline(always)]
fn packet<F: Frame>(
    frame: &F,
    network: &Network,
    head: Option<[u8; 8]>,
    more: Option<[u8; 8]>,
    icmp: u8,
) -> Step<Parsed> {
    let mut packet = Packet {
        tuple: Tuple {
            source: network.source,
            destination: network.destination,
            source_port: 0,
            destination_port: 0,
            protocol: network.protocol,
        },
        destination: network.destination,
        fragment: network.fragment,
        tcp_flags: 0,
        is_error: false,
        beyond_limit: network.beyond_limit,
        fingerprint: 0,
        length: network.length,
        transport: network.transport,
    };
    if network.length != 0 && network.length + ETHERNET as u32 > frame.len() {
        return Err(DropReason::Malformed);
    }
    let is_multicast = network.destination.0[0] == 0xff;
    if !matches!(network.fragment, Fragment::Later(_)) && !network.beyond_limit {
        match network.protocol {
            protocol::TCP | protocol::UDP | protocol::SCTP => {
                let head = head.ok_or(DropReason::Malformed)?;
                packet.tuple.source_port = be16(head[0], head[1]);
                packet.tuple.destination_port = be16(head[2], head[3]);
                if network.protocol == protocol::TCP {
                    let more = more.ok_or(DropReason::Malformed)?;
                    packet.tcp_flags = more[5];
                    packet.fingerprint = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as u64;
                } else {
                    packet.fingerprint = fingerprint(be16(head[4], head[5]), more);
                }
            }
            kind if kind == icmp => {
                let head = head.ok_or(DropReason::Malformed)?;
                if icmp == protocol::ICMPV6 && matches!(head[0], 130..=137 | 143) {
                    return match head[0] {
                        nd::SOLICITATION | nd::ADVERTISEMENT => Ok(Parsed::Neighbour(head[0])),
                        _ => Err(DropReason::LinkLocal),
                    };
                }
                if is_error(icmp, head[0]) {
                    packet.tuple = embedded(frame, network.transport + 8, icmp)?;
                    packet.is_error = true;
                } else if is_query(icmp, head[0]) {
                    let identifier = be16(head[4], head[5]);
                    packet.tuple.source_port = identifier;
                    packet.tuple.destination_port = identifier;
                    packet.fingerprint = fingerprint(be16(head[6], head[7]), more);
                }
            }
            _ => {}
        }
    }
    if is_multicast {
        return Err(DropReason::Multicast);
    }
    Ok(Parsed::Packet(packet))
}

#[inline(always)]
fn fingerprint(word: u16, payload: Option<[u8; 8]>) -> u64 {
    u64::from_be_bytes(payload.unwrap_or([0; 8])) ^ (word as u64) << 48 ^ word as u64
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

/// The tuple of an embedded datagram, reversed: the error travels against it. Eight bytes of its transport header suffice.
#[inline(always)]
fn embedded<F: Frame>(frame: &F, offset: u32, icmp: u8) -> Step<Tuple> {
    let network = if icmp == protocol::ICMP {
        let header: [u8; 20] = frame.load_at(offset).ok_or(DropReason::IcmpUnrelated)?;
        // The quoted length is that of the original datagram, not of the quotation.
        ipv4(frame, Some(header), offset).map_err(|_| DropReason::IcmpUnrelated)?
    } else {
        let header: [u8; 40] = frame.load_at(offset).ok_or(DropReason::IcmpUnrelated)?;
        let network = ipv6(frame, Some(header), offset).map_err(|_| DropReason::IcmpUnrelated)?;
        check_addresses_v6(&network).map_err(|_| DropReason::IcmpUnrelated)?;
        network
    };
    if matches!(network.fragment, Fragment::Later(_)) || network.beyond_limit {
        return Err(DropReason::IcmpUnrelated);
    }
    let mut tuple = Tuple {
        source: network.destination,
        destination: network.source,
        source_port: 0,
        destination_port: 0,
        protocol: network.protocol,
    };
    match network.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            let ports: [u8; 4] = frame.load_at(network.transport).ok_or(DropReason::IcmpUnrelated)?;
            tuple.source_port = be16(ports[2], ports[3]);
            tuple.destination_port = be16(ports[0], ports[1]);
        }
        kind if kind == icmp => {
            let head: [u8; 8] = frame.load_at(network.transport).ok_or(DropReason::IcmpUnrelated)?;
            if !is_query(icmp, head[0]) {
                return Err(DropReason::IcmpUnrelated);
            }
            tuple.source_port = be16(head[4], head[5]);
            tuple.destination_port = tuple.source_port;
        }
        _ => {}
    }
    Ok(tuple)
}
