//! Every rule of the check: what breaks it, and the complete list of violations that follows.

mod cases;
mod common;

use cases::*;
use chain_graph::ViolationKind::{self, *};
use chain_graph::model::*;
use chain_graph::{Checked, check, check_after, check_capacity};
use common::*;
use std::collections::BTreeSet;
use std::sync::Arc;

fn found(desired: &Desired) -> Vec<(String, ViolationKind)> {
    match check(desired) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.into_iter().map(|v| (v.path, v.kind)).collect(),
    }
}

fn run(cases: &[Case]) -> BTreeSet<ViolationKind> {
    let sound = base();
    let checked = check(&sound).unwrap_or_else(|violations| panic!("base: {violations:?}"));
    for (what, break_it, expected) in cases {
        let mut desired = sound.clone();
        break_it(&mut desired);
        let expected: Vec<_> = expected.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect();
        assert_eq!(found(&desired), expected, "{what}");
        let after = |earlier: &Checked, desired: &Desired| -> Vec<_> {
            let violations = check_after(Some(earlier), &Arc::new(desired.clone())).err().unwrap_or_default();
            violations.into_iter().map(|v| (v.path, v.kind)).collect()
        };
        assert_eq!(after(&checked, &desired), expected, "{what}, after a sound declaration");
        let mut without_candidates = desired.clone();
        without_candidates.versions.clear();
        if let Ok(checked) = check(&without_candidates) {
            assert_eq!(after(&checked, &desired), expected, "{what}, where only the candidate is new");
        }
    }
    cases.iter().flat_map(|(_, _, expected)| expected.iter().map(|(_, kind)| *kind)).collect()
}

#[test]
fn each_rule_is_reported_with_its_path_and_nothing_else() {
    let mut seen = run(RESOURCES);
    seen.extend(run(SHARING));
    seen.extend(run(GRAPHS));
    seen.extend(run(CANDIDATES));
    seen.insert(OverCapacity); // See below.
    let all: BTreeSet<_> = ViolationKind::ALL.iter().copied().collect();
    assert_eq!(seen, all, "every kind has a case");
}

#[test]
fn whatever_is_refused_of_a_graph_is_refused_of_its_candidate() {
    for (what, break_it, expected) in GRAPHS {
        let mut desired = base();
        break_it(&mut desired);
        let broken = Arc::clone(&desired.graphs[&key("acme/web")]);
        desired.put_graph((*base().graphs[&key("acme/web")]).clone());
        desired.put_versions(
            key("acme/web"),
            Versions { candidate: Some(Candidate { graph: broken, share: 0 }), draining: Vec::new() },
        );
        let of_candidate = |path: &str| path.replacen("graphs[\"acme/web\"]", "graphs[\"acme/web\"].candidate", 1);
        let expected: Vec<_> = expected.iter().map(|(path, kind)| (of_candidate(path), *kind)).collect();
        let mut found = found(&desired);
        // Some break the list of attachments.
        found.retain(|(_, kind)| *kind != AttachmentsDiffer);
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_stable_version_and_its_candidate_are_both_judged() {
    let mut desired = base();
    graph_mut(&mut desired, "acme/web").nodes[0].replica_set = name("v9");
    candidate(&mut desired, 3277, |graph| graph.edges.clear());
    let expected = [
        ("graphs[\"acme/web\"].nodes[0].replica_set", UnknownReplicaSet),
        ("graphs[\"acme/web\"].candidate.nodes[0].replica_set", UnknownReplicaSet),
        ("graphs[\"acme/web\"].candidate.edges", NoWayOut),
        ("graphs[\"acme/web\"].candidate.nodes[0]", Unreachable),
        ("graphs[\"acme/web\"].candidate.nodes[0]", NoWayOut),
        ("graphs[\"acme/web\"].candidate.nodes[1]", Unreachable),
        ("graphs[\"acme/web\"].candidate.nodes[1]", NoWayOut),
    ];
    assert_eq!(found(&desired), expected.map(|(path, kind)| (path.to_owned(), kind)));
}

#[test]
fn a_refused_candidate_says_what_to_do() {
    let mut desired = base();
    desired.put_attachment(attachment("acme/left2", 11, Side::Client, "net11", &["10.0.0.0/8"]));
    candidate(&mut desired, 3277, |graph| graph.client.push(name("left2")));
    let violations = check(&desired).unwrap_err();
    assert_eq!(
        violations[0].to_string(),
        "graphs[\"acme/web\"].candidate.client: all versions of graph acme/web have the same attachments on the client side: an \
         attachment leads to a graph, not to a version of it; change the graph's attachments first, with an ordinary apply \
         [attachments_differ]"
    );
}

#[test]
fn all_violations_are_reported_at_once() {
    let mut desired = base();
    for (_, break_it, _) in [RESOURCES[2], SHARING[0], GRAPHS[2], GRAPHS[6]] {
        break_it(&mut desired);
    }
    let expected = [
        ("tenants[\"acme\"].budget.unanswered", ZeroBudget),
        ("tenants[\"acme\"].budget.established", ZeroBudget),
        ("graphs[\"acme/web\"].client[0]", WrongSide),
        ("graphs[\"acme/web\"].edges", Cycle),
        ("graphs[\"blue/web\"].nodes[0].function", NotShareable),
    ];
    assert_eq!(found(&desired), expected.map(|(path, kind)| (path.to_owned(), kind)));
}

#[test]
fn a_cycle_names_its_nodes() {
    let mut desired = base();
    let web = graph_mut(&mut desired, "acme/web");
    web.edges.push(edge_if("nat -> fw", tcp(1, 1)));
    let violations = check(&desired).unwrap_err();
    assert_eq!(violations[0].to_string(), "graphs[\"acme/web\"].edges: nodes in a cycle: fw -> nat -> fw [cycle]");
}

#[test]
fn limits_themselves_are_allowed() {
    let mut desired = base();
    chain(&mut desired, 16, 0);
    assert_eq!(found(&desired), []);
    let mut desired = base();
    chain(&mut desired, 9, 6); // 9 * 7 + 1 = 64 comparisons.
    assert_eq!(found(&desired), []);
    // 254 nodes side by side.
    let mut desired = base();
    chain(&mut desired, 254, 0);
    let web = graph_mut(&mut desired, "acme/web");
    web.edges.clear();
    for n in 1..=254 {
        web.edges.push(edge(&format!("n{n} -> server")));
    }
    for n in 1..=15 {
        web.edges.push(edge_if(&format!("client -> n{n}"), tcp(n, n)));
        for m in 0..16 {
            let to = n * 16 + m;
            if to <= 254 {
                web.edges.push(edge_if(&format!("n{n} -> n{to}"), tcp(m, m)));
            }
        }
    }
    assert_eq!(found(&desired), []);
}

#[test]
fn several_prefixes_of_both_families_and_no_default_are_fine() {
    let mut desired = base();
    let web = graph_mut(&mut desired, "acme/web");
    let mut both = servers(&["10.0.0.0/8", "2001:db8::/32"]);
    both.client_prefixes = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    web.edges[0] = edge_if("client -> fw", both);
    let checked = check(&desired).unwrap();
    let content = checked.content(&key("acme/web")).unwrap();
    assert_eq!(content.edges().iter().position(|edge| edge.last != 0), Some(1), "two of the four pairs are possible");
}

#[test]
fn budgets_are_guarantees() {
    let desired = base(); // Two tenants of 100 + 1000 records.
    assert_eq!(check_capacity(&desired, 2200), Ok(()));
    let violation = check_capacity(&desired, 2199).unwrap_err();
    assert_eq!((violation.path.as_str(), violation.kind), ("tenants[\"blue\"].budget", OverCapacity));
}

/// Requests of some hundred kilobytes whose lists multiply: what they stand for would fill the memory, or take minutes to compare.
#[test]
fn lists_that_multiply_are_refused_before_they_are_made() {
    let many = 20_000u32;
    let prefixes = |first: u32| -> Vec<ipnet::IpNet> {
        let net = |n: u32| ipnet::Ipv4Net::new((first + n).into(), 32).expect("a host").into();
        (0..many).map(net).collect()
    };
    let mut desired = base();
    let both = EdgeMatch {
        client_prefixes: prefixes(0x0a00_0000),
        server_prefixes: prefixes(0x0b00_0000),
        ..EdgeMatch::default()
    };
    graph_mut(&mut desired, "acme/web").edges.insert(0, edge_if("client -> server", both));
    let violations = check(&desired).expect_err("too many comparisons");
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert_eq!(violations[0].kind, WalkTooLong);
    assert!(violations[0].message.contains(&(u64::from(many) * u64::from(many)).to_string()), "{violations:?}");

    let mut desired = base();
    let edges = (1..=u16::MAX).map(|port| edge_if("client -> server", tcp(port, port)));
    graph_mut(&mut desired, "acme/web").edges.splice(0..0, edges);
    assert_eq!(found(&desired), [("graphs[\"acme/web\"].edges".to_owned(), WalkTooLong)]);

    let mut desired = base();
    let blocks = vec![outside("192.0.2.200/32", None); many as usize];
    instances(function_mut(&mut desired, "nat"), "v1").next().expect("an instance").outside = blocks;
    let kinds: Vec<_> = found(&desired).into_iter().map(|(_, kind)| kind).collect();
    let overlaps = kinds.iter().filter(|kind| **kind == OutsideOverlap).count();
    assert_eq!(overlaps, many as usize - 1, "each is reported once");
}
