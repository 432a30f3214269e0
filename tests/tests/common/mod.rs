//! What the testbed's tests share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use testbed::{Host, Node, bridge, scenario};

/// Client 10.0.0.1 / fd00::1 and server 10.0.0.2 / fd00::2 of one subnet.
pub(crate) fn client_and_server(node: &Node) -> (Host, Host) {
    (scenario::host(node, "client", 1).unwrap(), scenario::host(node, "server", 2).unwrap())
}

/// Bridges groups of node interfaces: a static stand-in for the front end.
pub(crate) fn join(node: &Node, groups: &[&[&str]]) {
    for (index, group) in groups.iter().enumerate() {
        bridge(node.namespace(), &format!("join{index}"), group).unwrap();
    }
}
