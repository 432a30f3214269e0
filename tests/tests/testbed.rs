//! Tests of the testbed itself: hosts, load, isolation, removal, measuring.

mod common;

use std::{
    env,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use common::{client_and_server, join};
use testbed::{
    Error, Host, HostConfig, MacAddr, Namespace, Recorder, Testbed, Way,
    measure::{BacklogGuard, CpuTime, Softnet, interface_counters},
    preflight::{NO_SKIP_VARIABLE, SKIP_FILE_VARIABLE},
    require,
    scenario::{ip, net},
    traffic::{Iperf, IperfServer, Ping, UdpLoad, UdpReceiver, send_from_ports},
};

fn namespaces_with(prefix: &str) -> Vec<String> {
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

fn process_exists(id: u32) -> bool {
    Path::new(&format!("/proc/{id}")).exists()
}

#[test]
fn two_hosts_ping_and_transfer() {
    require!();
    let bed = Testbed::new().unwrap();
    let (client, server) = client_and_server(bed.node());
    join(bed.node(), &[&["client", "server"]]);
    for to in [server.ipv4(), server.ipv6()] {
        let report = Ping::new(to).run(client.namespace()).unwrap();
        assert!(report.is_perfect(), "{to}: {report:?}");
    }
    let nobody = Ping { count: 1, timeout: Duration::from_millis(100), ..Ping::new(ip("10.0.0.9")) };
    assert_eq!(nobody.run(client.namespace()).unwrap().received, 0);
    let too_big = Ping { data_bytes: 1473, dont_fragment: true, count: 1, ..Ping::new(server.ipv4()) };
    assert_eq!(too_big.run(client.namespace()).unwrap().received, 0);

    let iperf = IperfServer::start(server.namespace(), 5201).unwrap();
    let before = interface_counters(client.namespace()).unwrap()["eth0"];
    let cpu = CpuTime::now().unwrap();
    let report = Iperf::new(server.ipv4(), iperf.port()).run(client.namespace()).unwrap();
    let busy = CpuTime::now().unwrap().since(cpu).busy;
    let after = interface_counters(client.namespace()).unwrap()["eth0"];
    println!("{report:?}, {busy:?} of CPU time");
    assert!(report.gbit_per_s > 0.1 && report.retransmits.is_some(), "{report:?}");
    assert!(after.sent_bytes - before.sent_bytes >= report.bytes);
    assert!(busy > Duration::from_millis(100), "{busy:?}");

    let load = Iperf { udp: Some((1400, 10_000_000)), ..Iperf::new(server.ipv6(), 5201) };
    let report = load.run(client.namespace()).unwrap();
    let (sent, lost) = report.datagrams.unwrap();
    assert!(sent > 500 && lost < sent && report.retransmits.is_none(), "{report:?}");
}

#[test]
fn datagrams_are_counted_in_both_directions() {
    require!();
    let bed = Testbed::new().unwrap();
    let (client, server) = client_and_server(bed.node());
    join(bed.node(), &[&["client", "server"]]);
    for (from, to) in [(client.ipv4(), server.ipv4()), (client.ipv6(), server.ipv6())] {
        let to = SocketAddr::new(to, 7000);
        let receiver = UdpReceiver::start(server.namespace(), to, true).unwrap();
        // 9000 bytes: seven fragments each.
        for (port, bytes) in [(4001, 16), (4002, 9000)] {
            let load = UdpLoad {
                bytes,
                echo_timeout: Duration::from_secs(5),
                ..UdpLoad::new(SocketAddr::new(from, port), to)
            };
            let echoed = load.run(client.namespace()).unwrap();
            assert!(echoed.is_perfect(100), "{bytes} bytes: {echoed:?}");
        }
        send_from_ports(client.namespace(), from, 20_000..=20_499, to).unwrap();
        receiver.wait_for(2 * 100 + 500, Duration::from_secs(5)).unwrap();
        assert_eq!(receiver.by_source().len(), 2 + 500);
    }
    let nowhere = UdpReceiver::start(server.namespace(), "0.0.0.0:7001".parse().unwrap(), false);
    let late = nowhere.unwrap().wait_for(1, Duration::from_millis(10)).unwrap_err();
    assert!(matches!(late, Error::Timeout { .. }), "{late}");
}

#[test]
fn recorder_sees_both_directions() {
    require!();
    let bed = Testbed::new().unwrap();
    let (client, server) = client_and_server(bed.node());
    join(bed.node(), &[&["client", "server"]]);
    let recorder = Recorder::start(server.namespace(), &["eth0"]).unwrap();
    let to = SocketAddr::new(server.ipv4(), 7000);
    let receiver = UdpReceiver::start(server.namespace(), to, true).unwrap();
    let from = SocketAddr::new(client.ipv4(), 4000);
    let load = UdpLoad { echo_timeout: Duration::from_secs(5), ..UdpLoad::new(from, to) };
    assert!(load.run(client.namespace()).unwrap().is_perfect(100));
    let seen = recorder.snapshot().unwrap();
    let flows = |way| {
        let tuples = seen.tuples("eth0", way).into_iter();
        tuples.filter(|tuple| tuple.protocol == 17).collect::<Vec<_>>()
    };
    let ([there], [back]) = (&flows(Way::Received)[..], &flows(Way::Sent)[..]) else {
        panic!("one flow each way expected: {seen:?}");
    };
    assert_eq!(there.to_string(), "17 10.0.0.1 4000 > 10.0.0.2 7000");
    assert_eq!(there.reversed(), *back);
    assert_eq!(seen.frames(|sighting| sighting.tuple.protocol == 17), 200);
    assert_eq!((seen.lost, seen.malformed), (0, 0));
    let udp = seen.sightings.iter().find(|(sighting, _)| sighting.tuple == *there).unwrap().1;
    assert_eq!(udp.bytes, 100 * (14 + 20 + 8 + 1000));
    assert!(udp.first_ns > 0 && udp.first_ns < udp.last_ns, "{udp:?}");
    drop(receiver);
}

/// Both testbeds have the same names, MACs and addresses, and run at the same time.
#[test]
fn parallel_testbeds_do_not_see_each_other() {
    require!();
    let both_made = Barrier::new(2);
    let both_sent = Barrier::new(2);
    let one = |port: u16| {
        let bed = Testbed::new().unwrap();
        let (client, server) = client_and_server(bed.node());
        join(bed.node(), &[&["client", "server"]]);
        let recorder = Recorder::start(server.namespace(), &["eth0"]).unwrap();
        both_made.wait();
        let to = SocketAddr::new(server.ipv4(), 7000);
        let receiver = UdpReceiver::start(server.namespace(), to, false).unwrap();
        UdpLoad::new(SocketAddr::new(client.ipv4(), port), to).run(client.namespace()).unwrap();
        receiver.wait_for(100, Duration::from_secs(5)).unwrap();
        both_sent.wait();
        let sources = receiver.by_source().into_keys().map(|source| source.port());
        assert_eq!(sources.collect::<Vec<_>>(), [port]);
        let seen = recorder.snapshot().unwrap();
        let ports = seen.conversations().into_iter().filter(|tuple| tuple.protocol == 17);
        assert_eq!(ports.map(|tuple| tuple.source_port).collect::<Vec<_>>(), [port]);
        bed.prefix().to_owned()
    };
    let prefixes = thread::scope(|scope| {
        let other = scope.spawn(|| one(4001));
        [one(4002), other.join().unwrap()]
    });
    assert_ne!(prefixes[0], prefixes[1]);
    for prefix in prefixes {
        assert_eq!(namespaces_with(&prefix), [""; 0]);
        assert!(!env::temp_dir().join(prefix).exists());
    }
}

#[test]
fn tenants_may_share_addresses_in_one_testbed() {
    require!();
    let bed = Testbed::new().unwrap();
    let tenant = |letter: &str| {
        let host = |role: &str, last: u8| {
            let config = HostConfig::new(&format!("{role}-{letter}"))
                .mac(MacAddr([2, 0, 0, 0, 0, last]))
                .address(net(&format!("10.0.0.{last}/24")));
            Host::new(bed.node(), config).unwrap()
        };
        (host("client", 1), host("server", 2))
    };
    let (a, b) = (tenant("a"), tenant("b"));
    join(bed.node(), &[&["client-a", "server-a"], &["client-b", "server-b"]]);
    for (client, server) in [a, b] {
        assert!(Ping::new(server.ipv4()).run(client.namespace()).unwrap().is_perfect());
        assert!(server.node.index().unwrap() > 0);
    }
}

#[test]
fn a_wire_joins_two_nodes() {
    require!();
    let bed = Testbed::new().unwrap();
    let other = bed.add_node("other").unwrap();
    let a = [net("192.0.2.1/24"), net("fd01::1/64")];
    let b = [net("192.0.2.2/24"), net("fd01::2/64")];
    bed.uplink((bed.node(), "up0", &a), (&other, "up0", &b), 1600).unwrap();
    for to in [b[0].addr(), b[1].addr()] {
        let ping = Ping { data_bytes: 1600 - 48, dont_fragment: true, ..Ping::new(to) };
        assert!(ping.run(bed.node().namespace()).unwrap().is_perfect(), "{to}");
    }
    let features = other.namespace().output("ethtool", &["-k", "up0"]).unwrap();
    for expected in ["tx-checksumming: off", "generic-receive-offload: on"] {
        assert!(features.contains(expected), "{features}");
    }
}

#[test]
fn killed_and_forgotten_processes_leave_nothing() {
    require!();
    let bed = Testbed::new().unwrap();
    let prefix = bed.prefix().to_owned();
    let (client, server) = client_and_server(bed.node());
    assert_eq!(namespaces_with(&prefix).len(), 3);
    let mut killed = IperfServer::start(server.namespace(), 5201).unwrap();
    let id = killed.process().id();
    killed.process().kill().unwrap();
    assert!(!process_exists(id));
    // A process of which no handle knows: the shell's child in a session of its own.
    let mut shell = client.namespace().command("sh");
    shell.args(["-c", "setsid sleep 1000 & echo $!"]);
    let mut shell = client.namespace().spawn(shell).unwrap();
    let orphan = shell.wait_success(Duration::from_secs(5)).unwrap().trim().parse().unwrap();
    assert!(process_exists(orphan));
    drop((killed, shell));
    // Handles that outlive the testbed do not keep anything.
    drop(bed);
    assert_eq!(namespaces_with(&prefix), [""; 0]);
    let deadline = Instant::now() + Duration::from_secs(5);
    while process_exists(orphan) {
        assert!(Instant::now() < deadline, "process {orphan} still runs");
        thread::yield_now();
    }
    drop((client, server));
    assert!(!env::temp_dir().join(prefix).exists());
}

/// Set where `crash_victim` is to wait for its end.
const CRASH_VICTIM: &str = "TESTBED_CRASH_VICTIM";

/// Not a test: the victim of `a_crash_is_swept_by_the_next_testbed`.
#[test]
#[ignore = "is started and killed by a_crash_is_swept_by_the_next_testbed"]
fn crash_victim() {
    if env::var_os(CRASH_VICTIM).is_none() {
        return;
    }
    let bed = Testbed::new().unwrap();
    let (_client, server) = client_and_server(bed.node());
    let _iperf = IperfServer::start(server.namespace(), 5201).unwrap();
    println!("prefix={}", bed.prefix());
    loop {
        thread::park();
    }
}

#[test]
fn a_crash_is_swept_by_the_next_testbed() {
    require!();
    let bed = Testbed::new().unwrap();
    let mut command = bed.node().namespace().command(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "crash_victim", "--nocapture"]);
    command.env(CRASH_VICTIM, "1");
    let mut victim = bed.node().namespace().spawn(command).unwrap();
    let prefix_of =
        |text: &str| text.split_once("prefix=").and_then(|(_, rest)| Some(rest.split_once('\n')?.0.to_owned()));
    victim
        .wait_until("the victim's testbed", Duration::from_secs(20), |victim| prefix_of(&victim.stdout()).is_some())
        .unwrap();
    let prefix = prefix_of(&victim.stdout()).unwrap();
    let ours_running = |prefix: &str| {
        let pids = Command::new("ip").args(["netns", "pids", &format!("{prefix}-server")]).output();
        !pids.unwrap().stdout.is_empty()
    };
    assert!(ours_running(&prefix));
    victim.kill().unwrap();
    assert_eq!(namespaces_with(&prefix).len(), 3, "the crash must leave something to sweep");
    let next = Testbed::new().unwrap();
    assert_eq!(namespaces_with(&prefix), [""; 0]);
    assert!(!env::temp_dir().join(&prefix).exists());
    assert_eq!(namespaces_with(next.prefix()).len(), 1, "the living are spared");
    assert_eq!(namespaces_with(bed.prefix()).len(), 1, "the living are spared");
}

#[test]
fn failures_name_command_namespace_and_reason() {
    require!();
    let bed = Testbed::new().unwrap();
    let node: &Namespace = bed.node().namespace();
    let error = node.output("ip", &["link", "set", "nothing", "up"]).unwrap_err().to_string();
    for part in ["ip link set nothing up", node.name(), "Cannot find device"] {
        assert!(error.contains(part), "{error}");
    }
    let error = node.ip(&["link add x type veth".into(), "nonsense".into()]).unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
    let mut shell = node.command("sh");
    shell.args(["-c", "echo why >&2; exit 3"]);
    let error = node.spawn(shell).unwrap().wait_success(Duration::from_secs(5)).unwrap_err();
    assert!(error.to_string().contains("why") && error.to_string().contains('3'), "{error}");
    let error = Host::new(bed.node(), HostConfig::new("a.b")).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error}");
}

#[test]
fn backlog_limit_is_raised_while_needed() {
    require!();
    let limit = || {
        let text = std::fs::read_to_string("/proc/sys/net/core/netdev_max_backlog").unwrap();
        text.trim().parse::<u32>().unwrap()
    };
    let before = limit();
    let outer = BacklogGuard::raise(before + 50_000).unwrap();
    let inner = BacklogGuard::raise(before + 20_000).unwrap();
    assert_eq!(limit(), before + 50_000);
    drop(outer);
    assert_eq!(limit(), before + 50_000, "a guard is still alive");
    drop(inner);
    assert_eq!(limit(), before);
    let softnet = Softnet::now().unwrap();
    assert!(softnet.processed > 0);
    assert_eq!(softnet.since(softnet), Softnet::default());
}

/// Runs one of these tests in a process that finds no programs.
#[test]
fn skips_are_loud_or_forbidden() {
    require!();
    let bed = Testbed::new().unwrap();
    let file = bed.node().namespace().directory().join("skips");
    let run = |forbidden: bool| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "failures_name_command_namespace_and_reason"]);
        command.env("PATH", "/nonexistent").env(SKIP_FILE_VARIABLE, &file);
        command.env_remove(NO_SKIP_VARIABLE);
        if forbidden {
            command.env(NO_SKIP_VARIABLE, "1");
        }
        command.output().unwrap()
    };
    let skipped = run(false);
    assert!(skipped.status.success());
    let line = "SKIPPED: failures_name_command_namespace_and_reason: The program `ip` is missing";
    let shown = String::from_utf8(skipped.stderr).unwrap();
    assert!(shown.starts_with(line), "{shown}");
    let noted = std::fs::read_to_string(&file).unwrap();
    assert!(noted.starts_with(line) && noted.lines().count() == 1, "{noted}");
    assert!(!run(true).status.success());
}
