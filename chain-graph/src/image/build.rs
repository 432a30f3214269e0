//! The making of an image from the one before and what changed since.

use super::tenant::Before;
use super::{BuildError, BuiltTable, Cluster, FunctionImage, Image, TenantImage};
use crate::check::{Checked, of_tenant};
use crate::map::{Change, Map, changes};
use crate::model::{Desired, NetworkFunction, ResourceName, Tenancy, Tenant};
use crate::plan::{Plan, PlanContent};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xdp_layout::{GraphId, InstanceId, ReplicaSetId, TenantId, ViewId};

/// An image in the making.
pub(super) struct Builder<'a> {
    before: Option<&'a Image>,
    plan: Option<&'a Plan>,
    checked: &'a Checked,
    cluster: Cluster,
    content: PlanContent,
    last_views: Map<TenantId, ViewId>,
    tenants: Map<TenantId, Arc<TenantImage>>,
    functions: Map<ResourceName, Arc<FunctionImage>>,
    tables: Map<ReplicaSetId, Arc<BuiltTable>>,
    down: Arc<BTreeSet<InstanceId>>,
}

impl<'a> Builder<'a> {
    /// `plan` is that of `before`, or all that is left of the image before.
    pub(super) fn new(
        before: Option<&'a Image>,
        plan: Option<&'a Plan>,
        checked: &'a Checked,
        cluster: Cluster,
    ) -> Self {
        let mut content = plan.map(|plan| plan.content().clone()).unwrap_or_default();
        if before.is_none() {
            // Every part is going to be entered.
            content = PlanContent::default();
        }
        content.seed = cluster.seed;
        Self {
            before,
            plan,
            checked,
            cluster,
            content,
            last_views: plan.map(|plan| plan.last_views().clone()).unwrap_or_default(),
            tenants: before.map(|before| before.tenants.clone()).unwrap_or_default(),
            functions: before.map(|before| before.functions.clone()).unwrap_or_default(),
            tables: before.map(|before| before.tables.clone()).unwrap_or_default(),
            down: before.map(|before| Arc::clone(&before.down)).unwrap_or_default(),
        }
    }

    pub(super) fn build(mut self) -> Result<Image, BuildError> {
        let nothing = (Desired::default(), Map::new());
        let (earlier, earlier_graphs) =
            self.before.map_or((&nothing.0, &nothing.1), |image| (&**image.checked.desired(), image.checked.graphs()));
        let desired: &'a Desired = self.checked.desired();
        let tenants = changes(&earlier.tenants, &desired.tenants);
        let graphs = changes(earlier_graphs, self.checked.graphs());
        let functions = changes(&earlier.functions, &desired.functions);

        let mut touched: BTreeSet<&ResourceName> = tenants.iter().map(|change| change.key).collect();
        touched.extend(graphs.iter().map(|change| &change.key.tenant));
        touched.extend(changes(&earlier.attachments, &desired.attachments).iter().map(|change| &change.key.tenant));
        self.remove_tenants(&tenants);
        for name in &touched {
            if let Some(tenant) = desired.tenants.get(*name) {
                self.put_tenant(tenant)?;
            }
        }

        let mut touched_functions: BTreeSet<&ResourceName> = functions.iter().map(|change| change.key).collect();
        for graph in graphs.iter().flat_map(|change| change.before.into_iter().chain(change.after)) {
            let functions = graph.versions().flat_map(|version| &version.functions);
            touched_functions.extend(functions.map(|function| &function.name));
        }
        let users = self.users(&touched, &touched_functions);
        self.remove_functions(&touched_functions);
        for name in &touched_functions {
            if let Some(function) = desired.functions.get(*name) {
                self.put_function(function, users.get(*name).copied())?;
            }
        }
        if self.before.is_some_and(|before| before.plan.content().seed != self.cluster.seed) {
            self.rebuild_tables()?;
        }

        let plan = self.next_plan();
        let Self { checked, tenants, functions, tables, down, .. } = self;
        Ok(Image { checked: checked.clone(), plan, tenants, functions, tables, down })
    }

    fn next_plan(&mut self) -> Arc<Plan> {
        let (content, last_views) = (std::mem::take(&mut self.content), std::mem::take(&mut self.last_views));
        let next = Plan::next(self.plan, self.cluster.incarnation, content, last_views);
        match self.plan {
            Some(plan) if plan.digest() == next.digest() && plan.number().incarnation == next.number().incarnation => {
                self.before.map_or_else(|| Arc::new(plan.clone()), |before| Arc::clone(&before.plan))
            }
            _ => Arc::new(next),
        }
    }

    /// Takes out tenants that are gone or have another number now.
    fn remove_tenants(&mut self, tenants: &[Change<'_, ResourceName, Arc<Tenant>>]) {
        for old in tenants
            .iter()
            .filter_map(|change| change.before.filter(|before| change.after.is_none_or(|after| after.id != before.id)))
        {
            self.remove_graphs(old.id, |_| true);
            self.tenants.remove(&old.id);
            self.content.outside.remove(&old.id);
        }
    }

    /// Takes a tenant's graphs out of the plan that are gone, apart from numbers that by now are another tenant's.
    fn remove_graphs(&mut self, tenant: TenantId, is_gone: impl Fn(GraphId) -> bool) {
        let known = self.tenants.get(&tenant).into_iter().flat_map(|known| known.graphs().keys());
        for id in known.filter(|id| is_gone(**id)) {
            if self.content.graphs.get(id).is_some_and(|active| active.tenant == tenant) {
                self.content.graphs.remove(id);
            }
        }
    }

    /// Builds a tenant's image and enters its graphs and outside blocks in the plan.
    fn put_tenant(&mut self, tenant: &Arc<Tenant>) -> Result<(), BuildError> {
        let attachments: Vec<_> =
            of_tenant(&self.checked.desired().attachments, &tenant.name).map(|(_, a)| a).collect();
        let graphs: Vec<_> = of_tenant(self.checked.graphs(), &tenant.name).map(|(_, graph)| graph).collect();
        let known = self.tenants.get(&tenant.id).cloned();
        let last_view = self.last_views.get(&tenant.id).copied();
        let before = Before { plan: self.plan, image: known.as_deref(), last_view };
        let image = TenantImage::build(tenant, &attachments, &graphs, &before)?;
        self.remove_graphs(tenant.id, |id| !image.graphs().contains_key(&id));
        for (id, graph) in image.graphs() {
            if self.content.graphs.get(id) != Some(&graph.active) {
                self.content.graphs.insert(*id, Arc::clone(&graph.active));
            }
        }
        if self.content.outside.get(&tenant.id) != image.outside_blocks() {
            let outside = &mut self.content.outside;
            match image.outside_blocks() {
                Some(blocks) => outside.insert(tenant.id, Arc::clone(blocks)),
                None => outside.remove(&tenant.id),
            };
        }
        if let Some(last) = image.last_view().filter(|last| last_view != Some(*last)) {
            self.last_views.insert(tenant.id, last);
        }
        self.tenants.insert(tenant.id, Arc::new(image));
        Ok(())
    }

    /// The tenants whose installed views use the touched exclusive functions: to be found among those whose graphs changed,
    /// and the user before.
    fn users(
        &self,
        tenants: &BTreeSet<&ResourceName>,
        functions: &BTreeSet<&ResourceName>,
    ) -> BTreeMap<&'a ResourceName, TenantId> {
        let mut candidates: BTreeSet<&ResourceName> = tenants.clone();
        let before = functions.iter().filter_map(|name| self.functions.get(*name)?.tenant());
        candidates.extend(before.filter_map(|id| self.tenants.get(&id)).map(|tenant| tenant.name()));
        let mut users = BTreeMap::new();
        for tenant in candidates {
            let checked: &'a Checked = self.checked;
            for version in of_tenant(checked.graphs(), tenant).flat_map(|(_, graph)| graph.versions()) {
                let id = version.tenant.id;
                if self.tenants.get(&id).is_some_and(|tenant| tenant.installs(version)) {
                    let exclusive = version.functions.iter().filter(|function| function.tenancy == Tenancy::Exclusive);
                    users.extend(exclusive.map(|function| (&function.name, id)));
                }
            }
        }
        users
    }

    /// Takes out what the functions were before.
    fn remove_functions(&mut self, names: &BTreeSet<&ResourceName>) {
        let Some(before) = self.before else { return };
        for (name, known) in names.iter().filter_map(|name| before.functions.get_key_value(*name)) {
            if !self.checked.desired().functions.contains_key(name) {
                self.functions.remove(name);
            }
            for set in known.members().keys() {
                if !self.is_declared(name, *set) {
                    self.content.replica_sets.remove(set);
                    self.tables.remove(set);
                }
            }
            if known.instances().keys().any(|instance| self.down.contains(instance)) {
                let down = Arc::make_mut(&mut self.down);
                down.retain(|instance| !known.instances().contains_key(instance));
            }
        }
    }

    /// Whether the function still has a replica set of that number.
    fn is_declared(&self, function: &ResourceName, set: ReplicaSetId) -> bool {
        let function = self.checked.desired().functions.get(function);
        function.is_some_and(|function| function.replica_sets.values().any(|declared| declared.id == set))
    }

    /// Builds a function's image and its tables, and enters its members in the plan.
    fn put_function(&mut self, function: &Arc<NetworkFunction>, user: Option<TenantId>) -> Result<(), BuildError> {
        let nothing = Map::new();
        let known = self.plan.map_or(&nothing, |plan| &plan.content().replica_sets);
        let image = FunctionImage::new(function, user, known)
            .map_err(|source| BuildError::TableSize { function: function.name.clone(), source })?;
        for (set, members) in image.members() {
            if self.content.replica_sets.get(set).is_none_or(|entered| !Arc::ptr_eq(entered, members)) {
                self.content.replica_sets.insert(*set, Arc::clone(members));
            }
            let serves = |table: &&Arc<BuiltTable>| table.serves(members, self.cluster.seed);
            if self.tables.get(set).filter(serves).is_some() {
                continue;
            }
            match BuiltTable::build(*set, members, self.cluster.seed)? {
                Some(table) => self.tables.insert(*set, table),
                None => self.tables.remove(set),
            };
        }
        let instances = function.replica_sets.values().flat_map(|set| set.instances.values());
        for instance in instances.filter(|instance| instance.down) {
            Arc::make_mut(&mut self.down).insert(instance.id);
        }
        if self.functions.get(&function.name).is_none_or(|known| **known != image) {
            self.functions.insert(function.name.clone(), Arc::new(image));
        }
        Ok(())
    }

    /// Under another seed every table is another.
    fn rebuild_tables(&mut self) -> Result<(), BuildError> {
        for (set, members) in &self.content.replica_sets {
            if let Some(table) = BuiltTable::build(*set, members, self.cluster.seed)? {
                self.tables.insert(*set, table);
            }
        }
        Ok(())
    }
}
