//! Packets through real chains, judged from what the instances saw.

use std::time::Duration;
use testbed::scenario::{OneTenant, Site};
use testbed::traffic::{Iperf, IperfServer, Ping};
use testbed::{Documents, require};

#[test]
fn a_transparent_firewall_between_client_and_server() {
    require!();
    let OneTenant { site, front_end, testbed: _testbed } =
        OneTenant::start(&[("fw", &["a"])], &[23]).expect("a tenant");
    front_end.apply(&Documents::new().chain("acme", "web", &["fw"]));
    let Site { client, server, .. } = &site;
    let graphs = front_end.json(&["get", "graph"]);
    assert_eq!(graphs.as_array().map(Vec::len), Some(1), "a list is one JSON array: {graphs}");
    assert!(front_end.json(&["get", "graph", "acme/web"]).is_object(), "one resource is one JSON object");
    let recorder = site.members("fw")[0].instance().record().expect("recorder");
    let report = Ping::new(server.ipv4()).run(client.namespace()).expect("ping");
    assert!(report.is_perfect(), "{report:?}\n{}\n{}", front_end.json(&["drops"]), front_end.json(&["flows"]));
    let _server = IperfServer::start(server.namespace(), 5201).expect("iperf3 server");
    let load = Iperf { duration: Duration::from_secs(1), ..Iperf::new(server.ipv4(), 5201) };
    let report = load.run(client.namespace()).expect("iperf3");
    println!("TCP through the firewall: {:.1} Gbit/s", report.gbit_per_s);
    let seen = recorder.snapshot().expect("recording");
    assert!(seen.conversations().len() >= 2, "{:?}", seen.conversations());
}
