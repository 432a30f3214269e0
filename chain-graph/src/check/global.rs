//! Rules between resources: unique numbers and ports, sharing, outside blocks.

use super::place::{InstancePlace, Place};
use super::resource::ports;
use super::violation::{Report, ViolationKind as Kind};
use super::{Changed, of_tenant};
use crate::cidr::Cidr;
use crate::image::taken_prefixes;
use crate::model::{Desired, Instance, NetworkFunction, ObjectKey, ResourceName, Tenancy, TupleEffect, VlanId};
use crate::outside::{Claim, by_prefix, overlaps};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use xdp_layout::plan::OUTSIDE_RANGES_MAX;
use xdp_layout::{InstanceId, ReplicaSetId};

/// Which tenants' graphs name a function, and where each does so first.
type Users<'a> = BTreeMap<&'a ResourceName, BTreeMap<&'a ResourceName, Place<'a>>>;

/// Checks the rules between resources that the changes touch. Outside blocks of different functions are compared for `tenants`.
pub(super) fn check(desired: &Desired, changed: &Changed<'_>, tenants: &BTreeSet<&ResourceName>, report: &mut Report) {
    let Changed { tenants: of_tenants, attachments, functions, graphs } = changed;
    if of_tenants.iter().any(|c| c.renews(|tenant| tenant.id))
        || attachments.iter().any(|c| c.renews(|attachment| attachment.id))
        || graphs.iter().any(|c| c.renews(|graph| graph.id))
        || functions.iter().any(|c| c.renews(function_ids))
    {
        check_ids(desired, report);
    }
    if attachments.iter().any(|c| c.renews(|attachment| (attachment.interface.clone(), attachment.vlan)))
        || functions.iter().any(|c| c.renews(|function| (function.tenancy.clone(), interfaces(function))))
    {
        check_ports(desired, report);
    }
    if graphs.iter().any(|c| c.renews(|graph| (graph.client.clone(), graph.server.clone()))) {
        check_attachment_use(desired, report);
    }
    let nodes_changed = graphs.iter().any(|c| c.renews(|graph| graph.nodes.clone()));
    if nodes_changed
        || of_tenants.iter().any(|c| c.before.is_none() || c.after.is_none())
        || attachments.iter().any(|c| c.renews(|attachment| attachment.prefixes.clone()))
        || graphs.iter().any(|c| c.renews(|graph| (graph.client.clone(), graph.server.clone())))
        || functions.iter().any(|c| c.renews(|function| function.tenancy.clone()))
    {
        check_sharing(desired, report);
    }
    if nodes_changed || functions.iter().any(|c| c.renews(|function| function.tuple)) {
        check_origins(desired, report);
    }
    for tenant in tenants {
        check_outside(desired, tenant, report);
    }
}

/// Numbers of replica sets and instances.
fn function_ids(function: &NetworkFunction) -> Vec<(ReplicaSetId, Vec<InstanceId>)> {
    let sets = function.replica_sets.values();
    sets.map(|set| (set.id, set.instances.values().map(|instance| instance.id).collect())).collect()
}

/// Interfaces of all instances.
fn interfaces(function: &NetworkFunction) -> Vec<String> {
    let instances = function.replica_sets.values().flat_map(|set| set.instances.values());
    instances.flat_map(|instance| ports(&instance.ports)).map(|(_, port)| port.interface.clone()).collect()
}

/// Every instance that is declared.
fn instances(desired: &Desired) -> impl Iterator<Item = (&Arc<NetworkFunction>, InstancePlace<'_>, &Instance)> + Clone {
    desired.functions.iter().flat_map(|(function_name, function)| {
        function.replica_sets.iter().flat_map(move |(set_name, set)| {
            set.instances.iter().map(move |(name, instance)| {
                (function, InstancePlace { function: function_name, set: set_name, instance: name }, instance)
            })
        })
    })
}

fn check_ids(desired: &Desired, report: &mut Report) {
    unique(desired.tenants.iter().map(|(name, tenant)| (tenant.id.get(), Place::Tenant(name))), report);
    unique(desired.attachments.iter().map(|(key, a)| (a.id.get().into(), Place::Attachment(key))), report);
    unique(desired.graphs.iter().map(|(key, graph)| (graph.id.get().into(), Place::Graph(key))), report);
    let sets = desired.functions.iter().flat_map(|(function, f)| {
        f.replica_sets.iter().map(move |(name, set)| (set.id.get().into(), Place::ReplicaSet(function, name)))
    });
    unique(sets, report);
    unique(instances(desired).map(|(_, place, i)| (i.id.get().into(), Place::Instance(place))), report);
}

fn unique<'a>(ids: impl Iterator<Item = (u32, Place<'a>)> + Clone, report: &mut Report) {
    // Almost always there is nothing to name.
    let mut sorted: Vec<u32> = ids.clone().map(|(id, _)| id).collect();
    sorted.sort_unstable();
    if sorted.windows(2).all(|pair| pair[0] != pair[1]) {
        return;
    }
    let mut holders: HashMap<u32, Place<'a>> = HashMap::new();
    for (id, place) in ids {
        match holders.get(&id) {
            Some(holder) => report.add(Kind::DuplicateId, format!("{place}.id"), format!("{id} is the id of {holder}")),
            None => {
                holders.insert(id, place);
            }
        }
    }
}

/// The VLANs that a port takes on its interface.
#[derive(Clone, Copy)]
enum Tags<'a> {
    One(Option<VlanId>),
    PerTenant(&'a BTreeMap<ResourceName, VlanId>),
}

impl Tags<'_> {
    /// A VLAN in both.
    fn common(&self, other: &Self) -> Option<Option<VlanId>> {
        match (self, other) {
            (Self::One(a), Self::One(b)) => (a == b).then_some(*a),
            (Self::One(one), Self::PerTenant(tags)) | (Self::PerTenant(tags), Self::One(one)) => {
                (*one).filter(|one| tags.values().any(|tag| tag == one)).map(Some)
            }
            (Self::PerTenant(a), Self::PerTenant(b)) => {
                let b: BTreeSet<_> = b.values().collect();
                a.values().filter(|tag| b.contains(tag)).min().map(|tag| Some(*tag))
            }
        }
    }
}

/// Enters a port under its interface. Path and message if another one has a VLAN in common.
fn claim_port<'a>(
    on_interface: &mut HashMap<&'a str, Vec<(Tags<'a>, Place<'a>)>>,
    interface: &'a str,
    tags: Tags<'a>,
    place: Place<'a>,
    report: &mut Report,
) {
    let ports = on_interface.entry(interface).or_default();
    if let Some((vlan, holder)) = ports.iter().find_map(|(other, holder)| Some((tags.common(other)?, holder))) {
        let message = match vlan {
            Some(vlan) => format!("VLAN {vlan} on interface {interface} is taken by {holder}"),
            None => format!("interface {interface} is taken by {holder}"),
        };
        report.add(Kind::DuplicatePort, format!("{place}.interface"), message);
    }
    ports.push((tags, place));
}

fn check_ports(desired: &Desired, report: &mut Report) {
    // Where every interface has one port there are no VLANs to compare.
    let attachments = desired.attachments.values().map(|attachment| attachment.interface.as_str());
    let of_instances = instances(desired).flat_map(|(_, _, instance)| ports(&instance.ports));
    let mut names = HashSet::new();
    if attachments.chain(of_instances.map(|(_, port)| port.interface.as_str())).all(|name| names.insert(name)) {
        return;
    }
    let mut on_interface = HashMap::new();
    for (key, attachment) in &desired.attachments {
        let tags = Tags::One(attachment.vlan);
        claim_port(&mut on_interface, &attachment.interface, tags, Place::Attachment(key), report);
    }
    for (function, place, instance) in instances(desired) {
        let tags = match &function.tenancy {
            Tenancy::Exclusive => Tags::One(None),
            Tenancy::Tagged { tags, .. } => Tags::PerTenant(tags),
        };
        for (field, port) in ports(&instance.ports) {
            claim_port(&mut on_interface, &port.interface, tags, Place::Port(place, field), report);
        }
    }
}

fn check_attachment_use(desired: &Desired, report: &mut Report) {
    let mut users: HashMap<(&ResourceName, &ResourceName), &ObjectKey> = HashMap::new();
    for (key, graph) in &desired.graphs {
        for (side, names) in [("client", &graph.client), ("server", &graph.server)] {
            for (index, name) in names.iter().enumerate() {
                let user = *users.entry((&key.tenant, name)).or_insert(key);
                if user != key {
                    let message = format!("attachment {name} is used by graph {}", user.name);
                    report.add(Kind::AttachmentInUse, format!("{}.{side}[{index}]", Place::Graph(key)), message);
                }
            }
        }
    }
}

fn check_sharing(desired: &Desired, report: &mut Report) {
    let mut users: Users<'_> = BTreeMap::new();
    for (key, graph) in &desired.graphs {
        for (index, node) in graph.nodes.iter().enumerate() {
            let tenants = users.entry(&node.function).or_default();
            tenants.entry(&key.tenant).or_insert(Place::Node(key, index));
        }
    }
    for (name, function) in &desired.functions {
        let none = BTreeMap::new();
        let users = users.get(name).unwrap_or(&none);
        match &function.tenancy {
            Tenancy::Exclusive => {
                let mut users = users.iter();
                let Some((first, _)) = users.next() else { continue };
                for (tenant, place) in users {
                    let message = format!(
                        "network function {name} has no tags and serves tenant {first}, so tenant {tenant} cannot use it"
                    );
                    report.add(Kind::NotShareable, format!("{place}.function"), message);
                }
            }
            Tenancy::Tagged { tags, isolates_state } => {
                for tenant in tags.keys().filter(|tenant| !desired.tenants.contains_key(*tenant)) {
                    let path = format!("functions[\"{name}\"].tenancy.tags[\"{tenant}\"]");
                    report.add(Kind::UnknownTenant, path, format!("there is no tenant {tenant}"));
                }
                for (tenant, place) in users {
                    if desired.tenants.contains_key(*tenant) && !tags.contains_key(*tenant) {
                        let message = format!("network function {name} has no tag for tenant {tenant}");
                        report.add(Kind::NoTag, format!("{place}.function"), message);
                    }
                }
                if !isolates_state && users.len() > 1 {
                    check_isolation(desired, name, users, report);
                }
            }
        }
    }
}

/// Tenants that share a function without own state must not have an address in common.
fn check_isolation(
    desired: &Desired,
    function: &ResourceName,
    users: &BTreeMap<&ResourceName, Place<'_>>,
    report: &mut Report,
) {
    let mut prefixes: Vec<(Cidr, &ResourceName)> = Vec::new();
    for tenant in users.keys() {
        for (_, graph) in of_tenant(&desired.graphs, tenant) {
            if graph.nodes.iter().any(|node| node.function == *function) {
                let attachments = graph.client.iter().chain(&graph.server);
                let attachments = attachments.filter_map(|name| desired.attachments.get(&ObjectKey::new(tenant, name)));
                prefixes
                    .extend(attachments.flat_map(|attachment| taken_prefixes(attachment)).map(|cidr| (cidr, *tenant)));
            }
        }
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    // For each tenant the first one, by name, that it clashes with.
    let mut clashes: BTreeMap<&ResourceName, (&ResourceName, Cidr)> = BTreeMap::new();
    let mut around: Vec<(Cidr, &ResourceName)> = Vec::new();
    for (cidr, tenant) in prefixes {
        while around.last().is_some_and(|(outer, _)| !outer.covers(cidr)) {
            around.pop();
        }
        for (_, other) in around.iter().filter(|(_, other)| *other != tenant) {
            let (low, high) = (tenant.min(other), tenant.max(other));
            let clash = clashes.entry(high).or_insert((low, cidr));
            *clash = (*clash).min((low, cidr));
        }
        around.push((cidr, tenant));
    }
    for (tenant, (other, cidr)) in clashes {
        let path = format!("{}.function", users[tenant]);
        let message = format!(
            "network function {function} does not keep tenants' state apart, and tenants {other} and {tenant} both have {cidr}"
        );
        report.add(Kind::StateNotIsolated, path, message);
    }
}

/// A replica set is used in one graph of a tenant, so that a frame of an instance whose flow has no record belongs to one.
fn check_origins(desired: &Desired, report: &mut Report) {
    let mut origins: HashMap<(&ResourceName, &ResourceName, &ResourceName), &ObjectKey> = HashMap::new();
    for (key, graph) in &desired.graphs {
        for (index, node) in graph.nodes.iter().enumerate() {
            let graph_of_set = *origins.entry((&key.tenant, &node.function, &node.replica_set)).or_insert(key);
            if graph_of_set != key {
                let message = format!(
                    "replica set {} of {} is used in graph {} already: a frame from one of its instances must belong to one graph",
                    node.replica_set, node.function, graph_of_set.name
                );
                report.add(Kind::AmbiguousOrigin, format!("{}.replica_set", Place::Node(key, index)), message);
            }
        }
    }
}

/// Outside blocks of different functions that one tenant uses. Those of one function are compared with each other there.
fn check_outside(desired: &Desired, tenant: &ResourceName, report: &mut Report) {
    let names: BTreeSet<&ResourceName> =
        of_tenant(&desired.graphs, tenant).flat_map(|(_, graph)| &graph.nodes).map(|node| &node.function).collect();
    let functions: Vec<_> = names
        .into_iter()
        .filter_map(|name| desired.functions.get_key_value(name))
        .filter(|(_, function)| function.tuple != TupleEffect::Keeps)
        .collect();
    if functions.len() < 2 {
        return;
    }
    let mut claims = Vec::new();
    let mut places = Vec::new();
    for (function, f) in functions {
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
