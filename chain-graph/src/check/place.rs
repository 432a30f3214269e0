//! Where things are declared, as a field path that is only spelt out when something is wrong.

use crate::model::{ObjectKey, ResourceName};
use std::fmt;

/// An instance by its names.
#[derive(Clone, Copy)]
pub(super) struct InstancePlace<'a> {
    pub(super) function: &'a ResourceName,
    pub(super) set: &'a ResourceName,
    pub(super) instance: &'a ResourceName,
}

/// Which of a graph's versions. Ordered by precedence: of two uses of a function that do not go together, the one by the
/// later kind of version is to blame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Version {
    Stable,
    Candidate,
    /// Never to be reported: a draining version that breaks a rule is dropped.
    Draining,
}

/// A version of a graph.
#[derive(Clone, Copy)]
pub(super) struct GraphPlace<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) version: Version,
}

impl fmt::Display for GraphPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "graphs[\"{}\"]", self.key)?;
        match self.version {
            Version::Stable => Ok(()),
            Version::Candidate => f.write_str(".candidate"),
            Version::Draining => f.write_str(".draining"),
        }
    }
}

/// A place in the declaration. `Display` is its field path.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Tenant(&'a ResourceName),
    Attachment(&'a ObjectKey),
    Graph(GraphPlace<'a>),
    ReplicaSet(&'a ResourceName, &'a ResourceName),
    Instance(InstancePlace<'a>),
    /// A port of an instance, by the field's name.
    Port(InstancePlace<'a>, &'static str),
    /// An outside block of an instance, by its index.
    Outside(InstancePlace<'a>, usize),
    /// A node of a graph, by its index.
    Node(GraphPlace<'a>, usize),
}

impl fmt::Display for InstancePlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, set, instance } = self;
        write!(f, "functions[\"{function}\"].replica_sets[\"{set}\"].instances[\"{instance}\"]")
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(name) => write!(f, "tenants[\"{name}\"]"),
            Self::Attachment(key) => write!(f, "attachments[\"{key}\"]"),
            Self::Graph(graph) => graph.fmt(f),
            Self::ReplicaSet(function, set) => write!(f, "functions[\"{function}\"].replica_sets[\"{set}\"]"),
            Self::Instance(instance) => instance.fmt(f),
            Self::Port(instance, field) => write!(f, "{instance}.ports.{field}"),
            Self::Outside(instance, index) => write!(f, "{instance}.outside[{index}]"),
            Self::Node(graph, index) => write!(f, "{graph}.nodes[{index}]"),
        }
    }
}
