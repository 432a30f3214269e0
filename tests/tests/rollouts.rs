//! Rollouts over the running data path: who gets the candidate is judged from what the functions saw.

use etherparse::PacketBuilder;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use testbed::nf::Instance;
use testbed::scenario::{Rollout, Site, event, eventually};
use testbed::traffic::{Connections, EchoServer, FrameSender};
use testbed::{Documents, FrontEnd, Recorder, Testbed, Way, require};

const FLOWS: u32 = 100_000;
/// Frames on their way at a time, so that no queue of the machine overflows.
const WINDOW: u32 = 500;
const SERVICE: u16 = 7000;

/// A chain of the firewall `old`; candidates go through `new` instead.
struct World {
    site: Site,
    front_end: FrontEnd,
    _sink: UdpSocket,
    _echo: EchoServer,
    testbed: Testbed,
}

/// A flow by its ports.
type Ports = (u16, u16);

impl World {
    fn new() -> Self {
        let testbed = Testbed::new().expect("testbed");
        let node = testbed.node();
        let functions: [(_, &[&str]); 2] = [("old", &["old"]), ("new", &["new"])];
        let site = Site::new(node, "acme", &functions, &[]).expect("hosts and firewalls");
        let front_end = FrontEnd::start_with_capacity(node, 1 << 18).expect("front end");
        let budget = "vni: 100, budget: {unanswered: 200000, established: 20000}";
        let documents = site.declare(Documents::new().raw("Tenant", "name: acme", budget));
        front_end.apply(&documents.chain("acme", "web", &["old"]));
        let (server, service) = (site.server.namespace(), site.service(SERVICE));
        let sink = server.run(|| UdpSocket::bind(service)).expect("namespace").expect("socket");
        let echo = EchoServer::start(server, service).expect("echo server");
        Self { site, front_end, _sink: sink, _echo: echo, testbed }
    }

    fn rollout(&self) -> Rollout<'_> {
        Rollout::of(&self.front_end, "acme/web")
    }

    /// Starts a rollout to the chain through `new`.
    fn start(&self, arguments: &[&str]) {
        self.rollout().start(&Documents::new().chain("acme", "web", &["new"]), arguments);
    }

    /// Sends one datagram of each flow. The flows that went through `new`; the others went through `old`, once each.
    fn send(&self, flows: &[Ports]) -> BTreeSet<Ports> {
        let recorders: Vec<Recorder> =
            self.site.instances().map(|instance| instance.record().expect("recorder")).collect();
        let sender = FrameSender::open(&self.site.client.eth0).expect("sender");
        let passed = || -> Vec<BTreeSet<Ports>> {
            let seen = |recorder: &Recorder| {
                let recording = recorder.snapshot().expect("recording");
                assert_eq!(recording.lost, 0, "the recorder lost frames: nothing can be judged");
                let udp = recording
                    .sightings
                    .keys()
                    .filter(|seen| seen.interface == "out" && seen.way == Way::Sent && seen.tuple.protocol == 17);
                udp.map(|seen| (seen.tuple.source_port, seen.tuple.destination_port)).collect()
            };
            recorders.iter().map(seen).collect()
        };
        let (before, mut sent) = (self.transmitted(), 0);
        for window in flows.chunks(WINDOW as usize) {
            for (source, destination) in window {
                let packet = PacketBuilder::ethernet2(self.site.client.eth0.mac.0, self.site.server.eth0.mac.0)
                    .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                    .udp(*source, *destination);
                let mut frame = Vec::new();
                packet.write(&mut frame, b"flow").expect("writing to a vector");
                sender.send(&frame).expect("send");
            }
            sent += window.len() as u64;
            eventually("every datagram has passed a function", || self.transmitted() >= before + sent);
        }
        eventually("every datagram was recorded", || passed().iter().map(BTreeSet::len).sum::<usize>() >= flows.len());
        let passed = passed();
        assert_eq!(passed[0].len() + passed[1].len(), flows.len(), "a flow passed both, or none");
        assert!(passed[0].is_disjoint(&passed[1]));
        passed.into_iter().nth(1).expect("two functions")
    }

    /// Frames that have left the functions on the servers' side.
    fn transmitted(&self) -> u64 {
        let of = |instance: &Instance| -> u64 {
            let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
            let table = instance.namespace().run(read).expect("namespace").expect("counters of interfaces");
            let line = table.lines().find_map(|line| line.trim().strip_prefix("out:")).expect("an interface `out`");
            line.split_whitespace().nth(9).and_then(|frames| frames.parse().ok()).expect("frames transmitted")
        };
        self.site.instances().map(of).sum()
    }

    /// Takes data path and records down, as a reboot does, and starts again over what was stored.
    fn reboot(&mut self) {
        self.front_end.kill().expect("kill");
        self.front_end.take_down().expect("take the data path down");
        self.front_end.restart().expect("restart");
        self.front_end.wait_programmed();
    }
}

/// So many flows that differ in their ports, from `first` on.
fn flows(first: u32, count: u32) -> Vec<Ports> {
    (first..first + count).map(|n| ((1024 + n % 50_000) as u16, (10_000 + n / 50_000) as u16)).collect()
}

fn share(part: &BTreeSet<Ports>, whole: &[Ports]) -> f64 {
    part.len() as f64 / whole.len() as f64 * 100.0
}

#[test]
fn a_canary_takes_its_share_of_new_flows_and_keeps_its_cohort() {
    require!();
    let mut world = World::new();
    let (existing, new) = (flows(0, 1000), flows(1000, FLOWS));
    assert!(world.send(&existing).is_empty());
    world.start(&["--step", "setWeight=5", "--step", "pause", "--step", "setWeight=20", "--step", "pause"]);
    world.rollout().wait_for("paused");
    let first = world.send(&new);
    println!("5 %: {} of {FLOWS} flows, {:.2} %", first.len(), share(&first, &new));
    assert!((4.5..=5.5).contains(&share(&first, &new)));
    assert!(world.send(&existing).is_empty(), "existing flows stay on the stable view");

    world.reboot();
    assert!(world.send(&new) == first, "the cohort is another one after a restart");

    world.rollout().verb("promote", &[]);
    world.rollout().wait_for("paused");
    assert!(world.send(&new) == first, "flows stay on the view they began with");
    world.reboot();
    let second = world.send(&new);
    println!("20 %: {} of {FLOWS} flows, {:.2} %", second.len(), share(&second, &new));
    assert!((19.5..=20.5).contains(&share(&second, &new)));
    assert!(first.is_subset(&second), "raising the share gives up some of the first cohort");

    world.rollout().verb("abort", &["--reason", "enough seen"]);
    // Not one frame in between: what is sent after the answer is sent after the abort.
    let after = flows(1000 + FLOWS, 10_000);
    assert!(world.send(&after).is_empty(), "a new flow went to the candidate after the abort");
    assert!(world.send(&new) == second, "flows of the candidate stay with it after the abort");
    assert_eq!(event(world.testbed.node(), "consistency_violation"), 0);
}

#[test]
fn a_rollout_without_steps_moves_no_established_connection() {
    require!();
    let world = World::new();
    let service = world.site.service(SERVICE);
    let connect = || Connections::open(world.site.client.namespace(), service, 40).expect("connections");
    let mut connections = connect();
    connections.exchange().expect("exchange");
    let at_new = |connections: &mut Connections| {
        let recorder = world.site.members("new")[0].instance().record().expect("recorder");
        connections.exchange().expect("every connection lives");
        recorder.snapshot().expect("recording").frames(|seen| seen.tuple.protocol == 6)
    };
    world.start(&[]);
    world.rollout().wait_for("completed");
    assert_eq!(world.rollout().status()["outcome"], "success");
    assert_eq!(at_new(&mut connections), 0, "an established connection met the other view");
    assert!(at_new(&mut connect()) > 0);
}
