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
use xdp_layout::port::{Instance, Target};

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

    /// Writes destinations. One that moves to another interface or VLAN is closed for a grace period first: a program that
    /// copies it meanwhile must not get half of each.
    pub(super) fn write_targets(&mut self, placed: &Placed) -> Result<()> {
        let mut attachments = written(changes(&self.placed.attachments, &placed.attachments));
        let mut instances = written(changes(&self.placed.instances, &placed.instances));
        if self.image.is_none() {
            // An install that failed may have written others.
            for (id, target) in &placed.attachments {
                attachments.insert(*id, (self.maps.attachments.read(id.get().into()), *target));
            }
            for (id, instance) in &placed.instances {
                instances.insert(*id, (self.maps.instances.read(id.get().into()), *instance));
            }
        }
        let mut is_moving = false;
        for (id, _) in attachments.iter().filter(|(_, (old, new))| moves(old, new)) {
            self.maps.attachments.write(id.get().into(), &[Target::default()]);
            is_moving = true;
        }
        let moved = |(old, new): &(Instance, Instance)| (0..2).any(|side| moves(&old.ports[side], &new.ports[side]));
        for (id, _) in instances.iter().filter(|(_, change)| moved(change)) {
            self.maps.instances.write(id.get().into(), &[Instance::default()]);
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

/// What is there and what shall be.
fn written<K: Ord + Copy, V: Copy + Default>(changes: Vec<Change<'_, K, V>>) -> BTreeMap<K, (V, V)> {
    let to_write = changes.iter().filter_map(|change| Some((change, *change.after?)));
    to_write.map(|(change, after)| (*change.key, (change.before.copied().unwrap_or_default(), after))).collect()
}

fn moves(old: &Target, new: &Target) -> bool {
    old.flags != 0 && (old.ifindex, old.vlan, old.tenant) != (new.ifindex, new.vlan, new.tenant)
}
