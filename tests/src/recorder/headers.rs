//! From a captured frame to what the judge compares: an own small parser, on purpose not the
//! one under test.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Addresses, protocol and ports of a packet, in its own direction.
///
/// ICMP and ICMPv6 echo: a request has its identifier as source port and 0 as destination port,
/// a reply the other way round, so that a reply's tuple is the request's reversed. Other
/// protocols without ports: both 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FiveTuple {
    /// IANA protocol number: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6, 132 SCTP.
    pub protocol: u8,
    /// Sender.
    pub source: IpAddr,
    /// Sender's port.
    pub source_port: u16,
    /// Receiver.
    pub destination: IpAddr,
    /// Receiver's port.
    pub destination_port: u16,
}

impl FiveTuple {
    /// The tuple of packets in the opposite direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
        }
    }

    /// The same for both directions: the smaller of the tuple and its reverse.
    #[must_use]
    pub fn canonical(self) -> Self {
        self.min(self.reversed())
    }
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, source, source_port, destination, destination_port } = self;
        write!(f, "{protocol} {source} {source_port} > {destination} {destination_port}")
    }
}

/// What kind of packet a tuple was seen in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A whole packet or a first fragment.
    Whole,
    /// A later fragment: the tuple has no ports.
    LaterFragment,
    /// An ICMP or ICMPv6 error (the tuple is the error's own, ports 0) about a packet with this
    /// tuple.
    ErrorAbout(FiveTuple),
}

/// A frame, as far as it was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    Ip {
        vlan: Option<u16>,
        packet: Packet,
    },
    /// Not IP: its EtherType.
    Other(u16),
    /// Cut short or malformed.
    Malformed,
}

/// An IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    pub(super) tuple: FiveTuple,
    /// Of TCP the segment's length in sequence space (`SEG.LEN` of RFC 9293 section 3.3.1), of others the IP payload.
    pub(super) octets: u32,
    /// A TCP segment with RST.
    pub(super) is_reset: bool,
}

const TCP: u8 = 6;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;

/// Reads an Ethernet frame; `tag` is a VLAN tag the kernel took out of its bytes.
pub(super) fn parse(frame: &[u8], tag: Option<u16>) -> Parsed {
    let mut vlan = tag.map(|tci| tci & 0xfff);
    let mut at = 12;
    let mut ethertype = be16(frame, at);
    // The outermost tag names the tenant; at most two are skipped.
    for _ in 0..2 {
        if !matches!(ethertype, Some(DOT1Q | DOT1AD)) {
            break;
        }
        vlan = vlan.or(be16(frame, at + 2).map(|tci| tci & 0xfff));
        at += 4;
        ethertype = be16(frame, at);
    }
    let packet = frame.get(at + 2..).unwrap_or_default();
    let read = match ethertype {
        Some(IPV4) => ipv4(packet),
        Some(IPV6) => ipv6(packet),
        Some(other) => return Parsed::Other(other),
        None => None,
    };
    match read {
        Some(packet) => Parsed::Ip { vlan, packet },
        None => Parsed::Malformed,
    }
}

fn ipv4(packet: &[u8]) -> Option<Packet> {
    let header_length = usize::from(packet.first()? & 0x0f) * 4;
    let fragment_offset = be16(packet, 6)? & 0x1fff;
    let protocol = *packet.get(9)?;
    let address = |at: usize| {
        let bytes = <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(bytes)))
    };
    let header_length = header_length.max(20);
    let payload = packet.get(header_length..)?;
    let octets = u32::from(be16(packet, 2)?).saturating_sub(header_length as u32);
    transport(address(12)?, address(16)?, protocol, fragment_offset != 0, payload, octets)
}

fn ipv6(packet: &[u8]) -> Option<Packet> {
    let address = |at: usize| {
        let bytes = <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)))
    };
    let (source, destination) = (address(8)?, address(24)?);
    let mut next = *packet.get(6)?;
    let mut octets = u32::from(be16(packet, 4)?);
    let mut payload = packet.get(40..)?;
    let mut later = false;
    // Hop-by-hop 0, routing 43, fragment 44, authentication 51, destination 60 (RFC 8200).
    while matches!(next, 0 | 43 | 44 | 51 | 60) && !later {
        let units = usize::from(*payload.get(1)?);
        let length = match next {
            44 => {
                later = be16(payload, 2)? & 0xfff8 != 0;
                8
            }
            51 => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        next = *payload.first()?;
        payload = payload.get(length..)?;
        octets = octets.saturating_sub(length as u32);
    }
    transport(source, destination, next, later, payload, octets)
}

fn transport(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    later_fragment: bool,
    payload: &[u8],
    octets: u32,
) -> Option<Packet> {
    let tuple =
        |source_port, destination_port| FiveTuple { protocol, source, source_port, destination, destination_port };
    let whole = |kind, tuple| Packet { kind, tuple, octets, is_reset: false };
    if later_fragment {
        return Some(whole(Kind::LaterFragment, tuple(0, 0)));
    }
    let (kind, tuple) = match (protocol, payload.first()) {
        (6 | 17 | 132, _) => (Kind::Whole, tuple(be16(payload, 0)?, be16(payload, 2)?)),
        (1, Some(8)) | (58, Some(128)) => (Kind::Whole, tuple(be16(payload, 4)?, 0)),
        (1, Some(0)) | (58, Some(129)) => (Kind::Whole, tuple(0, be16(payload, 4)?)),
        // Errors quote the packet behind eight bytes (RFC 792, RFC 4443).
        (1, Some(3 | 5 | 11 | 12)) => (error_about(ipv4(payload.get(8..)?)?), tuple(0, 0)),
        (58, Some(1..=4)) => (error_about(ipv6(payload.get(8..)?)?), tuple(0, 0)),
        _ => (Kind::Whole, tuple(0, 0)),
    };
    let packet = whole(kind, tuple);
    Some(if protocol == TCP { segment(packet, payload) } else { packet })
}

/// What TCP's header adds; one that is cut short, as in an ICMP error, adds nothing.
fn segment(packet: Packet, header: &[u8]) -> Packet {
    let (Some(offset), Some(flags)) = (header.get(12), header.get(13)) else {
        return packet;
    };
    let payload = packet.octets.saturating_sub(u32::from(offset >> 4) * 4);
    let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    Packet { octets: payload + controls, is_reset: flags & RST != 0, ..packet }
}

fn error_about(quoted: Packet) -> Kind {
    Kind::ErrorAbout(quoted.tuple)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4_packet(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0];
        packet.extend((20 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(payload);
        packet
    }

    fn frame(ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ethertype.to_be_bytes());
        frame.extend(packet);
        frame
    }

    fn tuple(protocol: u8, source_port: u16, destination_port: u16) -> FiveTuple {
        FiveTuple {
            protocol,
            source: "10.0.0.1".parse().unwrap(),
            source_port,
            destination: "10.0.0.2".parse().unwrap(),
            destination_port,
        }
    }

    fn parsed(vlan: Option<u16>, kind: Kind, tuple: FiveTuple, octets: u32) -> Parsed {
        Parsed::Ip { vlan, packet: Packet { kind, tuple, octets, is_reset: false } }
    }

    const PORTS: [u8; 8] = [0x12, 0x34, 0, 80, 0, 0, 0, 0];

    #[test]
    fn tag_is_found_in_the_bytes_and_beside_them() {
        let tagged = [&[0x20, 0x0a, 0x08, 0x00][..], &ipv4_packet(17, 0, &PORTS)].concat();
        let expected = parsed(Some(10), Kind::Whole, tuple(17, 0x1234, 80), 8);
        assert_eq!(parse(&frame(DOT1Q, &tagged), None), expected);
        assert_eq!(parse(&frame(IPV4, &ipv4_packet(17, 0, &PORTS)), Some(0x200a)), expected);
    }

    #[test]
    fn fragments_and_errors_are_told_apart() {
        let later = parse(&frame(IPV4, &ipv4_packet(17, 0x2001, &PORTS)), None);
        let expected = parsed(None, Kind::LaterFragment, tuple(17, 0, 0), 8);
        assert_eq!(later, expected);

        let quoted = ipv4_packet(6, 0, &PORTS);
        let unreachable = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        let error = parse(&frame(IPV4, &ipv4_packet(1, 0, &unreachable)), None);
        let kind = Kind::ErrorAbout(tuple(6, 0x1234, 80));
        assert_eq!(error, parsed(None, kind, tuple(1, 0, 0), 36));
    }

    #[test]
    fn echo_reply_is_the_reversed_request() {
        let request = tuple(1, 7, 0);
        let echo = parse(&frame(IPV4, &ipv4_packet(1, 0, &[8, 0, 0, 0, 0, 7, 0, 1])), None);
        assert_eq!(echo, parsed(None, Kind::Whole, request, 8));
        assert_eq!(request.reversed().reversed(), request);
        assert_eq!(request.canonical(), request.reversed().canonical());
    }

    #[test]
    fn ipv6_extension_headers_are_skipped() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend([44, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([17, 0, 0, 1, 0, 0, 0, 9]);
        packet.extend(PORTS);
        let Parsed::Ip { packet, .. } = parse(&frame(IPV6, &packet), None) else { panic!("not understood") };
        let tuple = packet.tuple;
        assert_eq!((packet.kind, tuple.protocol, packet.octets), (Kind::Whole, 17, 8));
        assert_eq!((tuple.source_port, tuple.destination_port), (0x1234, 80));
    }

    #[test]
    fn a_segment_is_as_long_as_its_payload_and_what_else_takes_a_sequence_number() {
        let segment = |flags: u8, payload: usize| {
            let mut segment = PORTS.to_vec();
            segment.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
            segment.extend(vec![0; payload]);
            let Parsed::Ip { packet, .. } = parse(&frame(IPV4, &ipv4_packet(TCP, 0, &segment)), None) else {
                panic!("not understood")
            };
            (packet.octets, packet.is_reset)
        };
        let ack = 16;
        assert_eq!(segment(SYN, 0), (1, false));
        assert_eq!(segment(ack, 0), (0, false));
        assert_eq!(segment(ack, 100), (100, false));
        assert_eq!(segment(ack | FIN, 100), (101, false));
        assert_eq!(segment(ack | RST, 0), (0, true));
    }

    #[test]
    fn truncation_anywhere_is_malformed_or_other_and_never_panics() {
        let whole = frame(IPV4, &ipv4_packet(6, 0, &PORTS[..4]));
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length], None), Parsed::Malformed, "{length} bytes");
        }
    }
}
