//! Between messages and domain types: one file for each resource. What comes in is checked field by field, and every
//! violation is reported; whether resources fit together is for the state machine to decide.

mod attachment;
mod diff;
mod flow;
mod function;
mod graph;
mod instance;
mod names;
mod replica_set;
mod rollout;
mod rollout_status;
mod tenant;

pub(crate) use diff::diff;
pub(crate) use flow::{TraceRequest, flow, trace, trace_query};
pub(crate) use names::Names;
pub(crate) use rollout::rollout_spec;
pub(crate) use rollout_status::{ended, rollout, share_out, version};

use crate::fields::Violations;
use crate::v1;
use chain_graph::model::{PortRange, ResourceName};
use ipnet::IpNet;
use state_sync::{Entry, Kind, Resource, ResourcePath};

/// Version of a resource as clients see it.
pub(crate) fn etag(revision: u64) -> String {
    format!("r{revision}")
}

/// The revision an etag stands for; `None` if the server never gave it out.
pub(crate) fn revision(etag: &str) -> Option<u64> {
    etag.strip_prefix('r')?.parse().ok()
}

/// Reads the name of a resource of a kind.
pub(crate) fn path(text: &str, kind: Kind) -> Result<ResourcePath, String> {
    let path: ResourcePath = text.parse().map_err(|error: state_sync::PathError| error.to_string())?;
    if path.kind() == kind { Ok(path) } else { Err(format!("{text:?} names a {}, not a {kind}", path.kind())) }
}

/// Reads `tenants/{tenant}`.
pub(crate) fn tenant_name(text: &str) -> Result<ResourceName, String> {
    match path(text, Kind::Tenant)? {
        ResourcePath::Tenant(name) => Ok(name),
        other => Err(format!("{other} is no tenant")),
    }
}

pub(crate) fn name(text: impl AsRef<str>) -> Result<ResourceName, chain_graph::model::NameError> {
    ResourceName::new(text.as_ref())
}

pub(crate) fn prefix(text: impl AsRef<str>) -> Result<IpNet, String> {
    let text = text.as_ref();
    let net: IpNet = text.parse().map_err(|_| format!("{text:?} is not of the form 192.0.2.0/24 or 2001:db8::/64"))?;
    if net == net.trunc() { Ok(net) } else { Err(format!("{net} has bits behind the prefix; {} has not", net.trunc())) }
}

pub(crate) fn port_range(range: v1::PortRange) -> Result<PortRange, String> {
    let bound = |value: u32| u16::try_from(value).map_err(|_| format!("port {value} is above 65535"));
    Ok(PortRange { first: bound(range.first)?, last: bound(range.last)? })
}

pub(crate) fn port_range_out(range: PortRange) -> v1::PortRange {
    v1::PortRange { first: range.first.into(), last: range.last.into() }
}

impl TryFrom<v1::Resource> for Resource {
    type Error = Violations;
    fn try_from(resource: v1::Resource) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let value = match resource.resource {
            Some(v1::resource::Resource::Tenant(proto)) => {
                violations.take_under("tenant", proto.try_into()).map(Self::Tenant)
            }
            Some(v1::resource::Resource::Attachment(proto)) => {
                violations.take_under("attachment", proto.try_into()).map(Self::Attachment)
            }
            Some(v1::resource::Resource::NetworkFunction(proto)) => {
                violations.take_under("network_function", proto.try_into()).map(Self::NetworkFunction)
            }
            Some(v1::resource::Resource::ReplicaSet(proto)) => {
                violations.take_under("replica_set", proto.try_into()).map(Self::ReplicaSet)
            }
            Some(v1::resource::Resource::Instance(proto)) => {
                violations.take_under("instance", proto.try_into()).map(Self::Instance)
            }
            Some(v1::resource::Resource::Graph(proto)) => {
                violations.take_under("graph", proto.try_into()).map(Self::Graph)
            }
            None => {
                violations.add("resource", "must be given");
                None
            }
        };
        violations.finish(value)
    }
}

/// The member of `Resource` that holds a kind.
pub(crate) const fn member(kind: Kind) -> &'static str {
    match kind {
        Kind::Tenant => "tenant",
        Kind::NetworkFunction => "network_function",
        Kind::ReplicaSet => "replica_set",
        Kind::Instance => "instance",
        Kind::Attachment => "attachment",
        Kind::Graph => "graph",
    }
}

/// A resource as clients see it.
pub(crate) fn present(entry: &Entry, status: Option<v1::ProgrammedStatus>) -> v1::Resource {
    let (etag, id) = (etag(entry.revision), entry.number);
    let resource = match &entry.resource {
        Resource::Tenant(spec) => v1::resource::Resource::Tenant(v1::Tenant { vni: id, etag, status, ..spec.into() }),
        Resource::Attachment(spec) => {
            v1::resource::Resource::Attachment(v1::Attachment { id, etag, status, ..spec.into() })
        }
        Resource::NetworkFunction(spec) => {
            v1::resource::Resource::NetworkFunction(v1::NetworkFunction { etag, status, ..spec.into() })
        }
        Resource::ReplicaSet(spec) => {
            v1::resource::Resource::ReplicaSet(v1::ReplicaSet { id, etag, status, ..spec.into() })
        }
        Resource::Instance(spec) => v1::resource::Resource::Instance(v1::Instance { id, etag, status, ..spec.into() }),
        Resource::Graph(spec) => v1::resource::Resource::Graph(v1::Graph { id, etag, status, ..spec.into() }),
    };
    v1::Resource { resource: Some(resource) }
}
