//! Two CPUs race on the first frames of a flow and agree on its instance.

use etherparse::PacketBuilder;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use testbed::scenario::{OneTenant, Site, event, eventually};
use testbed::traffic::race_frames;
use testbed::{Documents, FiveTuple, Way, require};

const RACES: u16 = 10_000;
const SERVICE: u16 = 7000;

#[test]
fn ten_thousand_races_for_a_flows_first_frame() {
    require!(second_cpu());
    let world = OneTenant::start(&[("fw", &["a", "b", "c"])], &[]).expect("a tenant");
    world.front_end.apply(&Documents::new().chain("acme", "web", &["fw"]));
    let Site { client, server, .. } = &world.site;
    // Takes the datagrams, so that no answers come; it need not read them.
    let service = world.site.service(SERVICE);
    let _sink = server.namespace().run(|| UdpSocket::bind(service)).expect("namespace").expect("socket");
    let stage = world.site.record("fw").expect("recorders");
    let recorders: Vec<_> = world.site.instances().map(|instance| instance.record().expect("recorder")).collect();
    let frame = |port: u16| {
        let packet = PacketBuilder::ethernet2(client.eth0.mac.0, server.eth0.mac.0)
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(port, SERVICE);
        let mut frame = Vec::new();
        packet.write(&mut frame, b"race").expect("writing to a vector");
        frame
    };
    let frames: Vec<_> = (10_000..10_000 + RACES).map(frame).collect();
    race_frames(&client.eth0, &frames).expect("both senders");
    let passed = || {
        recorders.iter().map(|recorder| {
            let recording = recorder.snapshot().expect("recording");
            recording.frames(|seen| seen.interface == "out" && seen.way == Way::Sent && seen.tuple.protocol == 17)
        })
    };
    eventually("both frames of every race have passed a firewall", || passed().sum::<u64>() == 2 * u64::from(RACES));
    let seen = stage.seen("in", |tuple: &FiveTuple| tuple.protocol == 17).expect("recording");
    assert_eq!(seen.len(), usize::from(RACES));
    let split: Vec<_> = seen.iter().filter(|(_, by_instance)| by_instance.len() != 1).take(5).collect();
    assert!(split.is_empty(), "flows at two instances: {split:#?}");
    let mut shares: BTreeMap<&String, usize> = BTreeMap::new();
    seen.values().flat_map(|by_instance| by_instance.keys()).for_each(|name| *shares.entry(name).or_default() += 1);
    assert_eq!(shares.len(), 3, "{shares:?}");
    let lost = event(world.testbed.node(), "insert_race");
    println!("{RACES} races, in {lost} of them both frames missed the record; flows at {shares:?}");
    assert!(lost > 0, "no race happened: the test has shown nothing");
}

fn second_cpu() -> Vec<String> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus > 1 { Vec::new() } else { vec!["Races need a second CPU.".into()] }
}
