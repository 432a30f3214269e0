//! The banks of plan words, one of which is in force.

use super::{Delta, Installer, tables};
use crate::error::Result;
use crate::grace::Grace;
use crate::maps::Maps;
use crate::sys::Mapping;
use chain_graph::Plan;
use chain_graph::map::{Map, changes};
use chain_graph::plan::PlanRef;
use std::collections::BTreeSet;
use xdp_layout::plan::{ActiveWord, BANK_WORDS, BANKS, DIGEST_WORD, GraphWord, REPLICA_SETS_MAX};
use xdp_layout::{Generation, GraphId, ReplicaSetId, TenantId, ViewId};

/// Which bank is in force, and what lies in the others.
pub(super) struct Banks {
    active: ActiveWord,
    /// Digest of the plan in force; 0 where it is not known.
    digest: u64,
    /// Graphs and replica sets that have a word in the bank in force, and their words.
    words: Map<u32, u64>,
    /// For each bank the words in which it may differ from the one in force; `None` for all.
    stale: [Option<BTreeSet<u32>>; BANKS as usize],
    /// For each bank the moment at which it was left.
    left: [u64; BANKS as usize],
}

pub(super) fn word_of_set(set: ReplicaSetId) -> u32 {
    set.get().into()
}

fn word_of_graph(graph: GraphId) -> u32 {
    REPLICA_SETS_MAX + u32::from(graph.get())
}

impl Banks {
    pub(super) fn new(maps: &Maps, grace: &Grace) -> Self {
        let active = ActiveWord(maps.active.read(0));
        Self {
            active,
            digest: maps.plan.read((active.bank() * BANK_WORDS + DIGEST_WORD) as usize),
            words: Map::new(),
            stale: [const { None }; BANKS as usize],
            // Everything may be read by programs that run since before this process.
            left: [grace.mark(); BANKS as usize],
        }
    }

    pub(super) fn active(&self) -> ActiveWord {
        self.active
    }

    /// The plan in force; `None` before the first, and where its digest is not known.
    pub(super) fn in_force(&self) -> Option<PlanRef> {
        let generation = Generation::new(self.active.generation())?;
        (self.digest != 0).then_some(PlanRef { generation, digest: self.digest })
    }

    /// Takes note of what an earlier process put in force.
    pub(super) fn recover(&mut self, plan: &Mapping) -> &Map<u32, u64> {
        let base = self.active.bank() * BANK_WORDS;
        let words = (1..BANK_WORDS).map(|index| (index, plan.read::<u64>((base + index) as usize)));
        self.words = words.filter(|(_, word)| *word != 0).collect();
        &self.words
    }

    /// Writes the next bank and puts it in force with one store. Words that the plan does not have any more stay in it until
    /// no entry leads to them.
    pub(super) fn switch(
        &mut self,
        array: &mut Mapping,
        active: &mut Mapping,
        grace: &Grace,
        plan: &Plan,
        words: &Map<u32, u64>,
    ) -> Result<()> {
        let bank = (self.active.bank() + 1) % BANKS;
        let base = (bank * BANK_WORDS) as usize;
        grace.wait(self.left[bank as usize])?;
        let before = std::mem::replace(&mut self.words, words.clone());
        let mut changed = Vec::new();
        for change in changes(&before, words) {
            match (change.before, change.after) {
                (Some(gone), None) => drop(self.words.insert(*change.key, *gone)),
                _ => changed.push(*change.key),
            }
        }
        let word_at = |index: &u32| self.words.get(index).copied().unwrap_or(0);
        match &self.stale[bank as usize] {
            None => array.write(base, &(0..BANK_WORDS).map(|index| word_at(&index)).collect::<Vec<u64>>()),
            Some(stale) => {
                for index in stale.iter().chain(&changed) {
                    array.write(base + *index as usize, &[word_at(index)]);
                }
            }
        }
        array.write(base + DIGEST_WORD as usize, &[plan.digest()]);
        self.digest = plan.digest();
        self.note_stale(&changed);
        self.stale[bank as usize] = Some(BTreeSet::new());
        let left = self.active.bank() as usize;
        self.active = ActiveWord::new(plan.generation().get(), bank);
        active.publish(0, self.active.0);
        self.left[left] = grace.mark();
        Ok(())
    }

    fn note_stale(&mut self, words: &[u32]) {
        self.stale.iter_mut().flatten().for_each(|stale| stale.extend(words));
    }

    /// Clears words that nothing leads to any more. `words` is what is in force.
    pub(super) fn clear_gone(&mut self, array: &mut Mapping, words: Map<u32, u64>) {
        let base = self.active.bank() * BANK_WORDS;
        let gone: Vec<u32> = changes(&self.words, &words).iter().map(|change| *change.key).collect();
        gone.iter().for_each(|index| array.publish((base + index) as usize, 0));
        self.words = words;
        self.note_stale(&gone);
        self.stale[self.active.bank() as usize] = Some(BTreeSet::new());
    }
}

impl Installer {
    /// The words of the image's bank: tables by replica set, active views by graph.
    pub(super) fn words(&self, delta: &Delta, tables: &tables::Map) -> Map<u32, u64> {
        let mut words = if delta.is_full { Map::new() } else { self.banks.words.clone() };
        let known = tables::Map::new();
        for table in changes(if delta.is_full { &known } else { self.tables.in_force() }, tables) {
            match table.after {
                Some((_, word)) => words.insert(word_of_set(*table.key), word.0),
                None => words.remove(&word_of_set(*table.key)),
            };
        }
        for graph in &delta.graphs {
            let Some(active) = &graph.after else {
                words.remove(&word_of_graph(graph.key));
                continue;
            };
            let slot = |view: ViewId| self.slot(active.tenant, view);
            let (canary, share) = active.canary.map_or((0, 0), |canary| (slot(canary.view.id), canary.share));
            words.insert(word_of_graph(graph.key), GraphWord::new(slot(active.stable.id), canary, share).0);
        }
        words
    }

    fn slot(&self, tenant: TenantId, view: ViewId) -> u32 {
        self.views.get(&tenant).and_then(|views| views.get(&view)).map_or(0, |place| place.slot)
    }
}
