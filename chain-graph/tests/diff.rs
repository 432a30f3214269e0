//! What a change does, predicted from drawn flows: against what tables, shares and other flows say.

mod common;
mod traffic;

use chain_graph::diff::{Comparison, Diff, Flow, GraphDiff, Risk, Sampling};
use chain_graph::model::*;
use chain_graph::{Cluster, Image, ImageTables, check};
use common::*;
use std::time::Instant;
use traffic::{from_client, reality, traffic};
use xdp_forward::tables::PlanTables;
use xdp_forward::{Path, Question};
use xdp_layout::flow::{FlowRecord, record_flags};
use xdp_layout::plan::RouteKey;
use xdp_layout::{Addr, AttachmentId, GraphId, ReplicaSetId, TenantId};

const CLUSTER: Cluster = Cluster { incarnation: 1, seed: [7, 8] };
const ACME: TenantId = TenantId::new(1).unwrap();
const WEB: GraphId = GraphId::new(1).unwrap();
const SAMPLING: Sampling = Sampling { flows: 20_000, seed: 1 };
/// One percentage point.
const POINT: f64 = 0.01;

/// Acme's graph web is client -> fw -> dpi -> server, with ten instances of fw's v1, five of its v2 and four of dpi's v1.
fn world() -> Desired {
    let mut desired = base();
    let several = |first: u16, count: u16| (first..first + count).map(instance);
    let fw = [replica_set("v1", 1, several(100, 10)), replica_set("v2", 2, several(200, 5))];
    desired.put_function(function("fw", TupleEffect::Keeps, fw));
    desired.put_function(function("dpi", TupleEffect::Keeps, [replica_set("v1", 5, several(300, 4))]));
    let edges = vec![edge("client -> fw"), edge("fw -> dpi"), edge("dpi -> server")];
    desired.put_graph(graph("acme/web", 1, &["fw v1", "dpi v1"], edges));
    desired
}

fn image(before: Option<&Image>, desired: &Desired) -> Image {
    let checked = check(desired).unwrap_or_else(|violations| panic!("{violations:#?}"));
    Image::build(before, &checked, CLUSTER).unwrap()
}

/// The images before and after a change of `desired`.
fn change(mut desired: Desired, how: impl FnOnce(&mut Desired)) -> (Image, Image) {
    let before = image(None, &desired);
    how(&mut desired);
    let after = image(Some(&before), &desired);
    (before, after)
}

/// The prediction for web, the only graph that the change concerns.
fn predict(before: &Image, after: &Image) -> GraphDiff {
    let Diff { tenants, .. } = Comparison::new(before, after).diff(SAMPLING);
    let [tenant] = &tenants[..] else { panic!("{tenants:#?}") };
    let [graph] = &tenant.graphs[..] else { panic!("{tenant:#?}") };
    assert_eq!((tenant.tenant, graph.graph, &tenant.risk), (ACME, WEB, &graph.risk));
    assert_eq!(graph.risk.flows, u64::from(SAMPLING.flows));
    graph.clone()
}

#[track_caller]
fn close(what: &str, risk: &Risk, count: u64, truth: f64) {
    let share = risk.share(count);
    if truth != 0.0 {
        println!("{what}: predicted {share}, true {:.2} %", 100.0 * truth);
    }
    assert!((share.value - truth).abs() < POINT, "{what}: {share}, {truth}");
}

/// Shares of web's flows: at risk, diverted, and by function added, removed, with another instance.
#[track_caller]
fn expect(what: &str, risk: &Risk, at_risk: f64, diverted: f64, stages: &[(&str, [f64; 3])]) {
    close(what, risk, risk.at_risk, at_risk);
    close(what, risk, risk.diverted, diverted);
    let names: Vec<&str> = risk.stages.keys().map(ResourceName::as_str).collect();
    assert_eq!(names, stages.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{what}");
    for (stage, (name, expected)) in risk.stages.values().zip(stages) {
        for (count, share) in [stage.added, stage.removed, stage.changed].into_iter().zip(expected) {
            close(&format!("{what}, {name}"), risk, count, *share);
        }
    }
}

/// The share of a replica set's slots that belong to another instance.
fn slots_changed(before: &Image, after: &Image, set: u16) -> f64 {
    let owners = |image: &Image| -> Vec<u16> {
        let table = &image.tables()[&ReplicaSetId::new(set).unwrap()];
        let members: Vec<u16> = table.member_words().collect();
        table.entries().iter().map(|entry| members[usize::from(*entry)]).collect()
    };
    let (before, after) = (owners(before), owners(after));
    assert_eq!(before.len(), after.len());
    before.iter().zip(&after).filter(|(a, b)| a != b).count() as f64 / before.len() as f64
}

#[test]
fn inserting_a_function() {
    let (before, after) = change(world(), |d| {
        let web = graph_mut(d, "acme/web");
        web.nodes.push(node("nat v1"));
        web.edges = ["client -> fw", "fw -> dpi", "dpi -> nat", "nat -> server"].map(edge).into();
    });
    let graph = predict(&before, &after);
    let stages = [("dpi", [0.0; 3]), ("fw", [0.0; 3]), ("nat", [1.0, 0.0, 0.0])];
    expect("insert nat", &graph.risk, 1.0, 1.0, &stages);
}

#[test]
fn inserting_a_function_for_a_share() {
    let with_nat = |d: &mut Desired| {
        candidate(d, 13107, |web| {
            web.nodes.push(node("nat v1"));
            web.edges = ["client -> fw", "fw -> dpi", "dpi -> nat", "nat -> server"].map(edge).into();
        });
    };
    let (before, after) = change(world(), with_nat);
    let graph = predict(&before, &after);
    let stages = [("dpi", [0.0; 3]), ("fw", [0.0; 3]), ("nat", [0.2, 0.0, 0.0])];
    expect("insert nat for 20 %", &graph.risk, 0.2, 0.2, &stages);
    assert_eq!(graph.views.len(), 1, "the candidate against the stable version");
    // The rest of the way.
    let mut desired = world();
    with_nat(&mut desired);
    let (trial, promoted) = change(desired, promote);
    let graph = predict(&trial, &promoted);
    let stages = [("dpi", [0.0; 3]), ("fw", [0.0; 3]), ("nat", [0.8, 0.0, 0.0])];
    expect("promote it", &graph.risk, 0.8, 0.8, &stages);
}

#[test]
fn removing_a_function() {
    let (before, after) = change(world(), |d| {
        let web = graph_mut(d, "acme/web");
        web.nodes.remove(1);
        web.edges = ["client -> fw", "fw -> server"].map(edge).into();
    });
    let graph = predict(&before, &after);
    expect("remove dpi", &graph.risk, 1.0, 1.0, &[("dpi", [0.0, 1.0, 0.0]), ("fw", [0.0; 3])]);
}

#[test]
fn replacing_a_replica_set() {
    let (before, after) = change(world(), |d| graph_mut(d, "acme/web").nodes[0].replica_set = name("v2"));
    let graph = predict(&before, &after);
    expect("fw v1 -> v2", &graph.risk, 1.0, 1.0, &[("dpi", [0.0; 3]), ("fw", [0.0, 0.0, 1.0])]);
}

#[test]
fn reordering_functions_diverts_nobody_from_an_instance() {
    let (before, after) = change(world(), |d| {
        graph_mut(d, "acme/web").edges = ["client -> dpi", "dpi -> fw", "fw -> server"].map(edge).into();
    });
    let graph = predict(&before, &after);
    expect("dpi before fw", &graph.risk, 1.0, 1.0, &[("dpi", [0.0; 3]), ("fw", [0.0; 3])]);
}

#[test]
fn a_rename_changes_the_view_alone() {
    let (before, after) = change(world(), |d| {
        let web = graph_mut(d, "acme/web");
        web.nodes[0].name = name("wall");
        web.edges = ["client -> wall", "wall -> dpi", "dpi -> server"].map(edge).into();
    });
    let graph = predict(&before, &after);
    expect("rename", &graph.risk, 1.0, 0.0, &[("dpi", [0.0; 3]), ("fw", [0.0; 3])]);
}

#[test]
fn adding_an_instance() {
    let (before, after) = change(world(), |d| {
        let fresh = instance(250);
        let fw = function_mut(d, "fw").replica_sets.get_mut(&name("v1")).unwrap();
        fw.instances.remove(&name("i109"));
        fw.instances.insert(fresh.name.clone(), fresh);
    });
    let truth = slots_changed(&before, &after, 1);
    assert!((0.09..0.3).contains(&truth), "{truth}");
    let graph = predict(&before, &after);
    assert!(graph.views.is_empty(), "no graph is another");
    let stages = [("dpi", [0.0; 3]), ("fw", [0.0, 0.0, truth])];
    expect("one instance for another", &graph.risk, truth, truth, &stages);

    let (before, after) = change(world(), |d| {
        let fresh = instance(350);
        let dpi = function_mut(d, "dpi").replica_sets.get_mut(&name("v1")).unwrap();
        dpi.instances.insert(fresh.name.clone(), fresh);
    });
    let truth = slots_changed(&before, &after, 5);
    assert!((0.19..0.3).contains(&truth), "{truth}");
    let graph = predict(&before, &after);
    let stages = [("dpi", [0.0, 0.0, truth]), ("fw", [0.0; 3])];
    expect("a fifth instance", &graph.risk, truth, truth, &stages);
}

#[test]
fn an_instance_that_goes_down() {
    let (before, after) = change(world(), |d| instance_mut(d, "dpi", 0).down = true);
    let table = &before.tables()[&ReplicaSetId::new(5).unwrap()];
    let truth = table.entries().iter().filter(|entry| **entry == 0).count() as f64 / table.entries().len() as f64;
    let graph = predict(&before, &after);
    expect("down", &graph.risk, truth, truth, &[("dpi", [0.0, 0.0, truth]), ("fw", [0.0; 3])]);
}

#[test]
fn changing_a_branch() {
    let branched = |last: u16| {
        move |d: &mut Desired| {
            graph_mut(d, "acme/web").edges = vec![
                edge("client -> fw"),
                edge_if("fw -> server", tcp(80, last)),
                edge("fw -> dpi"),
                edge("dpi -> server"),
            ];
        }
    };
    let mut desired = world();
    branched(443)(&mut desired);
    let (before, after) = change(desired, branched(8080));
    let graph = predict(&before, &after);
    // Half of the flows are free, half of those TCP; of the others half are drawn for the wider condition.
    let moved = f64::from(8080 - 443);
    let truth = 0.5 * 0.5 * moved / 65535.0 + 0.5 * 0.5 * moved / f64::from(8080 - 80 + 1);
    let stages = [("dpi", [0.0, truth, 0.0]), ("fw", [0.0; 3])];
    expect("wider branch", &graph.risk, 1.0, truth, &stages);

    // The same of flows that are not drawn but given: what some of them say of others.
    let comparison = Comparison::new(&before, &after);
    let given = comparison.risk(traffic(2, 40_000).map(|key| Flow { key, question: from_client(&key), onward: None }));
    let truth = reality(&before, &after, traffic(3, 40_000));
    expect("wider branch, given flows", &given, truth.at_risk, truth.diverted, &truth.stages());
}

#[test]
fn drawn_flows_predict_what_recorded_flows_find() {
    // Several things at once: another set for the firewall on trial, and another weight for an inspection.
    let (before, after) = change(world(), |d| {
        candidate(d, 19661, |web| web.nodes[0].replica_set = name("v2"));
        instance_mut(d, "dpi", 2).weight = 3;
    });
    let tables = ImageTables::new(&before);
    let records = traffic(4, 100_000).map(|key| {
        let path = tables.path(&key, &from_client(&key)).unwrap();
        let flags = path.flags | record_flags::FROM_CLIENT;
        let Path { view, entry, exit, len, instances, .. } = path;
        (key, FlowRecord { view, entry, exit, path_len: len, flags, path: instances, ..FlowRecord::default() })
    });
    let comparison = Comparison::new(&before, &after);
    let recorded = comparison.risk(records.map(|(key, record)| comparison.recorded(&key, &record).unwrap()));
    let truth = reality(&before, &after, traffic(4, 100_000));
    assert_eq!(recorded.share(recorded.at_risk).value, truth.at_risk, "the very same flows");
    assert_eq!(recorded.share(recorded.stages[&name("fw")].changed).value, truth.by_function["fw"][2]);
    let graph = predict(&before, &after);
    expect("drawn against recorded", &graph.risk, truth.at_risk, truth.diverted, &{
        let mut stages = truth.stages();
        stages.sort_unstable_by_key(|(name, _)| *name);
        stages
    });
    let unknown = FlowRecord { view: 77, ..FlowRecord::default() };
    assert!(comparison.recorded(&traffic(4, 1).next().unwrap(), &unknown).is_none());
}

#[test]
fn behind_a_function_that_makes_tuples() {
    let mut desired = world();
    // Of the families the NAT has addresses of.
    attachment_mut(&mut desired, "acme/left").prefixes = vec!["10.0.0.0/8".parse().unwrap()];
    let web = graph_mut(&mut desired, "acme/web");
    web.nodes.push(node("nat v1"));
    web.edges = ["client -> fw", "fw -> nat", "nat -> dpi", "dpi -> server"].map(edge).into();
    let (before, after) = change(desired.clone(), |d| {
        let fresh = instance(350);
        let dpi = function_mut(d, "dpi").replica_sets.get_mut(&name("v1")).unwrap();
        dpi.instances.insert(fresh.name.clone(), fresh);
    });
    let truth = slots_changed(&before, &after, 5);
    let graph = predict(&before, &after);
    assert_eq!(graph.risk.stages[&name("dpi")].passing, graph.risk.flows);
    let still = [0.0; 3];
    let stages = [("dpi", [0.0, 0.0, truth]), ("fw", still), ("nat", still)];
    expect("dpi behind nat", &graph.risk, truth, truth, &stages);

    // The tuple a flow has behind the NAT depends on the NAT's instance.
    let (before, after) = change(desired.clone(), |d| instance_mut(d, "nat", 0).weight = 0);
    let truth = slots_changed(&before, &after, 3);
    let graph = predict(&before, &after);
    let of_dpi = graph.risk.share(graph.risk.stages[&name("dpi")].changed).value;
    assert!((of_dpi - 0.75 * truth).abs() < POINT, "one in four comes to the same inspection: {of_dpi}, {truth}");
    assert_eq!(graph.risk.stages[&name("fw")].at_risk(), 0);

    // Where frames behind the NAT are dropped, the NAT is met as before.
    let (before, after) = change(desired.clone(), |d| {
        graph_mut(d, "acme/web").edges[2] = edge_if("nat -> dpi", tcp(443, 443));
    });
    let graph = predict(&before, &after);
    // Half of the flows are drawn for the one condition.
    let stages = [("dpi", [0.0, 0.5, 0.0]), ("fw", still), ("nat", still)];
    expect("no way on behind nat", &graph.risk, 1.0, 0.5, &stages);

    // A proxy's own connection is another flow, but goes on here all the same.
    function_mut(&mut desired, "nat").tuple = TupleEffect::Ends;
    instances(function_mut(&mut desired, "nat"), "v1").for_each(|instance| instance.outside.clear());
    let (before, after) = change(desired, |d| graph_mut(d, "acme/web").nodes[0].replica_set = name("v2"));
    let graph = predict(&before, &after);
    let stages = [("dpi", still), ("fw", [0.0, 0.0, 1.0]), ("nat", still)];
    expect("fw before a proxy", &graph.risk, 1.0, 1.0, &stages);
}

#[test]
fn a_tuple_behind_a_nat_goes_on_in_the_view_of_the_flow() {
    let mut desired = world();
    attachment_mut(&mut desired, "acme/left").prefixes = vec!["10.0.0.0/8".parse().unwrap()];
    let web = graph_mut(&mut desired, "acme/web");
    web.nodes = ["fw v1", "nat v1"].map(node).into();
    web.edges = ["client -> fw", "fw -> nat", "nat -> server"].map(edge).into();
    let (before, after) = change(desired, |d| {
        candidate(d, 13107, |web| {
            web.nodes.push(node("dpi v1"));
            web.edges = ["client -> fw", "fw -> nat", "nat -> dpi", "dpi -> server"].map(edge).into();
        });
    });
    let graph = predict(&before, &after);
    let stages = [("dpi", [0.2, 0.0, 0.0]), ("fw", [0.0; 3]), ("nat", [0.0; 3])];
    expect("insert dpi behind nat for 20 %", &graph.risk, 0.2, 0.2, &stages);
}

#[test]
fn leaving_by_another_attachment_is_a_diversion() {
    let mut desired = world();
    attachment_mut(&mut desired, "acme/left").prefixes = vec!["10.0.0.0/8".parse().unwrap()];
    let (before, after) = change(desired, |d| {
        d.put_attachment(attachment("acme/right2", 12, Side::Server, "net12", &["128.0.0.0/1"]));
        graph_mut(d, "acme/web").server.push(name("right2"));
    });
    let graph = predict(&before, &after);
    // Two prefixes, of which the whole space has the other half of its flows in the new one.
    expect("another exit", &graph.risk, 0.75, 0.75, &[("dpi", [0.0; 3]), ("fw", [0.0; 3])]);
    assert!(graph.views.is_empty());

    // A record that the server's side began says where that frame arrived, and the address says where the client is.
    let comparison = Comparison::new(&before, &after);
    let key = traffic(1, 1).next().unwrap();
    let path = ImageTables::new(&before).path(&key, &from_client(&key)).unwrap();
    let record = FlowRecord { view: path.view, entry: 1, exit: 2, flags: path.flags, ..FlowRecord::default() };
    let ends = |record| {
        let Question { entry, exit, .. } = comparison.recorded(&key, record).unwrap().question;
        (entry.map(AttachmentId::get), exit.map(AttachmentId::get))
    };
    assert_eq!(ends(&record), (None, Some(2)));
    assert_eq!(ends(&FlowRecord { flags: path.flags | record_flags::FROM_CLIENT, ..record }), (Some(1), None));
}

#[test]
fn whatever_changes_the_answers_is_listed() {
    let desired = world();
    let before = image(None, &desired);
    let reseeded = Cluster { seed: [9, 9], ..CLUSTER };
    let after = Image::build(Some(&before), &check(&desired).unwrap(), reseeded).unwrap();
    let graph = predict(&before, &after);
    // A firewall of ten and an inspection of four stay the same by chance.
    expect("another seed", &graph.risk, 0.975, 0.975, &[("dpi", [0.0, 0.0, 0.75]), ("fw", [0.0, 0.0, 0.9])]);

    let mut desired = world();
    graph_mut(&mut desired, "acme/web").nodes.push(node("nat v1"));
    graph_mut(&mut desired, "acme/web").edges =
        ["client -> fw", "fw -> dpi", "dpi -> nat", "nat -> server"].map(edge).into();
    let (before, after) = change(desired, |d| instance_mut(d, "nat", 0).outside = vec![outside("192.0.2.9/32", None)]);
    assert_eq!(predict(&before, &after).graph, WEB, "tuples are found by outside block");
}

#[test]
fn what_does_not_change_is_not_listed() {
    let mut desired = world();
    desired.put_graph(graph("blue/web", 2, &[], vec![edge("client -> server")]));
    desired.put_attachment(attachment("acme/left2", 11, Side::Client, "net11", &[]));
    desired.put_attachment(attachment("acme/right2", 12, Side::Server, "net12", &[]));
    let mut other = graph("acme/zoo", 3, &[], vec![edge("client -> server")]);
    (other.client, other.server) = (vec![name("left2")], vec![name("right2")]);
    desired.put_graph(other);
    let (before, after) = change(desired.clone(), |d| {
        instance_mut(d, "nat", 0).weight = 7;
        tenant_mut(d, "acme").budget.established = 7;
    });
    let diff = Comparison::new(&before, &after).diff(SAMPLING);
    assert!(diff.tenants.is_empty(), "{diff}");
    assert_eq!(diff.tables.iter().map(|table| table.replica_set.get()).collect::<Vec<_>>(), [3]);

    let (before, after) = change(desired, |d| graph_mut(d, "acme/web").nodes[0].replica_set = name("v2"));
    let diff = Comparison::new(&before, &after).diff(SAMPLING);
    let [tenant] = &diff.tenants[..] else { panic!("{diff}") };
    assert_eq!(tenant.graphs.len(), 1);
    assert_eq!(tenant.risk.flows, 2 * u64::from(SAMPLING.flows), "the other graph counts");
    assert_eq!(tenant.risk.share(tenant.risk.at_risk).value, 0.5);
}

#[test]
fn graphs_that_come_and_go() {
    let (before, after) = change(world(), |d| {
        d.graphs.clear();
        d.put_graph(graph("blue/web", 2, &[], vec![edge("client -> server")]));
    });
    let diff = Comparison::new(&before, &after).diff(Sampling { flows: 1000, seed: 1 });
    let all = |tenant: usize| {
        let graph = &diff.tenants[tenant].graphs[0];
        (graph.views[0].before.is_some(), graph.views[0].after.is_some(), graph.risk.diverted)
    };
    assert_eq!((all(0), all(1)), ((true, false, 1000), (false, true, 1000)));
}

#[test]
fn the_same_seed_draws_the_same_flows() {
    let (before, after) = change(world(), |d| instance_mut(d, "dpi", 0).weight = 5);
    let comparison = Comparison::new(&before, &after);
    let diff = |seed| comparison.diff(Sampling { flows: 20_000, seed });
    assert_eq!(diff(1), diff(1));
    assert_ne!(diff(1), diff(2));
    let share = |diff: &Diff| diff.tenants[0].risk.share(diff.tenants[0].risk.at_risk);
    let error = share(&diff(1)).standard_error;
    assert!((share(&diff(1)).value - share(&diff(2)).value).abs() < 5.0 * error && (0.001..0.005).contains(&error));
}

/// Web with routes of both families and branches on all that a branch can be on.
fn branches() -> Desired {
    let mut desired = world();
    attachment_mut(&mut desired, "acme/left").prefixes =
        ["10.0.0.0/8", "2001:db8::/32"].map(|prefix| prefix.parse().unwrap()).into();
    desired.put_attachment(attachment("acme/far", 11, Side::Client, "net11", &["10.9.0.0/16"]));
    let web = graph_mut(&mut desired, "acme/web");
    web.client.push(name("far"));
    let far = EdgeMatch { client_attachments: vec![name("far")], ..EdgeMatch::default() };
    let mut narrow = servers(&["203.0.113.7/32"]);
    narrow.client_prefixes = vec!["10.1.2.0/24".parse().unwrap()];
    let ping = EdgeMatch { protocol: Some(Protocol::ICMPV6), ..EdgeMatch::default() };
    web.edges = vec![
        edge_if("client -> server", narrow),
        edge_if("client -> server", ping),
        edge_if("client -> dpi", far),
        edge("client -> fw"),
        edge("fw -> dpi"),
        edge("dpi -> server"),
    ];
    desired
}

#[test]
fn flows_are_drawn_as_routed_and_meet_every_branch() {
    let before = image(None, &branches());
    let comparison = Comparison::new(&before, &before);
    let tables = ImageTables::new(&before);
    let count = 40_000;
    let mut met = [0u32; 4];
    let mut v6 = 0;
    for Flow { key, question, .. } in comparison.keys(ACME, WEB, 9).take(count) {
        let ((client, client_port), (server, _)) = if question.client_is_a {
            ((key.a, key.a_port), (key.b, key.b_port))
        } else {
            ((key.b, key.b_port), (key.a, key.a_port))
        };
        assert_eq!(client.is_v4(), server.is_v4());
        v6 += u32::from(!client.is_v4());
        let route = RouteKey { graph: 1u16.to_be_bytes(), side: 0, reserved: 0, addr: client };
        assert_eq!((question.entry, question.graph), (tables.route(route), Some(WEB)));
        assert!(question.entry.is_some());
        let is_narrow = client.is_v4() && client.v4_bytes()[..3] == [10, 1, 2];
        let conditions = [
            is_narrow && server == Addr::v4([203, 0, 113, 7]),
            key.protocol() == 58,
            question.entry == AttachmentId::new(11),
        ];
        conditions.iter().zip(&mut met).for_each(|(is_met, met)| *met += u32::from(*is_met));
        met[3] += u32::from(!conditions.contains(&true));
        assert!(key.protocol() == 58 || client_port >= 1024);
        tables.path(&key, &question).unwrap();
    }
    // Half are drawn for one of three conditions, each for the one family that can meet it; of the free ones half are IPv4,
    // and half of those come from the far prefix, since there are two.
    let share = |met: u32| f64::from(met) / count as f64;
    println!("branches met: {:?}, IPv6 {}", met.map(share), share(v6));
    for (met, expected) in met.map(share).into_iter().zip([1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0 + 0.125, 0.375]) {
        assert!((met - expected).abs() < POINT, "{met}, {expected}");
    }
    assert!((share(v6) - (0.25 + 1.0 / 6.0)).abs() < POINT);
}

#[test]
fn listing_of_a_diff() {
    let mut desired = branches();
    let (before, after) = change(desired.clone(), |d| {
        let lb = function("lb", TupleEffect::Keeps, [replica_set("v1", 50, [instance(50)])]);
        d.put_function(lb);
        let web = graph_mut(d, "acme/web");
        web.nodes = ["lb v1", "fw v2", "dpi v1"].map(node).into();
        web.edges.remove(1);
        web.edges.truncate(2);
        web.edges.extend(["client -> dpi", "dpi -> fw", "fw -> lb", "lb -> server"].map(edge));
    });
    let diff = Comparison::new(&before, &after).diff(Sampling { flows: 1000, seed: 1 });
    let structure = "\
graph acme/web
view 1 -> 2
+ node lb, replica set 50
~ node fw: replica set 1 -> 2
~ node fw: moved behind dpi
- edge client side -> server side: icmpv6
- edge client side -> fw: any
+ edge client side -> dpi: any
- edge dpi -> server side: any
+ edge dpi -> fw: any
- edge fw -> dpi: any
+ edge fw -> lb: any
+ edge lb -> server side: any
at risk: 100.00 % +- 0.00 of 1000 flows
";
    let listing = diff.to_string();
    assert!(listing.starts_with(structure), "{listing}");
    let table = "build table of lb, replica set 50, anew: members 1, slots 1031, bytes 2064\n";
    assert!(listing.ends_with(table), "{listing}");
    let swapped = |d: &mut Desired| graph_mut(d, "acme/web").edges.swap(0, 1);
    let (_, after) = change(desired.clone(), swapped);
    let diff = Comparison::new(&before, &after).diff(Sampling { flows: 10, seed: 1 });
    let precedence = "\
- edge client side -> server side: client 10.1.2.0/24, server 203.0.113.7/32
+ edge client side -> server side: client 10.1.2.0/24, server 203.0.113.7/32
";
    assert_eq!(diff.tenants[0].graphs[0].views[0].to_string(), precedence);
    function_mut(&mut desired, "fw").tuple = TupleEffect::Ends;
    let after = image(Some(&before), &desired);
    let diff = Comparison::new(&before, &after).diff(Sampling { flows: 10, seed: 1 });
    assert_eq!(diff.tenants[0].graphs[0].views[0].to_string(), "~ node fw: treats tuples otherwise\n");
}

#[test]
fn time_of_a_hundred_thousand_flows() {
    let (before, after) = change(branches(), |d| graph_mut(d, "acme/web").nodes[0].replica_set = name("v2"));
    let start = Instant::now();
    let comparison = Comparison::new(&before, &after);
    let arranged = start.elapsed();
    let sampling = Sampling { flows: 100_000, ..SAMPLING };
    let risk = comparison.diff(sampling).tenants.remove(0).risk;
    println!("{} flows in two images: arranged in {arranged:?}, all in {:?}", risk.flows, start.elapsed());
    assert!(risk.share(risk.at_risk).standard_error < 0.0016, "as the documentation says");
}
