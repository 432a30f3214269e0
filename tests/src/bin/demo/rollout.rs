//! Red's chain is changed under traffic: a firewall put into the middle of it, a canary that is promoted, and one that
//! resets connections and is aborted by itself. What happened is judged from what the functions saw.

use crate::{Stage, Table};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testbed::nf::{BridgeFirewall, BridgeFirewallConfig};
use testbed::scenario::{Rollout, TRANSPARENT};
use testbed::traffic::{Connections, EchoServer, UdpReceiver, tcp_connects};
use testbed::{Documents, Recorder, Testbed};

const CONNECTIONS: usize = 40;
const SERVICE: u16 = 7001;
const FLOWS: u16 = 400;
const CANARY: u16 = 7002;
/// Connections that are tried while the second candidate is on trial.
const TRIES: u32 = 400;

/// Two more firewalls: one like the others, and one that answers every SYN with a reset.
pub(crate) struct Guards {
    guard: BridgeFirewall,
    strict: BridgeFirewall,
}

impl Guards {
    pub(crate) fn new(testbed: &Testbed) -> Result<Self> {
        let firewall = |name: &str| BridgeFirewall::new(testbed.node(), BridgeFirewallConfig::new(name, Vec::new()));
        let (guard, strict) = (firewall("guard")?, firewall("strict")?);
        let rules = "table netdev strict {\n chain arrivals {\n  type filter hook ingress device \"in\" priority 0;\n  \
                     tcp flags & (syn | ack) == syn reject with tcp reset\n }\n}\n";
        strict.instance().namespace().output_of_input("nft", &["-f", "-"], rules)?;
        Ok(Self { guard, strict })
    }

    pub(crate) fn documents(&self, mut documents: Documents) -> Documents {
        for (name, firewall) in [("guard", &self.guard), ("strict", &self.strict)] {
            documents = documents.function(name, TRANSPARENT, 10);
            documents = documents.instance(name, name, firewall.instance(), "");
        }
        documents
    }
}

pub(crate) fn play(stage: &Stage, table: &mut Table) -> Result<()> {
    insertion(stage, table)?;
    promotion(stage, table)?;
    automatic_abort(stage, table)
}

fn chain(functions: &[&str]) -> Documents {
    Documents::new().chain("red", "web", functions)
}

/// Source ports of the TCP and UDP flows that a firewall saw on its way in, of those asked for.
fn seen(recorder: &Recorder, ports: &BTreeSet<u16>) -> Result<usize> {
    let recording = recorder.snapshot()?;
    let inward = recording.sightings.keys().filter(|seen| seen.interface == "in");
    let found: BTreeSet<u16> = inward.map(|seen| seen.tuple.source_port).filter(|port| ports.contains(port)).collect();
    Ok(found.len())
}

fn insertion(stage: &Stage, table: &mut Table) -> Result<()> {
    let red = &stage.tenants[0];
    let service = SocketAddr::new(red.service(), SERVICE);
    let _echo = EchoServer::start(red.server.namespace(), service)?;
    let mut old = Connections::open(red.client.namespace(), service, CONNECTIONS)?;
    old.exchange()?;
    let recorder = stage.guards.guard.instance().record()?;
    let done = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| -> Result<u32> {
        let traffic = scope.spawn(|| -> Result<u32> {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                old.exchange()?;
                rounds += 1;
            }
            Ok(rounds)
        });
        let applied = stage.front_end.try_apply(&chain(&["fw", "guard", "ids"]));
        done.store(true, Ordering::Relaxed);
        let rounds = traffic.join().expect("the thread does not panic")?;
        let applied = applied?;
        ensure!(applied.code == 0, "insert the guard: {}", applied.stderr);
        Ok(rounds)
    })?;
    old.exchange()?;
    let mut new = Connections::open(red.client.namespace(), service, CONNECTIONS)?;
    new.exchange()?;
    let count = |connections: &Connections| seen(&recorder, &connections.ports()?.into_iter().collect());
    let (before, after) = (count(&old)?, count(&new)?);
    let figure = format!("{CONNECTIONS} live, {before} of them and {after} of {CONNECTIONS} new ones met it");
    let what = format!("red: firewall put into the chain under {CONNECTIONS} connections");
    table.row(what, figure, rounds > 0 && before == 0 && after == CONNECTIONS);
    Ok(())
}

/// The guard is taken out again, with a canary.
fn promotion(stage: &Stage, table: &mut Table) -> Result<()> {
    let rollout = rollout(stage);
    rollout.start(&chain(&["fw", "ids"]), &["--step", "setWeight=25", "--step", "pause"]);
    watched(stage, || {
        rollout.wait_for("paused");
        let guarded = FLOWS as usize - udp_flows(stage, 40_000)?;
        let share = guarded as f64 / f64::from(FLOWS) * 100.0;
        let figure = format!("{guarded} of {FLOWS} new flows, {share:.0} %");
        table.row("red: canary of 25 % without that firewall", figure, (18.0..32.0).contains(&share));
        rollout.verb("promote", &[]);
        rollout.wait_for("completed");
        Ok(())
    })?;
    let left = udp_flows(stage, 50_000)?;
    table.row("red: promoted; new flows that meet the firewall", left.to_string(), left == 0);
    Ok(())
}

fn rollout(stage: &Stage) -> Rollout<'_> {
    Rollout::of(&stage.front_end, "red/web")
}

/// Shows what an operator who watches the rollout sees meanwhile.
fn watched(stage: &Stage, scene: impl FnOnce() -> Result<()>) -> Result<()> {
    const WATCH: [&str; 4] = ["rollout", "status", "red/web", "-w"];
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| stage.front_end.run(&WATCH));
        scene()?;
        let ran = watch.join().expect("the thread does not panic")?;
        println!("\n$ switchyard {}\n{}(exit code {})", WATCH.join(" "), ran.stdout, ran.code);
        Ok(())
    })
}

/// New flows that meet the guard, of [`FLOWS`] that begin.
fn udp_flows(stage: &Stage, first: u16) -> Result<usize> {
    let red = &stage.tenants[0];
    let recorder = stage.guards.guard.instance().record()?;
    let service = SocketAddr::new(red.service(), CANARY);
    let receiver = UdpReceiver::start(red.server.namespace(), service, false)?;
    let ports = first..=first + FLOWS - 1;
    testbed::traffic::send_from_ports(red.client.namespace(), red.client.ipv4(), ports.clone(), service)?;
    receiver.wait_for(FLOWS.into(), Duration::from_secs(10))?;
    seen(&recorder, &ports.collect())
}

fn automatic_abort(stage: &Stage, table: &mut Table) -> Result<()> {
    let (red, rollout) = (&stage.tenants[0], rollout(stage));
    let service = SocketAddr::new(red.service(), SERVICE);
    let _echo = EchoServer::start(red.server.namespace(), service)?;
    let steps = ["--step", "setWeight=50", "--step", "pause", "--max-resets", "10%", "--min-flows", "20"];
    rollout.start(&chain(&["fw", "strict", "ids"]), &steps);
    watched(stage, || {
        rollout.wait_for("paused");
        let began = Instant::now();
        let (mut tried, mut refused) = (0, 0);
        while tried < TRIES && rollout.status()["phase"] != "completed" {
            tried += 1;
            refused += u32::from(!tcp_connects(red.client.namespace(), service));
        }
        rollout.wait_for("completed");
        let seconds = began.elapsed().as_secs_f64();
        let is_failed = rollout.status()["outcome"] == "failed";
        let figure = format!("after {refused} of {tried} connections were reset, {seconds:.1} s");
        table.row("red: canary that resets connections aborts by itself", figure, is_failed && refused > 0);
        Ok(())
    })?;
    let reset = (0..50).filter(|_| !tcp_connects(red.client.namespace(), service)).count();
    table.row("red: connections reset after the abort", format!("{reset} of 50"), reset == 0);
    Ok(())
}
