//! A command on its way from one state to the next.

mod settle;

use crate::command::{Action, Command, Operation, Precondition, Refusal};
use crate::numbers::{self, Used};
use crate::resource::{Kind, Resource, ResourcePath, TenantSpec};
use crate::rollout::{RolloutVerb, Turn};
use crate::state::{DesiredState, find};
use chain_graph::model::{Attachment, Desired, Instance, NetworkFunction, ObjectKey, ReplicaSet, Tenant};
use chain_graph::rollout::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xdp_layout::{AttachmentId, GraphId, InstanceId, ReplicaSetId, TenantId};

/// The next state while it is made.
pub(crate) struct Draft<'a> {
    old: &'a DesiredState,
    pub(crate) next: DesiredState,
    command: &'a Command,
    now: Timestamp,
    used: BTreeMap<Kind, Used>,
    done: BTreeMap<ResourcePath, Action>,
    /// Graphs whose versions change.
    turns: BTreeMap<ObjectKey, Turn>,
    refusals: Vec<Refusal>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(old: &'a DesiredState, command: &'a Command, now: Timestamp) -> Self {
        let (used, done, turns) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { old, next: old.clone(), command, now, used, done, turns, refusals: Vec::new() }
    }

    /// Carries out all operations: puts with owners first, then deletions with owners last, then rollouts.
    pub(crate) fn run(&mut self) {
        let mut puts = BTreeMap::new();
        let mut deletions = BTreeMap::new();
        let mut rollouts = BTreeMap::new();
        for operation in &self.command.operations {
            let path = operation.path();
            let known = puts.contains_key(&path) || deletions.contains_key(&path) || rollouts.contains_key(&path);
            if known {
                self.refusals.push(Refusal::Duplicate(path));
                continue;
            }
            match operation {
                Operation::Put { resource, when } => {
                    puts.insert(path, (resource, *when));
                }
                Operation::Delete { when, cascade, .. } => {
                    deletions.insert(path, (*when, *cascade));
                }
                Operation::Rollout { graph, verb } => {
                    rollouts.insert(path, (graph, verb));
                }
            }
        }
        if self.command.prune {
            for path in prunable(self.old, puts.keys()) {
                deletions.entry(path).or_insert((Precondition::None, true));
            }
        }
        for (path, (resource, when)) in puts {
            if self.permits(&path, when, false) {
                self.put(path, resource);
            }
        }
        for (path, (when, cascade)) in deletions.into_iter().rev() {
            if self.permits(&path, when, true) {
                self.delete(path, cascade);
            }
        }
        for (path, (graph, verb)) in rollouts {
            match self.drive(graph, verb) {
                Ok(()) => {
                    self.done.insert(path, Action::Unchanged);
                }
                Err(refusal) => self.refusals.push(refusal),
            }
        }
    }

    fn drive(&mut self, key: &ObjectKey, verb: &RolloutVerb) -> Result<(), Refusal> {
        let known = self.next.desired.graphs.get(key).zip(self.old.lineages.get(key));
        let (graph, lineage) = known.ok_or_else(|| Refusal::NotFound(ResourcePath::Graph(key.clone())))?;
        let mut turn = Turn::new(lineage);
        turn.drive(verb, graph.id, self.now)?;
        self.turns.insert(key.clone(), turn);
        Ok(())
    }

    /// Compares a precondition with the state before the command.
    fn permits(&mut self, path: &ResourcePath, when: Precondition, must_exist: bool) -> bool {
        let actual = self.old.revisions.get(path).copied();
        let refusal = match (when, actual) {
            (Precondition::Absent, Some(_)) => Refusal::AlreadyExists(path.clone()),
            (Precondition::Exists | Precondition::Revision(_), None) => Refusal::NotFound(path.clone()),
            (Precondition::None, None) if must_exist => Refusal::NotFound(path.clone()),
            (Precondition::Revision(expected), Some(actual)) if expected != actual => {
                Refusal::RevisionMismatch { path: path.clone(), expected, actual }
            }
            _ => return true,
        };
        self.refusals.push(refusal);
        false
    }

    fn put(&mut self, path: ResourcePath, resource: &Resource) {
        if let Some(parent) = path.parent().filter(|parent| find(&self.next.desired, parent).is_none()) {
            self.refusals.push(Refusal::NoParent { path, parent });
            return;
        }
        let before = find(&self.old.desired, &path);
        let after = match self.place(&path, resource, before.as_ref().map(|(_, number)| *number)) {
            Ok(()) => find(&self.next.desired, &path),
            Err(refusal) => {
                self.refusals.push(refusal);
                return;
            }
        };
        let action = match before {
            None => Action::Created,
            before if before == after => Action::Unchanged,
            Some(_) => Action::Updated,
        };
        self.done.insert(path, action);
    }

    /// Writes a resource into the next state, with the number it has or is given.
    pub(crate) fn place(
        &mut self,
        path: &ResourcePath,
        resource: &Resource,
        number: Option<u32>,
    ) -> Result<(), Refusal> {
        match resource.clone() {
            Resource::Tenant(spec) => {
                let id = self.tenant_number(path, &spec, number)?;
                Arc::make_mut(&mut self.next.desired).put_tenant(Tenant { name: spec.name, id, budget: spec.budget });
            }
            Resource::Attachment(spec) => {
                let id = self.number(path, number, AttachmentId::MAX.get().into())?;
                let id =
                    narrow(id).and_then(AttachmentId::new).ok_or_else(|| exhausted(path, AttachmentId::MAX.get()))?;
                Arc::make_mut(&mut self.next.desired).put_attachment(Attachment {
                    tenant: spec.tenant,
                    name: spec.name,
                    id,
                    side: spec.side,
                    interface: spec.interface,
                    vlan: spec.vlan,
                    prefixes: spec.prefixes,
                });
            }
            Resource::Graph(spec) => {
                let id = self.number(path, number, GraphId::MAX.get().into())?;
                let id = narrow(id).and_then(GraphId::new).ok_or_else(|| exhausted(path, GraphId::MAX.get()))?;
                Arc::make_mut(&mut self.next.desired).put_graph(spec.numbered(id));
            }
            Resource::NetworkFunction(spec) => {
                let replica_sets = match self.next.desired.functions.get(&spec.name) {
                    Some(function) => function.replica_sets.clone(),
                    None => BTreeMap::new(),
                };
                Arc::make_mut(&mut self.next.desired).put_function(NetworkFunction {
                    name: spec.name,
                    forwarding: spec.forwarding,
                    tuple: spec.tuple,
                    tenancy: spec.tenancy,
                    addresses: spec.addresses,
                    replica_sets,
                });
            }
            Resource::ReplicaSet(spec) => {
                let id = self.number(path, number, ReplicaSetId::MAX.get().into())?;
                let id =
                    narrow(id).and_then(ReplicaSetId::new).ok_or_else(|| exhausted(path, ReplicaSetId::MAX.get()))?;
                if let Some(function) = Arc::make_mut(&mut self.next.desired).functions.get_mut(&spec.function) {
                    let sets = &mut Arc::make_mut(function).replica_sets;
                    let instances = match sets.get(&spec.name) {
                        Some(set) if set.max_members != spec.max_members => {
                            let (field, value) = ("max_members", set.max_members.into());
                            return Err(Refusal::Immutable { path: path.clone(), field, value });
                        }
                        Some(set) => set.instances.clone(),
                        None => BTreeMap::new(),
                    };
                    let max_members = spec.max_members;
                    sets.insert(spec.name.clone(), ReplicaSet { name: spec.name, id, max_members, instances });
                }
            }
            Resource::Instance(spec) => {
                let id = self.number(path, number, InstanceId::MAX.get().into())?;
                let id = narrow(id).and_then(InstanceId::new).ok_or_else(|| exhausted(path, InstanceId::MAX.get()))?;
                let set = Arc::make_mut(&mut self.next.desired)
                    .functions
                    .get_mut(&spec.function)
                    .and_then(|function| Arc::make_mut(function).replica_sets.get_mut(&spec.replica_set));
                if let Some(set) = set {
                    set.instances.insert(
                        spec.name.clone(),
                        Instance {
                            name: spec.name,
                            id,
                            weight: spec.weight,
                            ports: spec.ports,
                            outside: spec.outside,
                            down: spec.down,
                            max_flows: spec.max_flows,
                        },
                    );
                }
            }
        }
        Ok(())
    }

    /// A tenant's number may be chosen, but not changed.
    fn tenant_number(
        &mut self,
        path: &ResourcePath,
        spec: &TenantSpec,
        number: Option<u32>,
    ) -> Result<TenantId, Refusal> {
        if let (Some(vni), Some(value)) = (spec.vni, number)
            && vni.get() != value
        {
            return Err(Refusal::Immutable { path: path.clone(), field: "vni", value });
        }
        let number = number.or(spec.vni.map(TenantId::get));
        let given = self.number(path, number, TenantId::MAX.get())?;
        TenantId::new(given).ok_or_else(|| exhausted(path, TenantId::MAX.get()))
    }

    /// The number a resource has, or a new one.
    fn number(&mut self, path: &ResourcePath, number: Option<u32>, max: u32) -> Result<u32, Refusal> {
        let kind = path.kind();
        let used = self.used.entry(kind).or_insert_with(|| used_numbers(&self.old.desired, self.command, kind));
        if let Some(number) = number {
            used.insert(number);
            return Ok(number);
        }
        let cursors = &mut self.next.cursors;
        let cursor = match kind {
            Kind::Tenant => &mut cursors.tenants,
            Kind::Attachment => &mut cursors.attachments,
            Kind::Graph => &mut cursors.graphs,
            Kind::ReplicaSet => &mut cursors.replica_sets,
            Kind::Instance | Kind::NetworkFunction => &mut cursors.instances,
        };
        numbers::next(cursor, max, used).ok_or_else(|| exhausted(path, max))
    }

    fn delete(&mut self, path: ResourcePath, cascade: bool) {
        let owned: Vec<ResourcePath> = owned_by(&self.next.desired, &path);
        if let Some(child) = owned.first()
            && !cascade
        {
            let count = owned.len();
            self.refusals.push(Refusal::HasChildren { child: child.clone(), path, count });
            return;
        }
        for path in owned.into_iter().rev().chain([path]) {
            remove(Arc::make_mut(&mut self.next.desired), &path);
            if self.old.revisions.contains_key(&path) {
                self.done.insert(path, Action::Deleted);
            }
        }
    }
}

fn exhausted(path: &ResourcePath, limit: impl Into<u32>) -> Refusal {
    Refusal::NumbersExhausted { path: path.clone(), kind: path.kind(), limit: limit.into() }
}

fn narrow(number: u32) -> Option<u16> {
    u16::try_from(number).ok()
}

/// Numbers of a kind in use before the command, and those that the command itself chooses.
fn used_numbers(desired: &Desired, command: &Command, kind: Kind) -> Used {
    let sets = || desired.functions.values().flat_map(|function| function.replica_sets.values());
    match kind {
        Kind::Tenant => {
            let chosen = command.operations.iter().filter_map(|operation| match operation {
                Operation::Put { resource: Resource::Tenant(spec), .. } => spec.vni.map(TenantId::get),
                _ => None,
            });
            desired.tenants.values().map(|tenant| tenant.id.get()).chain(chosen).collect()
        }
        Kind::Attachment => desired.attachments.values().map(|attachment| attachment.id.get().into()).collect(),
        Kind::Graph => desired.graphs.values().map(|graph| graph.id.get().into()).collect(),
        Kind::ReplicaSet => sets().map(|set| set.id.get().into()).collect(),
        Kind::Instance => sets().flat_map(|set| set.instances.values()).map(|i| i.id.get().into()).collect(),
        Kind::NetworkFunction => Used::new(),
    }
}

/// What a resource owns, owners first.
fn owned_by(desired: &Desired, path: &ResourcePath) -> Vec<ResourcePath> {
    match path {
        ResourcePath::Tenant(name) => {
            let attachments = desired.attachments.keys().filter(|key| key.tenant == *name).cloned();
            let graphs = desired.graphs.keys().filter(|key| key.tenant == *name).cloned();
            attachments.map(ResourcePath::Attachment).chain(graphs.map(ResourcePath::Graph)).collect()
        }
        ResourcePath::NetworkFunction(function) => {
            let sets = desired.functions.get(function).into_iter().flat_map(|f| f.replica_sets.keys());
            sets.flat_map(|name| {
                let set = ResourcePath::ReplicaSet { function: function.clone(), name: name.clone() };
                let instances = owned_by(desired, &set);
                [set].into_iter().chain(instances)
            })
            .collect()
        }
        ResourcePath::ReplicaSet { function, name: replica_set } => {
            let set = desired.functions.get(function).and_then(|f| f.replica_sets.get(replica_set));
            let names = set.into_iter().flat_map(|set| set.instances.keys().cloned());
            names
                .map(|name| ResourcePath::Instance {
                    function: function.clone(),
                    replica_set: replica_set.clone(),
                    name,
                })
                .collect()
        }
        ResourcePath::Instance { .. } | ResourcePath::Attachment(_) | ResourcePath::Graph(_) => Vec::new(),
    }
}

/// What pruning deletes: see [`Command::prune`].
fn prunable<'a>(old: &DesiredState, put: impl Iterator<Item = &'a ResourcePath>) -> Vec<ResourcePath> {
    let put: BTreeSet<&ResourcePath> = put.collect();
    let mut owners: BTreeSet<ResourcePath> = BTreeSet::new();
    for path in &put {
        match path {
            ResourcePath::Attachment(key) | ResourcePath::Graph(key) => {
                owners.insert(ResourcePath::Tenant(key.tenant.clone()));
            }
            ResourcePath::Tenant(_) | ResourcePath::NetworkFunction(_) | ResourcePath::ReplicaSet { .. } => {
                owners.insert((*path).clone());
            }
            ResourcePath::Instance { .. } => {}
        }
    }
    // An owner of something that is listed is not pruned, listed itself or not.
    let owners_of = |path: &&ResourcePath| std::iter::successors(path.parent(), ResourcePath::parent);
    let kept: BTreeSet<ResourcePath> = put.iter().flat_map(owners_of).collect();
    old.paths_after(None)
        .filter(|path| !put.contains(path) && !kept.contains(path))
        .filter(|path| path.parent().is_some_and(|parent| owners.contains(&parent)))
        .cloned()
        .collect()
}

/// Takes one resource out; what it owns must be gone before.
fn remove(desired: &mut Desired, path: &ResourcePath) {
    match path {
        ResourcePath::Tenant(name) => {
            desired.tenants.remove(name);
        }
        ResourcePath::NetworkFunction(name) => {
            desired.functions.remove(name);
        }
        ResourcePath::ReplicaSet { function, name } => {
            if let Some(function) = desired.functions.get_mut(function) {
                Arc::make_mut(function).replica_sets.remove(name);
            }
        }
        ResourcePath::Instance { function, replica_set, name } => {
            let set = desired
                .functions
                .get_mut(function)
                .and_then(|function| Arc::make_mut(function).replica_sets.get_mut(replica_set));
            if let Some(set) = set {
                set.instances.remove(name);
            }
        }
        ResourcePath::Attachment(key) => {
            desired.attachments.remove(key);
        }
        ResourcePath::Graph(key) => {
            desired.graphs.remove(key);
            desired.versions.remove(key);
        }
    }
}
