//! Writes images into the maps: what is new first, then one word that switches, then what is gone.

use crate::desired::{self, Placed, TenantEntries};
use crate::error::{Error, Result};
use crate::links::Links;
use crate::loader::{Hook, Loader};
use crate::maps::{IDS, Maps, Table};
use crate::regions::Regions;
use crate::sys;
use aya::Pod;
use chain_graph::image::TenantImage;
use chain_graph::{BuiltTable, Image, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xdp_layout::plan::{
    ActiveWord, BANK_WORDS, BANKS, EDGES_MAX, Edge, GRAPHS_MAX, GraphWord, NODES_MAX, Node, NodeKey, PAGE_SLOTS,
    PAGES_MAX, REPLICA_SETS_MAX, TARGET_EXIT, TableWord, VIEW_SLOTS_MAX, ViewKey,
};
use xdp_layout::port::{Instance, Target, Tenant, Usage};
use xdp_layout::{AttachmentId, InstanceId, ReplicaSetId, TenantId, ViewId};

/// Where an installed view lies.
#[derive(Clone, Copy, Debug)]
struct ViewPlace {
    slot: u32,
    nodes: (u32, u32),
    edges: (u32, u32),
}

/// Space that may be reused once no program can still read it.
enum Freed {
    Pages(u32, u32),
    View(ViewPlace),
}

/// The writer's memory of what the maps hold.
pub(crate) struct Installer {
    pub(crate) maps: Maps,
    tenants: BTreeMap<TenantId, (Arc<TenantImage>, TenantEntries)>,
    views: BTreeMap<(TenantId, ViewId), ViewPlace>,
    tables: BTreeMap<ReplicaSetId, (Arc<BuiltTable>, TableWord)>,
    placed: Placed,
    slots: Regions,
    nodes: Regions,
    edges: Regions,
    pages: Regions,
    active: ActiveWord,
    freed: Vec<Freed>,
    /// Installs since the last grace period; a bank comes round after [`BANKS`].
    flips: u32,
}

impl Installer {
    /// Takes over the maps. What a plan in force leads to keeps its place until the first install replaces it.
    pub(crate) fn new(maps: Maps) -> Result<Self> {
        let active = ActiveWord(maps.active.read(0));
        let mut installer = Self {
            maps,
            tenants: BTreeMap::new(),
            views: BTreeMap::new(),
            tables: BTreeMap::new(),
            placed: Placed::default(),
            slots: Regions::new(1, VIEW_SLOTS_MAX),
            nodes: Regions::new(0, NODES_MAX),
            edges: Regions::new(0, EDGES_MAX),
            pages: Regions::new(0, PAGES_MAX * PAGE_SLOTS),
            active,
            freed: Vec::new(),
            // Everything may be read by programs that run since before this process.
            flips: BANKS,
        };
        installer.recover()?;
        Ok(installer)
    }

    /// Generation of the plan in force, 0 for none.
    pub(crate) fn generation(&self) -> u64 {
        self.active.generation()
    }

    /// Reads from the maps what is in use: installed views with all they lead to, tables of the active bank.
    fn recover(&mut self) -> Result<()> {
        for (key, slot) in self.maps.view_slots.all()? {
            let view: xdp_layout::plan::View = self.maps.views.read(slot as usize);
            let (Some(tenant), Some(id)) = (TenantId::new(key.tenant), ViewId::new(key.view)) else {
                continue;
            };
            let mut place = ViewPlace { slot, nodes: (u32::MAX, 0), edges: (view.first_edge, 0) };
            let mut waiting = vec![view.first_edge];
            let mut seen = BTreeSet::new();
            while let Some(first) = waiting.pop() {
                let mut index = first;
                while index < EDGES_MAX && seen.insert(index) {
                    let edge: Edge = self.maps.edges.read(index as usize);
                    place.edges = (place.edges.0.min(index), place.edges.1.max(index + 1));
                    if edge.target != TARGET_EXIT && edge.target < NODES_MAX {
                        let node: Node = self.maps.nodes.read(edge.target as usize);
                        place.nodes = (place.nodes.0.min(edge.target), place.nodes.1.max(edge.target + 1));
                        waiting.push(node.first_edge);
                    }
                    index += 1;
                    if edge.last != 0 {
                        break;
                    }
                }
            }
            place.edges.1 -= place.edges.0.min(place.edges.1);
            place.nodes = if place.nodes.1 == 0 { (0, 0) } else { (place.nodes.0, place.nodes.1 - place.nodes.0) };
            self.slots.claim(slot, 1);
            self.nodes.claim(place.nodes.0, place.nodes.1);
            self.edges.claim(place.edges.0, place.edges.1);
            self.views.insert((tenant, id), place);
        }
        let bank = (self.active.bank() * BANK_WORDS) as usize;
        for set in 1..REPLICA_SETS_MAX as usize {
            let word = TableWord(self.maps.plan.read(bank + set));
            if word.0 != 0 {
                self.pages.claim(word.start(), word.size() + word.members());
            }
        }
        Ok(())
    }

    /// Makes the maps say what the image says.
    pub(crate) fn install(&mut self, image: &Arc<Image>, links: &Links, loader: &mut Loader) -> Result<Placed> {
        let placed = desired::place(image, links);
        for (ifindex, name) in &placed.interfaces {
            if !self.placed.interfaces.contains_key(ifindex) {
                loader.attach(name, *ifindex, Hook::Port)?;
            }
        }
        self.write_targets(&placed);
        self.write_tenants(image)?;
        let tables = self.write_tables(image)?;
        let views = self.write_views(image)?;
        // Entries may change for every tenant when instances or interfaces did; comparing them is cheap where not.
        let instances: BTreeMap<_, _> =
            image.functions().values().flat_map(|f| f.instances()).map(|(id, i)| (*id, i)).collect();
        for (id, tenant) in image.tenants() {
            let fresh = desired::entries(tenant, &instances, links);
            let old = self.tenants.get(id).map(|(_, old)| old.clone()).unwrap_or_default();
            self.write_entries(&old, &fresh)?;
            self.tenants.insert(*id, (Arc::clone(tenant), fresh));
        }
        self.switch(image, &tables)?;
        self.forget(image, &views)?;
        for (set, (_, word)) in &self.tables {
            if tables.get(set).is_none_or(|(_, fresh)| fresh != word) {
                self.freed.push(Freed::Pages(word.start(), word.size() + word.members()));
            }
        }
        self.tables = tables;
        for ifindex in self.placed.interfaces.keys() {
            if !placed.interfaces.contains_key(ifindex) {
                loader.detach(*ifindex, Hook::Port)?;
            }
        }
        self.placed = placed.clone();
        Ok(placed)
    }

    fn write_targets(&mut self, placed: &Placed) {
        for (id, target) in &placed.attachments {
            if self.placed.attachments.get(id) != Some(target) {
                self.maps.attachments.write(id.get() as usize, &[*target]);
            }
        }
        for (id, instance) in &placed.instances {
            if self.placed.instances.get(id) != Some(instance) {
                self.maps.instances.write(id.get() as usize, &[*instance]);
            }
        }
    }

    fn write_tenants(&mut self, image: &Image) -> Result<()> {
        for (id, tenant) in image.tenants() {
            let known = self.tenants.get(id).map(|(known, _)| known.budget());
            if known == Some(tenant.budget()) {
                continue;
            }
            if self.maps.usage.get(&id.get())?.is_none() {
                self.maps.usage.put(&id.get(), &Usage::default())?;
            }
            let budget = Tenant {
                unanswered_max: tenant.budget().unanswered.into(),
                established_max: tenant.budget().established.into(),
            };
            self.maps.tenants.put(&id.get(), &budget)?;
        }
        Ok(())
    }

    /// Tables of every replica set, those that are new written.
    fn write_tables(&mut self, image: &Image) -> Result<BTreeMap<ReplicaSetId, (Arc<BuiltTable>, TableWord)>> {
        let mut tables = BTreeMap::new();
        for (set, table) in image.tables() {
            let known = self.tables.get(set).filter(|(known, _)| Arc::ptr_eq(known, table));
            let word = match known {
                Some((_, word)) => *word,
                None => self.write_table(table)?,
            };
            tables.insert(*set, (Arc::clone(table), word));
        }
        Ok(tables)
    }

    fn write_table(&mut self, table: &BuiltTable) -> Result<TableWord> {
        let len = table.page_words();
        let start = match self.pages.take(len) {
            Some(start) => start,
            None => {
                self.reclaim()?;
                self.pages.take(len).ok_or_else(|| full("table pages", &self.pages, PAGES_MAX * PAGE_SLOTS))?
            }
        };
        self.maps.pages.write(start as usize, table.entries());
        let members: Vec<u16> = table.member_words().collect();
        self.maps.pages.write(start as usize + table.entries().len(), &members);
        Ok(table.word(start))
    }

    /// Views of every graph, those that are new written.
    fn write_views(&mut self, image: &Image) -> Result<BTreeSet<(TenantId, ViewId)>> {
        let mut wanted = BTreeSet::new();
        for (tenant, tenant_image) in image.tenants() {
            for (id, view) in tenant_image.graphs().values().flat_map(|graph| &graph.views) {
                wanted.insert((*tenant, *id));
                if !self.views.contains_key(&(*tenant, *id)) {
                    let place = self.write_view(view)?;
                    self.views.insert((*tenant, *id), place);
                }
            }
        }
        Ok(wanted)
    }

    fn write_view(&mut self, view: &View) -> Result<ViewPlace> {
        let (nodes, edges) = (view.nodes(), view.edges());
        let room = |regions: &mut Regions, len: usize| regions.take(len as u32);
        let mut places =
            (room(&mut self.slots, 1), room(&mut self.nodes, nodes.len()), room(&mut self.edges, edges.len()));
        if places.0.is_none() || places.1.is_none() || places.2.is_none() {
            self.reclaim()?;
            places = (
                places.0.or_else(|| room(&mut self.slots, 1)),
                places.1.or_else(|| room(&mut self.nodes, nodes.len())),
                places.2.or_else(|| room(&mut self.edges, edges.len())),
            );
        }
        let slot = places.0.ok_or_else(|| full("view slots", &self.slots, VIEW_SLOTS_MAX))?;
        let node_base = places.1.ok_or_else(|| full("view nodes", &self.nodes, NODES_MAX))?;
        let edge_base = places.2.ok_or_else(|| full("view edges", &self.edges, EDGES_MAX))?;
        let placed: Vec<Edge> = edges
            .iter()
            .map(|edge| Edge {
                target: if edge.target == TARGET_EXIT { TARGET_EXIT } else { edge.target + node_base },
                ..*edge
            })
            .collect();
        self.maps.edges.write(edge_base as usize, &placed);
        let placed: Vec<Node> =
            nodes.iter().map(|node| Node { first_edge: node.first_edge + edge_base, ..*node }).collect();
        self.maps.nodes.write(node_base as usize, &placed);
        let header = xdp_layout::plan::View {
            tenant: view.tenant().get(),
            view: view.id().get(),
            graph: view.graph().get().into(),
            first_edge: view.first_edge() + edge_base,
        };
        self.maps.views.write(slot as usize, &[header]);
        // From the lowest position up, so that of two nodes of one replica set the highest stays.
        for (index, node) in nodes.iter().enumerate().rev() {
            let index = node_base + index as u32;
            for key in [u32::from(node.position) << 16, u32::from(node.replica_set)] {
                self.maps.node_of.put(&NodeKey { view_slot: slot, position_or_set: key }, &index)?;
            }
        }
        let key = ViewKey { tenant: header.tenant, view: header.view };
        self.maps.view_slots.put(&key, &slot)?;
        Ok(ViewPlace { slot, nodes: (node_base, nodes.len() as u32), edges: (edge_base, edges.len() as u32) })
    }

    fn write_entries(&mut self, old: &TenantEntries, new: &TenantEntries) -> Result<()> {
        write_changes(&mut self.maps.ports, &old.ports, &new.ports)?;
        write_changes(&mut self.maps.tags, &old.tags, &new.tags)?;
        write_changes(&mut self.maps.owned, &old.owned, &new.owned)?;
        write_changes(&mut self.maps.origins, &old.origins, &new.origins)?;
        for (key, value) in new.routes.iter().filter(|(key, value)| old.routes.get(key) != Some(value)) {
            self.maps.routes.put(key.0, key.1, value)?;
        }
        for key in old.routes.keys().filter(|key| !new.routes.contains_key(key)) {
            self.maps.routes.delete(key.0, key.1)?;
        }
        for (key, value) in new.outside.iter().filter(|(key, value)| old.outside.get(key) != Some(value)) {
            self.maps.outside.put(key.0, key.1, value)?;
        }
        for key in old.outside.keys().filter(|key| !new.outside.contains_key(key)) {
            self.maps.outside.delete(key.0, key.1)?;
        }
        Ok(())
    }

    /// Writes the next bank and puts it in force with one store.
    fn switch(&mut self, image: &Image, tables: &BTreeMap<ReplicaSetId, (Arc<BuiltTable>, TableWord)>) -> Result<()> {
        let mut words = vec![0u64; BANK_WORDS as usize];
        for (set, (_, word)) in tables {
            words[set.get() as usize] = word.0;
        }
        for (graph, active) in &image.plan().content().graphs {
            let slot = |view: ViewId| self.views.get(&(active.tenant, view)).map_or(0, |place| place.slot);
            let (canary, share) = active.canary.map_or((0, 0), |canary| (slot(canary.view.id), canary.share));
            let word = GraphWord::new(slot(active.stable.id), canary, share);
            words[(REPLICA_SETS_MAX + u32::from(graph.get())) as usize] = word.0;
        }
        debug_assert_eq!(words.len() as u32, REPLICA_SETS_MAX + GRAPHS_MAX);
        if self.flips + 1 >= BANKS {
            self.reclaim()?;
        }
        self.flips += 1;
        let bank = (self.active.bank() + 1) % BANKS;
        self.maps.plan.write((bank * BANK_WORDS) as usize, &words);
        self.active = ActiveWord::new(image.plan().number().generation.get(), bank);
        self.maps.active.publish(0, self.active.0);
        Ok(())
    }

    /// Takes tenants, views and destinations out that the image does not have any more.
    fn forget(&mut self, image: &Image, wanted: &BTreeSet<(TenantId, ViewId)>) -> Result<()> {
        let gone: Vec<_> = self.views.keys().filter(|key| !wanted.contains(key)).copied().collect();
        for (tenant, view) in gone {
            let Some(place) = self.views.remove(&(tenant, view)) else { continue };
            self.maps.view_slots.delete(&ViewKey { tenant: tenant.get(), view: view.get() })?;
            for index in place.nodes.0..place.nodes.0 + place.nodes.1 {
                let node: Node = self.maps.nodes.read(index as usize);
                for key in [u32::from(node.position) << 16, u32::from(node.replica_set)] {
                    self.maps.node_of.delete(&NodeKey { view_slot: place.slot, position_or_set: key })?;
                }
            }
            self.freed.push(Freed::View(place));
        }
        let gone: Vec<_> = self.tenants.keys().filter(|id| !image.tenants().contains_key(id)).copied().collect();
        for id in gone {
            let Some((_, entries)) = self.tenants.remove(&id) else { continue };
            self.write_entries(&entries, &TenantEntries::default())?;
            self.maps.tenants.delete(&id.get())?;
        }
        Ok(())
    }

    /// Clears destinations that are not placed any more. Their records lead nowhere from then on.
    pub(crate) fn clear_targets(&mut self, before: &Placed, after: &Placed) {
        for id in before.attachments.keys().filter(|id| !after.attachments.contains_key(id)) {
            self.clear_attachment(*id);
        }
        for id in before.instances.keys().filter(|id| !after.instances.contains_key(id)) {
            self.clear_instance(*id);
        }
    }

    fn clear_attachment(&mut self, id: AttachmentId) {
        self.maps.attachments.write(id.get() as usize, &[Target::default()]);
    }

    fn clear_instance(&mut self, id: InstanceId) {
        self.maps.instances.write(id.get() as usize, &[Instance::default()]);
    }

    /// What the last install placed.
    pub(crate) fn placed(&self) -> &Placed {
        &self.placed
    }

    /// Entries that earlier processes left and the first image does not have.
    pub(crate) fn sweep_leftovers(&mut self) -> Result<()> {
        let all: Vec<&TenantEntries> = self.tenants.values().map(|(_, entries)| entries).collect();
        let keep = |find: &dyn Fn(&TenantEntries) -> bool| all.iter().any(|entries| find(entries));
        let mut stale = Stale {
            ports: leftovers(&self.maps.ports, |key| keep(&|e| e.ports.contains_key(key)))?,
            tags: leftovers(&self.maps.tags, |key| keep(&|e| e.tags.contains_key(key)))?,
            owned: leftovers(&self.maps.owned, |key| keep(&|e| e.owned.contains_key(key)))?,
            origins: leftovers(&self.maps.origins, |key| keep(&|e| e.origins.contains_key(key)))?,
            routes: self.maps.routes.keys()?,
            outside: self.maps.outside.keys()?,
        };
        stale.routes.retain(|key| !keep(&|e| e.routes.contains_key(key)));
        stale.outside.retain(|key| !keep(&|e| e.outside.contains_key(key)));
        let tenants = leftovers(&self.maps.tenants, |id| self.tenants.keys().any(|known| known.get() == *id))?;
        drop(all);
        stale.ports.iter().try_for_each(|key| self.maps.ports.delete(key))?;
        stale.tags.iter().try_for_each(|key| self.maps.tags.delete(key))?;
        stale.owned.iter().try_for_each(|key| self.maps.owned.delete(key))?;
        stale.origins.iter().try_for_each(|key| self.maps.origins.delete(key))?;
        stale.routes.iter().try_for_each(|key| self.maps.routes.delete(key.0, key.1))?;
        stale.outside.iter().try_for_each(|key| self.maps.outside.delete(key.0, key.1))?;
        tenants.iter().try_for_each(|id| self.maps.tenants.delete(id))?;
        for id in 1..IDS as u16 {
            let target: Target = self.maps.attachments.read(id as usize);
            let known = AttachmentId::new(id).is_some_and(|id| self.placed.attachments.contains_key(&id));
            if target != Target::default() && !known {
                self.maps.attachments.write(id as usize, &[Target::default()]);
            }
            let instance: Instance = self.maps.instances.read(id as usize);
            let known = InstanceId::new(id).is_some_and(|id| self.placed.instances.contains_key(&id));
            if instance != Instance::default() && !known {
                self.maps.instances.write(id as usize, &[Instance::default()]);
            }
        }
        Ok(())
    }

    /// Waits for a grace period, then gives back everything that was freed before it.
    fn reclaim(&mut self) -> Result<()> {
        sys::grace_period().map_err(|source| Error::Syscall {
            operation: "wait for a grace period before reuse",
            map: xdp_layout::names::PLAN,
            source,
        })?;
        for freed in self.freed.drain(..) {
            match freed {
                Freed::Pages(start, len) => self.pages.give(start, len),
                Freed::View(place) => {
                    self.slots.give(place.slot, 1);
                    self.nodes.give(place.nodes.0, place.nodes.1);
                    self.edges.give(place.edges.0, place.edges.1);
                }
            }
        }
        self.flips = 0;
        Ok(())
    }
}

/// Keys that nobody wants.
struct Stale {
    ports: Vec<xdp_layout::port::PortKey>,
    tags: Vec<xdp_layout::port::TagKey>,
    owned: Vec<xdp_layout::port::OwnedKey>,
    origins: Vec<xdp_layout::plan::OriginKey>,
    routes: Vec<(u8, xdp_layout::plan::RouteKey)>,
    outside: Vec<(u8, xdp_layout::plan::OutsideKey)>,
}

fn leftovers<K: Pod, V: Pod>(table: &Table<K, V>, is_wanted: impl Fn(&K) -> bool) -> Result<Vec<K>> {
    Ok(table.all()?.into_iter().map(|(key, _)| key).filter(|key| !is_wanted(key)).collect())
}

fn write_changes<K: Pod + Ord, V: Pod + PartialEq>(
    table: &mut Table<K, V>,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> Result<()> {
    for (key, value) in new.iter().filter(|(key, value)| old.get(key) != Some(value)) {
        table.put(key, value)?;
    }
    for key in old.keys().filter(|key| !new.contains_key(key)) {
        table.delete(key)?;
    }
    Ok(())
}

fn full(what: &'static str, regions: &Regions, max: u32) -> Error {
    Error::Full { what, used: u64::from(max) - regions.room(), max: max.into() }
}
