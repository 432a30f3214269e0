//! From an image to map entries: pure, apart from the interfaces it is given.

use crate::links::Links;
use chain_graph::Image;
use chain_graph::image::{FunctionImage, PortBinding, TenantImage};
use chain_graph::map::{Change, Map};
use chain_graph::model::{ResourceName, Side};
use imbl::OrdSet;
use state_sync::{PendingPort, PendingReason, PortOwner};
use std::collections::BTreeMap;
use std::sync::Arc;
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
    pub(crate) attachments: Map<AttachmentId, Target>,
    /// Destinations by instance.
    pub(crate) instances: Map<InstanceId, Instance>,
    /// Interfaces that need the program, by index.
    pub(crate) interfaces: Map<u32, Interface>,
    /// Ports whose interface is missing or down.
    pub(crate) pending: OrdSet<PendingPort>,
}

/// An interface that needs the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Interface {
    pub(crate) name: Arc<str>,
    /// Ports on it.
    ports: u32,
}

/// Where a port is.
struct Found {
    target: Target,
    pending: Option<PendingPort>,
}

fn find(links: &Links, interface: &str, owner: PortOwner) -> Found {
    let pending = |reason| Some(PendingPort { owner, interface: interface.to_owned(), reason });
    let Some(link) = links.get(interface) else {
        let target = Target { flags: target_flags::EXISTS, ..Target::default() };
        return Found { target, pending: pending(PendingReason::Missing) };
    };
    let bits = [
        (true, target_flags::EXISTS),
        (link.is_up, target_flags::UP),
        (link.leads_elsewhere, target_flags::PEER),
        (link.keeps_mark, target_flags::CLAIM),
    ];
    let target = Target {
        ifindex: link.index,
        tenant: 0,
        vlan: 0,
        flags: bits.iter().filter(|(holds, _)| *holds).fold(0, |flags, (_, bit)| flags | bit),
        node: 0,
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
    };
    Found { target, pending: if link.is_up { None } else { pending(PendingReason::Down) } }
}

impl Placed {
    /// Finds every attachment's and every instance's interfaces.
    pub(crate) fn of(image: &Image, links: &Links) -> Self {
        let mut placed = Self::default();
        image.tenants().values().for_each(|tenant| placed.enter_tenant(tenant, links));
        image.functions().values().for_each(|function| placed.enter_function(function, links));
        placed
    }

    /// Follows from one image to another, on the same interfaces. What is gone goes first: ids and interfaces may pass on.
    /// Whose destinations are the same stays.
    pub(crate) fn follow<'a>(
        &mut self,
        tenants: &[Change<'a, TenantId, Arc<TenantImage>>],
        functions: &[Change<'a, ResourceName, Arc<FunctionImage>>],
        links: &Links,
    ) {
        let attached = |tenant: Option<&'a Arc<TenantImage>>| tenant.map(|tenant| tenant.attachments());
        let tenants = tenants.iter().filter(|c| attached(c.before) != attached(c.after));
        let reached = |function: Option<&'a Arc<FunctionImage>>| function.map(|function| function.instances());
        let functions = functions.iter().filter(|c| reached(c.before) != reached(c.after));
        tenants.clone().filter_map(|change| change.before).for_each(|tenant| self.leave_tenant(tenant, links));
        functions.clone().filter_map(|change| change.before).for_each(|function| self.leave_function(function, links));
        tenants.filter_map(|change| change.after).for_each(|tenant| self.enter_tenant(tenant, links));
        functions.filter_map(|change| change.after).for_each(|function| self.enter_function(function, links));
    }

    fn enter_tenant(&mut self, tenant: &TenantImage, links: &Links) {
        for (id, attachment) in tenant.attachments() {
            let mut target = self.enter(links, &attachment.interface, PortOwner::Attachment(*id));
            target.tenant = tenant.id().get();
            target.vlan = attachment.vlan.map_or(0, |vlan| vlan.get());
            self.attachments.insert(*id, target);
        }
    }

    fn leave_tenant(&mut self, tenant: &TenantImage, links: &Links) {
        for (id, attachment) in tenant.attachments() {
            self.leave(links, &attachment.interface, PortOwner::Attachment(*id));
            self.attachments.remove(id);
        }
    }

    fn enter_function(&mut self, function: &FunctionImage, links: &Links) {
        for (id, instance) in function.instances() {
            let ports = instance.ports.each_ref().map(|port| {
                let mut target = self.enter(links, &port.interface, PortOwner::Instance(*id));
                target.tenant = instance.tenant.map_or(0, TenantId::get);
                target
            });
            let entry = Instance {
                ports,
                macs: [instance.ports[0].mac.0, instance.ports[1].mac.0],
                traits: instance.traits,
                replica_set: instance.replica_set.get(),
                reserved: [0; 8],
            };
            self.instances.insert(*id, entry);
        }
    }

    fn leave_function(&mut self, function: &FunctionImage, links: &Links) {
        for (id, instance) in function.instances() {
            for port in &instance.ports {
                self.leave(links, &port.interface, PortOwner::Instance(*id));
            }
            self.instances.remove(id);
        }
    }

    fn enter(&mut self, links: &Links, interface: &str, owner: PortOwner) -> Target {
        let Found { target, pending } = find(links, interface, owner);
        self.pending.extend(pending);
        if target.ifindex != 0 {
            let nothing = || Interface { name: interface.into(), ports: 0 };
            self.interfaces.entry(target.ifindex).or_insert_with(nothing).ports += 1;
        }
        target
    }

    fn leave(&mut self, links: &Links, interface: &str, owner: PortOwner) {
        let target = find(links, interface, owner).target;
        // Whatever it waits for: an interface that could not have the program may be missing by now.
        let waits = |port: &&PendingPort| port.owner == owner && port.interface == interface;
        if let Some(pending) = self.pending.iter().find(waits).cloned() {
            self.pending.remove(&pending);
        }
        if let Some(known) = self.interfaces.get_mut(&target.ifindex) {
            known.ports -= 1;
            if known.ports == 0 {
                self.interfaces.remove(&target.ifindex);
            }
        }
    }
}

/// A tenant's entries. Ports whose interface is missing are left out.
pub(crate) fn entries(tenant: &TenantImage, placed: &Placed, links: &Links) -> TenantEntries {
    let id = tenant.id().get();
    let mut entries = TenantEntries::default();
    for (name, binding) in tenant.ports() {
        let Some(link) = links.get(&*name.interface) else {
            continue;
        };
        let key = PortKey { ifindex: link.index, vlan: name.vlan.map_or(0, |vlan| u32::from(vlan.get())) };
        entries.ports.insert(key, port(id, binding, placed));
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

fn port(tenant: u32, binding: &PortBinding, placed: &Placed) -> Port {
    match binding {
        PortBinding::Attachment { id, side, graph } => Port {
            tenant,
            kind: PortKind::Attachment as u8,
            side: *side as u8,
            id: id.get(),
            graph: graph.map_or(0, |graph| u32::from(graph.get())),
        },
        PortBinding::Instance { id, side } => {
            let one_armed = placed.instances.get(id).is_some_and(|i| i.traits & instance_traits::ONE_ARMED != 0);
            let side = match side {
                _ if one_armed => EITHER_SIDE,
                Side::Client => 0,
                Side::Server => 1,
            };
            Port { tenant, kind: PortKind::Instance as u8, side, id: id.get(), graph: 0 }
        }
    }
}
