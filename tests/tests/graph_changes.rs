//! Two hundred changes of chains under traffic: every flow is judged by what the hosts and the instances saw of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use testbed::measure::{BacklogGuard, Softnet, interface_counters};
use testbed::nf::{BridgeFirewall, Instance, OneArmed, OneArmedConfig};
use testbed::scenario::{TRANSPARENT, event, eventually, firewalls, function, net, routed_host};
use testbed::traffic::{EchoServer, EchoStream, FrameSender, Ping, UdpLoad, UdpReceiver, short_connection};
use testbed::{
    Documents, Evidence, FiveTuple, Flow, FrontEnd, Host, MacAddr, Namespace, Recorder, Testbed, Witnesses, require,
};

const CHANGES: usize = 200;
const SERVICE: u16 = 7000;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SHORT_CLIENTS: usize = 2;
/// No connection begins later than this after the first. Linux gives a port out again when it has been in TIME-WAIT for a minute;
/// the judge takes one tuple for one flow.
const CONNECT_FOR: Duration = Duration::from_secs(50);
/// Pauses, so that the load leaves the processors to the product and the judge.
const SHORT_PAUSE: Duration = Duration::from_millis(10);
const ROUND_PAUSE: Duration = Duration::from_millis(20);
/// Loads that go on from the first change to the last, and as many that begin again and again.
const LONG: usize = 2;
const DATAGRAMS_PER_S: u64 = 100;

/// Where the flows of a version of a tenant's graph go, by replica set: TCP, and everything else. Behind it all comes `router/v1`.
struct Shape {
    /// What the change from the version before it is called.
    change: &'static str,
    tcp: &'static [&'static str],
    other: &'static [&'static str],
}

const fn chain(change: &'static str, path: &'static [&'static str]) -> Shape {
    Shape { change, tcp: path, other: path }
}

/// A graph takes these shapes in turn.
const SHAPES: [Shape; 6] = [
    chain("replace back", &["fw/v1", "ids/v1"]),
    chain("insert", &["fw/v1", "log/v1", "ids/v1"]),
    chain("reorder", &["log/v1", "fw/v1", "ids/v1"]),
    chain("replace", &["log/v1", "fw/v2", "ids/v1"]),
    Shape { change: "branch", tcp: &["log/v1", "fw/v2", "ids/v1"], other: &["ids/v1"] },
    chain("remove", &["fw/v2", "ids/v1"]),
];

impl Shape {
    fn path(&self, protocol: u8) -> Vec<&'static str> {
        let before = if protocol == TCP { self.tcp } else { self.other };
        [before, &["router/v1"]].concat()
    }

    /// The graph of a tenant. Where the two paths part, an edge for TCP goes before the other.
    fn graph(&self, tenant: &str) -> Documents {
        let (tcp, other) = (self.path(TCP), self.path(UDP));
        let node = |set: &str| set.replace('/', "-");
        let nodes: BTreeSet<&str> = tcp.iter().chain(&other).copied().collect();
        let nodes: Vec<String> =
            nodes.iter().map(|set| format!("{{name: {}, replicaSet: {}}}", node(set), owned(tenant, set))).collect();
        let mut edges: Vec<String> = Vec::new();
        for (path, matches) in [(&tcp, "match: {protocol: tcp}"), (&other, "")] {
            for at in 0..=path.len() {
                let from = at.checked_sub(1).map(|before| format!("from: {}", node(path[before])));
                let to = path.get(at).map(|set| format!("to: {}", node(set)));
                let is_fork = at == 0 && tcp != other;
                let condition = Some(matches.to_owned()).filter(|matches| is_fork && !matches.is_empty());
                let edge =
                    format!("{{{}}}", from.into_iter().chain(to).chain(condition).collect::<Vec<_>>().join(", "));
                if !edges.contains(&edge) {
                    edges.push(edge);
                }
            }
        }
        let (nodes, edges) = (nodes.join(", "), edges.join(", "));
        let ends = "clientAttachments: [clients], serverAttachments: [servers]";
        let spec = format!("{ends}, nodes: [{nodes}], edges: [{edges}]");
        Documents::new().raw("Graph", &format!("name: web, tenant: {tenant}"), &spec)
    }
}

/// The replica set of a tenant's own function.
fn owned(tenant: &str, set: &str) -> String {
    format!("{tenant}-{set}")
}

/// A tenant with functions of its own. Both tenants have the same addresses.
struct Tenant {
    name: &'static str,
    client: Host,
    server: Host,
    /// By replica set.
    firewalls: BTreeMap<&'static str, Vec<BridgeFirewall>>,
    router: OneArmed,
}

impl Tenant {
    fn new(testbed: &Testbed, name: &'static str) -> Self {
        let node = testbed.node();
        let make = |side: &str, address, gateway| {
            routed_host(node, &format!("{name}-{side}"), &[(address, gateway)]).expect("host")
        };
        let sets =
            [("fw/v1", &["f1", "f2"][..]), ("fw/v2", &["f3", "f4"]), ("ids/v1", &["i1"]), ("log/v1", &["l1", "l2"])];
        let firewalls = sets.into_iter().map(|(set, names)| {
            let names: Vec<String> = names.iter().map(|short| format!("{name}-{short}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            (set, firewalls(node, &names, &[]).expect("firewalls"))
        });
        let router = OneArmedConfig {
            name: format!("{name}-r1"),
            addresses: vec![net("10.0.1.254/24"), net("10.0.2.254/24")],
            routes: Vec::new(),
            rules: Vec::new(),
            mtu: 1500,
        };
        Self {
            name,
            client: make("c", "10.0.1.1/24", "10.0.1.254"),
            server: make("s", "10.0.2.2/24", "10.0.2.254"),
            firewalls: firewalls.collect(),
            router: OneArmed::new(node, router).expect("router"),
        }
    }

    fn instances(&self) -> Vec<&Instance> {
        let transparent = self.firewalls.values().flatten().map(BridgeFirewall::instance);
        transparent.chain([self.router.instance()]).collect()
    }

    /// The replica set of an instance.
    fn set_of(&self, instance: &str) -> &'static str {
        let is_in = |set: &&BridgeFirewall| set.instance().name() == instance;
        let found = self.firewalls.iter().find(|(_, members)| members.iter().any(|member| is_in(&member)));
        found.map_or("router/v1", |(set, _)| set)
    }

    /// Everything but its graph.
    fn declare(&self, vni: u32) -> Documents {
        let spec = format!("vni: {vni}, budget: {{unanswered: 20000, established: 40000}}");
        let mut documents = Documents::new().raw("Tenant", &format!("name: {}", self.name), &spec).hosts(
            self.name,
            &self.client,
            &self.server,
        );
        for name in ["fw", "ids", "log"] {
            documents = documents.raw("NetworkFunction", &format!("name: {}-{name}", self.name), TRANSPARENT);
        }
        for (set, members) in &self.firewalls {
            let (function, version) = set.split_once('/').expect("function and version");
            let function = owned(self.name, function);
            documents = documents.replica_set(&function, version, 10);
            for member in members {
                documents = documents.instance_of(&function, version, member.instance(), "");
            }
        }
        let spec = "forwarding: routed, tupleEffect: keeps, addresses: [10.0.1.254, 10.0.2.254]";
        function(documents, &owned(self.name, "router"), spec, [(self.router.instance(), String::new())])
    }

    fn service(&self) -> SocketAddr {
        SocketAddr::new(self.server.ipv4(), SERVICE)
    }

    fn witnesses(&self) -> Witnesses {
        Witnesses::start(&self.client, &self.server, self.instances()).expect("recorders")
    }

    fn ping(&self) -> bool {
        let ping = Ping { count: 1, timeout: Duration::from_millis(300), ..Ping::new(self.server.ipv4()) };
        ping.run(self.client.namespace()).is_ok_and(|report| report.is_perfect())
    }
}

/// Two tenants of the same addresses, with graphs in their first shape.
struct World {
    tenants: [Tenant; 2],
    front_end: FrontEnd,
    /// Keeps the kernel taking time stamps.
    _stamps: Recorder,
    testbed: Testbed,
}

impl World {
    fn new() -> Self {
        let testbed = Testbed::new().expect("testbed");
        let tenants = ["red", "blue"].map(|name| Tenant::new(&testbed, name));
        let stamps = Recorder::start(tenants[0].client.namespace(), &[Host::INTERFACE]).expect("recorder");
        let front_end = FrontEnd::start(testbed.node()).expect("front end");
        for (tenant, vni) in tenants.iter().zip(1..) {
            front_end.apply(&tenant.declare(vni));
            front_end.apply(&SHAPES[0].graph(tenant.name));
        }
        // The hosts' MAC addresses become known.
        tenants.iter().for_each(|tenant| eventually("the server answers", || tenant.ping()));
        Self { tenants, front_end, _stamps: stamps, testbed }
    }

    /// Drops of the data path by reason, without the hosts' link-local chatter, which belongs to no flow.
    fn drops(&self) -> BTreeMap<String, u64> {
        let drops = self.front_end.json(&["drops"]);
        let drops = drops.as_array().expect("a list").iter();
        let entry = |drop: &serde_json::Value| {
            (drop["reason"].as_str().unwrap_or_default().to_owned(), drop["count"].as_u64().unwrap_or_default())
        };
        drops.map(entry).filter(|(reason, _)| reason != "link_local" && reason != "multicast").collect()
    }

    /// Frames that interfaces of any namespace dropped, by namespace and interface.
    fn interface_drops(&self) -> BTreeMap<String, u64> {
        let instances = self.tenants.iter().flat_map(Tenant::instances).map(Instance::namespace);
        let hosts = self.tenants.iter().flat_map(|tenant| [tenant.client.namespace(), tenant.server.namespace()]);
        let all: Vec<&Namespace> = instances.chain(hosts).chain([self.testbed.node().namespace()]).collect();
        let of = |namespace: &&Namespace| {
            let counters = interface_counters(namespace).expect("counters");
            let name = namespace.short_name().to_owned();
            counters.into_iter().map(move |(interface, counters)| {
                (format!("{name} {interface}"), counters.receive_drops + counters.send_drops)
            })
        };
        all.iter().flat_map(of).collect()
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_nanos()).expect("before 2554")
}

/// A version of a tenant's graph: its shape, and when its installation began and was done.
struct Version {
    shape: &'static Shape,
    began_ns: u64,
    done_ns: u64,
}

/// What one tenant's hosts sent and got.
struct Load {
    began: Instant,
    stop: AtomicBool,
    short: AtomicU64,
    rounds: AtomicU64,
    /// Datagrams sent, by source port.
    datagrams: Mutex<BTreeMap<u16, u64>>,
}

impl Load {
    fn new() -> Self {
        let (short, rounds) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { began: Instant::now(), stop: AtomicBool::new(false), short, rounds, datagrams: Mutex::default() }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Whether another connection may begin.
    fn connects(&self) -> bool {
        self.goes_on() && self.began.elapsed() < CONNECT_FOR
    }

    fn short_connections(&self, tenant: &Tenant) {
        while self.connects() {
            short_connection(tenant.service()).expect("a short connection");
            self.short.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(SHORT_PAUSE);
        }
    }

    /// Streams one after the other, each of so many rounds.
    fn streams(&self, tenant: &Tenant, rounds: u64) {
        while self.connects() {
            let mut stream = EchoStream::open(tenant.service()).expect("a stream");
            for _ in (0..rounds).take_while(|_| self.goes_on()) {
                stream.round().expect("a stream goes on");
                self.rounds.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(ROUND_PAUSE);
            }
            stream.close().expect("the end of a stream");
        }
    }

    /// Datagrams with sequence numbers and their echoes, so many from each of these ports.
    fn datagrams(&self, tenant: &Tenant, ports: std::ops::Range<u16>, datagrams: u64) {
        for port in ports.take_while(|_| self.goes_on()) {
            let load = UdpLoad {
                datagrams,
                bytes: 300,
                per_second: Some(DATAGRAMS_PER_S),
                echo_timeout: Duration::from_secs(30),
                ..UdpLoad::new(SocketAddr::new(tenant.client.ipv4(), port), tenant.service())
            };
            let (sent, echoed) = load.run_until(tenant.client.namespace(), &self.stop).expect("datagrams");
            assert!(echoed.is_perfect(sent), "{}: {sent} datagrams from port {port}, echoed {echoed:?}", tenant.name);
            self.datagrams.lock().expect("no panic").insert(port, sent);
        }
    }

    fn run<'s>(&'s self, tenant: &'s Tenant, scope: &'s std::thread::Scope<'s, '_>) {
        let inside = |work: &(dyn Fn() + Sync)| tenant.client.namespace().run(work).expect("the client's namespace");
        for _ in 0..SHORT_CLIENTS {
            scope.spawn(move || inside(&|| self.short_connections(tenant)));
        }
        for index in 0..LONG as u16 {
            scope.spawn(move || inside(&|| self.streams(tenant, u64::MAX)));
            scope.spawn(move || inside(&|| self.streams(tenant, 50)));
            scope.spawn(move || self.datagrams(tenant, 20_000 + index..20_001 + index, u64::MAX));
            scope.spawn(move || self.datagrams(tenant, 21_000 + 500 * index..21_500 + 500 * index, 150));
        }
    }
}

/// Ends the loads when the changes are over, also by a panic.
struct StopAll<'l>(&'l [Load; 2]);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|load| load.stop.store(true, Ordering::Relaxed));
    }
}

/// Changes the two graphs in turn.
fn change(world: &World, changes: usize) -> [Vec<Version>; 2] {
    let first = || vec![Version { shape: &SHAPES[0], began_ns: 0, done_ns: 0 }];
    let mut versions = [first(), first()];
    for index in 0..changes {
        let (tenant, versions) = (&world.tenants[index % 2], &mut versions[index % 2]);
        let shape = &SHAPES[versions.len() % SHAPES.len()];
        let began_ns = now_ns();
        let ran = world.front_end.run_apply(&shape.graph(tenant.name), &["-o", "json"]).expect("command line");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let answer: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(answer["programmed"], true, "{answer}");
        versions.push(Version { shape, began_ns, done_ns: now_ns() });
    }
    versions
}

/// The flows of the load, by the service's port.
fn is_load(tuple: &FiveTuple) -> bool {
    matches!(tuple.protocol, TCP | UDP) && tuple.destination_port == SERVICE
}

/// Waits until what the hosts sent has arrived, and returns what was seen.
fn evidence(witnesses: &Witnesses) -> Evidence {
    let mut evidence = Evidence::new();
    let began = Instant::now();
    // A retransmission may be on its way still.
    while began.elapsed() < Duration::from_secs(3) {
        evidence = witnesses.flows(is_load).expect("recordings");
        if evidence.values().all(|flow| flow.faults.is_empty()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    evidence
}

/// What is wrong with a flow, given the versions of its graph.
fn judge(tenant: &Tenant, tuple: &FiveTuple, flow: &Flow, versions: &[Version]) -> Vec<String> {
    let mut wrong = flow.faults.clone();
    if flow.resets > 0 {
        wrong.push(format!("{tuple} was reset"));
    }
    let path: Vec<&str> = flow.path.iter().map(|name| tenant.set_of(name)).collect();
    let in_force = versions.iter().enumerate().filter(|(index, version)| {
        let left_ns = versions.get(index + 1).map_or(u64::MAX, |next| next.done_ns);
        version.began_ns <= flow.picked_ns && flow.began_ns <= left_ns
    });
    let allowed: Vec<Vec<&str>> = in_force.map(|(_, version)| version.shape.path(tuple.protocol)).collect();
    if !allowed.contains(&path) {
        wrong.push(format!("{tuple} went {:?}, which is {path:?}, when {allowed:?} was in force", flow.path));
    }
    wrong
}

/// How many established flows each change put at risk: answered before it began, seen after it was done, and of a path that the
/// new version would not give them.
fn at_risk(tenant: &Tenant, evidence: &Evidence, versions: &[Version]) -> Vec<(&'static str, usize)> {
    let is_at_risk = |version: &Version, tuple: &FiveTuple, flow: &Flow| {
        let path: Vec<&str> = flow.path.iter().map(|name| tenant.set_of(name)).collect();
        flow.answered_ns.is_some_and(|answered| answered < version.began_ns)
            && flow.ended_ns > version.done_ns
            && path != version.shape.path(tuple.protocol)
    };
    let count = |version: &Version| evidence.iter().filter(|(tuple, flow)| is_at_risk(version, tuple, flow)).count();
    versions.iter().skip(1).map(|version| (version.shape.change, count(version))).collect()
}

#[test]
fn two_hundred_changes_under_load_are_felt_by_no_flow() {
    require!();
    let _backlog = BacklogGuard::raise(100_000).expect("backlog");
    let world = World::new();
    let node = world.testbed.node();
    let services: Vec<_> = world
        .tenants
        .iter()
        .map(|tenant| {
            let server = tenant.server.namespace();
            let tcp = EchoServer::start(server, tenant.service()).expect("echo server");
            (tcp, UdpReceiver::start(server, tenant.service(), true).expect("echo server"))
        })
        .collect();
    let witnesses = world.tenants.each_ref().map(Tenant::witnesses);
    let (softnet, drops, interfaces) = (Softnet::now().expect("softnet"), world.drops(), world.interface_drops());
    let loads = [Load::new(), Load::new()];
    let began = Instant::now();
    let versions = std::thread::scope(|scope| {
        let _stop = StopAll(&loads);
        for (tenant, load) in world.tenants.iter().zip(&loads) {
            load.run(tenant, scope);
        }
        for (load, (_, udp)) in loads.iter().zip(&services) {
            eventually("all kinds of load run", || {
                let runs = |count: &AtomicU64| count.load(Ordering::Relaxed) > 10;
                runs(&load.short) && runs(&load.rounds) && udp.by_source().len() >= 2 * LONG
            });
        }
        change(&world, CHANGES)
    });
    println!("{CHANGES} changes in {:.1} s", began.elapsed().as_secs_f64());
    let mut risks = Vec::new();
    let (mut wrong, mut flows, mut frames) = (Vec::new(), BTreeMap::new(), 0);
    for (index, tenant) in world.tenants.iter().enumerate() {
        for (port, sent) in loads[index].datagrams.lock().expect("no panic").iter() {
            let got = services[index].1.by_source()[&SocketAddr::new(tenant.client.ipv4(), *port)];
            assert!(got.is_perfect(*sent), "{}: {sent} datagrams from port {port}, arrived: {got:?}", tenant.name);
        }
        let evidence = evidence(&witnesses[index]);
        for (tuple, flow) in &evidence {
            *flows.entry(tuple.protocol).or_insert(0_u64) += 1;
            frames += flow.frames;
            let of_flow = judge(tenant, tuple, flow, &versions[index]);
            wrong.extend(of_flow.into_iter().map(|what| format!("{}: {what}", tenant.name)));
        }
        risks.extend(at_risk(tenant, &evidence, &versions[index]));
    }
    let count = risks.iter().filter(|(_, flows)| *flows > 0).count();
    let by_change: BTreeMap<&str, usize> =
        risks.iter().filter(|(_, flows)| *flows > 0).fold(BTreeMap::new(), |mut sum, (change, _)| {
            *sum.entry(*change).or_default() += 1;
            sum
        });
    let datagrams: u64 =
        loads.iter().flat_map(|load| load.datagrams.lock().expect("no panic").clone().into_values()).sum();
    let rounds: u64 = loads.iter().map(|load| load.rounds.load(Ordering::Relaxed)).sum();
    println!(
        "{count} of {CHANGES} changes with established flows at risk, {} flows at a change on average; {by_change:?}",
        risks.iter().map(|(_, flows)| flows).sum::<usize>() / CHANGES
    );
    println!(
        "{} TCP and {} UDP flows, {frames} frames of their hosts; {datagrams} datagrams and {} MiB of streams, there and back",
        flows[&TCP],
        flows[&UDP],
        rounds / 64
    );
    let shown: Vec<&String> = wrong.iter().take(10).collect();
    assert!(wrong.is_empty(), "{} faults, the first: {shown:#?}", wrong.len());
    assert!(count >= CHANGES / 2, "too few changes put a flow at risk");
    assert!(flows[&TCP] > 500 && flows[&UDP] > 10, "{flows:?}: not much of a load");
    assert_eq!(world.drops(), drops, "frames dropped by the data path");
    assert_eq!(world.interface_drops(), interfaces, "frames dropped by interfaces");
    assert_eq!(Softnet::now().expect("softnet").since(softnet).dropped, 0, "frames dropped between programs");
    assert_eq!(event(node, "consistency_violation"), 0);
}

/// A UDP datagram as the client would send it to the server, by the front end's MAC address.
fn datagram(tenant: &Tenant, port: u16) -> Vec<u8> {
    const FRONT_END: MacAddr = MacAddr([0x02, 0x53, 0x57, 0x59, 0x44, 0x01]);
    let packet = etherparse::PacketBuilder::ethernet2(tenant.client.eth0.mac.0, FRONT_END.0)
        .ipv4([10, 0, 1, 1], [10, 0, 2, 2], 64)
        .udp(port, SERVICE);
    let mut frame = Vec::new();
    packet.write(&mut frame, b"astray").expect("writing to a vector");
    frame
}

#[test]
fn a_frame_out_of_an_instance_that_is_not_on_its_flows_path_is_a_violation() {
    require!();
    let world = World::new();
    let (tenant, node) = (&world.tenants[0], world.testbed.node());
    let udp = UdpReceiver::start(tenant.server.namespace(), tenant.service(), true).expect("echo server");
    let from = SocketAddr::new(tenant.client.ipv4(), 20_000);
    let witnesses = tenant.witnesses();
    let load = UdpLoad { datagrams: 10, echo_timeout: Duration::from_secs(5), ..UdpLoad::new(from, tenant.service()) };
    assert!(load.run(tenant.client.namespace()).expect("load").is_perfect(10));
    let evidence = evidence(&witnesses);
    let flow = evidence.values().next().expect("the flow");
    assert_eq!(flow.faults, Vec::<String>::new());
    let stages = &tenant.firewalls["fw/v1"];
    let other =
        stages.iter().find(|member| !flow.path.contains(&member.instance().name().to_owned())).expect("two members");
    assert_eq!(event(node, "consistency_violation"), 0);
    let sender = FrameSender::open(&other.instance().outward().inside).expect("sender");
    for sent in 1..=5 {
        sender.send(&datagram(tenant, 20_000)).expect("frame");
        eventually("the frame is counted", || event(node, "consistency_violation") == sent);
    }
    assert_eq!(world.drops().get("not_in_path"), Some(&5));
    assert_eq!(udp.by_source()[&from].damaged, 0, "a stray frame arrived");
    // The judge sees it, too: this instance saw a part of the flow.
    let faults = &self::evidence(&witnesses).values().next().expect("the flow").faults.clone();
    assert!(faults.iter().any(|fault| fault.contains(other.instance().name())), "{faults:?}");
}
