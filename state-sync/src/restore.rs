//! From what is stored to a state.

use crate::Kind;
use crate::apply::Draft;
use crate::command::{Command, Refusal, Rejected};
use crate::rollout::Lineage;
use crate::state::{DesiredState, Setting, check, find};
use crate::store::{RestoreError, Stored};
use chain_graph::map::Map;
use chain_graph::model::ObjectKey;
use chain_graph::rollout::Timestamp;
use chain_graph::{Image, Plan};
use std::sync::Arc;

/// Puts a stored state together again. `now` dates what differs from what was stored.
pub(crate) fn restore(stored: Stored, setting: Setting, now: Timestamp) -> Result<DesiredState, RestoreError> {
    let Stored { cluster: _, revision, cursors, entries, plan, requests, lineages } = stored;
    let empty = DesiredState::empty(setting).map_err(RestoreError::Refused)?;
    let command = Command::batch(Vec::new());
    let mut draft = Draft::new(&empty, &command, now);
    for (path, entry) in &entries {
        if entry.resource.path() != *path {
            return Err(RestoreError::Damaged(format!("resources {path}: holds {}", entry.resource.path())));
        }
        let number = (path.kind() != Kind::NetworkFunction).then_some(entry.number);
        let orphan = path.parent().is_some_and(|parent| find(&draft.next.desired, &parent).is_none());
        if orphan || draft.place(path, &entry.resource, number).is_err() {
            return Err(RestoreError::Damaged(format!("resources {path}: has no owner or no number")));
        }
    }
    declare(&mut draft, &lineages)?;
    draft.next.lineages = lineages;
    draft.next.checked = check(None, &draft.next.desired, setting.capacity).map_err(RestoreError::Refused)?;
    draft.next.desired = Arc::clone(draft.next.checked.desired());
    draft.next.image = Arc::new(image(plan.as_deref(), &draft.next, setting).map_err(RestoreError::Refused)?);
    draft.settle(None).map_err(RestoreError::Refused)?;
    draft.close().map_err(RestoreError::Refused)?;
    let mut state = draft.next;
    state.revision = revision;
    state.cursors = cursors;
    state.revisions = entries.into_iter().map(|(path, entry)| (path, entry.revision)).collect();
    state.requests = requests;
    Ok(state)
}

/// Declares the versions of all graphs.
fn declare(draft: &mut Draft<'_>, lineages: &Map<ObjectKey, Arc<Lineage>>) -> Result<(), RestoreError> {
    let desired = Arc::make_mut(&mut draft.next.desired);
    for (key, lineage) in lineages {
        let damaged = |what: &str| RestoreError::Damaged(format!("rollouts {key}: {what}"));
        let declared = lineage.declared(std::iter::empty(), |_| true);
        let (stable, versions) = declared.ok_or_else(|| damaged("a version that it needs is not stored"))?;
        if desired.graphs.get(key) != Some(&stable) {
            return Err(damaged("its stable version is not the graph that is stored"));
        }
        desired.graphs.insert(key.clone(), stable);
        desired.put_versions(key.clone(), versions);
    }
    Ok(())
}

fn image(plan: Option<&Plan>, state: &DesiredState, setting: Setting) -> Result<Image, Rejected> {
    let image = match plan {
        Some(plan) => Image::resume(plan, &state.checked, setting.cluster),
        None => Image::build(None, &state.checked, setting.cluster),
    };
    Ok(image.map_err(Refusal::Build)?)
}
