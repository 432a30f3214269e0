//! Writes images into the maps: what is new first, then one word that switches, then what is gone.

mod takeover;

use crate::desired::{self, Placed, TenantEntries};
use crate::error::{Error, Result, describe};
use crate::expedite::Expedited;
use crate::grace::Grace;
use crate::links::Links;
use crate::loader::{Hook, Loader};
use crate::maps::Maps;
use crate::regions::Regions;
use crate::views::Watch;
use chain_graph::image::TenantImage;
use chain_graph::{BuiltTable, Image, View};
use state_sync::{PendingPort, PendingReason};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use xdp_layout::plan::{
    ActiveWord, BANK_WORDS, BANKS, EDGES_MAX, Edge, GraphWord, NODES_MAX, Node, NodeKey, PAGE_SLOTS, PAGES_MAX,
    REPLICA_SETS_MAX, TARGET_EXIT, TableWord, VIEW_SLOTS_MAX, ViewKey,
};
use xdp_layout::port::{Instance, Target, Tenant, Usage};
use xdp_layout::{ReplicaSetId, TenantId, ViewId};

/// Where an installed view lies.
#[derive(Clone, Copy, Debug)]
struct ViewPlace {
    slot: u32,
    nodes: (u32, u32),
    edges: (u32, u32),
}

/// Space that may be reused once no program can still read it.
enum Freed {
    Pages(TableWord),
    View(ViewPlace),
}

/// Tables in the pages, by replica set.
type Tables = BTreeMap<ReplicaSetId, (Arc<BuiltTable>, TableWord)>;

/// The writer's memory of what the maps hold.
pub(crate) struct Installer {
    pub(crate) maps: Maps,
    watch: Watch,
    /// What the hashes and tries hold, by tenant.
    tenants: BTreeMap<TenantId, (Arc<TenantImage>, TenantEntries)>,
    views: BTreeMap<(TenantId, ViewId), ViewPlace>,
    /// Tables of the plan in force.
    tables: Tables,
    /// Tables written for a plan that is not in force, because its install failed.
    written: Tables,
    /// Tables of the plan in force that an earlier process wrote.
    recovered: BTreeMap<ReplicaSetId, TableWord>,
    placed: Placed,
    links: Links,
    slots: Regions,
    nodes: Regions,
    edges: Regions,
    pages: Regions,
    active: ActiveWord,
    /// Graphs and replica sets that have a word in the active bank.
    words: BTreeMap<u32, u64>,
    /// Space that was freed, with the moment it must outlast.
    freed: VecDeque<(u64, Freed)>,
    /// What this install frees: no plan in force leads to it once the install has switched.
    freeing: Vec<Freed>,
    /// For each bank the moment at which it was left.
    left: [u64; BANKS as usize],
    grace: Grace,
    /// The hashes and tries may hold more than `tenants` says: after a start, and after an install that failed.
    is_suspect: bool,
}

impl Installer {
    /// Takes over the maps. What a plan in force leads to keeps its place until the first install replaces it.
    pub(crate) fn new(maps: Maps, watch: Watch) -> Result<Self> {
        let active = ActiveWord(maps.active.read(0));
        let grace = Grace::start()?;
        let mut installer = Self {
            maps,
            watch,
            tenants: BTreeMap::new(),
            views: BTreeMap::new(),
            tables: BTreeMap::new(),
            written: BTreeMap::new(),
            recovered: BTreeMap::new(),
            placed: Placed::default(),
            links: Links::new(),
            slots: Regions::new(1, VIEW_SLOTS_MAX),
            nodes: Regions::new(0, NODES_MAX),
            edges: Regions::new(0, EDGES_MAX),
            pages: Regions::new(0, PAGES_MAX * PAGE_SLOTS),
            active,
            words: BTreeMap::new(),
            freed: VecDeque::new(),
            freeing: Vec::new(),
            // Everything may be read by programs that run since before this process.
            left: [grace.mark(); BANKS as usize],
            grace,
            is_suspect: true,
        };
        installer.recover()?;
        Ok(installer)
    }

    /// Generation of the plan in force, 0 for none.
    pub(crate) fn generation(&self) -> u64 {
        self.active.generation()
    }

    /// Counters of views on trial.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// What the last install placed.
    pub(crate) fn placed(&self) -> &Placed {
        &self.placed
    }

    /// Whether the last install succeeded and saw these interfaces.
    pub(crate) fn is_current(&self, links: &Links) -> bool {
        !self.is_suspect && self.placed.pending.is_empty() && self.links == *links
    }

    /// Tenants of the last install.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = TenantId> + '_ {
        self.tenants.keys().copied()
    }

    /// Tenants that the image does not have and whose usage is still there. It goes last when a tenant leaves, so none is
    /// forgotten, whoever began: an earlier process, or an install that failed.
    pub(crate) fn leavers(&self, image: &Image) -> Result<Vec<TenantId>> {
        let known = self.maps.usage.all()?.into_iter().filter_map(|(id, _)| TenantId::new(id));
        Ok(known.filter(|id| !image.tenants().contains_key(id)).collect())
    }

    /// Makes the maps say what the image says. After an error the next call mends what this one left.
    pub(crate) fn install(&mut self, image: &Arc<Image>, links: &Links, loader: &mut Loader) -> Result<()> {
        self.give_back();
        let installed = self.try_install(image, links, loader);
        self.retire();
        if installed.is_err() {
            self.is_suspect = true;
            self.tenants.clear();
        }
        installed
    }

    fn try_install(&mut self, image: &Arc<Image>, links: &Links, loader: &mut Loader) -> Result<()> {
        let mut links = links.clone();
        let mut placed = desired::place(image, &links);
        self.attach(&mut placed, &mut links, image, loader);
        let is_moved = self.links != links;
        self.write_budgets(image)?;
        self.write_targets(&placed)?;
        let tables = self.write_tables(image)?;
        let views = self.write_views(image)?;
        self.watch.begin(image)?;
        let fresh = self.fresh_entries(image, &links, is_moved);
        let (old, new) = self.changed_entries(&fresh, image);
        // New keys first, then the switch, then keys that change their value: what they lead to is in the bank by then, and
        // what they led to still is. Keys that go, go last.
        self.maps.write_new(&old, &new)?;
        let words = self.words_of(image, &tables);
        let gone: Vec<u32> = self.words.keys().filter(|index| !words.contains_key(index)).copied().collect();
        self.switch(image, &words)?;
        self.maps.write_changed(&old, &new)?;
        self.maps.delete_gone(&old, &new)?;
        for index in gone {
            self.maps.plan.publish((self.active.bank() * BANK_WORDS + index) as usize, 0);
        }
        self.words = words;
        self.watch.end(image)?;
        self.keep(image, fresh);
        self.forget_views(&views)?;
        self.retire_tables(tables);
        self.clear_targets(&placed);
        for ifindex in self.placed.interfaces.keys() {
            if !placed.interfaces.contains_key(ifindex) {
                loader.detach(*ifindex, Hook::Port)?;
            }
        }
        self.placed = placed;
        self.links = links;
        if self.is_suspect {
            self.sweep_leftovers()?;
            self.is_suspect = false;
        }
        Ok(())
    }

    /// Puts the program on interfaces that do not have it. One that cannot have it is a pending port, not a failed install.
    fn attach(&self, placed: &mut Placed, links: &mut Links, image: &Image, loader: &mut Loader) {
        let mut refused = BTreeMap::new();
        let fresh: Vec<_> = placed
            .interfaces
            .iter()
            .filter(|(ifindex, name)| self.placed.interfaces.get(ifindex) != Some(name))
            .collect();
        let _expedited = Expedited::for_interfaces(fresh.len());
        for (ifindex, name) in fresh {
            if let Err(error) = loader.attach(name, *ifindex, Hook::Port) {
                refused.insert(name.clone(), describe("attach", &error).cause);
            }
        }
        if refused.is_empty() {
            return;
        }
        links.retain(|name, _| !refused.contains_key(name));
        *placed = desired::place(image, links);
        let missing: Vec<PendingPort> =
            placed.pending.iter().filter(|p| refused.contains_key(&p.interface)).cloned().collect();
        for port in missing {
            let reason = PendingReason::Attach(refused[&port.interface].clone());
            placed.pending.remove(&port);
            placed.pending.insert(PendingPort { reason, ..port });
        }
    }

    /// Writes destinations. One that moves to another interface or VLAN is closed for a grace period first: a program that
    /// copies it meanwhile must not get half of each.
    fn write_targets(&mut self, placed: &Placed) -> Result<()> {
        let known = &self.placed;
        let moves = |old: &Target, new: &Target| {
            old.flags != 0 && (old.ifindex, old.vlan, old.tenant) != (new.ifindex, new.vlan, new.tenant)
        };
        let mut is_moving = false;
        for (id, target) in &placed.attachments {
            if known.attachments.get(id).is_some_and(|old| moves(old, target)) {
                self.maps.attachments.write(id.get() as usize, &[Target::default()]);
                is_moving = true;
            }
        }
        for (id, instance) in &placed.instances {
            let moved = |old: &Instance| (0..2).any(|side| moves(&old.ports[side], &instance.ports[side]));
            if known.instances.get(id).is_some_and(moved) {
                self.maps.instances.write(id.get() as usize, &[Instance::default()]);
                is_moving = true;
            }
        }
        if is_moving {
            self.grace.wait(self.grace.mark())?;
        }
        for (id, target) in &placed.attachments {
            if is_moving || known.attachments.get(id) != Some(target) {
                self.maps.attachments.write(id.get() as usize, &[*target]);
            }
        }
        for (id, instance) in &placed.instances {
            if is_moving || known.instances.get(id) != Some(instance) {
                self.maps.instances.write(id.get() as usize, &[*instance]);
            }
        }
        Ok(())
    }

    fn write_budgets(&mut self, image: &Image) -> Result<()> {
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

    /// Entries of the tenants that changed, or of all where interfaces did.
    fn fresh_entries(&self, image: &Image, links: &Links, is_moved: bool) -> BTreeMap<TenantId, TenantEntries> {
        let is_known = |id: &TenantId, tenant: &Arc<TenantImage>| {
            !is_moved && self.tenants.get(id).is_some_and(|(known, _)| Arc::ptr_eq(known, tenant))
        };
        let changed: Vec<_> = image.tenants().iter().filter(|(id, tenant)| !is_known(id, tenant)).collect();
        if changed.is_empty() {
            return BTreeMap::new();
        }
        let instances: BTreeMap<_, _> =
            image.functions().values().flat_map(|f| f.instances()).map(|(id, i)| (*id, i)).collect();
        changed.into_iter().map(|(id, tenant)| (*id, desired::entries(tenant, &instances, links))).collect()
    }

    /// What the changed and the deleted tenants had, and what the changed ones get. Over all of them at once: a port may
    /// pass from one tenant to another.
    fn changed_entries(
        &self,
        fresh: &BTreeMap<TenantId, TenantEntries>,
        image: &Image,
    ) -> (TenantEntries, TenantEntries) {
        let (mut old, mut new) = (TenantEntries::default(), TenantEntries::default());
        for (id, (_, entries)) in &self.tenants {
            if fresh.contains_key(id) || !image.tenants().contains_key(id) {
                old.absorb(entries);
            }
        }
        fresh.values().for_each(|entries| new.absorb(entries));
        (old, new)
    }

    fn keep(&mut self, image: &Image, fresh: BTreeMap<TenantId, TenantEntries>) {
        self.tenants.retain(|id, _| image.tenants().contains_key(id));
        for (id, entries) in fresh {
            self.tenants.insert(id, (Arc::clone(&image.tenants()[&id]), entries));
        }
    }

    /// Tables of every replica set, those that are not in the pages written.
    fn write_tables(&mut self, image: &Image) -> Result<Tables> {
        let mut tables = Tables::new();
        for (set, table) in image.tables() {
            let find =
                |tables: &Tables| tables.get(set).filter(|(known, _)| Arc::ptr_eq(known, table)).map(|(_, word)| *word);
            let word = match find(&self.tables).or_else(|| find(&self.written)).or_else(|| self.adopt(*set, table)) {
                Some(word) => word,
                None => {
                    let word = self.write_table(table)?;
                    if let Some((_, stale)) = self.written.insert(*set, (Arc::clone(table), word)) {
                        self.freeing.push(Freed::Pages(stale));
                    }
                    word
                }
            };
            tables.insert(*set, (Arc::clone(table), word));
        }
        Ok(tables)
    }

    /// Frees the tables that the plan now in force does not use.
    fn retire_tables(&mut self, tables: Tables) {
        let used: BTreeSet<u64> = tables.values().map(|(_, word)| word.0).collect();
        let known = [&self.tables, &self.written].into_iter().flat_map(|tables| tables.values().map(|(_, word)| *word));
        let gone: BTreeMap<u64, TableWord> = known
            .chain(self.recovered.values().copied())
            .filter(|word| !used.contains(&word.0))
            .map(|word| (word.0, word))
            .collect();
        self.freeing.extend(gone.into_values().map(Freed::Pages));
        self.written.clear();
        self.recovered.clear();
        self.tables = tables;
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
        let place = match self.claim_view(view) {
            Ok(place) => place,
            Err(_) => {
                self.reclaim()?;
                self.claim_view(view)?
            }
        };
        // Nothing leads to a view that was not written to its end.
        self.fill_view(view, place).inspect_err(|_| self.freeing.push(Freed::View(place)))?;
        Ok(place)
    }

    /// Takes room for a view, all of it or none.
    fn claim_view(&mut self, view: &View) -> Result<ViewPlace> {
        let (nodes, edges) = (view.nodes().len() as u32, view.edges().len() as u32);
        let slot = self.slots.take(1).ok_or_else(|| full("view slots", &self.slots, VIEW_SLOTS_MAX))?;
        let Some(first_node) = self.nodes.take(nodes) else {
            self.slots.give(slot, 1);
            return Err(full("view nodes", &self.nodes, NODES_MAX));
        };
        let Some(first_edge) = self.edges.take(edges) else {
            self.slots.give(slot, 1);
            self.nodes.give(first_node, nodes);
            return Err(full("view edges", &self.edges, EDGES_MAX));
        };
        Ok(ViewPlace { slot, nodes: (first_node, nodes), edges: (first_edge, edges) })
    }

    fn fill_view(&mut self, view: &View, place: ViewPlace) -> Result<()> {
        let (nodes, edges) = (view.nodes(), view.edges());
        let ViewPlace { slot, nodes: (node_base, _), edges: (edge_base, _) } = place;
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
        self.maps.view_slots.put(&key, &slot)
    }

    /// The words of the image's bank: tables by replica set, active views by graph.
    fn words_of(&self, image: &Image, tables: &Tables) -> BTreeMap<u32, u64> {
        let mut words: BTreeMap<u32, u64> =
            tables.iter().map(|(set, (_, word))| (u32::from(set.get()), word.0)).collect();
        for (graph, active) in &image.plan().content().graphs {
            let slot = |view: ViewId| self.views.get(&(active.tenant, view)).map_or(0, |place| place.slot);
            let (canary, share) = active.canary.map_or((0, 0), |canary| (slot(canary.view.id), canary.share));
            let word = GraphWord::new(slot(active.stable.id), canary, share);
            words.insert(REPLICA_SETS_MAX + u32::from(graph.get()), word.0);
        }
        words
    }

    /// Writes the next bank and puts it in force with one store. Words that the plan does not have any more stay in it until
    /// no entry leads to them.
    fn switch(&mut self, image: &Image, words: &BTreeMap<u32, u64>) -> Result<()> {
        let mut bank_words = vec![0u64; BANK_WORDS as usize];
        for (index, word) in self.words.iter().chain(words) {
            bank_words[*index as usize] = *word;
        }
        let bank = (self.active.bank() + 1) % BANKS;
        self.grace.wait(self.left[bank as usize])?;
        self.maps.plan.write((bank * BANK_WORDS) as usize, &bank_words);
        let left = self.active.bank() as usize;
        self.active = ActiveWord::new(image.plan().number().generation.get(), bank);
        self.maps.active.publish(0, self.active.0);
        self.left[left] = self.grace.mark();
        Ok(())
    }

    /// Takes views out that the image does not have any more.
    fn forget_views(&mut self, wanted: &BTreeSet<(TenantId, ViewId)>) -> Result<()> {
        let gone: Vec<_> = self.views.keys().filter(|key| !wanted.contains(key)).copied().collect();
        for (tenant, view) in gone {
            let place = self.views[&(tenant, view)];
            self.maps.view_slots.delete(&ViewKey { tenant: tenant.get(), view: view.get() })?;
            for index in place.nodes.0..place.nodes.0 + place.nodes.1 {
                let node: Node = self.maps.nodes.read(index as usize);
                for key in [u32::from(node.position) << 16, u32::from(node.replica_set)] {
                    self.maps.node_of.delete(&NodeKey { view_slot: place.slot, position_or_set: key })?;
                }
            }
            self.views.remove(&(tenant, view));
            self.freeing.push(Freed::View(place));
        }
        Ok(())
    }

    /// Clears destinations that are not placed any more. Their records are picked anew.
    fn clear_targets(&mut self, placed: &Placed) {
        for id in self.placed.attachments.keys().filter(|id| !placed.attachments.contains_key(id)) {
            self.maps.attachments.write(id.get() as usize, &[Target::default()]);
        }
        for id in self.placed.instances.keys().filter(|id| !placed.instances.contains_key(id)) {
            self.maps.instances.write(id.get() as usize, &[Instance::default()]);
        }
    }

    /// Hands what an install freed to the grace period that begins now.
    fn retire(&mut self) {
        if self.freeing.is_empty() {
            return;
        }
        let moment = self.grace.mark();
        self.freed.extend(self.freeing.drain(..).map(|freed| (moment, freed)));
    }

    /// Gives back what no program can still read.
    fn give_back(&mut self) {
        let passed = self.grace.passed();
        while let Some((_, freed)) = self.freed.pop_front_if(|(moment, _)| *moment <= passed) {
            match freed {
                Freed::Pages(word) => self.pages.give(word.start(), word.size() + word.members()),
                Freed::View(place) => {
                    self.slots.give(place.slot, 1);
                    self.nodes.give(place.nodes.0, place.nodes.1);
                    self.edges.give(place.edges.0, place.edges.1);
                }
            }
        }
    }

    /// Waits for everything that was freed, when there is no room otherwise.
    fn reclaim(&mut self) -> Result<()> {
        if let Some((moment, _)) = self.freed.back() {
            self.grace.wait(*moment)?;
        }
        self.give_back();
        Ok(())
    }
}

fn full(what: &'static str, regions: &Regions, max: u32) -> Error {
    Error::Full { what, used: u64::from(max) - regions.room(), max: max.into() }
}
