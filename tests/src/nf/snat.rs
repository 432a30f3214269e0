//! Source NAT, routed: nftables and conntrack between two addressed ports.

use std::{fmt::Write as _, net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;

use super::Instance;
use crate::{Node, Result, Route};

/// What outgoing connections are made to look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// Sources that are translated; `None` for all of the family of `to`.
    pub from: Option<IpNet>,
    /// The outside address.
    pub to: IpAddr,
    /// Outside ports (for ICMP echo: identifiers); `None`: the kernel keeps the port if free.
    pub ports: Option<RangeInclusive<u16>>,
}

/// How a [`Snat`] is to be made.
#[derive(Debug, Clone)]
pub struct SnatConfig {
    /// Name of the instance, at most 11 letters, digits, `-`, `_`.
    pub name: String,
    /// Addresses of `in`, with prefix lengths.
    pub inside: Vec<IpNet>,
    /// Addresses of `out`, the translations' among them, with prefix lengths.
    pub outside: Vec<IpNet>,
    /// Static routes over `in` and `out`.
    pub routes: Vec<Route>,
    /// Translations of what leaves by `out`, first match decides.
    pub translations: Vec<Translation>,
    /// MTU of both ports in bytes.
    pub mtu: u16,
}

/// A running source NAT.
#[derive(Debug, Clone)]
pub struct Snat {
    instance: Instance,
}

impl Snat {
    /// Makes the NAT and connects it to `node`. Next hops are found by ARP and neighbour
    /// discovery on its ports.
    ///
    /// # Errors
    /// If the name is taken, or an address, route or translation is not valid.
    pub fn new(node: &Node, config: SnatConfig) -> Result<Self> {
        let SnatConfig { name, inside, outside, routes, translations, mtu } = config;
        let instance = Instance::new(node, &name, &["in", "out"], mtu, true)?;
        instance.configure(&inside, &outside, &routes)?;
        let mut script = String::from(
            "table inet nat {\n  chain postrouting {\n    \
             type nat hook postrouting priority srcnat; policy accept;\n",
        );
        for translation in &translations {
            write_translation(&mut script, translation);
        }
        script.push_str("  }\n}\n");
        instance.load_rules(&script)?;
        Ok(Self { instance })
    }

    /// Namespace, ports, connections and recorder.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }
}

fn write_translation(script: &mut String, translation: &Translation) {
    let Translation { from, to, ports } = translation;
    let (family, icmp, target) = match to {
        IpAddr::V4(address) => ("ip", "icmp", address.to_string()),
        IpAddr::V6(address) => ("ip6", "ipv6-icmp", format!("[{address}]")),
    };
    let nfproto = if to.is_ipv4() { "ipv4" } else { "ipv6" };
    let from = from.map(|net| format!(" {family} saddr {}", net.trunc())).unwrap_or_default();
    let head = format!("    oifname \"out\" meta nfproto {nfproto}{from}");
    match ports {
        // nftables takes a port range only behind the match of one transport protocol.
        Some(ports) => {
            for protocol in ["tcp", "udp", "sctp", icmp] {
                let (low, high) = (ports.start(), ports.end());
                let _ = writeln!(script, "{head} meta l4proto {protocol} snat {family} to {target}:{low}-{high}");
            }
        }
        None => {
            let _ = writeln!(script, "{head} snat {family} to {to}");
        }
    }
}
