//! Rollouts and versions on disk.

use super::{ReadError, content, encode, name};
use crate::ResourcePath;
use crate::rollout::{Lineage, Made};
use chain_graph::map::{Map, changes};
use chain_graph::model::ObjectKey;
use chain_graph::rollout::{Draining, Rollout};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use xdp_layout::ViewId;

const ROLLOUTS: TableDefinition<&str, &[u8]> = TableDefinition::new("rollouts");
const VERSIONS: TableDefinition<(&str, u32), &[u8]> = TableDefinition::new("versions");

/// By graph.
pub(super) type Lineages = Map<ObjectKey, Arc<Lineage>>;

/// A lineage without the content of its versions, which do not change.
#[derive(Serialize, Deserialize)]
struct Head<R, D> {
    rollout: R,
    draining: D,
}

/// Writes what differs.
pub(super) fn write(transaction: &WriteTransaction, old: &Lineages, new: &Lineages) -> Result<(), redb::Error> {
    let mut rollouts = transaction.open_table(ROLLOUTS)?;
    let mut versions = transaction.open_table(VERSIONS)?;
    let nothing = BTreeMap::new();
    for change in changes(old, new) {
        let name = ResourcePath::Graph(change.key.clone()).to_string();
        match change.after {
            Some(lineage) => {
                let head = Head { rollout: &lineage.rollout, draining: &lineage.draining };
                rollouts.insert(name.as_str(), encode(&head).as_slice())?;
            }
            None => drop(rollouts.remove(name.as_str())?),
        }
        let [known, made] = [change.before, change.after].map(|of| of.map_or(&nothing, |lineage| &lineage.made));
        for view in known.keys().filter(|view| !made.contains_key(view)) {
            versions.remove((name.as_str(), view.get()))?;
        }
        for (view, made) in made {
            if !known.get(view).is_some_and(|known| Arc::ptr_eq(known, made)) {
                versions.insert((name.as_str(), view.get()), encode(made.as_ref()).as_slice())?;
            }
        }
    }
    Ok(())
}

/// Reads all. Files of format 1 have none.
pub(super) fn read(transaction: &ReadTransaction) -> Result<Lineages, ReadError> {
    let mut lineages = Lineages::new();
    let rollouts = match transaction.open_table(ROLLOUTS) {
        Ok(rollouts) => rollouts,
        Err(TableError::TableDoesNotExist(_)) => return Ok(lineages),
        Err(error) => return Err(error.into()),
    };
    let mut made: BTreeMap<String, BTreeMap<ViewId, Arc<Made>>> = BTreeMap::new();
    for item in transaction.open_table(VERSIONS)?.iter()? {
        let (key, value) = item?;
        let (graph, view) = key.value();
        let place = format!("{graph} {view}");
        let id = ViewId::new(view).ok_or_else(|| ReadError::Content(format!("versions {place}: no view number")))?;
        let version = Arc::new(content("versions", &place, value.value())?);
        made.entry(graph.to_owned()).or_default().insert(id, version);
    }
    for item in rollouts.iter()? {
        let (key, value) = item?;
        let ResourcePath::Graph(graph) = name("rollouts", key.value())? else {
            return Err(ReadError::Content(format!("rollouts {}: no graph", key.value())));
        };
        let Head::<Rollout, Vec<Draining>> { rollout, draining } = content("rollouts", key.value(), value.value())?;
        let made = made.remove(key.value()).unwrap_or_default();
        lineages.insert(graph, Arc::new(Lineage { rollout, made, draining }));
    }
    Ok(lineages)
}
