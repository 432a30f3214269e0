//! Replica sets.

use super::path;
use crate::fields::{Violations, narrow};
use crate::v1;
use state_sync::{Kind, ReplicaSetSpec, ResourcePath};

impl TryFrom<v1::ReplicaSet> for ReplicaSetSpec {
    type Error = Violations;
    fn try_from(proto: v1::ReplicaSet) -> Result<Self, Violations> {
        let v1::ReplicaSet { name, id: _, max_members, etag: _, status: _ } = proto;
        let mut violations = Violations::new();
        let key = violations.take("name", path(&name, Kind::ReplicaSet));
        let max_members = violations.take("max_members", narrow(max_members, 4095));
        let value = match (key, max_members) {
            (Some(ResourcePath::ReplicaSet { function, name }), Some(max_members)) => {
                Some(Self { function, name, max_members })
            }
            _ => None,
        };
        violations.finish(value)
    }
}

impl From<&ReplicaSetSpec> for v1::ReplicaSet {
    fn from(spec: &ReplicaSetSpec) -> Self {
        let ReplicaSetSpec { function, name, max_members } = spec;
        Self {
            name: ResourcePath::ReplicaSet { function: function.clone(), name: name.clone() }.to_string(),
            id: 0,
            max_members: (*max_members).into(),
            etag: String::new(),
            status: None,
        }
    }
}
