//! Tables that a change needs.

use crate::image::{BuiltTable, Image};
use crate::model::ResourceName;
use std::fmt;
use std::sync::Arc;
use xdp_layout::ReplicaSetId;

/// A table that must be built and written before the image after can be in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableBuild {
    /// The replica set.
    pub replica_set: ReplicaSetId,
    /// Its function.
    pub function: ResourceName,
    /// Slots.
    pub slots: u32,
    /// Members, those without weight included.
    pub members: u32,
    /// Whether the replica set has another table before.
    pub replaces: bool,
}

impl TableBuild {
    /// Room in the table pages, in bytes.
    pub const fn bytes(&self) -> u64 {
        (self.slots as u64 + self.members as u64) * size_of::<u16>() as u64
    }
}

impl fmt::Display for TableBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replica_set, function, slots, members, replaces } = self;
        let what = if *replaces { "again" } else { "anew" };
        write!(f, "build table of {function}, replica set {replica_set}, {what}: ")?;
        write!(f, "members {members}, slots {slots}, bytes {}", self.bytes())
    }
}

/// Whether two tables have the same bytes in the pages.
pub(super) fn is_same(a: &Arc<BuiltTable>, b: &Arc<BuiltTable>) -> bool {
    Arc::ptr_eq(a, b) || (a.digest() == b.digest() && a.members() == b.members())
}

/// The tables of `after` that `before` does not have, by replica set.
pub(super) fn builds(before: &Image, after: &Image) -> Vec<TableBuild> {
    let functions = after.functions().iter();
    let sets = functions.flat_map(|(function, image)| image.members().keys().map(move |set| (function, *set)));
    let fresh = sets.filter_map(|(function, set)| {
        let (known, table) = (before.tables().get(&set), after.tables().get(&set)?);
        let build = || TableBuild {
            replica_set: set,
            function: function.clone(),
            slots: table.entries().len() as u32,
            members: table.members().members().len() as u32,
            replaces: known.is_some(),
        };
        (!known.is_some_and(|known| is_same(known, table))).then(build)
    });
    let mut builds: Vec<TableBuild> = fresh.collect();
    builds.sort_unstable_by_key(|build| build.replica_set);
    builds
}
