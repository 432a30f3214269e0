//! Two tenants with the same addresses and MAC addresses: no frame crosses over.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use testbed::measure::{BacklogGuard, Softnet};
use testbed::nf::Instance;
use testbed::scenario::{SHARED, TRANSPARENT, firewalls, function, host, plain, shared_firewall};
use testbed::traffic::{
    Curl, EchoServer, Iperf, IperfReport, IperfServer, UdpLoad, UdpReceiver, WebServer, tcp_connects,
};
use testbed::{Count, Documents, FiveTuple, FrontEnd, Host, Recorder, Recording, Sighting, Testbed, Way, require};

/// Recorders keep up with the full load of one test, not of two.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const DATAGRAMS: u64 = 20_000;
const DATAGRAMS_PER_S: u64 = 10_000;

/// Both tenants' datagrams have these ports on both ends, so that the whole 5-tuple is the same.
const UDP_PORT: u16 = 5001;
const WEB_PORT: u16 = 80;
/// Ethernet, IPv4 and UDP headers.
const UDP_HEADERS: u64 = 42;

/// A tenant and what tells its traffic apart from the other's, whose addresses are the same: iperf3's ports, the size of
/// datagrams, what the web server says.
struct Tenant {
    name: &'static str,
    client: Host,
    server: Host,
    iperf: u16,
    datagram_bytes: u16,
    /// The port its firewall keeps shut and the other's does not.
    closed: u16,
}

impl Tenant {
    fn new(testbed: &Testbed, name: &'static str, iperf: u16, datagram_bytes: u16, closed: u16) -> Self {
        let make = |side: &str, last| host(testbed.node(), &format!("{name}-{side}"), last).expect("host");
        let (client, server) = (make("c", 1), make("s", 2));
        Self { name, client, server, iperf, datagram_bytes, closed }
    }

    /// Whether what was seen can be this tenant's traffic. Replies have the server's port as source.
    fn owns(&self, tuple: &FiveTuple, count: &Count) -> bool {
        let datagram = UDP_HEADERS + u64::from(self.datagram_bytes);
        let is_datagram = tuple.protocol == 17 && tuple.destination_port == UDP_PORT;
        let ports = [self.iperf, self.reverse(), WEB_PORT];
        let is_stream = ports.contains(&tuple.source_port) || ports.contains(&tuple.destination_port);
        is_datagram && count.bytes == count.frames * datagram || tuple.protocol == 6 && is_stream
    }

    fn reverse(&self) -> u16 {
        self.iperf + 3
    }

    /// What arrives at the server and leaves it.
    fn record(&self) -> Recorder {
        Recorder::start(self.server.namespace(), &[Host::INTERFACE]).expect("recorder")
    }

    /// Asserts that what was seen at the server, or at an instance of the tenant's own, is the tenant's.
    fn judge(&self, recorder: &Recorder) {
        judge(self.name, &recorder.snapshot().expect("recording"), |seen, count| {
            // What a host says itself, its multicast reports for one, is no crossing.
            seen.interface == Host::INTERFACE && seen.way == Way::Sent
                || seen.vlan.is_none() && self.owns(&seen.tuple, count)
        });
    }
}

/// The tenants with their attachments.
fn declare(tenants: &[Tenant; 2]) -> Documents {
    let documents = Documents::new().tenant("red", 100).tenant("blue", 200);
    tenants.iter().fold(documents, |documents, tenant| documents.hosts(tenant.name, &tenant.client, &tenant.server))
}

fn two_tenants(testbed: &Testbed) -> [Tenant; 2] {
    [Tenant::new(testbed, "red", 5100, 1000, 8080), Tenant::new(testbed, "blue", 5200, 600, 8081)]
}

/// What one tenant's hosts got under full load.
struct Loaded {
    tcp: IperfReport,
    reverse: IperfReport,
}

/// TCP both ways at full speed and UDP with sequence numbers, for both tenants at the same time; web requests meanwhile.
fn full_load(tenants: &[Tenant; 2]) -> Vec<Loaded> {
    let _backlog = BacklogGuard::raise(100_000).expect("backlog");
    let before = Softnet::now().expect("softnet");
    let one = |tenant: &Tenant| {
        let to = |port| SocketAddr::new(tenant.server.ipv4(), port);
        let server = tenant.server.namespace();
        let _iperf = [tenant.iperf, tenant.reverse()].map(|port| IperfServer::start(server, port).expect("iperf3"));
        let web = WebServer::start(server, to(WEB_PORT), &[]).expect("web server");
        let udp = UdpReceiver::start(server, to(UDP_PORT), false).expect("receiver");
        let load = Iperf { duration: Duration::from_secs(2), ..Iperf::new(tenant.server.ipv4(), tenant.iperf) };
        let client = tenant.client.namespace();
        let mut forth = load.start(client).expect("iperf3");
        let mut back = Iperf { reverse: true, port: tenant.reverse(), ..load }.start(client).expect("iperf3");
        let from = SocketAddr::new(tenant.client.ipv4(), UDP_PORT);
        let datagrams = UdpLoad {
            datagrams: DATAGRAMS,
            bytes: tenant.datagram_bytes.into(),
            per_second: Some(DATAGRAMS_PER_S),
            ..UdpLoad::new(from, to(UDP_PORT))
        };
        datagrams.run(client).expect("UDP load");
        for port in 40_000..40_010 {
            let page = Curl { local_port: Some(port), ..Curl::new(web.url("/")) }.run(client).expect("request");
            assert_eq!(page.body, format!("{}-s\n", tenant.name).into_bytes(), "the other tenant's server answered");
        }
        let report = udp.wait_for(DATAGRAMS, Duration::from_secs(5)).expect("all datagrams");
        assert!(report.is_perfect(DATAGRAMS), "{}: {report:?}", tenant.name);
        assert_eq!(udp.by_source().len(), 1, "datagrams of another sender");
        let patience = Duration::from_secs(20);
        Loaded {
            tcp: IperfReport::of(&mut forth, patience).expect("iperf3"),
            reverse: IperfReport::of(&mut back, patience).expect("iperf3"),
        }
    };
    let loaded = std::thread::scope(|scope| {
        let running = tenants.each_ref().map(|tenant| scope.spawn(move || one(tenant)));
        running.map(|one| one.join().expect("a tenant's load")).into_iter().collect::<Vec<_>>()
    });
    let lost = Softnet::now().expect("softnet").since(before).dropped;
    assert_eq!(lost, 0, "frames lost in the kernel's queues between programs");
    for (tenant, report) in tenants.iter().zip(&loaded) {
        println!(
            "{}: TCP {:.2} Gbit/s to and {:.2} Gbit/s from the server, {DATAGRAMS} of {DATAGRAMS} datagrams",
            tenant.name, report.tcp.gbit_per_s, report.reverse.gbit_per_s
        );
        assert!(report.tcp.gbit_per_s > 0.05 && report.reverse.gbit_per_s > 0.05, "not a full load");
    }
    loaded
}

/// Each tenant's own firewall decides, though both use the same ports.
fn rules_are_own(tenants: &[Tenant; 2]) {
    for tenant in tenants {
        let to = |port| SocketAddr::new(tenant.server.ipv4(), port);
        let _echo = [8080, 8081].map(|port| EchoServer::start(tenant.server.namespace(), to(port)).expect("server"));
        for port in [8080, 8081] {
            let connects = tcp_connects(tenant.client.namespace(), to(port));
            assert_eq!(connects, port != tenant.closed, "{} to port {port}", tenant.name);
        }
    }
}

/// Every frame of the recording is one that `is_own` takes; and there are many.
fn judge(name: &str, recording: &Recording, is_own: impl Fn(&Sighting, &Count) -> bool) {
    assert_eq!(recording.lost, 0, "{name}: the recorder was too slow");
    let foreign: Vec<_> = recording.sightings.iter().filter(|(seen, count)| !is_own(seen, count)).take(5).collect();
    assert!(foreign.is_empty(), "{name} saw frames of another tenant: {foreign:#?}");
    let own = recording.frames(|_| true);
    assert!(own > DATAGRAMS, "{name} saw only {own} frames");
}

#[test]
fn own_firewalls_at_full_load() {
    require!();
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let testbed = Testbed::new().expect("testbed");
    let tenants = two_tenants(&testbed);
    let red = firewalls(testbed.node(), &["fw-red"], &[8080]).expect("firewall");
    let blue = firewalls(testbed.node(), &["fw-blue"], &[8081]).expect("firewall");
    let front_end = FrontEnd::start(testbed.node()).expect("front end");
    let documents = declare(&tenants);
    let documents = function(documents, "fw-red", TRANSPARENT, plain(&red));
    let documents = function(documents, "fw-blue", TRANSPARENT, plain(&blue));
    front_end.apply(&documents.chain("red", "web", &["fw-red"]).chain("blue", "web", &["fw-blue"]));
    let record = |instance: &Instance| instance.record().expect("recorder");
    let recorders = [&red, &blue].map(|set| record(set[0].instance()));
    let ends = tenants.each_ref().map(Tenant::record);
    full_load(&tenants);
    for (tenant, recorder) in tenants.iter().zip(&recorders).chain(tenants.iter().zip(&ends)) {
        tenant.judge(recorder);
    }
    rules_are_own(&tenants);
    // Untagged, so it can tell no tenants apart.
    let refused = front_end.try_apply(&Documents::new().chain("blue", "web", &["fw-red"])).expect("command line");
    assert_ne!(refused.code, 0, "{refused:?}");
    let wanted = "network function fw-red has no tags and serves tenant blue, so tenant red cannot use it";
    assert!(refused.stderr.contains(wanted) && refused.stderr.contains("nodes[0]"), "{}", refused.stderr);
}

#[test]
fn one_shared_firewall_at_full_load() {
    require!();
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let testbed = Testbed::new().expect("testbed");
    let tenants = two_tenants(&testbed);
    let vlan = |name: &str| if name == "red" { 101 } else { 102 };
    let closed = tenants.each_ref().map(|tenant| tenant.closed);
    let firewall = shared_firewall(testbed.node(), "shared", closed).expect("firewall");
    let front_end = FrontEnd::start(testbed.node()).expect("front end");
    let documents = declare(&tenants);
    let documents = function(documents, "shared", SHARED, [(firewall.instance(), String::new())]);
    front_end.apply(&documents.chain("red", "web", &["shared"]).chain("blue", "web", &["shared"]));
    let recorder = firewall.instance().record().expect("recorder");
    let ends = tenants.each_ref().map(Tenant::record);
    full_load(&tenants);
    let recording = recorder.snapshot().expect("recording");
    judge("the shared firewall", &recording, |seen, count| {
        tenants.iter().any(|tenant| seen.vlan == Some(vlan(tenant.name)) && tenant.owns(&seen.tuple, count))
    });
    for (tenant, recorder) in tenants.iter().zip(&ends) {
        tenant.judge(recorder);
    }
    rules_are_own(&tenants);
    let counters = firewall.instance().rule_counters().expect("counters");
    assert_eq!(counters["unknown_tag"].packets, 0);
    assert!(["red_closed", "blue_closed"].iter().all(|name| counters[*name].packets > 0), "{counters:?}");
}
