//! One graph: its names resolved, its edges expanded, its shape judged, its content compiled.

use super::Functions;
use super::matches;
use super::place::GraphPlace;
use super::shape::{Hop, Shape};
use super::violation::{Report, ViolationKind as Kind};
use crate::model::{
    Attachment, Desired, EdgeFrom, EdgeTo, Graph, GraphEdge, NetworkFunction, ObjectKey, ReplicaSet, ResourceName,
    Side, Tenant, TupleEffect,
};
use crate::view::ViewContent;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xdp_layout::AttachmentId;

/// What the names in a graph stand for.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) desired: &'a Desired,
    /// As the graphs know them, see [`super::Checked`].
    pub(super) functions: &'a Functions,
}

/// A version of a graph without violations and everything it names.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) graph: Arc<Graph>,
    /// Client side first.
    pub(crate) attachments: Vec<(Side, Arc<Attachment>)>,
    /// In the order of the graph's nodes. Of their instances' weights and states these may say what was declared earlier.
    pub(crate) functions: Vec<Arc<NetworkFunction>>,
    pub(crate) content: Arc<ViewContent>,
}

impl Resolved {
    /// Whether resolving `graph` would give the same: it is this graph, and everything it names is the same object.
    pub(super) fn is_of(&self, names: Names<'_>, graph: &Arc<Graph>) -> bool {
        let Names { desired, functions } = names;
        let same_tenant = |tenant: &Arc<Tenant>| Arc::ptr_eq(tenant, &self.tenant);
        let same_attachment = |of: &Arc<Attachment>| {
            desired.attachments.get(&ObjectKey::new(&of.tenant, &of.name)).is_some_and(|now| Arc::ptr_eq(now, of))
        };
        let same_function = |of: &Arc<NetworkFunction>| functions.get(&of.name).is_some_and(|now| Arc::ptr_eq(now, of));
        Arc::ptr_eq(&self.graph, graph)
            && desired.tenants.get(&graph.tenant).is_some_and(same_tenant)
            && self.attachments.iter().all(|(_, attachment)| same_attachment(attachment))
            && self.functions.iter().all(same_function)
    }

    /// The replica set of each node, with its function.
    pub(crate) fn replica_sets(&self) -> impl Iterator<Item = (&Arc<NetworkFunction>, &ReplicaSet)> {
        self.graph
            .nodes
            .iter()
            .zip(&self.functions)
            .filter_map(|(node, function)| Some((function, function.replica_sets.get(&node.replica_set)?)))
    }
}

/// Checks one version of a graph. `None` if it has violations, which are reported. Above [`xdp_layout::Position::MAX`]
/// nodes the shape is not looked at.
pub(super) fn resolve(
    names: Names<'_>,
    place: GraphPlace<'_>,
    graph: &Arc<Graph>,
    report: &mut Report,
) -> Option<Resolved> {
    let Names { desired, functions } = names;
    let before = report.0.len();
    let path = place.to_string();
    if graph.key() != *place.key {
        report.add(Kind::KeyMismatch, path.clone(), format!("the graph stored here is named {}", graph.key()));
    }
    let tenant = desired.tenants.get(&graph.tenant);
    if tenant.is_none() {
        report.add(Kind::UnknownTenant, format!("{path}.tenant"), format!("there is no tenant {}", graph.tenant));
    }
    let mut attachments = Vec::new();
    for (side, names) in [(Side::Client, &graph.client), (Side::Server, &graph.server)] {
        side_attachments(desired, graph, side, names, &path, &mut attachments, report);
    }
    let functions = node_functions(functions, graph, &path, report);
    let hops = edge_rows(graph, &attachments, &path, report);

    let too_many = graph.nodes.len() > usize::from(xdp_layout::Position::MAX.get());
    if too_many {
        let message = format!("{} nodes, a graph may have {}", graph.nodes.len(), xdp_layout::Position::MAX);
        report.add(Kind::TooManyNodes, format!("{path}.nodes"), message);
        return None;
    }
    let shape = Shape {
        graph,
        path: &path,
        sets: graph
            .nodes
            .iter()
            .zip(&functions)
            .map(|(node, function)| Some(function.as_ref()?.replica_sets.get(&node.replica_set)?.id))
            .collect(),
        effects: functions.iter().map(|f| f.as_ref().map_or(TupleEffect::Keeps, |f| f.tuple)).collect(),
        rows: hops.rows,
    };
    let order = shape.check(hops.all_known, report);
    if report.0.len() != before {
        return None;
    }
    Some(Resolved {
        tenant: Arc::clone(tenant?),
        graph: Arc::clone(graph),
        attachments,
        functions: functions.into_iter().collect::<Option<_>>()?,
        content: Arc::new(shape.compile(&order?)),
    })
}

fn side_attachments(
    desired: &Desired,
    graph: &Graph,
    side: Side,
    names: &[ResourceName],
    path: &str,
    attachments: &mut Vec<(Side, Arc<Attachment>)>,
    report: &mut Report,
) {
    if names.is_empty() {
        report.add(Kind::EmptySide, format!("{path}.{side}"), format!("no attachment on the {side} side"));
    }
    let mut seen = BTreeSet::new();
    // An attachment without prefixes takes all addresses of both families.
    let mut prefixes = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        let at = format!("{path}.{side}[{index}]");
        if !seen.insert(name) {
            report.add(Kind::DuplicateName, at, format!("{name} is listed twice"));
            continue;
        }
        let Some(attachment) = desired.attachments.get(&ObjectKey::new(&graph.tenant, name)) else {
            let message = format!("tenant {} has no attachment {name}", graph.tenant);
            report.add(Kind::UnknownAttachment, at, message);
            continue;
        };
        if attachment.side != side {
            let message = format!("attachment {name} is on the {} side", attachment.side);
            report.add(Kind::WrongSide, at.clone(), message);
        }
        for cidr in attachment.taken_prefixes() {
            if let Some(other) = prefixes.insert(cidr, name).filter(|other| *other != name) {
                let message = format!("attachments {other} and {name} both take {cidr}");
                report.add(Kind::PrefixConflict, at.clone(), message);
            }
        }
        attachments.push((side, Arc::clone(attachment)));
    }
}

fn node_functions(
    declared: &Functions,
    graph: &Graph,
    path: &str,
    report: &mut Report,
) -> Vec<Option<Arc<NetworkFunction>>> {
    let mut seen = BTreeSet::new();
    let mut functions = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        let at = format!("{path}.nodes[{index}]");
        if !seen.insert(&node.name) {
            report.add(Kind::DuplicateName, format!("{at}.name"), format!("node {} is listed twice", node.name));
        }
        let function = declared.get(&node.function);
        match function {
            None => {
                let message = format!("there is no network function {}", node.function);
                report.add(Kind::UnknownFunction, format!("{at}.function"), message);
            }
            Some(function) if !function.replica_sets.contains_key(&node.replica_set) => {
                let message = format!("network function {} has no replica set {}", node.function, node.replica_set);
                report.add(Kind::UnknownReplicaSet, format!("{at}.replica_set"), message);
            }
            Some(_) => {}
        }
        functions.push(function.cloned());
    }
    functions
}

/// The edges by where they begin.
struct Hops {
    /// Client side, then each node's.
    rows: Vec<Vec<Hop>>,
    /// Whether every edge begins and ends at a known node.
    all_known: bool,
}

fn edge_rows(graph: &Graph, attachments: &[(Side, Arc<Attachment>)], path: &str, report: &mut Report) -> Hops {
    let mut names: BTreeMap<&ResourceName, usize> = BTreeMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        names.entry(&node.name).or_insert(index);
    }
    let mut hops = Hops { rows: (0..=graph.nodes.len()).map(|_| Vec::new()).collect(), all_known: true };
    let mut defaults: Vec<Option<Hop>> = (0..=graph.nodes.len()).map(|_| None).collect();
    for (index, edge) in graph.edges.iter().enumerate() {
        let at = format!("{path}.edges[{index}]");
        let mut find = |field: &str, name: &ResourceName| {
            let found = names.get(name).copied();
            if found.is_none() {
                report.add(Kind::UnknownNode, format!("{at}.{field}"), format!("the graph has no node {name}"));
            }
            found
        };
        let from = match &edge.from {
            EdgeFrom::Client => Some(0),
            EdgeFrom::Node(name) => find("from", name).map(|node| node + 1),
        };
        let to = match &edge.to {
            EdgeTo::Server => Some(None),
            EdgeTo::Node(name) => find("to", name).map(Some),
        };
        let conditions = edge_conditions(graph, edge, attachments, &at, report);
        let (Some(from), Some(to)) = (from, to) else {
            hops.all_known = false;
            continue;
        };
        let hop = Hop { edge: index, to, conditions: conditions.unwrap_or_default() };
        if edge.matches.is_some() {
            hops.rows[from].push(hop);
        } else if defaults[from].is_none() {
            defaults[from] = Some(hop);
        } else {
            let message = "there is another default edge from here".to_owned();
            report.add(Kind::SecondDefault, format!("{at}.matches"), message);
            hops.rows[from].push(Hop { conditions: Vec::new(), ..hop });
        }
    }
    for (row, default) in hops.rows.iter_mut().zip(defaults) {
        row.extend(default);
    }
    hops
}

/// The conditions of an edge, `None` if there were violations.
fn edge_conditions(
    graph: &Graph,
    edge: &GraphEdge,
    attachments: &[(Side, Arc<Attachment>)],
    at: &str,
    report: &mut Report,
) -> Option<Vec<xdp_layout::plan::Edge>> {
    let Some(matches) = &edge.matches else { return Some(matches::any()) };
    let path = format!("{at}.matches");
    let mut ids: [Option<Vec<AttachmentId>>; 2] = [Some(Vec::new()), Some(Vec::new())];
    let lists = [
        (Side::Client, &matches.client_attachments, &graph.client),
        (Side::Server, &matches.server_attachments, &graph.server),
    ];
    for ((side, names, listed), ids) in lists.into_iter().zip(&mut ids) {
        for (index, name) in names.iter().enumerate() {
            let found = attachments.iter().find(|(of, attachment)| *of == side && attachment.name == *name);
            match (found, ids.as_mut()) {
                (Some((_, attachment)), Some(ids)) => ids.push(attachment.id),
                (Some(_), None) => {}
                (None, _) => {
                    *ids = None;
                    // One that the graph lists but that does not exist is reported there.
                    if !listed.contains(name) {
                        let message = format!("attachment {name} is not on the {side} side of this graph");
                        let field = format!("{path}.{side}_attachments[{index}]");
                        report.add(Kind::AttachmentNotInGraph, field, message);
                    }
                }
            }
        }
    }
    let [client, server] = ids;
    matches::expand(matches, client.as_deref().unwrap_or(&[]), server.as_deref().unwrap_or(&[]), &path, report)
        .filter(|_| client.is_some() && server.is_some())
}
