//! What a rollout is told of its views: whether replicas are ready, how they are, and whether they have room.

use crate::dataplane::{Census, PendingPort, PortOwner, ViewCensus, ViewCounters};
use crate::state::DesiredState;
use chain_graph::model::{Instance, ObjectKey, ReplicaSet};
use chain_graph::rollout::{CapacityReport, Counters, Health, Sequence, SetLoad, Share};
use std::collections::BTreeMap;
use xdp_layout::{InstanceId, ReplicaSetId, TenantId, ViewId};

/// The tenant of a graph.
pub(super) fn tenant(state: &DesiredState, key: &ObjectKey) -> Option<TenantId> {
    Some(state.desired.tenants.get(&key.tenant)?.id)
}

/// The replica sets that a view names.
fn sets<'a>(state: &'a DesiredState, key: &ObjectKey, view: ViewId) -> BTreeMap<ReplicaSetId, &'a ReplicaSet> {
    let made = state.lineages.get(key).and_then(|lineage| lineage.made.get(&view));
    let nodes = made.into_iter().flat_map(|made| &made.graph.nodes);
    let sets =
        nodes.filter_map(|node| state.desired.functions.get(&node.function)?.replica_sets.get(&node.replica_set));
    sets.map(|set| (set.id, set)).collect()
}

/// Whether an instance takes new flows.
fn is_live(instance: &Instance, pending: &[PendingPort]) -> bool {
    instance.weight > 0 && !is_down(instance, pending)
}

fn is_down(instance: &Instance, pending: &[PendingPort]) -> bool {
    instance.down || pending.iter().any(|port| port.owner == PortOwner::Instance(instance.id))
}

/// Why the replicas of a view are not ready; `None` if they are. Those that are declared down are not waited for.
pub(super) fn unready(state: &DesiredState, key: &ObjectKey, view: ViewId, pending: &[PendingPort]) -> Option<String> {
    let sets = sets(state, key, view);
    let wanted = |owner: PortOwner| {
        let mut instances = sets.values().flat_map(|set| set.instances.values());
        instances.any(|instance| owner == PortOwner::Instance(instance.id) && !instance.down)
    };
    let ports = pending.iter().filter(|port| wanted(port.owner));
    let ports = ports.map(|port| format!("{}: {}", port.interface, port.reason));
    let empty = sets.values().filter(|set| !set.instances.values().any(|instance| is_live(instance, pending)));
    let empty = empty.map(|set| format!("replica set {} ({}) has no live member", set.name, set.id));
    let reasons: Vec<String> = ports.chain(empty).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// How the instances of a view are.
pub(super) fn health(state: &DesiredState, key: &ObjectKey, view: ViewId, pending: &[PendingPort]) -> Health {
    let sets = sets(state, key, view);
    let instances: Vec<&Instance> = sets.values().flat_map(|set| set.instances.values()).collect();
    let down = instances.iter().filter(|instance| is_down(instance, pending)).count();
    let narrow = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    Health { instances: narrow(instances.len()), down: narrow(down) }
}

/// The share of the new flows that a view has in a plan.
fn share(state: &DesiredState, key: &ObjectKey, view: ViewId) -> Option<Share> {
    let active = state.image.plan().content().graphs.get(&state.desired.graphs.get(key)?.id)?;
    let canary = active.canary.filter(|canary| canary.view.id == view).map(|canary| Share::new(canary.share));
    Some(if active.stable.id == view { Share::ALL } else { canary.unwrap_or(Share::NONE) })
}

/// The load and the room of the stable view, were the flows of `target` to return. `in_force` is what the data path runs.
///
/// A set that both views name has the candidate's flows already: they do not come on top.
pub(super) fn capacity(
    state: &DesiredState,
    in_force: &DesiredState,
    (key, sequence): (&ObjectKey, Sequence),
    (stable, target): (ViewId, ViewId),
    (census, pending): (&Census, &[PendingPort]),
) -> Option<CapacityReport> {
    let tenant = tenant(state, key)?;
    let nothing = ViewCensus::default();
    let of = |view: ViewId| census.views.get(&(tenant, view)).unwrap_or(&nothing);
    let (stable_flows, candidate_flows) = (of(stable), of(target));
    let load = |(id, set): (ReplicaSetId, &ReplicaSet)| {
        let by = |view: &ViewCensus| -> u64 {
            let of = |instance: &Instance| view.instances.get(&instance.id).copied().unwrap_or(0);
            set.instances.values().map(of).sum()
        };
        SetLoad {
            set: id,
            flows: census.views.values().map(by).sum(),
            own: by(stable_flows),
            returning: candidate_flows.records.saturating_sub(by(candidate_flows)),
            capacity: declared(set, pending),
            serving: is_serving(state, in_force, set, pending),
        }
    };
    let sets = sets(state, key, stable).into_iter().map(load).collect();
    Some(CapacityReport { sequence, share: share(in_force, key, target)?, sets })
}

/// Flows that the live members are sized for; `None` unless all of them declare it.
fn declared(set: &ReplicaSet, pending: &[PendingPort]) -> Option<u64> {
    let live = set.instances.values().filter(|instance| is_live(instance, pending));
    live.map(|instance| (instance.max_flows > 0).then_some(u64::from(instance.max_flows))).sum()
}

/// Whether the table in force has the set's members, and one of them is live.
fn is_serving(state: &DesiredState, in_force: &DesiredState, set: &ReplicaSet, pending: &[PendingPort]) -> bool {
    let members = |state: &DesiredState| state.image.plan().content().replica_sets.get(&set.id).map(|m| m.digest());
    let down = |instance: &InstanceId| in_force.image.down().contains(instance);
    let mut instances = set.instances.values();
    members(state) == members(in_force) && instances.any(|instance| is_live(instance, pending) && !down(&instance.id))
}

impl From<ViewCounters> for Counters {
    fn from(ViewCounters { flows, tcp_flows, tcp_resets, frames, dropped }: ViewCounters) -> Self {
        Self { flows, tcp_flows, tcp_resets, frames, dropped }
    }
}
