//! Tests of the testbed's network functions, in a static chain made of Linux bridges.

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{client_and_server, join};
use etherparse::PacketBuilder;
use testbed::{
    FiveTuple, Host, Node, Recorder, Route, Testbed, Way,
    nf::{
        Action, BridgeFirewall, BridgeFirewallConfig, OneArmed, OneArmedConfig, Proxy, ProxyConfig, ProxyProgram, Rule,
        SharedFirewall, SharedFirewallConfig, Snat, SnatConfig, TenantRules, Tracking, Translation,
    },
    require,
    scenario::{ip, net, routed_host, routed_pair},
    traffic::{Curl, FrameSender, Iperf, IperfServer, Ping, UdpLoad, UdpReceiver, WebServer, tcp_connects},
};

/// Serves on a port, connects, and asks for a page if that should be possible.
fn check_web(client: &Host, server: &Host, port: u16, reachable: bool) {
    for address in [server.ipv4(), server.ipv6()] {
        let address = SocketAddr::new(address, port);
        let web = WebServer::start(server.namespace(), address, &[("large", 300_000)]).unwrap();
        assert_eq!(tcp_connects(client.namespace(), address), reachable, "{address}");
        if reachable {
            let answer = Curl::new(web.url("/")).run(client.namespace()).unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"server\n"[..]));
            assert_eq!(answer.header("x-served-by"), Some("server"));
            let large = Curl::new(web.url("/large")).run(client.namespace()).unwrap();
            assert!(large.body == WebServer::content(300_000));
        }
    }
}

#[test]
fn stateless_firewall_blocks_what_it_should() {
    require!();
    let bed = Testbed::new().unwrap();
    let (client, server) = client_and_server(bed.node());
    let rules = vec![Rule::drop("telnet", "tcp dport 23"), Rule::accept("web", "tcp dport 80")];
    let config = BridgeFirewallConfig::new("fw", rules);
    let firewall = BridgeFirewall::new(bed.node(), config).unwrap();
    join(bed.node(), &[&["client", "fw-in"], &["fw-out", "server"]]);
    let recorder = firewall.instance().record().unwrap();
    for port in [23, 80] {
        check_web(&client, &server, port, port == 80);
    }
    let counters = firewall.instance().rule_counters().unwrap();
    assert!(counters["telnet"].packets >= 2 && counters["web"].packets >= 6, "{counters:?}");
    assert_eq!(firewall.instance().tracked_connections().unwrap(), 0);
    let seen = recorder.snapshot().unwrap();
    assert_eq!(seen.lost, 0);
    let to_port = |port| move |tuple: &FiveTuple| tuple.destination_port == port;
    assert!(seen.tuples("in", Way::Received).iter().any(to_port(23)));
    assert!(!seen.tuples("out", Way::Sent).iter().any(to_port(23)));
    assert_eq!(
        seen.tuples("in", Way::Received).into_iter().filter(to_port(80)).collect::<Vec<_>>(),
        seen.tuples("out", Way::Sent).into_iter().filter(to_port(80)).collect::<Vec<_>>()
    );
    let said_by_itself =
        seen.tuples("in", Way::Sent).into_iter().filter(|sent| !seen.tuples("out", Way::Received).contains(sent));
    assert_eq!(said_by_itself.collect::<Vec<_>>(), [], "a bump in the wire is silent");
}

#[test]
fn stateful_firewall_lets_answers_back_only() {
    require!();
    let bed = Testbed::new().unwrap();
    let (client, server) = client_and_server(bed.node());
    let config = BridgeFirewallConfig {
        tracking: Tracking::Stateful,
        otherwise: Action::Drop,
        ..BridgeFirewallConfig::new("fw", vec![Rule::accept("web", "tcp dport 80 ct state new")])
    };
    let firewall = BridgeFirewall::new(bed.node(), config).unwrap();
    join(bed.node(), &[&["client", "fw-in"], &["fw-out", "server"]]);
    for port in [23, 80] {
        check_web(&client, &server, port, port == 80);
    }
    assert!(firewall.instance().tracked_connections().unwrap() >= 3);
    // The same port, opened from the other side, from 80: an answer to nothing.
    let unasked = SocketAddr::new(client.ipv4(), 8080);
    let _web = WebServer::start(client.namespace(), unasked, &[]).unwrap();
    assert!(!tcp_connects(server.namespace(), unasked));
    let counters = firewall.instance().rule_counters().unwrap();
    // Once per connection: packets of known ones do not reach the rules.
    assert_eq!(counters["web"].packets, 6, "{counters:?}");
}

/// 10.0.0.0/24 and fd00::/64 behind 192.0.2.1 and fd01::1, ports 40000 to 40099.
fn dual_stack_nat(node: &Node) -> Snat {
    let translation = |to, from| Translation { from: Some(net(from)), to: ip(to), ports: Some(40_000..=40_099) };
    let config = SnatConfig {
        name: "nat".into(),
        inside: vec![net("10.0.0.254/24"), net("fd00::254/64")],
        outside: vec![net("192.0.2.1/24"), net("fd01::1/64")],
        routes: vec![Route::via(net("198.51.100.0/24"), ip("192.0.2.2"), "out")],
        translations: vec![translation("192.0.2.1", "10.0.0.0/24"), translation("fd01::1", "fd00::/64")],
        mtu: 1500,
    };
    Snat::new(node, config).unwrap()
}

#[test]
fn nat_translates_within_its_outside_block() {
    require!();
    let bed = Testbed::new().unwrap();
    let node = bed.node();
    let client = [("10.0.0.1/24", "10.0.0.254"), ("fd00::1/64", "fd00::254")];
    let client = routed_host(node, "client", &client).unwrap();
    // The server knows no way to the client's network: only translated packets come back.
    let server =
        Host::new(node, testbed::HostConfig::new("server").address(net("192.0.2.2/24")).address(net("fd01::2/64")))
            .unwrap();
    let nat = dual_stack_nat(node);
    join(node, &[&["client", "nat-in"], &["nat-out", "server"]]);
    let recorder = nat.instance().record().unwrap();
    check_web(&client, &server, 80, true);
    for (to, from) in [(server.ipv4(), client.ipv4()), (server.ipv6(), client.ipv6())] {
        assert!(Ping::new(to).run(client.namespace()).unwrap().is_perfect(), "{to}");
        let (from, to) = (SocketAddr::new(from, 4000), SocketAddr::new(to, 7000));
        let receiver = UdpReceiver::start(server.namespace(), to, true).unwrap();
        let load = UdpLoad { bytes: 4000, echo_timeout: Duration::from_secs(5), ..UdpLoad::new(from, to) };
        assert!(load.run(client.namespace()).unwrap().is_perfect(100), "{to}");
        let (source, _) = receiver.by_source().pop_first().unwrap();
        assert!((40_000..=40_099).contains(&source.port()), "{source}");
    }
    let seen = recorder.snapshot().unwrap();
    let outside = seen.tuples("out", Way::Sent).into_iter().filter(|tuple| tuple.source_port != 0);
    let outside = outside.collect::<Vec<_>>();
    let protocols = outside.iter().map(|tuple| tuple.protocol);
    let protocols = protocols.collect::<std::collections::BTreeSet<_>>();
    assert_eq!(protocols.into_iter().collect::<Vec<_>>(), [1, 6, 17, 58]);
    for tuple in &outside {
        assert!([ip("192.0.2.1"), ip("fd01::1")].contains(&tuple.source), "{tuple}");
        assert!((40_000..=40_099).contains(&tuple.source_port), "{tuple}");
    }
    let received = seen.tuples("out", Way::Received);
    assert!(outside.iter().all(|tuple| received.contains(&tuple.reversed())));
    assert!(nat.instance().tracked_connections().unwrap() >= 8);
}

#[test]
fn proxies_connect_onwards_from_their_own_address() {
    require!();
    for program in [ProxyProgram::Haproxy, ProxyProgram::Nginx] {
        let bed = Testbed::new().unwrap();
        let node = bed.node();
        let host =
            |name: &str, address: &str| Host::new(node, testbed::HostConfig::new(name).address(net(address))).unwrap();
        let (client, server) = (host("client", "10.0.0.1/24"), host("server", "192.0.2.2/24"));
        let origin = SocketAddr::new(server.ipv4(), 80);
        let _web = WebServer::start(server.namespace(), origin, &[("large", 5_000_000)]).unwrap();
        let proxy = Proxy::new(
            node,
            ProxyConfig {
                name: "proxy".into(),
                program,
                inside: vec![net("10.0.0.254/24")],
                outside: vec![net("192.0.2.1/24"), net("192.0.2.11/24")],
                routes: vec![],
                listen: "10.0.0.254:8080".parse().unwrap(),
                source: ip("192.0.2.11"),
                server: origin,
                mtu: 1500,
            },
        )
        .unwrap();
        join(node, &[&["client", "proxy-in"], &["proxy-out", "server"]]);
        let at_server = Recorder::start(server.namespace(), &["eth0"]).unwrap();
        let request = Curl { local_port: Some(4000), ..Curl::new("http://10.0.0.254:8080/large") };
        let answer = request.run(client.namespace()).unwrap();
        assert_eq!((answer.status, answer.local_port), (200, 4000));
        assert_eq!(answer.header("x-proxied-by"), Some("proxy"));
        assert_eq!(answer.header("x-served-by"), Some("server"));
        assert!(answer.body == WebServer::content(5_000_000));
        let seen = at_server.snapshot().unwrap();
        let clients = seen.tuples("eth0", Way::Received).into_iter().map(|tuple| tuple.source);
        let clients = clients.filter(|source| source.is_ipv4()).collect::<Vec<_>>();
        assert!(clients.iter().all(|source| *source == ip("192.0.2.11")), "{clients:?}");
        assert!(!clients.is_empty());
        assert_eq!(proxy.instance().name(), "proxy");
    }
}

#[test]
fn one_armed_router_sends_back_out_of_the_same_port() {
    require!();
    let bed = Testbed::new().unwrap();
    let node = bed.node();
    let (client, server) = routed_pair(node).unwrap();
    let config = OneArmedConfig {
        name: "arm".into(),
        addresses: ["10.0.1.254/24", "fd01::254/64", "10.0.2.254/24", "fd02::254/64"].map(net).to_vec(),
        routes: vec![],
        rules: vec![Rule::drop("telnet", "tcp dport 23")],
        mtu: 1500,
    };
    let router = OneArmed::new(node, config).unwrap();
    join(node, &[&["client", "server", "arm-in"]]);
    let recorder = router.instance().record().unwrap();
    for port in [23, 80] {
        check_web(&client, &server, port, port == 80);
    }
    assert!(router.instance().rule_counters().unwrap()["telnet"].packets > 0);
    let seen = recorder.snapshot().unwrap();
    let web = |way| {
        let tuples = seen.tuples("in", way).into_iter();
        tuples.filter(|tuple| tuple.destination_port == 80).collect::<Vec<_>>()
    };
    assert!(!web(Way::Sent).is_empty());
    assert_eq!(web(Way::Received), web(Way::Sent));
    assert_eq!(router.instance().inward().inside.mac, router.instance().outward().inside.mac);
}

/// Frames of two tenants with equal addresses, told apart by their tag alone.
#[test]
fn shared_firewall_applies_each_tenants_rules() {
    require!();
    let bed = Testbed::new().unwrap();
    let tenants = vec![
        TenantRules { vlan: 10, rules: vec![Rule::drop("a_telnet", "tcp dport 23")] },
        TenantRules { vlan: 20, rules: vec![Rule::drop("b_web", "tcp dport 80")] },
    ];
    let config = SharedFirewallConfig::new("shared", tenants);
    let firewall = SharedFirewall::new(bed.node(), config).unwrap();
    let instance = firewall.instance();
    let recorder = instance.record().unwrap();
    let at_exit = Recorder::start(bed.node().namespace(), &[&instance.outward().node.interface]).unwrap();
    let sender = FrameSender::open(&instance.inward().node).unwrap();
    for vlan in [Some(10), Some(20), Some(30), None] {
        for port in [23, 80, 443] {
            let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
            let packet = match vlan {
                Some(vlan) => link.single_vlan(u16::try_into(vlan).unwrap()).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
                None => link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
            };
            let packet = packet.tcp(4000, port, 1, 1000).syn();
            let mut frame = Vec::new();
            packet.write(&mut frame, &[]).unwrap();
            sender.send(&frame).unwrap();
        }
    }
    let passed = |recorder: &Recorder, interface: &str, way| {
        let seen = recorder.snapshot().unwrap();
        assert_eq!(seen.lost, 0);
        let sightings = seen.sightings.into_keys();
        let sightings = sightings.filter(|one| one.interface == interface && one.way == way);
        sightings.map(|one| (one.vlan, one.tuple.destination_port)).collect::<Vec<_>>()
    };
    let expected = [(Some(10), 80), (Some(10), 443), (Some(20), 23), (Some(20), 443)];
    assert_eq!(passed(&recorder, "out", Way::Sent), expected);
    assert_eq!(passed(&at_exit, "shared-out", Way::Received), expected);
    assert_eq!(passed(&recorder, "in", Way::Received).len(), 12);
    let counters = instance.rule_counters().unwrap();
    let packets = ["a_telnet", "b_web", "unknown_tag"].map(|name| counters[name].packets);
    assert_eq!(packets, [1, 1, 6]);
}

/// Making a client, a server and two network functions must stay cheap: every end-to-end test
/// does it.
#[test]
fn load_runs_through_two_functions() {
    require!();
    let started = std::time::Instant::now();
    let bed = Testbed::new().unwrap();
    let (client, server) = client_and_server(bed.node());
    let firewall = |name: &str| {
        let config = BridgeFirewallConfig::new(name, vec![Rule::accept("all", "")]);
        BridgeFirewall::new(bed.node(), config).unwrap()
    };
    let (fw1, fw2) = (firewall("fw1"), firewall("fw2"));
    println!("client, server and two functions made in {:?}", started.elapsed());
    join(bed.node(), &[&["client", "fw1-in"], &["fw1-out", "fw2-in"], &["fw2-out", "server"]]);
    let recorders = [&fw1, &fw2].map(|firewall| firewall.instance().record().unwrap());
    let iperf = IperfServer::start(server.namespace(), 5201).unwrap();
    let report = Iperf::new(server.ipv4(), iperf.port()).run(client.namespace()).unwrap();
    println!("{report:?}");
    let [one, two] = recorders.map(|recorder| recorder.snapshot().unwrap());
    assert_eq!((one.lost, two.lost), (0, 0));
    assert_eq!(one.conversations(), two.conversations());
    assert!(one.frames(|sighting| sighting.tuple.protocol == 6) > 1000);
    assert!(fw2.instance().rule_counters().unwrap()["all"].bytes > report.bytes);
    drop(iperf);
    let started = std::time::Instant::now();
    drop((client, server, fw1, fw2, bed));
    println!("removed in {:?}", started.elapsed());
}
