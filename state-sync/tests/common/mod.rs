//! A small configuration, and shorthands.

#![allow(dead_code, reason = "every test file uses a part")]

pub(crate) mod fake;

use chain_graph::Cluster;
use chain_graph::model::{
    Budget, EdgeFrom, EdgeTo, Forwarding, GraphEdge, GraphNode, MacAddr, Port, Ports, ResourceName, Side, Tenancy,
    TupleEffect,
};
use chain_graph::rollout::Timestamp;
use state_sync::{
    AttachmentSpec, Command, DesiredState, FunctionSpec, GraphSpec, InstanceSpec, Operation, Precondition,
    ReplicaSetSpec, Resource, ResourcePath, Setting, TenantSpec,
};

/// Records of the connection table in tests.
pub(crate) const CAPACITY: u64 = 1_000_000;
/// When commands are carried out, where it does not matter.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_000_000);
/// Seed of the cluster in tests.
pub(crate) const SEED: [u64; 2] = [1, 2];

pub(crate) fn name(text: &str) -> ResourceName {
    ResourceName::new(text).expect("a name")
}

pub(crate) fn path(text: &str) -> ResourcePath {
    text.parse().expect("a resource name")
}

pub(crate) fn empty() -> DesiredState {
    let cluster = Cluster { incarnation: 1, seed: SEED };
    DesiredState::empty(Setting { capacity: CAPACITY, cluster }).expect("nothing is wrong with nothing")
}

pub(crate) fn tenant(tenant: &str) -> Resource {
    let budget = Budget { unanswered: 10, established: 20 };
    Resource::Tenant(TenantSpec { name: name(tenant), vni: None, budget })
}

pub(crate) fn attachment(tenant: &str, attachment: &str, side: Side, interface: &str) -> Resource {
    Resource::Attachment(AttachmentSpec {
        tenant: name(tenant),
        name: name(attachment),
        side,
        interface: interface.to_owned(),
        vlan: None,
        prefixes: Vec::new(),
    })
}

pub(crate) fn function(function: &str) -> Resource {
    Resource::NetworkFunction(FunctionSpec {
        name: name(function),
        forwarding: Forwarding::Transparent,
        tuple: TupleEffect::Keeps,
        tenancy: Tenancy::Exclusive,
        addresses: Vec::new(),
    })
}

pub(crate) fn replica_set(function: &str, set: &str) -> Resource {
    Resource::ReplicaSet(ReplicaSetSpec { function: name(function), name: name(set), max_members: 10 })
}

pub(crate) fn instance(function: &str, set: &str, instance: &str, number: u8) -> Resource {
    let port = |side: u8| Port { interface: format!("p{number}-{side}"), mac: MacAddr([2, 0, 0, 0, side, number]) };
    Resource::Instance(InstanceSpec {
        function: name(function),
        replica_set: name(set),
        name: name(instance),
        weight: 1,
        ports: Ports::TwoArmed { inside: port(0), outside: port(1) },
        outside: Vec::new(),
        down: false,
        max_flows: 0,
    })
}

pub(crate) fn graph(tenant: &str, graph: &str, function: &str, set: &str) -> Resource {
    let node = name("first");
    Resource::Graph(GraphSpec {
        tenant: name(tenant),
        name: name(graph),
        client: vec![name("clients")],
        server: vec![name("servers")],
        nodes: vec![GraphNode { name: node.clone(), function: name(function), replica_set: name(set) }],
        edges: vec![
            GraphEdge { from: EdgeFrom::Client, to: EdgeTo::Node(node.clone()), matches: None },
            GraphEdge { from: EdgeFrom::Node(node), to: EdgeTo::Server, matches: None },
        ],
    })
}

/// A tenant with a graph through one function.
pub(crate) fn chain() -> Vec<Resource> {
    vec![
        tenant("acme"),
        attachment("acme", "clients", Side::Client, "eth0"),
        attachment("acme", "servers", Side::Server, "eth1"),
        function("fw"),
        replica_set("fw", "v1"),
        instance("fw", "v1", "a", 1),
        graph("acme", "web", "fw", "v1"),
    ]
}

pub(crate) fn puts(resources: Vec<Resource>) -> Command {
    let put = |resource| Operation::Put { resource, when: Precondition::None };
    Command::batch(resources.into_iter().map(put).collect())
}

/// The state after commands that are all accepted.
pub(crate) fn after(state: &DesiredState, commands: impl IntoIterator<Item = Command>) -> DesiredState {
    commands.into_iter().fold(state.clone(), |state, command| match state.apply(&command, NOW) {
        Ok(applied) => applied.state,
        Err(rejected) => panic!("{rejected}"),
    })
}

/// Everything that is observable of a state.
pub(crate) fn dump(state: &DesiredState) -> String {
    let entries: Vec<_> = state.entries().map(|(path, entry)| (path.to_string(), entry)).collect();
    format!("{:?} {:?} {entries:#?}", state.revision(), state.image().plan())
}
