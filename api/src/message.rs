//! What the resources' messages have in common.

use crate::fields::Violations;
use crate::v1;
use chain_graph::model::ResourceName;
use prost_types::FieldMask;
use state_sync::{Kind, Resource, ResourcePath};

/// The message of a kind of resource.
pub(crate) trait Message: Default + Clone + Send + 'static {
    /// Its kind.
    const KIND: Kind;

    /// Name of the resource.
    fn name(&self) -> &str;
    /// Changes the name.
    fn set_name(&mut self, name: String);
    /// Version that the client knows; empty if it does not care.
    fn etag(&self) -> &str;
    /// Takes the fields of the mask over from `new`; with an empty mask those that are not at their default.
    fn merge(&mut self, new: Self, mask: Option<FieldMask>) -> Result<(), Violations>;
    /// Reads it.
    fn read(self) -> Result<Resource, Violations>;
    /// Takes it out of the union of all kinds.
    fn pick(resource: v1::Resource) -> Option<Self>;
}

macro_rules! message {
    ($name:ident, [$($field:ident),+]) => {
        impl Message for v1::$name {
            const KIND: Kind = Kind::$name;

            fn name(&self) -> &str {
                &self.name
            }
            fn set_name(&mut self, name: String) {
                self.name = name;
            }
            fn etag(&self) -> &str {
                &self.etag
            }
            fn merge(&mut self, new: Self, mask: Option<FieldMask>) -> Result<(), Violations> {
                let paths = mask.map(|mask| mask.paths).unwrap_or_default();
                let mut violations = Violations::new();
                if paths.is_empty() {
                    let none = Self::default();
                    $(if new.$field != none.$field {
                        self.$field = new.$field;
                    })+
                    return Ok(());
                }
                for path in &paths {
                    // Raw identifiers are written with a prefix that paths do not have.
                    match path.as_str() {
                        "*" => { $(self.$field = new.$field.clone();)+ }
                        $(path if path == stringify!($field).trim_start_matches("r#") => {
                            self.$field = new.$field.clone();
                        })+
                        "name" | "etag" | "status" | "id" => {}
                        other => violations.add("update_mask", format!(
                            "{other:?} is no field of a {}; fields are {}", Self::KIND, [$(stringify!($field)),+].join(", "),
                        )),
                    }
                }
                violations.finish(Some(()))
            }
            fn read(self) -> Result<Resource, Violations> {
                self.try_into().map(Resource::$name)
            }
            fn pick(resource: v1::Resource) -> Option<Self> {
                match resource.resource {
                    Some(v1::resource::Resource::$name(message)) => Some(message),
                    _ => None,
                }
            }
        }
    };
}

message!(Tenant, [vni, budget]);
message!(Attachment, [side, interface, vlan, prefixes]);
message!(NetworkFunction, [forwarding, tuple_effect, shared, addresses]);
message!(ReplicaSet, [max_members]);
message!(Instance, [weight, inside, outside, outside_blocks, down, max_flows]);
message!(Graph, [client_attachments, server_attachments, nodes, edges]);

/// Name of a resource that is to be created: its parent (empty for kinds without) and the last part.
pub(crate) fn new_path(kind: Kind, parent: &str, id: &str) -> Result<ResourcePath, Violations> {
    let (collection, parent_kind) = match kind {
        Kind::Tenant => ("tenants", None),
        Kind::NetworkFunction => ("networkFunctions", None),
        Kind::ReplicaSet => ("replicaSets", Some(Kind::NetworkFunction)),
        Kind::Instance => ("instances", Some(Kind::ReplicaSet)),
        Kind::Attachment => ("attachments", Some(Kind::Tenant)),
        Kind::Graph => ("graphs", Some(Kind::Tenant)),
    };
    let mut violations = Violations::new();
    let start = match parent_kind {
        None => Some(String::new()),
        Some(kind) => violations.take("parent", crate::convert::path(parent, kind)).map(|parent| format!("{parent}/")),
    };
    let id_field = format!("{}_id", crate::convert::member(kind));
    let id = violations.take(&id_field, ResourceName::new(id));
    let text = start.zip(id).map(|(start, id)| format!("{start}{collection}/{id}"));
    let path = text.and_then(|text| violations.take(&id_field, text.parse::<ResourcePath>()));
    violations.finish(path)
}

/// A name of the kind, to read a message's other fields when its own name is wrong.
pub(crate) const fn placeholder(kind: Kind) -> &'static str {
    match kind {
        Kind::Tenant => "tenants/x",
        Kind::NetworkFunction => "networkFunctions/x",
        Kind::ReplicaSet => "networkFunctions/x/replicaSets/x",
        Kind::Instance => "networkFunctions/x/replicaSets/x/instances/x",
        Kind::Attachment => "tenants/x/attachments/x",
        Kind::Graph => "tenants/x/graphs/x",
    }
}
