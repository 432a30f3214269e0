//! Packets through real chains, judged from what the instances saw.

use std::time::Duration;
use testbed::nf::{BridgeFirewall, BridgeFirewallConfig, Rule};
use testbed::traffic::{Iperf, IperfServer, Ping};
use testbed::{Documents, FrontEnd, Host, HostConfig, Testbed, require};

fn net(text: &str) -> ipnet::IpNet {
    text.parse().expect("a prefix in a test is well-formed")
}

fn firewall(testbed: &Testbed, name: &str) -> BridgeFirewall {
    let config = BridgeFirewallConfig::new(name, vec![Rule::drop("telnet", "tcp dport 23")]);
    BridgeFirewall::new(testbed.node(), config).expect("firewall")
}

#[test]
fn a_transparent_firewall_between_client_and_server() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let client = Host::new(testbed.node(), HostConfig::new("client").address(net("10.0.0.1/24"))).expect("client");
    let server = Host::new(testbed.node(), HostConfig::new("server").address(net("10.0.0.2/24"))).expect("server");
    let fw = firewall(&testbed, "fw");
    let front_end = FrontEnd::start(testbed.node()).expect("front end");
    let documents = Documents::new()
        .tenant("acme", 100)
        .attachment("acme", "clients", "client", &client)
        .attachment("acme", "servers", "server", &server)
        .function("fw", "forwarding: transparent, tupleEffect: keeps", 10)
        .instance("fw", "a", fw.instance(), "")
        .chain("acme", "web", &["fw"]);
    front_end.apply(&documents);
    let graphs = front_end.json(&["get", "graph"]);
    assert_eq!(graphs.as_array().map(Vec::len), Some(1), "a list is one JSON array: {graphs}");
    assert!(front_end.json(&["get", "graph", "acme/web"]).is_object(), "one resource is one JSON object");
    let recorder = fw.instance().record().expect("recorder");
    let report = Ping::new(server.ipv4()).run(client.namespace()).expect("ping");
    assert!(report.is_perfect(), "{report:?}\n{}\n{}", front_end.json(&["drops"]), front_end.json(&["flows"]));
    let _server = IperfServer::start(server.namespace(), 5201).expect("iperf3 server");
    let load = Iperf { duration: Duration::from_secs(1), ..Iperf::new(server.ipv4(), 5201) };
    let report = load.run(client.namespace()).expect("iperf3");
    println!("TCP through the firewall: {:.1} Gbit/s", report.gbit_per_s);
    let seen = recorder.snapshot().expect("recording");
    assert!(seen.conversations().len() >= 2, "{:?}", seen.conversations());
}
