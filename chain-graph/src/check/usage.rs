//! Rules between versions of graphs over the functions that they use.
//!
//! Of two uses that do not go together the later one is to blame, in the order of [`AllVersions`]. If that is a candidate's
//! or a stable version's it is a violation; if only draining versions make it, it is barred, and they are dropped.

use super::place::{InstancePlace, Place, Version};
use super::versions::{AllVersions, ResolvedGraph};
use super::violation::{Report, ViolationKind as Kind};
use crate::cidr::Cidr;
use crate::map::Map;
use crate::model::{Desired, Graph, NetworkFunction, ObjectKey, ResourceName, Tenancy, TupleEffect};
use crate::outside::{Claim, by_prefix, overlaps};
use imbl::OrdSet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use xdp_layout::plan::OUTSIDE_RANGES_MAX;

/// Uses that draining versions must not make.
#[derive(Default)]
pub(super) struct Barred<'a> {
    /// Tenant and function.
    functions: BTreeSet<(&'a ResourceName, &'a ResourceName)>,
    /// Graph, function and replica set.
    sets: BTreeSet<(&'a ObjectKey, &'a ResourceName, &'a ResourceName)>,
}

impl<'a> Barred<'a> {
    /// Whose draining versions are concerned.
    pub(super) fn tenants(&self) -> BTreeSet<&'a ResourceName> {
        let functions = self.functions.iter().map(|(tenant, _)| *tenant);
        functions.chain(self.sets.iter().map(|(key, ..)| &key.tenant)).collect()
    }

    /// Whether a draining version of the graph may stay.
    pub(super) fn permits(&self, key: &ObjectKey, graph: &Graph) -> bool {
        graph.nodes.iter().all(|node| {
            !self.functions.contains(&(&key.tenant, &node.function))
                && !self.sets.contains(&(key, &node.function, &node.replica_set))
        })
    }
}

/// A tenant that uses a function, and where a version does so first.
struct User<'a> {
    tenant: &'a ResourceName,
    version: Version,
    place: Place<'a>,
}

/// The graphs that name each function in any of their versions.
#[derive(Clone, Default, Debug)]
pub(super) struct Users(Map<ResourceName, OrdSet<ObjectKey>>);

impl Users {
    /// The graphs that name a function.
    pub(super) fn of(&self, function: &ResourceName) -> impl Iterator<Item = &ObjectKey> + Clone {
        self.0.get(function).into_iter().flatten()
    }

    /// Follows a graph from one set of versions to another. Declared versions count whether they resolve or not.
    pub(super) fn follow(
        &mut self,
        desired: &Desired,
        key: &ObjectKey,
        before: Option<&ResolvedGraph>,
        after: Option<&ResolvedGraph>,
    ) {
        let declared = desired.graphs.get(key).into_iter();
        let candidate = desired.versions.get(key).and_then(|versions| versions.candidate.as_ref());
        let nodes = declared.chain(candidate.map(|candidate| &candidate.graph)).flat_map(|graph| &graph.nodes);
        let mut names: BTreeSet<&ResourceName> = nodes.map(|node| &node.function).collect();
        names.extend(after.into_iter().flat_map(ResolvedGraph::function_names));
        for name in before.into_iter().flat_map(ResolvedGraph::function_names).filter(|name| !names.contains(name)) {
            if let Some(users) = self.0.get_mut(name) {
                users.remove(key);
                if users.is_empty() {
                    self.0.remove(name);
                }
            }
        }
        for name in names {
            // What is there already is not written again: that would copy what is shared.
            if !self.0.get(name).is_some_and(|users| users.contains(key)) {
                self.0.entry(name.clone()).or_default().insert(key.clone());
            }
        }
    }
}

/// What the rules on sharing have to look at: nothing else can break one.
pub(super) struct Scope<'s> {
    /// Functions whose tenancy changed.
    pub(super) functions: BTreeSet<&'s ResourceName>,
    /// Graphs whose nodes or attachments changed, in any version.
    pub(super) graphs: BTreeSet<&'s ObjectKey>,
    /// Whether tags may name a tenant that is gone: then every function is looked at.
    pub(super) is_tenant_lost: bool,
    /// Who names which function.
    pub(super) users: &'s Users,
}

impl<'s> Scope<'s> {
    fn functions<'a: 's>(&self, versions: AllVersions<'a>) -> BTreeSet<&'s ResourceName> {
        if self.is_tenant_lost {
            return versions.desired.functions.keys().collect();
        }
        let named = versions.among(self.graphs.iter().copied()).flat_map(|(_, graph)| &graph.nodes);
        named.map(|node| &node.function).chain(self.functions.iter().copied()).collect()
    }

    /// A function's tenants, each by the first version that names it; those that come later in the order of versions last.
    /// Where tenants do not meet, only those whose graphs changed.
    fn users<'a>(&self, versions: AllVersions<'a>, function: &NetworkFunction) -> Vec<User<'a>> {
        let is_apart = matches!(&function.tenancy, Tenancy::Tagged { isolates_state: true, .. });
        let is_known = is_apart && !self.is_tenant_lost && !self.functions.contains(&function.name);
        let keys = self.users.of(&function.name).filter(|key| !is_known || self.graphs.contains(key));
        let mut users = BTreeMap::new();
        for (place, graph) in versions.among(keys) {
            if let Some(index) = graph.nodes.iter().position(|node| node.function == function.name) {
                let tenant = &place.key.tenant;
                let user = || User { tenant, version: place.version, place: Place::Node(place, index) };
                users.entry(tenant).or_insert_with(user);
            }
        }
        let mut users: Vec<User<'a>> = users.into_values().collect();
        users.sort_by_key(|user| user.version);
        users
    }
}

/// Who may use a function together with whom.
pub(super) fn check_sharing<'a>(
    versions: AllVersions<'a>,
    scope: &Scope<'_>,
    barred: &mut Barred<'a>,
    report: &mut Report,
) {
    let tenants = &versions.desired.tenants;
    for name in scope.functions(versions) {
        let Some((name, function)) = versions.desired.functions.get_key_value(name) else { continue };
        if let Tenancy::Tagged { tags, .. } = &function.tenancy
            && (scope.is_tenant_lost || scope.functions.contains(name))
        {
            for tenant in tags.keys().filter(|tenant| !tenants.contains_key(*tenant)) {
                let path = format!("functions[\"{name}\"].tenancy.tags[\"{tenant}\"]");
                report.add(Kind::UnknownTenant, path, format!("there is no tenant {tenant}"));
            }
        }
        let users = scope.users(versions, function);
        let mut blame = |user: &User<'a>, kind, message: String| match user.version {
            Version::Draining => drop(barred.functions.insert((user.tenant, name))),
            Version::Stable | Version::Candidate => report.add(kind, format!("{}.function", user.place), message),
        };
        match &function.tenancy {
            Tenancy::Exclusive => {
                let Some((first, others)) = users.split_first() else { continue };
                for user in others {
                    let message = format!(
                        "network function {name} has no tags and serves tenant {}, so tenant {} cannot use it",
                        first.tenant, user.tenant
                    );
                    blame(user, Kind::NotShareable, message);
                }
            }
            Tenancy::Tagged { tags, isolates_state } => {
                for user in users.iter().filter(|u| tenants.contains_key(u.tenant) && !tags.contains_key(u.tenant)) {
                    let message = format!("network function {name} has no tag for tenant {}", user.tenant);
                    blame(user, Kind::NoTag, message);
                }
                if !isolates_state && users.len() > 1 {
                    check_isolation(versions, name, &users, blame);
                }
            }
        }
    }
}

/// Tenants that share a function without own state must not have an address in common.
fn check_isolation<'a>(
    versions: AllVersions<'a>,
    function: &ResourceName,
    users: &[User<'a>],
    mut blame: impl FnMut(&User<'a>, Kind, String),
) {
    let desired = versions.desired;
    // With the user's index, which is its precedence.
    let mut prefixes: Vec<(Cidr, usize)> = Vec::new();
    for (index, user) in users.iter().enumerate() {
        let naming = versions.of(user.tenant).filter(|(_, graph)| graph.nodes.iter().any(|n| n.function == *function));
        // All of a graph's flows take the stable version's attachments.
        for graph in naming.filter_map(|(place, _)| desired.graphs.get(place.key)) {
            let attachments = graph.client.iter().chain(&graph.server);
            let attachments =
                attachments.filter_map(|name| desired.attachments.get(&ObjectKey::new(user.tenant, name)));
            prefixes.extend(attachments.flat_map(|attachment| attachment.taken_prefixes()).map(|cidr| (cidr, index)));
        }
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    // For each user the first one that it clashes with.
    let mut clashes: BTreeMap<usize, (usize, Cidr)> = BTreeMap::new();
    let mut around: Vec<(Cidr, usize)> = Vec::new();
    for (cidr, user) in prefixes {
        while around.last().is_some_and(|(outer, _)| !outer.covers(cidr)) {
            around.pop();
        }
        for (_, other) in around.iter().filter(|(_, other)| *other != user) {
            let (first, later) = (user.min(*other), user.max(*other));
            let clash = clashes.entry(later).or_insert((first, cidr));
            *clash = (*clash).min((first, cidr));
        }
        around.push((cidr, user));
    }
    for (later, (first, cidr)) in clashes {
        let message = format!(
            "network function {function} does not keep tenants' state apart, and tenants {} and {} both have {cidr}",
            users[first].tenant, users[later].tenant
        );
        blame(&users[later], Kind::StateNotIsolated, message);
    }
}

/// A replica set is used in one graph of a tenant, so that a frame of an instance whose flow has no record belongs to one.
pub(super) fn check_origins<'a>(
    versions: AllVersions<'a>,
    tenant: &ResourceName,
    barred: &mut Barred<'a>,
    report: &mut Report,
) {
    let mut origins: HashMap<(&ResourceName, &ResourceName), &ObjectKey> = HashMap::new();
    for (place, graph) in versions.of(tenant) {
        let key = place.key;
        for (index, node) in graph.nodes.iter().enumerate() {
            let graph_of_set = *origins.entry((&node.function, &node.replica_set)).or_insert(key);
            if graph_of_set == key {
                continue;
            }
            if place.version == Version::Draining {
                barred.sets.insert((key, &node.function, &node.replica_set));
                continue;
            }
            let message = format!(
                "replica set {} of {} is used in graph {} already: a frame from one of its instances must belong to one graph",
                node.replica_set, node.function, graph_of_set.name
            );
            report.add(Kind::AmbiguousOrigin, format!("{}.replica_set", Place::Node(place, index)), message);
        }
    }
}

/// Outside blocks of different functions that one tenant uses.
pub(super) fn check_outside<'a>(
    versions: AllVersions<'a>,
    tenant: &'a ResourceName,
    barred: &mut Barred<'a>,
    report: &mut Report,
) {
    let mut uses: BTreeMap<&ResourceName, Version> = BTreeMap::new();
    for (place, graph) in versions.of(tenant) {
        for node in &graph.nodes {
            uses.entry(&node.function).or_insert(place.version);
        }
    }
    let functions = &versions.desired.functions;
    let making = uses.into_iter().filter_map(|(name, version)| Some((functions.get_key_value(name)?, version)));
    let making = making.filter(|((_, function), _)| function.tuple != TupleEffect::Keeps);
    let (draining, declared): (Vec<_>, Vec<_>) = making.partition(|(_, version)| *version == Version::Draining);
    let mut used: Vec<_> = declared.into_iter().map(|(function, _)| function).collect();
    compare_outside(&used, tenant, report);
    for (function, _) in draining {
        used.push(function);
        let mut trial = Report::default();
        compare_outside(&used, tenant, &mut trial);
        if !trial.0.is_empty() {
            used.pop();
            barred.functions.insert((tenant, function.0));
        }
    }
}

/// Outside blocks of one function are compared with each other where the function is checked.
fn compare_outside(functions: &[(&ResourceName, &Arc<NetworkFunction>)], tenant: &ResourceName, report: &mut Report) {
    if functions.len() < 2 {
        return;
    }
    let mut claims = Vec::new();
    let mut places = Vec::new();
    for &(function, f) in functions {
        for (set, s) in &f.replica_sets {
            for (instance, i) in &s.instances {
                for (index, block) in i.outside.iter().enumerate() {
                    claims.push(Claim::new(block, places.len()));
                    places.push((function, Place::Outside(InstancePlace { function, set, instance }, index)));
                }
            }
        }
    }
    overlaps(&mut claims, |earlier, later| {
        let ((function, place), (other_function, other)) = (places[later.owner], places[earlier.owner]);
        if function != other_function {
            let message = format!("overlaps with {other}; tenant {tenant} uses both functions");
            report.add(Kind::OutsideOverlap, place.to_string(), message);
        }
    });
    for (prefix, ranges) in by_prefix(&mut claims) {
        let several = ranges.iter().any(|(_, owner)| places[*owner].0 != places[ranges[0].1].0);
        if let Some((_, owner)) = ranges.get(OUTSIDE_RANGES_MAX).filter(|_| several) {
            let message = format!(
                "{} port ranges on {prefix} for tenant {tenant}, {OUTSIDE_RANGES_MAX} are allowed",
                ranges.len()
            );
            report.add(Kind::OutsideRanges, places[*owner].1.to_string(), message);
        }
    }
}
