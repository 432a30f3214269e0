//! A thousand tenants: one change renews the parts of one tenant, a weight those of none. The times are printed, not judged.

mod common;

use chain_graph::model::*;
use chain_graph::{Cluster, Image, ImageTables, check, check_after};
use common::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TENANTS: u16 = 1000;
const ROUNDS: u16 = 50;
const CLUSTER: Cluster = Cluster { incarnation: 1, seed: [7, 8] };

/// Every tenant with two attachments, a firewall, a NAT and an inspection of its own, two instances each, and one graph.
fn declare() -> Desired {
    let mut desired = Desired::default();
    for n in 1..=TENANTS {
        let tenant_name = format!("t{n}");
        desired.put_tenant(tenant(&tenant_name, n.into()));
        for (id, side, at) in [(2 * n, Side::Client, "left"), (2 * n + 1, Side::Server, "right")] {
            desired.put_attachment(attachment(&format!("{tenant_name}/{at}"), id, side, &format!("n{id}"), &[]));
        }
        let mut nodes = Vec::new();
        for (index, kind) in ["fw", "dpi", "nat"].into_iter().enumerate() {
            let id = 3 * n + index as u16;
            let mut members = [instance(2 * id), instance(2 * id + 1)];
            let effect = if kind == "nat" { TupleEffect::Changes } else { TupleEffect::Keeps };
            if effect == TupleEffect::Changes {
                members
                    .iter_mut()
                    .for_each(|i| i.outside.push(outside(&format!("192.0.2.{}/32", i.id.get() % 2), None)));
            }
            desired.put_function(function(&format!("{kind}{n}"), effect, [replica_set("v1", id, members)]));
            nodes.push(format!("{kind} {kind}{n} v1"));
        }
        let edges = vec![
            edge("client -> fw"),
            edge_if("fw -> dpi", tcp(80, 443)),
            edge("fw -> nat"),
            edge("dpi -> nat"),
            edge("nat -> server"),
        ];
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        desired.put_graph(graph(&format!("{tenant_name}/web"), n, &nodes, edges));
    }
    desired
}

/// Medians of the checks' and of the builds' times. Each change renews the parts of `renews` tenants.
fn change(desired: &mut Desired, what: &str, renews: usize, mut how: impl FnMut(&mut Desired, u16)) {
    let mut checked = check(desired).unwrap_or_else(|violations| panic!("{violations:#?}"));
    let mut image = Image::build(None, &checked, CLUSTER).unwrap();
    let mut times: [Vec<Duration>; 2] = [Vec::new(), Vec::new()];
    for round in 1..=ROUNDS {
        how(desired, round);
        let shared = Arc::new(desired.clone());
        let start = Instant::now();
        let next = check_after(Some(&checked), &shared).unwrap_or_else(|violations| panic!("{violations:#?}"));
        times[0].push(start.elapsed());
        let start = Instant::now();
        let after = Image::build(Some(&image), &next, CLUSTER).unwrap();
        times[1].push(start.elapsed());
        let renewed = |same: &dyn Fn() -> usize| usize::from(TENANTS) - same();
        let tenants =
            renewed(&|| image.tenants().iter().filter(|(id, t)| Arc::ptr_eq(t, &after.tenants()[*id])).count());
        assert_eq!(tenants, renews, "{what}: tenants whose part is new");
        let tables = image.tables().iter().filter(|(set, t)| !Arc::ptr_eq(t, &after.tables()[*set])).count();
        assert!(tables <= 1, "{what}: at most one table is new");
        assert_eq!(after.plan().generation().get(), u64::from(round) + 1, "{what}: a new plan each time");
        (checked, image) = (next, after);
    }
    let [check, build] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    println!("{what}: check {check:?}, image {build:?} (medians of {ROUNDS})");
}

#[test]
fn one_change_among_a_thousand_tenants() {
    let mut desired = declare();
    let start = Instant::now();
    let checked = check(&desired).unwrap_or_else(|violations| panic!("{violations:#?}"));
    let check_time = start.elapsed();
    let start = Instant::now();
    let image = Image::build(None, &checked, CLUSTER).unwrap();
    println!("from nothing, {TENANTS} tenants: check {check_time:?}, image {:?}", start.elapsed());
    let start = Instant::now();
    drop(ImageTables::new(&image));
    println!("tables of the core over it: {:?}", start.elapsed());
    change(&mut desired, "a graph", 1, |desired, round| {
        graph_mut(desired, &format!("t{round}/web")).edges[1] = edge_if("fw -> dpi", tcp(round, 444));
    });
    let web = |round: u16| key(&format!("t{round}/web"));
    change(&mut desired, "a candidate", 1, |desired, round| {
        let mut graph = (*desired.graphs[&web(round)]).clone();
        graph.edges[1] = edge_if("fw -> dpi", tcp(round, 555));
        let candidate = Some(Candidate { graph: graph.into(), share: 1 });
        desired.put_versions(web(round), Versions { candidate, draining: Vec::new() });
    });
    change(&mut desired, "its share", 1, |desired, round| {
        let versions = Arc::make_mut(desired.versions.get_mut(&web(round)).unwrap());
        versions.candidate.as_mut().unwrap().share = u16::MAX;
    });
    change(&mut desired, "its promotion", 1, |desired, round| {
        let versions = Arc::make_mut(desired.versions.get_mut(&web(round)).unwrap());
        let promoted = versions.candidate.take().unwrap().graph;
        versions.draining.push(desired.graphs.insert(web(round), promoted).unwrap());
    });
    change(&mut desired, "a weight", 0, |desired, round| {
        let function = function_mut(desired, &format!("fw{round}"));
        instances(function, "v1").next().unwrap().weight = 7;
    });
}
