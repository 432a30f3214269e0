//! Traffic that is not plain datagrams: fragments, ICMP errors, path MTU; and every frame accounted for.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use testbed::measure::{BacklogGuard, Softnet, interface_counters};
use testbed::nf::{BridgeFirewall, Instance, OneArmed, OneArmedConfig};
use testbed::scenario::{
    Stage, TRANSPARENT, eventually, firewalls, function, host, ip, metrics, net, plain, routed_host,
};
use testbed::traffic::{
    Connections, EchoServer, Iperf, IperfServer, Ping, UdpLoad, UdpReceiver, connected_udp, send_from_ports,
};
use testbed::{Documents, FiveTuple, FrontEnd, Host, Kind, Testbed, Way, require};

const SERVICE: u16 = 7000;

/// A client and a server in one subnet, and two stages of two firewalls between them.
struct World {
    client: Host,
    server: Host,
    stages: [Vec<BridgeFirewall>; 2],
    _front_end: FrontEnd,
    testbed: Testbed,
}

impl World {
    fn new() -> Self {
        let testbed = Testbed::new().expect("testbed");
        let node = testbed.node();
        let (client, server) = (host(node, "client", 1).expect("client"), host(node, "server", 2).expect("server"));
        let stages = [["a1", "a2"], ["b1", "b2"]].map(|names| firewalls(node, &names, &[23]).expect("firewalls"));
        let front_end = FrontEnd::start(node).expect("front end");
        let documents = Documents::new()
            .tenant("acme", 100)
            .attachment("acme", "clients", "client", &client)
            .attachment("acme", "servers", "server", &server);
        let documents = function(documents, "a", TRANSPARENT, plain(&stages[0]));
        let documents = function(documents, "b", TRANSPARENT, plain(&stages[1]));
        front_end.apply(&documents.chain("acme", "web", &["a", "b"]));
        Self { client, server, stages, _front_end: front_end, testbed }
    }

    /// Client's and server's address of both families.
    fn families(&self) -> [(IpAddr, IpAddr); 2] {
        [(self.client.ipv4(), self.server.ipv4()), (self.client.ipv6(), self.server.ipv6())]
    }
}

#[test]
fn large_datagrams_pass_in_fragments_through_the_same_instances() {
    require!();
    let world = World::new();
    for (client, server) in world.families() {
        let recorders = world.stages.each_ref().map(|stage| {
            let instances = stage.iter().map(BridgeFirewall::instance);
            let record = |instance: &Instance| (instance.name().to_owned(), instance.record().expect("recorder"));
            instances.map(record).collect::<Vec<_>>()
        });
        let stages = world
            .stages
            .each_ref()
            .map(|stage| Stage::record(stage.iter().map(BridgeFirewall::instance)).expect("recorders"));
        let service = SocketAddr::new(server, SERVICE);
        let _echo = UdpReceiver::start(world.server.namespace(), service, true).expect("receiver");
        let load = UdpLoad {
            datagrams: 200,
            bytes: 8192,
            echo_timeout: Duration::from_secs(5),
            ..UdpLoad::new(SocketAddr::new(client, 30_000), service)
        };
        let report = load.run(world.client.namespace()).expect("load");
        assert!(report.is_perfect(200), "{report:?}");
        for (recorders, stage) in recorders.iter().zip(&stages) {
            let pins = stage.pins("in", |tuple: &FiveTuple| tuple.protocol == 17);
            assert_eq!(pins.len(), 1, "{pins:?}");
            // 8192 bytes are six fragments at 1500; five of them have no ports.
            let at = pins.values().next().expect("one conversation");
            for (name, recorder) in recorders {
                let recording = recorder.snapshot().expect("recording");
                let later = |way| {
                    let is_later = |kind| kind == Kind::LaterFragment;
                    recording.frames(|seen| seen.interface == "in" && seen.way == way && is_later(seen.kind))
                };
                let expected = if name == at { 1000 } else { 0 };
                assert_eq!([Way::Received, Way::Sent].map(later), [expected; 2], "{name}; the first went to {at}");
            }
        }
    }
}

#[test]
fn a_closed_port_is_told_to_the_sender() {
    require!();
    let world = World::new();
    for (client, server) in world.families() {
        let from = SocketAddr::new(client, 31_000);
        let socket = connected_udp(world.client.namespace(), from, SocketAddr::new(server, 9), false).expect("socket");
        socket.set_read_timeout(Some(Duration::from_secs(3))).expect("timeout");
        let stage = Stage::record(world.stages[0].iter().map(BridgeFirewall::instance)).expect("recorders");
        socket.send(b"anybody there?").expect("sent");
        let answer = socket.recv(&mut [0; 16]).expect_err("nobody answers");
        assert_eq!(answer.kind(), ErrorKind::ConnectionRefused, "{answer}");
        let seen = stage.seen("in", |tuple| tuple.protocol == 17).expect("recording");
        assert_eq!(seen.len(), 1);
    }
}

#[test]
fn a_router_in_the_chain_tells_that_the_time_to_live_is_over() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let node = testbed.node();
    let client = routed_host(node, "client", &[("10.0.1.1/24", "10.0.1.254")]).expect("client");
    let server = routed_host(node, "server", &[("10.0.2.2/24", "10.0.2.254")]).expect("server");
    let config = OneArmedConfig {
        name: "r".to_owned(),
        addresses: vec![net("10.0.1.254/24"), net("10.0.2.254/24")],
        routes: Vec::new(),
        rules: Vec::new(),
        mtu: 1500,
    };
    let router = OneArmed::new(node, config).expect("router");
    let firewalls = firewalls(node, &["a1", "a2"], &[]).expect("firewalls");
    let front_end = FrontEnd::start(node).expect("front end");
    let documents = Documents::new()
        .tenant("acme", 100)
        .attachment("acme", "clients", "client", &client)
        .attachment("acme", "servers", "server", &server);
    let documents = function(documents, "a", TRANSPARENT, plain(&firewalls));
    let spec = "forwarding: routed, tupleEffect: keeps, addresses: [10.0.1.254, 10.0.2.254]";
    let documents = function(documents, "r", spec, [(router.instance(), String::new())]);
    front_end.apply(&documents.chain("acme", "web", &["a", "r"]));
    let probe = |hops: &str| {
        let mut command = client.namespace().command("ping");
        command.args(["-n", "-c", "1", "-W", "2", "-t", hops, "10.0.2.2"]).env("LC_ALL", "C");
        String::from_utf8_lossy(&command.output().expect("ping runs").stdout).into_owned()
    };
    eventually("the server answers", || probe("64").contains("1 received"));
    let trace = probe("1");
    assert!(trace.contains("From 10.0.1.254") && trace.contains("Time to live exceeded"), "{trace}");
    let trace = probe("2");
    assert!(trace.contains("64 bytes from 10.0.2.2"), "{trace}");
}

#[test]
fn a_smaller_path_mtu_is_learnt() {
    require!();
    let world = World::new();
    // Only the node's end: the server itself knows nothing of it and offers full-sized segments.
    world.server.node.namespace.ip(&["link set server mtu 1400".into()]).expect("MTU");
    for (client, server) in world.families() {
        let headers = if client.is_ipv4() { 28 } else { 48 };
        let service = SocketAddr::new(server, SERVICE);
        let from = SocketAddr::new(client, 32_000);
        let receiver = UdpReceiver::start(world.server.namespace(), service, false).expect("receiver");
        let socket = connected_udp(world.client.namespace(), from, service, true).expect("socket");
        let mut refused = None;
        eventually("the sender learns the MTU", || {
            refused = socket.send(&[0; 1450]).err();
            refused.is_some()
        });
        assert_eq!(refused.and_then(|error| error.raw_os_error()), Some(90), "EMSGSIZE");
        // Answers to datagrams still on their way are reported by later calls.
        eventually("what fits is taken", || socket.send(&vec![0; 1400 - headers]).is_ok());
        for _ in 0..5 {
            let refused = socket.send(&vec![0; 1401 - headers]).expect_err("one byte more than fits");
            assert_eq!(refused.raw_os_error(), Some(90), "EMSGSIZE");
        }
        eventually("what fits arrives", || receiver.by_source().contains_key(&from));
        // TCP sends full-sized segments, is told, and carries on with smaller ones.
        let _server = IperfServer::start(world.server.namespace(), 5201).expect("iperf3");
        let report = Iperf::new(server, 5201).run(world.client.namespace()).expect("iperf3");
        println!("TCP over a path MTU of 1400: {:.2} Gbit/s, {:?} retransmits", report.gbit_per_s, report.retransmits);
        assert!(report.bytes > 1_000_000, "{report:?}");
    }
}

/// Frames that entered, and where they went: out, or under a reason.
fn account(world: &World) -> (u64, u64) {
    let metrics = metrics(world.testbed.node());
    let sum = |name: &str| -> u64 {
        metrics.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, value)| *value as u64).sum()
    };
    let entered = metrics["switchyard_events_total{event=\"frames_in\"}"] as u64;
    (entered, sum("switchyard_frames_total{") + sum("switchyard_drops_total{"))
}

/// Frames that the kernel counts on all ports at the node.
fn received(world: &World) -> u64 {
    let counters = interface_counters(world.testbed.node().namespace()).expect("counters");
    counters.iter().filter(|(name, _)| *name != "lo").map(|(_, counters)| counters.received).sum()
}

#[test]
fn every_frame_is_accounted_for() {
    require!();
    let world = World::new();
    let _backlog = BacklogGuard::raise(100_000).expect("backlog");
    let softnet = Softnet::now().expect("softnet");
    let (entered_before, _) = account(&world);
    let received_before = received(&world);
    let (client, server) = (world.client.namespace(), world.server.namespace());
    for (from, to) in world.families() {
        let _iperf = IperfServer::start(server, 5201).expect("iperf3");
        let _echo = EchoServer::start(server, SocketAddr::new(to, SERVICE)).expect("echo");
        let udp = UdpReceiver::start(server, SocketAddr::new(to, SERVICE), true).expect("echo");
        let load = Iperf { streams: 4, ..Iperf::new(to, 5201) };
        let mut running = load.start(client).expect("iperf3");
        Connections::open(client, SocketAddr::new(to, SERVICE), 50).expect("connections");
        send_from_ports(client, from, 20_000..=20_499, SocketAddr::new(to, SERVICE)).expect("UDP");
        udp.wait_for(500, Duration::from_secs(5)).expect("all datagrams");
        let large =
            UdpLoad { bytes: 8192, ..UdpLoad::new(SocketAddr::new(from, 30_000), SocketAddr::new(to, SERVICE)) };
        large.run(client).expect("load");
        assert!(Ping::new(to).run(client).expect("ping").is_perfect());
        // To nobody: the question is carried across and stays without an answer. To a shut port: the firewall drops it.
        drop(Ping { count: 1, timeout: Duration::from_millis(100), ..Ping::new(nobody(to)) }.run(client));
        assert!(!testbed::traffic::tcp_connects(client, SocketAddr::new(to, 23)));
        testbed::traffic::IperfReport::of(&mut running, Duration::from_secs(10)).expect("iperf3");
    }
    // What still waits in the kernel's queues is counted when it is through.
    let mut latest = (0, 0, 0);
    eventually("frames in are frames out and reasons", || {
        let (entered, left) = account(&world);
        latest = (entered - entered_before, left - entered_before, received(&world) - received_before);
        latest.0 == latest.1 && latest.0 == latest.2
    });
    let lost = Softnet::now().expect("softnet").since(softnet);
    println!("{} frames in, all out or under a reason; {} dropped by the kernel", latest.0, lost.dropped);
    assert!(latest.0 > 10_000);
    assert_eq!(lost.dropped, 0);
}

fn nobody(server: IpAddr) -> IpAddr {
    if server.is_ipv4() { ip("10.0.0.99") } else { ip("fd00::99") }
}
