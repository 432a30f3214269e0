//! The demo: two tenants with the same addresses, real network functions, real traffic; a table of what happened.
//! Exits non-zero if anything it claims did not hold.

mod rollout;

use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use testbed::measure::BacklogGuard;
use testbed::nf::{BridgeFirewall, Instance, SharedFirewall, Snat};
use testbed::scenario::{SHARED, TRANSPARENT, firewalls, function, metrics, net, shared_firewall, snat};
use testbed::traffic::{Curl, Iperf, IperfReport, IperfServer, Ping, UdpLoad, UdpReceiver, WebServer};
use testbed::{Documents, FiveTuple, FrontEnd, Host, HostConfig, Kind, MacAddr, Recorder, Recording, Testbed};

/// What an operator would look at, shown at the end.
const VERBS: &[&[&str]] = &[
    &["status"],
    &["get", "graph"],
    &["rollout", "status", "red/web"],
    &["rollout", "history", "red/web"],
    &["flows", "--tenant", "blue"],
    &["trace", "--tenant", "red", "--side", "client", "tcp", "10.0.0.1:40000", "10.0.1.2:80"],
    &["drops"],
];
/// Lines of each that are shown.
const SHOWN_LINES: usize = 14;

const WEIGHTS: [u32; 3] = [1, 2, 3];
const FLOWS: u16 = 600;
const WEB: u16 = 80;
const ECHO: u16 = 7000;
const IPERF: u16 = 5201;

/// One tenant's hosts. Both tenants have the same addresses and the same MAC addresses.
struct Tenant {
    name: &'static str,
    client: Host,
    server: Host,
}

/// Everything the demo lays out.
struct Stage {
    tenants: [Tenant; 2],
    firewalls: Vec<BridgeFirewall>,
    nats: Vec<Snat>,
    shared: SharedFirewall,
    guards: rollout::Guards,
    front_end: FrontEnd,
    testbed: Testbed,
}

/// The table.
#[derive(Default)]
struct Table {
    rows: Vec<(String, String, bool)>,
}

impl Table {
    fn row(&mut self, what: impl Into<String>, figure: impl Into<String>, holds: bool) {
        self.rows.push((what.into(), figure.into(), holds));
    }

    fn print(&self) -> bool {
        let width = |pick: fn(&(String, String, bool)) -> usize| self.rows.iter().map(pick).max().unwrap_or(0);
        let (what, figure) = (width(|r| r.0.chars().count()), width(|r| r.1.chars().count()));
        println!("\n{:what$}  {:figure$}  holds", "what", "measured");
        println!("{}", "-".repeat(what + figure + 9));
        for (name, value, holds) in &self.rows {
            println!("{name:what$}  {value:figure$}  {}", if *holds { "yes" } else { "NO" });
        }
        self.rows.iter().all(|(.., holds)| *holds)
    }
}

fn head(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let mut shown = lines[..lines.len().min(SHOWN_LINES)].join("\n");
    if lines.len() > SHOWN_LINES {
        shown += &format!("\n({} more lines)", lines.len() - SHOWN_LINES);
    }
    shown
}

fn step(began: Instant, text: &str) {
    println!("[{:5.1} s] {text}", began.elapsed().as_secs_f64());
}

fn main() -> Result<()> {
    let missing = testbed::requirements();
    anyhow::ensure!(missing.is_empty(), "this machine cannot run the demo:\n{}", missing.join("\n"));
    let began = Instant::now();
    step(began, "laying out two tenants with the same addresses, 5 firewalls, 2 NATs, 1 shared firewall");
    let mut stage = Stage::build()?;
    step(began, "applying tenants, functions and graphs over the API");
    let applied = Instant::now();
    stage.front_end.apply(&stage.documents());
    let mut table = Table::default();
    let outcome = play(&mut stage, &mut table, began, applied);
    let holds = table.print();
    for verb in VERBS {
        let ran = stage.front_end.run(verb)?;
        println!("\n$ switchyard {}\n{}", verb.join(" "), head(&ran.stdout));
    }
    println!("\nwhole demo: {:.1} s", began.elapsed().as_secs_f64());
    outcome?;
    anyhow::ensure!(holds, "the table has claims that did not hold");
    Ok(())
}

/// All scenes, in order.
fn play(stage: &mut Stage, table: &mut Table, began: Instant, applied: Instant) -> Result<()> {
    let seconds = applied.elapsed().as_secs_f64();
    table.row("API call to programmed data path, whole platform", format!("{:.0} ms", seconds * 1e3), seconds < 5.0);
    step(began, "connectivity and isolation");
    isolation(stage, table)?;
    step(began, "600 flows over instances of weights 1:2:3, both directions, NAT behind");
    spread(stage, table)?;
    step(began, "both tenants at full load, TCP and UDP");
    load(stage, table)?;
    step(began, "a firewall put into a running chain, a canary promoted, one aborted by itself");
    rollout::play(stage, table)?;
    step(began, "kill -9 of the control plane and agent under traffic, restart");
    crash(stage, table)?;
    step(began, "counting");
    conservation(stage, table);
    Ok(())
}

impl Tenant {
    /// Red's servers are in the clients' subnet; blue's are behind a NAT gateway.
    fn new(testbed: &Testbed, name: &'static str) -> Result<Self> {
        let (client_mac, server_mac) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let client = HostConfig::new(&format!("{name}-c")).mac(client_mac).address(net("10.0.0.1/16"));
        let client = client.address(net("2001:db8::1/64")).gateway("10.0.255.254".parse()?);
        let server = HostConfig::new(&format!("{name}-s")).mac(server_mac).address(net("10.0.1.2/16"));
        let server = server.address(net("2001:db8::2/64")).address(net("198.51.100.2/24"));
        Ok(Self { name, client: Host::new(testbed.node(), client)?, server: Host::new(testbed.node(), server)? })
    }

    /// The address its clients use.
    fn service(&self) -> IpAddr {
        if self.name == "red" { [10, 0, 1, 2].into() } else { [198, 51, 100, 2].into() }
    }
}

impl Stage {
    fn build() -> Result<Self> {
        let testbed = Testbed::new()?;
        let tenants = [Tenant::new(&testbed, "red")?, Tenant::new(&testbed, "blue")?];
        let firewalls = firewalls(testbed.node(), &["fw1", "fw2", "fw3"], &[23])?;
        let nat =
            |n: u8| snat(testbed.node(), &format!("nat{n}"), "10.0.255.254/16", &format!("198.51.100.{}", 10 + n));
        let nats = (1..=2).map(nat).collect::<Result<_, _>>()?;
        let shared = shared_firewall(testbed.node(), "ids", [8101, 8102])?;
        let guards = rollout::Guards::new(&testbed)?;
        let front_end = FrontEnd::start(testbed.node())?;
        Ok(Self { tenants, firewalls, nats, shared, guards, front_end, testbed })
    }

    fn documents(&self) -> Documents {
        let mut documents = Documents::new().tenant("red", 100).tenant("blue", 200);
        for tenant in &self.tenants {
            documents = documents.hosts(tenant.name, &tenant.client, &tenant.server);
        }
        let firewalls = self.firewalls.iter().zip(WEIGHTS);
        let firewalls = firewalls.map(|(firewall, weight)| (firewall.instance(), format!(", weight: {weight}")));
        documents = function(documents, "fw", TRANSPARENT, firewalls);
        documents = function(documents, "ids", SHARED, [(self.shared.instance(), String::new())]);
        let block = |n: usize| format!(", outsideBlocks: [{{prefix: 198.51.100.{}/32}}]", 11 + n);
        let nats = self.nats.iter().enumerate().map(|(n, nat)| (nat.instance(), block(n)));
        let spec = "forwarding: routed, tupleEffect: changes, addresses: [10.0.255.254]";
        documents = function(documents, "nat", spec, nats);
        documents = self.guards.documents(documents);
        documents.chain("red", "web", &["fw", "ids"]).chain("blue", "web", &["ids", "nat"])
    }

    fn instances(&self) -> Vec<&Instance> {
        let firewalls = self.firewalls.iter().map(BridgeFirewall::instance);
        firewalls.chain(self.nats.iter().map(Snat::instance)).chain([self.shared.instance()]).collect()
    }

    fn record(&self) -> Result<Vec<(String, Recorder)>> {
        self.instances().iter().map(|i| Ok((i.name().to_owned(), i.record()?))).collect()
    }
}

fn isolation(stage: &Stage, table: &mut Table) -> Result<()> {
    for tenant in &stage.tenants {
        // The first frame to a host that never spoke is lost while the front end asks for its MAC address.
        Ping { count: 1, ..Ping::new(tenant.service()) }.run(tenant.client.namespace())?;
        let report = Ping { count: 20, ..Ping::new(tenant.service()) }.run(tenant.client.namespace())?;
        let figure = format!("{} of {} answered", report.received, report.sent);
        table.row(format!("{}: ping {}", tenant.name, tenant.service()), figure, report.is_perfect());
    }
    let red = &stage.tenants[0];
    let report = Ping { count: 20, ..Ping::new("2001:db8::2".parse()?) }.run(red.client.namespace())?;
    table.row("red: ping over IPv6", format!("{} of {} answered", report.received, report.sent), report.is_perfect());
    let mut servers = Vec::new();
    for tenant in &stage.tenants {
        servers.push(WebServer::start(tenant.server.namespace(), SocketAddr::new(tenant.service(), WEB), &[])?);
    }
    let recorders = stage.record()?;
    let mut own = 0;
    for (tenant, server) in stage.tenants.iter().zip(&servers) {
        for _ in 0..50 {
            let report = Curl::new(server.url("/")).run(tenant.client.namespace())?;
            own += u32::from(report.header("x-served-by") == Some(format!("{}-s", tenant.name).as_str()));
        }
    }
    table.row("web requests answered by the tenant's own server", format!("{own} of 100"), own == 100);
    let crossed = crossings(&recorders)?;
    table.row("frames seen at an instance or tag of the other tenant", crossed.to_string(), crossed == 0);
    let blocked = stage.tenants[0].client.namespace().output("curl", &["-sm1", "http://10.0.1.2:23/"]).is_err();
    let counters = stage.firewalls.iter().map(|f| f.instance().rule_counters()).collect::<Result<Vec<_>, _>>()?;
    let dropped: u64 = counters.iter().map(|c| c.get("tcp23").map_or(0, |r| r.packets)).sum();
    table.row(
        "red: port 23 stopped by the firewall",
        format!("{dropped} frames dropped there"),
        blocked && dropped > 0,
    );
    let refused = stage.front_end.try_apply(&Documents::new().chain("blue", "web", &["fw"]))?;
    let reason = refused.stderr.lines().next().and_then(|line| line.rsplit(": ").next()).unwrap_or("").to_owned();
    table.row("blue: untagged firewall of red refused", reason.chars().take(48).collect::<String>(), refused.code != 0);
    Ok(())
}

/// Frames at the shared firewall whose addresses are not those of their tag's tenant, and at firewalls and NATs of frames that
/// only the other tenant sends.
fn crossings(recorders: &[(String, Recorder)]) -> Result<u64> {
    let service = |tuple: &FiveTuple, address: &str| -> bool {
        let address: IpAddr = address.parse().expect("a constant");
        tuple.source == address || tuple.destination == address
    };
    let mut crossed = 0;
    for (name, recorder) in recorders {
        crossed += recorder.snapshot()?.frames(|seen| match (name.as_str(), seen.vlan) {
            ("ids", Some(101)) => !service(&seen.tuple, "10.0.1.2"),
            ("ids", Some(102)) => !service(&seen.tuple, "198.51.100.2"),
            ("ids", _) => true,
            (nat, _) if nat.starts_with("nat") => !service(&seen.tuple, "198.51.100.2"),
            (_, tag) => tag.is_some() || !service(&seen.tuple, "10.0.1.2"),
        });
    }
    Ok(crossed)
}

fn spread(stage: &Stage, table: &mut Table) -> Result<()> {
    for tenant in &stage.tenants {
        let recorders = stage.record()?;
        let service = SocketAddr::new(tenant.service(), ECHO);
        let receiver = UdpReceiver::start(tenant.server.namespace(), service, true)?;
        let from = tenant.client.ipv4();
        testbed::traffic::send_from_ports(tenant.client.namespace(), from, 20_000..=20_000 + FLOWS - 1, service)?;
        receiver.wait_for(FLOWS.into(), Duration::from_secs(10))?;
        let mut by_instance: BTreeMap<String, Recording> = BTreeMap::new();
        for (name, recorder) in &recorders {
            by_instance.insert(name.clone(), recorder.snapshot()?);
        }
        let stages: &[&[&str]] =
            if tenant.name == "red" { &[&["fw1", "fw2", "fw3"], &["ids"]] } else { &[&["ids"], &["nat1", "nat2"]] };
        for names in stages.iter().filter(|names| names.len() > 1) {
            let sets: Vec<BTreeSet<FiveTuple>> = names.iter().map(|name| flows(&by_instance[*name])).collect();
            let counts: Vec<usize> = sets.iter().map(BTreeSet::len).collect();
            let split: usize = sets
                .iter()
                .enumerate()
                .map(|(i, set)| sets[..i].iter().map(|o| o.intersection(set).count()).sum::<usize>())
                .sum();
            let total: usize = counts.iter().sum();
            let text = counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / ");
            let label = format!("{}: {FLOWS} flows over {}", tenant.name, names.join(", "));
            table.row(label, format!("{text}, {split} at two"), total == usize::from(FLOWS) && split == 0);
        }
        let one_way = names_with_one_way(&by_instance);
        table.row(
            format!("{}: flows of which an instance saw one direction", tenant.name),
            one_way.to_string(),
            one_way == 0,
        );
    }
    Ok(())
}

/// Flows of the spread test that an instance saw on its way in.
fn flows(recording: &Recording) -> BTreeSet<FiveTuple> {
    let wanted = |kind: &Kind, tuple: &FiveTuple| {
        matches!(kind, Kind::Whole)
            && (20_000..20_000 + FLOWS).contains(&tuple.source_port)
            && tuple.destination_port == ECHO
    };
    let seen = recording.sightings.keys().filter(|s| s.interface == "in" && wanted(&s.kind, &s.tuple));
    seen.map(|s| s.tuple).collect()
}

fn names_with_one_way(by_instance: &BTreeMap<String, Recording>) -> usize {
    let both = |recording: &Recording| {
        let tuples: BTreeSet<FiveTuple> =
            recording.sightings.keys().filter(|s| s.interface == "in").map(|s| s.tuple).collect();
        flows(recording).iter().filter(|tuple| !tuples.contains(&tuple.reversed())).count()
    };
    by_instance.values().map(both).sum()
}

fn load(stage: &Stage, table: &mut Table) -> Result<()> {
    let seconds = Duration::from_secs(4);
    // Each hop queues once per CPU; a queue that runs over loses frames where neither side can count them.
    let _backlog = BacklogGuard::raise(50_000)?;
    let mut servers = Vec::new();
    let mut clients = Vec::new();
    for tenant in &stage.tenants {
        servers.push(IperfServer::start(tenant.server.namespace(), IPERF)?);
        let load = Iperf { duration: seconds, ..Iperf::new(tenant.service(), IPERF) };
        clients.push((tenant.name, load.start(tenant.client.namespace())?));
    }
    for (name, mut client) in clients {
        let report = IperfReport::of(&mut client, seconds + Duration::from_secs(10))?;
        let figure = format!("{:.1} Gbit/s, {} retransmits", report.gbit_per_s, report.retransmits.unwrap_or(0));
        table.row(format!("{name}: TCP, both tenants at once"), figure, report.gbit_per_s > 0.1);
    }
    for tenant in &stage.tenants {
        let to = SocketAddr::new(tenant.service(), 7100);
        let receiver = UdpReceiver::start(tenant.server.namespace(), to, false)?;
        let from = SocketAddr::new(tenant.client.ipv4(), 30_000);
        let sent = 500;
        UdpLoad { datagrams: sent, bytes: 6000, per_second: Some(5000), ..UdpLoad::new(from, to) }
            .run(tenant.client.namespace())?;
        let report = receiver.wait_for(sent, Duration::from_secs(5))?;
        let figure = format!("{} of {sent}, {} reordered", report.received, report.reordered);
        table.row(
            format!("{}: UDP datagrams of 6000 bytes (5 fragments)", tenant.name),
            figure,
            report.is_perfect(sent),
        );
    }
    Ok(())
}

fn crash(stage: &mut Stage, table: &mut Table) -> Result<()> {
    let before = stage.front_end.json(&["status"]);
    let tenants = &stage.tenants;
    let count = 400;
    let ping = Ping { count, interval: Duration::from_millis(10), ..Ping::new(tenants[1].service()) };
    let front_end = &mut stage.front_end;
    let report = std::thread::scope(|scope| -> Result<_> {
        let pinging = scope.spawn(|| ping.run(tenants[1].client.namespace()));
        front_end.kill()?;
        front_end.restart()?;
        Ok(pinging.join().expect("the thread does not panic")?)
    })?;
    stage.front_end.wait_programmed();
    let figure = format!("{} of {} answered", report.received, report.sent);
    table.row("blue: ping every 10 ms across kill -9 and restart", figure, report.is_perfect());
    let after = stage.front_end.json(&["status"]);
    let same = before["planDigest"] == after["planDigest"] && before["plan_digest"] == after["plan_digest"];
    table.row("plan after the restart", if same { "the same" } else { "another" }, same);
    Ok(())
}

fn conservation(stage: &Stage, table: &mut Table) {
    let metrics = metrics(stage.testbed.node());
    let sum = |name: &str| -> u64 {
        metrics.iter().filter(|(metric, _)| metric.starts_with(name)).map(|(_, value)| *value as u64).sum()
    };
    let arrived = sum("switchyard_events_total{event=\"frames_in\"");
    let (left, dropped) = (sum("switchyard_frames_total{"), sum("switchyard_drops_total{"));
    let figure = format!("{arrived} in = {left} out + {dropped} with a reason");
    table.row("frames in = frames out + drops", figure, arrived > 0 && arrived == left + dropped);
}
