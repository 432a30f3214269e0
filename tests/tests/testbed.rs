//! Tests of the testbed itself, with a plain Linux bridge where the front end will be.

use std::{
    env, fs,
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use testbed::{
    FiveTuple, Host, HostConfig, Kind, MacAddr, Namespace, Node, Recorder, Testbed, Way, bridge,
    nf::{
        Action, BridgeFirewall, BridgeFirewallConfig, Rule, SharedFirewall, SharedFirewallConfig,
        Snat, SnatConfig, TenantRules, Tracking, Translation,
    },
    require,
    traffic::{Curl, Iperf, IperfServer, Ping, UdpLoad, UdpReceiver, WebServer, send_from_ports},
};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Client 10.0.0.1 and server 10.0.0.2 of one subnet, IPv4 and IPv6.
fn client_and_server(node: &Node) -> (Host, Host) {
    let host = |name, last| {
        let config = HostConfig::new(name)
            .mac(MacAddr([2, 0, 0, 0, 0, last]))
            .address(net(&format!("10.0.0.{last}/24")))
            .address(net(&format!("fd00::{last}/64")));
        Host::new(node, config).unwrap()
    };
    (host("client", 1), host("server", 2))
}

/// Bridges each pair of node interfaces: the static chain client - NF - server.
fn join(node: &Node, pairs: &[(&str, &str)]) {
    for (index, (a, b)) in pairs.iter().enumerate() {
        bridge(node.namespace(), &format!("join{index}"), &[a, b]).unwrap();
    }
}

fn tcp_connects(from: &Namespace, to: SocketAddr) -> bool {
    let timeout = Duration::from_millis(500);
    from.run(|| std::net::TcpStream::connect_timeout(&to, timeout).is_ok())
        .unwrap()
}

#[test]
fn two_hosts_ping_and_transfer() {
    require!();
    let started = Instant::now();
    let bed = Testbed::new().unwrap();
    let (client, server) = client_and_server(bed.node());
    join(bed.node(), &[("client", "server")]);
    println!("two hosts made in {:?}", started.elapsed());
    for to in [server.ipv4(), server.ipv6()] {
        let report = Ping::new(to).run(client.namespace()).unwrap();
        assert!(report.is_perfect(), "{to}: {report:?}");
        assert!(report.rtt_ms.unwrap().max < 1000.0, "{report:?}");
    }
    let unanswered = Ping {
        count: 1,
        timeout: Duration::from_millis(100),
        ..Ping::new(ip("10.0.0.9"))
    };
    assert_eq!(unanswered.run(client.namespace()).unwrap().received, 0);

    let iperf = IperfServer::start(server.namespace(), 5201).unwrap();
    let report = Iperf::new(server.ipv4(), iperf.port())
        .run(client.namespace())
        .unwrap();
    println!("{report:?}");
    assert!(report.gbit_per_s > 0.1 && report.bytes > 0, "{report:?}");
    assert!(report.retransmits.is_some() && report.datagrams.is_none());

    let load = Iperf {
        udp: Some((1400, 10_000_000)),
        ..Iperf::new(server.ipv4(), 5201)
    };
    let (sent, lost) = load.run(client.namespace()).unwrap().datagrams.unwrap();
    assert!(sent > 500 && lost < sent, "{lost} of {sent}");
}

#[test]
fn firewall_blocks_what_it_should() {
    require!();
    let started = Instant::now();
    let bed = Testbed::new().unwrap();
    let (client, server) = client_and_server(bed.node());
    let rules = vec![
        Rule::drop("telnet", "tcp dport 23"),
        Rule::accept("web", "tcp dport 80"),
    ];
    let config = BridgeFirewallConfig::new("fw", rules);
    let firewall = BridgeFirewall::new(bed.node(), config).unwrap();
    println!(
        "client, server and firewall made in {:?}",
        started.elapsed()
    );
    join(bed.node(), &[("client", "fw-in"), ("fw-out", "server")]);
    let recorder = firewall.instance().record().unwrap();
    for port in [23, 80] {
        WebServerPair::check(&client, &server, port, port == 80);
    }
    let counters = firewall.instance().rule_counters().unwrap();
    assert!(counters["telnet"].packets >= 1, "{counters:?}");
    assert!(counters["web"].packets >= 3, "{counters:?}");
    let seen = recorder.snapshot().unwrap();
    assert_eq!(seen.lost, 0);
    let to_port = |port| move |tuple: &FiveTuple| tuple.destination_port == port;
    assert!(seen.tuples("in", Way::Received).iter().any(to_port(23)));
    assert!(!seen.tuples("out", Way::Sent).iter().any(to_port(23)));
    assert!(seen.tuples("out", Way::Sent).iter().any(to_port(80)));
}

/// A web server on one port, asked once.
struct WebServerPair;

impl WebServerPair {
    fn check(client: &Host, server: &Host, port: u16, reachable: bool) {
        let address = SocketAddr::new(server.ipv4(), port);
        let web = WebServer::start(server.namespace(), address, &[("large", 300_000)]).unwrap();
        assert_eq!(
            tcp_connects(client.namespace(), address),
            reachable,
            "port {port}"
        );
        if reachable {
            let answer = Curl::new(web.url("/")).run(client.namespace()).unwrap();
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (200, &b"server\n"[..])
            );
            assert_eq!(answer.header("x-served-by"), Some("server"));
            let large = Curl::new(web.url("/large"))
                .run(client.namespace())
                .unwrap();
            assert!(large.body == WebServer::content(300_000));
            let missing = Curl::new(web.url("/missing"))
                .run(client.namespace())
                .unwrap();
            assert_eq!(missing.status, 404);
        }
    }
}
