//! `diff` of versions, and what a change does to flows.

use super::{plain, print};
use crate::args::{Format, OutputArgs};
use crate::fail::Failure;
use crate::output::{Shade, put, say, shade, table};
use api::client::{Channel, RolloutServiceClient};
use api::v1;
use serde_json::{Value, json};
use std::process::ExitCode;

/// `diff --versions`.
pub(crate) async fn versions(
    channel: Channel,
    request: v1::DiffVersionsRequest,
    output: OutputArgs,
) -> Result<ExitCode, Failure> {
    let answer = RolloutServiceClient::new(channel).diff_versions(request).await.map_err(plain)?.into_inner();
    if output.output == Format::Table {
        answer.diff.as_ref().map_or(Ok(()), say_graph)?;
        say_tables(&answer.tables)?;
    } else {
        let diff = answer.diff.as_ref().map(graph_value);
        print(&json!({"diff": diff, "tables": tables_value(&answer.tables)}), output, &[], &[])?;
    }
    Ok(if answer.diff.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Prints what differs for a graph.
pub(crate) fn say_graph(graph: &v1::GraphDiff) -> Result<(), Failure> {
    say!("{}", graph.graph)?;
    for node in &graph.nodes {
        marked(&node_text(node))?;
    }
    for edge in &graph.edges {
        marked(&edge_text(edge))?;
    }
    let Some(risk) = &graph.risk else { return Ok(()) };
    say!("  at risk {} of the flows, diverted {}, of {} drawn", share(risk.at_risk), share(risk.diverted), risk.flows)?;
    let rows: Vec<Vec<String>> = risk.stages.iter().map(stage_row).collect();
    if rows.is_empty() { Ok(()) } else { put!("{}", table(&STAGES, &rows, true)) }
}

/// Prints tables that have to be built.
pub(crate) fn say_tables(tables: &[v1::TableBuild]) -> Result<(), Failure> {
    tables.iter().try_for_each(|table| {
        let what = if table.replaces { "again" } else { "anew" };
        let set = short(&table.replica_set);
        say!("table of {set} is built {what}: {} members, {} slots", table.members, table.slots)
    })
}

const STAGES: [&str; 5] = ["  STAGE", "AT RISK", "ADDED", "REMOVED", "OTHER INSTANCE"];

fn stage_row(stage: &v1::StageRisk) -> Vec<String> {
    let shares = [stage.at_risk, stage.added, stage.removed, stage.changed].map(share);
    [format!("  {}", short(&stage.network_function))].into_iter().chain(shares).collect()
}

/// With the error of the sample, in percentage points.
fn share(share: Option<v1::EstimatedShare>) -> String {
    let v1::EstimatedShare { value, standard_error } = share.unwrap_or_default();
    format!("{:.1}% +-{:.2}", value * 100.0, standard_error * 100.0)
}

/// `fw/v1` for `networkFunctions/fw/replicaSets/v1`.
fn short(name: &str) -> String {
    name.split('/').skip(1).step_by(2).collect::<Vec<_>>().join("/")
}

fn marked(text: &str) -> Result<(), Failure> {
    let text = format!("  {text}");
    match text.trim_start().chars().next() {
        Some('+') => say!("{}", shade(&text, Shade::Good)),
        Some('-') => say!("{}", shade(&text, Shade::Bad)),
        _ => say!("{text}"),
    }
}

fn node_text(change: &v1::NodeChange) -> String {
    let v1::NodeChange { node, before, after, behind, action: _ } = change;
    let (before, after) = (short(before), short(after));
    match change.action() {
        v1::NodeAction::Removed => format!("-node {node}: {before}"),
        v1::NodeAction::Added => format!("+node {node}: {after}"),
        v1::NodeAction::Repinned => format!("~node {node}: {before} -> {after}"),
        v1::NodeAction::Moved if behind.is_empty() => format!("~node {node}: moved to the front"),
        v1::NodeAction::Moved => format!("~node {node}: moved behind {behind}"),
        v1::NodeAction::Altered => format!("~node {node}: treats tuples otherwise"),
        v1::NodeAction::Unspecified => format!("~node {node}"),
    }
}

fn edge_text(change: &v1::EdgeChange) -> String {
    let sign = if change.added { '+' } else { '-' };
    let end = |node: &str, side: &str| if node.is_empty() { format!("({side})") } else { node.to_owned() };
    let (from, to) = (end(&change.from, "clients"), end(&change.to, "servers"));
    format!("{sign}edge {from} -> {to}: {}", change.condition)
}

fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

/// For programs: what differs for a graph.
pub(crate) fn graph_value(graph: &v1::GraphDiff) -> Value {
    let nodes = graph.nodes.iter().map(|node| {
        json!({
            "node": node.node,
            "action": word(node.action().as_str_name(), "NODE_ACTION_"),
            "before": node.before,
            "after": node.after,
            "behind": node.behind,
        })
    });
    let edges = graph
        .edges
        .iter()
        .map(|edge| json!({"added": edge.added, "from": edge.from, "to": edge.to, "condition": edge.condition}));
    let share = |share: Option<v1::EstimatedShare>| {
        share.map(|share| json!({"value": share.value, "standardError": share.standard_error}))
    };
    let risk = graph.risk.as_ref().map(|risk| {
        let stages = risk.stages.iter().map(|stage| {
            json!({
                "networkFunction": stage.network_function,
                "atRisk": share(stage.at_risk),
                "added": share(stage.added),
                "removed": share(stage.removed),
                "changed": share(stage.changed),
            })
        });
        json!({
            "flows": risk.flows,
            "atRisk": share(risk.at_risk),
            "diverted": share(risk.diverted),
            "stages": stages.collect::<Vec<_>>(),
        })
    });
    json!({
        "graph": graph.graph,
        "nodes": nodes.collect::<Vec<_>>(),
        "edges": edges.collect::<Vec<_>>(),
        "risk": risk,
    })
}

/// For programs: tables that have to be built.
pub(crate) fn tables_value(tables: &[v1::TableBuild]) -> Value {
    let tables = tables.iter().map(|table| {
        json!({
            "replicaSet": table.replica_set,
            "slots": table.slots,
            "members": table.members,
            "replaces": table.replaces,
        })
    });
    Value::Array(tables.collect())
}

#[cfg(test)]
mod tests {
    use super::{edge_text, node_text, share, stage_row};
    use api::v1;

    #[test]
    fn shares_have_one_decimal_and_their_error() {
        let estimate = v1::EstimatedShare { value: 0.4217, standard_error: 0.00156 };
        assert_eq!(share(Some(estimate)), "42.2% +-0.16");
        let stage = v1::StageRisk {
            network_function: "networkFunctions/fw".to_owned(),
            at_risk: Some(estimate),
            ..v1::StageRisk::default()
        };
        assert_eq!(stage_row(&stage)[..3], ["  fw", "42.2% +-0.16", "0.0% +-0.00"]);
    }

    #[test]
    fn changes_begin_with_what_happened() {
        let mut node = v1::NodeChange {
            node: "a".to_owned(),
            before: "networkFunctions/fw/replicaSets/v1".to_owned(),
            after: "networkFunctions/fw/replicaSets/v2".to_owned(),
            ..v1::NodeChange::default()
        };
        node.set_action(v1::NodeAction::Repinned);
        assert_eq!(node_text(&node), "~node a: fw/v1 -> fw/v2");
        node.set_action(v1::NodeAction::Removed);
        assert_eq!(node_text(&node), "-node a: fw/v1");
        let edge = v1::EdgeChange { to: "a".to_owned(), condition: "any".to_owned(), ..v1::EdgeChange::default() };
        assert_eq!(edge_text(&edge), "-edge (clients) -> a: any");
    }
}
