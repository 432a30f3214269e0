//! A small declaration that checks, and ways to change it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use chain_graph::model::*;
use std::sync::Arc;
use xdp_layout::{AttachmentId, GraphId, InstanceId, ReplicaSetId, TenantId};

pub(crate) fn name(text: &str) -> ResourceName {
    text.parse().unwrap()
}

pub(crate) fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

pub(crate) fn tenant(text: &str, id: u32) -> Tenant {
    let budget = Budget { unanswered: 100, established: 1000 };
    Tenant { name: name(text), id: TenantId::new(id).unwrap(), budget }
}

/// `attachment("acme/left", 1, Side::Client, "lan0", &["10.0.0.0/8"])`.
pub(crate) fn attachment(at: &str, id: u16, side: Side, interface: &str, prefixes: &[&str]) -> Attachment {
    let ObjectKey { tenant, name } = key(at);
    Attachment {
        tenant,
        name,
        id: AttachmentId::new(id).unwrap(),
        side,
        interface: interface.to_owned(),
        vlan: None,
        prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
    }
}

/// An instance `i<id>` with interfaces `i<id>a` and `i<id>b` and weight 1.
pub(crate) fn instance(id: u16) -> Instance {
    let port = |side: &str, byte| Port {
        interface: format!("i{id}{side}"),
        mac: MacAddr([2, byte, 0, 0, (id >> 8) as u8, id as u8]),
    };
    Instance {
        name: name(&format!("i{id}")),
        id: InstanceId::new(id).unwrap(),
        weight: 1,
        ports: Ports::TwoArmed { inside: port("a", 0), outside: port("b", 1) },
        outside: Vec::new(),
        down: false,
        max_flows: 0,
    }
}

pub(crate) fn replica_set(text: &str, id: u16, instances: impl IntoIterator<Item = Instance>) -> ReplicaSet {
    let instances = instances.into_iter().map(|instance| (instance.name.clone(), instance)).collect();
    ReplicaSet { name: name(text), id: ReplicaSetId::new(id).unwrap(), max_members: 10, instances }
}

pub(crate) fn function(text: &str, tuple: TupleEffect, sets: impl IntoIterator<Item = ReplicaSet>) -> NetworkFunction {
    NetworkFunction {
        name: name(text),
        forwarding: if tuple == TupleEffect::Keeps { Forwarding::Transparent } else { Forwarding::Routed },
        tuple,
        tenancy: Tenancy::Exclusive,
        addresses: Vec::new(),
        replica_sets: sets.into_iter().map(|set| (set.name.clone(), set)).collect(),
    }
}

pub(crate) fn tagged(tags: &[(&str, u16)], isolates_state: bool) -> Tenancy {
    let tags = tags.iter().map(|(tenant, tag)| (name(tenant), VlanId::new(*tag).unwrap())).collect();
    Tenancy::Tagged { tags, isolates_state }
}

pub(crate) fn outside(prefix: &str, ports: Option<(u16, u16)>) -> OutsideBlock {
    let ports = ports.map(|(first, last)| PortRange { first, last });
    OutsideBlock { prefix: prefix.parse().unwrap(), ports }
}

/// `node("fw v1")`: named like its function. `node("second fw v1")`: named otherwise.
pub(crate) fn node(text: &str) -> GraphNode {
    let words: Vec<&str> = text.split(' ').collect();
    let [function, set] = words[words.len() - 2..] else { panic!("{text}") };
    GraphNode { name: name(words[0]), function: name(function), replica_set: name(set) }
}

/// A default edge: `edge("client -> fw")`.
pub(crate) fn edge(text: &str) -> GraphEdge {
    let (from, to) = text.split_once(" -> ").unwrap();
    GraphEdge {
        from: if from == "client" { EdgeFrom::Client } else { EdgeFrom::Node(name(from)) },
        to: if to == "server" { EdgeTo::Server } else { EdgeTo::Node(name(to)) },
        matches: None,
    }
}

pub(crate) fn edge_if(text: &str, matches: EdgeMatch) -> GraphEdge {
    GraphEdge { matches: Some(matches), ..edge(text) }
}

/// A match on TCP and server ports.
pub(crate) fn tcp(first: u16, last: u16) -> EdgeMatch {
    EdgeMatch { protocol: Some(Protocol::TCP), server_ports: vec![PortRange { first, last }], ..EdgeMatch::default() }
}

pub(crate) fn servers(prefixes: &[&str]) -> EdgeMatch {
    EdgeMatch { server_prefixes: prefixes.iter().map(|p| p.parse().unwrap()).collect(), ..EdgeMatch::default() }
}

pub(crate) fn graph(at: &str, id: u16, nodes: &[&str], edges: Vec<GraphEdge>) -> Graph {
    let ObjectKey { tenant, name: graph } = key(at);
    Graph {
        tenant,
        name: graph,
        id: GraphId::new(id).unwrap(),
        client: vec![name("left")],
        server: vec![name("right")],
        nodes: nodes.iter().map(|text| node(text)).collect(),
        edges,
    }
}

/// Tenant acme (1) with attachments left (1) and right (2) and the graph web (1): client -> fw -> nat -> server, where fw
/// has v1 (set 1: i1, i2) and nat has v1 (set 3: i5, i6). Function dpi (set 5: i9) is there for use. Tenant blue (2) has
/// attachments left (3) and right (4) and no graph.
pub(crate) fn base() -> Desired {
    let mut desired = Desired::default();
    desired.put_tenant(tenant("acme", 1));
    desired.put_tenant(tenant("blue", 2));
    for (index, at) in ["acme/left", "acme/right", "blue/left", "blue/right"].into_iter().enumerate() {
        let side = if index % 2 == 0 { Side::Client } else { Side::Server };
        let interface = format!("net{index}");
        desired.put_attachment(attachment(at, index as u16 + 1, side, &interface, &[]));
    }
    let fw = [replica_set("v1", 1, [instance(1), instance(2)]), replica_set("v2", 2, [instance(3)])];
    desired.put_function(function("fw", TupleEffect::Keeps, fw));
    let mut nat = function("nat", TupleEffect::Changes, [replica_set("v1", 3, [instance(5), instance(6)])]);
    for (instance, prefix) in instances(&mut nat, "v1").zip(["192.0.2.1/32", "192.0.2.2/32"]) {
        instance.outside.push(outside(prefix, None));
    }
    desired.put_function(nat);
    desired.put_function(function("dpi", TupleEffect::Keeps, [replica_set("v1", 5, [instance(9)])]));
    let edges = vec![edge("client -> fw"), edge("fw -> nat"), edge("nat -> server")];
    desired.put_graph(graph("acme/web", 1, &["fw v1", "nat v1"], edges));
    desired
}

/// Instances of a replica set, to change.
pub(crate) fn instances<'a>(function: &'a mut NetworkFunction, set: &str) -> impl Iterator<Item = &'a mut Instance> {
    function.replica_sets.get_mut(&name(set)).unwrap().instances.values_mut()
}

pub(crate) fn graph_mut<'a>(desired: &'a mut Desired, at: &str) -> &'a mut Graph {
    Arc::make_mut(desired.graphs.get_mut(&key(at)).unwrap())
}

/// Makes a changed copy of acme's graph web its candidate, with a share of the new flows.
pub(crate) fn candidate(desired: &mut Desired, share: u16, how: impl FnOnce(&mut Graph)) {
    let mut graph = (*desired.graphs[&key("acme/web")]).clone();
    how(&mut graph);
    versions_mut(desired).candidate = Some(Candidate { graph: graph.into(), share });
}

/// Further versions of acme's graph web.
pub(crate) fn versions_mut(desired: &mut Desired) -> &mut Versions {
    Arc::make_mut(desired.versions.entry(key("acme/web")).or_default())
}

/// Makes the candidate of acme's graph web stable; what was stable drains.
pub(crate) fn promote(desired: &mut Desired) {
    let versions = versions_mut(desired);
    let promoted = versions.candidate.take().unwrap().graph;
    let old = Arc::clone(&desired.graphs[&key("acme/web")]);
    versions_mut(desired).draining.push(old);
    desired.graphs.insert(key("acme/web"), promoted);
}

pub(crate) fn function_mut<'a>(desired: &'a mut Desired, text: &str) -> &'a mut NetworkFunction {
    Arc::make_mut(desired.functions.get_mut(&name(text)).unwrap())
}

pub(crate) fn attachment_mut<'a>(desired: &'a mut Desired, at: &str) -> &'a mut Attachment {
    Arc::make_mut(desired.attachments.get_mut(&key(at)).unwrap())
}

pub(crate) fn tenant_mut<'a>(desired: &'a mut Desired, text: &str) -> &'a mut Tenant {
    Arc::make_mut(desired.tenants.get_mut(&name(text)).unwrap())
}

/// Instance `index` of a function's set v1.
pub(crate) fn instance_mut<'a>(desired: &'a mut Desired, function: &str, index: usize) -> &'a mut Instance {
    instances(function_mut(desired, function), "v1").nth(index).unwrap()
}

/// A chain of `length` functions `n1`, `n2`, ... in acme's graph web, one instance each, ids from 100 on.
pub(crate) fn chain(desired: &mut Desired, length: usize, matches: usize) {
    let mut nodes = Vec::new();
    let mut edges = vec![edge("client -> n1")];
    for index in 1..=length {
        let set = replica_set("v1", 100 + index as u16, [instance(100 + index as u16)]);
        desired.put_function(function(&format!("n{index}"), TupleEffect::Keeps, [set]));
        nodes.push(node(&format!("n{index} v1")));
        let to = if index == length { "server".to_owned() } else { format!("n{}", index + 1) };
        for port in 1..=matches {
            edges.push(edge_if(&format!("n{index} -> {to}"), tcp(port as u16, port as u16)));
        }
        edges.push(edge(&format!("n{index} -> {to}")));
    }
    let web = graph_mut(desired, "acme/web");
    web.nodes = nodes;
    web.edges = edges;
}

/// Asks for the path of a flow whose client is the key's `a`.
pub(crate) fn question(tenant: u32, graph: Option<u16>) -> xdp_forward::Question {
    xdp_forward::Question {
        tenant: TenantId::new(tenant).unwrap(),
        client_is_a: true,
        graph: graph.and_then(GraphId::new),
        entry: None,
        exit: None,
        origin: None,
        view: None,
        position: None,
    }
}
