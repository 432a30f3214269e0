//! Changes of a replica set under traffic: which flows move and which do not, judged from what the instances saw.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use testbed::nf::BridgeFirewall;
use testbed::scenario::{Stage, TRANSPARENT, firewalls, function, host, plain};
use testbed::traffic::{Connections, EchoServer};
use testbed::{Documents, FiveTuple, FrontEnd, Host, Testbed, require};

const CONNECTIONS: usize = 60;
const SERVICE: u16 = 7000;

/// A client, a server, and firewalls `a`, `b`, `c`, `d`, of which the first `declared` are in the replica set.
struct World {
    _testbed: Testbed,
    client: Host,
    server: Host,
    firewalls: Vec<BridgeFirewall>,
    front_end: FrontEnd,
    _echo: EchoServer,
}

type Pins = BTreeMap<FiveTuple, String>;

impl World {
    fn new(declared: usize) -> Self {
        let testbed = Testbed::new().expect("testbed");
        let node = testbed.node();
        let (client, server) = (host(node, "client", 1).expect("client"), host(node, "server", 2).expect("server"));
        let firewalls = firewalls(node, &["a", "b", "c", "d"], &[]).expect("firewalls");
        let front_end = FrontEnd::start(node).expect("front end");
        let documents = Documents::new().tenant("acme", 100).hosts("acme", &client, &server);
        let documents = function(documents, "fw", TRANSPARENT, plain(&firewalls[..declared]));
        front_end.apply(&documents.chain("acme", "web", &["fw"]));
        let service = SocketAddr::new(server.ipv4(), SERVICE);
        let echo = EchoServer::start(server.namespace(), service).expect("echo server");
        Self { _testbed: testbed, client, server, firewalls, front_end, _echo: echo }
    }

    fn connect(&self) -> Connections {
        let service = SocketAddr::new(self.server.ipv4(), SERVICE);
        Connections::open(self.client.namespace(), service, CONNECTIONS).expect("connections")
    }

    fn record(&self) -> Stage {
        Stage::record(self.firewalls.iter().map(BridgeFirewall::instance)).expect("recorders")
    }

    /// Where each connection is, both ways, from one exchange on all of them.
    fn pins(&self, connections: &mut Connections) -> Pins {
        let stage = self.record();
        connections.exchange().expect("every connection lives");
        pins_of(&stage, connections)
    }

    /// Declares firewall `index` with more said about it, or for the first time.
    fn declare(&self, index: usize, more: &str) {
        let firewall = self.firewalls[index].instance();
        self.front_end.apply(&Documents::new().instance("fw", firewall.name(), firewall, more));
    }

    /// Makes a change while all connections exchange messages without a break.
    fn during_traffic(&self, connections: &mut Connections, change: impl FnOnce(&Self)) {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let traffic = scope.spawn(|| {
                let mut rounds = 0_u32;
                while !done.load(Ordering::Relaxed) {
                    connections.exchange().expect("every connection lives");
                    rounds += 1;
                }
                rounds
            });
            // A panic of the change must not leave the traffic running.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(self)));
            done.store(true, Ordering::Relaxed);
            let rounds = traffic.join().expect("traffic during the change");
            assert!(rounds > 0);
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }
}

/// Where these connections were since the recording began; others may still be closing.
fn pins_of(stage: &Stage, connections: &Connections) -> Pins {
    let ports: BTreeSet<u16> = connections.ports().expect("ports").into_iter().collect();
    let mine = |tuple: &FiveTuple| ports.contains(&tuple.source_port) || ports.contains(&tuple.destination_port);
    let pins = stage.pins("in", mine);
    assert_eq!(pins.len(), CONNECTIONS);
    pins
}

fn at<'a>(pins: &'a Pins, instance: &str) -> BTreeSet<&'a FiveTuple> {
    pins.iter().filter(|(_, at)| *at == instance).map(|(tuple, _)| tuple).collect()
}

fn moved(before: &Pins, after: &Pins) -> BTreeSet<FiveTuple> {
    before.iter().filter(|(tuple, instance)| after.get(tuple) != Some(instance)).map(|(tuple, _)| *tuple).collect()
}

#[test]
fn adding_an_instance_moves_no_established_flow() {
    require!();
    let world = World::new(3);
    let mut connections = world.connect();
    let before = world.pins(&mut connections);
    let stage = world.record();
    world.during_traffic(&mut connections, |world| world.declare(3, ""));
    // The recorders ran all the while: no connection was ever at another instance.
    assert_eq!(pins_of(&stage, &connections), before);
    assert_eq!(world.pins(&mut connections), before);
    let new = world.pins(&mut world.connect());
    assert!(!at(&new, "d").is_empty(), "the new instance gets no new flows");
}

#[test]
fn weight_zero_lets_flows_finish_and_gets_no_new_ones() {
    require!();
    let world = World::new(3);
    let mut connections = world.connect();
    let before = world.pins(&mut connections);
    assert!(!at(&before, "b").is_empty());
    let stage = world.record();
    world.during_traffic(&mut connections, |world| world.declare(1, ", weight: 0"));
    assert_eq!(pins_of(&stage, &connections), before);
    assert_eq!(world.pins(&mut connections), before);
    let new = world.pins(&mut world.connect());
    assert!(at(&new, "b").is_empty(), "an instance of weight 0 gets new flows");
    let names: BTreeSet<&String> = new.values().collect();
    assert_eq!(names.len(), 2);
}

#[test]
fn removing_an_instance_moves_only_its_own_flows() {
    require!();
    let world = World::new(4);
    let mut connections = world.connect();
    let before = world.pins(&mut connections);
    let own: BTreeSet<FiveTuple> = at(&before, "a").into_iter().copied().collect();
    assert!(!own.is_empty() && !at(&before, "b").is_empty());
    // From now on flows are at `b` by their records alone. Without them the table of those that remain would not tell: it
    // keeps nearly all flows where they were.
    world.declare(1, ", weight: 0");
    let stage = world.record();
    world.during_traffic(&mut connections, |world| {
        let ran = world.front_end.run(&["delete", "instance", "fw/v1/a"]).expect("command line");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        world.front_end.wait_programmed();
    });
    let after = world.pins(&mut connections);
    assert_eq!(moved(&before, &after), own);
    assert!(at(&after, "a").is_empty());
    // Nor was any flow anywhere else meanwhile.
    let meanwhile = stage.seen("in", |tuple| before.contains_key(&tuple.canonical())).expect("recording");
    for (tuple, by_instance) in &meanwhile {
        let places: BTreeSet<&String> = by_instance.keys().collect();
        let known = BTreeSet::from([&before[tuple], &after[tuple]]);
        assert!(places.is_subset(&known), "{tuple}: was at {places:?}, before and after at {known:?}");
    }
    let names: BTreeSet<String> = world.pins(&mut world.connect()).into_values().collect();
    assert_eq!(names, ["c", "d"].map(str::to_owned).into());
}

#[test]
fn an_instance_declared_down_loses_only_its_own_flows() {
    require!();
    let world = World::new(3);
    let mut connections = world.connect();
    let before = world.pins(&mut connections);
    let own: BTreeSet<FiveTuple> = at(&before, "c").into_iter().copied().collect();
    assert!(!own.is_empty());
    world.during_traffic(&mut connections, |world| world.declare(2, ", down: true"));
    let down = world.pins(&mut connections);
    assert_eq!(moved(&before, &down), own);
    assert!(at(&down, "c").is_empty());
    assert!(at(&world.pins(&mut world.connect()), "c").is_empty());
    // Up again: flows stay where they are now; new ones come.
    let stage = world.record();
    world.during_traffic(&mut connections, |world| world.declare(2, ", down: false"));
    assert_eq!(pins_of(&stage, &connections), down);
    assert!(!at(&world.pins(&mut world.connect()), "c").is_empty());
}
