//! Rules between resources: which of them the changes touch; unique numbers, ports and attachments.

use super::Changed;
use super::of_tenant;
use super::place::{GraphPlace, InstancePlace, Place, Version};
use super::resource::ports;
use super::usage::{self, Barred, Scope, Users};
use super::versions::AllVersions;
use super::violation::{Report, ViolationKind as Kind};
use crate::model::{Desired, Graph, Instance, NetworkFunction, ObjectKey, ResourceName, Tenancy, Versions, VlanId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use xdp_layout::{InstanceId, ReplicaSetId};

/// Checks the rules between resources that the changes touch. `tenants` own the graphs of which a version changed or names
/// something that did. Returns what draining versions must not do for their part.
pub(super) fn check<'a>(
    versions: AllVersions<'a>,
    changed: &Changed<'_>,
    tenants: &BTreeSet<&ResourceName>,
    users: &Users,
    report: &mut Report,
) -> Barred<'a> {
    let Changed { tenants: of_tenants, attachments, functions, graphs, versions: further } = changed;
    let desired = versions.desired;
    if of_tenants.iter().any(|c| c.renews(|tenant| tenant.id))
        || attachments.iter().any(|c| c.renews(|attachment| attachment.id))
        || graphs.iter().any(|c| c.renews(|graph| graph.id))
        || functions.iter().any(|c| c.renews(|function| function_ids(function)))
    {
        check_ids(desired, report);
    }
    if attachments.iter().any(|c| c.renews(|attachment| (attachment.interface.clone(), attachment.vlan)))
        || functions.iter().any(|c| c.renews(|function| (function.tenancy.clone(), interfaces(function))))
    {
        check_ports(desired, report);
    }
    let moved = graphs.iter().filter(|c| c.renews(|graph| (graph.client.clone(), graph.server.clone())));
    let moved: BTreeSet<&ObjectKey> = moved.map(|change| change.key).collect();
    for tenant in moved.iter().map(|key| &key.tenant).collect::<BTreeSet<_>>() {
        check_attachment_use(desired, tenant, report);
    }
    let remade = graphs.iter().filter(|c| c.renews(|graph| graph.nodes.clone())).map(|change| change.key);
    let remade = remade.chain(further.iter().filter(|c| c.renews(|versions| graphs_of(versions))).map(|c| c.key));
    let remade: BTreeSet<&ObjectKey> = remade.collect();
    let readdressed = attachments.iter().filter(|c| c.renews(|attachment| attachment.prefixes.clone()));
    let readdressed = readdressed.flat_map(|c| of_tenant(&desired.graphs, &c.key.tenant)).map(|(key, _)| key);
    let scope = Scope {
        functions: functions.iter().filter(|c| c.renews(|f| f.tenancy.clone())).map(|change| change.key).collect(),
        graphs: remade.iter().copied().chain(moved).chain(readdressed).collect(),
        is_tenant_lost: of_tenants.iter().any(|change| change.after.is_none()),
        users,
    };
    let mut barred = Barred::default();
    usage::check_sharing(versions, &scope, &mut barred, report);
    for tenant in remade.iter().map(|key| &key.tenant).collect::<BTreeSet<_>>() {
        usage::check_origins(versions, tenant, &mut barred, report);
    }
    for (key, _) in tenants.iter().filter_map(|tenant| of_tenant(&desired.graphs, tenant).next()) {
        usage::check_outside(versions, &key.tenant, &mut barred, report);
    }
    barred
}

/// A graph's further versions; their shares are of no account here.
fn graphs_of(versions: &Versions) -> (Option<Arc<Graph>>, Vec<Arc<Graph>>) {
    (versions.candidate.as_ref().map(|candidate| Arc::clone(&candidate.graph)), versions.draining.clone())
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

fn stable(key: &ObjectKey) -> GraphPlace<'_> {
    GraphPlace { key, version: Version::Stable }
}

fn check_ids(desired: &Desired, report: &mut Report) {
    unique(desired.tenants.iter().map(|(name, tenant)| (tenant.id.get(), Place::Tenant(name))), report);
    unique(desired.attachments.iter().map(|(key, a)| (a.id.get().into(), Place::Attachment(key))), report);
    unique(desired.graphs.iter().map(|(key, graph)| (graph.id.get().into(), Place::Graph(stable(key)))), report);
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

/// Candidates have their graph's attachments, and draining versions get no frames by their own.
fn check_attachment_use(desired: &Desired, tenant: &ResourceName, report: &mut Report) {
    let mut users: HashMap<&ResourceName, &ObjectKey> = HashMap::new();
    for (key, graph) in of_tenant(&desired.graphs, tenant) {
        for (side, names) in [("client", &graph.client), ("server", &graph.server)] {
            for (index, name) in names.iter().enumerate() {
                let user = *users.entry(name).or_insert(key);
                if user != key {
                    let message = format!("attachment {name} is used by graph {}", user.name);
                    report.add(Kind::AttachmentInUse, format!("{}.{side}[{index}]", stable(key)), message);
                }
            }
        }
    }
}
