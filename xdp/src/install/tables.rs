//! Maglev tables in the page array.

use super::{Freed, Installer, full};
use crate::error::Result;
use chain_graph::map::changes;
use chain_graph::{BuiltTable, Image};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xdp_layout::ReplicaSetId;
use xdp_layout::plan::{PAGE_SLOTS, PAGES_MAX, TableWord};

/// Tables and where they lie, by replica set.
pub(super) type Map = chain_graph::map::Map<ReplicaSetId, (Arc<BuiltTable>, TableWord)>;

/// The tables in the pages.
#[derive(Default)]
pub(super) struct Tables {
    /// Those of the plan in force.
    in_force: Map,
    /// Those written for a plan that is not in force: it is being installed, or its install failed.
    written: Map,
    /// Those of the plan in force that an earlier process wrote.
    recovered: BTreeMap<ReplicaSetId, TableWord>,
    /// Those of plans before, by word, while a word in the bank in force may still lead to them.
    leaving: BTreeMap<u64, TableWord>,
}

impl Tables {
    pub(super) fn in_force(&self) -> &Map {
        &self.in_force
    }

    /// Takes note of a table that an earlier process wrote.
    pub(super) fn recover(&mut self, set: ReplicaSetId, word: TableWord) {
        self.recovered.insert(set, word);
    }

    /// What of an earlier process may serve as a set's table.
    pub(super) fn recovered(&self, set: ReplicaSetId) -> Option<TableWord> {
        self.recovered.get(&set).copied()
    }

    /// Where a table lies already.
    fn find(&self, set: ReplicaSetId, table: &Arc<BuiltTable>) -> Option<TableWord> {
        let known = [&self.in_force, &self.written].into_iter().filter_map(|tables| tables.get(&set));
        known.filter(|(known, _)| Arc::ptr_eq(known, table)).map(|(_, word)| *word).next()
    }

    /// Takes note of the tables of the plan that is in force now.
    pub(super) fn replace(&mut self, tables: Map) {
        let changed = changes(&self.in_force, &tables);
        let used: BTreeSet<u64> = changed.iter().filter_map(|change| Some(change.after?.1.0)).collect();
        let before = changed.iter().filter_map(|change| Some(change.before?.1));
        let written = self.written.values().map(|(_, word)| *word);
        let known = before.chain(written).chain(self.recovered.values().copied());
        let gone = known.filter(|word| !used.contains(&word.0)).map(|word| (word.0, word));
        self.leaving.extend(gone);
        self.written = Map::new();
        self.recovered.clear();
        self.in_force = tables;
    }

    /// The tables that no word of a bank leads to any more.
    pub(super) fn leave(&mut self) -> impl Iterator<Item = TableWord> + use<> {
        std::mem::take(&mut self.leaving).into_values()
    }

    /// The tables that were written for a plan that is not to be entered.
    pub(super) fn withdraw(&mut self) -> impl Iterator<Item = TableWord> + use<> {
        let written: Vec<TableWord> = self.written.values().map(|(_, word)| *word).collect();
        self.written = Map::new();
        written.into_iter()
    }
}

impl Installer {
    /// Tables of every replica set, those that are not in the pages written.
    pub(super) fn write_tables(&mut self, image: &Image) -> Result<Map> {
        let before = self.image.clone();
        let mut tables = if before.is_some() { self.tables.in_force.clone() } else { Map::new() };
        let nothing = chain_graph::map::Map::new();
        for change in changes(before.as_ref().map_or(&nothing, |before| before.tables()), image.tables()) {
            let set = *change.key;
            let Some(table) = change.after else {
                tables.remove(&set);
                continue;
            };
            let word = match self.tables.find(set, table).or_else(|| self.adopt(set, table)) {
                Some(word) => word,
                None => self.write_table(set, table)?,
            };
            tables.insert(set, (Arc::clone(table), word));
        }
        Ok(tables)
    }

    fn write_table(&mut self, set: ReplicaSetId, table: &Arc<BuiltTable>) -> Result<TableWord> {
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
        let word = table.word(start);
        if let Some((_, stale)) = self.tables.written.insert(set, (Arc::clone(table), word)) {
            self.freeing.push(Freed::Pages(stale));
        }
        Ok(word)
    }
}
