//! Resources as they are written: what a user declares, without the numbers that the state machine gives out.

use chain_graph::model::{
    Attachment, Budget, Forwarding, Graph, GraphEdge, GraphNode, Instance, NameError, NetworkFunction, ObjectKey,
    OutsideBlock, Ports, ReplicaSet, ResourceName, Side, Tenancy, Tenant, TupleEffect, VlanId,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use xdp_layout::{GraphId, TenantId};

/// The kinds of resources.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A tenant.
    Tenant,
    /// A network function.
    NetworkFunction,
    /// One version of a network function.
    ReplicaSet,
    /// One replica.
    Instance,
    /// Where a tenant's traffic enters or leaves.
    Attachment,
    /// A service graph.
    Graph,
}

impl Kind {
    /// Every kind, owners before what they own.
    pub const ALL: [Self; 6] =
        [Self::Tenant, Self::NetworkFunction, Self::ReplicaSet, Self::Instance, Self::Attachment, Self::Graph];

    /// The name in documents and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "Tenant",
            Self::NetworkFunction => "NetworkFunction",
            Self::ReplicaSet => "ReplicaSet",
            Self::Instance => "Instance",
            Self::Attachment => "Attachment",
            Self::Graph => "Graph",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names one resource. Its text is the name of the API (AIP-122), for example `tenants/acme/graphs/web`. Owners order
/// before what they own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ResourcePath {
    /// `tenants/{tenant}`.
    Tenant(ResourceName),
    /// `networkFunctions/{function}`.
    NetworkFunction(ResourceName),
    /// `networkFunctions/{function}/replicaSets/{name}`.
    ReplicaSet {
        /// The function.
        function: ResourceName,
        /// Last part.
        name: ResourceName,
    },
    /// `networkFunctions/{function}/replicaSets/{replica_set}/instances/{name}`.
    Instance {
        /// The function.
        function: ResourceName,
        /// The replica set.
        replica_set: ResourceName,
        /// Last part.
        name: ResourceName,
    },
    /// `tenants/{tenant}/attachments/{name}`.
    Attachment(ObjectKey),
    /// `tenants/{tenant}/graphs/{name}`.
    Graph(ObjectKey),
}

impl ResourcePath {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Tenant(_) => Kind::Tenant,
            Self::NetworkFunction(_) => Kind::NetworkFunction,
            Self::ReplicaSet { .. } => Kind::ReplicaSet,
            Self::Instance { .. } => Kind::Instance,
            Self::Attachment(_) => Kind::Attachment,
            Self::Graph(_) => Kind::Graph,
        }
    }

    /// The last part of the name.
    pub const fn name(&self) -> &ResourceName {
        match self {
            Self::Tenant(name)
            | Self::NetworkFunction(name)
            | Self::ReplicaSet { name, .. }
            | Self::Instance { name, .. } => name,
            Self::Attachment(key) | Self::Graph(key) => &key.name,
        }
    }

    /// The resource that owns it.
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::Tenant(_) | Self::NetworkFunction(_) => None,
            Self::ReplicaSet { function, .. } => Some(Self::NetworkFunction(function.clone())),
            Self::Instance { function, replica_set, .. } => {
                Some(Self::ReplicaSet { function: function.clone(), name: replica_set.clone() })
            }
            Self::Attachment(key) | Self::Graph(key) => Some(Self::Tenant(key.tenant.clone())),
        }
    }

    /// Whether `self` is `other`, or owns it, directly or through what it owns.
    pub fn contains(&self, other: &Self) -> bool {
        self == other || other.parent().is_some_and(|parent| self.contains(&parent))
    }
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(name) => write!(f, "tenants/{name}"),
            Self::NetworkFunction(name) => write!(f, "networkFunctions/{name}"),
            Self::ReplicaSet { function, name } => write!(f, "networkFunctions/{function}/replicaSets/{name}"),
            Self::Instance { function, replica_set, name } => {
                write!(f, "networkFunctions/{function}/replicaSets/{replica_set}/instances/{name}")
            }
            Self::Attachment(key) => write!(f, "tenants/{}/attachments/{}", key.tenant, key.name),
            Self::Graph(key) => write!(f, "tenants/{}/graphs/{}", key.tenant, key.name),
        }
    }
}

/// Why a text names no resource.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// The collections are unknown or in the wrong place.
    #[error(
        "resource name {0:?}: not of the form tenants/T, tenants/T/attachments/A, tenants/T/graphs/G, \
         networkFunctions/F, networkFunctions/F/replicaSets/R or networkFunctions/F/replicaSets/R/instances/I"
    )]
    Form(String),
    /// A part is no name.
    #[error("resource name {text:?}: {source}")]
    Part {
        /// The whole text.
        text: String,
        /// What is wrong with the part.
        source: NameError,
    },
}

impl FromStr for ResourcePath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        let name =
            |part: &str| ResourceName::new(part).map_err(|source| PathError::Part { text: text.to_owned(), source });
        let key = |tenant: &str, part: &str| Ok(ObjectKey::new(&name(tenant)?, &name(part)?));
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            ["tenants", tenant] => Ok(Self::Tenant(name(tenant)?)),
            ["tenants", tenant, "attachments", part] => Ok(Self::Attachment(key(tenant, part)?)),
            ["tenants", tenant, "graphs", part] => Ok(Self::Graph(key(tenant, part)?)),
            ["networkFunctions", function] => Ok(Self::NetworkFunction(name(function)?)),
            ["networkFunctions", function, "replicaSets", set] => {
                Ok(Self::ReplicaSet { function: name(function)?, name: name(set)? })
            }
            ["networkFunctions", function, "replicaSets", set, "instances", part] => {
                Ok(Self::Instance { function: name(function)?, replica_set: name(set)?, name: name(part)? })
            }
            _ => Err(PathError::Form(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ResourcePath {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<ResourcePath> for String {
    fn from(path: ResourcePath) -> Self {
        path.to_string()
    }
}

/// A tenant as written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TenantSpec {
    /// Name.
    pub name: ResourceName,
    /// VXLAN network identifier; `None` to be given one, or to keep it.
    pub vni: Option<TenantId>,
    /// Guaranteed share of the connection table.
    pub budget: Budget,
}

/// An attachment as written. Fields as in [`Attachment`].
#[expect(missing_docs, reason = "fields are those of the model")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AttachmentSpec {
    pub tenant: ResourceName,
    pub name: ResourceName,
    pub side: Side,
    pub interface: String,
    pub vlan: Option<VlanId>,
    pub prefixes: Vec<IpNet>,
}

/// A network function as written, without its replica sets. Fields as in [`NetworkFunction`].
#[expect(missing_docs, reason = "fields are those of the model")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FunctionSpec {
    pub name: ResourceName,
    pub forwarding: Forwarding,
    pub tuple: TupleEffect,
    pub tenancy: Tenancy,
    pub addresses: Vec<IpAddr>,
}

/// A replica set as written, without its instances. Fields as in [`ReplicaSet`].
#[expect(missing_docs, reason = "fields are those of the model")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplicaSetSpec {
    pub function: ResourceName,
    pub name: ResourceName,
    pub max_members: u16,
}

/// An instance as written. Fields as in [`Instance`].
#[expect(missing_docs, reason = "fields are those of the model")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InstanceSpec {
    pub function: ResourceName,
    pub replica_set: ResourceName,
    pub name: ResourceName,
    pub weight: u16,
    pub ports: Ports,
    pub outside: Vec<OutsideBlock>,
    pub down: bool,
    #[serde(default)]
    pub max_flows: u32,
}

/// A graph as written. Fields as in [`Graph`].
#[expect(missing_docs, reason = "fields are those of the model")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GraphSpec {
    pub tenant: ResourceName,
    pub name: ResourceName,
    pub client: Vec<ResourceName>,
    pub server: Vec<ResourceName>,
    pub nodes: Vec<GraphNode>,
    pub edges: Vec<GraphEdge>,
}

/// A resource as written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// A tenant.
    Tenant(TenantSpec),
    /// A network function.
    NetworkFunction(FunctionSpec),
    /// A replica set.
    ReplicaSet(ReplicaSetSpec),
    /// An instance.
    Instance(InstanceSpec),
    /// An attachment.
    Attachment(AttachmentSpec),
    /// A graph.
    Graph(GraphSpec),
}

impl Resource {
    /// Its name.
    pub fn path(&self) -> ResourcePath {
        match self {
            Self::Tenant(spec) => ResourcePath::Tenant(spec.name.clone()),
            Self::NetworkFunction(spec) => ResourcePath::NetworkFunction(spec.name.clone()),
            Self::ReplicaSet(spec) => {
                ResourcePath::ReplicaSet { function: spec.function.clone(), name: spec.name.clone() }
            }
            Self::Instance(spec) => ResourcePath::Instance {
                function: spec.function.clone(),
                replica_set: spec.replica_set.clone(),
                name: spec.name.clone(),
            },
            Self::Attachment(spec) => ResourcePath::Attachment(ObjectKey::new(&spec.tenant, &spec.name)),
            Self::Graph(spec) => ResourcePath::Graph(ObjectKey::new(&spec.tenant, &spec.name)),
        }
    }

    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Tenant(_) => Kind::Tenant,
            Self::NetworkFunction(_) => Kind::NetworkFunction,
            Self::ReplicaSet(_) => Kind::ReplicaSet,
            Self::Instance(_) => Kind::Instance,
            Self::Attachment(_) => Kind::Attachment,
            Self::Graph(_) => Kind::Graph,
        }
    }
}

impl From<&Tenant> for TenantSpec {
    fn from(tenant: &Tenant) -> Self {
        Self { name: tenant.name.clone(), vni: Some(tenant.id), budget: tenant.budget }
    }
}

impl From<&Attachment> for AttachmentSpec {
    fn from(attachment: &Attachment) -> Self {
        let Attachment { tenant, name, id: _, side, interface, vlan, prefixes } = attachment.clone();
        Self { tenant, name, side, interface, vlan, prefixes }
    }
}

impl From<&NetworkFunction> for FunctionSpec {
    fn from(function: &NetworkFunction) -> Self {
        Self {
            name: function.name.clone(),
            forwarding: function.forwarding,
            tuple: function.tuple,
            tenancy: function.tenancy.clone(),
            addresses: function.addresses.clone(),
        }
    }
}

impl ReplicaSetSpec {
    /// What was written for a replica set of `function`.
    pub fn of(function: &ResourceName, set: &ReplicaSet) -> Self {
        Self { function: function.clone(), name: set.name.clone(), max_members: set.max_members }
    }
}

impl InstanceSpec {
    /// What was written for an instance of a replica set of `function`.
    pub fn of(function: &ResourceName, replica_set: &ResourceName, instance: &Instance) -> Self {
        let Instance { name, id: _, weight, ports, outside, down, max_flows } = instance.clone();
        let (function, replica_set) = (function.clone(), replica_set.clone());
        Self { function, replica_set, name, weight, ports, outside, down, max_flows }
    }
}

impl GraphSpec {
    /// The graph, with its number.
    pub(crate) fn numbered(self, id: GraphId) -> Graph {
        let Self { tenant, name, client, server, nodes, edges } = self;
        Graph { tenant, name, id, client, server, nodes, edges }
    }
}

impl From<&Graph> for GraphSpec {
    fn from(graph: &Graph) -> Self {
        let Graph { tenant, name, id: _, client, server, nodes, edges } = graph.clone();
        Self { tenant, name, client, server, nodes, edges }
    }
}
