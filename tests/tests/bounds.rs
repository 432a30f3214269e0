//! Bounds of a rollout on what the data path counts: it takes a bad candidate back by itself, and does not judge by too little.

use etherparse::PacketBuilder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use testbed::scenario::{Rollout, Site, event};
use testbed::traffic::{Connections, EchoServer, FrameSender};
use testbed::{Documents, FrontEnd, Host, Recorder, Testbed, Witnesses, require};

const ECHO: u16 = 7000;
const SINK: u16 = 7001;
const CONNECTIONS: usize = 20;
/// New connections whose paths are looked at: that none of them meets a view with half of the weight has odds of 1 to 2^40.
const NEW: usize = 40;
/// Bytes of a datagram in a frame of full size.
const DATAGRAM: usize = 1472;
/// Flows of one frame that are sent between two looks at the rollout.
const FLOWS: u16 = 20;

/// A graph through `old`; candidates lead through `new`. Connections that are open from the beginning.
struct World {
    site: Site,
    stable: Connections,
    witnesses: Witnesses,
    front_end: FrontEnd,
    _echo: EchoServer,
    _sink: UdpSocket,
    /// Keeps the kernel taking time stamps.
    _stamps: Recorder,
    testbed: Testbed,
}

impl World {
    fn new() -> Self {
        let testbed = Testbed::new().expect("testbed");
        let node = testbed.node();
        let functions: [(_, &[&str]); 2] = [("old", &["old1", "old2"]), ("new", &["new1", "new2"])];
        let site = Site::new(node, "acme", &functions, &[]).expect("hosts and firewalls");
        let stamps = Recorder::start(site.client.namespace(), &[Host::INTERFACE]).expect("recorder");
        let front_end = FrontEnd::start_with_capacity(node, 1 << 17).expect("front end");
        front_end.apply(&site.declare(Documents::new().tenant("acme", 1)).chain("acme", "web", &["old"]));
        let server = site.server.namespace();
        let echo = EchoServer::start(server, site.service(ECHO)).expect("echo server");
        let sink = server.run(|| UdpSocket::bind(site.service(SINK))).expect("namespace").expect("socket");
        // The hosts' MAC addresses become known.
        site.connect_shortly(ECHO, 1).expect("a connection");
        let witnesses = site.witnesses().expect("recorders");
        let stable = Connections::open(site.client.namespace(), site.service(ECHO), CONNECTIONS).expect("connections");
        Self { site, stable, witnesses, front_end, _echo: echo, _sink: sink, _stamps: stamps, testbed }
    }

    fn rollout(&self) -> Rollout<'_> {
        Rollout::of(&self.front_end, "acme/web")
    }

    /// Gives half of the new flows to `new`, with bounds, and waits for the pause behind it.
    fn start(&self, bounds: &[&str]) {
        let steps = ["--step", "setWeight=50", "--step", "pause"];
        self.rollout().start(&Documents::new().chain("acme", "web", &["new"]), &[&steps, bounds].concat());
        self.rollout().wait_for("paused");
    }

    fn new_flows(&self) -> BTreeMap<Vec<&str>, usize> {
        self.site.paths_of_new(ECHO, NEW)
    }

    /// Begins flows of one large datagram each, from ports that no call used before, and nobody answers.
    fn begin_large_flows(&self, round: u16) {
        let (client, server) = (&self.site.client, &self.site.server);
        let sender = FrameSender::open(&client.eth0).expect("sender");
        for port in (20_000 + round * FLOWS..).take(FLOWS.into()) {
            let packet = PacketBuilder::ethernet2(client.eth0.mac.0, server.eth0.mac.0)
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .udp(port, SINK);
            let mut frame = Vec::new();
            packet.write(&mut frame, &[0; DATAGRAM]).expect("writing to a vector");
            sender.send(&frame).expect("send");
        }
    }

    /// Asserts that the rollout has failed by itself for this reason, that all new flows are back on the stable version, and that
    /// flows which were there before felt nothing.
    fn assert_aborted(&mut self, is_reason: impl Fn(&str) -> bool) {
        self.rollout().wait_for("completed");
        let status = self.rollout().status();
        let message = status["message"].as_str().unwrap_or_default();
        println!("{message}");
        assert!(status["outcome"] == "failed" && is_reason(message), "{status:#}");
        let version = self.rollout().version(2);
        assert_eq!((&version["outcome"], &version["outcomeMessage"]), (&Value::from("failed"), &status["message"]));
        assert_eq!(self.new_flows(), BTreeMap::from([(vec!["old"], NEW)]));
        self.assert_undisturbed();
    }

    fn assert_undisturbed(&mut self) {
        self.stable.exchange().expect("connections of the stable version go on");
        let ports = self.stable.ports().expect("ports");
        self.site.assert_whole(&self.site.evidence(&self.witnesses, ECHO), &ports, &["old"]);
        assert_eq!(event(self.testbed.node(), "consistency_violation"), 0);
    }
}

#[test]
fn a_candidate_with_an_instance_down_is_taken_back() {
    require!();
    let mut world = World::new();
    world.start(&["--max-down", "0"]);
    assert_eq!(world.new_flows().len(), 2, "half of the new flows meet the candidate");
    world.stable.exchange().expect("exchange");
    let inward = world.site.members("new")[0].instance().inward();
    inward.node.set_up(false).expect("link down");
    world.assert_aborted(|reason| reason == "failed: 1 of 2 instances down, at most 0 are allowed");
}

#[test]
fn a_candidate_that_drops_is_taken_back() {
    require!();
    let mut world = World::new();
    world.start(&["--max-dropped", "5%", "--min-flows", "20"]);
    world.stable.exchange().expect("exchange");
    // From here on the way into one of its two instances is too narrow for full frames.
    let inward = &world.site.members("new")[0].instance().inward().node;
    inward.namespace.output("ip", &["link", "set", &inward.interface, "mtu", "1280"]).expect("a smaller MTU");
    let mut round = 0;
    while world.rollout().status()["phase"] == "paused" {
        assert!(round < 1000, "{:#}", world.rollout().status());
        world.begin_large_flows(round);
        round += 1;
    }
    world.assert_aborted(|reason| {
        reason.starts_with("failed: ") && reason.ends_with(" frames dropped, at most 5 % are allowed")
    });
}

#[test]
fn too_few_flows_are_no_judgement() {
    require!();
    let mut world = World::new();
    let arguments = ["--step", "setWeight=50", "--step", "pause=3s", "--max-dropped", "5%", "--max-resets", "5%"];
    world.rollout().start(&Documents::new().chain("acme", "web", &["new"]), &arguments);
    world.rollout().wait_for("paused");
    assert_eq!(world.new_flows().len(), 2, "half of the new flows meet the candidate");
    world.rollout().wait_for("inconclusive");
    let status = world.rollout().status();
    println!("{}", status["message"]);
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains(" flows, 100 are needed") && message.contains(" TCP flows, 100 are needed"), "{status:#}");
    assert_eq!(status["outcome"], "", "{status:#}");
    assert_eq!(world.new_flows().len(), 2, "the candidate keeps its share");
    world.assert_undisturbed();
    // Enough of them, and it goes on by itself.
    world.rollout().verb("resume", &[]);
    world.rollout().wait_for("paused");
    world.site.connect_shortly(ECHO, 400).expect("new connections");
    world.rollout().wait_for("completed");
    assert_eq!(world.rollout().status()["outcome"], "success");
    assert_eq!(world.new_flows(), BTreeMap::from([(vec!["new"], NEW)]));
    world.assert_undisturbed();
}
