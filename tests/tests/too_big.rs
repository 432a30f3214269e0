//! Datagrams that are too big for the way behind a routed function: the sender learns the limit.

use testbed::scenario::{ROUTED, function, routed_pair, router};
use testbed::{Documents, FrontEnd, Testbed, require};

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
