//! What the testbed's tests share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use ipnet::IpNet;
use testbed::{Host, HostConfig, MacAddr, Namespace, Node, bridge};

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Client 10.0.0.1 / fd00::1 and server 10.0.0.2 / fd00::2 of one subnet.
pub(crate) fn client_and_server(node: &Node) -> (Host, Host) {
    let host = |name, last| {
        let config = HostConfig::new(name)
            .mac(MacAddr([2, 0, 0, 0, 0, last]))
            .address(net(&format!("10.0.0.{last}/24")))
            .address(net(&format!("fd00::{last}/64")));
        Host::new(node, config).unwrap()
    };
    (host("client", 1), host("server", 2))
}

/// A host behind a router: address and gateway in both families.
pub(crate) fn routed_host(node: &Node, name: &str, addresses: [&str; 2], gateways: [&str; 2]) -> Host {
    let config = HostConfig::new(name)
        .address(net(addresses[0]))
        .address(net(addresses[1]))
        .gateway(ip(gateways[0]))
        .gateway(ip(gateways[1]));
    Host::new(node, config).unwrap()
}

/// Bridges groups of node interfaces: a static stand-in for the front end.
pub(crate) fn join(node: &Node, groups: &[&[&str]]) {
    for (index, group) in groups.iter().enumerate() {
        bridge(node.namespace(), &format!("join{index}"), group).unwrap();
    }
}

/// Whether a TCP connection comes about within half a second.
pub(crate) fn tcp_connects(from: &Namespace, to: SocketAddr) -> bool {
    let timeout = Duration::from_millis(500);
    from.run(|| TcpStream::connect_timeout(&to, timeout).is_ok()).unwrap()
}
