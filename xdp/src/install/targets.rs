//! Interfaces that need the program, and destinations.

use super::Installer;
use crate::desired::Placed;
use crate::error::{Result, describe};
use crate::expedite::Expedited;
use crate::links::Links;
use crate::loader::{Hook, Loader};
use chain_graph::Image;
use chain_graph::map::{Change, changes};
use state_sync::{PendingPort, PendingReason};
use std::collections::BTreeMap;
use std::sync::Arc;
use xdp_layout::port::{Instance, Target, target_flags};
use xdp_layout::{AttachmentId, InstanceId};

impl Installer {
    /// Finds the ports of an image on these interfaces.
    pub(crate) fn place(&self, image: &Image, links: &Arc<Links>) -> Placed {
        match self.image.as_deref().filter(|_| self.has_seen(links)) {
            Some(before) => {
                let mut placed = self.placed.clone();
                let tenants = changes(before.tenants(), image.tenants());
                placed.follow(&tenants, &changes(before.functions(), image.functions()), links);
                placed
            }
            None => Placed::of(image, links),
        }
    }

    /// Puts the program on interfaces that do not have it. One that cannot have it is a pending port, not a failed install.
    pub(super) fn attach(
        &self,
        image: &Image,
        placed: Placed,
        links: &Arc<Links>,
        loader: &mut Loader,
    ) -> (Placed, Arc<Links>) {
        let interfaces = changes(&self.placed.interfaces, &placed.interfaces);
        let fresh = interfaces.iter().filter(|change| change.renews(|interface| interface.name.clone()));
        let fresh: Vec<_> = fresh.filter_map(|change| Some((*change.key, &*change.after?.name))).collect();
        let _expedited = Expedited::for_interfaces(fresh.len());
        let mut refused = BTreeMap::new();
        for (ifindex, name) in fresh {
            if let Err(error) = loader.attach(name, ifindex, Hook::Port) {
                refused.insert(name.to_owned(), describe("attach", &error).cause);
            }
        }
        if refused.is_empty() {
            return (placed, Arc::clone(links));
        }
        let mut links = Links::clone(links);
        links.retain(|name, _| !refused.contains_key(name));
        let mut placed = Placed::of(image, &links);
        let missing: Vec<PendingPort> =
            placed.pending.iter().filter(|p| refused.contains_key(&p.interface)).cloned().collect();
        for port in missing {
            let reason = PendingReason::Attach(refused[&port.interface].clone());
            placed.pending.remove(&port);
            placed.pending.insert(PendingPort { reason, ..port });
        }
        (placed, Arc::new(links))
    }

    /// The destinations that are others than what is there.
    pub(super) fn retargeted(&self, placed: &Placed) -> Retargeted {
        let mut attachments = differing(changes(&self.placed.attachments, &placed.attachments));
        let mut instances = differing(changes(&self.placed.instances, &placed.instances));
        if self.image.is_none() {
            // An install that failed may have written others.
            for (id, target) in &placed.attachments {
                attachments.insert(*id, (self.maps.attachments.read(id.get().into()), *target));
            }
            for (id, instance) in &placed.instances {
                instances.insert(*id, (self.maps.instances.read(id.get().into()), *instance));
            }
        }
        Retargeted { attachments, instances }
    }

    /// Writes destinations that the plan in force does not use, or for which it is the same. The others are left.
    pub(super) fn write_unused(&mut self, Retargeted { attachments, instances }: &mut Retargeted) {
        attachments.retain(|id, (old, new)| {
            let is_left = !is_harmless(old, new);
            if !is_left {
                self.maps.attachments.write(id.get().into(), &[*new]);
            }
            is_left
        });
        instances.retain(|id, (old, new)| {
            let is_left = !is_harmless_instance(old, new);
            if !is_left {
                self.maps.instances.write(id.get().into(), &[*new]);
            }
            is_left
        });
    }

    /// Writes destinations that the plan before knew otherwise. One that moves to another interface, VLAN or tenant is closed
    /// for a grace period first: a program that copies it meanwhile must not get half of each.
    pub(super) fn write_retargeted(&mut self, Retargeted { attachments, instances }: Retargeted) -> Result<()> {
        let mut is_moving = false;
        for (id, (old, _)) in attachments.iter().filter(|(_, (old, new))| moves(old, new)) {
            self.maps.attachments.write(id.get().into(), &[closed(old)]);
            is_moving = true;
        }
        for (id, (old, _)) in instances.iter().filter(|(_, (old, new))| moves_instance(old, new)) {
            let ports = old.ports.each_ref().map(closed);
            self.maps.instances.write(id.get().into(), &[Instance { ports, ..*old }]);
            is_moving = true;
        }
        if is_moving {
            self.grace.wait(self.grace.mark())?;
        }
        for (id, (_, target)) in attachments {
            self.maps.attachments.write(id.get().into(), &[target]);
        }
        for (id, (_, instance)) in instances {
            self.maps.instances.write(id.get().into(), &[instance]);
        }
        Ok(())
    }

    /// Clears destinations that are not placed any more, whose records are picked anew, and takes the program off interfaces
    /// that need it no more.
    pub(super) fn leave(&mut self, placed: Placed, loader: &mut Loader) -> Result<()> {
        let gone = changes(&self.placed.attachments, &placed.attachments);
        for id in gone.iter().filter(|change| change.after.is_none()).map(|change| change.key) {
            self.maps.attachments.write(id.get().into(), &[Target::default()]);
        }
        let gone = changes(&self.placed.instances, &placed.instances);
        for id in gone.iter().filter(|change| change.after.is_none()).map(|change| change.key) {
            self.maps.instances.write(id.get().into(), &[Instance::default()]);
        }
        let gone = changes(&self.placed.interfaces, &placed.interfaces);
        for ifindex in gone.iter().filter(|change| change.after.is_none()).map(|change| change.key) {
            loader.detach(*ifindex, Hook::Port)?;
        }
        self.placed = placed;
        Ok(())
    }
}

/// Destinations: what is there and what shall be.
pub(super) struct Retargeted {
    attachments: BTreeMap<AttachmentId, (Target, Target)>,
    instances: BTreeMap<InstanceId, (Instance, Instance)>,
}

fn differing<K: Ord + Copy, V: Copy + Default>(changes: Vec<Change<'_, K, V>>) -> BTreeMap<K, (V, V)> {
    let to_write = changes.iter().filter_map(|change| Some((change, *change.after?)));
    to_write.map(|(change, after)| (*change.key, (change.before.copied().unwrap_or_default(), after))).collect()
}

/// Whether frames would go elsewhere, or to another tenant. One that gets or loses its only tenant stays where it is.
fn moves(old: &Target, new: &Target) -> bool {
    let is_passed_on = old.tenant != new.tenant && old.tenant != 0 && new.tenant != 0;
    old.flags != 0 && ((old.ifindex, old.vlan) != (new.ifindex, new.vlan) || is_passed_on)
}

fn moves_instance(old: &Instance, new: &Instance) -> bool {
    (0..2).any(|side| moves(&old.ports[side], &new.ports[side]))
}

/// Whether no frame of the plan in force can tell the two apart, apart from what the interface itself tells.
fn is_harmless(old: &Target, new: &Target) -> bool {
    !moves(old, new) && (old.flags == 0 || old.tenant == 0 || old.tenant == new.tenant)
}

fn is_harmless_instance(old: &Instance, new: &Instance) -> bool {
    let is_unused = old.ports.iter().all(|port| port.flags == 0 || port.tenant == 0);
    let is_same = (old.macs, old.traits, old.replica_set) == (new.macs, new.traits, new.replica_set);
    (is_unused || is_same) && (0..2).all(|side| is_harmless(&old.ports[side], &new.ports[side]))
}

/// A destination that takes no frames and is not gone: flows stay pinned to it.
fn closed(old: &Target) -> Target {
    Target { ifindex: 0, flags: target_flags::EXISTS, ..*old }
}
