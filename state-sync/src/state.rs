//! The state machine.

use crate::apply::Draft;
use crate::command::{Change, Command, REQUEST_ID_MAX, Refusal, Rejected};
use crate::numbers::Cursors;
use crate::resource::{FunctionSpec, GraphSpec, InstanceSpec, ReplicaSetSpec, Resource, ResourcePath};
use crate::rollout::{Lineage, Version};
use crate::{Action, RequestMemo};
use chain_graph::map::Map;
use chain_graph::model::{Desired, ObjectKey};
use chain_graph::rollout::{Draining, Rollout, Timestamp};
use chain_graph::{Checked, Cluster, Image, check_after, check_capacity};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use xdp_layout::Generation;

/// Requests whose ids are remembered.
pub const REQUESTS_REMEMBERED: usize = 1024;

/// A resource with what the state machine keeps beside it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// What was written.
    pub resource: Resource,
    /// The number given to it; 0 for network functions, which have none.
    pub number: u32,
    /// Revision of the state at its last change; its etag.
    pub revision: u64,
}

/// What a state is made for: parameters that no command changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Records the connection table holds; the tenants' budgets must fit in.
    pub capacity: u64,
    /// Incarnation and seed of the cluster.
    pub cluster: Cluster,
}

/// Everything that is declared, with numbers, revisions and the plan: a deterministic state machine. The same commands
/// give the same state everywhere. A value never changes; [`apply`](Self::apply) makes a new one that shares what is
/// equal.
#[derive(Clone, Debug)]
pub struct DesiredState {
    pub(crate) setting: Setting,
    pub(crate) revision: u64,
    pub(crate) desired: Arc<Desired>,
    pub(crate) checked: Arc<Checked>,
    pub(crate) image: Arc<Image>,
    pub(crate) revisions: Map<ResourcePath, u64>,
    pub(crate) cursors: Cursors,
    pub(crate) requests: VecDeque<Arc<RequestMemo>>,
    pub(crate) lineages: Map<ObjectKey, Arc<Lineage>>,
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The new state; the old one if nothing changed.
    pub state: DesiredState,
    /// One change for each operation, in their order, then one for each further resource deleted.
    pub changes: Vec<Change>,
    /// Whether the state differs from the old one.
    pub changed: bool,
}

impl DesiredState {
    /// Nothing declared.
    ///
    /// # Errors
    /// [`Rejected`] if the model refuses even that.
    pub fn empty(setting: Setting) -> Result<Self, Rejected> {
        let desired = Arc::new(Desired::default());
        let checked = check(None, &desired, setting.capacity)?;
        Ok(Self {
            image: Arc::new(Image::build(None, &checked, setting.cluster).map_err(Refusal::Build)?),
            setting,
            revision: 0,
            desired,
            checked,
            revisions: Map::new(),
            cursors: Cursors::default(),
            requests: VecDeque::new(),
            lineages: Map::new(),
        })
    }

    /// What the command makes of this state. `now`: when it was accepted; part of the command wherever commands are kept.
    ///
    /// # Errors
    /// [`Rejected`] with everything that is wrong with the command.
    pub fn apply(&self, command: &Command, now: Timestamp) -> Result<Applied, Rejected> {
        let length = command.request_id.chars().count();
        if length > REQUEST_ID_MAX {
            return Err(Refusal::RequestIdTooLong(length).into());
        }
        if let Some(memo) = self.requests.iter().find(|memo| memo.is(&command.request_id)) {
            return self.repeat(memo, command);
        }
        let mut draft = Draft::new(self, command, now);
        draft.run();
        draft.finish()
    }

    /// The result of a request that was made before.
    fn repeat(&self, memo: &RequestMemo, command: &Command) -> Result<Applied, Rejected> {
        if memo.fingerprint != RequestMemo::fingerprint_of(command) {
            return Err(Refusal::RequestIdReused(command.request_id.clone()).into());
        }
        let changes = memo.changes.iter().map(|(path, action)| {
            let now = self.get(path);
            let (before, after) = match action {
                Action::Created | Action::Updated => (None, now),
                Action::Unchanged => (now.clone(), now),
                Action::Deleted => (None, None),
            };
            Change { path: path.clone(), action: *action, before, after }
        });
        Ok(Applied { changes: changes.collect(), state: self.clone(), changed: false })
    }

    /// Number of changes so far.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Number of the plan.
    pub fn generation(&self) -> Generation {
        self.image.plan().generation()
    }

    /// What is declared, unchecked.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// What is declared, checked.
    pub const fn checked(&self) -> &Arc<Checked> {
        &self.checked
    }

    /// Everything the data plane needs, the plan included.
    pub const fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// The rollouts of a graph; `None` if there is no such graph.
    pub fn rollout(&self, graph: &ObjectKey) -> Option<&Rollout> {
        self.lineages.get(graph).map(|lineage| &lineage.rollout)
    }

    /// The graphs with the state of their rollouts, in the order of their names.
    pub fn rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.lineages.values().map(|lineage| &lineage.rollout)
    }

    /// The versions of a graph, the newest first: those that are installed, and those before up to
    /// [`VERSIONS_KEPT`](crate::VERSIONS_KEPT) in all.
    pub fn versions(&self, graph: &ObjectKey) -> Vec<Version> {
        self.lineages.get(graph).map(|lineage| lineage.versions()).unwrap_or_default()
    }

    /// Views that take no new flows and are still installed, in the order of their graphs' names.
    pub fn draining(&self) -> impl Iterator<Item = (&ObjectKey, &Draining)> {
        self.lineages.iter().flat_map(|(key, lineage)| lineage.draining.iter().map(move |view| (key, view)))
    }

    /// What it was made for.
    pub const fn setting(&self) -> Setting {
        self.setting
    }

    /// Names of all resources after `after`, in their order.
    pub fn paths_after<'a>(&'a self, after: Option<&'a ResourcePath>) -> impl Iterator<Item = &'a ResourcePath> + 'a {
        let range: (Bound<&ResourcePath>, Bound<&ResourcePath>) =
            (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.revisions.range::<_, ResourcePath>(range).map(|(path, _)| path)
    }

    /// A resource.
    pub fn get(&self, path: &ResourcePath) -> Option<Entry> {
        let (resource, number) = find(&self.desired, path)?;
        Some(Entry { resource, number, revision: self.revisions.get(path).copied()? })
    }

    /// All resources in the order of their names.
    pub fn entries(&self) -> impl Iterator<Item = (&ResourcePath, Entry)> {
        self.revisions.keys().filter_map(|path| Some((path, self.get(path)?)))
    }
}

/// Checks the whole model; what is unchanged since `earlier` is not looked at again.
pub(crate) fn check(
    earlier: Option<&Checked>,
    desired: &Arc<Desired>,
    capacity: u64,
) -> Result<Arc<Checked>, Rejected> {
    let is_known = earlier.is_some_and(|earlier| earlier.desired().tenants.ptr_eq(&desired.tenants));
    let over = if is_known { None } else { check_capacity(desired, capacity).err() };
    match (check_after(earlier, desired), over) {
        (Ok(checked), None) => Ok(Arc::new(checked)),
        (Ok(_), Some(over)) => Err(Rejected { refusals: Vec::new(), violations: vec![over] }),
        (Err(mut violations), over) => {
            violations.extend(over);
            Err(Rejected { refusals: Vec::new(), violations })
        }
    }
}

/// What was written for a resource, and its number.
pub(crate) fn find(desired: &Desired, path: &ResourcePath) -> Option<(Resource, u32)> {
    match path {
        ResourcePath::Tenant(name) => {
            desired.tenants.get(name).map(|t| (Resource::Tenant(t.as_ref().into()), t.id.get()))
        }
        ResourcePath::NetworkFunction(name) => {
            desired.functions.get(name).map(|f| (Resource::NetworkFunction(FunctionSpec::from(f.as_ref())), 0))
        }
        ResourcePath::ReplicaSet { function, name } => {
            let set = desired.functions.get(function)?.replica_sets.get(name)?;
            Some((Resource::ReplicaSet(ReplicaSetSpec::of(function, set)), set.id.get().into()))
        }
        ResourcePath::Instance { function, replica_set, name } => {
            let set = desired.functions.get(function)?.replica_sets.get(replica_set)?;
            let instance = set.instances.get(name)?;
            let spec = InstanceSpec::of(function, replica_set, instance);
            Some((Resource::Instance(spec), instance.id.get().into()))
        }
        ResourcePath::Attachment(key) => {
            desired.attachments.get(key).map(|a| (Resource::Attachment(a.as_ref().into()), a.id.get().into()))
        }
        ResourcePath::Graph(key) => {
            desired.graphs.get(key).map(|g| (Resource::Graph(GraphSpec::from(g.as_ref())), g.id.get().into()))
        }
    }
}
