//! Free space in the arrays that a plan fills: intervals, first fit.

use std::collections::BTreeMap;

/// Free intervals of an index space.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    /// Start to length; never adjacent.
    free: BTreeMap<u32, u32>,
}

impl Regions {
    /// All of `start..end` free.
    pub(crate) fn new(start: u32, end: u32) -> Self {
        Self { free: BTreeMap::from([(start, end - start)]) }
    }

    /// Takes `len` indexes in a row; `None` if there is no such row.
    pub(crate) fn take(&mut self, len: u32) -> Option<u32> {
        let (start, room) = self.free.iter().map(|(start, room)| (*start, *room)).find(|(_, room)| *room >= len)?;
        self.reserve(start, len, start, room);
        Some(start)
    }

    /// Takes exactly `start..start + len`, which must be free.
    pub(crate) fn claim(&mut self, start: u32, len: u32) {
        let interval = self.free.range(..=start).next_back().map(|(s, r)| (*s, *r));
        if let Some((from, room)) = interval
            && start + len <= from + room
        {
            self.reserve(start, len, from, room);
        }
    }

    fn reserve(&mut self, start: u32, len: u32, from: u32, room: u32) {
        self.free.remove(&from);
        if start > from {
            self.free.insert(from, start - from);
        }
        if start + len < from + room {
            self.free.insert(start + len, from + room - start - len);
        }
    }

    /// Gives indexes back.
    pub(crate) fn give(&mut self, start: u32, len: u32) {
        let (mut start, mut len) = (start, len);
        if let Some((before, room)) = self.free.range(..start).next_back().map(|(s, r)| (*s, *r))
            && before + room == start
        {
            self.free.remove(&before);
            start = before;
            len += room;
        }
        if let Some(room) = self.free.remove(&(start + len)) {
            len += room;
        }
        self.free.insert(start, len);
    }

    /// Free indexes.
    pub(crate) fn room(&self) -> u64 {
        self.free.values().map(|room| u64::from(*room)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Regions;

    #[test]
    fn what_is_given_back_merges_with_its_neighbours() {
        let mut regions = Regions::new(1, 101);
        let a = regions.take(10).expect("room");
        let b = regions.take(20).expect("room");
        let c = regions.take(70).expect("room");
        assert_eq!((a, b, c, regions.room()), (1, 11, 31, 0));
        assert_eq!(regions.take(1), None);
        regions.give(a, 10);
        regions.give(c, 70);
        assert_eq!(regions.take(71), None, "two intervals, neither long enough");
        regions.give(b, 20);
        assert_eq!(regions.take(100), Some(1));
    }

    #[test]
    fn a_claim_splits_an_interval() {
        let mut regions = Regions::new(0, 100);
        regions.claim(40, 10);
        assert_eq!(regions.take(50), Some(50));
        assert_eq!(regions.take(40), Some(0));
        assert_eq!(regions.room(), 0);
    }
}
