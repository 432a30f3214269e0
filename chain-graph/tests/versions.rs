//! Several versions of a graph: which flows a candidate takes, what keeps its number, what is dropped.

mod common;

use chain_graph::image::{PortBinding, PortName};
use chain_graph::model::*;
use chain_graph::{Checked, Cluster, Image, ImageTables, Plan, check, check_after};
use common::*;
use std::sync::Arc;
use xdp_forward::Path;
use xdp_forward::tables::PlanTables;
use xdp_layout::flow::FlowKey;
use xdp_layout::flow::record_flags;
use xdp_layout::plan::{OriginKey, ViewKey};
use xdp_layout::{Addr, GraphId, InstanceId, ReplicaSetId, TenantId, ViewId};

const CLUSTER: Cluster = Cluster { incarnation: 1, seed: [7, 8] };
const ACME: TenantId = TenantId::new(1).unwrap();
const WEB: GraphId = GraphId::new(1).unwrap();
const KEYS: u32 = 100_000;
/// 5 and 20 of a hundred, in 1/65535.
const FIVE: u16 = 3277;
const TWENTY: u16 = 13107;

fn checked(desired: &Desired) -> Checked {
    check(desired).unwrap_or_else(|violations| panic!("{violations:#?}"))
}

fn first(desired: &Desired) -> Image {
    Image::build(None, &checked(desired), CLUSTER).unwrap()
}

/// The image after `how`.
fn next(before: &Image, desired: &mut Desired, how: impl FnOnce(&mut Desired)) -> Image {
    how(desired);
    let checked = check_after(Some(before.checked()), &Arc::new(desired.clone()));
    let checked = checked.unwrap_or_else(|violations| panic!("{violations:#?}"));
    let after = Image::build(Some(before), &checked, CLUSTER).unwrap();
    // Whatever came before, the plan alone brings the same image back.
    let resumed = Image::resume(after.plan(), &check(desired).unwrap(), CLUSTER).unwrap();
    assert_eq!(resumed.plan(), after.plan());
    for (id, tenant) in after.tenants() {
        assert_eq!(tenant.graphs(), resumed.tenants()[id].graphs());
        assert_eq!(
            (tenant.ports(), tenant.origins()),
            (resumed.tenants()[id].ports(), resumed.tenants()[id].origins())
        );
    }
    after
}

/// Another version of web: dpi between firewall and NAT.
fn with_dpi(graph: &mut Graph) {
    graph.nodes.push(node("dpi v1"));
    graph.edges = ["client -> fw", "fw -> dpi", "dpi -> nat", "nat -> server"].map(edge).into();
}

/// Another one: the firewall's next replica set.
fn with_fw_v2(graph: &mut Graph) {
    graph.nodes[0].replica_set = name("v2");
}

fn key_of(index: u32) -> FlowKey {
    let [_, a, b, c] = index.to_be_bytes();
    FlowKey {
        a: Addr::v4([10, a, b, c]),
        b: Addr::v4([198, 51, 100, 1]),
        a_port: 1024 + (index % 50_000) as u16,
        b_port: 443,
        tenant_protocol: 1 | 6 << 24,
    }
}

/// The paths of the keys.
/// Where flows go, whether or not by a view on trial.
fn paths(image: &Image) -> Vec<Path> {
    let tables = ImageTables::new(image);
    let path = |index| tables.path(&key_of(index), &question(1, Some(1))).unwrap();
    (0..KEYS).map(path).map(|path| Path { flags: path.flags & !record_flags::WATCHED, ..path }).collect()
}

/// Which keys take the view.
fn cohort(paths: &[Path], view: u32) -> Vec<bool> {
    paths.iter().map(|path| path.view == view).collect()
}

fn share(cohort: &[bool]) -> f64 {
    cohort.iter().filter(|is_in| **is_in).count() as f64 / cohort.len() as f64
}

/// Numbers of the views: stable, canary (0 for none), draining.
fn numbers(image: &Image) -> (u32, u32, Vec<u32>) {
    let active = &image.plan().content().graphs[&WEB];
    let draining: Vec<u32> = active.draining.iter().map(|view| view.id.get()).collect();
    let all = active.installed().map(|view| view.id).collect::<std::collections::BTreeSet<_>>();
    let installed = &image.tenants()[&ACME].graphs()[&WEB];
    assert!(installed.views.keys().copied().eq(all), "the image has the plan's views");
    assert_eq!(installed.active, *active);
    for view in active.installed() {
        assert_eq!(
            (installed.views[&view.id].digest(), installed.views[&view.id].parent()),
            (view.digest, view.parent)
        );
    }
    (active.stable.id.get(), active.canary.map_or(0, |canary| canary.view.id.get()), draining)
}

#[test]
fn a_candidate_takes_its_share_and_a_higher_share_keeps_the_cohort() {
    let mut desired = base();
    let one = first(&desired);
    let five = next(&one, &mut desired, |d| candidate(d, FIVE, with_dpi));
    assert_eq!(numbers(&five), (1, 2, vec![]));
    let (before, after) = (paths(&one), paths(&five));
    let fifth = cohort(&after, 2);
    println!("a candidate at 5 % takes {:.2} % of {KEYS} keys", 100.0 * share(&fifth));
    assert!((share(&fifth) - 0.05).abs() < 0.005, "{}", share(&fifth));
    for ((before, after), is_in) in before.iter().zip(&after).zip(&fifth) {
        assert!(*is_in || before == after, "a key outside the cohort keeps its path");
        assert!(!is_in || (after.len, before.len) == (3, 2));
    }

    let twenty = next(&five, &mut desired, |d| versions_mut(d).candidate.as_mut().unwrap().share = TWENTY);
    assert_eq!(numbers(&twenty), (1, 2, vec![]));
    assert_ne!(twenty.plan().digest(), five.plan().digest());
    let twentieth = cohort(&paths(&twenty), 2);
    println!("at 20 % it takes {:.2} %", 100.0 * share(&twentieth));
    assert!((share(&twentieth) - 0.2).abs() < 0.005, "{}", share(&twentieth));
    assert!(fifth.iter().zip(&twentieth).all(|(before, after)| !before || *after), "the first cohort stays");

    let aborted = next(&twenty, &mut desired, |d| d.versions.clear());
    assert_eq!(paths(&aborted), before, "all new flows are back at once");
    let again = next(&aborted, &mut desired, |d| candidate(d, FIVE, with_dpi));
    assert_eq!(numbers(&again), (1, 3, vec![]), "a view that was taken out is not the same view");
    assert_eq!(cohort(&paths(&again), 3), fifth, "the cohort depends on the keys alone");
}

#[test]
fn an_installed_candidate_without_share_takes_nothing() {
    let mut desired = base();
    let one = first(&desired);
    let zero = next(&one, &mut desired, |d| candidate(d, 0, with_dpi));
    assert_eq!(numbers(&zero), (1, 2, vec![]));
    assert_eq!(paths(&one), paths(&zero));
}

#[test]
fn a_promotion_keeps_the_number_and_the_paths_of_the_cohort() {
    let mut desired = base();
    let one = first(&desired);
    let trial = next(&one, &mut desired, |d| candidate(d, TWENTY, with_dpi));
    let promoted = next(&trial, &mut desired, promote);
    assert_eq!(numbers(&promoted), (2, 0, vec![1]));
    assert_eq!(promoted.plan().content().graphs[&WEB].stable.parent, ViewId::new(1));
    let views = |image: &Image| image.tenants()[&ACME].graphs()[&WEB].views.clone();
    for id in [1, 2].map(|id| ViewId::new(id).unwrap()) {
        assert!(Arc::ptr_eq(&views(&trial)[&id], &views(&promoted)[&id]), "view {id} is not made anew");
    }
    for (before, after) in paths(&trial).iter().zip(paths(&promoted)) {
        assert_eq!(after.view, 2);
        assert!(before.view == 1 || *before == after, "a flow of the cohort keeps its path");
    }
}

#[test]
fn an_undo_takes_the_number_of_the_view_that_still_drains() {
    let mut desired = base();
    let one = first(&desired);
    let old = Arc::clone(&desired.graphs[&key("acme/web")]);
    let two = next(&one, &mut desired, |d| {
        with_fw_v2(graph_mut(d, "acme/web"));
        versions_mut(d).draining.push(Arc::clone(&old));
    });
    assert_eq!(numbers(&two), (2, 0, vec![1]));
    let three = next(&two, &mut desired, |d| {
        candidate(d, 0, with_dpi);
        let newer = d.graphs.insert(key("acme/web"), Arc::clone(&old)).unwrap();
        versions_mut(d).draining.push(newer);
    });
    assert_eq!(numbers(&three), (1, 3, vec![2]), "the draining list still names the version that is stable again");
    assert_eq!(paths(&one), paths(&three));
    assert_eq!(three.plan().content().graphs[&WEB].canary.unwrap().view.parent, ViewId::new(1));
    let gone = next(&three, &mut desired, |d| d.versions.clear());
    assert_eq!(numbers(&gone), (1, 0, vec![]));
    let anew = next(&gone, &mut desired, |d| with_fw_v2(graph_mut(d, "acme/web")));
    assert_eq!(numbers(&anew), (4, 0, vec![]), "a number that was taken out never comes back");
}

#[test]
fn a_stable_version_that_is_replaced_stays_only_if_it_is_listed() {
    let mut desired = base();
    let one = first(&desired);
    let two = next(&one, &mut desired, |d| with_fw_v2(graph_mut(d, "acme/web")));
    assert_eq!(numbers(&two), (2, 0, vec![]));
    let mut never_installed = (*base().graphs[&key("acme/web")]).clone();
    with_dpi(&mut never_installed);
    let draining = [Arc::clone(&base().graphs[&key("acme/web")]), never_installed.into()];
    let listed = next(&two, &mut desired, |d| versions_mut(d).draining.extend(draining));
    assert_eq!(numbers(&listed), (2, 0, vec![]), "no flow can be on a view that is not installed");
    assert_eq!(listed.plan().digest(), two.plan().digest());
    assert_eq!(listed.tenants()[&ACME].ports(), two.tenants()[&ACME].ports());
    assert_eq!(listed.functions()[&name("dpi")].tenant(), None);
}

#[test]
fn a_candidate_equal_to_the_stable_version_is_its_view() {
    let mut desired = base();
    let one = first(&desired);
    let same = next(&one, &mut desired, |d| candidate(d, TWENTY, |_| ()));
    assert_eq!(numbers(&same), (1, 1, vec![]));
    assert_eq!(paths(&one), paths(&same));
}

/// Web with its firewall's second version stable, the first one draining, and dpi on trial.
fn three_versions() -> (Image, Desired) {
    let mut desired = base();
    let one = first(&desired);
    let two = next(&one, &mut desired, |d| candidate(d, TWENTY, with_fw_v2));
    let two = next(&two, &mut desired, promote);
    let three = next(&two, &mut desired, |d| candidate(d, TWENTY, with_dpi));
    assert_eq!(numbers(&three), (2, 3, vec![1]));
    (three, desired)
}

#[test]
fn a_stored_plan_brings_every_view_back() {
    let (three, desired) = three_versions();
    let stored = serde_json::to_string(&**three.plan()).unwrap();
    let plan: Plan = serde_json::from_str(&stored).unwrap();
    let desired: Desired = serde_json::from_str(&serde_json::to_string(&desired).unwrap()).unwrap();
    let resumed = Image::resume(&plan, &checked(&desired), CLUSTER).unwrap();
    assert_eq!(resumed.plan(), three.plan());
    assert_eq!(resumed.tenants()[&ACME].graphs(), three.tenants()[&ACME].graphs());
    assert_eq!(paths(&resumed), paths(&three));
    let forged = stored.replacen("\"draining\":[{\"id\":1", "\"draining\":[{\"id\":9", 1);
    assert_ne!(stored, forged);
    assert!(serde_json::from_str::<Plan>(&forged).is_err(), "draining views are under the plan's digest");
}

#[test]
fn a_draining_view_is_part_of_the_plan_and_a_nat_flow_inherits_it() {
    let (three, mut desired) = three_versions();
    let retired = next(&three, &mut desired, |d| versions_mut(d).draining.clear());
    assert_eq!(numbers(&retired), (2, 3, vec![]));
    assert_ne!(retired.plan().digest(), three.plan().digest());
    assert_eq!(paths(&retired), paths(&three), "no new flow depends on it");
    // A frame behind the NAT whose note names view 1.
    let outside = FlowKey { a: Addr::v4([192, 0, 2, 1]), ..key_of(1) };
    let mut inherited = question(1, None);
    inherited.view = ViewId::new(1);
    let view = |image| ImageTables::new(image).path(&outside, &inherited).unwrap().view;
    assert_eq!(view(&three), 1);
    assert_ne!(view(&retired), 1);
}

#[test]
fn what_only_further_versions_use_is_there() {
    let mut desired = base();
    function_mut(&mut desired, "fw").addresses = vec!["10.1.1.1".parse().unwrap()];
    function_mut(&mut desired, "dpi").tenancy = tagged(&[("acme", 7)], true);
    let one = first(&desired);
    let two = next(&one, &mut desired, |d| {
        candidate(d, 0, |web| {
            web.nodes.remove(0);
            web.edges = ["client -> nat", "nat -> server"].map(edge).into();
        })
    });
    let two = next(&two, &mut desired, promote);
    let three = next(&two, &mut desired, |d| {
        candidate(d, 0, |web| {
            web.nodes.push(node("dpi v1"));
            web.edges = ["client -> dpi", "dpi -> nat", "nat -> server"].map(edge).into();
        })
    });
    let acme = &three.tenants()[&ACME];
    let port = |interface: &str, vlan| PortName { interface: interface.into(), vlan: VlanId::new(vlan) };
    let inside = |id| PortBinding::Instance { id: InstanceId::new(id).unwrap(), side: Side::Client };
    assert_eq!(acme.ports()[&port("i1a", 0)], inside(1), "the firewall of a draining version");
    assert_eq!(acme.ports()[&port("i9a", 7)], inside(9), "the inspection of a candidate");
    assert_eq!(acme.tags().len(), 1);
    assert_eq!(acme.owned().len(), 1);
    assert_eq!(three.functions()[&name("fw")].tenant(), Some(ACME));
    let tables = ImageTables::new(&three);
    for set in [1, 2, 3, 5] {
        assert_eq!(tables.origin(OriginKey { tenant: 1, replica_set: set }), Some(WEB), "set {set}");
    }
    assert!(tables.view_slot(ViewKey { tenant: 1, view: 1 }).is_some());

    let retired = next(&three, &mut desired, |d| d.versions.clear());
    let acme = &retired.tenants()[&ACME];
    assert_eq!((acme.tags().len(), acme.owned().len(), acme.ports().len()), (0, 0, 2 + 4));
    assert_eq!(retired.functions()[&name("fw")].tenant(), None);
}

/// Drops view 1 of [`three_versions`].
fn drops(what: &str, how: impl FnOnce(&mut Desired)) {
    let (three, mut desired) = three_versions();
    versions_mut(&mut desired).candidate = None;
    let after = next(&three, &mut desired, how);
    assert_eq!(numbers(&after).2, Vec::<u32>::new(), "{what}");
    assert_eq!(numbers(&after).0, 2, "{what}");
}

fn acme_zoo(desired: &mut Desired, function: &str, set: &str) {
    desired.put_attachment(attachment("acme/left2", 11, Side::Client, "net11", &[]));
    desired.put_attachment(attachment("acme/right2", 12, Side::Server, "net12", &[]));
    let edges = vec![edge(&format!("client -> {function}")), edge(&format!("{function} -> server"))];
    let mut zoo = graph("acme/zoo", 2, &[&format!("{function} {set}")], edges);
    (zoo.client, zoo.server) = (vec![name("left2")], vec![name("right2")]);
    desired.put_graph(zoo);
}

#[test]
fn a_draining_version_that_lost_what_it_names_is_dropped() {
    drops("replica set deleted", |d| drop(function_mut(d, "fw").replica_sets.remove(&name("v1"))));
    drops("replica set made anew", |d| {
        function_mut(d, "fw").replica_sets.get_mut(&name("v1")).unwrap().id = ReplicaSetId::new(77).unwrap();
    });
    drops("replica set now of another graph", |d| acme_zoo(d, "fw", "v1"));
    drops("taken out by its owner", |d| versions_mut(d).draining.clear());
}

#[test]
fn dropping_tells_the_caller_and_is_final() {
    let (three, mut desired) = three_versions();
    let sound = desired.clone();
    let after = next(&three, &mut desired, |d| drop(function_mut(d, "fw").replica_sets.remove(&name("v1"))));
    let left = &after.checked().desired().versions[&key("acme/web")];
    assert!(left.draining.is_empty() && left.candidate.is_some());
    assert_eq!(numbers(&after), (2, 3, vec![]));
    let mut restored = Desired::clone(after.checked().desired());
    restored.functions = sound.functions.clone();
    let back = next(&after, &mut restored, |_| ());
    assert_eq!(numbers(&back), (2, 3, vec![]));
    // Also if the caller goes on listing it.
    let mut stubborn = sound;
    let back = next(&after, &mut stubborn, |_| ());
    assert_eq!(numbers(&back), (2, 3, vec![]), "its view was taken out, so it has no flows");
}

#[test]
fn a_draining_function_gives_way_to_others() {
    // Acme's stable version does without the firewall; the draining one has it.
    let without_fw = |web: &mut Graph| {
        web.nodes.remove(0);
        web.edges = ["client -> nat", "nat -> server"].map(edge).into();
    };
    let drained = |change: &dyn Fn(&mut Desired)| {
        let mut desired = base();
        change(&mut desired);
        let one = first(&desired);
        let two = next(&one, &mut desired, |d| candidate(d, 0, without_fw));
        let two = next(&two, &mut desired, promote);
        assert_eq!(numbers(&two), (2, 0, vec![1]));
        (two, desired)
    };
    let blue_takes_fw = |d: &mut Desired| {
        let edges = vec![edge("client -> fw"), edge("fw -> server")];
        d.put_graph(graph("blue/web", 2, &["fw v2"], edges));
    };
    let (two, mut desired) = drained(&|_| ());
    let taken = next(&two, &mut desired, blue_takes_fw);
    assert_eq!(numbers(&taken).2, Vec::<u32>::new(), "an exclusive function has one tenant");
    assert_eq!(taken.functions()[&name("fw")].tenant(), TenantId::new(2));

    let tags = |d: &mut Desired| function_mut(d, "fw").tenancy = tagged(&[("acme", 7), ("blue", 8)], false);
    let (two, mut desired) = drained(&tags);
    let taken = next(&two, &mut desired, blue_takes_fw);
    assert_eq!(numbers(&taken).2, Vec::<u32>::new(), "tenants with common addresses do not share its state");

    let (two, mut desired) = drained(&tags);
    let untagged = next(&two, &mut desired, |d| function_mut(d, "fw").tenancy = tagged(&[("blue", 8)], false));
    assert_eq!(numbers(&untagged).2, Vec::<u32>::new(), "no tag any more");
}

#[test]
fn a_draining_outside_block_gives_way_to_others() {
    let mut desired = base();
    let mut lb = function("lb", TupleEffect::Ends, [replica_set("v1", 50, [instance(50)])]);
    instances(&mut lb, "v1").next().unwrap().outside.push(outside("192.0.2.2/32", Some((1, 100))));
    desired.put_function(lb);
    let one = first(&desired);
    let without_nat = |web: &mut Graph| {
        web.nodes.pop();
        web.edges = ["client -> fw", "fw -> server"].map(edge).into();
    };
    let two = next(&one, &mut desired, |d| candidate(d, 0, without_nat));
    let two = next(&two, &mut desired, promote);
    assert_eq!(numbers(&two), (2, 0, vec![1]));
    assert!(two.tenants()[&ACME].outside_blocks().is_some(), "the draining NAT's");
    let three = next(&two, &mut desired, |d| {
        let web = graph_mut(d, "acme/web");
        web.nodes.push(node("lb v1"));
        web.edges = ["client -> fw", "fw -> lb", "lb -> server"].map(edge).into();
    });
    assert_eq!(numbers(&three), (3, 0, vec![]));
    assert_eq!(three.tenants()[&ACME].outside_blocks().unwrap().blocks().len(), 1);
}

#[test]
fn a_function_that_treats_tuples_otherwise_makes_other_views() {
    let (three, mut desired) = three_versions();
    let after = next(&three, &mut desired, |d| function_mut(d, "nat").tuple = TupleEffect::Ends);
    assert_eq!(numbers(&after), (4, 5, vec![]), "what drains under the old views is not what the graphs say");
}

#[test]
fn other_tenants_parts_are_shared_whatever_the_versions() {
    let (three, mut desired) = three_versions();
    let blue = TenantId::new(2).unwrap();
    let changes: [fn(&mut Desired); 3] =
        [|d| versions_mut(d).candidate.as_mut().unwrap().share = 1, promote, |d| versions_mut(d).draining.clear()];
    let mut before = three;
    for how in changes {
        let after = next(&before, &mut desired, how);
        assert!(Arc::ptr_eq(&before.tenants()[&blue], &after.tenants()[&blue]));
        assert!(!Arc::ptr_eq(&before.tenants()[&ACME], &after.tenants()[&ACME]));
        assert_eq!(after.plan().generation().get(), before.plan().generation().get() + 1);
        before = after;
    }
    let same = next(&before, &mut desired, |_| ());
    assert!(Arc::ptr_eq(before.plan(), same.plan()));
    assert!(Arc::ptr_eq(&before.tenants()[&ACME], &same.tenants()[&ACME]));
}
