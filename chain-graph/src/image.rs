//! Images: everything the data plane needs, by id, for one plan.
//!
//! An image is made of parts that are shared with the image before: one for each tenant, one for each network function,
//! one table for each replica set. Making the next image costs in proportion to what changed, apart from walks over
//! pointers; and who installs an image finds the changes by comparing pointers.

mod function;
mod table;
mod tenant;

pub use function::{FunctionImage, InstanceImage, InstancePort};
pub use table::BuiltTable;
pub(crate) use tenant::taken_prefixes;
pub use tenant::{AttachmentImage, GraphImage, PortBinding, PortName, Route, TenantImage};

use crate::check::{Checked, Resolved};
use crate::model::{Attachment, ResourceName, Tenancy};
use crate::plan::{Plan, PlanContent};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tenant::Before;
use xdp_layout::{InstanceId, ReplicaSetId, TenantId, ViewId};

/// What the whole cluster has in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cluster {
    /// Life of the cluster; a restore from a backup starts a new one.
    pub incarnation: u64,
    /// SipHash key of instance selection, tables and canary cohorts.
    pub seed: [u64; 2],
}

/// Why no image can be made of a declaration without violations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The tenant has used up its view numbers; they are never reused.
    #[error("build image: tenant {tenant} has used all {} view numbers", ViewId::MAX)]
    ViewsExhausted {
        /// The tenant.
        tenant: ResourceName,
    },
    /// A replica set's table cannot be built.
    #[error("build image: table of replica set {set}")]
    Table {
        /// The replica set.
        set: ReplicaSetId,
        /// Why.
        source: maglev::BuildError,
    },
    /// A function's declared maximum of members has no table size.
    #[error("build image: tables of network function {function}")]
    TableSize {
        /// The function.
        function: ResourceName,
        /// Why.
        source: maglev::SizeError,
    },
}

/// Everything the data plane needs for one plan.
#[derive(Clone, Debug)]
pub struct Image {
    plan: Arc<Plan>,
    tenants: BTreeMap<TenantId, Arc<TenantImage>>,
    functions: BTreeMap<ResourceName, Arc<FunctionImage>>,
    tables: BTreeMap<ReplicaSetId, Arc<BuiltTable>>,
    down: BTreeSet<InstanceId>,
}

impl Image {
    /// Builds the image of a declaration. The plan stays that of `before` if nothing changed that a path depends on; else it
    /// is the next one. A graph whose content changed gets the tenant's next view number.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(before: Option<&Self>, checked: &Checked, cluster: Cluster) -> Result<Self, BuildError> {
        Builder { before, plan: before.map(|before| &*before.plan), checked, cluster }.build()
    }

    /// Builds the image after a restart, when only the plan is left of the image before. Views keep their numbers, and the
    /// plan stays as it is if the declaration still amounts to it.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn resume(plan: &Plan, checked: &Checked, cluster: Cluster) -> Result<Self, BuildError> {
        Builder { before: None, plan: Some(plan), checked, cluster }.build()
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
    /// Tenants.
    pub fn tenants(&self) -> &BTreeMap<TenantId, Arc<TenantImage>> {
        &self.tenants
    }
    /// Network functions.
    pub fn functions(&self) -> &BTreeMap<ResourceName, Arc<FunctionImage>> {
        &self.functions
    }
    /// Tables; a replica set without a member of positive weight has none.
    pub fn tables(&self) -> &BTreeMap<ReplicaSetId, Arc<BuiltTable>> {
        &self.tables
    }
    /// Instances that are declared down: an overlay, part of no plan.
    pub fn down(&self) -> &BTreeSet<InstanceId> {
        &self.down
    }
}

struct Builder<'a> {
    before: Option<&'a Image>,
    plan: Option<&'a Plan>,
    checked: &'a Checked,
    cluster: Cluster,
}

impl Builder<'_> {
    fn build(self) -> Result<Image, BuildError> {
        let mut content = self.plan.map(|plan| plan.content().clone()).unwrap_or_default();
        let mut last_views = self.plan.map(|plan| plan.last_views().clone()).unwrap_or_default();
        content.seed = self.cluster.seed;
        let tenants = self.tenants(&mut content, &mut last_views)?;
        let functions = self.functions()?;
        let tables = self.tables(&functions, &mut content)?;
        let down = functions
            .values()
            .flat_map(|function| &function.source.replica_sets)
            .flat_map(|(_, set)| set.instances.values())
            .filter(|instance| instance.down)
            .map(|instance| instance.id)
            .collect();
        Ok(Image { plan: self.next_plan(content, last_views), tenants, functions, tables, down })
    }

    fn next_plan(&self, content: PlanContent, last_views: BTreeMap<TenantId, ViewId>) -> Arc<Plan> {
        let next = Plan::next(self.plan, self.cluster.incarnation, content, last_views);
        match self.plan {
            Some(plan) if plan.digest() == next.digest() && plan.number().incarnation == next.number().incarnation => {
                self.before.map_or_else(|| Arc::new(plan.clone()), |before| Arc::clone(&before.plan))
            }
            _ => Arc::new(next),
        }
    }

    /// Tenants' images; enters their graphs and outside blocks in the plan.
    fn tenants(
        &self,
        content: &mut PlanContent,
        last_views: &mut BTreeMap<TenantId, ViewId>,
    ) -> Result<BTreeMap<TenantId, Arc<TenantImage>>, BuildError> {
        let desired = self.checked.desired();
        let mut images = self.before.map(|before| before.tenants.clone()).unwrap_or_default();
        let mut attachments = desired.attachments.iter().peekable();
        let mut graphs = self.checked.graphs().iter().peekable();
        let mut own_attachments: Vec<&Arc<Attachment>> = Vec::new();
        let mut own_graphs: Vec<&Arc<Resolved>> = Vec::new();
        // All three are in the order of tenants' names.
        for (name, tenant) in &desired.tenants {
            own_attachments.clear();
            own_graphs.clear();
            while let Some((_, attachment)) = attachments.next_if(|(key, _)| key.tenant == *name) {
                own_attachments.push(attachment);
            }
            while let Some((_, graph)) = graphs.next_if(|(key, _)| key.tenant == *name) {
                own_graphs.push(graph);
            }
            let known = images.get(&tenant.id);
            if known.is_some_and(|known| known.is_current(tenant, &own_attachments, &own_graphs)) {
                continue;
            }
            let known = known.cloned();
            let before = Before {
                active: &|graph| self.plan?.content().graphs.get(&graph).copied(),
                view: &|graph| {
                    let graph = known.as_ref()?.graphs().get(&graph)?;
                    graph.views.get(&graph.active.stable.id).cloned()
                },
                last_view: last_views.get(&tenant.id).copied(),
            };
            let image = TenantImage::build(tenant, &own_attachments, &own_graphs, &before)?;
            self.enter(known.as_deref(), &image, content, last_views);
            images.insert(tenant.id, Arc::new(image));
        }
        if self.before.is_none() || images.len() != desired.tenants.len() {
            let is_declared = |id: &TenantId, image: &TenantImage| {
                desired.tenants.get(image.name()).is_some_and(|tenant| tenant.id == *id)
            };
            images.retain(|id, image| is_declared(id, image));
            content.outside.retain(|id, _| images.contains_key(id));
            content.graphs.retain(|id, active| {
                images.get(&active.tenant).is_some_and(|tenant| tenant.graphs().contains_key(id))
            });
        }
        Ok(images)
    }

    /// Replaces what the plan says of a tenant.
    fn enter(
        &self,
        known: Option<&TenantImage>,
        image: &TenantImage,
        content: &mut PlanContent,
        last_views: &mut BTreeMap<TenantId, ViewId>,
    ) {
        for id in known.into_iter().flat_map(|known| known.graphs().keys()) {
            // The number may by now be another tenant's.
            if content.graphs.get(id).is_some_and(|active| active.tenant == image.id()) {
                content.graphs.remove(id);
            }
        }
        content.graphs.extend(image.graphs().iter().map(|(id, graph)| (*id, graph.active)));
        match image.outside_blocks() {
            Some(blocks) => content.outside.insert(image.id(), Arc::clone(blocks)),
            None => content.outside.remove(&image.id()),
        };
        if let Some(last) = image.last_view() {
            last_views.insert(image.id(), last);
        }
    }

    fn functions(&self) -> Result<BTreeMap<ResourceName, Arc<FunctionImage>>, BuildError> {
        let mut users: BTreeMap<&ResourceName, TenantId> = BTreeMap::new();
        for resolved in self.checked.graphs().values() {
            for function in &resolved.functions {
                if function.tenancy == Tenancy::Exclusive {
                    users.insert(&function.name, resolved.tenant.id);
                }
            }
        }
        let desired = self.checked.desired();
        let mut images = self.before.map(|before| before.functions.clone()).unwrap_or_default();
        for (name, function) in &desired.functions {
            let user = users.get(name).copied();
            if images.get(name).is_some_and(|known| known.is_current(function, user)) {
                continue;
            }
            let nothing = BTreeMap::new();
            let known = self.plan.map_or(&nothing, |plan| &plan.content().replica_sets);
            let image = FunctionImage::new(function, user, known)
                .map_err(|source| BuildError::TableSize { function: name.clone(), source })?;
            images.insert(name.clone(), Arc::new(image));
        }
        if images.len() != desired.functions.len() {
            images.retain(|name, _| desired.functions.contains_key(name));
        }
        Ok(images)
    }

    /// Tables of all replica sets; enters their members in the plan.
    fn tables(
        &self,
        functions: &BTreeMap<ResourceName, Arc<FunctionImage>>,
        content: &mut PlanContent,
    ) -> Result<BTreeMap<ReplicaSetId, Arc<BuiltTable>>, BuildError> {
        let mut tables = self.before.map(|before| before.tables.clone()).unwrap_or_default();
        let mut sets = 0;
        for (name, function) in functions {
            sets += function.members.len();
            let known = self.before.and_then(|before| before.functions.get(name));
            let same_seed = self.plan.is_some_and(|plan| plan.content().seed == self.cluster.seed);
            if same_seed && known.is_some_and(|known| Arc::ptr_eq(known, function)) {
                continue;
            }
            for (set, members) in &function.members {
                content.replica_sets.insert(*set, Arc::clone(members));
                if tables.get(set).is_some_and(|table| table.serves(members, self.cluster.seed)) {
                    continue;
                }
                match BuiltTable::build(*set, members, self.cluster.seed)? {
                    Some(table) => tables.insert(*set, table),
                    None => tables.remove(set),
                };
            }
        }
        if content.replica_sets.len() != sets {
            let declared: BTreeSet<_> = functions.values().flat_map(|function| function.members.keys()).collect();
            content.replica_sets.retain(|set, _| declared.contains(set));
            tables.retain(|set, _| declared.contains(set));
        }
        Ok(tables)
    }
}
