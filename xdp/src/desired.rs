//! From an image to map entries: pure, apart from the interfaces it is given.

use crate::links::Links;
use chain_graph::Image;
use chain_graph::image::{InstanceImage, InstancePort, PortBinding, TenantImage};
use chain_graph::model::Side;
use state_sync::{PendingPort, PendingReason, PortOwner};
use std::collections::{BTreeMap, BTreeSet};
use xdp_layout::plan::{OriginKey, OutsideKey, OutsideOwners, RouteKey};
use xdp_layout::port::{
    EITHER_SIDE, Instance, OwnedKey, Port, PortKey, PortKind, TagKey, Target, instance_traits, target_flags,
};
use xdp_layout::{AttachmentId, InstanceId, TenantId};

/// A tenant's entries in the hashes and tries.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct TenantEntries {
    pub(crate) ports: BTreeMap<PortKey, Port>,
    pub(crate) tags: BTreeMap<TagKey, u32>,
    pub(crate) owned: BTreeMap<OwnedKey, u32>,
    pub(crate) origins: BTreeMap<OriginKey, u32>,
    pub(crate) routes: BTreeMap<(u8, RouteKey), u32>,
    pub(crate) outside: BTreeMap<(u8, OutsideKey), OutsideOwners>,
}

impl TenantEntries {
    /// Adds another tenant's entries.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.ports.extend(&other.ports);
        self.tags.extend(&other.tags);
        self.owned.extend(&other.owned);
        self.origins.extend(&other.origins);
        self.routes.extend(&other.routes);
        self.outside.extend(&other.outside);
    }
}

/// Where ports are on this node, and which are not there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placed {
    /// Destinations by attachment.
    pub(crate) attachments: BTreeMap<AttachmentId, Target>,
    /// Destinations by instance.
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    /// Interfaces that need the program, by index.
    pub(crate) interfaces: BTreeMap<u32, String>,
    /// Ports whose interface is missing or down.
    pub(crate) pending: BTreeSet<PendingPort>,
}

fn target(links: &Links, interface: &str, owner: PortOwner, placed: &mut Placed) -> Target {
    let Some(link) = links.get(interface) else {
        let interface = interface.to_owned();
        placed.pending.insert(PendingPort { owner, interface, reason: PendingReason::Missing });
        return Target { flags: target_flags::EXISTS, ..Target::default() };
    };
    placed.interfaces.insert(link.index, interface.to_owned());
    if !link.is_up {
        let interface = interface.to_owned();
        placed.pending.insert(PendingPort { owner, interface, reason: PendingReason::Down });
    }
    let bits =
        [(true, target_flags::EXISTS), (link.is_up, target_flags::UP), (link.leads_elsewhere, target_flags::PEER)];
    Target {
        ifindex: link.index,
        tenant: 0,
        vlan: 0,
        flags: bits.iter().filter(|(holds, _)| *holds).fold(0, |flags, (_, bit)| flags | bit),
        node: 0,
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
    }
}

/// Finds every attachment's and used instance's interfaces.
pub(crate) fn place(image: &Image, links: &Links) -> Placed {
    let mut placed = Placed::default();
    for tenant in image.tenants().values() {
        for (id, attachment) in tenant.attachments() {
            let mut target = target(links, &attachment.interface, PortOwner::Attachment(*id), &mut placed);
            target.tenant = tenant.id().get();
            target.vlan = attachment.vlan.map_or(0, |vlan| vlan.get());
            placed.attachments.insert(*id, target);
        }
    }
    for function in image.functions().values() {
        for (id, instance) in function.instances() {
            let side = |port: &InstancePort, placed: &mut Placed| {
                let mut target = target(links, &port.interface, PortOwner::Instance(*id), placed);
                target.tenant = instance.tenant.map_or(0, TenantId::get);
                target
            };
            let ports = [side(&instance.ports[0], &mut placed), side(&instance.ports[1], &mut placed)];
            let entry = Instance {
                ports,
                macs: [instance.ports[0].mac.0, instance.ports[1].mac.0],
                traits: instance.traits,
                replica_set: instance.replica_set.get(),
                reserved: [0; 8],
            };
            placed.instances.insert(*id, entry);
        }
    }
    placed
}

/// A tenant's entries. Ports whose interface is missing are left out.
pub(crate) fn entries(
    tenant: &TenantImage,
    instances: &BTreeMap<InstanceId, &InstanceImage>,
    links: &Links,
) -> TenantEntries {
    let id = tenant.id().get();
    let mut entries = TenantEntries::default();
    for (name, binding) in tenant.ports() {
        let Some(link) = links.get(&*name.interface) else {
            continue;
        };
        let key = PortKey { ifindex: link.index, vlan: name.vlan.map_or(0, |vlan| u32::from(vlan.get())) };
        entries.ports.insert(key, port(id, binding, instances));
    }
    for (instance, vlan) in tenant.tags() {
        entries.tags.insert(TagKey { tenant: id, instance: u32::from(instance.get()) }, u32::from(vlan.get()));
    }
    for addr in tenant.owned() {
        entries.owned.insert(OwnedKey { addr: *addr, tenant: id }, 1);
    }
    for (set, graph) in tenant.origins() {
        let key = OriginKey { tenant: id, replica_set: u32::from(set.get()) };
        entries.origins.insert(key, u32::from(graph.get()));
    }
    for (route, attachment) in tenant.routes() {
        let key = RouteKey {
            graph: route.graph.get().to_be_bytes(),
            side: route.side as u8,
            reserved: 0,
            addr: route.prefix.addr(),
        };
        let attachment = attachment.map_or(0, |attachment| u32::from(attachment.get()));
        entries.routes.insert((route.prefix.length(), key), attachment);
    }
    for (prefix, owners) in tenant.outside() {
        let key = OutsideKey { tenant: id.to_be_bytes(), addr: prefix.addr() };
        entries.outside.insert((prefix.length(), key), *owners);
    }
    entries
}

fn port(tenant: u32, binding: &PortBinding, instances: &BTreeMap<InstanceId, &InstanceImage>) -> Port {
    match binding {
        PortBinding::Attachment { id, side, graph } => Port {
            tenant,
            kind: PortKind::Attachment as u8,
            side: *side as u8,
            id: id.get(),
            graph: graph.map_or(0, |graph| u32::from(graph.get())),
        },
        PortBinding::Instance { id, side } => {
            let one_armed = instances.get(id).is_some_and(|i| i.traits & instance_traits::ONE_ARMED != 0);
            let side = match side {
                _ if one_armed => EITHER_SIDE,
                Side::Client => 0,
                Side::Server => 1,
            };
            Port { tenant, kind: PortKind::Instance as u8, side, id: id.get(), graph: 0 }
        }
    }
}
