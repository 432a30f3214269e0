//! The shape of a graph: cycles, reachability, lengths, shadowed edges; and its compilation.

use super::matches::is_shadowed;
use super::violation::{Report, ViolationKind as Kind};
use crate::model::{Graph, TupleEffect};
use crate::view::ViewContent;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use xdp_layout::ReplicaSetId;
use xdp_layout::flow::PATH_MAX;
use xdp_layout::plan::{Edge, Node, TARGET_EXIT, WALK_MAX, node_flags};

/// An edge of a graph.
pub(super) struct Hop {
    /// Index in the graph's list.
    pub(super) edge: usize,
    /// The node it leads to, or the server side.
    pub(super) to: Option<usize>,
    /// What it stands for in a view, without targets; empty if it has violations of its own.
    pub(super) conditions: Vec<Edge>,
}

/// A graph as indexes.
pub(super) struct Shape<'a> {
    pub(super) graph: &'a Graph,
    /// Field path of the graph.
    pub(super) path: &'a str,
    /// By node.
    pub(super) sets: Vec<Option<ReplicaSetId>>,
    /// By node.
    pub(super) effects: Vec<TupleEffect>,
    /// The client side's edges, then each node's; in order of precedence.
    pub(super) rows: Vec<Vec<Hop>>,
}

impl Shape<'_> {
    fn len(&self) -> usize {
        self.graph.nodes.len()
    }

    fn name(&self, node: usize) -> &str {
        self.graph.nodes[node].name.as_str()
    }

    /// Nodes that the edges of `row` lead to.
    fn next(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        self.rows[row].iter().filter_map(|hop| hop.to)
    }

    fn cuts(&self, node: usize) -> bool {
        self.effects[node] != TupleEffect::Keeps
    }

    /// Judges the shape; reachability only if all edges are known, since it would blame nodes for the edges' faults.
    /// Returns the nodes from the last position (1) to the first, unless there is a cycle.
    pub(super) fn check(&self, all_known: bool, report: &mut Report) -> Option<Vec<usize>> {
        let order = self.order();
        if order.is_none() {
            self.report_cycles(report);
        }
        if all_known {
            self.report_reachability(report);
        }
        self.report_shadowed(report);
        self.report_blind_matches(report);
        if let Some(order) = &order {
            self.report_repeated(report);
            self.report_lengths(order, report);
        }
        order
    }

    /// Nodes so that every edge leads to an earlier one; among those free to come next the first by name.
    fn order(&self) -> Option<Vec<usize>> {
        let mut missing: Vec<usize> = (0..self.len()).map(|node| self.next(node + 1).count()).collect();
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); self.len()];
        for node in 0..self.len() {
            for next in self.next(node + 1) {
                before[next].push(node);
            }
        }
        let mut free: BTreeSet<(&str, usize)> =
            (0..self.len()).filter(|&node| missing[node] == 0).map(|node| (self.name(node), node)).collect();
        let mut order = Vec::with_capacity(self.len());
        while let Some((_, node)) = free.pop_first() {
            order.push(node);
            for &earlier in &before[node] {
                missing[earlier] -= 1;
                if missing[earlier] == 0 {
                    free.insert((self.name(earlier), earlier));
                }
            }
        }
        (order.len() == self.len()).then_some(order)
    }

    fn report_cycles(&self, report: &mut Report) {
        let mut named = vec![false; self.len()];
        for start in 0..self.len() {
            if named[start] {
                continue;
            }
            let Some(cycle) = self.way_back(start) else { continue };
            let mut text: Vec<&str> = cycle.iter().map(|&node| self.name(node)).collect();
            text.push(self.name(start));
            report.add(Kind::Cycle, format!("{}.edges", self.path), format!("nodes in a cycle: {}", text.join(" -> ")));
            for node in cycle {
                named[node] = true;
            }
        }
    }

    /// The shortest way from a node back to itself, beginning with it.
    fn way_back(&self, start: usize) -> Option<Vec<usize>> {
        let mut came_from: Vec<Option<usize>> = vec![None; self.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for next in self.next(node + 1) {
                if next == start {
                    let mut way = vec![node];
                    while let Some(previous) = way.last().and_then(|&at| if at == start { None } else { came_from[at] })
                    {
                        way.push(previous);
                    }
                    way.reverse();
                    return Some(way);
                }
                if came_from[next].is_none() {
                    came_from[next] = Some(node);
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// Nodes that can be reached over the edges of `row`; `through` says behind which nodes the search goes on.
    fn reached(&self, row: usize, through: impl Fn(usize) -> bool) -> Vec<bool> {
        let mut reached = vec![false; self.len()];
        let mut rows = vec![row];
        while let Some(row) = rows.pop() {
            for node in self.next(row) {
                if !reached[node] {
                    reached[node] = true;
                    if through(node) {
                        rows.push(node + 1);
                    }
                }
            }
        }
        reached
    }

    fn report_reachability(&self, report: &mut Report) {
        let reached = self.reached(0, |_| true);
        let mut leaves: Vec<bool> = self.rows.iter().map(|row| row.iter().any(|hop| hop.to.is_none())).collect();
        // As many rounds as the longest way out has edges.
        while let Some(row) = (0..leaves.len()).find(|&row| !leaves[row] && self.next(row).any(|node| leaves[node + 1]))
        {
            leaves[row] = true;
        }
        if self.rows[0].is_empty() {
            let message = "no edge leaves the client side".to_owned();
            report.add(Kind::NoWayOut, format!("{}.edges", self.path), message);
        }
        for node in 0..self.len() {
            let at = format!("{}.nodes[{node}]", self.path);
            if !reached[node] {
                let message = format!("no edge leads from the client side to node {}", self.name(node));
                report.add(Kind::Unreachable, at.clone(), message);
            }
            if !leaves[node + 1] {
                let message = format!("no edge leads from node {} to the server side", self.name(node));
                report.add(Kind::NoWayOut, at, message);
            }
        }
    }

    fn report_shadowed(&self, report: &mut Report) {
        // One with more conditions than a walk may compare is refused for that; each would be compared with each.
        let is_walkable =
            |row: &&Vec<Hop>| row.iter().map(|hop| hop.conditions.len()).sum::<usize>() <= WALK_MAX as usize;
        for row in self.rows.iter().filter(is_walkable) {
            for (index, hop) in row.iter().enumerate().filter(|(_, hop)| !hop.conditions.is_empty()) {
                if is_shadowed(&hop.conditions, row[..index].iter().flat_map(|earlier| &earlier.conditions)) {
                    let message = "every flow that it matches takes an earlier edge from the same place".to_owned();
                    report.add(Kind::Shadowed, format!("{}.edges[{}].matches", self.path, hop.edge), message);
                }
            }
        }
    }

    /// Behind a function that makes tuples, no client attachment is known.
    fn report_blind_matches(&self, report: &mut Report) {
        let sighted = self.reached(0, |node| !self.cuts(node));
        let reached = self.reached(0, |_| true);
        for node in (0..self.len()).filter(|&node| reached[node] && (!sighted[node] || self.cuts(node))) {
            for hop in
                self.rows[node + 1].iter().filter(|hop| hop.conditions.iter().any(|edge| edge.client_attachment != 0))
            {
                let field = format!("{}.edges[{}].matches.client_attachments", self.path, hop.edge);
                let message =
                    "behind a function that changes or ends the tuple no client attachment is known".to_owned();
                report.add(Kind::Contradiction, field, message);
            }
        }
    }

    fn report_repeated(&self, report: &mut Report) {
        let mut nodes_of: BTreeMap<ReplicaSetId, Vec<usize>> = BTreeMap::new();
        for (node, set) in self.sets.iter().enumerate() {
            if let Some(set) = set {
                nodes_of.entry(*set).or_default().push(node);
            }
        }
        for nodes in nodes_of.values().filter(|nodes| nodes.len() > 1) {
            let behind: Vec<(usize, Vec<bool>)> =
                nodes.iter().map(|&node| (node, self.reached(node + 1, |_| true))).collect();
            for &node in nodes {
                if let Some((first, _)) = behind.iter().find(|(_, reached)| reached[node]) {
                    let set = &self.graph.nodes[node].replica_set;
                    let (first, second) = (self.name(*first), self.name(node));
                    let message =
                        format!("a path passes replica set {set} twice: at node {first} and at node {second}");
                    report.add(Kind::RepeatedReplicaSet, format!("{}.nodes[{node}].replica_set", self.path), message);
                }
            }
        }
    }

    /// Instances in a record and comparisons of a walk, per stretch: from the client side or a tuple-making node to the
    /// next one or the server side.
    fn report_lengths(&self, order: &[usize], report: &mut Report) {
        // By row: the most that lies ahead on the same stretch.
        let mut instances = vec![0usize; self.rows.len()];
        let mut comparisons = vec![0usize; self.rows.len()];
        for row in order.iter().map(|node| node + 1).chain([0]) {
            let mut compared = 0;
            for hop in &self.rows[row] {
                compared += hop.conditions.len();
                let (more_instances, more_comparisons) = match hop.to {
                    None => (0, 0),
                    Some(node) if self.cuts(node) => (1, 0),
                    Some(node) => (1 + instances[node + 1], comparisons[node + 1]),
                };
                instances[row] = instances[row].max(more_instances);
                comparisons[row] = comparisons[row].max(compared + more_comparisons);
            }
        }
        let starts =
            [(0, 0)].into_iter().chain((0..self.len()).filter(|&node| self.cuts(node)).map(|node| (node + 1, 1)));
        for (row, own) in starts {
            let start = match row {
                0 => "the client side".to_owned(),
                _ => format!("node {}", self.name(row - 1)),
            };
            let length = own + instances[row];
            if length > PATH_MAX {
                let message = format!(
                    "a path from {start} has {length} instances before the next change of the tuple, {PATH_MAX} are allowed"
                );
                report.add(Kind::PathTooLong, format!("{}.nodes", self.path), message);
            }
            if comparisons[row] > WALK_MAX as usize {
                let message =
                    format!("a path from {start} needs {} comparisons, {WALK_MAX} are allowed", comparisons[row]);
                report.add(Kind::WalkTooLong, format!("{}.edges", self.path), message);
            }
        }
    }

    /// The view's content. `order` as [`check`](Self::check) returned it; there were no violations.
    pub(super) fn compile(&self, order: &[usize]) -> ViewContent {
        // The view lists nodes from the highest position down.
        let mut index_of = vec![0u32; self.len()];
        for (index, &node) in order.iter().rev().enumerate() {
            index_of[node] = index as u32;
        }
        let mut edges = Vec::new();
        self.append_row(0, &index_of, &mut edges);
        let mut nodes = Vec::with_capacity(self.len());
        let mut names = Vec::with_capacity(self.len());
        for (index, &node) in order.iter().rev().enumerate() {
            nodes.push(Node {
                first_edge: edges.len() as u32,
                replica_set: self.sets[node].map_or(0, ReplicaSetId::get),
                position: (self.len() - index) as u8,
                flags: match self.effects[node] {
                    TupleEffect::Keeps => 0,
                    TupleEffect::Changes => node_flags::CHANGES_TUPLE,
                    TupleEffect::Ends => node_flags::ENDS_FLOW,
                },
            });
            names.push(self.graph.nodes[node].name.clone());
            self.append_row(node + 1, &index_of, &mut edges);
        }
        ViewContent::new(nodes, edges, names)
    }

    fn append_row(&self, row: usize, index_of: &[u32], edges: &mut Vec<Edge>) {
        for hop in &self.rows[row] {
            let target = hop.to.map_or(TARGET_EXIT, |node| index_of[node]);
            edges.extend(hop.conditions.iter().map(|condition| Edge { target, ..*condition }));
        }
        if let Some(last) = edges.last_mut() {
            last.last = 1;
        }
    }
}
