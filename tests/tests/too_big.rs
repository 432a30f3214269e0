//! Datagrams that are too big for the way behind a routed function or a NAT: the sender learns the limit.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use testbed::scenario::{ROUTED, eventually, function, ip, net, routed_host, routed_pair, router, snat};
use testbed::traffic::{Curl, Ping, WebServer};
use testbed::{Documents, FrontEnd, Host, HostConfig, Testbed, require};

/// Bytes of the narrow way; IPv6 allows 1280 and more.
const LIMIT: u32 = 1400;

#[test]
fn the_sender_learns_the_limit_behind_a_routed_function() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let node = testbed.node();
    let (client, server) = routed_pair(node).expect("hosts");
    let router = router(node, "r").expect("router");
    let narrow = format!("link set {} mtu {LIMIT}", server.node.interface);
    node.namespace().ip(&[narrow]).expect("a narrow way");
    let front_end = FrontEnd::start(node).expect("front end");
    let documents = Documents::new().tenant("acme", 100).hosts("acme", &client, &server);
    let documents = function(documents, "r", ROUTED, [(router.instance(), String::new())]);
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

/// Lets a host send too much until it knows the limit of its path to `to`.
fn learns(host: &Host, to: IpAddr, send: impl Fn()) {
    eventually("the sender learns the limit", || {
        send();
        let path = host.namespace().output("ip", &["route", "get", &to.to_string()]).expect("route");
        path.contains(&format!("mtu {LIMIT}"))
    });
}

#[test]
fn the_sender_learns_the_limit_on_the_other_side_of_a_nat() {
    require!();
    let testbed = Testbed::new().expect("testbed");
    let node = testbed.node();
    let client = routed_host(node, "client", &[("10.0.0.1/24", "10.0.0.254")]).expect("client");
    let server = Host::new(node, HostConfig::new("server").address(net("198.51.100.2/24"))).expect("server");
    let nat = snat(node, "n1", "10.0.0.254/24", "198.51.100.11").expect("NAT");
    let front_end = FrontEnd::start(node).expect("front end");
    let documents = Documents::new().tenant("acme", 100).hosts("acme", &client, &server);
    let spec = "forwarding: routed, tupleEffect: changes, addresses: [10.0.0.254]";
    let block = ", outsideBlocks: [{prefix: 198.51.100.11/32}]".to_owned();
    let documents = function(documents, "nat", spec, [(nat.instance(), block)]);
    front_end.apply(&documents.chain("acme", "web", &["nat"]));
    let ping = |size| Ping {
        data_bytes: size,
        dont_fragment: true,
        count: 1,
        timeout: Duration::from_millis(500),
        ..Ping::new(server.ipv4())
    };
    let answered = || ping(100).run(client.namespace()).is_ok_and(|report| report.is_perfect());
    eventually("the server answers", answered);
    let limit = |host: &Host, mtu: u32| {
        node.namespace().ip(&[format!("link set {} mtu {mtu}", host.node.interface)]).expect("MTU");
    };
    // The datagram is the NAT's by then: it is told, and tells the client.
    limit(&server, LIMIT);
    learns(&client, server.ipv4(), || drop(ping(1440).run(client.namespace())));
    // And the other way: what the server sends is made the client's by the NAT, and is too big behind it.
    limit(&server, 1500);
    limit(&client, LIMIT);
    // Else the client itself asks for small segments.
    client.namespace().ip(&["route flush cache".to_owned()]).expect("a client that has forgotten the limit");
    let address = SocketAddr::new(server.ipv4(), 80);
    let web = WebServer::start(server.namespace(), address, &[("large", 300_000)]).expect("web server");
    learns(&server, ip("198.51.100.11"), || {
        let page = Curl::new(web.url("/large")).run(client.namespace()).expect("a page that comes in large segments");
        assert!(page.body == WebServer::content(300_000));
    });
}
