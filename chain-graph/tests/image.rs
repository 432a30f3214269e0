//! Plans and images: what a change changes, and what it must not.

mod common;

use chain_graph::image::{PortBinding, PortName, Route};
use chain_graph::model::*;
use chain_graph::{Checked, Cidr, Cluster, Image, ImageTables, Plan, addr_of, check, check_after};
use common::*;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::sync::Arc;
use xdp_forward::tables::PlanTables;
use xdp_layout::flow::{FlowKey, record_flags};
use xdp_layout::plan::{OutsideKey, RouteKey};
use xdp_layout::port::instance_traits;
use xdp_layout::{AttachmentId, DropReason, GraphId, InstanceId, ReplicaSetId, TenantId, ViewId};

const CLUSTER: Cluster = Cluster { incarnation: 1, seed: [7, 8] };
const ACME: TenantId = TenantId::new(1).unwrap();
const BLUE: TenantId = TenantId::new(2).unwrap();
const WEB: GraphId = GraphId::new(1).unwrap();

fn checked(desired: &Desired) -> Checked {
    check(desired).unwrap_or_else(|violations| panic!("{violations:#?}"))
}

fn first(desired: &Desired) -> Image {
    Image::build(None, &checked(desired), CLUSTER).unwrap()
}

/// Changes `base` and builds the image after it.
fn change(how: impl FnOnce(&mut Desired)) -> (Image, Image) {
    let mut desired = base();
    let earlier = checked(&desired);
    let before = Image::build(None, &earlier, CLUSTER).unwrap();
    how(&mut desired);
    let checked =
        check_after(Some(&earlier), &Arc::new(desired.clone())).unwrap_or_else(|violations| panic!("{violations:#?}"));
    let after = Image::build(Some(&before), &checked, CLUSTER).unwrap();
    // Whatever is shared, the image is the one that is built from nothing, but for the numbers of views and plan.
    let fresh = first(&desired);
    assert_eq!(after.plan().content().replica_sets, fresh.plan().content().replica_sets);
    assert_eq!(after.plan().content().outside, fresh.plan().content().outside);
    assert!(after.plan().content().graphs.keys().eq(fresh.plan().content().graphs.keys()));
    assert!(after.tables().keys().eq(fresh.tables().keys()));
    assert_eq!(after.down(), fresh.down());
    (before, after)
}

fn same_plan(before: &Image, after: &Image) -> bool {
    Arc::ptr_eq(before.plan(), after.plan())
}

fn set(id: u16) -> ReplicaSetId {
    ReplicaSetId::new(id).unwrap()
}

fn ip(text: &str) -> xdp_layout::Addr {
    addr_of(text.parse().unwrap())
}

fn view_id(image: &Image) -> u32 {
    image.plan().content().graphs[&WEB].stable.id.get()
}

#[test]
fn no_change_shares_everything() {
    let (before, after) = change(|_| ());
    assert!(same_plan(&before, &after));
    assert!(Arc::ptr_eq(&before.tenants()[&ACME], &after.tenants()[&ACME]));
    assert!(Arc::ptr_eq(&before.functions()[&name("fw")], &after.functions()[&name("fw")]));
    assert!(Arc::ptr_eq(&before.tables()[&set(1)], &after.tables()[&set(1)]));
}

#[test]
fn a_weight_changes_one_table_and_the_plan() {
    let (before, after) = change(|d| instance_mut(d, "fw", 0).weight = 3);
    assert_eq!(after.plan().generation().get(), 2);
    let parent = after.plan().number().parent.unwrap();
    assert_eq!((parent.generation, parent.digest), (before.plan().generation(), before.plan().digest()));
    assert_ne!(before.plan().digest(), after.plan().digest());
    assert_ne!(before.tables()[&set(1)].digest(), after.tables()[&set(1)].digest());
    for other in [2, 3, 5] {
        assert!(Arc::ptr_eq(&before.tables()[&set(other)], &after.tables()[&set(other)]), "set {other}");
    }
    assert_eq!(before.plan().content().graphs, after.plan().content().graphs);
    let view = |image: &Image| Arc::clone(&image.tenants()[&ACME].graphs()[&WEB].views[&ViewId::new(1).unwrap()]);
    assert!(Arc::ptr_eq(&view(&before), &view(&after)));
    assert!(Arc::ptr_eq(&before.tenants()[&BLUE], &after.tenants()[&BLUE]));
}

#[test]
fn down_is_no_part_of_the_plan() {
    let (before, after) = change(|d| instance_mut(d, "fw", 0).down = true);
    assert!(same_plan(&before, &after));
    assert!(Arc::ptr_eq(&before.tables()[&set(1)], &after.tables()[&set(1)]));
    let i1 = InstanceId::new(1).unwrap();
    assert_eq!(after.down(), &BTreeSet::from([i1]));
    assert_eq!(after.functions()[&name("fw")].instances()[&i1].traits, instance_traits::DOWN);
    assert!(ImageTables::new(&before).is_live(i1) && !ImageTables::new(&after).is_live(i1));
}

#[test]
fn what_no_path_depends_on_leaves_the_plan_alone() {
    let changes: [fn(&mut Desired); 4] = [
        |d| tenant_mut(d, "acme").budget.established = 5,
        |d| attachment_mut(d, "acme/left").interface = "elsewhere".to_owned(),
        |d| function_mut(d, "fw").addresses = vec!["10.0.0.1".parse().unwrap()],
        |d| attachment_mut(d, "blue/left").prefixes = vec!["10.0.0.0/8".parse().unwrap()],
    ];
    for (index, how) in changes.into_iter().enumerate() {
        let (before, after) = change(how);
        assert!(same_plan(&before, &after), "change {index}");
    }
}

#[test]
fn what_paths_depend_on_makes_a_new_plan() {
    let changes: [fn(&mut Desired); 6] = [
        |d| attachment_mut(d, "acme/right").prefixes = vec!["10.0.0.0/8".parse().unwrap()],
        |d| instance_mut(d, "nat", 0).outside = vec![outside("192.0.2.3/32", None)],
        |d| graph_mut(d, "acme/web").nodes[0].replica_set = name("v2"),
        |d| d.graphs.clear(),
        |d| drop(function_mut(d, "fw").replica_sets.remove(&name("v2"))),
        |d| drop(d.functions.remove(&name("dpi"))),
    ];
    for (index, how) in changes.into_iter().enumerate() {
        let (before, after) = change(how);
        assert_eq!(after.plan().generation().get(), 2, "change {index}");
        assert_ne!(before.plan().digest(), after.plan().digest(), "change {index}");
    }
}

#[test]
fn views_are_numbered_per_tenant_and_numbers_never_come_back() {
    let mut desired = base();
    desired.put_graph(graph("blue/web", 2, &[], vec![edge("client -> server")]));
    let one = first(&desired);
    assert_eq!(view_id(&one), 1);
    let sound = desired.clone();
    graph_mut(&mut desired, "acme/web").nodes[0].replica_set = name("v2");
    let two = Image::build(Some(&one), &checked(&desired), CLUSTER).unwrap();
    assert_eq!(two.plan().content().graphs[&WEB].stable.parent, ViewId::new(1));
    assert_eq!(view_id(&two), 2);
    let three = Image::build(Some(&two), &checked(&sound), CLUSTER).unwrap();
    assert_eq!(view_id(&three), 3, "the old content under a new number");
    let mut without = sound.clone();
    without.graphs.remove(&key("acme/web"));
    for at in ["acme/left", "acme/right"] {
        without.attachments.remove(&key(at));
    }
    without.tenants.remove(&name("acme"));
    let four = Image::build(Some(&three), &checked(&without), CLUSTER).unwrap();
    assert_eq!(four.tenants().keys().collect::<Vec<_>>(), [&BLUE]);
    assert_eq!((four.plan().content().graphs.len(), four.plan().content().outside.len()), (1, 0));
    let five = Image::build(Some(&four), &checked(&sound), CLUSTER).unwrap();
    assert_eq!(view_id(&five), 4);
    assert_eq!(five.plan().content().graphs[&WEB].stable.parent, None);
    assert_eq!(five.plan().content().graphs[&GraphId::new(2).unwrap()].stable.id.get(), 1);
    assert_eq!(five.plan().generation().get(), 5);
}

#[test]
fn a_graph_number_may_change_hands() {
    let (before, after) = change(|d| {
        d.graphs.clear();
        d.put_graph(graph("blue/web", 1, &[], vec![edge("client -> server")]));
    });
    assert_eq!(before.plan().content().graphs[&WEB].tenant, ACME);
    assert_eq!(after.plan().content().graphs[&WEB].tenant, BLUE);
    assert_eq!(after.plan().content().graphs[&WEB].stable.parent, None);
    assert!(after.tenants()[&ACME].graphs().is_empty());
}

#[test]
fn a_stored_plan_resumes() {
    let mut desired = base();
    let one = first(&desired);
    graph_mut(&mut desired, "acme/web").nodes[0].replica_set = name("v2");
    let two = Image::build(Some(&one), &checked(&desired), CLUSTER).unwrap();
    let stored = serde_json::to_string(&**two.plan()).unwrap();
    let plan: Plan = serde_json::from_str(&stored).unwrap();
    assert_eq!(plan, **two.plan());
    let resumed = Image::resume(&plan, &checked(&desired), CLUSTER).unwrap();
    assert_eq!(resumed.plan(), two.plan());
    assert_eq!(resumed.tenants()[&ACME].graphs(), two.tenants()[&ACME].graphs());
    let table = |image: &Image| image.tables()[&set(3)].digest();
    assert_eq!(table(&resumed), table(&two));
    let restored = Cluster { incarnation: 2, ..CLUSTER };
    let resumed = Image::resume(&plan, &checked(&base()), restored).unwrap();
    assert_eq!((view_id(&resumed), resumed.plan().generation().get()), (3, 3));
    let new_life = Image::build(Some(&two), &checked(&desired), restored).unwrap();
    assert_eq!((new_life.plan().number().incarnation, new_life.plan().generation().get()), (2, 3));
    let flipped = stored.replacen("\"weight\":1", "\"weight\":2", 1);
    assert_ne!(stored, flipped);
    let error = serde_json::from_str::<Plan>(&flipped).unwrap_err().to_string();
    assert!(error.starts_with("read plan 2: its content has digest"), "{error}");
}

#[test]
fn another_seed_is_another_plan_with_other_tables() {
    let desired = base();
    let one = first(&desired);
    let two = Image::build(Some(&one), &checked(&desired), Cluster { seed: [9, 9], ..CLUSTER }).unwrap();
    assert_eq!(two.plan().generation().get(), 2);
    assert_ne!(one.tables()[&set(1)].digest(), two.tables()[&set(1)].digest());
    assert_eq!(ImageTables::new(&two).flow_hash_key(), [9, 9]);
}

#[test]
fn declarations_survive_json() {
    let mut desired = base();
    function_mut(&mut desired, "dpi").tenancy = tagged(&[("acme", 7), ("blue", 8)], true);
    graph_mut(&mut desired, "acme/web").edges.push(edge_if("client -> nat", tcp(80, 81)));
    let text = serde_json::to_string(&desired).unwrap();
    assert_eq!(serde_json::from_str::<Desired>(&text).unwrap(), desired);
    for bad in
        [("\"acme/web\"", "\"acme\""), ("\"tcp\"", "\"tcpp\""), ("\"acme\":7", "\"acme\":4095"), ("02:00:", "2:00:")]
    {
        let broken = text.replacen(bad.0, bad.1, 1);
        assert_ne!(broken, text, "{bad:?}");
        assert!(serde_json::from_str::<Desired>(&broken).is_err(), "{bad:?}");
    }
}

#[test]
fn members_without_weight_get_no_flow() {
    let (_, after) = change(|d| instance_mut(d, "fw", 0).weight = 0);
    let table = &after.tables()[&set(1)];
    assert_eq!(table.member_words().collect::<Vec<_>>(), [0, 2]);
    assert!(table.entries().iter().all(|entry| *entry == 1));
    assert_eq!(table.page_word(table.page_words() - 1), Some(2));
    assert_eq!(table.page_word(table.page_words()), None);
    let (_, after) = change(|d| {
        instance_mut(d, "fw", 0).weight = 0;
        instance_mut(d, "fw", 1).weight = 0;
    });
    assert!(!after.tables().contains_key(&set(1)), "nobody to serve, no table");
}

fn flow(client: &str, server: &str, ports: [u16; 2]) -> FlowKey {
    FlowKey { a: ip(client), b: ip(server), a_port: ports[0], b_port: ports[1], tenant_protocol: 1 | 6 << 24 }
}

#[test]
fn a_flow_ends_at_the_nat_and_goes_on_from_its_outside() {
    let image = first(&base());
    let tables = ImageTables::new(&image);
    let inside = tables.path(&flow("10.0.0.1", "198.51.100.1", [999, 80]), &question(1, Some(1))).unwrap();
    assert_eq!((inside.len, inside.cut_position), (2, 1));
    assert!([1, 2].contains(&inside.instances[0]) && [5, 6].contains(&inside.instances[1]));
    assert_eq!(inside.flags & record_flags::ENDS_AT_FUNCTION, record_flags::ENDS_AT_FUNCTION);
    let outside = tables.path(&flow("192.0.2.2", "198.51.100.1", [999, 80]), &question(1, None)).unwrap();
    assert_eq!((outside.instances[0], outside.len, outside.exit), (6, 1, 2));
    assert_eq!(outside.flags & record_flags::STARTS_AT_FUNCTION, record_flags::STARTS_AT_FUNCTION);
    let nowhere = tables.path(&flow("192.0.2.2", "198.51.100.1", [999, 80]), &question(2, None));
    assert_eq!(nowhere, Err(DropReason::NoActiveView), "tenant blue does not own that address");
}

#[test]
fn versions_that_no_graph_names_keep_their_outside_and_origin() {
    let (_, after) = change(|d| {
        let mut v2 = replica_set("v2", 4, [instance(7)]);
        v2.instances.values_mut().next().unwrap().outside.push(outside("192.0.2.3/32", None));
        function_mut(d, "nat").replica_sets.insert(name("v2"), v2);
        graph_mut(d, "acme/web").nodes[1].replica_set = name("v2");
    });
    let acme = &after.tenants()[&ACME];
    assert_eq!(
        acme.origins().iter().map(|(set, graph)| (set.get(), graph.get())).collect::<Vec<_>>(),
        [(1, 1), (2, 1), (3, 1), (4, 1)]
    );
    assert_eq!(acme.outside_blocks().unwrap().blocks().len(), 3);
}

#[test]
fn nested_outside_prefixes_keep_the_ranges_around_them() {
    let (_, after) = change(|d| {
        instance_mut(d, "nat", 0).outside = vec![outside("192.0.2.0/24", Some((0, 999)))];
        instance_mut(d, "nat", 1).outside = vec![outside("192.0.2.7/32", Some((1000, 1999)))];
    });
    let tables = ImageTables::new(&after);
    let owner = |addr: &str, port| {
        tables.outside(OutsideKey { tenant: 1u32.to_be_bytes(), addr: ip(addr) }, port).map(InstanceId::get)
    };
    assert_eq!([owner("192.0.2.7", 5), owner("192.0.2.7", 1500), owner("192.0.2.7", 2000)], [Some(5), Some(6), None]);
    assert_eq!([owner("192.0.2.8", 5), owner("192.0.2.8", 1500), owner("192.0.3.7", 5)], [Some(5), None, None]);
}

#[test]
fn routes_take_the_longest_prefix_and_keep_families_apart() {
    let (_, after) = change(|d| {
        attachment_mut(d, "acme/left").prefixes = vec!["::/0".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        attachment_mut(d, "acme/right").prefixes = vec!["10.0.0.0/8".parse().unwrap()];
        d.put_attachment(attachment("acme/far", 9, Side::Server, "far", &["10.9.0.0/16", "0.0.0.0/0"]));
        graph_mut(d, "acme/web").server.push(name("far"));
    });
    let tables = ImageTables::new(&after);
    let route = |side: u8, addr: &str| {
        let key = RouteKey { graph: 1u16.to_be_bytes(), side, reserved: 0, addr: ip(addr) };
        tables.route(key).map(AttachmentId::get)
    };
    assert_eq!([route(0, "2001:db8::1"), route(0, "fd00::1"), route(0, "10.0.0.1")], [Some(1), Some(1), None]);
    assert_eq!([route(1, "10.8.0.1"), route(1, "10.9.0.1"), route(1, "8.8.8.8")], [Some(2), Some(9), Some(9)]);
    assert_eq!(route(1, "fd00::1"), None);
    let blocked = Route { graph: WEB, side: Side::Client, prefix: Cidr::V4 };
    assert_eq!(after.tenants()[&ACME].routes()[&blocked], None);
}

#[test]
fn shared_functions_have_tags_ports_and_addresses_per_tenant() {
    let (_, after) = change(|d| {
        let dpi = function_mut(d, "dpi");
        dpi.tenancy = tagged(&[("acme", 7), ("blue", 8)], true);
        dpi.addresses = vec!["10.1.1.1".parse().unwrap()];
        let edges = vec![edge("client -> dpi"), edge("dpi -> server")];
        d.put_graph(graph("blue/web", 2, &["dpi v1"], edges));
        instance_mut(d, "fw", 0).ports = Ports::OneArmed(Port { interface: "one".to_owned(), mac: MacAddr([2; 6]) });
    });
    let i9 = InstanceId::new(9).unwrap();
    let (acme, blue) = (&after.tenants()[&ACME], &after.tenants()[&BLUE]);
    assert_eq!(blue.tags().iter().map(|(id, tag)| (id.get(), tag.get())).collect::<Vec<_>>(), [(9, 8)]);
    assert!(acme.tags().is_empty(), "acme has a tag but no graph that uses the function");
    assert_eq!(blue.owned().iter().copied().collect::<Vec<_>>(), [ip("10.1.1.1")]);
    let port = |interface: &str, vlan| PortName { interface: interface.into(), vlan: VlanId::new(vlan) };
    let inside = PortBinding::Instance { id: i9, side: Side::Client };
    let outside = PortBinding::Instance { id: i9, side: Side::Server };
    assert_eq!((blue.ports()[&port("i9a", 8)], blue.ports()[&port("i9b", 8)]), (inside, outside));
    assert_eq!(blue.ports().len(), 4, "two attachments, two ports");
    let one = PortBinding::Instance { id: InstanceId::new(1).unwrap(), side: Side::Client };
    assert_eq!(acme.ports()[&port("one", 0)], one);
    let dpi = &after.functions()[&name("dpi")];
    assert_eq!((dpi.tenant(), dpi.instances()[&i9].traits), (None, instance_traits::TAGGED));
    assert_eq!(after.functions()[&name("fw")].tenant(), Some(ACME));
}

#[test]
fn prefixes_are_in_one_space() {
    let cidr = |text: &str| Cidr::from(text.parse::<IpNet>().unwrap());
    assert_eq!(cidr("10.1.2.3/8").to_string(), "10.0.0.0/8");
    assert_eq!((cidr("10.0.0.0/8").length(), cidr("0.0.0.0/0")), (104, Cidr::V4));
    assert!(Cidr::ALL.covers(Cidr::V4) && !cidr("10.0.0.0/8").covers(cidr("10.0.0.0/7")));
    assert_eq!(cidr("255.255.255.255/32").bounds(), (0xffff_ffff_ffff, 0xffff_ffff_ffff));
}
