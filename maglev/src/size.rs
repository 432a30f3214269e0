//! The table sizes a replica set may have.

/// Slots per member that a table must have at its declared maximum. The paper's bound: with 100 times more slots than members, no
/// member is more than 1 % above its share (NSDI 2016, section 3.4).
const SLOTS_PER_MEMBER: u32 = 100;

/// The listed sizes: primes just above powers of two, up to the largest that 6553 members need. All of them are below 2^20.
const SIZES: [u32; 15] =
    [101, 257, 521, 1031, 2053, 4099, 8209, 16_411, 32_771, 65_537, 131_101, 262_147, 524_309, 589_829, 655_373];

/// Number of slots of a table: one of a list of primes.
///
/// It is fixed when a replica set is created, from the declared maximum of its members, and never changes with the membership: a
/// size that follows the membership moves 91 to 95 % of the flows when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableSize(u32);

/// Why there is no such table size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// A replica set's maximum of members was outside `1..=6553`.
    #[error("table size for at most {max_members} members: the maximum must be 1 to {largest}")]
    MaxMembers {
        /// The maximum that was asked for.
        max_members: u32,
        /// The largest maximum that has a table size.
        largest: u32,
    },
    /// The number is not one of the listed primes.
    #[error("table size {size}: not one of the listed primes")]
    NotListed {
        /// The number that was asked for.
        size: u32,
    },
}

impl TableSize {
    /// All sizes, in rising order.
    pub const LISTED: &'static [Self] = &{
        let mut listed = [Self(0); SIZES.len()];
        let mut i = 0;
        while i < SIZES.len() {
            listed[i] = Self(SIZES[i]);
            i += 1;
        }
        listed
    };

    /// The largest size: 655,373 slots, for up to 6553 members.
    pub const LARGEST: Self = Self(SIZES[SIZES.len() - 1]);

    /// The smallest listed size with at least 100 slots for each of `max_members` members (`1..=6553`).
    ///
    /// # Errors
    /// [`SizeError::MaxMembers`] outside that range.
    pub fn for_max_members(max_members: u32) -> Result<Self, SizeError> {
        let largest = Self::LARGEST.max_members();
        if max_members == 0 || max_members > largest {
            return Err(SizeError::MaxMembers { max_members, largest });
        }
        SIZES
            .iter()
            .find(|&&size| size >= max_members * SLOTS_PER_MEMBER)
            .map(|&size| Self(size))
            .ok_or(SizeError::MaxMembers { max_members, largest })
    }

    /// The number of slots.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number of members up to which every member of equal weight has at least 100 slots.
    pub const fn max_members(self) -> u32 {
        self.0 / SLOTS_PER_MEMBER
    }
}

impl TryFrom<u32> for TableSize {
    type Error = SizeError;

    fn try_from(size: u32) -> Result<Self, SizeError> {
        if SIZES.contains(&size) { Ok(Self(size)) } else { Err(SizeError::NotListed { size }) }
    }
}

impl core::fmt::Display for TableSize {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}
