//! What a change does to graphs and their flows.

use super::Names;
use crate::v1;
use chain_graph::diff::{Diff, EdgeChange, GraphDiff, NodeChange, Risk, Share, StageRisk, TableBuild};
use chain_graph::model::{ObjectKey, ResourceName};
use state_sync::ResourcePath;

/// Graphs that both images have, and tables, of a difference. Replica sets are named by both sides' names.
pub(crate) fn diff(diff: &Diff, before: &Names, after: &Names) -> (Vec<v1::GraphDiff>, Vec<v1::TableBuild>) {
    let graphs = diff.tenants.iter().flat_map(|tenant| tenant.graphs.iter().map(move |graph| (&tenant.name, graph)));
    let is_in_both = |graph: &GraphDiff| graph.views.iter().all(|view| view.before.is_some() && view.after.is_some());
    let graphs = graphs.filter(|(_, graph)| is_in_both(graph));
    let graphs = graphs.map(|(tenant, graph)| graph_diff(tenant, graph, before, after)).collect();
    let table = |table: &TableBuild| v1::TableBuild {
        replica_set: after.replica_set(table.replica_set),
        slots: table.slots,
        members: table.members,
        replaces: table.replaces,
    };
    (graphs, diff.tables.iter().map(table).collect())
}

fn graph_diff(tenant: &ResourceName, graph: &GraphDiff, before: &Names, after: &Names) -> v1::GraphDiff {
    // A candidate is compared with the stable view; without one there is the stable view alone.
    let views = &graph.views;
    v1::GraphDiff {
        graph: ResourcePath::Graph(ObjectKey::new(tenant, &graph.name)).to_string(),
        nodes: views.iter().flat_map(|view| &view.nodes).map(|node| node_change(node, before, after)).collect(),
        edges: views.iter().flat_map(|view| &view.edges).map(edge_change).collect(),
        risk: Some(risk(&graph.risk)),
    }
}

fn node_change(change: &NodeChange, before: &Names, after: &Names) -> v1::NodeChange {
    let (name, action) = match change {
        NodeChange::Removed { name, .. } => (name, v1::NodeAction::Removed),
        NodeChange::Added { name, .. } => (name, v1::NodeAction::Added),
        NodeChange::Repinned { name, .. } => (name, v1::NodeAction::Repinned),
        NodeChange::Moved { name, .. } => (name, v1::NodeAction::Moved),
        NodeChange::Altered { name, .. } => (name, v1::NodeAction::Altered),
    };
    let mut told = v1::NodeChange { node: name.to_string(), action: action.into(), ..v1::NodeChange::default() };
    match change {
        NodeChange::Removed { replica_set, .. } => told.before = before.replica_set(*replica_set),
        NodeChange::Added { replica_set, .. } => told.after = after.replica_set(*replica_set),
        NodeChange::Repinned { before: old, after: new, .. } => {
            (told.before, told.after) = (before.replica_set(*old), after.replica_set(*new));
        }
        NodeChange::Moved { behind, .. } => told.behind = part(behind.as_ref()),
        NodeChange::Altered { .. } => {}
    }
    told
}

fn edge_change(change: &EdgeChange) -> v1::EdgeChange {
    // The listing is `sign edge from -> to: condition`; names have no colon.
    let text = change.to_string();
    let condition = text.split_once(": ").map_or("", |(_, condition)| condition);
    v1::EdgeChange {
        added: change.is_added,
        from: part(change.from.as_ref()),
        to: part(change.to.as_ref()),
        condition: condition.to_owned(),
    }
}

fn part(name: Option<&ResourceName>) -> String {
    name.map(ToString::to_string).unwrap_or_default()
}

fn risk(risk: &Risk) -> v1::FlowRisk {
    let share = |count| {
        let Share { value, standard_error } = risk.share(count);
        Some(v1::EstimatedShare { value, standard_error })
    };
    let stage = |(function, stage): (&ResourceName, &StageRisk)| v1::StageRisk {
        network_function: ResourcePath::NetworkFunction(function.clone()).to_string(),
        at_risk: share(stage.at_risk()),
        added: share(stage.added),
        removed: share(stage.removed),
        changed: share(stage.changed),
    };
    v1::FlowRisk {
        flows: risk.flows,
        at_risk: share(risk.at_risk),
        diverted: share(risk.diverted),
        stages: risk.stages.iter().map(stage).collect(),
    }
}
