//! The plan in parts, so that a change stores what changed and not all of it.
//!
//! Parts are the members of the plan's own serial form: `number`, `digest`, `seed`, and one part for each element of
//! `last_views/`, `graphs/`, `replica_sets/` and `outside/`. The digest is compared when they are put together.

use chain_graph::Plan;
use chain_graph::map::{Map, changes};
use chain_graph::plan::PlanContent;
use serde::Serialize;
use serde_json::{Value, json};
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
    let nothing = Plan::next(None, 0, PlanContent::default(), Map::new());
    let old = old.map_or(&nothing, |old| old);
    compare("last_views", old.last_views(), new.last_views(), &mut parts);
    compare("graphs", &old.content().graphs, &content.graphs, &mut parts);
    compare("replica_sets", &old.content().replica_sets, &content.replica_sets, &mut parts);
    compare("outside", &old.content().outside, &content.outside, &mut parts);
    parts
}

fn compare<K: Ord + Display, V: Serialize + PartialEq>(
    kind: &str,
    old: &Map<K, V>,
    new: &Map<K, V>,
    parts: &mut Vec<(String, Option<Value>)>,
) {
    for change in changes(old, new) {
        parts.push((format!("{kind}/{}", change.key), change.after.map(|value| json!(value))));
    }
}

/// Puts parts together. `None` if there are none.
pub(crate) fn assemble(parts: BTreeMap<String, Value>) -> Result<Option<Plan>, serde_json::Error> {
    if parts.is_empty() {
        return Ok(None);
    }
    let mut plan = serde_json::Map::new();
    let mut content = serde_json::Map::new();
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
