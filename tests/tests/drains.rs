//! Versions that leave: their flows finish where they began, or are reset at the deadline; nobody else feels it. Judged by what
//! the hosts and the instances recorded.

use serde_json::Value;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use testbed::scenario::{Rollout, Site, event, eventually, eventually_within, metrics};
use testbed::traffic::{Connections, EchoServer, UdpLoad, UdpReceiver};
use testbed::{Documents, Evidence, FrontEnd, Host, Recorder, Testbed, require};

const ECHO: u16 = 7000;
/// Served by the test itself.
const DRIVEN: u16 = 7001;
const CONNECTIONS: usize = 20;
/// Records of closed connections stay for ten seconds, are swept every other second and counted every second.
const RETIREMENT: Duration = Duration::from_secs(30);

/// Red's graph leads through `old`, and is led through `new` and `newer`; blue's stays.
struct World {
    red: Site,
    blue: Site,
    front_end: FrontEnd,
    _echo: [EchoServer; 2],
    /// Keeps the kernel taking time stamps.
    _stamps: Recorder,
    testbed: Testbed,
}

impl World {
    fn new() -> Self {
        let testbed = Testbed::new().expect("testbed");
        let node = testbed.node();
        let functions: [(_, &[&str]); 3] =
            [("old", &["old1", "old2"]), ("new", &["new1", "new2"]), ("newer", &["newer1", "newer2"])];
        let red = Site::new(node, "red", &functions, &[]).expect("hosts and firewalls");
        let blue = Site::new(node, "blue", &[("blue", &["blue1", "blue2"])], &[]).expect("hosts and firewalls");
        let stamps = Recorder::start(red.client.namespace(), &[Host::INTERFACE]).expect("recorder");
        let front_end = FrontEnd::start_with_capacity(node, 1 << 17).expect("front end");
        let documents = Documents::new().tenant("red", 1).tenant("blue", 2);
        let documents = blue.declare(red.declare(documents));
        front_end.apply(&documents.chain("red", "web", &["old"]).chain("blue", "web", &["blue"]));
        let echo = |site: &Site| EchoServer::start(site.server.namespace(), site.service(ECHO)).expect("echo server");
        let echo = [echo(&red), echo(&blue)];
        // The hosts' MAC addresses become known.
        [&red, &blue].iter().for_each(|site| site.connect_shortly(ECHO, 1).expect("a connection"));
        Self { red, blue, front_end, _echo: echo, _stamps: stamps, testbed }
    }

    fn rollout(&self) -> Rollout<'_> {
        Rollout::of(&self.front_end, "red/web")
    }

    /// Leads red's new flows through another function, at once.
    fn switch(&self, to: &str, arguments: &[&str]) {
        self.rollout().start(&Documents::new().chain("red", "web", &[to]), arguments);
        self.rollout().wait_for("completed");
        assert_eq!(self.rollout().status()["outcome"], "success");
    }

    fn connect(&self, site: &Site) -> Connections {
        Connections::open(site.client.namespace(), site.service(ECHO), CONNECTIONS).expect("connections")
    }

    /// Red's flow records of a version.
    fn flows(&self, view: u64) -> Vec<Value> {
        let flows = self.front_end.json(&["flows", "--tenant", "red", "--limit", "10000"]);
        flows.as_array().expect("a list").iter().filter(|flow| flow["view"] == view).cloned().collect()
    }

    fn draining_views(&self) -> f64 {
        metrics(self.testbed.node())["switchyard_draining_views"]
    }
}

/// Asserts that these connections were whole, all at instances of one function.
fn assert_whole(site: &Site, evidence: &Evidence, connections: &Connections, function: &str) {
    let ports = connections.ports().expect("ports");
    site.assert_whole(evidence, &ports, &[function]);
}

#[test]
fn a_version_that_leaves_is_retired_when_its_last_flow_has_finished() {
    require!();
    let world = World::new();
    let (red, blue) = (&world.red, &world.blue);
    let seen = [red, blue].map(|site| site.witnesses().expect("recorders"));
    let _udp = UdpReceiver::start(red.server.namespace(), red.service(ECHO), true).expect("echo server");
    let (mut first, mut last, mut other) = (world.connect(red), world.connect(red), world.connect(blue));
    world.switch("new", &["--drain", "finish", "--drain-deadline", "1s"]);
    let records = || world.rollout().version(1)["records"].as_u64().unwrap_or(0);
    eventually("the flows are counted", || records() >= 2 * CONNECTIONS as u64);
    assert_eq!((world.rollout().version(1)["role"].clone(), world.draining_views()), ("draining".into(), 1.0));
    let mut new = world.connect(red);
    let load = UdpLoad {
        datagrams: 200,
        per_second: Some(1000),
        echo_timeout: Duration::from_secs(10),
        ..UdpLoad::new((red.client.ipv4(), 30_000).into(), red.service(ECHO))
    };
    assert!(load.run(red.client.namespace()).expect("load").is_perfect(200), "a new flow lost datagrams");
    for connections in [&mut first, &mut last, &mut other, &mut new] {
        connections.exchange().expect("every connection goes on");
    }
    let whole = red.evidence(&seen[0], ECHO);
    assert_whole(red, &whole, &first, "old");
    assert_whole(red, &whole, &new, "new");
    drop(first);
    // Beyond the deadline, which resets nobody.
    eventually_within(RETIREMENT, "half of the flows have finished", || records() == CONNECTIONS as u64);
    assert_eq!((world.rollout().version(1)["role"].clone(), world.draining_views()), ("draining".into(), 1.0));
    for connections in [&mut last, &mut other, &mut new] {
        connections.exchange().expect("every connection goes on");
    }
    assert_whole(red, &red.evidence(&seen[0], ECHO), &last, "old");
    drop(last);
    eventually_within(RETIREMENT, "the version retires", || world.rollout().version(1)["role"] == "retired");
    assert_eq!(world.draining_views(), 0.0);
    [&mut other, &mut new].into_iter().for_each(|it| it.exchange().expect("every connection goes on"));
    let whole = red.evidence(&seen[0], ECHO);
    assert_whole(red, &whole, &new, "new");
    assert!(whole.values().all(|flow| flow.faults.is_empty() && flow.resets == 0), "{whole:#?}");
    assert_whole(blue, &blue.evidence(&seen[1], ECHO), &other, "blue");
    assert_eq!(event(world.testbed.node(), "consistency_violation"), 0);
}

/// A TCP connection with both of its ends.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn open(site: &Site, listener: &TcpListener) -> Self {
        let to = site.service(DRIVEN);
        let client = site.client.namespace().run(|| TcpStream::connect_timeout(&to, Duration::from_secs(10)));
        let client = client.expect("namespace").expect("a connection");
        let (server, _) = listener.accept().expect("a connection");
        for end in [&client, &server] {
            end.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            end.set_nodelay(true).expect("no delay");
        }
        Self { client, server }
    }

    /// A message each way.
    fn exchange(&mut self) {
        let Self { client, server } = self;
        client.write_all(b"there").and_then(|()| server.read_exact(&mut [0; 5])).expect("there");
        server.write_all(b"back").and_then(|()| client.read_exact(&mut [0; 4])).expect("back");
    }

    /// Each end speaks, and hears of the end. The other's message never comes.
    fn assert_reset(&mut self) {
        for end in [&mut self.client, &mut self.server] {
            end.write_all(b"more").expect("an end that nobody has told yet");
            let error = end.read(&mut [0]).expect_err("no message comes");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
    }
}

#[test]
fn flows_that_are_left_at_the_deadline_are_reset_and_nobody_else() {
    require!();
    let world = World::new();
    let (red, blue) = (&world.red, &world.blue);
    let seen = [red, blue].map(|site| site.witnesses().expect("recorders"));
    let listener = red.server.namespace().run(|| TcpListener::bind(red.service(DRIVEN)));
    let listener = listener.expect("namespace").expect("a listener");
    let (mut other, mut older) = (world.connect(blue), world.connect(red));
    world.switch("new", &["--drain", "finish"]);
    let mut pairs: Vec<Pair> = (0..CONNECTIONS).map(|_| Pair::open(red, &listener)).collect();
    pairs.iter_mut().for_each(Pair::exchange);
    world.switch("newer", &["--drain", "reset", "--drain-deadline", "1s"]);
    let mut new = world.connect(red);
    let is_reset = |flow: &Value| flow["state"] == "reset";
    eventually("the deadline", || world.flows(2).iter().all(is_reset));
    assert_eq!(world.flows(2).len(), CONNECTIONS);
    // The first message of each end is answered with its reset.
    pairs.iter_mut().for_each(Pair::assert_reset);
    let mut after = Pair::open(red, &listener);
    after.exchange();
    for connections in [&mut other, &mut older, &mut new] {
        connections.exchange().expect("every connection of another version goes on");
    }
    eventually_within(RETIREMENT, "the version retires", || world.rollout().version(2)["role"] == "retired");
    assert_eq!((world.rollout().version(1)["role"].clone(), world.draining_views()), ("draining".into(), 1.0));
    assert!(!world.flows(1).is_empty() && world.flows(1).iter().all(|flow| !is_reset(flow)));
    after.exchange();
    for connections in [&mut other, &mut older, &mut new] {
        connections.exchange().expect("every connection of another version goes on");
    }
    let driven = red.evidence(&seen[0], DRIVEN);
    let path = |pair: &Pair| red.path(&driven, pair.client.local_addr().expect("an address").port());
    assert!(pairs.iter().all(|pair| path(pair) == ["new"]), "{driven:#?}");
    assert_eq!(path(&after), ["newer"]);
    let whole = red.evidence(&seen[0], ECHO);
    assert_whole(red, &whole, &older, "old");
    assert_whole(red, &whole, &new, "newer");
    assert_whole(blue, &blue.evidence(&seen[1], ECHO), &other, "blue");
    assert_eq!(event(world.testbed.node(), "consistency_violation"), 0);
}
