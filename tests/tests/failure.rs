//! What fails at run time: the process, interfaces, budgets, privileges, input. The rest goes on.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::time::Duration;
use testbed::measure::BacklogGuard;
use testbed::scenario::{Site, Stage, TRANSPARENT, event, eventually, firewalls, function, host, plain};
use testbed::traffic::{Connections, EchoServer, Ping, UdpLoad, UdpReceiver, send_from_ports};
use testbed::{Documents, FrontEnd, Testbed, binary, require};

const SERVICE: u16 = 7000;

/// Tenants of equal addresses, each with two firewalls of its own.
struct World {
    tenants: Vec<Tenant>,
    front_end: FrontEnd,
    testbed: Testbed,
}

struct Tenant {
    site: Site,
    /// Its one function.
    function: String,
}

impl World {
    /// Tenants by name and budget: the same number of records of each kind.
    fn new(capacity: u32, tenants: &[(&'static str, u32)]) -> Self {
        let testbed = Testbed::new().expect("testbed");
        let front_end = FrontEnd::start_with_capacity(testbed.node(), capacity).expect("front end");
        let tenants = tenants.iter().zip(1..).map(|((name, budget), index)| {
            let tenant = Tenant::new(&testbed, name);
            let spec = format!("vni: {index}, budget: {{unanswered: {budget}, established: {budget}}}");
            let documents = Documents::new().raw("Tenant", &format!("name: {name}"), &spec);
            front_end.apply(&tenant.declare(documents));
            tenant
        });
        let tenants = tenants.collect();
        Self { tenants, front_end, testbed }
    }

    fn drops(&self, reason: &str) -> BTreeMap<String, u64> {
        let drops = self.front_end.json(&["drops"]);
        let of_reason = drops.as_array().expect("a list").iter().filter(|drop| drop["reason"] == reason);
        let tenants = of_reason.flat_map(|drop| drop["tenants"].as_array().cloned().unwrap_or_default());
        let entry =
            |it: serde_json::Value| (it["tenant"].as_str().unwrap_or("").to_owned(), it["count"].as_u64().unwrap_or(0));
        tenants.map(entry).collect()
    }

    /// The instances of each flow record, by tenant, protocol and ends.
    fn flows(&self) -> BTreeMap<String, String> {
        let flows = self.front_end.json(&["flows", "--limit", "100000"]);
        let line = |flow: &serde_json::Value| {
            let key = format!("{} {} {} {}", flow["tenant"], flow["protocol"], flow["client"], flow["server"]);
            (key, format!("{} {}", flow["view"], flow["instances"]))
        };
        flows.as_array().expect("a list").iter().map(line).collect()
    }

    /// What `get` prints of all kinds.
    fn desired(&self) -> Vec<String> {
        let kinds = ["tenant", "attachment", "networkfunction", "replicaset", "instance", "graph"];
        let get = |kind: &&str| self.front_end.run(&["get", kind, "-o", "yaml"]).expect("command line");
        let ran = kinds.iter().map(get).inspect(|ran| assert_eq!(ran.code, 0, "{}", ran.stderr));
        ran.map(|ran| ran.stdout).collect()
    }
}

impl Tenant {
    fn new(testbed: &Testbed, name: &str) -> Self {
        let (function, members) = (format!("fw-{name}"), [format!("{name}1"), format!("{name}2")]);
        let members = members.each_ref().map(String::as_str);
        let site = Site::new(testbed.node(), name, &[(&function, &members)], &[]).expect("hosts and firewalls");
        Self { site, function }
    }

    fn declare(&self, documents: Documents) -> Documents {
        self.site.declare(documents).chain(&self.site.tenant, "web", &[&self.function])
    }

    fn service(&self) -> SocketAddr {
        self.site.service(SERVICE)
    }

    fn record(&self) -> Stage {
        self.site.record(&self.function).expect("recorders")
    }

    /// As many UDP conversations, there and back.
    fn converse(&self, flows: u16) {
        let echo = UdpReceiver::start(self.site.server.namespace(), self.service(), true).expect("echo");
        let ports = 20_000..=20_000 + flows - 1;
        send_from_ports(self.site.client.namespace(), self.site.client.ipv4(), ports, self.service()).expect("UDP");
        echo.wait_for(flows.into(), Duration::from_secs(5)).expect("every datagram, with a record or without");
    }
}

#[test]
fn a_killed_process_stops_nothing_and_comes_back() {
    require!();
    let _backlog = BacklogGuard::raise(100_000).expect("backlog");
    let mut world = World::new(1 << 17, &[("red", 20_000)]);
    let tenant = &world.tenants[0];
    let _tcp = EchoServer::start(tenant.site.server.namespace(), tenant.service()).expect("echo");
    let receiver = UdpReceiver::start(tenant.site.server.namespace(), tenant.service(), false).expect("receiver");
    let mut connections = Connections::open(tenant.site.client.namespace(), tenant.service(), 50).expect("connections");
    // From now on the flows of the first instance are there by their records alone: the tables know only the second.
    let first = tenant.site.members("fw-red")[0].instance();
    world.front_end.apply(&Documents::new().instance("fw-red", first.name(), first, ", weight: 0"));
    let (desired, flows) = (world.desired(), world.flows());
    assert!(flows.len() >= 50);
    let entered = event(world.testbed.node(), "frames_in");
    let stage = tenant.record();
    let ping = Ping { count: 300, ..Ping::new(tenant.site.server.ipv4()) };
    let datagrams = 6000;
    let from = SocketAddr::new(tenant.site.client.ipv4(), 30_000);
    let load = UdpLoad { datagrams, per_second: Some(2000), ..UdpLoad::new(from, tenant.service()) };
    let front_end = &mut world.front_end;
    std::thread::scope(|scope| {
        let pinging = scope.spawn(|| ping.run(tenant.site.client.namespace()).expect("ping"));
        let sending = scope.spawn(|| load.run(tenant.site.client.namespace()).expect("load"));
        let one = || receiver.wait_for(1000, Duration::from_secs(10)).expect("traffic runs");
        one();
        front_end.kill().expect("kill -9");
        // Without any process, new flows are forwarded as well as old ones.
        connections.exchange().expect("connections live without the process");
        Connections::open(tenant.site.client.namespace(), tenant.service(), 10)
            .expect("new connections without the process");
        receiver.wait_for(3000, Duration::from_secs(10)).expect("traffic goes on without the process");
        front_end.restart().expect("restart");
        front_end.wait_programmed();
        sending.join().expect("load");
        let report = pinging.join().expect("ping");
        assert!(report.is_perfect(), "{report:?}");
        println!("{} pings and {datagrams} datagrams across kill -9 and restart: none lost", report.sent);
    });
    let report = receiver.wait_for(datagrams, Duration::from_secs(5)).expect("all datagrams");
    assert!(report.is_perfect(datagrams), "{report:?}");
    connections.exchange().expect("connections live after the restart");
    // Each conversation was at one instance only, all the while.
    let pins = stage.pins("in", |tuple| tuple.protocol == 6);
    assert!(pins.len() >= 60 && pins.values().any(|instance| instance == first.name()), "{pins:?}");
    assert_eq!(world.desired(), desired);
    let after = world.flows();
    let kept = flows.iter().filter(|(key, path)| after.get(*key) == Some(path)).count();
    assert_eq!(kept, flows.len(), "flow records changed: {flows:#?}\n{after:#?}");
    assert!(event(world.testbed.node(), "frames_in") > entered + datagrams);
}

#[test]
fn an_interface_that_comes_late() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let node = testbed.node();
    let client = host(node, "client", 1).expect("client");
    let firewalls = firewalls(node, &["a"], &[]).expect("firewalls");
    let front_end = FrontEnd::start(node).expect("front end");
    let documents = Documents::new().tenant("acme", 100).attachment("acme", "clients", "client", &client).raw(
        "Attachment",
        "name: servers, tenant: acme",
        "side: server, interface: late",
    );
    let documents = function(documents, "fw", TRANSPARENT, plain(&firewalls)).chain("acme", "web", &["fw"]);
    let ran = front_end.try_apply(&documents).expect("command line");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("not all of it is in the data path"), "{}", ran.stderr);
    let status = front_end.json(&["status"]);
    assert_eq!(status["programmed"], false, "{status:#}");
    let pending = &status["pendingPorts"][0];
    assert_eq!(pending["interface"], "late", "{status:#}");
    assert!(pending["owner"].as_str().is_some_and(|owner| owner.ends_with("attachments/servers")), "{status:#}");
    assert!(pending["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{status:#}");
    println!("{}; {}", status["reason"], pending);
    let late = host(node, "late", 2).expect("server");
    front_end.wait_programmed();
    assert_eq!(front_end.json(&["status"])["pendingPorts"].as_array().map(Vec::len), Some(0));
    assert!(Ping::new(late.ipv4()).run(client.namespace()).expect("ping").is_perfect());
}

#[test]
fn an_interface_that_goes_down() {
    require!();
    let world = World::new(1 << 17, &[("red", 1000), ("blue", 1000)]);
    let [red, blue] = world.tenants.as_slice() else { panic!("two tenants") };
    assert!(red.site.ping() && blue.site.ping());
    blue.site.server.node.set_up(false).expect("link down");
    eventually("the status tells", || world.front_end.json(&["status"])["pendingPorts"][0]["interface"] == "blue-s");
    assert!(!blue.site.ping());
    let drops = world.drops("port_down");
    assert!(drops.get("tenants/blue").is_some_and(|count| *count >= 2), "{drops:?}");
    assert!(!drops.contains_key("tenants/red") || drops["tenants/red"] == 0, "{drops:?}");
    assert!(red.site.ping(), "another tenant felt it");
    blue.site.server.node.set_up(true).expect("link up");
    world.front_end.wait_programmed();
    eventually("the tenant's traffic is back", || blue.site.ping());
}

/// Records a tenant uses, as `status` tells: unanswered, established.
fn used(world: &World, tenant: &str) -> (u64, u64) {
    let status = world.front_end.json(&["status"]);
    let tenants = status["tenants"].as_array().expect("a list");
    let found = tenants.iter().find(|it| it["tenant"].as_str().is_some_and(|name| name.ends_with(tenant)));
    let count = |kind: &str| found.expect("the tenant")[kind].as_u64().expect("a count");
    (count("unanswered"), count("established"))
}

#[test]
fn a_tenant_at_its_budget_is_forwarded_and_counted() {
    require!();
    let world = World::new(1 << 17, &[("red", 5), ("blue", 1000)]);
    let [red, blue] = world.tenants.as_slice() else { panic!("two tenants") };
    let stages = [red.record(), blue.record()];
    red.converse(50);
    let red_used = used(&world, "red");
    assert!(red_used.0 <= 5 && red_used.1 <= 5 && red_used.0 + red_used.1 >= 5, "{red_used:?}");
    assert!(event(world.testbed.node(), "budget_unanswered") >= 40);
    assert_eq!(used(&world, "blue").1, 0);
    blue.converse(50);
    assert!(used(&world, "blue").1 >= 50);
    assert_eq!(used(&world, "red"), red_used);
    for stage in stages {
        assert_eq!(stage.pins("in", |tuple| tuple.protocol == 17).len(), 50);
    }
}

#[test]
fn a_full_connection_table_loses_nothing() {
    require!();
    // The budgets add up to the capacity exactly, and no more is accepted.
    let world = World::new(20, &[("red", 5), ("blue", 5)]);
    let before = world.desired();
    let more = Documents::new().raw("Tenant", "name: green", "vni: 9, budget: {unanswered: 1, established: 1}");
    let refused = world.front_end.try_apply(&more).expect("command line");
    assert!(refused.code != 0 && refused.stderr.contains("budget"), "{refused:?}");
    assert_eq!(world.desired(), before);
    let stages: Vec<Stage> = world.tenants.iter().map(Tenant::record).collect();
    for tenant in &world.tenants {
        tenant.converse(100);
        tenant.converse(100);
    }
    let flows = world.front_end.json(&["status"])["flows"].as_u64().expect("a count");
    assert!((10..=20).contains(&flows), "{flows} records of 20");
    for (stage, tenant) in stages.iter().zip(&world.tenants) {
        assert_eq!(stage.pins("in", |tuple| tuple.protocol == 17).len(), 100, "{}", tenant.site.tenant);
    }
    let lookups = testbed::scenario::metrics(world.testbed.node());
    assert!(lookups["switchyard_lookups_total{tier=\"stateless\"}"] >= 300.0);
}

#[test]
fn a_plan_that_finds_no_room_does_not_block_the_next_one() {
    require!();
    let world = World::new(1 << 17, &[("red", 20_000)]);
    let site = &world.tenants[0].site;
    assert!(site.ping());
    // Each table takes 409,600 slots or more, so 90 do not fit into the pages.
    let sets: Vec<String> = (0..90).map(|index| format!("v{index}")).collect();
    let huge = |sets: &[String], weight: u32| {
        sets.iter().fold(Documents::new().raw("NetworkFunction", "name: huge", TRANSPARENT), |documents, set| {
            let port = |side: &str| format!("{side}: {{interface: {side}-{set}, mac: '02:00:00:00:00:01'}}");
            let spec = format!("weight: {weight}, {}, {}", port("inside"), port("outside"));
            let of_set = format!("name: a, networkFunction: huge, replicaSet: {set}");
            documents.replica_set("huge", set, 4095).raw("Instance", &of_set, &spec)
        })
    };
    let ran = world.front_end.try_apply(&huge(&sets, 1)).expect("command line");
    assert!(ran.stderr.contains("table pages"), "{ran:?}");
    let weigh = |weight: u32| {
        let instance = site.members("fw-red")[0].instance();
        Documents::new().instance("fw-red", instance.name(), instance, &format!(", weight: {weight}"))
    };
    // What is asked for besides is stored and waits with it; traffic does not.
    let ran = world.front_end.try_apply(&weigh(3)).expect("command line");
    assert!(ran.code == 0 && ran.stderr.contains("table pages"), "{ran:?}");
    assert!(site.ping());
    // Fewer tables fit, though all of them are others, and those written for the plan before had taken all room.
    let ran = world.front_end.run_apply(&huge(&sets[..40], 2), &["--prune"]).expect("command line");
    assert!(ran.code == 0 && !ran.stderr.contains("table pages"), "{ran:?}");
    assert!(ran.stderr.contains("no such interface"), "only ports are missing: {ran:?}");
    let ran = world.front_end.run(&["delete", "networkfunction", "huge", "--force"]).expect("command line");
    assert_eq!(ran.code, 0, "{ran:?}");
    world.front_end.wait_programmed();
    world.front_end.apply(&weigh(2));
    assert!(site.ping());
}

#[test]
fn without_privileges_one_error_says_what_is_needed() {
    require!();
    const NOBODY: u32 = 65_534;
    let testbed = Testbed::new().expect("testbed");
    let node = testbed.node().namespace();
    let directory = node.directory().join("unprivileged");
    fs::create_dir(&directory).expect("folder");
    chown(&directory, Some(NOBODY), Some(NOBODY)).expect("owner");
    // Where everybody may read it.
    let program = directory.join("switchyard");
    fs::copy(binary(), &program).expect("copy of the program");
    let mut command = node.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).arg("dev");
    command.arg("--state-dir").arg(&directory).arg("--listen").arg(directory.join("api.sock"));
    let mut process = node.spawn(command).expect("start");
    let status = process.wait(Duration::from_secs(10)).expect("it ends");
    let text = process.stderr();
    println!("{text}");
    assert!(!status.success());
    assert_eq!(text.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{text}");
    assert!(!text.contains("panicked") && text.contains("root"), "{text}");
}

#[test]
fn bad_input_is_refused_as_a_whole_with_all_it_violates() {
    require!();
    let world = World::new(1 << 17, &[("red", 1000)]);
    let before = world.desired();
    let nat = "forwarding: routed, tupleEffect: changes, addresses: [10.0.0.254]";
    let instance = |name: &str, prefix: &str| {
        let port = |side: &str| format!("{{interface: {name}-{side}, mac: '02:00:00:00:01:01'}}");
        let spec = format!(
            "weight: 1, inside: {}, outside: {}, outsideBlocks: [{{prefix: {prefix}}}]",
            port("in"),
            port("out")
        );
        (format!("name: {name}, networkFunction: nat, replicaSet: v1"), spec)
    };
    let (first, second) = (instance("n1", "198.51.100.0/28"), instance("n2", "198.51.100.8/29"));
    let ends = "clientAttachments: [clients], serverAttachments: [servers]";
    let nodes = "nodes: [{name: a, replicaSet: fw-red/v1}, {name: b, replicaSet: nat/v1}]";
    let documents = Documents::new()
        .tenant("green", 7)
        .function("nat", nat, 10)
        .raw("Instance", &first.0, &first.1)
        .raw("Instance", &second.0, &second.1)
        .raw("Graph", "name: cycle, tenant: red", &format!("{ends}, {nodes}, edges: [{{to: a}}, {{from: a, to: b}}, {{from: b, to: a}}]"))
        .raw("Graph", "name: unknown, tenant: red", &format!("{ends}, nodes: [{{name: a, replicaSet: none/v1}}], edges: [{{to: a}}, {{from: a}}]"))
        .raw("Graph", "name: noway, tenant: red", &format!("{ends}, {nodes}, edges: [{{to: a}}, {{from: a, to: b}}]"))
        .raw("Graph", "name: twice, tenant: red", &format!("{ends}, nodes: [{{name: a, replicaSet: fw-red/v1}}, {{name: b, replicaSet: fw-red/v1}}], edges: [{{to: a}}, {{from: a, to: b}}, {{from: b}}]"))
        .raw("Graph", "name: whose, tenant: nobody", &format!("{ends}, {nodes}, edges: [{{to: a}}, {{from: a, to: b}}, {{from: b}}]"));
    let refused = world.front_end.try_apply(&documents).expect("command line");
    println!("{}", refused.stderr);
    assert_ne!(refused.code, 0);
    for (object, field, words) in [
        ("instances/n2", "spec.outsideBlocks[0]", "overlaps with"),
        ("graphs/cycle", "spec.edges", "nodes in a cycle: a -> b -> a"),
        ("graphs/unknown", "spec.nodes[0].replicaSet", "there is no network function none"),
        ("graphs/noway", "spec.nodes[1]", "no edge leads from node b to the server side"),
        ("graphs/twice", "spec.nodes[1]", "a path passes replica set v1 twice"),
        ("graphs/whose", "metadata", "tenants/nobody does not exist"),
    ] {
        let said = |line: &&str| line.contains(object) && line.contains(field) && line.contains(words);
        assert!(
            refused.stderr.lines().any(|line| said(&line)),
            "{object}: {field}: {words} is not in\n{}",
            refused.stderr
        );
    }
    assert_eq!(world.desired(), before, "something was changed");
    assert!(world.tenants[0].site.ping());
    // Text that is no document, each place named.
    let refused = world.front_end.try_apply("---\nkind: [\n---\nkind: Tenant\n").expect("command line");
    assert!(
        refused.code != 0 && refused.stderr.contains("stdin:2") && refused.stderr.contains("stdin:4"),
        "{refused:?}"
    );
    assert_eq!(world.desired(), before, "something was changed");
}
