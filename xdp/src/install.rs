//! Writes images into the maps: what is new first, then one word that switches, then what is gone. What an image has in
//! common with the one before is not looked at.

mod bank;
mod tables;
mod takeover;
mod targets;
mod views;

use crate::desired::{self, Placed, TenantEntries};
use crate::error::{Error, Result};
use crate::grace::Grace;
use crate::links::Links;
use crate::loader::Loader;
use crate::maps::Maps;
use crate::regions::Regions;
use crate::views::Watch;
use bank::Banks;
use chain_graph::Image;
use chain_graph::image::TenantImage;
use chain_graph::map::{Map, changes};
use chain_graph::plan::{ActiveViews, PlanRef};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tables::Tables;
use targets::Retargeted;
use views::ViewPlace;
use xdp_layout::plan::{EDGES_MAX, NODES_MAX, PAGE_SLOTS, PAGES_MAX, TableWord, VIEW_SLOTS_MAX};
use xdp_layout::port::{Tenant, Usage};
use xdp_layout::{GraphId, TenantId, ViewId};

/// Space that may be reused once no program can still read it.
enum Freed {
    Pages(TableWord),
    View(ViewPlace),
}

/// The writer's memory of what the maps hold.
pub(crate) struct Installer {
    pub(crate) maps: Maps,
    watch: Watch,
    /// The image of the last install; `None` if the maps may hold something else: after a start, and after an install that
    /// failed.
    image: Option<Arc<Image>>,
    /// What the hashes and tries hold, by tenant.
    tenants: BTreeMap<TenantId, TenantEntries>,
    views: BTreeMap<TenantId, BTreeMap<ViewId, ViewPlace>>,
    tables: Tables,
    placed: Placed,
    links: Arc<Links>,
    slots: Regions,
    nodes: Regions,
    edges: Regions,
    pages: Regions,
    banks: Banks,
    /// Space that was freed, with the moment it must outlast.
    freed: VecDeque<(u64, Freed)>,
    /// What this install frees: no plan in force leads to it once the install has switched.
    freeing: Vec<Freed>,
    grace: Grace,
    /// Something is prepared that was not entered.
    is_open: bool,
    /// Views that were written for a plan that is not in force.
    fresh_views: Vec<(TenantId, ViewId)>,
}

/// What differs between the last image and the next one: everything, where the last one is not known or where interfaces
/// have changed.
struct Delta {
    is_full: bool,
    tenants: Vec<Renewed<TenantId, TenantImage>>,
    graphs: Vec<Renewed<GraphId, ActiveViews>>,
}

/// A part of the image that is another one than before.
pub(crate) struct Renewed<K, V> {
    pub(crate) key: K,
    pub(crate) before: Option<Arc<V>>,
    pub(crate) after: Option<Arc<V>>,
}

impl Delta {
    fn new(before: Option<&Image>, image: &Image) -> Self {
        let (tenants, graphs) = (image.tenants(), &image.plan().content().graphs);
        let nothing = (Map::new(), Map::new());
        let known = before.map(|before| (before.tenants(), &before.plan().content().graphs));
        let (known_tenants, known_graphs) = known.unwrap_or((&nothing.0, &nothing.1));
        Self {
            is_full: before.is_none(),
            tenants: renewed(known_tenants, tenants),
            graphs: renewed(known_graphs, graphs),
        }
    }

    /// Whether tenants leave, or may have left.
    fn loses_tenants(&self) -> bool {
        self.is_full || self.tenants.iter().any(|tenant| tenant.after.is_none())
    }
}

fn renewed<K: Ord + Copy, V: Eq>(before: &Map<K, Arc<V>>, after: &Map<K, Arc<V>>) -> Vec<Renewed<K, V>> {
    let changes = changes(before, after).into_iter();
    let owned = changes.map(|c| Renewed { key: *c.key, before: c.before.cloned(), after: c.after.cloned() });
    owned.collect()
}

/// What was written beside the plan in force, and has to follow once it is in force.
pub(crate) struct Prepared {
    delta: Delta,
    placed: Placed,
    retargeted: Retargeted,
    links: Arc<Links>,
    tables: tables::Map,
    words: Map<u32, u64>,
    /// Entries of the tenants that changed.
    fresh: BTreeMap<TenantId, TenantEntries>,
    /// What those tenants and the deleted ones had, and what they get. Over all of them at once: a port may pass from one
    /// tenant to another.
    entries: (TenantEntries, TenantEntries),
}

impl Prepared {
    /// Whether tenants leave, or may have left.
    pub(crate) fn loses_tenants(&self) -> bool {
        self.delta.loses_tenants()
    }
}

impl Installer {
    /// Takes over the maps. What a plan in force leads to keeps its place until the first install replaces it.
    pub(crate) fn new(maps: Maps, watch: Watch) -> Result<Self> {
        let grace = Grace::start()?;
        let mut installer = Self {
            banks: Banks::new(&maps, &grace),
            maps,
            watch,
            image: None,
            tenants: BTreeMap::new(),
            views: BTreeMap::new(),
            tables: Tables::default(),
            placed: Placed::default(),
            links: Arc::default(),
            slots: Regions::new(1, VIEW_SLOTS_MAX),
            nodes: Regions::new(0, NODES_MAX),
            edges: Regions::new(0, EDGES_MAX),
            pages: Regions::new(0, PAGES_MAX * PAGE_SLOTS),
            freed: VecDeque::new(),
            freeing: Vec::new(),
            grace,
            is_open: false,
            fresh_views: Vec::new(),
        };
        installer.recover()?;
        Ok(installer)
    }

    /// Generation of the plan in force, 0 for none.
    pub(crate) fn generation(&self) -> u64 {
        self.banks.active().generation()
    }

    /// The plan in force; `None` before the first, and where an earlier process did not write its digest.
    pub(crate) fn in_force(&self) -> Option<PlanRef> {
        self.banks.in_force()
    }

    /// Counters of views on trial.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// What the last install placed.
    pub(crate) fn placed(&self) -> &Placed {
        &self.placed
    }

    /// Whether the last install succeeded, placed all, and saw these interfaces.
    pub(crate) fn is_current(&self, links: &Arc<Links>) -> bool {
        self.image.is_some() && !self.is_open && self.placed.pending.is_empty() && self.has_seen(links)
    }

    /// Whether the maps may hold something else than an image.
    pub(crate) fn is_unknown(&self) -> bool {
        self.image.is_none() || self.is_open
    }

    fn has_seen(&self, links: &Arc<Links>) -> bool {
        Arc::ptr_eq(&self.links, links) || self.links == *links
    }

    /// Tenants that the image does not have and whose usage is still there. It goes last when a tenant leaves, so none is
    /// forgotten, whoever began: an earlier process, or an install that failed.
    pub(crate) fn leavers(&self, image: &Image) -> Result<Vec<TenantId>> {
        let known = self.maps.usage.all()?.into_iter().filter_map(|(id, _)| TenantId::new(id));
        Ok(known.filter(|id| !image.tenants().contains_key(id)).collect())
    }

    /// Writes what is new of an image beside what is in force; `placed` is where its ports are on these interfaces. The next
    /// call mends what is left of it after an error, or if it is not entered.
    pub(crate) fn prepare(
        &mut self,
        image: &Image,
        placed: Placed,
        links: &Arc<Links>,
        loader: &mut Loader,
    ) -> Result<Prepared> {
        if std::mem::replace(&mut self.is_open, true) {
            self.distrust();
            self.withdraw()?;
        }
        self.give_back();
        let prepared = self.write(image, placed, links, loader);
        self.retire();
        prepared.inspect_err(|_| self.distrust())
    }

    /// Makes the maps say what was prepared, and nothing else. After an error the next preparation mends what this left.
    pub(crate) fn enter(&mut self, image: &Arc<Image>, prepared: Prepared, loader: &mut Loader) -> Result<()> {
        let entered = self.switch(image, prepared, loader);
        self.retire();
        entered.inspect_err(|_| self.distrust())
    }

    /// The maps may hold something else than the last image.
    fn distrust(&mut self) {
        self.image = None;
        self.tenants.clear();
    }

    /// Takes out what was written for a plan that is not to be entered: the next one may need the room.
    fn withdraw(&mut self) -> Result<()> {
        while let Some((tenant, view)) = self.fresh_views.last().copied() {
            self.forget_view(tenant, view)?;
            self.fresh_views.pop();
        }
        self.freeing.extend(self.tables.withdraw().map(Freed::Pages));
        self.retire();
        Ok(())
    }

    /// New keys lead to what is not in force. What may find no room goes first, and nothing that is in force is changed.
    fn write(&mut self, image: &Image, placed: Placed, links: &Arc<Links>, loader: &mut Loader) -> Result<Prepared> {
        let (placed, links) = self.attach(image, placed, links, loader);
        let delta = Delta::new(self.image.as_deref().filter(|_| self.has_seen(&links)), image);
        let tables = self.write_tables(image)?;
        self.write_views(&delta)?;
        self.watch.begin(&delta.graphs)?;
        self.write_budgets(delta.tenants.iter().filter(|tenant| tenant.before.is_none()))?;
        let mut retargeted = self.retargeted(&placed);
        self.write_unused(&mut retargeted);
        let fresh = fresh_entries(&delta, &placed, &links);
        let entries = self.changed_entries(&delta, &fresh)?;
        self.maps.write_new(&entries.0, &entries.1)?;
        let words = self.words(&delta, &tables);
        Ok(Prepared { delta, placed, retargeted, links, tables, words, fresh, entries })
    }

    /// Switches. Keys that change their value follow: what they lead to is in the bank by then, and what they led to still
    /// is. Keys that go, go last.
    fn switch(&mut self, image: &Arc<Image>, prepared: Prepared, loader: &mut Loader) -> Result<()> {
        let Prepared { delta, placed, retargeted, links, tables, words, fresh, entries: (old, new) } = prepared;
        self.banks.switch(&mut self.maps.plan, &mut self.maps.active, &self.grace, image.plan(), &words)?;
        // Whatever fails from here on, these are the tables and views in force.
        self.tables.replace(tables);
        self.fresh_views.clear();
        self.is_open = false;
        self.write_retargeted(retargeted)?;
        self.write_budgets(delta.tenants.iter().filter(|tenant| tenant.before.is_some()))?;
        self.maps.write_changed(&old, &new)?;
        self.maps.delete_gone(&old, &new)?;
        self.banks.clear_gone(&mut self.maps.plan, words);
        self.freeing.extend(self.tables.leave().map(Freed::Pages));
        self.watch.end(image, &delta.graphs, delta.is_full)?;
        if delta.is_full {
            self.tenants.clear();
        }
        for gone in delta.tenants.iter().filter(|change| change.after.is_none()) {
            self.tenants.remove(&gone.key);
        }
        self.tenants.extend(fresh);
        self.forget_views(image, &delta)?;
        self.leave(placed, loader)?;
        self.links = links;
        if self.image.is_none() {
            self.sweep_leftovers()?;
        }
        self.image = Some(Arc::clone(image));
        Ok(())
    }

    fn write_budgets<'t>(&mut self, tenants: impl Iterator<Item = &'t Renewed<TenantId, TenantImage>>) -> Result<()> {
        for Renewed { key: id, before, after } in tenants {
            let Some(tenant) = after else { continue };
            if before.as_ref().is_some_and(|before| before.budget() == tenant.budget()) {
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

    /// What the changed and the deleted tenants have, and what the changed ones get. What the maps hold is read from them
    /// where it is not known.
    fn changed_entries(
        &self,
        delta: &Delta,
        fresh: &BTreeMap<TenantId, TenantEntries>,
    ) -> Result<(TenantEntries, TenantEntries)> {
        let (mut old, mut new) = (TenantEntries::default(), TenantEntries::default());
        if self.image.is_none() {
            old = self.maps.entries()?;
        } else if delta.is_full {
            self.tenants.values().for_each(|entries| old.absorb(entries));
        } else {
            let known = delta.tenants.iter().filter_map(|change| self.tenants.get(&change.key));
            known.for_each(|entries| old.absorb(entries));
        }
        fresh.values().for_each(|entries| new.absorb(entries));
        Ok((old, new))
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

/// Entries of the tenants that are new or changed.
fn fresh_entries(delta: &Delta, placed: &Placed, links: &Links) -> BTreeMap<TenantId, TenantEntries> {
    let tenants = delta.tenants.iter().filter_map(|change| Some((change.key, change.after.as_ref()?)));
    tenants.map(|(id, tenant)| (id, desired::entries(tenant, placed, links))).collect()
}

fn full(what: &'static str, regions: &Regions, max: u32) -> Error {
    Error::Full { what, used: u64::from(max) - regions.room(), max: max.into() }
}
