//! Drawing flows of a graph.

use super::random::Random;
use super::{Comparison, Flow};
use crate::cidr::Cidr;
use crate::image::TenantImage;
use crate::model::{Protocol, Side};
use std::collections::BTreeSet;
use xdp_forward::Question;
use xdp_forward::key::Tuple;
use xdp_forward::tables::PlanTables;
use xdp_layout::flow::FlowKey;
use xdp_layout::plan::{Edge, Prefix, RouteKey};
use xdp_layout::{Addr, AttachmentId, GraphId, TenantId};

/// Ports of clients, where nothing says otherwise: those above the well-known ones.
const CLIENT_PORTS: [u16; 2] = [1024, u16::MAX];
/// Ports of servers, where nothing says otherwise.
const SERVER_PORTS: [u16; 2] = [1, u16::MAX];
/// Ports of an edge that takes every flow.
const ANY_PORTS: [u16; 2] = [0, u16::MAX];
/// Times that an address is drawn until one has a route: a longer prefix inside the one it is drawn from may keep it out.
const DRAWS_MAX: u32 = 8;

/// Draws flows of one graph, without end, the same for the same seed. Empty if the graph routes no addresses.
///
/// Every other flow is *free*: of an address family that both sides route, each as likely; TCP or UDP, each as likely; client
/// and server address in one of the prefixes that their side routes, each prefix as likely, and in it each address; client
/// port from 1024 on, server port from 1 on, each as likely. The others are drawn for a *condition*: one of the comparisons of
/// the active views of either image, each as likely, once for each family in which flows can meet it. What the condition says
/// holds for the flow, the rest is drawn as above; so every branch is met, however narrow it is. Where there are no
/// conditions every flow is free.
///
/// A function that makes a tuple of its own draws it evenly from the outside blocks of the instance, on towards the same server.
pub struct Keys<'a> {
    comparison: &'a Comparison<'a>,
    tenant: TenantId,
    graph: GraphId,
    random: Random,
    free: Vec<Stratum>,
    conditions: Vec<Stratum>,
}

/// Flows that are drawn alike, of one address family.
struct Stratum {
    clients: Vec<Cidr>,
    servers: Vec<Cidr>,
    /// 0 for TCP or UDP.
    protocol: u8,
    client_ports: [u16; 2],
    server_ports: [u16; 2],
}

/// Prefixes of a side that lead to an attachment.
type Routed = BTreeSet<(Cidr, AttachmentId)>;

impl<'a> Keys<'a> {
    pub(super) fn new(comparison: &'a Comparison<'a>, tenant: TenantId, graph: GraphId, seed: u64) -> Self {
        let tenants: Vec<&TenantImage> =
            comparison.sides().into_iter().filter_map(|side| Some(&**side.image.tenants().get(&tenant)?)).collect();
        let routed = |side| -> Routed { tenants.iter().flat_map(|tenant| routed(tenant, graph, side)).collect() };
        let (clients, servers) = (routed(Side::Client), routed(Side::Server));
        let strata = |edge: &Edge| {
            let of_family = |is_v4| stratum(edge, &clients, &servers, is_v4);
            [true, false].into_iter().filter_map(of_family).collect::<Vec<_>>()
        };
        let any = Edge { client_ports: ANY_PORTS, server_ports: ANY_PORTS, ..Edge::default() };
        let conditions = conditions(&tenants, graph, &any).iter().flat_map(strata).collect();
        Self { comparison, tenant, graph, random: Random::new(seed), free: strata(&any), conditions }
    }
}

impl Iterator for Keys<'_> {
    type Item = Flow;

    fn next(&mut self) -> Option<Flow> {
        let Self { comparison, tenant, graph, random, free, conditions } = self;
        let strata = if conditions.is_empty() || random.coin() { free } else { conditions };
        let Stratum { clients, servers, protocol, client_ports, server_ports } = random.pick(strata)?;
        let (client, entry) = draw(comparison, random, *graph, Side::Client, clients)?;
        let (server, _) = draw(comparison, random, *graph, Side::Server, servers)?;
        let protocol = match Protocol::new(*protocol) {
            Some(protocol) => protocol,
            None if random.coin() => Protocol::TCP,
            None => Protocol::UDP,
        };
        let mut port = |range: &[u16; 2], any: [u16; 2]| {
            let [first, last] = if *range == ANY_PORTS { any } else { *range };
            random.port(first, last)
        };
        let ports = (port(client_ports, CLIENT_PORTS), port(server_ports, SERVER_PORTS));
        let (source_port, destination_port) = match protocol {
            Protocol::TCP | Protocol::UDP | Protocol::SCTP => ports,
            // Both ends of an echo have its identifier.
            Protocol::ICMP | Protocol::ICMPV6 => (ports.0, ports.0),
            _ => (0, 0),
        };
        let tuple =
            Tuple { source: client, destination: server, source_port, destination_port, protocol: protocol.get() };
        let mut key = FlowKey::default();
        let client_is_a = tuple.key(tenant.get(), &mut key);
        let question = Question {
            tenant: *tenant,
            client_is_a,
            graph: Some(*graph),
            entry,
            exit: None,
            origin: None,
            view: None,
            position: None,
        };
        Some(Flow { key, question, onward: Some(random.number()) })
    }
}

/// An address of one of the prefixes, and the attachment that takes it.
fn draw(
    comparison: &Comparison<'_>,
    random: &mut Random,
    graph: GraphId,
    side: Side,
    prefixes: &[Cidr],
) -> Option<(Addr, Option<AttachmentId>)> {
    let mut drawn = None;
    for _ in 0..DRAWS_MAX {
        let prefix = *random.pick(prefixes)?;
        let addr = random.addr(prefix);
        let key = RouteKey { graph: graph.get().to_be_bytes(), side: side as u8, reserved: 0, addr };
        let attachment = comparison.sides().into_iter().find_map(|side| side.tables.route(key));
        drawn = Some((addr, attachment));
        if attachment.is_some() {
            break;
        }
    }
    drawn
}

fn routed(tenant: &TenantImage, graph: GraphId, side: Side) -> impl Iterator<Item = (Cidr, AttachmentId)> + '_ {
    let routes = tenant.routes().iter().filter(move |(route, _)| route.graph == graph && route.side == side);
    routes.filter_map(|(route, attachment)| Some((route.prefix, (*attachment)?)))
}

/// The comparisons of a graph's active views that not every flow meets, each once.
fn conditions(tenants: &[&TenantImage], graph: GraphId, any: &Edge) -> Vec<Edge> {
    let mut found: Vec<Edge> = Vec::new();
    for graph in tenants.iter().filter_map(|tenant| tenant.graphs().get(&graph)) {
        let active = [Some(graph.active.stable.id), graph.active.canary.map(|canary| canary.view.id)];
        for view in active.into_iter().flatten().filter_map(|id| graph.views.get(&id)) {
            found.extend(view.edges().iter().map(|edge| Edge { target: 0, last: 0, ..*edge }));
        }
    }
    let halves = |prefix: &Prefix| (prefix.value, prefix.mask);
    found.sort_unstable_by_key(|edge| {
        let ends = (halves(&edge.client), halves(&edge.server), edge.client_ports, edge.server_ports);
        (ends, edge.client_attachment, edge.server_attachment, edge.protocol)
    });
    found.dedup();
    found.retain(|edge| edge != any);
    found
}

/// The flows of a family that meet a condition; `None` if there are none.
fn stratum(edge: &Edge, clients: &Routed, servers: &Routed, is_v4: bool) -> Option<Stratum> {
    let of_other_family = if is_v4 { Protocol::ICMPV6 } else { Protocol::ICMP };
    let stratum = Stratum {
        clients: narrowed(clients, &edge.client, edge.client_attachment, is_v4),
        servers: narrowed(servers, &edge.server, edge.server_attachment, is_v4),
        protocol: edge.protocol,
        client_ports: edge.client_ports,
        server_ports: edge.server_ports,
    };
    let is_possible = !stratum.clients.is_empty() && !stratum.servers.is_empty();
    (is_possible && edge.protocol != of_other_family.get()).then_some(stratum)
}

/// What of the routed prefixes of a family lies in the condition's prefix and leads to its attachment (0: to any).
fn narrowed(routed: &Routed, prefix: &Prefix, attachment: u16, is_v4: bool) -> Vec<Cidr> {
    let wanted = Cidr::from_prefix(prefix);
    let led = routed.iter().filter(|(cidr, to)| cidr.is_v4() == is_v4 && (attachment == 0 || to.get() == attachment));
    let narrow = led.filter_map(|(cidr, _)| match () {
        () if wanted.covers(*cidr) => Some(*cidr),
        () if wanted.is_v4() == is_v4 && cidr.covers(wanted) => Some(wanted),
        () => None,
    });
    narrow.collect::<BTreeSet<_>>().into_iter().collect()
}
