//! Traffic that is not plain datagrams: fragments, ICMP errors, path MTU; and every frame accounted for.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use testbed::measure::{BacklogGuard, Softnet, interface_counters};
use testbed::nf::{BridgeFirewall, Instance};
use testbed::scenario::{
    OneTenant, ROUTED, Site, TRANSPARENT, eventually, firewalls, function, ip, metrics, plain, routed_pair, router,
};
use testbed::traffic::{
    Connections, EchoServer, Iperf, IperfServer, Ping, UdpLoad, UdpReceiver, connected_udp, send_from_ports,
};
use testbed::{Documents, FiveTuple, FrontEnd, KernelDrop, KernelDrops, Kind, Namespace, Testbed, Way, require};

const SERVICE: u16 = 7000;

const FUNCTIONS: [&str; 2] = ["a", "b"];

fn world() -> OneTenant {
    OneTenant::with_two_stages(&[23]).expect("a tenant")
}

/// Client's and server's address of both families.
fn families(world: &OneTenant) -> [(IpAddr, IpAddr); 2] {
    let Site { client, server, .. } = &world.site;
    [(client.ipv4(), server.ipv4()), (client.ipv6(), server.ipv6())]
}

#[test]
fn large_datagrams_pass_in_fragments_through_the_same_instances() {
    require!();
    let world = world();
    for (client, server) in families(&world) {
        let recorders = FUNCTIONS.map(|function| {
            let instances = world.site.members(function).iter().map(BridgeFirewall::instance);
            let record = |instance: &Instance| (instance.name().to_owned(), instance.record().expect("recorder"));
            instances.map(record).collect::<Vec<_>>()
        });
        let stages = FUNCTIONS.map(|function| world.site.record(function).expect("recorders"));
        let service = SocketAddr::new(server, SERVICE);
        let _echo = UdpReceiver::start(world.site.server.namespace(), service, true).expect("receiver");
        let load = UdpLoad {
            datagrams: 200,
            bytes: 8192,
            echo_timeout: Duration::from_secs(5),
            ..UdpLoad::new(SocketAddr::new(client, 30_000), service)
        };
        let report = load.run(world.site.client.namespace()).expect("load");
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
    let world = world();
    for (client, server) in families(&world) {
        let from = SocketAddr::new(client, 31_000);
        let socket =
            connected_udp(world.site.client.namespace(), from, SocketAddr::new(server, 9), false).expect("socket");
        socket.set_read_timeout(Some(Duration::from_secs(3))).expect("timeout");
        let stage = world.site.record("a").expect("recorders");
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
    let (client, server) = routed_pair(node).expect("hosts");
    let router = router(node, "r").expect("router");
    let firewalls = firewalls(node, &["a1", "a2"], &[]).expect("firewalls");
    let front_end = FrontEnd::start(node).expect("front end");
    let documents = Documents::new().tenant("acme", 100).hosts("acme", &client, &server);
    let documents = function(documents, "a", TRANSPARENT, plain(&firewalls));
    let documents = function(documents, "r", ROUTED, [(router.instance(), String::new())]);
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
    let world = world();
    // Only the node's end: the server itself knows nothing of it and offers full-sized segments.
    let node = &world.site.server.node;
    node.namespace.ip(&[format!("link set {} mtu 1400", node.interface)]).expect("MTU");
    for (client, server) in families(&world) {
        let headers = if client.is_ipv4() { 28 } else { 48 };
        let service = SocketAddr::new(server, SERVICE);
        let from = SocketAddr::new(client, 32_000);
        let receiver = UdpReceiver::start(world.site.server.namespace(), service, false).expect("receiver");
        let socket = connected_udp(world.site.client.namespace(), from, service, true).expect("socket");
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
        let _server = IperfServer::start(world.site.server.namespace(), 5201).expect("iperf3");
        let report = Iperf::new(server, 5201).run(world.site.client.namespace()).expect("iperf3");
        println!("TCP over a path MTU of 1400: {:.2} Gbit/s, {:?} retransmits", report.gbit_per_s, report.retransmits);
        assert!(report.bytes > 1_000_000, "{report:?}");
    }
}

/// What the programs count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Account {
    entered: u64,
    left: u64,
    dropped: u64,
}

impl Account {
    fn now(world: &OneTenant) -> Self {
        let metrics = metrics(world.testbed.node());
        let sum = |name: &str| -> u64 {
            metrics.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, value)| *value as u64).sum()
        };
        let entered = metrics["switchyard_events_total{event=\"frames_in\"}"] as u64;
        Self { entered, left: sum("switchyard_frames_total{"), dropped: sum("switchyard_drops_total{") }
    }

    fn since(self, before: Self) -> Self {
        Self {
            entered: self.entered - before.entered,
            left: self.left - before.left,
            dropped: self.dropped - before.dropped,
        }
    }
}

/// Frames that the kernel counts on all ports at the node.
fn received(world: &OneTenant) -> u64 {
    let counters = interface_counters(world.testbed.node().namespace()).expect("counters");
    counters.iter().filter(|(name, _)| *name != "lo").map(|(_, counters)| counters.received).sum()
}

#[test]
fn every_frame_is_accounted_for() {
    require!();
    let world = world();
    let _backlog = BacklogGuard::raise(100_000).expect("backlog");
    let softnet = Softnet::now().expect("softnet");
    let drops = KernelDrops::watch().expect("the kernel's drops");
    let (before, fate_before) = snapshot(&world, &drops);
    let received_before = received(&world);
    let (client, server) = (world.site.client.namespace(), world.site.server.namespace());
    for (from, to) in families(&world) {
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
    // To a group: the programs carry none.
    let group = SocketAddr::new(ip("224.0.0.251"), SERVICE);
    send_from_ports(client, world.site.client.ipv4(), 21_000..=21_049, group).expect("UDP");
    // What still waits in the kernel's queues is counted when it is through.
    let mut latest = (before, Fate::default());
    eventually("frames in are frames out and reasons", || {
        let (counted, fate) = snapshot(&world, &drops);
        let counted = counted.since(before);
        latest = (counted, fate);
        counted.entered == counted.left + counted.dropped && counted.entered == received(&world) - received_before
    });
    let lost = Softnet::now().expect("softnet").since(softnet);
    let (counted, fate) = latest;
    println!("{counted:?}; {} dropped in the kernel's backlogs", lost.dropped);
    assert!(counted.entered > 10_000 && counted.dropped >= 50);
    assert_eq!(lost.dropped, 0);
    let by_program = fate.by_program - fate_before.by_program;
    assert_eq!(by_program, counted.dropped, "the kernel drops what the programs tell it to, and they count it");
    let rules = world.site.instances().map(|instance| instance.rule_counters().expect("counters"));
    let refused: u64 = rules.flat_map(BTreeMap::into_values).map(|count| count.packets).sum();
    assert_eq!(fate.by_rule, refused, "a firewall drops by its rules");
    assert!(fate.unexplained.is_empty(), "dropped by the kernel after the program returned: {:#?}", fate.unexplained);
}

/// What the programs count and what the kernel dropped at one moment, while hardly anything passes.
fn snapshot(world: &OneTenant, drops: &KernelDrops) -> (Account, Fate) {
    loop {
        let counted = Account::now(world);
        let fate = Fate::of(world, drops);
        if Account::now(world) == counted {
            return (counted, fate);
        }
    }
}

/// Frames that the kernel dropped since it is watched.
#[derive(Default)]
struct Fate {
    /// At the node, because a program said so.
    by_program: u64,
    /// In a network function, because a rule said so.
    by_rule: u64,
    /// Otherwise, by namespace.
    unexplained: BTreeMap<String, Vec<(KernelDrop, u64)>>,
}

impl Fate {
    fn of(world: &OneTenant, drops: &KernelDrops) -> Self {
        let mut fate = Self::default();
        let mut look = |namespace: &Namespace, explain: &dyn Fn(&mut Self, &KernelDrop, u64) -> bool| {
            for (drop, count) in drops.of(namespace).expect("the kernel's drops") {
                if !explain(&mut fate, &drop, count) {
                    fate.unexplained.entry(namespace.short_name().to_owned()).or_default().push((drop, count));
                }
            }
        };
        look(world.testbed.node().namespace(), &|fate, drop, count| {
            if drop.reason == "TC_INGRESS" {
                fate.by_program += count;
            }
            // The agent's own runs of a program leave a buffer that never was a frame.
            drop.reason == "TC_INGRESS" || drop.function == "bpf_prog_test_run_skb"
        });
        for instance in world.site.instances() {
            look(instance.namespace(), &|fate, drop, count| {
                if drop.reason == "NETFILTER_DROP" {
                    fate.by_rule += count;
                }
                drop.reason == "NETFILTER_DROP"
            });
        }
        for host in [&world.site.client, &world.site.server] {
            look(host.namespace(), &|_, drop, _| arrived(drop));
        }
        fate
    }
}

/// Whether a host dropped a frame because it had arrived where it should, and nobody wanted it any more: an answer to a socket
/// that is closed, a segment that TCP had already or whose connection is over, the question for an address that nobody has.
fn arrived(drop: &KernelDrop) -> bool {
    match drop.reason.as_str() {
        "NO_SOCKET" => true,
        "NOT_SPECIFIED" => drop.function.starts_with("tcp_") || drop.function == "ip6_mc_input",
        reason => reason.starts_with("TCP_") && reason != "TCP_CSUM",
    }
}

/// What the program delivers to a port that went down behind its back is lost without a reason of ours. The test above would
/// see it.
#[test]
fn a_frame_that_is_lost_behind_the_program_does_not_go_unseen() {
    require!();
    const DATAGRAMS: u16 = 20;
    let mut world = world();
    assert!(world.site.ping());
    // Nobody is left to tell the programs that the port is down.
    world.front_end.kill().expect("kill -9");
    world.site.server.eth0.set_up(false).expect("link down");
    let drops = KernelDrops::watch().expect("the kernel's drops");
    let to = SocketAddr::new(world.site.server.ipv4(), SERVICE);
    send_from_ports(world.site.client.namespace(), world.site.client.ipv4(), 20_000..=20_000 + DATAGRAMS - 1, to)
        .expect("UDP");
    eventually("every frame's loss is seen", || {
        let fate = Fate::of(&world, &drops);
        let at_the_node = fate.unexplained.get("node").map_or(0, |drops| drops.iter().map(|(_, count)| count).sum());
        assert_eq!((fate.by_program, fate.by_rule), (0, 0));
        at_the_node == u64::from(DATAGRAMS)
    });
}

fn nobody(server: IpAddr) -> IpAddr {
    if server.is_ipv4() { ip("10.0.0.99") } else { ip("fd00::99") }
}
