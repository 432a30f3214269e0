//! Ordered maps whose copies share structure, and what differs between two of them.
//!
//! A copy costs nothing, a change copies the path to it, and two maps of which one came from the other are compared in time
//! proportional to the differences: so the price of a change does not depend on what else is declared.

use imbl::ordmap::DiffItem;

/// A persistent ordered map: a B-tree with shared nodes.
pub type Map<K, V> = imbl::OrdMap<K, V>;

/// A key that has another value in one map than in the other, or none.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// Its value in the first map.
    pub before: Option<&'a V>,
    /// Its value in the second map.
    pub after: Option<&'a V>,
}

impl<K, V> Change<'_, K, V> {
    /// Whether there is a value in the second map, and what `part` reads off it is not what it reads off the first one's.
    pub fn renews<P: PartialEq>(&self, part: impl Fn(&V) -> P) -> bool {
        self.after.is_some_and(|after| self.before.is_none_or(|before| part(before) != part(after)))
    }
}

/// What differs, in the order of the keys. Values are compared where the maps do not share them.
pub fn changes<'a, K: Ord, V: PartialEq>(before: &'a Map<K, V>, after: &'a Map<K, V>) -> Vec<Change<'a, K, V>> {
    let differing = before.diff(after).map(|item| match item {
        DiffItem::Add(key, new) => Change { key, before: None, after: Some(new) },
        DiffItem::Update { old: (_, old), new: (key, new) } => Change { key, before: Some(old), after: Some(new) },
        DiffItem::Remove(key, old) => Change { key, before: Some(old), after: None },
    });
    differing.collect()
}

#[cfg(test)]
mod tests {
    use super::{Map, changes};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// The library's comparison skips what is shared; a plain one does not.
        #[test]
        fn differences_are_those_that_a_full_comparison_finds(
            first in prop::collection::vec((0u16..600, 0u8..3), 0..700),
            then in prop::collection::vec((0u16..600, prop::option::of(0u8..3)), 0..40),
        ) {
            let before: Map<u16, u8> = first.into_iter().collect();
            let mut after = before.clone();
            for (key, value) in then {
                match value {
                    Some(value) => after.insert(key, value),
                    None => after.remove(&key),
                };
            }
            let keys: BTreeMap<u16, ()> = before.keys().chain(after.keys()).map(|key| (*key, ())).collect();
            let plain: Vec<_> = keys
                .into_keys()
                .map(|key| (key, before.get(&key).copied(), after.get(&key).copied()))
                .filter(|(_, old, new)| old != new)
                .collect();
            let found = changes(&before, &after);
            let found: Vec<_> = found.iter().map(|c| (*c.key, c.before.copied(), c.after.copied())).collect();
            prop_assert_eq!(found, plain);
        }
    }
}
