//! Table construction.
//!
//! Every member walks the slots in its own order, `offset, offset + skip, offset + 2 skip, ...` modulo the prime size (NSDI 2016,
//! section 3.4), and claims the next free one at each of its turns, until it has its exact count (see `quota`).
//!
//! Turns follow the weights. A member of weight `2^c * (1 + f)`, `0 <= f < 1`, is of class `c` and has a turn in every
//! `2^(C - c)`-th round, where `C` is the heaviest class; in it, it claims one slot, and a second one whenever its accumulated `f`
//! overflows (after everybody's first). So the order of any two members' turns depends on their weights alone, not on who else is there:
//! this is what keeps survivors' slots where they are. No heap and no division, and nearly every visit claims a slot.

use alloc::{string::String, vec, vec::Vec};
use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::{TableSize, digest::digest, quota::quotas};

/// The most members that [`build`] takes. Index 65,535 stays free for "no entry" in callers' maps.
pub const MAX_MEMBERS: usize = u16::MAX as usize;

/// A member of a replica set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its identity within the replica set. Where it stands in the table depends on this alone.
    pub name: &'a [u8],
    /// Its share relative to the other members'. Zero: it is not in the table and gets no new flows, but keeps its index.
    pub weight: u32,
}

/// Why a table cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Two members have the same name.
    #[error("build table: member {name:?} is listed twice")]
    DuplicateMember {
        /// The name; bytes that are not UTF-8 are replaced.
        name: String,
    },
    /// There is no member, or all weights are zero.
    #[error("build table: none of the {members} members has a weight above zero")]
    NoWeight {
        /// How many members were given.
        members: usize,
    },
    /// More members than indexes, or more members of positive weight than slots.
    #[error("build table of {size} slots: {members} members are more than the {limit} it can hold")]
    TooManyMembers {
        /// How many members were given.
        members: usize,
        /// How many the table can hold.
        limit: usize,
        /// The table's size.
        size: TableSize,
    },
}

/// A table: for each slot the index of its member.
///
/// **Index**: position in the list of *all* members sorted by name, those of weight zero included; so one sorted member list serves the
/// table, the weights and the members' state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltTable {
    size: TableSize,
    entries: Vec<u16>,
    order: Vec<u16>,
}

impl BuiltTable {
    /// Number of slots.
    pub fn size(&self) -> TableSize {
        self.size
    }

    /// The member index of each slot; as many as [`size`](Self::size) says, each below [`members_count`](Self::members_count).
    pub fn entries(&self) -> &[u16] {
        &self.entries
    }

    /// Number of members the table was built from, those of weight zero included.
    pub fn members_count(&self) -> usize {
        self.order.len()
    }

    /// For each member index, where that member stood in the list given to [`build`].
    pub fn order(&self) -> &[u16] {
        &self.order
    }

    /// The [`digest`](crate::digest) of the entries.
    pub fn digest(&self) -> u64 {
        digest(&self.entries)
    }

    pub(crate) fn input_position(&self, index: usize) -> usize {
        usize::from(self.order[index])
    }
}

/// Builds the table of `members` (in any order) with `size` slots. `key` is the cluster's seed; it decides where members stand.
///
/// The same members, size and key give the same bytes everywhere; if all weights are equal, those of the paper's construction. Every
/// member of positive weight has at least one slot, and as long as its fair share is half a slot or more, the integer nearest to that
/// share or, when those do not add up to the size, its neighbour.
///
/// # Errors
/// A name listed twice, no positive weight, more than [`MAX_MEMBERS`] members, or more members of positive weight than slots.
pub fn build(members: &[Member<'_>], size: TableSize, key: [u64; 2]) -> Result<BuiltTable, BuildError> {
    let order = sorted(members, size)?;
    let serving: Vec<u16> =
        (0..order.len() as u16).filter(|&i| members[usize::from(order[usize::from(i)])].weight > 0).collect();
    if serving.is_empty() {
        return Err(BuildError::NoWeight { members: members.len() });
    }
    if serving.len() > size.get() as usize {
        return Err(BuildError::TooManyMembers { members: serving.len(), limit: size.get() as usize, size });
    }
    let member = |index: u16| members[usize::from(order[usize::from(index)])];
    let weights: Vec<u32> = serving.iter().map(|&i| member(i).weight).collect();
    let quotas = quotas(&weights, size.get());
    let mut walks: Vec<Walk> =
        serving.iter().zip(quotas).map(|(&index, quota)| Walk::new(index, member(index), quota, size, key)).collect();
    // Stable, so that members of one class stay in the order of their names.
    walks.sort_by_key(|walk| core::cmp::Reverse(walk.class));
    let entries = fill(&mut walks, size);
    Ok(BuiltTable { size, entries, order })
}

/// Positions in `members`, sorted by name.
fn sorted(members: &[Member<'_>], size: TableSize) -> Result<Vec<u16>, BuildError> {
    if members.len() > MAX_MEMBERS {
        return Err(BuildError::TooManyMembers { members: members.len(), limit: MAX_MEMBERS, size });
    }
    let name = |position: u16| members[usize::from(position)].name;
    let mut order: Vec<u16> = (0..members.len() as u16).collect();
    order.sort_unstable_by(|&a, &b| name(a).cmp(name(b)));
    match order.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
        Some(pair) => Err(BuildError::DuplicateMember { name: String::from_utf8_lossy(name(pair[0])).into_owned() }),
        None => Ok(order),
    }
}

/// One member's walk over the slots.
struct Walk {
    /// The slot it looks at next.
    position: u32,
    skip: u32,
    /// Slots it still has to claim.
    left: u32,
    /// `f` of the weight, in units of 2^-32, and what has accumulated of it.
    fraction: u32,
    accumulated: u32,
    member: u16,
    class: u8,
}

impl Walk {
    fn new(index: u16, member: Member<'_>, quota: u32, size: TableSize, key: [u64; 2]) -> Self {
        let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
        hasher.write(member.name);
        let hash = hasher.finish();
        let class = member.weight.ilog2();
        Self {
            position: crate::slot((hash >> 32) as u32, size.get()),
            skip: 1 + crate::slot(hash as u32, size.get() - 1),
            left: quota,
            // The bits below the leading one, moved to the top; the double shift because 32 would be too far for one.
            fraction: member.weight << (31 - class) << 1,
            accumulated: 0,
            member: index,
            class: class as u8,
        }
    }

    /// Adds up `f` once more; whether it overflowed, so that a second slot is due in this round.
    fn second_is_due(&mut self) -> bool {
        let (accumulated, overflowed) = self.accumulated.overflowing_add(self.fraction);
        self.accumulated = accumulated;
        overflowed
    }
}

/// Members of one class.
struct Class<'a> {
    walks: &'a mut [Walk],
    /// They have a turn in every `period`-th round; a power of two.
    period: u64,
    /// Slots that they still have to claim.
    left: u32,
}

/// Lets the walks, sorted by class, claim all slots. Their quotas add up to the size.
fn fill(walks: &mut [Walk], size: TableSize) -> Vec<u16> {
    let mut slots = Slots::new(size);
    let heaviest = walks.first().map_or(0, |walk| walk.class);
    let mut classes: Vec<Class<'_>> = walks
        .chunk_by_mut(|a, b| a.class == b.class)
        .map(|walks| Class {
            period: 1 << (heaviest - walks[0].class),
            left: walks.iter().map(|walk| walk.left).sum(),
            walks,
        })
        .collect();

    let mut round = 0u64;
    while let Some(period) = classes.iter().find(|c| c.left > 0).map(|c| c.period) {
        // Rounds in which nobody has a turn are passed over: only multiples of the heaviest unfinished class's period matter.
        round = round.next_multiple_of(period);
        for class in classes.iter_mut().take_while(|c| round.is_multiple_of(c.period)) {
            if class.left == 0 {
                continue;
            }
            for walk in class.walks.iter_mut().filter(|walk| walk.left > 0) {
                slots.claim(walk);
                class.left -= 1;
            }
            // Second slots after everybody's first: equal weights then take strict turns, as in the paper.
            for walk in class.walks.iter_mut() {
                if walk.second_is_due() && walk.left > 0 {
                    slots.claim(walk);
                    class.left -= 1;
                }
            }
        }
        round += 1;
    }
    slots.entries
}

/// The table being filled. A bitmap says what is taken: it stays in the first-level cache where the entries would not.
struct Slots {
    entries: Vec<u16>,
    taken: Vec<u64>,
    size: u32,
}

impl Slots {
    fn new(size: TableSize) -> Self {
        let slots = size.get() as usize;
        Self { entries: vec![0; slots], taken: vec![0; slots.div_ceil(64)], size: size.get() }
    }

    /// Gives `walk` the next free slot of its walk. There must be one.
    #[inline(always)]
    fn claim(&mut self, walk: &mut Walk) {
        let mut at = walk.position;
        let (skip, back) = (walk.skip, self.size - walk.skip);
        loop {
            let word = &mut self.taken[(at / 64) as usize];
            let bit = 1u64 << (at % 64);
            let here = at;
            // (at + skip) modulo the size, one subtraction deep: `at`, not the bitmap, is what the next step waits for.
            let (wrapped, short) = at.overflowing_sub(back);
            at = if short { at + skip } else { wrapped };
            if *word & bit == 0 {
                *word |= bit;
                self.entries[here as usize] = walk.member;
                walk.position = at;
                walk.left -= 1;
                return;
            }
        }
    }
}
