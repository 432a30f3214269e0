//! Graphs.

use super::{name, path, port_range, port_range_out, prefix};
use crate::fields::Violations;
use crate::v1;
use chain_graph::model::{
    EdgeFrom, EdgeMatch, EdgeTo, GraphEdge, GraphNode, ObjectKey, Protocol, ResourceName, ValueError,
};
use state_sync::{GraphSpec, Kind, ResourcePath};

/// Reads a protocol.
pub(crate) fn protocol(text: &str) -> Result<Protocol, String> {
    text.parse().map_err(|error: ValueError| error.to_string())
}

fn strings<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

impl TryFrom<v1::GraphNode> for GraphNode {
    type Error = Violations;
    fn try_from(proto: v1::GraphNode) -> Result<Self, Violations> {
        let v1::GraphNode { name: text, replica_set } = proto;
        let mut violations = Violations::new();
        let name = violations.take("name", name(text));
        let set = violations.take("replica_set", path(&replica_set, Kind::ReplicaSet));
        let value = match (name, set) {
            (Some(name), Some(ResourcePath::ReplicaSet { function, name: replica_set })) => {
                Some(Self { name, function, replica_set })
            }
            _ => None,
        };
        violations.finish(value)
    }
}

impl TryFrom<v1::GraphEdge> for GraphEdge {
    type Error = Violations;
    fn try_from(proto: v1::GraphEdge) -> Result<Self, Violations> {
        let v1::GraphEdge { from, to, r#match } = proto;
        let mut violations = Violations::new();
        let from = match from.as_str() {
            "" => Some(EdgeFrom::Client),
            node => violations.take("from", name(node)).map(EdgeFrom::Node),
        };
        let to = match to.as_str() {
            "" => Some(EdgeTo::Server),
            node => violations.take("to", name(node)).map(EdgeTo::Node),
        };
        let matches = r#match.and_then(|inside| violations.take_under("match", inside.try_into()));
        violations.finish(from.zip(to).map(|(from, to)| Self { from, to, matches }))
    }
}

impl TryFrom<v1::EdgeMatch> for EdgeMatch {
    type Error = Violations;
    fn try_from(proto: v1::EdgeMatch) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let protocol = match proto.protocol.as_str() {
            "" => None,
            text => violations.take("protocol", protocol(text)),
        };
        let value = Self {
            protocol,
            client_prefixes: violations.take_each("client_prefixes", proto.client_prefixes, prefix),
            server_prefixes: violations.take_each("server_prefixes", proto.server_prefixes, prefix),
            client_ports: violations.take_each("client_ports", proto.client_ports, port_range),
            server_ports: violations.take_each("server_ports", proto.server_ports, port_range),
            client_attachments: violations.take_each("client_attachments", proto.client_attachments, name),
            server_attachments: violations.take_each("server_attachments", proto.server_attachments, name),
        };
        violations.finish(Some(value))
    }
}

impl From<&EdgeMatch> for v1::EdgeMatch {
    fn from(matches: &EdgeMatch) -> Self {
        let EdgeMatch {
            protocol,
            client_prefixes,
            server_prefixes,
            client_ports,
            server_ports,
            client_attachments,
            server_attachments,
        } = matches;
        Self {
            protocol: protocol.map(|protocol| protocol.to_string()).unwrap_or_default(),
            client_prefixes: strings(client_prefixes),
            server_prefixes: strings(server_prefixes),
            client_ports: client_ports.iter().copied().map(port_range_out).collect(),
            server_ports: server_ports.iter().copied().map(port_range_out).collect(),
            client_attachments: strings(client_attachments),
            server_attachments: strings(server_attachments),
        }
    }
}

impl TryFrom<v1::Graph> for GraphSpec {
    type Error = Violations;
    fn try_from(proto: v1::Graph) -> Result<Self, Violations> {
        let v1::Graph { name: text, id: _, client_attachments, server_attachments, nodes, edges, etag: _, status: _ } =
            proto;
        let mut violations = Violations::new();
        let key = violations.take("name", path(&text, Kind::Graph));
        let client: Vec<ResourceName> = violations.take_each("client_attachments", client_attachments, name);
        let server: Vec<ResourceName> = violations.take_each("server_attachments", server_attachments, name);
        let nodes = nodes.into_iter().enumerate();
        let nodes = nodes
            .filter_map(|(index, node)| violations.take_under(&format!("nodes[{index}]"), node.try_into()))
            .collect();
        let edges = edges.into_iter().enumerate();
        let edges = edges
            .filter_map(|(index, edge)| violations.take_under(&format!("edges[{index}]"), edge.try_into()))
            .collect();
        let value = match key {
            Some(ResourcePath::Graph(ObjectKey { tenant, name })) => {
                Some(Self { tenant, name, client, server, nodes, edges })
            }
            _ => None,
        };
        violations.finish(value)
    }
}

impl From<&GraphSpec> for v1::Graph {
    fn from(spec: &GraphSpec) -> Self {
        let GraphSpec { tenant, name, client, server, nodes, edges } = spec;
        let set = |node: &GraphNode| ResourcePath::ReplicaSet {
            function: node.function.clone(),
            name: node.replica_set.clone(),
        };
        Self {
            name: ResourcePath::Graph(ObjectKey::new(tenant, name)).to_string(),
            id: 0,
            client_attachments: strings(client),
            server_attachments: strings(server),
            nodes: nodes
                .iter()
                .map(|node| v1::GraphNode { name: node.name.to_string(), replica_set: set(node).to_string() })
                .collect(),
            edges: edges
                .iter()
                .map(|edge| v1::GraphEdge {
                    from: match &edge.from {
                        EdgeFrom::Client => String::new(),
                        EdgeFrom::Node(name) => name.to_string(),
                    },
                    to: match &edge.to {
                        EdgeTo::Server => String::new(),
                        EdgeTo::Node(name) => name.to_string(),
                    },
                    r#match: edge.matches.as_ref().map(Into::into),
                })
                .collect(),
            etag: String::new(),
            status: None,
        }
    }
}
