//! What graphs compile to: the listing of one, and properties of random ones.

mod common;

use chain_graph::model::*;
use chain_graph::{Checked, Cluster, Image, ImageTables, View, check};
use common::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::sync::Arc;
use xdp_layout::flow::FlowKey;
use xdp_layout::plan::TARGET_EXIT;
use xdp_layout::{Addr, GraphId, ViewId};

const CLUSTER: Cluster = Cluster { incarnation: 1, seed: [7, 8] };

fn checked(desired: &Desired) -> Checked {
    check(desired).unwrap_or_else(|violations| panic!("{violations:#?}"))
}

fn view(desired: &Desired, at: &str) -> View {
    let content = Arc::clone(checked(desired).content(&key(at)).unwrap());
    let graph = &desired.graphs[&key(at)];
    View::new(desired.tenants[&graph.tenant].id, graph.id, ViewId::new(1).unwrap(), None, content)
}

#[test]
fn listing_of_a_view() {
    let mut desired = base();
    let mut lb = function("lb", TupleEffect::Ends, [replica_set("v1", 50, [instance(50)])]);
    instances(&mut lb, "v1").next().unwrap().outside.push(outside("203.0.113.0/24", None));
    desired.put_function(lb);
    let web = graph_mut(&mut desired, "acme/web");
    web.nodes = ["nat v1", "lb v1", "fw v1", "dpi v1"].map(node).into();
    let ports_only = EdgeMatch { server_ports: vec![PortRange { first: 8000, last: 8999 }], ..EdgeMatch::default() };
    let mut by_attachment = servers(&["172.16.0.0/12", "10.0.0.0/8"]);
    by_attachment.client_attachments = vec![name("left")];
    let mut sixes = servers(&["2001:db8::/32"]);
    sixes.protocol = Protocol::new(47);
    web.edges = vec![
        edge("client -> fw"),
        edge_if("client -> dpi", tcp(443, 443)),
        edge_if("client -> server", by_attachment),
        edge("dpi -> nat"),
        edge_if("fw -> lb", ports_only),
        edge_if("fw -> server", sixes),
        edge("fw -> nat"),
        edge("nat -> server"),
        edge("lb -> server"),
    ];
    let expected = "\
view 1 of graph 1, tenant 1
client side:
  tcp, server port 443 -> dpi (3)
  client attachment 1, server 10.0.0.0/8 -> server side
  client attachment 1, server 172.16.0.0/12 -> server side
  any -> fw (4)
fw (4), replica set 1:
  tcp, server port 8000-8999 -> lb (1)
  udp, server port 8000-8999 -> lb (1)
  sctp, server port 8000-8999 -> lb (1)
  47, server 2001:db8::/32 -> server side
  any -> nat (2)
dpi (3), replica set 5:
  any -> nat (2)
nat (2), replica set 3, changes the tuple:
  any -> server side
lb (1), replica set 50, ends the flow:
  any -> server side
";
    assert_eq!(view(&desired, "acme/web").to_string(), expected);
}

/// A graph of `nodes` nodes of one function each. Edges lead from row 0 (client) or a node to a later node (or, beyond the
/// last, the server side); the match is a TCP port, different for each edge of a row.
#[derive(Clone, Debug)]
struct Shape {
    nodes: usize,
    edges: Vec<(usize, usize)>,
}

fn shapes() -> impl Strategy<Value = Shape> {
    (1usize..=12).prop_flat_map(|nodes| {
        let edge = (0..=nodes, 1usize..=13);
        prop::collection::vec(edge, 0..16).prop_map(move |edges| {
            let edges = edges.into_iter().map(|(from, step)| (from, (from + step).min(nodes + 1))).collect();
            Shape { nodes, edges }
        })
    })
}

/// Row and target names; `n<k>` in an order unlike that of the rows, so that names and shape are independent.
fn row_name(nodes: usize, row: usize) -> String {
    match row {
        0 => "client".to_owned(),
        row if row > nodes => "server".to_owned(),
        row => format!("n{}", (row * 7) % 13),
    }
}

fn declare(shape: &Shape) -> Desired {
    let mut desired = base();
    let nodes = shape.nodes;
    for row in 1..=nodes {
        let id = 100 + row as u16;
        desired.put_function(function(
            &row_name(nodes, row),
            TupleEffect::Keeps,
            [replica_set("v1", id, [instance(id)])],
        ));
    }
    let web = graph_mut(&mut desired, "acme/web");
    web.nodes = (1..=nodes).map(|row| node(&format!("{} v1", row_name(nodes, row)))).collect();
    web.edges = Vec::new();
    for (port, (from, to)) in shape.edges.iter().enumerate() {
        let text = format!("{} -> {}", row_name(nodes, *from), row_name(nodes, *to));
        web.edges.push(edge_if(&text, tcp(port as u16 + 1, port as u16 + 1)));
    }
    // Every row goes on to the next by default, so that everything is reachable and leads out.
    for row in 0..=nodes {
        web.edges.push(edge(&format!("{} -> {}", row_name(nodes, row), row_name(nodes, row + 1))));
    }
    desired
}

/// The instances of a flow to `port`, read off the shape itself.
fn walk(shape: &Shape, port: u16) -> Vec<u16> {
    let mut path = Vec::new();
    let mut row = 0;
    loop {
        let taken = shape.edges.get(usize::from(port).wrapping_sub(1)).filter(|(from, _)| *from == row);
        row = taken.map_or(row + 1, |(_, to)| *to);
        if row > shape.nodes {
            return path;
        }
        path.push(100 + row as u16);
    }
}

fn shuffle<T>(list: &mut [T], mut seed: u64) {
    for last in (1..list.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        list.swap(last, (seed >> 33) as usize % (last + 1));
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 200,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x5eed),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn positions_fall_along_every_edge(shape in shapes()) {
        let view = view(&declare(&shape), "acme/web");
        let count = view.nodes().len();
        prop_assert_eq!(count, shape.nodes);
        for (index, node) in view.nodes().iter().enumerate() {
            prop_assert_eq!(usize::from(node.position), count - index);
            for edge in &view.edges()[node.first_edge as usize..] {
                if edge.target != TARGET_EXIT {
                    prop_assert!(view.nodes()[edge.target as usize].position < node.position);
                }
                if edge.last != 0 {
                    break;
                }
            }
        }
        prop_assert_eq!(view.edges().iter().filter(|edge| edge.last != 0).count(), count + 1);
    }

    #[test]
    fn the_core_walks_a_view_as_the_graph_says(shape in shapes(), port in 0u16..20) {
        let image = Image::build(None, &checked(&declare(&shape)), CLUSTER).unwrap();
        let tables = ImageTables::new(&image);
        let key = FlowKey {
            a: Addr::v4([10, 0, 0, 1]),
            b: Addr::v4([10, 0, 0, 2]),
            a_port: 40_000,
            b_port: port,
            tenant_protocol: 1 | 6 << 24,
        };
        let question = question(1, Some(1));
        let path = tables.path(&key, &question).unwrap();
        prop_assert_eq!(&path.instances[..usize::from(path.len)], &walk(&shape, port)[..]);
        prop_assert_eq!((path.entry, path.exit, path.view), (1, 2, 1));
    }

    #[test]
    fn digests_do_not_depend_on_the_order_of_declaring(shape in shapes(), seed in any::<u64>()) {
        let sorted = declare(&shape);
        let mut desired = Desired::default();
        let mut functions: Vec<_> = sorted.functions.values().collect();
        shuffle(&mut functions, seed);
        functions.into_iter().for_each(|function| desired.put_function((**function).clone()));
        sorted.attachments.values().rev().for_each(|attachment| desired.put_attachment((**attachment).clone()));
        sorted.tenants.values().rev().for_each(|tenant| desired.put_tenant((**tenant).clone()));
        let mut web = (*sorted.graphs[&key("acme/web")]).clone();
        shuffle(&mut web.nodes, seed);
        // Only edges from one place have an order among each other, and these matches exclude each other.
        shuffle(&mut web.edges, seed);
        web.edges.sort_by_key(|edge| edge.matches.as_ref().map(|matches| matches.server_ports[0].first));
        web.edges.sort_by_key(|edge| edge.from.clone());
        desired.put_graph(web);
        prop_assert_eq!(view(&sorted, "acme/web"), view(&desired, "acme/web"));
        let one = Image::build(None, &checked(&sorted), CLUSTER).unwrap();
        let other = Image::build(None, &checked(&desired), CLUSTER).unwrap();
        prop_assert_eq!(one.plan(), other.plan());
    }
}

#[test]
fn equal_graphs_have_equal_digests_and_others_do_not() {
    let sound = base();
    let digest = |desired: &Desired| view(desired, "acme/web").digest();
    let mut renumbered = sound.clone();
    graph_mut(&mut renumbered, "acme/web").id = GraphId::new(77).unwrap();
    assert_eq!(digest(&sound), digest(&renumbered));
    let mut other_set = sound.clone();
    graph_mut(&mut other_set, "acme/web").nodes[0].replica_set = name("v2");
    let mut other_edge = sound.clone();
    graph_mut(&mut other_edge, "acme/web").edges.push(edge_if("fw -> server", tcp(1, 1)));
    let mut other_effect = sound.clone();
    function_mut(&mut other_effect, "nat").tuple = TupleEffect::Ends;
    for other in [other_set, other_edge, other_effect] {
        assert_ne!(digest(&sound), digest(&other));
    }
}
