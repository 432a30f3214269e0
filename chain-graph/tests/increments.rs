//! Random changes one after the other: what is made from the state before is what is made from the declaration and the plan.

mod common;

use chain_graph::model::*;
use chain_graph::{Checked, Cluster, Image, check, check_after};
use common::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::BTreeMap;
use std::sync::Arc;
use xdp_layout::{InstanceId, ReplicaSetId, TenantId, ViewId};

const CLUSTER: Cluster = Cluster { incarnation: 1, seed: [7, 8] };

/// One change: which kind, of what, how. Small numbers, so that changes meet and often break rules.
type Change = (u8, u8, u8);

fn owned<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

/// `b` picks the object, `c` the new value.
fn apply(d: &mut Desired, (kind, b, c): Change) {
    let owner = ["acme", "blue"][usize::from(b % 2)];
    let at = |what: &str| format!("{owner}/{what}");
    let functions = ["fw", "nat", "dpi"];
    let used = functions[usize::from(b) % 3];
    let (n16, nonzero) = (u16::from(c), u16::from(c % 6) + 1);
    match kind {
        0 => d.put_tenant(tenant(owner, u32::from(c % 3) + 1)),
        1 => {
            d.tenants.remove(&name(owner));
            if !c.is_multiple_of(4) {
                d.attachments = d.attachments.iter().filter(|(key, _)| key.tenant != name(owner)).map(owned).collect();
                d.graphs = d.graphs.iter().filter(|(key, _)| key.tenant != name(owner)).map(owned).collect();
            }
        }
        2 => {
            let prefixes: &[&str] = [&[][..], &["10.0.0.0/8"], &["10.1.0.0/16"], &["::/0"]][usize::from(c) % 4];
            let side = if b % 4 < 2 { Side::Client } else { Side::Server };
            let text = at(if b % 4 < 2 { "left" } else { "right" });
            let interface = format!("net{}", (b % 4 + c / 64) % 4);
            d.put_attachment(attachment(&text, u16::from(b % 4) + 1 + u16::from(c > 200), side, &interface, prefixes));
        }
        3 => drop(d.attachments.remove(&key(&at("left")))),
        4 => drop(d.graphs.remove(&key(&at("web")))),
        5 | 6 => {
            let to = if c % 5 == 0 { "client" } else { "server" };
            let mut edges = vec![edge(&format!("client -> {used}")), edge(&format!("{used} -> server"))];
            if c % 2 == 0 && to == "server" {
                edges.insert(0, edge_if("client -> server", tcp(n16, n16 + 1)));
            }
            d.put_graph(graph(&at("web"), nonzero.min(3), &[&format!("{used} v1")], edges));
        }
        7 => drop(d.functions.remove(&name(used))),
        20..=25 => apply_versions(d, &key(&at("web")), kind, c),
        8 => d.put_function(function(used, TupleEffect::Keeps, [replica_set("v1", nonzero, [instance(nonzero)])])),
        _ => {
            let Some(function) = d.functions.get_mut(&name(used)).map(Arc::make_mut) else { return };
            match kind {
                9 => {
                    function.tenancy = tagged(&[("acme", nonzero), ("blue", 3)][..1 + usize::from(c > 100)], c % 2 == 0)
                }
                10 => function.tenancy = Tenancy::Exclusive,
                11 => {
                    function.tuple = [TupleEffect::Keeps, TupleEffect::Changes, TupleEffect::Ends][usize::from(c) % 3]
                }
                12 => {
                    let fresh = replica_set("v2", nonzero + 3, [instance(nonzero + 4)]);
                    function.replica_sets.insert(name("v2"), fresh);
                }
                13 => drop(function.replica_sets.remove(&name("v2"))),
                _ => {
                    let Some(set) = function.replica_sets.get_mut(&name("v1")) else { return };
                    let Some(instance) = set.instances.values_mut().next() else { return };
                    match kind {
                        14 => instance.weight = n16 % 3,
                        15 => instance.down = c % 2 == 0,
                        16 => instance.id = InstanceId::new(nonzero).unwrap(),
                        17 => instance.outside = vec![outside(&format!("192.0.2.{}/31", c % 8), None)],
                        18 => set.id = ReplicaSetId::new(nonzero).unwrap(),
                        _ => instance.outside.clear(),
                    }
                }
            }
        }
    }
}

/// A change of a graph's versions.
fn apply_versions(d: &mut Desired, graph: &ObjectKey, kind: u8, c: u8) {
    let Some(stable) = d.graphs.get(graph).cloned() else {
        // A candidate that is left of a deleted graph is refused.
        d.versions.remove(graph);
        return;
    };
    let versions = Arc::make_mut(d.versions.entry(graph.clone()).or_default());
    match kind {
        20 => {
            let mut graph = (*stable).clone();
            match c % 4 {
                0 => graph.edges.insert(0, edge_if("client -> server", tcp(c.into(), c.into()))),
                1 => graph.nodes.iter_mut().for_each(|node| node.replica_set = name("v2")),
                2 => {
                    graph.nodes.clear();
                    graph.edges = vec![edge("client -> server")];
                }
                _ => graph.edges.clear(),
            }
            versions.candidate = Some(Candidate { graph: graph.into(), share: c.into() });
        }
        21 => {
            if let Some(candidate) = &mut versions.candidate {
                candidate.share = c.into();
            }
        }
        // Promotion, with and without draining what was stable.
        22 | 23 => {
            if let Some(candidate) = versions.candidate.take() {
                if !c.is_multiple_of(4) {
                    versions.draining.push(stable);
                }
                d.graphs.insert(graph.clone(), candidate.graph);
            }
        }
        // Back to what drains.
        24 => {
            if let Some(old) = versions.draining.pop() {
                versions.draining.push(stable);
                d.graphs.insert(graph.clone(), old);
            }
        }
        _ => versions.draining.truncate(1),
    }
}

/// Everything of two images.
fn compare(image: &Image, fresh: &Image) {
    assert_eq!(image.plan(), fresh.plan());
    let tables = |image: &Image| -> Vec<(ReplicaSetId, u64)> {
        image.tables().iter().map(|(set, table)| (*set, table.digest())).collect()
    };
    assert_eq!(tables(image), tables(fresh));
    assert_eq!(image.down(), fresh.down());
    assert!(image.functions().keys().eq(fresh.functions().keys()));
    for (mine, theirs) in image.functions().values().zip(fresh.functions().values()) {
        assert_eq!((mine.tenant(), mine.instances()), (theirs.tenant(), theirs.instances()));
    }
    assert!(image.tenants().keys().eq(fresh.tenants().keys()));
    for (id, mine) in image.tenants() {
        let theirs = &fresh.tenants()[id];
        assert_eq!(
            (mine.name(), mine.budget(), mine.attachments()),
            (theirs.name(), theirs.budget(), theirs.attachments())
        );
        assert_eq!(
            (mine.routes(), mine.outside(), mine.origins()),
            (theirs.routes(), theirs.outside(), theirs.origins())
        );
        assert_eq!((mine.owned(), mine.ports(), mine.tags()), (theirs.owned(), theirs.ports(), theirs.tags()));
        assert_eq!(mine.graphs(), theirs.graphs());
        for view in mine.graphs().values().flat_map(|graph| graph.active.installed()) {
            assert!(mine.last_view() >= Some(view.id), "numbers only rise");
        }
    }
}

/// No number names two contents in the life of a cluster.
fn keep(known: &mut BTreeMap<(TenantId, ViewId), u64>, image: &Image) {
    for active in image.plan().content().graphs.values() {
        for view in active.installed() {
            let digest = *known.entry((active.tenant, view.id)).or_insert(view.digest);
            assert_eq!(digest, view.digest, "view {} of tenant {}", view.id, active.tenant);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x1c4e),
        ..ProptestConfig::default()
    })]

    #[test]
    fn increments_amount_to_the_whole(steps in prop::collection::vec((0u8..30, any::<u8>(), any::<u8>()), 1..40)) {
        let mut desired = base();
        let mut checked: Checked = check(&desired).unwrap();
        let mut image = Image::build(None, &checked, CLUSTER).unwrap();
        let mut known = BTreeMap::new();
        for (kind, b, c) in steps {
            let sound = desired.clone();
            // Changes of versions are a third of all.
            let step = (if kind < 26 { kind } else { kind - 6 }, b, c);
            apply(&mut desired, step);
            let whole = check(&desired);
            match (check_after(Some(&checked), &Arc::new(desired.clone())), whole) {
                (Ok(next), Ok(whole)) => {
                    let after = Image::build(Some(&image), &next, CLUSTER).unwrap();
                    prop_assert_eq!(next.desired(), whole.desired(), "{:?}", step);
                    compare(&after, &Image::resume(after.plan(), &whole, CLUSTER).unwrap());
                    keep(&mut known, &after);
                    let same = after.plan().digest() == image.plan().digest();
                    prop_assert_eq!(same, after.plan().generation() == image.plan().generation());
                    desired = Desired::clone(next.desired());
                    (checked, image) = (next, after);
                }
                (Err(found), Err(whole)) => {
                    prop_assert_eq!(found, whole, "{:?}", step);
                    desired = sound;
                }
                (after, whole) => prop_assert!(false, "{:?}: {:?} after, {:?} as a whole", step, after.err(), whole.err()),
            }
        }
    }
}
