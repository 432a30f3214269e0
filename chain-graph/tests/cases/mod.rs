//! Declarations that break a rule each, as changes of the sound one, with the complete list of violations that follows.

use super::common::*;
use chain_graph::ViolationKind::{self, *};
use chain_graph::model::*;

/// What to break, and the paths and kinds of all violations.
pub(crate) type Case = (&'static str, fn(&mut Desired), &'static [(&'static str, ViolationKind)]);

pub(crate) const RESOURCES: &[Case] = &[
    (
        "tenant under another key",
        |d| {
            tenant_mut(d, "blue").name = name("green");
        },
        &[("tenants[\"blue\"]", KeyMismatch)],
    ),
    (
        "instance under another key",
        |d| instance_mut(d, "fw", 1).name = name("x"),
        &[("functions[\"fw\"].replica_sets[\"v1\"].instances[\"i2\"]", KeyMismatch)],
    ),
    (
        "budgets of 0",
        |d| tenant_mut(d, "acme").budget = Budget { unanswered: 0, established: 0 },
        &[("tenants[\"acme\"].budget.unanswered", ZeroBudget), ("tenants[\"acme\"].budget.established", ZeroBudget)],
    ),
    (
        "attachment of nobody",
        |d| d.put_attachment(attachment("ghost/left", 9, Side::Client, "lan", &[])),
        &[("attachments[\"ghost/left\"].tenant", UnknownTenant)],
    ),
    (
        "graph of nobody",
        |d| {
            let mut web = graph_mut(d, "acme/web").clone();
            web.tenant = name("ghost");
            web.id = xdp_layout::GraphId::new(2).unwrap();
            web.nodes.clear();
            web.edges = vec![edge("client -> server")];
            d.put_graph(web);
        },
        &[
            ("graphs[\"ghost/web\"].tenant", UnknownTenant),
            ("graphs[\"ghost/web\"].client[0]", UnknownAttachment),
            ("graphs[\"ghost/web\"].server[0]", UnknownAttachment),
        ],
    ),
    (
        "tag for nobody",
        |d| function_mut(d, "dpi").tenancy = tagged(&[("ghost", 7)], true),
        &[("functions[\"dpi\"].tenancy.tags[\"ghost\"]", UnknownTenant)],
    ),
    (
        "one tag for two",
        |d| function_mut(d, "dpi").tenancy = tagged(&[("acme", 7), ("blue", 7)], true),
        &[("functions[\"dpi\"].tenancy.tags[\"blue\"]", DuplicateTag)],
    ),
    (
        "interface names",
        |d| {
            attachment_mut(d, "acme/left").interface = "a-name-of-16-byt".to_owned();
            attachment_mut(d, "blue/left").interface = String::new();
            instance_mut(d, "dpi", 0).ports =
                Ports::OneArmed(Port { interface: "a/b".to_owned(), mac: MacAddr([2; 6]) });
        },
        &[
            ("attachments[\"acme/left\"].interface", InvalidInterface),
            ("attachments[\"blue/left\"].interface", InvalidInterface),
            ("functions[\"dpi\"].replica_sets[\"v1\"].instances[\"i9\"].ports.one_armed.interface", InvalidInterface),
        ],
    ),
    (
        "MAC addresses",
        |d| {
            let port = |interface: &str, mac| Port { interface: interface.to_owned(), mac };
            let (inside, outside) = (port("x", MacAddr([0; 6])), port("y", MacAddr([3, 0, 0, 0, 0, 1])));
            instance_mut(d, "dpi", 0).ports = Ports::TwoArmed { inside, outside };
        },
        &[
            ("functions[\"dpi\"].replica_sets[\"v1\"].instances[\"i9\"].ports.inside.mac", InvalidMac),
            ("functions[\"dpi\"].replica_sets[\"v1\"].instances[\"i9\"].ports.outside.mac", InvalidMac),
        ],
    ),
    (
        "addresses nobody has",
        |d| {
            function_mut(d, "fw").addresses =
                ["10.0.0.1", "224.0.0.1", "::ffff:10.0.0.1"].map(|ip| ip.parse().unwrap()).into();
            attachment_mut(d, "acme/left").prefixes = vec!["::ffff:10.0.0.0/104".parse().unwrap()];
        },
        &[
            ("attachments[\"acme/left\"].prefixes[0]", InvalidAddress),
            ("functions[\"fw\"].addresses[1]", InvalidAddress),
            ("functions[\"fw\"].addresses[2]", InvalidAddress),
        ],
    ),
    (
        "maximum of members",
        |d| {
            let sets = &mut function_mut(d, "fw").replica_sets;
            sets.get_mut(&name("v1")).unwrap().max_members = 0;
            sets.get_mut(&name("v2")).unwrap().max_members = 4096;
        },
        &[
            ("functions[\"fw\"].replica_sets[\"v1\"].max_members", MaxMembers),
            ("functions[\"fw\"].replica_sets[\"v2\"].max_members", MaxMembers),
        ],
    ),
    (
        "more instances than declared",
        |d| {
            function_mut(d, "fw").replica_sets.get_mut(&name("v1")).unwrap().max_members = 1;
        },
        &[("functions[\"fw\"].replica_sets[\"v1\"].instances", TooManyInstances)],
    ),
    (
        "outside where tuples are kept",
        |d| {
            instance_mut(d, "fw", 0).outside.push(outside("198.51.100.0/24", None));
        },
        &[("functions[\"fw\"].replica_sets[\"v1\"].instances[\"i1\"].outside", OutsideNotAllowed)],
    ),
    (
        "no outside where tuples change",
        |d| instance_mut(d, "nat", 0).outside.clear(),
        &[("functions[\"nat\"].replica_sets[\"v1\"].instances[\"i5\"].outside", OutsideMissing)],
    ),
    (
        "outside ports without a port",
        |d| {
            instance_mut(d, "nat", 0).outside[0].ports = Some(PortRange { first: 9, last: 8 });
        },
        &[("functions[\"nat\"].replica_sets[\"v1\"].instances[\"i5\"].outside[0].ports", EmptyRange)],
    ),
    (
        "outside blocks inside each other",
        |d| {
            instance_mut(d, "nat", 0).outside = vec![outside("192.0.2.0/24", Some((1000, 1999)))];
            instance_mut(d, "nat", 1).outside =
                vec![outside("192.0.2.7/32", Some((1999, 3000))), outside("192.0.2.8/32", Some((1, 9)))];
        },
        &[("functions[\"nat\"].replica_sets[\"v1\"].instances[\"i6\"].outside[0]", OutsideOverlap)],
    ),
    (
        "seventeen ranges on a prefix",
        |d| {
            let blocks = (0..16).map(|i| outside("192.0.2.1/32", Some((i * 10, i * 10 + 9))));
            instance_mut(d, "nat", 0).outside = blocks.collect();
            instance_mut(d, "nat", 1).outside = vec![outside("192.0.2.0/24", Some((200, 300)))];
        },
        &[("functions[\"nat\"].replica_sets[\"v1\"].instances[\"i6\"].outside[0]", OutsideRanges)],
    ),
    (
        "two functions of a tenant on one outside address",
        |d| {
            let mut lb = function("lb", TupleEffect::Ends, [replica_set("v1", 50, [instance(50)])]);
            instances(&mut lb, "v1").next().unwrap().outside.push(outside("192.0.2.2/32", Some((1, 100))));
            d.put_function(lb);
            let web = graph_mut(d, "acme/web");
            web.nodes.push(node("lb v1"));
            web.edges = ["client -> fw", "fw -> nat", "nat -> lb", "lb -> server"].map(edge).into();
        },
        &[("functions[\"lb\"].replica_sets[\"v1\"].instances[\"i50\"].outside[0]", OutsideOverlap)],
    ),
    (
        "numbers twice",
        |d| {
            tenant_mut(d, "blue").id = xdp_layout::TenantId::new(1).unwrap();
            attachment_mut(d, "blue/left").id = xdp_layout::AttachmentId::new(1).unwrap();
            function_mut(d, "fw").replica_sets.get_mut(&name("v2")).unwrap().id =
                xdp_layout::ReplicaSetId::new(1).unwrap();
            instance_mut(d, "nat", 0).id = xdp_layout::InstanceId::new(1).unwrap();
            let mut other = graph("blue/web", 1, &[], vec![edge("client -> server")]);
            other.tenant = name("blue");
            d.put_graph(other);
        },
        &[
            ("tenants[\"blue\"].id", DuplicateId),
            ("attachments[\"blue/left\"].id", DuplicateId),
            ("graphs[\"blue/web\"].id", DuplicateId),
            ("functions[\"fw\"].replica_sets[\"v2\"].id", DuplicateId),
            ("functions[\"nat\"].replica_sets[\"v1\"].instances[\"i5\"].id", DuplicateId),
        ],
    ),
    (
        "ports twice",
        |d| {
            attachment_mut(d, "blue/left").interface = "net0".to_owned();
            attachment_mut(d, "blue/right").interface = "net1".to_owned();
            attachment_mut(d, "blue/right").vlan = VlanId::new(5);
            function_mut(d, "dpi").tenancy = tagged(&[("acme", 5), ("blue", 6)], true);
            let Ports::TwoArmed { inside, .. } = &mut instance_mut(d, "dpi", 0).ports else { unreachable!() };
            inside.interface = "net1".to_owned();
        },
        &[
            ("attachments[\"blue/left\"].interface", DuplicatePort),
            ("functions[\"dpi\"].replica_sets[\"v1\"].instances[\"i9\"].ports.inside.interface", DuplicatePort),
        ],
    ),
    (
        "both arms on one interface",
        |d| {
            let Ports::TwoArmed { inside, outside } = &mut instance_mut(d, "dpi", 0).ports else { unreachable!() };
            outside.interface.clone_from(&inside.interface);
        },
        &[("functions[\"dpi\"].replica_sets[\"v1\"].instances[\"i9\"].ports.outside.interface", DuplicatePort)],
    ),
];

/// Gives blue a graph client -> `function` -> server.
pub(crate) fn blue_uses(desired: &mut Desired, function: &str) {
    let edges = vec![edge(&format!("client -> {function}")), edge(&format!("{function} -> server"))];
    desired.put_graph(graph("blue/web", 2, &[&format!("{function} v1")], edges));
}

pub(crate) const SHARING: &[Case] = &[
    ("untagged function for two", |d| blue_uses(d, "fw"), &[("graphs[\"blue/web\"].nodes[0].function", NotShareable)]),
    (
        "no tag",
        |d| {
            function_mut(d, "fw").tenancy = tagged(&[("acme", 7)], true);
            blue_uses(d, "fw");
        },
        &[("graphs[\"blue/web\"].nodes[0].function", NoTag)],
    ),
    (
        "overlapping tenants, state together",
        |d| {
            function_mut(d, "fw").tenancy = tagged(&[("acme", 7), ("blue", 8)], false);
            blue_uses(d, "fw");
            attachment_mut(d, "acme/left").prefixes = vec!["10.0.0.0/8".parse().unwrap()];
            attachment_mut(d, "acme/right").prefixes = vec!["172.16.0.0/16".parse().unwrap()];
            attachment_mut(d, "blue/left").prefixes = vec!["10.9.0.0/16".parse().unwrap()];
            attachment_mut(d, "blue/right").prefixes = vec!["172.17.0.0/16".parse().unwrap()];
        },
        &[("graphs[\"blue/web\"].nodes[0].function", StateNotIsolated)],
    ),
    (
        "attachment in two graphs",
        |d| {
            d.put_graph(graph("acme/other", 2, &[], vec![edge("client -> server")]));
        },
        &[("graphs[\"acme/web\"].client[0]", AttachmentInUse), ("graphs[\"acme/web\"].server[0]", AttachmentInUse)],
    ),
    (
        "tuple-making replica set in two graphs",
        |d| {
            let edges = vec![edge("client -> nat"), edge("nat -> server")];
            let mut other = graph("acme/other", 2, &["nat v1"], edges);
            (other.client, other.server) = (vec![name("left2")], vec![name("right2")]);
            d.put_graph(other);
            d.put_attachment(attachment("acme/left2", 11, Side::Client, "net11", &[]));
            d.put_attachment(attachment("acme/right2", 12, Side::Server, "net12", &[]));
        },
        &[("graphs[\"acme/web\"].nodes[1].replica_set", AmbiguousOrigin)],
    ),
];

pub(crate) const GRAPHS: &[Case] = &[
    (
        "names twice",
        |d| {
            let web = graph_mut(d, "acme/web");
            web.client.push(name("left"));
            web.nodes.push(node("fw dpi v1"));
        },
        &[
            ("graphs[\"acme/web\"].client[1]", DuplicateName),
            ("graphs[\"acme/web\"].nodes[2].name", DuplicateName),
            ("graphs[\"acme/web\"].nodes[2]", Unreachable),
            ("graphs[\"acme/web\"].nodes[2]", NoWayOut),
        ],
    ),
    (
        "unknown function, replica set, nodes",
        |d| {
            let web = graph_mut(d, "acme/web");
            web.nodes[0].function = name("ghost");
            web.nodes[1].replica_set = name("v9");
            web.edges.push(edge("spook -> wraith"));
        },
        &[
            ("graphs[\"acme/web\"].nodes[0].function", UnknownFunction),
            ("graphs[\"acme/web\"].nodes[1].replica_set", UnknownReplicaSet),
            ("graphs[\"acme/web\"].edges[3].from", UnknownNode),
            ("graphs[\"acme/web\"].edges[3].to", UnknownNode),
        ],
    ),
    (
        "wrong side",
        |d| graph_mut(d, "acme/web").client = vec![name("right")],
        &[("graphs[\"acme/web\"].client[0]", WrongSide)],
    ),
    (
        "no sides",
        |d| {
            let web = graph_mut(d, "acme/web");
            web.client.clear();
            web.server.clear();
        },
        &[("graphs[\"acme/web\"].client", EmptySide), ("graphs[\"acme/web\"].server", EmptySide)],
    ),
    (
        "two attachments for one prefix",
        |d| {
            d.put_attachment(attachment("acme/left2", 11, Side::Client, "net11", &["::/0"]));
            graph_mut(d, "acme/web").client.push(name("left2"));
        },
        &[("graphs[\"acme/web\"].client[1]", PrefixConflict)],
    ),
    (
        "match on an attachment elsewhere",
        |d| {
            let client_attachments = vec![name("left"), name("right")];
            let matches = EdgeMatch { client_attachments, ..EdgeMatch::default() };
            graph_mut(d, "acme/web").edges.insert(0, edge_if("client -> nat", matches));
        },
        &[("graphs[\"acme/web\"].edges[0].matches.client_attachments[1]", AttachmentNotInGraph)],
    ),
    (
        "cycle",
        |d| {
            let web = graph_mut(d, "acme/web");
            web.nodes.push(node("dpi v1"));
            web.edges.push(edge_if("nat -> dpi", tcp(1, 1)));
            web.edges.push(edge("dpi -> fw"));
        },
        &[("graphs[\"acme/web\"].edges", Cycle)],
    ),
    (
        "unreachable, no way out",
        |d| {
            let web = graph_mut(d, "acme/web");
            web.nodes.push(node("dpi v1"));
            web.nodes.push(node("end fw v2"));
            web.edges.push(edge("dpi -> nat"));
            web.edges.push(edge_if("fw -> end", tcp(1, 1)));
        },
        &[("graphs[\"acme/web\"].nodes[2]", Unreachable), ("graphs[\"acme/web\"].nodes[3]", NoWayOut)],
    ),
    (
        "nothing leaves the client side",
        |d| {
            let web = graph_mut(d, "acme/web");
            web.nodes.clear();
            web.edges.clear();
        },
        &[("graphs[\"acme/web\"].edges", NoWayOut)],
    ),
    (
        "one replica set twice on a path",
        |d| {
            let web = graph_mut(d, "acme/web");
            web.nodes.push(node("again fw v1"));
            web.edges = ["client -> fw", "fw -> nat", "nat -> again", "again -> server"].map(edge).into();
        },
        &[("graphs[\"acme/web\"].nodes[2].replica_set", RepeatedReplicaSet)],
    ),
    ("255 nodes", |d| chain(d, 255, 0), &[("graphs[\"acme/web\"].nodes", TooManyNodes)]),
    ("17 instances", |d| chain(d, 17, 0), &[("graphs[\"acme/web\"].nodes", PathTooLong)]),
    (
        "65 comparisons",
        |d| {
            chain(d, 8, 7);
        },
        &[("graphs[\"acme/web\"].edges", WalkTooLong)],
    ),
    (
        "one match of 66 comparisons",
        |d| {
            let ports = |count: u16| (0..count).map(|i| PortRange { first: i * 9, last: i * 9 }).collect();
            let matches = EdgeMatch { client_ports: ports(11), server_ports: ports(2), ..EdgeMatch::default() };
            graph_mut(d, "acme/web").edges.insert(0, edge_if("client -> nat", matches));
        },
        &[("graphs[\"acme/web\"].edges[0].matches", WalkTooLong)],
    ),
    (
        "ranges and parts that contradict",
        |d| {
            let mut icmp = tcp(80, 80);
            icmp.protocol = Some(Protocol::ICMP);
            let mut mixed = servers(&["10.0.0.0/8"]);
            mixed.client_prefixes = vec!["2001:db8::/32".parse().unwrap()];
            let mut other_version = servers(&["10.0.0.0/8"]);
            other_version.protocol = Some(Protocol::ICMPV6);
            let edges = &mut graph_mut(d, "acme/web").edges;
            for matches in [tcp(9, 8), icmp, mixed, other_version, servers(&["10.0.0.0/8", "::/0"])] {
                edges.push(edge_if("client -> nat", matches));
            }
        },
        &[
            ("graphs[\"acme/web\"].edges[3].matches.server_ports[0]", EmptyRange),
            ("graphs[\"acme/web\"].edges[4].matches.server_ports", Contradiction),
            ("graphs[\"acme/web\"].edges[5].matches", Contradiction),
            ("graphs[\"acme/web\"].edges[6].matches", Contradiction),
            ("graphs[\"acme/web\"].edges[7].matches.server_prefixes[1]", MixedPrefix),
        ],
    ),
    (
        "client attachment behind a NAT",
        |d| {
            let client_attachments = vec![name("left")];
            let matches = EdgeMatch { client_attachments, ..EdgeMatch::default() };
            graph_mut(d, "acme/web").edges.push(edge_if("nat -> server", matches));
        },
        &[("graphs[\"acme/web\"].edges[3].matches.client_attachments", Contradiction)],
    ),
    (
        "shadowed by two together, by one, and the default",
        |d| {
            let edges = &mut graph_mut(d, "acme/web").edges;
            edges.extend(
                [(0, 499), (500, 999), (250, 750), (0, 1000)].map(|(a, b)| edge_if("client -> nat", tcp(a, b))),
            );
            edges.push(edge_if("fw -> nat", servers(&["10.0.0.0/8"])));
            edges.push(edge_if("fw -> server", servers(&["10.1.0.0/16"])));
            edges.push(edge_if("nat -> server", EdgeMatch::default()));
        },
        &[
            ("graphs[\"acme/web\"].edges[5].matches", Shadowed),
            ("graphs[\"acme/web\"].edges[8].matches", Shadowed),
            ("graphs[\"acme/web\"].edges[2].matches", Shadowed),
        ],
    ),
    (
        "two defaults",
        |d| graph_mut(d, "acme/web").edges.push(edge("fw -> server")),
        &[("graphs[\"acme/web\"].edges[3].matches", SecondDefault)],
    ),
];

pub(crate) const CANDIDATES: &[Case] = &[
    (
        "candidate of nothing",
        |d| {
            candidate(d, 3277, |_| ());
            d.graphs.clear();
        },
        &[("graphs[\"acme/web\"].candidate", UnknownGraph)],
    ),
    (
        "another graph's name and number",
        |d| {
            candidate(d, 3277, |graph| {
                graph.name = name("other");
                graph.id = xdp_layout::GraphId::new(7).unwrap();
            });
        },
        &[("graphs[\"acme/web\"].candidate.id", IdDiffers), ("graphs[\"acme/web\"].candidate", KeyMismatch)],
    ),
    (
        "other attachments",
        |d| {
            d.put_attachment(attachment("acme/left2", 11, Side::Client, "net11", &["10.0.0.0/8"]));
            candidate(d, 3277, |graph| {
                graph.client.push(name("left2"));
                graph.server = vec![name("left2")];
            });
        },
        &[
            ("graphs[\"acme/web\"].candidate.client", AttachmentsDiffer),
            ("graphs[\"acme/web\"].candidate.server", AttachmentsDiffer),
            ("graphs[\"acme/web\"].candidate.server[0]", WrongSide),
        ],
    ),
    (
        "function of another tenant, whose name comes later",
        |d| {
            blue_uses(d, "dpi");
            candidate(d, 3277, |graph| {
                graph.nodes.push(node("dpi v1"));
                graph.edges = ["client -> fw", "fw -> dpi", "dpi -> nat", "nat -> server"].map(edge).into();
            });
        },
        &[("graphs[\"acme/web\"].candidate.nodes[2].function", NotShareable)],
    ),
    (
        "overlapping tenants, state together, by a candidate",
        |d| {
            function_mut(d, "dpi").tenancy = tagged(&[("acme", 7), ("blue", 8)], false);
            blue_uses(d, "dpi");
            candidate(d, 3277, |graph| graph.nodes[0] = node("fw dpi v1"));
        },
        &[("graphs[\"acme/web\"].candidate.nodes[0].function", StateNotIsolated)],
    ),
    (
        "replica set of another graph, whose name comes later",
        |d| {
            let edges = vec![edge("client -> dpi"), edge("dpi -> server")];
            let mut other = graph("acme/zoo", 2, &["dpi v1"], edges);
            (other.client, other.server) = (vec![name("left2")], vec![name("right2")]);
            d.put_graph(other);
            d.put_attachment(attachment("acme/left2", 11, Side::Client, "net11", &[]));
            d.put_attachment(attachment("acme/right2", 12, Side::Server, "net12", &[]));
            candidate(d, 3277, |graph| graph.nodes[0] = node("fw dpi v1"));
        },
        &[("graphs[\"acme/web\"].candidate.nodes[0].replica_set", AmbiguousOrigin)],
    ),
    (
        "outside address of another function of the tenant, used by a candidate",
        |d| {
            let mut lb = function("lb", TupleEffect::Ends, [replica_set("v1", 50, [instance(50)])]);
            instances(&mut lb, "v1").next().unwrap().outside.push(outside("192.0.2.2/32", Some((1, 100))));
            d.put_function(lb);
            candidate(d, 3277, |graph| {
                graph.nodes.push(node("lb v1"));
                graph.edges = ["client -> fw", "fw -> nat", "nat -> lb", "lb -> server"].map(edge).into();
            });
        },
        &[("functions[\"lb\"].replica_sets[\"v1\"].instances[\"i50\"].outside[0]", OutsideOverlap)],
    ),
];
