//! What differs between two maps of shared objects.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A key whose object is not the same in both maps.
pub(crate) struct Change<'a, K, V> {
    pub(crate) key: &'a K,
    pub(crate) before: Option<&'a Arc<V>>,
    pub(crate) after: Option<&'a Arc<V>>,
}

impl<K, V> Change<'_, K, V> {
    /// Whether there is an object now, and what `part` reads off it was another or nothing before.
    pub(crate) fn renews<P: PartialEq>(&self, part: impl Fn(&V) -> P) -> bool {
        self.after.is_some_and(|after| self.before.is_none_or(|before| part(before) != part(after)))
    }
}

/// Objects that are not the same, by pointer, in the order of their keys. Costs a walk over both maps that touches no object.
pub(crate) fn changes<'a, K: Ord, V>(
    before: &'a BTreeMap<K, Arc<V>>,
    after: &'a BTreeMap<K, Arc<V>>,
) -> Vec<Change<'a, K, V>> {
    let mut found = Vec::new();
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            // Equality is asked first, since shared keys answer it by pointer.
            (Some((a, _)), Some((b, _))) if a == b => Ordering::Equal,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let old = old.next_if(|_| order != Ordering::Greater);
        let new = new.next_if(|_| order != Ordering::Less);
        if let Some((key, _)) = old.or(new) {
            let (before, after) = (old.map(|(_, object)| object), new.map(|(_, object)| object));
            if !before.zip(after).is_some_and(|(a, b)| Arc::ptr_eq(a, b)) {
                found.push(Change { key, before, after });
            }
        }
    }
}
