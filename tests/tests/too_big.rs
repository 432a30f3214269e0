//! Datagrams that are too big for the way behind a routed function: the sender learns the limit.

use testbed::nf::{OneArmed, OneArmedConfig};
use testbed::scenario::{function, net, routed_host};
use testbed::{Documents, FrontEnd, Testbed, require};

/// Bytes of the narrow way; IPv6 allows 1280 and more.
const LIMIT: u32 = 1400;

#[test]
fn the_sender_learns_the_limit_behind_a_routed_function() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let node = testbed.node();
    let client = [("10.0.1.1/24", "10.0.1.254"), ("fd01::1/64", "fd01::254")];
    let server = [("10.0.2.2/24", "10.0.2.254"), ("fd02::2/64", "fd02::254")];
    let client = routed_host(node, "client", &client).expect("client");
    let server = routed_host(node, "server", &server).expect("server");
    let router = OneArmedConfig {
        name: "r".to_owned(),
        addresses: ["10.0.1.254/24", "10.0.2.254/24", "fd01::254/64", "fd02::254/64"].map(net).to_vec(),
        routes: Vec::new(),
        rules: Vec::new(),
        mtu: 1500,
    };
    let router = OneArmed::new(node, router).expect("router");
    let narrow = format!("link set {} mtu {LIMIT}", server.node.interface);
    node.namespace().ip(&[narrow]).expect("a narrow way");
    let front_end = FrontEnd::start(node).expect("front end");
    let addresses = "addresses: [10.0.1.254, 10.0.2.254, 'fd01::254', 'fd02::254']";
    let documents = Documents::new()
        .tenant("acme", 100)
        .attachment("acme", "clients", "client", &client)
        .attachment("acme", "servers", "server", &server);
    let forwarding = format!("forwarding: routed, tupleEffect: keeps, {addresses}");
    let documents = function(documents, "r", &forwarding, [(router.instance(), String::new())]);
    front_end.apply(&documents.chain("acme", "web", &["r"]));
    for to in [server.ipv4(), server.ipv6()] {
        let ping = |size: &str, count: &str| {
            let to = to.to_string();
            let words = ["-M", "do", "-s", size, "-c", count, "-i", "0.3", "-W", "1", &to];
            let output = client.namespace().command("ping").args(words).output().expect("ping");
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        };
        // The first question for the server's address is lost, so the small ones come first.
        assert!(ping("100", "4").contains(" bytes from"), "{to} answers");
        let text = ping("1440", "3");
        assert!(text.contains(&format!("mtu = {LIMIT}")) || text.contains(&format!("mtu={LIMIT}")), "{to}: {text}");
        let path = client.namespace().output("ip", &["route", "get", &to.to_string()]).expect("route");
        assert!(path.contains(&format!("mtu {LIMIT}")), "{to}: {path}");
    }
}
