//! Whether what users declared fits together.
//!
//! [`check`] reports everything that is wrong at once. Its result, [`Checked`], is the only input that views, plans and
//! images are made from, and there is no other way to make one.

mod global;
mod graph;
mod matches;
mod place;
mod resource;
mod shape;
mod usage;
mod versions;
mod violation;

pub(crate) use graph::Resolved;
pub(crate) use versions::ResolvedGraph;
pub use violation::{Violation, ViolationKind};

use crate::map::{Change, Map, changes};
use crate::model::{Attachment, Desired, Graph, NetworkFunction, ObjectKey, ResourceName, Tenant, Versions};
use graph::Names;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use usage::{Barred, Users};
use versions::{AllVersions, resolve_graph};
use violation::Report;

/// Network functions by name.
type Functions = Map<ResourceName, Arc<NetworkFunction>>;

/// A declaration without violations, its graphs resolved and compiled. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Checked {
    desired: Arc<Desired>,
    /// The functions as the graphs know them: as they were when last something changed that a graph depends on.
    functions: Functions,
    graphs: Map<ObjectKey, Arc<ResolvedGraph>>,
    users: Users,
}

impl Checked {
    /// What was checked, without the draining versions that do not resolve or that break a rule. Whoever declares next
    /// starts from this, so that a version once dropped does not come back when its name means something again.
    pub fn desired(&self) -> &Arc<Desired> {
        &self.desired
    }

    /// What a graph's stable version compiles to.
    pub fn content(&self, key: &ObjectKey) -> Option<&Arc<crate::view::ViewContent>> {
        self.graphs.get(key).map(|graph| &graph.stable.content)
    }

    /// What a graph's candidate compiles to.
    pub fn candidate_content(&self, key: &ObjectKey) -> Option<&Arc<crate::view::ViewContent>> {
        self.graphs.get(key)?.candidate.as_ref().map(|(candidate, _)| &candidate.content)
    }

    pub(crate) fn graphs(&self) -> &Map<ObjectKey, Arc<ResolvedGraph>> {
        &self.graphs
    }
}

/// Checks a declaration.
///
/// # Errors
/// Every violation, in the order tenants, attachments, functions, graphs with their candidates, then rules between them. A
/// candidate's path begins with its graph's, as in `graphs["acme/web"].candidate.nodes[0]`.
pub fn check(desired: &Desired) -> Result<Checked, Vec<Violation>> {
    check_after(None, &Arc::new(desired.clone()))
}

/// As [`check`], given an earlier result: what is the same object in both declarations, and rules between resources that
/// no change touches, are not looked at again. The answer is the same.
///
/// # Errors
/// Every violation.
pub fn check_after(earlier: Option<&Checked>, desired: &Arc<Desired>) -> Result<Checked, Vec<Violation>> {
    let nothing = Desired::default();
    let before = earlier.map_or(&nothing, |earlier| &*earlier.desired);
    let changed = Changed::between(before, desired);
    let mut report = Report::default();
    for (name, tenant) in changed.tenants.iter().filter_map(|change| Some((change.key, change.after?))) {
        resource::tenant(name, tenant, &mut report);
    }
    if changed.tenants.iter().any(|change| change.after.is_none()) {
        // Attachments may have lost their owner.
        for (key, attachment) in &desired.attachments {
            resource::attachment(desired, key, attachment, &mut report);
        }
    } else {
        for (key, attachment) in changed.attachments.iter().filter_map(|change| Some((change.key, change.after?))) {
            resource::attachment(desired, key, attachment, &mut report);
        }
    }
    for (name, function) in changed.functions.iter().filter_map(|change| Some((change.key, change.after?))) {
        resource::function(name, function, &mut report);
    }
    let mut graphs = earlier.map(|earlier| earlier.graphs.clone()).unwrap_or_default();
    let mut users = earlier.map(|earlier| earlier.users.clone()).unwrap_or_default();
    let mut functions = earlier.map(|earlier| earlier.functions.clone()).unwrap_or_default();
    changed.follow_functions(&mut functions);
    let names = Names { desired, functions: &functions };
    let stale = changed.stale_graphs(&graphs, &users);
    for key in &stale {
        let known = graphs.get(key).cloned();
        let resolved = resolve_graph(names, key, known.as_ref(), &mut report);
        users.follow(desired, key, known.as_deref(), resolved.as_deref());
        match resolved {
            Some(resolved) => graphs.insert(key.clone(), resolved),
            None => graphs.remove(key),
        };
    }
    let touched = stale.iter().filter(|key| desired.graphs.contains_key(*key)).map(|key| &key.tenant);
    let versions = AllVersions { desired, resolved: &graphs };
    let barred = global::check(versions, &changed, &touched.collect(), &users, &mut report);
    if !report.0.is_empty() {
        return Err(report.0);
    }
    let thinned = without_barred(&graphs, &barred);
    let desired = without_dropped(desired, &graphs, &thinned, stale);
    for (key, graph) in thinned {
        users.follow(&desired, &key, graphs.get(&key).map(|known| &**known), Some(&graph));
        graphs.insert(key, graph);
    }
    Ok(Checked { desired, functions, graphs, users })
}

/// The graphs that lose draining versions because of what these must not do.
fn without_barred(
    graphs: &Map<ObjectKey, Arc<ResolvedGraph>>,
    barred: &Barred<'_>,
) -> Vec<(ObjectKey, Arc<ResolvedGraph>)> {
    let is_permitted = |key: &ObjectKey, old: &Arc<Resolved>| barred.permits(key, &old.graph);
    let tenants = barred.tenants();
    let concerned = tenants.iter().flat_map(|tenant| of_tenant(graphs, tenant));
    let losing = concerned.filter(|(key, graph)| !graph.draining.iter().all(|old| is_permitted(key, old)));
    let thinned = losing.map(|(key, graph)| {
        let mut graph = ResolvedGraph::clone(graph);
        graph.draining.retain(|old| is_permitted(key, old));
        (key.clone(), Arc::new(graph))
    });
    thinned.collect()
}

/// The declaration without the draining versions that were dropped: of graphs that are stale, and of those thinned.
fn without_dropped(
    desired: &Arc<Desired>,
    graphs: &Map<ObjectKey, Arc<ResolvedGraph>>,
    thinned: &[(ObjectKey, Arc<ResolvedGraph>)],
    stale: BTreeSet<ObjectKey>,
) -> Arc<Desired> {
    let mut kept: BTreeMap<ObjectKey, Option<&Arc<ResolvedGraph>>> =
        stale.into_iter().map(|key| (key.clone(), graphs.get(&key))).collect();
    kept.extend(thinned.iter().map(|(key, graph)| (key.clone(), Some(graph))));
    let mut without = Arc::clone(desired);
    for (key, kept) in kept {
        let draining = kept.map_or(&[][..], |graph| &graph.draining[..]);
        let Some(versions) = desired.versions.get(&key).filter(|all| all.draining.len() != draining.len()) else {
            continue;
        };
        let draining = draining.iter().map(|old| Arc::clone(&old.graph)).collect();
        Arc::make_mut(&mut without).put_versions(key, Versions { candidate: versions.candidate.clone(), draining });
    }
    without
}

/// What differs between two declarations.
struct Changed<'a> {
    tenants: Vec<Change<'a, ResourceName, Arc<Tenant>>>,
    attachments: Vec<Change<'a, ObjectKey, Arc<Attachment>>>,
    functions: Vec<Change<'a, ResourceName, Arc<NetworkFunction>>>,
    graphs: Vec<Change<'a, ObjectKey, Arc<Graph>>>,
    versions: Vec<Change<'a, ObjectKey, Arc<Versions>>>,
}

impl<'a> Changed<'a> {
    fn between(before: &'a Desired, after: &'a Desired) -> Self {
        Self {
            tenants: changes(&before.tenants, &after.tenants),
            attachments: changes(&before.attachments, &after.attachments),
            functions: changes(&before.functions, &after.functions),
            graphs: changes(&before.graphs, &after.graphs),
            versions: changes(&before.versions, &after.versions),
        }
    }

    /// Graphs of which a version changed or names something that did, deleted ones included.
    fn stale_graphs(&self, known: &Map<ObjectKey, Arc<ResolvedGraph>>, users: &Users) -> BTreeSet<ObjectKey> {
        let mut stale: BTreeSet<ObjectKey> = self.graphs.iter().map(|change| change.key.clone()).collect();
        stale.extend(self.versions.iter().map(|change| change.key.clone()));
        let tenants = self.tenants.iter().filter(|change| change.before.is_some()).map(|change| change.key);
        let attachments = self.attachments.iter().filter(|change| change.before.is_some());
        for tenant in tenants.chain(attachments.map(|change| &change.key.tenant)) {
            stale.extend(of_tenant(known, tenant).map(|(key, _)| key.clone()));
        }
        let functions = self.functions.iter().filter(|change| change.before.is_some() && matters_to_graphs(change));
        stale.extend(functions.flat_map(|change| users.of(change.key)).cloned());
        stale
    }

    /// Follows the functions as the graphs know them.
    fn follow_functions(&self, functions: &mut Functions) {
        for change in self.functions.iter().filter(|change| matters_to_graphs(change)) {
            match change.after {
                Some(after) => functions.insert(change.key.clone(), Arc::clone(after)),
                None => functions.remove(change.key),
            };
        }
    }
}

/// Whether a graph that names the function depends on what changed. Weights change often, and of a function that many graphs
/// share.
fn matters_to_graphs(change: &Change<'_, ResourceName, Arc<NetworkFunction>>) -> bool {
    !change.before.zip(change.after).is_some_and(|(before, after)| before.is_same_to_graphs(after))
}

/// The objects of a tenant.
pub(crate) fn of_tenant<'a, V>(
    objects: &'a Map<ObjectKey, Arc<V>>,
    tenant: &ResourceName,
) -> impl Iterator<Item = (&'a ObjectKey, &'a Arc<V>)> {
    let tenant = tenant.clone();
    objects.range(ObjectKey::first_of(&tenant)..).take_while(move |(key, _)| key.tenant == tenant)
}

/// Whether the connection table holds all tenants' budgets, unanswered and established together: a budget is a guarantee.
/// `capacity` is in records.
///
/// # Errors
/// One violation, at the first tenant in the order of names whose budget no longer fits.
pub fn check_capacity(desired: &Desired, capacity: u64) -> Result<(), Violation> {
    let mut sum = 0u64;
    for (name, tenant) in &desired.tenants {
        sum += u64::from(tenant.budget.unanswered) + u64::from(tenant.budget.established);
        if sum > capacity {
            return Err(Violation {
                path: format!("tenants[\"{name}\"].budget"),
                kind: ViolationKind::OverCapacity,
                message: format!(
                    "with this one the budgets sum to {sum} records, the connection table holds {capacity}"
                ),
            });
        }
    }
    Ok(())
}
