//! Network functions in an image.

use crate::map::Map;
use crate::model::{
    Forwarding, Instance, MacAddr, NetworkFunction, ReplicaSet, ResourceName, Side, Tenancy, TupleEffect,
};
use crate::plan::{Member, Members};
use maglev::{SizeError, TableSize};
use std::collections::BTreeMap;
use std::sync::Arc;
use xdp_layout::port::instance_traits;
use xdp_layout::{InstanceId, ReplicaSetId, TenantId};

/// A network function's instances and members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FunctionImage {
    pub(super) source: Arc<NetworkFunction>,
    pub(super) tenant: Option<TenantId>,
    pub(super) instances: BTreeMap<InstanceId, InstanceImage>,
    pub(super) members: BTreeMap<ReplicaSetId, Arc<Members>>,
}

/// An instance as a destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstanceImage {
    /// Its name in the replica set.
    pub name: ResourceName,
    /// The replica set.
    pub replica_set: ReplicaSetId,
    /// [`instance_traits`], `DOWN` included.
    pub traits: u16,
    /// Its ports by [`Side`]: inside, outside. Equal for a one-armed instance.
    pub ports: [InstancePort; 2],
    /// The one tenant it serves; `None` for a shared instance and one that no graph uses.
    pub tenant: Option<TenantId>,
}

/// A port of an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstancePort {
    /// Name of the interface.
    pub interface: Arc<str>,
    /// The instance's own MAC address behind it.
    pub mac: MacAddr,
}

impl FunctionImage {
    /// `tenant` is the user of an exclusive function. Members that equal those in `known` are taken from there.
    pub(super) fn new(
        source: &Arc<NetworkFunction>,
        tenant: Option<TenantId>,
        known: &Map<ReplicaSetId, Arc<Members>>,
    ) -> Result<Self, SizeError> {
        let mut instances = BTreeMap::new();
        let mut members = BTreeMap::new();
        for set in source.replica_sets.values() {
            for instance in set.instances.values() {
                instances.insert(instance.id, instance_image(source, set, instance, tenant));
            }
            let fresh = members_of(set)?;
            let shared = known.get(&set.id).filter(|known| ***known == fresh).cloned();
            members.insert(set.id, shared.unwrap_or_else(|| Arc::new(fresh)));
        }
        Ok(Self { source: Arc::clone(source), tenant, instances, members })
    }

    /// The function's name.
    pub fn name(&self) -> &ResourceName {
        &self.source.name
    }

    /// The tenant whose graphs use it, for an exclusive function.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// Instances of all its replica sets.
    pub fn instances(&self) -> &BTreeMap<InstanceId, InstanceImage> {
        &self.instances
    }

    /// Members of all its replica sets.
    pub fn members(&self) -> &BTreeMap<ReplicaSetId, Arc<Members>> {
        &self.members
    }
}

fn members_of(set: &ReplicaSet) -> Result<Members, SizeError> {
    let size = TableSize::for_max_members(set.max_members.into())?;
    let members = set.instances.values();
    let members = members.map(|i| Member { name: i.name.clone(), instance: i.id, weight: i.weight });
    Ok(Members::new(size, members.collect()))
}

fn instance_image(
    function: &NetworkFunction,
    set: &ReplicaSet,
    instance: &Instance,
    tenant: Option<TenantId>,
) -> InstanceImage {
    let traits = [
        (instance.down, instance_traits::DOWN),
        (function.forwarding == Forwarding::Routed, instance_traits::ROUTED),
        (instance.ports.is_one_armed(), instance_traits::ONE_ARMED),
        (matches!(function.tenancy, Tenancy::Tagged { .. }), instance_traits::TAGGED),
        (function.tuple == TupleEffect::Changes, instance_traits::CHANGES_TUPLE),
        (function.tuple == TupleEffect::Ends, instance_traits::ENDS_FLOW),
    ];
    InstanceImage {
        name: instance.name.clone(),
        replica_set: set.id,
        traits: traits.iter().filter(|(holds, _)| *holds).fold(0, |traits, (_, bit)| traits | bit),
        ports: [Side::Client, Side::Server].map(|side| {
            let port = instance.ports.at(side);
            InstancePort { interface: port.interface.as_str().into(), mac: port.mac }
        }),
        tenant,
    }
}
