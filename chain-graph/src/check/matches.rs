//! Matches: from lists of conditions to rows of edges, and which of them can never hit.

use super::violation::{Report, ViolationKind as Kind};
use crate::cidr::Cidr;
use crate::model::{EdgeMatch, PortRange, Protocol};
use ipnet::IpNet;
use xdp_layout::AttachmentId;
use xdp_layout::plan::{Edge, WALK_MAX};

/// Pieces that a condition may fall into while earlier ones are cut out of it. Beyond, it counts as hit by something.
const PIECES_MAX: usize = 4096;

/// The default edge's row.
pub(super) fn any() -> Vec<Edge> {
    vec![edge(0, Cidr::ALL, Cidr::ALL, PortRange::ALL, PortRange::ALL, 0, 0)]
}

fn edge(
    protocol: u8,
    client: Cidr,
    server: Cidr,
    client_ports: PortRange,
    server_ports: PortRange,
    from: u16,
    to: u16,
) -> Edge {
    Edge {
        client: client.prefix(),
        server: server.prefix(),
        client_ports: [client_ports.first, client_ports.last],
        server_ports: [server_ports.first, server_ports.last],
        target: 0,
        client_attachment: from,
        server_attachment: to,
        protocol,
        last: 0,
        reserved: [0; 6],
    }
}

/// Sorted, without repetitions; the one value that means "any" if the list was empty.
fn choices<T: Copy + Ord>(given: impl Iterator<Item = T>, any: T) -> Vec<T> {
    let mut values: Vec<T> = given.collect();
    values.sort_unstable();
    values.dedup();
    if values.is_empty() {
        values.push(any);
    }
    values
}

/// Expands a match into edges without target: the product of its lists. The edges are alternatives, so their order means
/// nothing; it is made to depend on the content only. `None` if a violation was reported.
///
/// A match on ports without protocol means TCP, UDP and SCTP: identifiers of ICMP echo are no ports.
pub(super) fn expand(
    matches: &EdgeMatch,
    client_attachments: &[AttachmentId],
    server_attachments: &[AttachmentId],
    path: &str,
    report: &mut Report,
) -> Option<Vec<Edge>> {
    let before = report.0.len();
    check_ports(matches, path, report);
    check_prefixes("client_prefixes", &matches.client_prefixes, path, report);
    check_prefixes("server_prefixes", &matches.server_prefixes, path, report);
    if report.0.len() != before {
        return None;
    }
    let has_ports = !(matches.client_ports.is_empty() && matches.server_ports.is_empty());
    let protocols = match matches.protocol {
        Some(protocol) => vec![protocol.get()],
        None if has_ports => [Protocol::TCP, Protocol::UDP, Protocol::SCTP].map(Protocol::get).to_vec(),
        None => vec![0],
    };
    let clients = choices(matches.client_prefixes.iter().map(|&net| net.into()), Cidr::ALL);
    let servers = choices(matches.server_prefixes.iter().map(|&net| net.into()), Cidr::ALL);
    // Counted before they are made: lists of some thousand prefixes would fill the memory.
    let pairs = pairs(&clients, &servers, matches.protocol);
    if pairs == 0 {
        let message = "no flow has such addresses: client, server and protocol are not of one IP version".to_owned();
        report.add(Kind::Contradiction, path.to_owned(), message);
        return None;
    }
    let client_ports = choices(matches.client_ports.iter().copied(), PortRange::ALL);
    let server_ports = choices(matches.server_ports.iter().copied(), PortRange::ALL);
    let entries = choices(client_attachments.iter().map(|id| id.get()), 0);
    let exits = choices(server_attachments.iter().map(|id| id.get()), 0);
    let count = [&protocols.len(), &pairs, &client_ports.len(), &server_ports.len(), &entries.len(), &exits.len()]
        .into_iter()
        .fold(1usize, |count, factor| count.saturating_mul(*factor));
    if count > WALK_MAX as usize {
        let message = format!("the match stands for {count} comparisons, a path may need at most {WALK_MAX}");
        report.add(Kind::WalkTooLong, path.to_owned(), message);
        return None;
    }
    let mut ends: Vec<(Cidr, Cidr)> = Vec::with_capacity(pairs);
    for &client in &clients {
        let servers = servers.iter().filter(|&&server| same_family(client, server, matches.protocol));
        ends.extend(servers.map(|&server| (client, server)));
    }
    let mut edges = Vec::with_capacity(count);
    for &protocol in &protocols {
        for &(client, server) in &ends {
            for &from in &client_ports {
                for &to in &server_ports {
                    for &entry in &entries {
                        edges.extend(exits.iter().map(|&exit| edge(protocol, client, server, from, to, entry, exit)));
                    }
                }
            }
        }
    }
    Some(edges)
}

/// Families that addresses of a prefix may have, in bits: 1 for IPv4, 2 for IPv6.
fn families(cidr: Cidr) -> usize {
    match cidr {
        Cidr::ALL => 3,
        cidr if cidr.is_v4() => 1,
        _ => 2,
    }
}

/// Families that flows of a protocol may have.
fn families_of(protocol: Option<Protocol>) -> usize {
    match protocol {
        Some(Protocol::ICMP) => 1,
        Some(Protocol::ICMPV6) => 2,
        _ => 3,
    }
}

/// Whether a flow between two such addresses with that protocol is possible.
fn same_family(client: Cidr, server: Cidr, protocol: Option<Protocol>) -> bool {
    families(client) & families(server) & families_of(protocol) != 0
}

/// Pairs of a client's and a server's prefix between which a flow with that protocol is possible.
fn pairs(clients: &[Cidr], servers: &[Cidr], protocol: Option<Protocol>) -> usize {
    let tally = |cidrs: &[Cidr]| {
        let mut tally = [0usize; 4];
        cidrs.iter().for_each(|cidr| tally[families(*cidr) & families_of(protocol)] += 1);
        tally
    };
    let (clients, servers) = (tally(clients), tally(servers));
    let common = (0..4).flat_map(|one| (0..4).map(move |other| (one, other))).filter(|(one, other)| one & other != 0);
    common.map(|(one, other)| clients[one].saturating_mul(servers[other])).fold(0, usize::saturating_add)
}

fn check_ports(matches: &EdgeMatch, path: &str, report: &mut Report) {
    for (field, ranges) in [("client_ports", &matches.client_ports), ("server_ports", &matches.server_ports)] {
        for (index, range) in ranges.iter().enumerate().filter(|(_, range)| range.is_empty()) {
            let message = format!("the range {} to {} holds no port", range.first, range.last);
            report.add(Kind::EmptyRange, format!("{path}.{field}[{index}]"), message);
        }
        if let Some(protocol) = matches.protocol.filter(|protocol| !protocol.has_ports() && !ranges.is_empty()) {
            report.add(Kind::Contradiction, format!("{path}.{field}"), format!("{protocol} has no ports"));
        }
    }
}

fn check_prefixes(field: &str, prefixes: &[IpNet], path: &str, report: &mut Report) {
    for (index, net) in prefixes.iter().enumerate() {
        let cidr = Cidr::from(*net);
        if matches!(net, IpNet::V6(_)) && (cidr.covers(Cidr::V4) || Cidr::V4.covers(cidr)) {
            let message = format!("{net} holds IPv4 addresses in IPv6 form (::ffff:0:0/96); give prefixes beside it");
            report.add(Kind::MixedPrefix, format!("{path}.{field}[{index}]"), message);
        }
    }
}

/// A set of flows: an interval in each of the seven fields that an edge compares.
type Region = [(u128, u128); 7];

fn region(edge: &Edge) -> Region {
    let prefix = |value: [u64; 2], mask: [u64; 2]| {
        let join = |halves: [u64; 2]| u128::from(halves[0]) << 64 | u128::from(halves[1]);
        (join(value), join(value) | !join(mask))
    };
    let ports = |range: [u16; 2]| (u128::from(range[0]), u128::from(range[1]));
    let or_any =
        |value: u16, max: u16| if value == 0 { (0, u128::from(max)) } else { (u128::from(value), u128::from(value)) };
    [
        or_any(edge.protocol.into(), u8::MAX.into()),
        or_any(edge.client_attachment, u16::MAX),
        or_any(edge.server_attachment, u16::MAX),
        ports(edge.client_ports),
        ports(edge.server_ports),
        prefix(edge.client.value, edge.client.mask),
        prefix(edge.server.value, edge.server.mask),
    ]
}

/// Adds what of `whole` lies outside `hole` to `left`.
fn cut(mut whole: Region, hole: &Region, left: &mut Vec<Region>) {
    if whole.iter().zip(hole).any(|(a, b)| a.1 < b.0 || b.1 < a.0) {
        left.push(whole);
        return;
    }
    for (field, &(low, high)) in hole.iter().enumerate() {
        if whole[field].0 < low {
            let mut piece = whole;
            piece[field].1 = low - 1;
            left.push(piece);
            whole[field].0 = low;
        }
        if whole[field].1 > high {
            let mut piece = whole;
            piece[field].0 = high + 1;
            left.push(piece);
            whole[field].1 = high;
        }
    }
}

/// Whether every flow that an edge of `row` takes is taken by one of `earlier`.
pub(super) fn is_shadowed<'a>(row: &[Edge], earlier: impl Iterator<Item = &'a Edge>) -> bool {
    let mut left: Vec<Region> = row.iter().map(region).collect();
    for edge in earlier {
        let hole = region(edge);
        let mut next = Vec::with_capacity(left.len());
        for whole in left {
            cut(whole, &hole, &mut next);
        }
        if next.is_empty() {
            return true;
        }
        if next.len() > PIECES_MAX {
            return false;
        }
        left = next;
    }
    false
}
