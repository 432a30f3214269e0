//! What differs between two versions of a graph, as they were compiled.

use crate::model::ResourceName;
use crate::view::{Condition, View};
use std::fmt;
use xdp_layout::plan::{Edge, TARGET_EXIT};
use xdp_layout::{ReplicaSetId, ViewId};

/// What differs between two views of a graph. `Display` is a listing for people; empty if nothing does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ViewDiff {
    /// The view before; `None` if there was none.
    pub before: Option<ViewId>,
    /// The view after; `None` if there is none.
    pub after: Option<ViewId>,
    /// Nodes, those that are gone first, each kind from the clients' side on.
    pub nodes: Vec<NodeChange>,
    /// Edges, by where they begin, from the clients' side on. One whose precedence changed is removed and added.
    pub edges: Vec<EdgeChange>,
}

/// What happened to a node. Nodes are the same if their names are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeChange {
    /// It is gone.
    Removed {
        /// Its name.
        name: ResourceName,
        /// The replica set that it was pinned to.
        replica_set: ReplicaSetId,
    },
    /// It is new.
    Added {
        /// Its name.
        name: ResourceName,
        /// The replica set that it is pinned to.
        replica_set: ReplicaSetId,
    },
    /// It is pinned to another replica set.
    Repinned {
        /// Its name.
        name: ResourceName,
        /// The set before.
        before: ReplicaSetId,
        /// The set after.
        after: ReplicaSetId,
    },
    /// It is at another place among the nodes that both views have: one of as few as explain the new order.
    Moved {
        /// Its name.
        name: ResourceName,
        /// The node that it comes behind, of those that both views have; `None` if it is the first of them.
        behind: Option<ResourceName>,
    },
    /// Its function treats tuples otherwise.
    Altered {
        /// Its name.
        name: ResourceName,
        /// [`xdp_layout::plan::node_flags`] before.
        before: u8,
        /// [`xdp_layout::plan::node_flags`] after.
        after: u8,
    },
}

/// An edge that only one of the views has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EdgeChange {
    /// Whether it is in the view after, not in the one before.
    pub is_added: bool,
    /// The node it begins at; `None` for the clients' side.
    pub from: Option<ResourceName>,
    /// The node it leads to; `None` for the servers' side.
    pub to: Option<ResourceName>,
    /// Its condition. `target` and `last` are 0: they say nothing outside a view.
    pub condition: Edge,
}

impl ViewDiff {
    /// Compares two views of a graph. A view that is not there has no nodes and no edges.
    pub fn between(before: Option<&View>, after: Option<&View>) -> Self {
        Self {
            before: before.map(View::id),
            after: after.map(View::id),
            nodes: node_changes(before, after),
            edges: edge_changes(before, after),
        }
    }

    /// Whether the views say the same.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.edges.is_empty()
    }
}

/// Index of a node in a view.
fn place(view: Option<&View>, name: &ResourceName) -> Option<usize> {
    view?.names().iter().position(|other| other == name)
}

fn names(view: Option<&View>) -> &[ResourceName] {
    view.map_or(&[], View::names)
}

fn set_of(view: &View, index: usize) -> Option<ReplicaSetId> {
    ReplicaSetId::new(view.nodes()[index].replica_set)
}

fn node_changes(before: Option<&View>, after: Option<&View>) -> Vec<NodeChange> {
    let only_in = |view: Option<&'_ View>, other: Option<&View>| -> Vec<(ResourceName, ReplicaSetId)> {
        let nodes = view.into_iter().flat_map(|view| {
            view.names().iter().enumerate().filter_map(move |(index, name)| Some((name.clone(), set_of(view, index)?)))
        });
        nodes.filter(|(name, _)| place(other, name).is_none()).collect()
    };
    let removed = only_in(before, after).into_iter();
    let added = only_in(after, before).into_iter();
    let mut changes: Vec<NodeChange> =
        removed.map(|(name, replica_set)| NodeChange::Removed { name, replica_set }).collect();
    changes.extend(added.map(|(name, replica_set)| NodeChange::Added { name, replica_set }));
    let (Some(before), Some(after)) = (before, after) else { return changes };
    let common: Vec<(usize, usize)> = before
        .names()
        .iter()
        .enumerate()
        .filter_map(|(index, name)| Some((index, place(Some(after), name)?)))
        .collect();
    for &(old, new) in &common {
        let name = || before.names()[old].clone();
        if let (Some(before), Some(after)) = (set_of(before, old), set_of(after, new))
            && before != after
        {
            changes.push(NodeChange::Repinned { name: name(), before, after });
        }
        let (before, after) = (before.nodes()[old].flags, after.nodes()[new].flags);
        if before != after {
            changes.push(NodeChange::Altered { name: name(), before, after });
        }
    }
    let order: Vec<usize> = common.iter().map(|(_, new)| *new).collect();
    for moved in outside_longest_rise(&order) {
        let behind = order.iter().filter(|other| **other < order[moved]).max();
        let name_at = |index: &usize| after.names()[*index].clone();
        changes.push(NodeChange::Moved { name: name_at(&order[moved]), behind: behind.map(name_at) });
    }
    changes
}

/// Indexes of the elements outside a longest rising subsequence.
fn outside_longest_rise(order: &[usize]) -> Vec<usize> {
    // By element: length of the longest rise that ends with it, and the element before it there.
    let mut rises: Vec<(usize, Option<usize>)> = Vec::with_capacity(order.len());
    for (index, element) in order.iter().enumerate() {
        let earlier = (0..index).filter(|&earlier| order[earlier] < *element);
        let best = earlier.max_by_key(|&earlier| rises[earlier].0);
        rises.push((best.map_or(1, |best| rises[best].0 + 1), best));
    }
    let mut inside = vec![false; order.len()];
    let mut at = (0..order.len()).max_by_key(|&index| rises[index].0);
    while let Some(index) = at {
        inside[index] = true;
        at = rises[index].1;
    }
    (0..order.len()).filter(|&index| !inside[index]).collect()
}

/// An edge without what only means something in its view, and the name of the node it leads to.
type Step<'a> = (Option<&'a ResourceName>, Edge);

/// The edges that begin at a node, or at the clients' side, in order of precedence.
fn row<'a>(view: Option<&'a View>, from: Option<&ResourceName>) -> Vec<Step<'a>> {
    let first = match (view, from) {
        (Some(view), None) => view.first_edge(),
        (Some(view), Some(name)) => match place(Some(view), name) {
            Some(index) => view.nodes()[index].first_edge,
            None => return Vec::new(),
        },
        (None, _) => return Vec::new(),
    };
    let edges = view.map_or(&[][..], View::edges).get(first as usize..).unwrap_or_default();
    let length = edges.iter().position(|edge| edge.last != 0).map_or(edges.len(), |last| last + 1);
    let to = |edge: &Edge| {
        let is_exit = edge.target == TARGET_EXIT;
        view.filter(|_| !is_exit).and_then(|view| view.names().get(edge.target as usize))
    };
    edges[..length].iter().map(|edge| (to(edge), Edge { target: 0, last: 0, ..*edge })).collect()
}

fn edge_changes(before: Option<&View>, after: Option<&View>) -> Vec<EdgeChange> {
    let mut changes = Vec::new();
    let gone = names(before).iter().filter(|name| place(after, name).is_none());
    for from in [None].into_iter().chain(names(after).iter().chain(gone).map(Some)) {
        let (old, new) = (row(before, from), row(after, from));
        let change = |is_added, (to, condition): &Step<'_>| EdgeChange {
            is_added,
            from: from.cloned(),
            to: to.cloned(),
            condition: *condition,
        };
        let (removed, added) = apart(&old, &new);
        changes.extend(removed.into_iter().map(|index| change(false, &old[index])));
        changes.extend(added.into_iter().map(|index| change(true, &new[index])));
    }
    changes
}

/// Indexes of the elements of either list outside a longest common subsequence.
fn apart<T: PartialEq>(old: &[T], new: &[T]) -> (Vec<usize>, Vec<usize>) {
    // Length of a longest common subsequence of what begins at an index of each.
    let mut common = vec![vec![0usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] =
                if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            removed.push(i);
            i += 1;
        } else {
            added.push(j);
            j += 1;
        }
    }
    (removed, added)
}

impl fmt::Display for NodeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed { name, replica_set } => write!(f, "- node {name}, replica set {replica_set}"),
            Self::Added { name, replica_set } => write!(f, "+ node {name}, replica set {replica_set}"),
            Self::Repinned { name, before, after } => write!(f, "~ node {name}: replica set {before} -> {after}"),
            Self::Moved { name, behind: Some(behind) } => write!(f, "~ node {name}: moved behind {behind}"),
            Self::Moved { name, behind: None } => write!(f, "~ node {name}: moved to the front"),
            Self::Altered { name, .. } => write!(f, "~ node {name}: treats tuples otherwise"),
        }
    }
}

impl fmt::Display for EdgeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_added { '+' } else { '-' };
        let from = self.from.as_ref().map_or("client side", ResourceName::as_str);
        let to = self.to.as_ref().map_or("server side", ResourceName::as_str);
        write!(f, "{sign} edge {from} -> {to}: {}", Condition(&self.condition))
    }
}

impl fmt::Display for ViewDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|node| writeln!(f, "{node}"))?;
        self.edges.iter().try_for_each(|edge| writeln!(f, "{edge}"))
    }
}
