//! The plan in parts, so that a change stores what changed and not all of it.
//!
//! Parts are the members of the plan's own serial form: `number`, `digest`, `seed`, and one part for each element of
//! `last_views/`, `graphs/`, `replica_sets/` and `outside/`. The digest is compared when they are put together.

use chain_graph::Plan;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

/// Parts to write, or with `None` to remove, to turn `old` into `new`.
pub(crate) fn difference(old: Option<&Arc<Plan>>, new: &Arc<Plan>) -> Vec<(String, Option<Value>)> {
    let mut parts = Vec::new();
    if old.is_some_and(|old| Arc::ptr_eq(old, new)) {
        return parts;
    }
    let content = new.content();
    parts.push(("number".to_owned(), Some(json!(new.number()))));
    parts.push(("digest".to_owned(), Some(json!(new.digest()))));
    parts.push(("seed".to_owned(), Some(json!(content.seed))));
    let empty = BTreeMap::new();
    compare("last_views", old.map_or(&empty, |old| old.last_views()), new.last_views(), PartialEq::eq, &mut parts);
    let empty = BTreeMap::new();
    compare("graphs", old.map_or(&empty, |old| &old.content().graphs), &content.graphs, PartialEq::eq, &mut parts);
    let empty = BTreeMap::new();
    let sets = old.map_or(&empty, |old| &old.content().replica_sets);
    compare("replica_sets", sets, &content.replica_sets, same, &mut parts);
    let empty = BTreeMap::new();
    let outside = old.map_or(&empty, |old| &old.content().outside);
    compare("outside", outside, &content.outside, same, &mut parts);
    parts
}

fn same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

fn compare<K: Ord + Display, V: Serialize>(
    kind: &str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
    parts: &mut Vec<(String, Option<Value>)>,
) {
    for key in old.keys().filter(|key| !new.contains_key(key)) {
        parts.push((format!("{kind}/{key}"), None));
    }
    for (key, value) in new {
        if !old.get(key).is_some_and(|old| same(old, value)) {
            parts.push((format!("{kind}/{key}"), Some(json!(value))));
        }
    }
}

/// Puts parts together. `None` if there are none.
pub(crate) fn assemble(parts: BTreeMap<String, Value>) -> Result<Option<Plan>, serde_json::Error> {
    if parts.is_empty() {
        return Ok(None);
    }
    let mut plan = Map::new();
    let mut content = Map::new();
    plan.insert("last_views".to_owned(), json!({}));
    for kind in ["graphs", "replica_sets", "outside"] {
        content.insert(kind.to_owned(), json!({}));
    }
    for (part, value) in parts {
        match part.split_once('/') {
            None if part == "seed" => content.insert(part, value),
            None => plan.insert(part, value),
            Some((kind, key)) => {
                let owner = if kind == "last_views" { &mut plan } else { &mut content };
                match owner.entry(kind).or_insert_with(|| json!({})) {
                    Value::Object(elements) => elements.insert(key.to_owned(), value),
                    _ => None,
                }
            }
        };
    }
    plan.insert("content".to_owned(), Value::Object(content));
    serde_json::from_value(Value::Object(plan)).map(Some)
}
