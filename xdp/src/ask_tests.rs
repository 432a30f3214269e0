use super::{FrameSocket, answer};
use etherparse::{
    Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice, icmpv4,
    icmpv6,
};
use xdp_layout::Addr;
use xdp_layout::event::{EVENT_FRAME, Event, EventKind};

const OWN: [u8; 6] = [2, 0x53, 0x57, 0x59, 0x44, 1];
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 2];
const FUNCTION: [u8; 6] = [2, 0, 0, 0, 0, 3];
const V4: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 1, 2]];
const V6: [[u8; 16]; 2] =
    [[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xa, 0xb, 0xc, 0xd]];

fn addr_v6(bytes: [u8; 16]) -> Addr {
    Addr(bytes)
}

fn event(kind: EventKind, addr: Addr, value: u32, bytes: &[u8]) -> Event {
    let mut frame = [0; EVENT_FRAME];
    let length = bytes.len().min(EVENT_FRAME);
    frame[..length].copy_from_slice(&bytes[..length]);
    Event { kind: kind as u32, tenant: 100, element: 1, value, addr, frame }
}

fn built(builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>) -> Vec<u8> {
    let mut frame = Vec::new();
    builder.write(&mut frame, &[0xab; 1460]).expect("a frame");
    frame
}

fn datagram_v4(source: [u8; 6]) -> Event {
    let frame = built(PacketBuilder::ethernet2(source, GATEWAY).ipv4(V4[0], V4[1], 64).udp(1, 2));
    event(EventKind::TooBig, Addr::v4(V4[0]), 1400, &frame)
}

fn datagram_v6(source: [u8; 6]) -> Event {
    let frame = built(PacketBuilder::ethernet2(source, GATEWAY).ipv6(V6[0], V6[1], 64).udp(1, 2));
    event(EventKind::TooBig, addr_v6(V6[0]), 1400, &frame)
}

fn icmpv6_of<'a>(packet: &SlicedPacket<'a>) -> ([u8; 16], [u8; 16], u8, Icmpv6Slice<'a>) {
    let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) = (&packet.net, &packet.transport) else {
        panic!("not ICMPv6: {packet:?}");
    };
    let header = ip.header();
    assert!(icmp.is_checksum_valid(header.source(), header.destination()), "checksum");
    assert_eq!(usize::from(header.payload_length()), icmp.slice().len());
    (header.source(), header.destination(), header.hop_limit(), icmp.clone())
}

fn macs(frame: &[u8]) -> ([u8; 6], [u8; 6]) {
    (frame[..6].try_into().expect("six"), frame[6..12].try_into().expect("six"))
}

#[test]
fn hosts_are_asked_for_by_arp_probe() {
    let wanted = event(EventKind::NeighbourWanted, Addr::v4(V4[1]), 0, &[]);
    let frame = answer(&wanted, OWN, None).expect("a probe");
    let packet = SlicedPacket::from_ethernet(&frame).expect("well-formed");
    let Some(NetSlice::Arp(arp)) = &packet.net else { panic!("not ARP: {packet:?}") };
    assert_eq!(macs(&frame), ([0xff; 6], OWN));
    assert_eq!(arp.operation().0, 1, "a request");
    assert_eq!((arp.hw_addr_type().0, arp.proto_addr_type().0), (1, 0x0800));
    assert_eq!((arp.sender_hw_addr(), arp.sender_protocol_addr()), (&OWN[..], &[0; 4][..]), "from nobody");
    assert_eq!((arp.target_hw_addr(), arp.target_protocol_addr()), (&[0; 6][..], &V4[1][..]));
}

#[test]
fn hosts_are_asked_for_by_neighbour_solicitation() {
    let wanted = event(EventKind::NeighbourWanted, addr_v6(V6[1]), 0, &[]);
    let frame = answer(&wanted, OWN, None).expect("a solicitation");
    assert_eq!(macs(&frame), ([0x33, 0x33, 0xff, 0xb, 0xc, 0xd], OWN), "RFC 2464 section 7");
    let packet = SlicedPacket::from_ethernet(&frame).expect("well-formed");
    let (source, destination, hop_limit, icmp) = icmpv6_of(&packet);
    assert_eq!(source, [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x53, 0x57, 0xff, 0xfe, 0x59, 0x44, 1], "RFC 4291 appendix A");
    assert_eq!(destination, [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xb, 0xc, 0xd], "RFC 4291 section 2.7.1");
    assert_eq!((hop_limit, icmp.type_u8(), icmp.code_u8()), (255, 135, 0));
    assert_eq!(icmp.slice()[8..24], V6[1]);
    assert_eq!(icmp.slice()[24..], [&[1, 1][..], &OWN].concat(), "source link-layer address");
}

#[test]
fn senders_are_told_the_limit_v4() {
    let event = datagram_v4(SENDER);
    let frame = answer(&event, OWN, Some(SENDER)).expect("an answer");
    assert_eq!(macs(&frame), (SENDER, GATEWAY));
    let packet = SlicedPacket::from_ethernet(&frame).expect("well-formed");
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) = (&packet.net, &packet.transport) else {
        panic!("not ICMPv4: {packet:?}");
    };
    let header = ip.header().to_header();
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    assert_eq!((header.source, header.destination), (V4[1], V4[0]));
    assert_eq!(usize::from(header.total_len), frame.len() - 14);
    let limit = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
    assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(limit));
    let icmp: &Icmpv4Slice<'_> = icmp;
    assert_eq!(icmp.icmp_type().calc_checksum(icmp.payload()), icmp.checksum());
    assert!(icmp.payload().len() >= 28, "header and 8 bytes");
    assert_eq!(*icmp.payload(), event.frame[14..14 + icmp.payload().len()]);
}

#[test]
fn senders_are_told_the_limit_v6() {
    let event = datagram_v6(SENDER);
    let frame = answer(&event, OWN, Some(SENDER)).expect("an answer");
    assert_eq!(macs(&frame), (SENDER, GATEWAY));
    let packet = SlicedPacket::from_ethernet(&frame).expect("well-formed");
    let (source, destination, _, icmp) = icmpv6_of(&packet);
    assert_eq!((source, destination), (V6[1], V6[0]));
    assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: 1400 });
    assert_eq!(*icmp.payload(), event.frame[14..]);
}

#[test]
fn behind_a_routed_function_the_answer_still_goes_to_the_host() {
    for event in [datagram_v4(FUNCTION), datagram_v6(FUNCTION)] {
        let frame = answer(&event, OWN, Some(SENDER)).expect("an answer");
        assert_eq!(macs(&frame), (SENDER, OWN));
        let asked = answer(&event, OWN, None).expect("a question");
        let wanted = Event { kind: EventKind::NeighbourWanted as u32, ..event };
        assert_eq!(Some(asked), answer(&wanted, OWN, None), "an unknown host is asked for");
    }
}

#[test]
fn errors_fragments_and_senders_that_are_nowhere_get_no_answer() {
    let v4 = |kind| {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2(SENDER, GATEWAY).ipv4(V4[0], V4[1], 64).icmpv4(kind);
        builder.write(&mut frame, &[0; 1400]).expect("a frame");
        event(EventKind::TooBig, Addr::v4(V4[0]), 1400, &frame)
    };
    let v6 = |kind| {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2(SENDER, GATEWAY).ipv6(V6[0], V6[1], 64).icmpv6(kind);
        builder.write(&mut frame, &[0; 1400]).expect("a frame");
        event(EventKind::TooBig, addr_v6(V6[0]), 1400, &frame)
    };
    let echo = etherparse::IcmpEchoHeader { id: 1, seq: 1 };
    let is_answered = |event: &Event| answer(event, OWN, Some(SENDER)).is_some() || answer(event, OWN, None).is_some();
    assert!(is_answered(&v4(Icmpv4Type::EchoRequest(echo))));
    assert!(is_answered(&v6(Icmpv6Type::EchoRequest(echo))));
    assert!(!is_answered(&v4(Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit))));
    assert!(!is_answered(&v4(Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port))));
    assert!(!is_answered(&v6(Icmpv6Type::PacketTooBig { mtu: 1280 })));
    assert!(!is_answered(&v6(Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded))));

    // The same error behind destination options, and behind a first fragment's header.
    let error = v6(Icmpv6Type::PacketTooBig { mtu: 1280 });
    for header in [[58, 0, 1, 4, 0, 0, 0, 0], [58, 0, 0, 1, 0, 0, 0, 7], [58, 0, 0, 8, 0, 0, 0, 7]] {
        let is_fragment = header[7] == 7;
        let mut behind = error;
        behind.frame[20] = if is_fragment { 44 } else { 60 };
        behind.frame.copy_within(54..EVENT_FRAME - 8, 62);
        behind.frame[54..62].copy_from_slice(&header);
        assert!(!is_answered(&behind), "{header:?}");
        behind.frame[62] = 128;
        let is_later = header[3] == 8;
        assert_eq!(is_answered(&behind), !is_later, "an echo request in its place: {header:?}");
    }
    let mut fragment = datagram_v4(SENDER);
    fragment.frame[21] = 1;
    assert!(!is_answered(&fragment), "a later fragment");
    let mut group = datagram_v4(SENDER);
    group.frame[0] |= 1;
    assert!(!is_answered(&group), "a group's frame");
    for event in [datagram_v4(SENDER), datagram_v6(SENDER)] {
        assert!(is_answered(&event));
        assert!(!is_answered(&Event { element: 0, ..event }), "no attachment");
    }
    assert!(!is_answered(&event(EventKind::TooBig, Addr::v4(V4[0]), 1400, &[0; 64])), "neither IPv4 nor IPv6");
}

#[test]
fn a_queue_that_does_not_move_holds_up_no_other() {
    testbed::require!();
    let testbed = testbed::Testbed::new().expect("testbed");
    let namespace = testbed.node().namespace();
    let lines = ["left", "right"].iter().flat_map(|name| {
        [
            format!("link add {name} type veth peer name {name}-peer"),
            format!("link set {name} up"),
            format!("link set {name}-peer up"),
        ]
    });
    namespace.ip(&lines.collect::<Vec<_>>()).expect("interfaces");
    // A bucket of one frame that refills in years.
    let queue = ["qdisc", "add", "dev", "left", "root", "tbf", "rate", "8bit", "burst", "1600", "limit", "100000000"];
    namespace.output("tc", &queue).expect("queue");
    let done = namespace.run(|| {
        let links = crate::links::dump().expect("links");
        let socket = FrameSocket::open().expect("socket");
        let frame = [0xff; 1400];
        for _ in 0..2000 {
            drop(socket.send(links["left"].index, &frame));
        }
        socket.send(links["right"].index, &frame)
    });
    done.expect("namespace").expect("the other interface takes a frame");
}
