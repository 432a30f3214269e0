//! Maglev tables as the data plane holds them.

use super::BuildError;
use crate::plan::{Member, Members};
use std::sync::Arc;
use xdp_layout::ReplicaSetId;
use xdp_layout::plan::TableWord;

/// A replica set's table. Immutable; shared by all images whose plans have the same members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuiltTable {
    members: Arc<Members>,
    seed: [u64; 2],
    entries: Vec<u16>,
    digest: u64,
}

impl BuiltTable {
    /// Builds the table; `None` if no member has a weight above 0.
    pub(super) fn build(
        set: ReplicaSetId,
        members: &Arc<Members>,
        seed: [u64; 2],
    ) -> Result<Option<Arc<Self>>, BuildError> {
        let list: Vec<maglev::Member<'_>> = members
            .members()
            .iter()
            .map(|member| maglev::Member { name: member.name.as_str().as_bytes(), weight: member.weight.into() })
            .collect();
        let table = match maglev::build(&list, members.table_size(), seed) {
            Ok(table) => table,
            Err(maglev::BuildError::NoWeight { .. }) => return Ok(None),
            Err(source) => return Err(BuildError::Table { set, source }),
        };
        let digest = table.digest();
        Ok(Some(Arc::new(Self { members: Arc::clone(members), seed, entries: table.entries().to_vec(), digest })))
    }

    /// Whether a table of these would have the same bytes.
    pub(super) fn serves(&self, members: &Members, seed: [u64; 2]) -> bool {
        *self.members == *members && self.seed == seed
    }

    /// For each slot the index of its member.
    pub fn entries(&self) -> &[u16] {
        &self.entries
    }

    /// Members, sorted by name: the index is the one in the entries.
    pub fn members(&self) -> &Arc<Members> {
        &self.members
    }

    /// Digest of the entries, see [`maglev::digest`].
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// What lies behind the entries in the table pages: instance ids by member index, 0 for members without weight, so that
    /// no flow is ever picked for them.
    pub fn member_words(&self) -> impl ExactSizeIterator<Item = u16> + '_ {
        self.members.members().iter().map(member_word)
    }

    /// The u16 at `index` of the table's region in the pages: entries, then members.
    pub fn page_word(&self, index: u32) -> Option<u16> {
        let index = index as usize;
        match index.checked_sub(self.entries.len()) {
            None => self.entries.get(index).copied(),
            Some(member) => self.members.members().get(member).map(member_word),
        }
    }

    /// Length of that region.
    pub fn page_words(&self) -> u32 {
        (self.entries.len() + self.members.members().len()) as u32
    }

    /// The word that names the table once its region starts at `start`.
    pub fn word(&self, start: u32) -> TableWord {
        TableWord::new(start, self.entries.len() as u32, self.members.members().len() as u32)
    }
}

fn member_word(member: &Member) -> u16 {
    if member.weight == 0 { 0 } else { member.instance.get() }
}
