//! What users declare. Values of these types are well-formed one by one; whether they fit together is decided by the
//! check. Everything is ordered, so iteration is deterministic; whole resources are behind [`Arc`], so a new
//! [`Desired`] that differs in one of them shares all others and can be compared by pointer.

use crate::cidr::Cidr;
use crate::map::Map;
pub use crate::name::{NAME_MAX, NameError, ObjectKey, ResourceName};
pub use crate::net::{MacAddr, PortRange, Protocol, ValueError, VlanId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use xdp_layout::{AttachmentId, GraphId, InstanceId, ReplicaSetId, TenantId, port};

/// Everything that is declared. Keys equal the names inside the resources; the check refuses others.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Desired {
    /// Tenants.
    pub tenants: Map<ResourceName, Arc<Tenant>>,
    /// Attachments of all tenants.
    pub attachments: Map<ObjectKey, Arc<Attachment>>,
    /// Network functions: platform resources that several tenants' graphs may name.
    pub functions: Map<ResourceName, Arc<NetworkFunction>>,
    /// Service graphs of all tenants, in the version that gets new flows: the stable one.
    pub graphs: Map<ObjectKey, Arc<Graph>>,
    /// Versions of graphs beside the stable one.
    #[serde(default)]
    pub versions: Map<ObjectKey, Arc<Versions>>,
}

impl Desired {
    /// Adds or replaces a tenant.
    pub fn put_tenant(&mut self, tenant: Tenant) {
        put(&mut self.tenants, tenant.name.clone(), tenant);
    }

    /// Adds or replaces an attachment.
    pub fn put_attachment(&mut self, attachment: Attachment) {
        put(&mut self.attachments, attachment.key(), attachment);
    }

    /// Adds or replaces a network function.
    pub fn put_function(&mut self, function: NetworkFunction) {
        put(&mut self.functions, function.name.clone(), function);
    }

    /// Adds or replaces a graph.
    pub fn put_graph(&mut self, graph: Graph) {
        put(&mut self.graphs, graph.key(), graph);
    }

    /// Replaces a graph's further versions; an entry without any is taken out.
    pub fn put_versions(&mut self, graph: ObjectKey, versions: Versions) {
        if versions == Versions::default() {
            self.versions.remove(&graph);
        } else {
            put(&mut self.versions, graph, versions);
        }
    }
}

/// What is equal stays the same object: whoever compares by pointer sees no change.
fn put<K: Ord + Clone, V: PartialEq>(map: &mut Map<K, Arc<V>>, key: K, value: V) {
    if map.get(&key).is_none_or(|known| **known != value) {
        map.insert(key, Arc::new(value));
    }
}

/// Owner of graphs, budgets and limits. May use any addresses, also another tenant's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Tenant {
    /// Name, unique in the cluster.
    pub name: ResourceName,
    /// The VXLAN network identifier, unique in the cluster.
    pub id: TenantId,
    /// Guaranteed share of the connection table.
    pub budget: Budget,
}

/// A tenant's share of the connection table, in records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Budget {
    /// Flows seen in one direction only. At least 1.
    pub unanswered: u32,
    /// Flows seen in both directions. At least 1.
    pub established: u32,
}

/// A side of a service graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Where clients are.
    Client,
    /// Where servers are.
    Server,
}

impl Side {
    /// The name in documents and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Side> for port::Side {
    fn from(side: Side) -> Self {
        match side {
            Side::Client => Self::Client,
            Side::Server => Self::Server,
        }
    }
}

/// Where a tenant's traffic enters or leaves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Attachment {
    /// Owner.
    pub tenant: ResourceName,
    /// Name, unique among the tenant's attachments.
    pub name: ResourceName,
    /// Number, unique in the cluster.
    pub id: AttachmentId,
    /// Whose side of a graph it is.
    pub side: Side,
    /// Name of the network interface.
    pub interface: String,
    /// VLAN on that interface; `None` for untagged frames.
    pub vlan: Option<VlanId>,
    /// Addresses that live behind it; empty for all.
    pub prefixes: Vec<IpNet>,
}

impl Attachment {
    /// Tenant and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(&self.tenant, &self.name)
    }

    /// Prefixes it takes: all addresses of both families if it names none.
    pub(crate) fn taken_prefixes(&self) -> Vec<Cidr> {
        if self.prefixes.is_empty() {
            vec![Cidr::V4, Cidr::ALL]
        } else {
            self.prefixes.iter().map(|&net| net.into()).collect()
        }
    }
}

/// How frames reach a network function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forwarding {
    /// A bump in the wire: frames keep their MAC addresses.
    Transparent,
    /// A router: takes frames addressed to its own MAC address.
    Routed,
}

/// What a network function does to a flow's 5-tuple.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TupleEffect {
    /// Leaves it alone (firewall).
    Keeps,
    /// Rewrites it (NAT): every instance owns an outside block.
    Changes,
    /// Ends the connection and opens its own (proxy).
    Ends,
}

/// Who may use a network function.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tenancy {
    /// The graphs of one tenant; frames carry no tag.
    Exclusive,
    /// Several tenants, told apart by a VLAN tag.
    Tagged {
        /// Tenant to the tag its frames carry at every port of the function.
        tags: BTreeMap<ResourceName, VlanId>,
        /// Whether the function keeps state apart by tag. If not, tenants with overlapping prefixes cannot share it.
        isolates_state: bool,
    },
}

/// A logical network function: all versions of a firewall, a NAT, a proxy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct NetworkFunction {
    /// Name, unique in the cluster.
    pub name: ResourceName,
    /// How frames reach it.
    pub forwarding: Forwarding,
    /// What it does to tuples.
    pub tuple: TupleEffect,
    /// Who may use it.
    pub tenancy: Tenancy,
    /// Addresses its replicas share; the front end answers ARP and neighbour solicitations for them.
    pub addresses: Vec<IpAddr>,
    /// Versions, by name.
    pub replica_sets: BTreeMap<ResourceName, ReplicaSet>,
}

impl NetworkFunction {
    /// Whether the other differs at most in what its instances are given to do: weights, which are declared down, their sizes.
    /// No view, port or outside block depends on that.
    pub(crate) fn is_same_to_graphs(&self, other: &Self) -> bool {
        let Self { name, forwarding, tuple, tenancy, addresses, replica_sets } = self;
        (name, forwarding, tuple, addresses) == (&other.name, &other.forwarding, &other.tuple, &other.addresses)
            && *tenancy == other.tenancy
            && is_same(replica_sets, &other.replica_sets, ReplicaSet::is_same_to_graphs)
    }
}

/// Whether two maps have the same keys, and values that `same` holds for the same.
fn is_same<V>(
    one: &BTreeMap<ResourceName, V>,
    other: &BTreeMap<ResourceName, V>,
    same: impl Fn(&V, &V) -> bool,
) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|((key, a), (other_key, b))| key == other_key && same(a, b))
}

/// One version of a function's replicas: the unit that Maglev balances over.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ReplicaSet {
    /// Name, unique in the function.
    pub name: ResourceName,
    /// Number, unique in the cluster.
    pub id: ReplicaSetId,
    /// Most instances it will ever have, 1..=4095. Fixes the size of the Maglev table for its lifetime.
    pub max_members: u16,
    /// Instances, by name. The name is an instance's identity in the table.
    pub instances: BTreeMap<ResourceName, Instance>,
}

impl ReplicaSet {
    fn is_same_to_graphs(&self, other: &Self) -> bool {
        let Self { name, id, max_members, instances } = self;
        (name, id, max_members) == (&other.name, &other.id, &other.max_members)
            && is_same(instances, &other.instances, Instance::is_same_to_graphs)
    }
}

/// One replica.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Name, unique in the replica set.
    pub name: ResourceName,
    /// Number, unique in the cluster.
    pub id: InstanceId,
    /// Share of new flows relative to the other instances. 0: no new flows, established ones finish.
    pub weight: u16,
    /// Where frames reach it.
    pub ports: Ports,
    /// What it may put in a tuple's outside end; for functions that change or end the tuple.
    pub outside: Vec<OutsideBlock>,
    /// Declared down: flows are picked around it. Part of no plan.
    pub down: bool,
    /// Flows it is sized for; 0 if that is not declared. No limit on the data path: an abort of a rollout does not return
    /// more flows than this. Part of no plan.
    #[serde(default)]
    pub max_flows: u32,
}

impl Instance {
    fn is_same_to_graphs(&self, other: &Self) -> bool {
        let Self { name, id, weight: _, ports, outside, down: _, max_flows: _ } = self;
        (name, id, ports, outside) == (&other.name, &other.id, &other.ports, &other.outside)
    }
}

/// The ports of an instance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ports {
    /// One port for each side.
    TwoArmed {
        /// Towards the clients.
        inside: Port,
        /// Towards the servers.
        outside: Port,
    },
    /// One port for both sides.
    OneArmed(Port),
}

impl Ports {
    /// The port of a side.
    pub const fn at(&self, side: Side) -> &Port {
        match (self, side) {
            (Self::TwoArmed { inside, .. }, Side::Client) => inside,
            (Self::TwoArmed { outside, .. }, Side::Server) => outside,
            (Self::OneArmed(port), _) => port,
        }
    }

    /// Whether both sides share a port.
    pub const fn is_one_armed(&self) -> bool {
        matches!(self, Self::OneArmed(_))
    }
}

/// A port of an instance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Port {
    /// Name of the network interface on the front end's side.
    pub interface: String,
    /// The instance's own MAC address behind it.
    pub mac: MacAddr,
}

/// Addresses and ports that one instance alone uses on its outside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct OutsideBlock {
    /// Addresses.
    pub prefix: IpNet,
    /// Ports, `None` for all. Protocols without ports have port 0.
    pub ports: Option<PortRange>,
}

impl OutsideBlock {
    /// The ports, all of them if none were given.
    pub const fn ports(&self) -> PortRange {
        match self.ports {
            Some(ports) => ports,
            None => PortRange::ALL,
        }
    }
}

/// A service graph: which functions a tenant's flows pass, a DAG with match conditions on its edges.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Graph {
    /// Owner.
    pub tenant: ResourceName,
    /// Name, unique among the tenant's graphs.
    pub name: ResourceName,
    /// Number, unique in the cluster.
    pub id: GraphId,
    /// Names of the tenant's attachments on the clients' side.
    pub client: Vec<ResourceName>,
    /// Names of the tenant's attachments on the servers' side.
    pub server: Vec<ResourceName>,
    /// Network functions.
    pub nodes: Vec<GraphNode>,
    /// Edges. Among those that leave one node the first that matches wins; the default edge comes last wherever it is
    /// listed. A frame that no edge matches is dropped as `no_match`.
    pub edges: Vec<GraphEdge>,
}

impl Graph {
    /// Tenant and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(&self.tenant, &self.name)
    }
}

/// Versions of a graph beside the stable one. All have its tenant, name and number.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Versions {
    /// A version on trial. The check refuses it wherever it would refuse it as the stable one, and if its attachments are
    /// others: an attachment leads to a graph, not to a version of one.
    pub candidate: Option<Candidate>,
    /// Versions that were stable or candidates. They get no new flows; they stay installed because flow records, and the
    /// notes by which a NAT's outside flows find their inside ones, name their views. One that no longer resolves, or that
    /// breaks a rule beside the others, is dropped: the instances of its flows are gone.
    pub draining: Vec<Arc<Graph>>,
}

/// A version of a graph that gets a share of the new flows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// The version.
    pub graph: Arc<Graph>,
    /// Its share of the graph's new flows in 1/65535: 0 for none, so that it is installed only; 65535 for all.
    pub share: u16,
}

/// A node of a graph.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct GraphNode {
    /// Name, unique in the graph.
    pub name: ResourceName,
    /// The network function.
    pub function: ResourceName,
    /// The function's replica set that serves here.
    pub replica_set: ResourceName,
}

/// Where an edge begins.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeFrom {
    /// The clients' side.
    Client,
    /// A node, by name.
    Node(ResourceName),
}

/// Where an edge leads.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeTo {
    /// The servers' side.
    Server,
    /// A node, by name.
    Node(ResourceName),
}

/// An edge, from the clients' towards the servers' side.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct GraphEdge {
    /// Where it begins.
    pub from: EdgeFrom,
    /// Where it leads.
    pub to: EdgeTo,
    /// Which flows take it; `None` for the default edge.
    pub matches: Option<EdgeMatch>,
}

/// A condition on flows; all parts must hold. A part that is empty holds for every flow; of a list one element must match.
/// Client and server are the flow's ends at this point of the path, whichever sent the first frame.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct EdgeMatch {
    /// IP protocol.
    pub protocol: Option<Protocol>,
    /// Addresses of the client.
    pub client_prefixes: Vec<IpNet>,
    /// Addresses of the server.
    pub server_prefixes: Vec<IpNet>,
    /// Ports of the client.
    pub client_ports: Vec<PortRange>,
    /// Ports of the server.
    pub server_ports: Vec<PortRange>,
    /// Names of attachments the client is behind.
    pub client_attachments: Vec<ResourceName>,
    /// Names of attachments the server is behind.
    pub server_attachments: Vec<ResourceName>,
}
