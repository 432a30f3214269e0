//! From the data path's numbers to names.

use chain_graph::model::{Desired, ObjectKey, ResourceName};
use state_sync::ResourcePath;
use std::collections::HashMap;
use xdp_layout::{AttachmentId, GraphId, InstanceId, ReplicaSetId, TenantId};

/// Names by number. What was deleted meanwhile has none; it is shown as its number.
pub(crate) struct Names {
    tenants: HashMap<TenantId, ResourceName>,
    attachments: HashMap<AttachmentId, ObjectKey>,
    graphs: HashMap<GraphId, ObjectKey>,
    replica_sets: HashMap<ReplicaSetId, ResourcePath>,
    instances: HashMap<InstanceId, ResourcePath>,
}

impl Names {
    pub(crate) fn new(desired: &Desired) -> Self {
        let mut replica_sets = HashMap::new();
        let mut instances = HashMap::new();
        for (function, spec) in &desired.functions {
            for (set_name, set) in &spec.replica_sets {
                replica_sets
                    .insert(set.id, ResourcePath::ReplicaSet { function: function.clone(), name: set_name.clone() });
                instances.extend(set.instances.iter().map(|(name, instance)| {
                    let path = ResourcePath::Instance {
                        function: function.clone(),
                        replica_set: set_name.clone(),
                        name: name.clone(),
                    };
                    (instance.id, path)
                }));
            }
        }
        Self {
            tenants: desired.tenants.iter().map(|(name, tenant)| (tenant.id, name.clone())).collect(),
            attachments: desired.attachments.iter().map(|(key, attachment)| (attachment.id, key.clone())).collect(),
            graphs: desired.graphs.iter().map(|(key, graph)| (graph.id, key.clone())).collect(),
            replica_sets,
            instances,
        }
    }

    pub(crate) fn tenant(&self, id: TenantId) -> String {
        self.tenants.get(&id).map_or_else(|| id.to_string(), |name| ResourcePath::Tenant(name.clone()).to_string())
    }

    pub(crate) fn attachment(&self, id: AttachmentId) -> String {
        let key = self.attachments.get(&id);
        key.map_or_else(|| id.to_string(), |key| ResourcePath::Attachment(key.clone()).to_string())
    }

    pub(crate) fn graph(&self, id: GraphId) -> String {
        let key = self.graphs.get(&id);
        key.map_or_else(|| id.to_string(), |key| ResourcePath::Graph(key.clone()).to_string())
    }

    pub(crate) fn replica_set(&self, id: ReplicaSetId) -> String {
        self.replica_sets.get(&id).map_or_else(|| id.to_string(), ToString::to_string)
    }

    pub(crate) fn instance(&self, id: InstanceId) -> String {
        self.instances.get(&id).map_or_else(|| id.to_string(), ToString::to_string)
    }
}
