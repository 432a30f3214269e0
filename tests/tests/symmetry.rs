//! Both directions of every flow pass the same instances, judged from what the instances saw.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use testbed::nf::{BridgeFirewall, OneArmed, Proxy, ProxyConfig, ProxyProgram, Snat};
use testbed::scenario::{
    OneTenant, ROUTED, Stage, TRANSPARENT, eventually, firewalls, function, ip, neighbour, net, plain, routed_host,
    routed_pair, router, snat,
};
use testbed::traffic::{Connections, Curl, EchoServer, Ping, UdpReceiver, WebServer, send_from_ports};
use testbed::{Documents, FiveTuple, FrontEnd, Host, HostConfig, MacAddr, Node, Testbed, require};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ECHO: u16 = 7000;
const CONNECTIONS: usize = 120;
/// What the front end answers with for addresses that instances share.
const FRONT_END: MacAddr = MacAddr([0x02, 0x53, 0x57, 0x59, 0x44, 0x01]);

fn two_hosts(documents: Documents, client: &Host, server: &Host) -> Documents {
    documents.tenant("acme", 100).hosts("acme", client, server)
}

/// The first frame towards a host that has not spoken yet is lost while its MAC address is asked for.
fn wait_for(client: &Host, service: IpAddr) {
    let ping = Ping { count: 1, timeout: Duration::from_millis(200), ..Ping::new(service) };
    eventually("the server answers", || ping.run(client.namespace()).is_ok_and(|report| report.is_perfect()));
}

/// TCP connections, UDP with echo and ping, all there and back.
fn converse(client: &Host, server: &Host, service: IpAddr) {
    let service = |port| SocketAddr::new(service, port);
    let _tcp = EchoServer::start(server.namespace(), service(ECHO)).expect("echo server");
    let udp = UdpReceiver::start(server.namespace(), service(ECHO), true).expect("echo server");
    let mut connections = Connections::open(client.namespace(), service(ECHO), CONNECTIONS).expect("connections");
    let from = if service(0).is_ipv4() { client.ipv4() } else { client.ipv6() };
    send_from_ports(client.namespace(), from, 20_000..=20_049, service(ECHO)).expect("UDP");
    udp.wait_for(50, Duration::from_secs(5)).expect("all datagrams");
    let report = Ping::new(service(0).ip()).run(client.namespace()).expect("ping");
    assert!(report.is_perfect(), "{report:?}");
    connections.exchange().expect("connections are still open");
}

/// Not neighbour discovery, which has no ports and is nobody's flow; an echo has an identifier on one side.
fn is_conversation(tuple: &FiveTuple) -> bool {
    match tuple.protocol {
        TCP | UDP => true,
        ICMP | ICMPV6 => tuple.source_port != tuple.destination_port,
        _ => false,
    }
}

/// Asserts that conversations of all kinds were seen, spread over all instances of the stage; returns their instances.
fn judge(stage: &Stage, port: &str, instances: usize) -> BTreeMap<FiveTuple, String> {
    let pins = stage.pins(port, is_conversation);
    let count = |protocol| pins.keys().filter(|tuple| tuple.protocol == protocol).count();
    assert!(count(TCP) >= CONNECTIONS && count(UDP) >= 50, "{} conversations", pins.len());
    assert!(count(ICMP) + count(ICMPV6) >= 1, "no ping seen");
    let used: BTreeSet<&String> = pins.values().collect();
    assert_eq!(used.len(), instances, "{used:?}");
    pins
}

fn firewall_chain(family: fn(&Host) -> IpAddr) {
    let world = OneTenant::start(&[("a", &["a1", "a2", "a3"]), ("b", &["b1", "b2"])], &[]).expect("a tenant");
    world.front_end.apply(&Documents::new().chain("acme", "web", &["a", "b"]));
    let [first, second] = ["a", "b"].map(|function| world.site.record(function).expect("recorders"));
    let (client, server) = (&world.site.client, &world.site.server);
    converse(client, server, family(server));
    let (one, two) = (judge(&first, "in", 3), judge(&second, "out", 2));
    assert_eq!(judge(&first, "out", 3), one);
    assert_eq!(judge(&second, "in", 2), two);
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
}

#[test]
fn through_two_stages_of_firewalls() {
    require!();
    firewall_chain(Host::ipv4);
}

#[test]
fn through_two_stages_of_firewalls_over_ipv6() {
    require!();
    firewall_chain(Host::ipv6);
}

/// Client and server as seen from behind a NAT: what it keeps of a tuple.
fn kept(tuple: &FiveTuple, server: IpAddr) -> FiveTuple {
    let towards = if tuple.destination == server { *tuple } else { tuple.reversed() };
    FiveTuple { source: server, source_port: 0, ..towards }
}

#[test]
fn through_a_nat_in_the_middle() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let node = testbed.node();
    let client = routed_host(node, "client", &[("10.0.0.1/24", "10.0.0.254")]).expect("client");
    let server = Host::new(node, HostConfig::new("server").address(net("198.51.100.2/24"))).expect("server");
    let first = firewalls(node, &["a1", "a2", "a3"], &[]).expect("firewalls");
    let nats = [("n1", "198.51.100.11"), ("n2", "198.51.100.12")];
    let nats: Vec<Snat> =
        nats.iter().map(|(name, outside)| snat(node, name, "10.0.0.254/24", outside).expect("NAT")).collect();
    let second = firewalls(node, &["b1", "b2"], &[]).expect("firewalls");
    let front_end = FrontEnd::start(node).expect("front end");
    let documents = two_hosts(Documents::new(), &client, &server);
    let documents = function(documents, "a", TRANSPARENT, plain(&first));
    let spec = "forwarding: routed, tupleEffect: changes, addresses: [10.0.0.254]";
    let block = |index| format!(", outsideBlocks: [{{prefix: 198.51.100.{}/32}}]", 11 + index);
    let instances = nats.iter().enumerate().map(|(index, nat)| (nat.instance(), block(index)));
    let documents = function(documents, "nat", spec, instances);
    let documents = function(documents, "b", TRANSPARENT, plain(&second));
    front_end.apply(&documents.chain("acme", "web", &["a", "nat", "b"]));
    wait_for(&client, server.ipv4());
    assert_eq!(neighbour(&client, "10.0.0.254").expect("neighbour"), Some(FRONT_END));
    let one = Stage::record(first.iter().map(BridgeFirewall::instance)).expect("recorders");
    let middle = Stage::record(nats.iter().map(Snat::instance)).expect("recorders");
    let two = Stage::record(second.iter().map(BridgeFirewall::instance)).expect("recorders");
    converse(&client, &server, server.ipv4());
    let (inside, before) = (judge(&one, "in", 3), judge(&middle, "in", 2));
    let (after, outside) = (judge(&middle, "out", 2), judge(&two, "in", 2));
    assert_eq!(inside.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert_eq!(after.keys().collect::<Vec<_>>(), outside.keys().collect::<Vec<_>>());
    for (tuple, instance) in &after {
        let owned = if instance == "n1" { ip("198.51.100.11") } else { ip("198.51.100.12") };
        assert!(tuple.source == owned || tuple.destination == owned, "{tuple} at {instance}");
    }
    // Each instance made as many outside conversations as it had inside ones, with the same servers' ends.
    for instance in ["n1", "n2"] {
        let ends = |pins: &BTreeMap<FiveTuple, String>| {
            let here = pins.iter().filter(|(_, at)| *at == instance);
            let mut ends: Vec<_> = here.map(|(tuple, _)| kept(tuple, server.ipv4())).collect();
            ends.sort();
            ends
        };
        assert_eq!(ends(&before), ends(&after), "{instance}");
    }
}

fn proxies(node: &Node, program: ProxyProgram) -> Vec<Proxy> {
    let make = |(name, source): (&str, &str)| {
        let config = ProxyConfig {
            name: name.to_owned(),
            program,
            inside: vec![net("10.0.0.80/24")],
            outside: vec![net(&format!("{source}/24"))],
            routes: Vec::new(),
            listen: "10.0.0.80:80".parse().expect("address"),
            source: ip(source),
            server: "198.51.100.2:8000".parse().expect("address"),
            mtu: 1500,
        };
        Proxy::new(node, config).expect("proxy")
    };
    [("p1", "198.51.100.21"), ("p2", "198.51.100.22")].into_iter().map(make).collect()
}

fn proxy_chain(program: ProxyProgram) {
    let testbed = Testbed::new().expect("testbed");
    let node = testbed.node();
    let client = routed_host(node, "client", &[("10.0.0.1/24", "10.0.0.254")]).expect("client");
    let server = Host::new(node, HostConfig::new("server").address(net("198.51.100.2/24"))).expect("server");
    let first = firewalls(node, &["a1", "a2"], &[]).expect("firewalls");
    let second = firewalls(node, &["b1", "b2"], &[]).expect("firewalls");
    let proxies = proxies(node, program);
    let listen = server.ipv4();
    let _web = WebServer::start(server.namespace(), SocketAddr::new(listen, 8000), &[("big", 300_000)]).expect("web");
    let front_end = FrontEnd::start(node).expect("front end");
    let documents = two_hosts(Documents::new(), &client, &server);
    let documents = function(documents, "a", TRANSPARENT, plain(&first));
    let spec = "forwarding: routed, tupleEffect: ends, addresses: [10.0.0.80]";
    let block = |index| format!(", outsideBlocks: [{{prefix: 198.51.100.{}/32}}]", 21 + index);
    let instances = proxies.iter().enumerate().map(|(index, proxy)| (proxy.instance(), block(index)));
    let documents = function(documents, "proxy", spec, instances);
    let documents = function(documents, "b", TRANSPARENT, plain(&second));
    front_end.apply(&documents.chain("acme", "web", &["a", "proxy", "b"]));
    let one = Stage::record(first.iter().map(BridgeFirewall::instance)).expect("recorders");
    let middle = Stage::record(proxies.iter().map(Proxy::instance)).expect("recorders");
    let two = Stage::record(second.iter().map(BridgeFirewall::instance)).expect("recorders");
    let mut answered_by = BTreeMap::new();
    for index in 0..40 {
        let path = if index % 4 == 0 { "big" } else { "" };
        let report = Curl::new(format!("http://10.0.0.80/{path}")).run(client.namespace()).expect("request");
        assert_eq!((report.status, report.header("x-served-by")), (200, Some("server")));
        if index % 4 == 0 {
            assert!(report.body == WebServer::content(300_000), "damaged");
        }
        let by = report.header("x-proxied-by").expect("who proxied it").to_owned();
        answered_by.insert(report.local_port, by);
    }
    let tcp = |tuple: &FiveTuple| tuple.protocol == TCP;
    let inside = middle.pins("in", tcp);
    assert_eq!(inside.len(), answered_by.len());
    for (tuple, instance) in &inside {
        let port = if tuple.source == client.ipv4() { tuple.source_port } else { tuple.destination_port };
        assert_eq!(answered_by.get(&port), Some(instance), "{tuple}");
    }
    assert_eq!(one.pins("in", tcp).len(), inside.len());
    assert_eq!(inside.values().collect::<BTreeSet<_>>().len(), 2, "both proxies were used");
    let outside = middle.pins("out", tcp);
    for (tuple, instance) in &outside {
        let owned = if instance == "p1" { ip("198.51.100.21") } else { ip("198.51.100.22") };
        assert!(tuple.source == owned || tuple.destination == owned, "{tuple} at {instance}");
    }
    assert_eq!(two.pins("in", tcp).keys().collect::<Vec<_>>(), outside.keys().collect::<Vec<_>>());
}

#[test]
fn through_haproxy_in_the_middle() {
    require!();
    proxy_chain(ProxyProgram::Haproxy);
}

#[test]
fn through_nginx_in_the_middle() {
    require!();
    proxy_chain(ProxyProgram::Nginx);
}

#[test]
fn through_one_armed_routers() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let node = testbed.node();
    let (client, server) = routed_pair(node).expect("hosts");
    let arms = ["r1", "r2"].map(|name| router(node, name).expect("router"));
    let front_end = FrontEnd::start(node).expect("front end");
    let documents = two_hosts(Documents::new(), &client, &server);
    let instances = arms.iter().map(|arm| (arm.instance(), String::new()));
    front_end.apply(&function(documents, "r", ROUTED, instances).chain("acme", "web", &["r"]));
    for (service, gateway) in [(server.ipv4(), "10.0.1.254"), (server.ipv6(), "fd01::254")] {
        wait_for(&client, service);
        // The routers share the address; the front end answers for it with its own.
        assert_eq!(neighbour(&client, gateway).expect("neighbour"), Some(FRONT_END));
        let stage = Stage::record(arms.iter().map(OneArmed::instance)).expect("recorders");
        converse(&client, &server, service);
        judge(&stage, "in", 2);
    }
}
