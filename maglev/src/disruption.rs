//! What a change of members costs: a comparison of two tables slot by slot.

use alloc::{string::String, vec, vec::Vec};

use crate::{BuiltTable, Member};

/// A table and the members it was built from, in any order.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The table.
    pub table: &'a BuiltTable,
    /// The members given to [`build`](crate::build) for it.
    pub members: &'a [Member<'a>],
}

/// Why two tables cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisruptionError {
    /// The sizes differ. Nothing useful can be said: nearly every flow moves.
    #[error("compare tables: {before} slots before and {after} after")]
    SizesDiffer {
        /// Slots of the table before.
        before: u32,
        /// Slots of the table after.
        after: u32,
    },
    /// The member list is not the one that the table was built from.
    #[error("compare tables: the table {which} the change has {table} members, its list has {listed}")]
    NotItsMembers {
        /// `before` or `after`.
        which: &'static str,
        /// Members the table was built from.
        table: usize,
        /// Members in the list given with it.
        listed: usize,
    },
}

/// What one member lost and gained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The member's name, as given; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Slots before the change.
    pub before_slots: u32,
    /// Slots after the change.
    pub after_slots: u32,
    /// Slots it had and has no more.
    pub lost_slots: u32,
    /// Slots it has and had not.
    pub gained_slots: u32,
}

/// How two tables of one size differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Slots of either table.
    pub total_slots: u32,
    /// Slots whose member changed: this share of new flows would be answered differently.
    pub moved_slots: u32,
    /// Those of them whose old and new member both have a weight above zero on both sides. After a removal or an addition all of
    /// these are collateral; after a change of weights some are the purpose.
    pub moved_between_survivors: u32,
    /// One entry for each member of either side, sorted by name.
    pub members: Vec<MemberChange>,
}

/// One name in either list.
struct Known<'a> {
    name: &'a [u8],
    serving_before: bool,
    serving_after: bool,
}

/// Compares two tables slot by slot, members by their names.
///
/// # Errors
/// The sizes differ, or a side's list has not as many members as its table.
pub fn disruption(before: Side<'_>, after: Side<'_>) -> Result<Report, DisruptionError> {
    let (size_before, size_after) = (before.table.size().get(), after.table.size().get());
    if size_before != size_after {
        return Err(DisruptionError::SizesDiffer { before: size_before, after: size_after });
    }
    check("before", before)?;
    check("after", after)?;

    let mut names: Vec<&[u8]> = before.members.iter().chain(after.members).map(|m| m.name).collect();
    names.sort_unstable();
    names.dedup();
    let mut known: Vec<Known<'_>> =
        names.iter().map(|&name| Known { name, serving_before: false, serving_after: false }).collect();
    let of_before = translate(before, &names);
    let of_after = translate(after, &names);
    for (index, &place) in of_before.iter().enumerate() {
        known[place].serving_before = before.members[before.table.input_position(index)].weight > 0;
    }
    for (index, &place) in of_after.iter().enumerate() {
        known[place].serving_after = after.members[after.table.input_position(index)].weight > 0;
    }

    let mut had = vec![0u32; names.len()];
    let mut has = vec![0u32; names.len()];
    let mut kept = vec![0u32; names.len()];
    let mut moved_slots = 0;
    let mut moved_between_survivors = 0;
    for (&old, &new) in before.table.entries().iter().zip(after.table.entries()) {
        let (old, new) = (of_before[usize::from(old)], of_after[usize::from(new)]);
        had[old] += 1;
        has[new] += 1;
        if old == new {
            kept[old] += 1;
        } else {
            moved_slots += 1;
            moved_between_survivors += u32::from(known[old].serving_after && known[new].serving_before);
        }
    }

    let members = known
        .iter()
        .enumerate()
        .map(|(i, k)| MemberChange {
            name: String::from_utf8_lossy(k.name).into_owned(),
            before_slots: had[i],
            after_slots: has[i],
            lost_slots: had[i] - kept[i],
            gained_slots: has[i] - kept[i],
        })
        .collect();
    Ok(Report { total_slots: size_before, moved_slots, moved_between_survivors, members })
}

fn check(which: &'static str, side: Side<'_>) -> Result<(), DisruptionError> {
    let (table, listed) = (side.table.members_count(), side.members.len());
    if table == listed { Ok(()) } else { Err(DisruptionError::NotItsMembers { which, table, listed }) }
}

/// For each member index of the side's table: where its name is in `names`.
fn translate(side: Side<'_>, names: &[&[u8]]) -> Vec<usize> {
    (0..side.members.len())
        .map(|index| {
            let name = side.members[side.table.input_position(index)].name;
            names.partition_point(|&n| n < name)
        })
        .collect()
}
