//! Giving out numbers: never the same twice until the space has wrapped.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The last number given out in each space. 0: none yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cursors {
    pub(crate) tenants: u32,
    pub(crate) attachments: u32,
    pub(crate) graphs: u32,
    pub(crate) replica_sets: u32,
    pub(crate) instances: u32,
}

/// Numbers of one space that are in use.
pub(crate) type Used = BTreeSet<u32>;

/// Gives out the first free number after `cursor`, 1 to `max`, starting over at the end. `None` if all are in use.
pub(crate) fn next(cursor: &mut u32, max: u32, used: &mut Used) -> Option<u32> {
    if used.len() as u64 >= u64::from(max) {
        return None;
    }
    let mut candidate = *cursor;
    loop {
        candidate = if candidate >= max { 1 } else { candidate + 1 };
        if used.insert(candidate) {
            *cursor = candidate;
            return Some(candidate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Used, next};

    #[test]
    fn numbers_are_not_reused_before_the_space_wraps() {
        let (mut cursor, mut used) = (0, Used::new());
        assert_eq!(next(&mut cursor, 3, &mut used), Some(1));
        assert_eq!(next(&mut cursor, 3, &mut used), Some(2));
        used.remove(&1);
        used.remove(&2);
        assert_eq!(next(&mut cursor, 3, &mut used), Some(3), "1 and 2 are free, but were used");
        assert_eq!(next(&mut cursor, 3, &mut used), Some(1), "wrapped");
    }

    #[test]
    fn a_full_space_gives_nothing_and_keeps_the_cursor() {
        let (mut cursor, mut used) = (2, Used::from([1, 2, 3]));
        assert_eq!(next(&mut cursor, 3, &mut used), None);
        assert_eq!(cursor, 2);
    }

    #[test]
    fn numbers_in_use_are_stepped_over() {
        let (mut cursor, mut used) = (0, Used::from([1, 2, 4]));
        assert_eq!(next(&mut cursor, 9, &mut used), Some(3));
        assert_eq!(next(&mut cursor, 9, &mut used), Some(5));
    }
}
