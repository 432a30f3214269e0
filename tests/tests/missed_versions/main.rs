//! An agent that was away, missed versions or was killed in the middle of an install comes back to the state that was declared.

mod maps;
#[cfg(target_arch = "x86_64")]
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, SystemTime};
use testbed::scenario::{OneTenant, Site, eventually};
use testbed::traffic::{Connections, EchoServer};
use testbed::{Documents, FrontEnd, Host, Process, Recorder, require};

const SERVICE: u16 = 7000;
const CONNECTIONS: usize = 8;
/// New connections that are looked at after a kill, and again after a restart.
const NEW: usize = 6;

/// The graph's two shapes, by functions.
const SHAPES: [&[&str]; 2] = [&["fw"], &["log", "fw"]];

/// A tenant with two functions, of which its graph uses one or both.
struct World {
    tenant: OneTenant,
    _echo: EchoServer,
    /// Keeps the kernel taking time stamps.
    _stamps: Recorder,
}

impl World {
    fn new() -> Self {
        let tenant = OneTenant::start(&[("fw", &["fw1", "fw2"]), ("log", &["log1", "log2"])], &[]).expect("a tenant");
        let Site { client, server, .. } = &tenant.site;
        let stamps = Recorder::start(client.namespace(), &[Host::INTERFACE]).expect("recorder");
        tenant.front_end.apply(&shape(0, 0));
        let echo = EchoServer::start(server.namespace(), tenant.site.service(SERVICE)).expect("echo server");
        Self { _echo: echo, _stamps: stamps, tenant }
    }

    fn connect(&self) -> Connections {
        let client = self.tenant.site.client.namespace();
        Connections::open(client, self.tenant.site.service(SERVICE), CONNECTIONS).expect("connections")
    }

    fn content(&self) -> maps::Content {
        maps::read(self.tenant.front_end.bpffs())
    }

    /// The shapes that flows have which begin now, each in full: by function, from the client.
    fn new_flows(&self) -> BTreeSet<Vec<&str>> {
        self.tenant.site.paths_of_new(SERVICE, NEW).into_keys().collect()
    }

    /// The shape that is declared.
    fn declared(&self) -> &'static [&'static str] {
        let graph = self.tenant.front_end.json(&["get", "graph", "acme/web"]);
        let nodes = graph["spec"]["nodes"].as_array().map_or(0, Vec::len);
        SHAPES.into_iter().find(|shape| shape.len() == nodes).unwrap_or_else(|| panic!("neither shape: {graph:#}"))
    }

    /// Asserts that the maps are those of a data path that never was in another state. The process must have ended.
    fn assert_as_fresh(&self) {
        let now = self.content();
        let fresh = FrontEnd::start_with_state_of(self.tenant.testbed.node(), &self.tenant.front_end)
            .expect("a fresh front end");
        fresh.wait_programmed();
        let wanted = maps::read(fresh.bpffs());
        let (more, less): (Vec<_>, Vec<_>) = (now.difference(&wanted).collect(), wanted.difference(&now).collect());
        assert!(more.is_empty() && less.is_empty(), "beyond a fresh install: {more:#?}\nmissing: {less:#?}");
    }
}

/// The graph in a shape. Versions of different numbers (below 100) differ in an edge that no flow takes, so that an install has
/// all its steps even if the same shape is installed already.
fn shape(index: usize, version: usize) -> Documents {
    let functions = SHAPES[index];
    let nodes: Vec<String> = functions.iter().map(|name| format!("{{name: {name}, replicaSet: {name}/v1}}")).collect();
    let mut edges = vec![format!("{{to: fw, match: {{protocol: '{}'}}}}", 150 + version)];
    for at in 0..=functions.len() {
        let from = at.checked_sub(1).map(|before| format!("from: {}", functions[before]));
        let to = functions.get(at).map(|name| format!("to: {name}"));
        edges.push(format!("{{{}}}", from.into_iter().chain(to).collect::<Vec<_>>().join(", ")));
    }
    let ends = "clientAttachments: [clients], serverAttachments: [servers]";
    let spec = format!("{ends}, nodes: [{}], edges: [{}]", nodes.join(", "), edges.join(", "));
    Documents::new().raw("Graph", "name: web, tenant: acme", &spec)
}

#[test]
fn a_restart_without_a_change_changes_nothing() {
    require!();
    let mut world = World::new();
    let mut connections = world.connect();
    let before = world.content();
    world.tenant.front_end.kill().expect("kill -9");
    assert_eq!(world.content(), before);
    connections.exchange().expect("connections without the process");
    world.tenant.front_end.restart().expect("restart");
    world.tenant.front_end.wait_programmed();
    assert_eq!(world.content(), before);
    connections.exchange().expect("connections after the restart");
    world.tenant.front_end.kill().expect("kill -9");
    world.assert_as_fresh();
}

#[test]
fn ten_missed_versions_are_caught_up_with_in_one_step() {
    require!();
    let mut world = World::new();
    let before = world.content();
    world.tenant.front_end.kill().expect("kill -9");
    // Ten versions are made where none of the interfaces are, so that the data path here hears of none.
    let elsewhere = world.tenant.testbed.add_node("elsewhere").expect("node");
    let mut other = FrontEnd::start_with_state_of(&elsewhere, &world.tenant.front_end).expect("front end");
    for index in 1..=10 {
        let ran = other.try_apply(&shape(index % 2, index)).expect("command line");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let last = other.try_apply(&shape(1, 0)).expect("command line");
    assert_eq!(last.code, 0, "{}", last.stderr);
    other.kill().expect("kill -9");
    assert_eq!(world.content(), before);
    world.tenant.front_end.take_state_of(&other).expect("state");
    world.tenant.front_end.restart().expect("restart");
    world.tenant.front_end.wait_programmed();
    assert_eq!(world.new_flows(), BTreeSet::from([SHAPES[1].to_vec()]));
    world.tenant.front_end.kill().expect("kill -9");
    assert_ne!(world.content(), before);
    world.assert_as_fresh();
}

/// Numbers that can be had again: those of `SWITCHYARD_SEED`, which is printed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let asked = std::env::var("SWITCHYARD_SEED").ok();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").subsec_nanos();
        let seed = asked.map_or(u64::from(now), |text| text.parse().expect("SWITCHYARD_SEED is a number"));
        println!("SWITCHYARD_SEED={seed}");
        Self(seed | 1)
    }

    /// The next one: xorshift (Marsaglia, 2003).
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// System calls at which a process is killed: those that write the store, those that write maps, and the waits for programs that
/// run.
const CALLS: [&str; 3] = ["pwrite64,fdatasync,fsync", "bpf", "membarrier"];

/// Kills the process before the `nth` of these calls that one of its threads makes from now on.
fn kill_at(world: &World, calls: &str, nth: u64) -> Process {
    let id = world.tenant.front_end.process_id().expect("it runs").to_string();
    let mut command = world.tenant.testbed.node().namespace().command("strace");
    command.args(["-f", "-o", "/dev/null", "-p", &id, "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:signal=KILL:when={nth}")]);
    let mut strace = world.tenant.testbed.node().namespace().spawn(command).expect("strace");
    let attached = |strace: &Process| strace.stderr().contains("attached");
    strace.wait_until("strace watches", Duration::from_secs(10), attached).expect("strace");
    strace
}

/// Has the process killed while a document is applied and `until` does not hold, unless it does not come so far. Whether it was
/// killed.
fn interrupt(world: &mut World, (calls, nth): (&str, u64), wanted: &str, until: impl Fn(&World) -> bool) -> bool {
    let mut strace = kill_at(world, calls, nth);
    let ran = world.tenant.front_end.try_apply(wanted).expect("command line");
    if ran.code == 0 {
        eventually("the install is over, or the process", || !strace.is_running().expect("strace") || until(world));
        // The kernel lets go of what a tracer leaves behind.
        strace.kill().expect("strace ends");
    } else {
        strace.wait(Duration::from_secs(10)).expect("strace ends with the process");
    }
    let lives = world.tenant.front_end.run(&["status"]).expect("command line").code == 0;
    if !lives {
        eventually("the process ends", || !world.tenant.front_end.is_running().expect("the process"));
    }
    assert!(!lives || ran.code == 0, "{}", ran.stderr);
    !lives
}

/// Has installs of either shape killed at steps of every kind, with random distances of up to `stride` between them, and what
/// comes of it judged. How often that was, by kind.
fn interrupted(
    world: &mut World,
    stride: u64,
    until: impl Fn(&World) -> bool,
    mut judge: impl FnMut(&mut World, usize),
) -> BTreeMap<(usize, &'static str), u64> {
    let mut random = Random::new();
    let (mut counts, mut version) = (BTreeMap::new(), 0);
    for (to, calls) in [1, 0].into_iter().flat_map(|to| CALLS.map(|calls| (to, calls))) {
        let mut nth = 1;
        loop {
            version = (version + 2) % 100;
            world.tenant.front_end.apply(&shape(1 - to, version));
            eventually("the shape before is alone", || until(world));
            if !interrupt(world, (calls, nth), &shape(to, version + 1), &until) {
                break;
            }
            *counts.entry((to, calls)).or_default() += 1;
            judge(world, to);
            nth += 1 + random.below(stride);
        }
    }
    println!("killed, by shape and calls: {counts:?}");
    counts
}

#[test]
fn killed_at_each_step_of_an_install_it_forwards_by_one_version() {
    require!(strace());
    let mut world = World::new();
    let mut connections = world.connect();
    let (mut before, mut behind) = (0, 0);
    let counts = interrupted(
        &mut world,
        3,
        |_| true,
        |world, to| {
            connections.exchange().expect("connections after the kill");
            let seen = world.new_flows();
            let shapes = SHAPES.map(|shape| BTreeSet::from([shape.to_vec()]));
            assert!(shapes.contains(&seen), "new flows went {seen:?}");
            *(if seen == shapes[to] { &mut behind } else { &mut before }) += 1;
            world.tenant.front_end.restart().expect("restart");
            world.tenant.front_end.wait_programmed();
            assert_eq!(world.new_flows(), BTreeSet::from([world.declared().to_vec()]), "after a restart");
            connections.exchange().expect("connections after the restart");
        },
    );
    println!("{before} times before the switch, {behind} times behind it");
    assert!(counts.len() >= 4 && before > 4, "no install was interrupted");
}

#[test]
fn killed_at_each_step_of_an_install_it_becomes_what_a_fresh_one_is() {
    require!(strace());
    let mut world = World::new();
    // Without flows, so that a version that is no longer declared may go at once.
    let is_alone = |world: &World| maps::views(&world.content()) == 1;
    let counts = interrupted(&mut world, 6, is_alone, |world, _| {
        world.tenant.front_end.restart().expect("restart");
        world.tenant.front_end.wait_programmed();
        eventually("a version without flows goes", || maps::views(&world.content()) == 1);
        world.tenant.front_end.kill().expect("kill -9");
        world.assert_as_fresh();
        world.tenant.front_end.restart().expect("restart");
    });
    assert!(counts.len() >= 4, "no install was interrupted");
}

fn strace() -> Vec<String> {
    let runs = Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success());
    if runs { Vec::new() } else { vec!["Killing at a system call needs strace.".into()] }
}
