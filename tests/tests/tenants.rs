//! What passes from one tenant to another: interfaces, numbers. Frames, records and counts do not come along.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use testbed::measure::BacklogGuard;
use testbed::nf::BridgeFirewall;
use testbed::scenario::{Site, Stage, TRANSPARENT, eventually, firewalls, function, plain};
use testbed::traffic::{Connections, EchoServer, UdpLoad, UdpReceiver, send_from_ports};
use testbed::{Documents, FrontEnd, Node, Testbed, require};

const SERVICE: u16 = 7000;

/// Hosts with the addresses that every tenant here uses; their functions are laid out by each test.
fn hosts(node: &Node, name: &str) -> Site {
    Site::new(node, name, &[], &[]).expect("hosts")
}

fn record(firewalls: &[BridgeFirewall]) -> Stage {
    Stage::record(firewalls.iter().map(BridgeFirewall::instance)).expect("recorders")
}

/// Instances and positions of a trace, and whether it came from a record.
fn trace(front_end: &FrontEnd, tenant: &str, from: SocketAddr, to: SocketAddr) -> (Vec<(String, u64)>, bool) {
    let trace = front_end.json(&["trace", "--tenant", tenant, "udp", &from.to_string(), &to.to_string()]);
    let hops = trace["hops"].as_array().expect("hops").iter();
    let hop = |hop: &serde_json::Value| {
        let target = hop["target"].as_str().expect("a target").rsplit('/').next().expect("a name").to_owned();
        (target, hop["position"].as_u64().expect("a position"))
    };
    (hops.map(hop).collect(), trace["hasRecord"].as_bool().expect("true or false"))
}

#[test]
fn a_trace_of_a_recorded_flow_is_of_its_own_tenants_view() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let node = testbed.node();
    let tenants = ["red", "blue"].map(|name| hosts(node, name));
    let firewalls = firewalls(node, &["red1", "blue1", "blue2"], &[]).expect("firewalls");
    let front_end = FrontEnd::start(node).expect("front end");
    let documents = Documents::new().tenant("red", 1).tenant("blue", 2);
    let documents = documents.hosts("red", &tenants[0].client, &tenants[0].server);
    let documents = documents.hosts("blue", &tenants[1].client, &tenants[1].server);
    let documents = function(documents, "fw-red", TRANSPARENT, plain(&firewalls[..1]));
    let documents = function(documents, "first", TRANSPARENT, plain(&firewalls[1..2]));
    let documents = function(documents, "second", TRANSPARENT, plain(&firewalls[2..]));
    // View 1 of each; what is a position of one view is none of the other.
    front_end.apply(&documents.chain("red", "web", &["fw-red"]).chain("blue", "web", &["first", "second"]));
    let views = front_end.json(&["status"])["views"].clone();
    assert!(
        views.as_array().is_some_and(|views| views.len() == 2 && views.iter().all(|it| it["view"] == 1)),
        "{views}"
    );
    for (tenant, hosts, path) in
        [("red", &tenants[0], &["red1", "servers"][..]), ("blue", &tenants[1], &["blue1", "blue2", "servers"])]
    {
        let echo = UdpReceiver::start(hosts.server.namespace(), hosts.service(SERVICE), true).expect("receiver");
        let from = SocketAddr::new(hosts.client.ipv4(), 20_000);
        let (expected, has_record) = trace(&front_end, tenant, from, hosts.service(SERVICE));
        assert_eq!(expected.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), path);
        assert!(!has_record && expected.windows(2).all(|hops| hops[0].1 > hops[1].1), "{tenant}: {expected:?}");
        send_from_ports(hosts.client.namespace(), from.ip(), 20_000..=20_000, hosts.service(SERVICE)).expect("UDP");
        echo.wait_for(1, Duration::from_secs(5)).expect("a datagram");
        assert_eq!(trace(&front_end, tenant, from, hosts.service(SERVICE)), (expected, true), "{tenant}");
    }
}

/// Datagrams by source port that a firewall handed on, and that arrived at a server.
fn counts(firewall: &Stage, server: &UdpReceiver) -> [BTreeMap<u16, u64>; 2] {
    let sent = firewall.frames("out", testbed::Way::Sent).expect("recording");
    let sent = sent.into_iter().filter(|(tuple, _)| tuple.protocol == 17).map(|(tuple, n)| (tuple.source_port, n));
    let arrived = server.by_source().into_iter().map(|(from, report)| (from.port(), report.received));
    [sent.collect(), arrived.collect()]
}

#[test]
fn interfaces_that_two_tenants_exchange_change_hands_at_once() {
    require!();
    const DATAGRAMS: u64 = 4000;
    let _backlog = BacklogGuard::raise(100_000).expect("backlog");
    let testbed = Testbed::new().expect("testbed");
    let node = testbed.node();
    let [first, second] = ["one", "two"].map(|name| hosts(node, name));
    let firewalls = firewalls(node, &["red1", "blue1"], &[]).expect("firewalls");
    let front_end = FrontEnd::start(node).expect("front end");
    let documents = Documents::new().tenant("red", 1).tenant("blue", 2);
    let documents = documents.hosts("red", &first.client, &first.server);
    let documents = documents.hosts("blue", &second.client, &second.server);
    let documents = function(documents, "fw-red", TRANSPARENT, plain(&firewalls[..1]));
    let documents = function(documents, "fw-blue", TRANSPARENT, plain(&firewalls[1..]));
    front_end.apply(&documents.chain("red", "web", &["fw-red"]).chain("blue", "web", &["fw-blue"]));
    assert!(first.ping() && second.ping());
    let stages = [record(&firewalls[..1]), record(&firewalls[1..])];
    let servers = [&first, &second]
        .map(|hosts| UdpReceiver::start(hosts.server.namespace(), hosts.service(SERVICE), false).expect("receiver"));
    // Each client is known by its port.
    let load = |hosts: &Site, port| {
        let from = SocketAddr::new(hosts.client.ipv4(), port);
        UdpLoad { datagrams: DATAGRAMS, per_second: Some(2000), ..UdpLoad::new(from, hosts.service(SERVICE)) }
    };
    let (ours, theirs) = (load(&first, 1001), load(&second, 1002));
    std::thread::scope(|scope| {
        let running = [
            scope.spawn(|| ours.run(first.client.namespace()).expect("load")),
            scope.spawn(|| theirs.run(second.client.namespace()).expect("load")),
        ];
        for server in &servers {
            server.wait_for(500, Duration::from_secs(5)).expect("datagrams");
        }
        let ports = |server: &UdpReceiver| server.by_source().keys().map(SocketAddr::port).collect::<Vec<_>>();
        assert_eq!(servers.each_ref().map(ports), [[1001], [1002]], "before the exchange");
        let exchanged = Documents::new().attachment("red", "clients", "client", &second.client).attachment(
            "blue",
            "clients",
            "client",
            &first.client,
        );
        front_end.apply(&exchanged);
        // From here on each client's datagrams are the other tenant's. Those still on their way have arrived when later ones have.
        let received = |server: &UdpReceiver, port| {
            let by_source = server.by_source();
            by_source.iter().find(|(from, _)| from.port() == port).map_or(0, |(_, report)| report.received)
        };
        eventually("the exchanged ones arrive", || {
            received(&servers[0], 1002) > 100 && received(&servers[1], 1001) > 100
        });
        let left = [received(&servers[0], 1001), received(&servers[1], 1002)];
        for load in running {
            load.join().expect("load");
        }
        eventually("all datagrams have arrived", || {
            let total: u64 =
                servers.iter().flat_map(|server| server.by_source().into_values()).map(|r| r.received).sum();
            total == 2 * DATAGRAMS
        });
        let at_the_end = [received(&servers[0], 1001), received(&servers[1], 1002)];
        assert_eq!(at_the_end, left, "a client's datagrams still came to the tenant it had left");
    });
    for (stage, server) in stages.iter().zip(&servers) {
        let [passed, arrived] = counts(stage, server);
        assert_eq!(passed, arrived, "a server got what did not come through its own tenant's firewall");
        assert_eq!(arrived.keys().copied().collect::<Vec<_>>(), [1001, 1002]);
        assert!(server.by_source().values().all(|report| report.duplicates == 0 && report.damaged == 0));
    }
    // Both directions, each by its own tenant's firewall.
    for (client, server, at, not) in [(&first, &second, 1, 0), (&second, &first, 0, 1)] {
        let stages = [record(&firewalls[..1]), record(&firewalls[1..])];
        let _echo = EchoServer::start(server.server.namespace(), server.service(SERVICE)).expect("echo");
        let mut connections =
            Connections::open(client.client.namespace(), server.service(SERVICE), 10).expect("connections");
        connections.exchange().expect("connections live");
        assert_eq!(stages[at].pins("in", |tuple| tuple.protocol == 6).len(), 10);
        assert!(stages[not].seen("in", |tuple| tuple.protocol == 6).expect("recording").is_empty());
    }
}

/// One tenant with two firewalls, of which the first gets no new flows any more, and connections at both.
struct Leaving {
    hosts: Site,
    firewalls: Vec<BridgeFirewall>,
    front_end: FrontEnd,
    connections: Connections,
    _echo: EchoServer,
    testbed: Testbed,
}

const VNI: u32 = 7;
const CONNECTIONS: usize = 30;

impl Leaving {
    fn new() -> Self {
        let testbed = Testbed::new().expect("testbed");
        let hosts = self::hosts(testbed.node(), "one");
        let firewalls = firewalls(testbed.node(), &["fw1", "fw2"], &[]).expect("firewalls");
        let front_end = FrontEnd::start(testbed.node()).expect("front end");
        let documents = Documents::new().tenant("red", VNI).hosts("red", &hosts.client, &hosts.server);
        let documents = function(documents, "fw", TRANSPARENT, plain(&firewalls));
        front_end.apply(&documents.chain("red", "web", &["fw"]));
        let echo = EchoServer::start(hosts.server.namespace(), hosts.service(SERVICE)).expect("echo");
        let mut connections =
            Connections::open(hosts.client.namespace(), hosts.service(SERVICE), CONNECTIONS).expect("connections");
        let first = firewalls[0].instance();
        front_end.apply(&Documents::new().instance("fw", first.name(), first, ", weight: 0"));
        let stage = record(&firewalls);
        connections.exchange().expect("connections live");
        let pins = stage.pins("in", |tuple| tuple.protocol == 6);
        assert!(pins.values().any(|name| name == first.name()) && pins.len() == CONNECTIONS, "{pins:?}");
        Self { hosts, firewalls, front_end, connections, _echo: echo, testbed }
    }

    fn delete(front_end: &FrontEnd) {
        let ran = front_end.run(&["delete", "tenant", "red", "--force"]).expect("command line");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }

    /// Another tenant with the same number, interfaces, addresses and functions. Its frames are looked at as new ones: had
    /// it the other's records, they would go to the first firewall, which gets no new flows.
    fn inherits_nothing(mut self) {
        let flows = self.front_end.json(&["flows"]);
        assert_eq!(flows.as_array().map(Vec::len), Some(0), "{flows:#}");
        let documents = Documents::new().tenant("green", VNI).hosts("green", &self.hosts.client, &self.hosts.server);
        self.front_end.apply(&documents.chain("green", "web", &["fw"]));
        let status = self.front_end.json(&["status"]);
        let tenant = &status["tenants"][0];
        assert_eq!((&tenant["unanswered"], &tenant["established"]), (&0.into(), &0.into()), "{status:#}");
        let stage = record(&self.firewalls);
        self.connections.exchange().expect("connections live");
        let pins = stage.pins("in", |tuple| tuple.protocol == 6);
        let places: BTreeSet<&str> = pins.values().map(String::as_str).collect();
        assert_eq!((pins.len(), places), (CONNECTIONS, BTreeSet::from(["fw2"])));
    }
}

#[test]
fn a_tenant_with_the_number_of_a_deleted_one_inherits_nothing() {
    require!();
    let world = Leaving::new();
    Leaving::delete(&world.front_end);
    world.front_end.wait_programmed();
    world.inherits_nothing();
}

#[test]
fn nor_does_it_if_the_process_was_killed_before_the_data_path_heard_of_it() {
    require!();
    let mut world = Leaving::new();
    world.front_end.kill().expect("kill -9");
    // The deletion is in the store, and nowhere else: it is made by a process with a data path of its own.
    let aside = world.testbed.add_node("aside").expect("node");
    let mut other = FrontEnd::start(&aside).expect("front end");
    other.restart_with_state(world.front_end.state_directory()).expect("it serves");
    Leaving::delete(&other);
    drop(other);
    world.front_end.restart().expect("restart");
    world.front_end.wait_programmed();
    world.inherits_nothing();
}
