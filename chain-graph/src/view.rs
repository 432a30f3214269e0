//! Compiled graphs.

use crate::cidr::Cidr;
use crate::digest::Digest;
use crate::model::ResourceName;
use std::fmt;
use std::sync::Arc;
use xdp_layout::plan::{Edge, Node, Prefix, TARGET_EXIT, node_flags};
use xdp_layout::{Addr, AttachmentId, GraphId, Position, ReplicaSetId, TenantId, ViewId};

/// One immutable, compiled version of a graph: every node pinned to a replica set.
///
/// Node and edge indexes are relative to the view; whoever installs it adds its own bases. `Display` is a listing for
/// people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    pub(crate) tenant: TenantId,
    pub(crate) graph: GraphId,
    pub(crate) id: ViewId,
    pub(crate) parent: Option<ViewId>,
    pub(crate) content: Arc<ViewContent>,
}

impl View {
    /// Numbers a compiled graph.
    pub fn new(
        tenant: TenantId,
        graph: GraphId,
        id: ViewId,
        parent: Option<ViewId>,
        content: Arc<ViewContent>,
    ) -> Self {
        Self { tenant, graph, id, parent, content }
    }
    /// Owner.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }
    /// The graph it is a version of.
    pub fn graph(&self) -> GraphId {
        self.graph
    }
    /// Its number, unique for the tenant.
    pub fn id(&self) -> ViewId {
        self.id
    }
    /// The version it was made from.
    pub fn parent(&self) -> Option<ViewId> {
        self.parent
    }
    /// What it says, apart from its numbers.
    pub fn content(&self) -> &Arc<ViewContent> {
        &self.content
    }
    /// First edge out of the clients' side, relative to the view.
    pub fn first_edge(&self) -> u32 {
        self.content.first_edge()
    }
    /// Nodes, from the highest position to 1.
    pub fn nodes(&self) -> &[Node] {
        &self.content.nodes
    }
    /// Edges: the clients' side's first, then each node's, in the nodes' order.
    pub fn edges(&self) -> &[Edge] {
        &self.content.edges
    }
    /// Names of the nodes, in the nodes' order.
    pub fn names(&self) -> &[ResourceName] {
        &self.content.names
    }
    /// Digest of the content; equal for equal graphs.
    pub fn digest(&self) -> u64 {
        self.content.digest
    }
    /// The node of a replica set; the one with the highest position if there are several.
    pub fn node_of(&self, set: ReplicaSetId) -> Option<u32> {
        self.nodes().iter().position(|node| node.replica_set == set.get()).map(|index| index as u32)
    }
    /// The node at a position.
    pub fn node_at(&self, position: Position) -> Option<u32> {
        let index = self.nodes().len().checked_sub(usize::from(position.get()))?;
        Some(index as u32)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view {} of graph {}, tenant {}", self.id, self.graph, self.tenant)?;
        match self.parent {
            Some(parent) => writeln!(f, ", after view {parent}")?,
            None => writeln!(f)?,
        }
        self.content.fmt(f)
    }
}

/// What a view says: nodes, edges, names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ViewContent {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    names: Vec<ResourceName>,
    digest: u64,
}

impl ViewContent {
    /// Takes nodes from the highest position to 1, edges as [`View::edges`] says, each node's row closed by `last`.
    pub(crate) fn new(nodes: Vec<Node>, edges: Vec<Edge>, names: Vec<ResourceName>) -> Self {
        let mut digest = Digest::new();
        digest.number(nodes.len() as u64);
        for (node, name) in nodes.iter().zip(&names) {
            digest.bytes(name.as_str().as_bytes());
            digest.number(node.first_edge).number(node.replica_set).number(node.position).number(node.flags);
        }
        digest.number(edges.len() as u64);
        for edge in &edges {
            for half in
                edge.client.value.iter().chain(&edge.client.mask).chain(&edge.server.value).chain(&edge.server.mask)
            {
                digest.number(*half);
            }
            for port in edge.client_ports.iter().chain(&edge.server_ports) {
                digest.number(*port);
            }
            digest.number(edge.target).number(edge.client_attachment).number(edge.server_attachment);
            digest.number(edge.protocol).number(edge.last);
        }
        let digest = digest.finish();
        Self { nodes, edges, names, digest }
    }

    /// First edge out of the clients' side.
    pub const fn first_edge(&self) -> u32 {
        0
    }
    /// See [`View::nodes`].
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
    /// See [`View::edges`].
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }
    /// See [`View::names`].
    pub fn names(&self) -> &[ResourceName] {
        &self.names
    }
    /// See [`View::digest`].
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    fn write_row(&self, f: &mut fmt::Formatter<'_>, first: u32) -> fmt::Result {
        for edge in &self.edges[first as usize..] {
            write!(f, "  {}", Condition(edge))?;
            match self.names.get(edge.target as usize) {
                Some(name) if edge.target != TARGET_EXIT => {
                    writeln!(f, " -> {name} ({})", self.nodes[edge.target as usize].position)?;
                }
                _ => writeln!(f, " -> server side")?,
            }
            if edge.last != 0 {
                break;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ViewContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "client side:")?;
        self.write_row(f, self.first_edge())?;
        for (node, name) in self.nodes.iter().zip(&self.names) {
            let effect = match node.flags {
                node_flags::CHANGES_TUPLE => ", changes the tuple",
                node_flags::ENDS_FLOW => ", ends the flow",
                _ => "",
            };
            writeln!(f, "{name} ({}), replica set {}{effect}:", node.position, node.replica_set)?;
            self.write_row(f, node.first_edge)?;
        }
        Ok(())
    }
}

/// An edge's condition as text; `any` if it has none.
pub(crate) struct Condition<'a>(pub(crate) &'a Edge);

impl fmt::Display for Condition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edge = self.0;
        let mut parts: Vec<String> = Vec::new();
        if let Some(protocol) = crate::model::Protocol::new(edge.protocol) {
            parts.push(protocol.to_string());
        }
        for (side, prefix, ports, attachment) in [
            ("client", &edge.client, edge.client_ports, edge.client_attachment),
            ("server", &edge.server, edge.server_ports, edge.server_attachment),
        ] {
            let cidr = Cidr::from_prefix(prefix);
            if cidr != Cidr::ALL {
                parts.push(format!("{side} {cidr}"));
            }
            let [first, last] = ports;
            if (first, last) != (0, u16::MAX) {
                parts.push(format!("{side} port {}", crate::model::PortRange { first, last }));
            }
            if let Some(id) = AttachmentId::new(attachment) {
                parts.push(format!("{side} attachment {id}"));
            }
        }
        if parts.is_empty() { f.write_str("any") } else { f.write_str(&parts.join(", ")) }
    }
}

impl Cidr {
    /// Back from the form in which edges hold it.
    pub(crate) fn from_prefix(prefix: &Prefix) -> Self {
        let mut addr = Addr::default();
        addr.0[..8].copy_from_slice(&prefix.value[0].to_be_bytes());
        addr.0[8..].copy_from_slice(&prefix.value[1].to_be_bytes());
        Self::from_parts(addr, (prefix.mask[0].count_ones() + prefix.mask[1].count_ones()) as u8)
    }
}
