//! A transparent firewall: nftables on a Linux bridge over two ports.

use std::fmt::Write as _;

use super::{Action, Instance, Rule};
use crate::{Node, Result, link};

/// Whether a firewall looks at packets or at connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tracking {
    /// Rules of the `bridge` family, packet by packet.
    #[default]
    Stateless,
    /// br_netfilter hands frames to `inet` rules behind conntrack. Packets of known connections
    /// pass before the rules are asked; invalid ones are dropped and counted as `invalid`.
    /// There is one conntrack zone: two tenants with equal addresses collide in it, so such an
    /// instance must not be shared.
    Stateful,
}

/// How a [`BridgeFirewall`] is to be made.
#[derive(Debug, Clone)]
pub struct BridgeFirewallConfig {
    /// Name of the instance, at most 11 letters, digits, `-`, `_`.
    pub name: String,
    /// Whether connections are tracked.
    pub tracking: Tracking,
    /// Rules, first match decides.
    pub rules: Vec<Rule>,
    /// What becomes of packets no rule matches. ARP and neighbour discovery always pass.
    pub otherwise: Action,
    /// MTU of both ports in bytes.
    pub mtu: u16,
}

impl BridgeFirewallConfig {
    /// A stateless firewall that accepts what no rule matches, MTU 1500.
    #[must_use]
    pub fn new(name: &str, rules: Vec<Rule>) -> Self {
        Self { name: name.to_owned(), tracking: Tracking::Stateless, rules, otherwise: Action::Accept, mtu: 1500 }
    }
}

/// A running transparent firewall.
#[derive(Debug, Clone)]
pub struct BridgeFirewall {
    instance: Instance,
}

impl BridgeFirewall {
    /// Makes the firewall and connects it to `node`.
    ///
    /// # Errors
    /// If the name is taken, or nftables refuses a rule.
    pub fn new(node: &Node, config: BridgeFirewallConfig) -> Result<Self> {
        let BridgeFirewallConfig { name, tracking, rules, otherwise, mtu } = config;
        let instance = Instance::new(node, &name, &["in", "out"], mtu, false)?;
        link::show_bridged_packets(instance.namespace(), tracking == Tracking::Stateful)?;
        instance.bridge_ports()?;
        let mut counters = String::new();
        let mut chain = String::new();
        let family = match tracking {
            Tracking::Stateless => {
                chain.push_str(NEIGHBOURS);
                "bridge"
            }
            Tracking::Stateful => {
                chain.push_str("    ct state established,related accept\n");
                Rule::drop("invalid", "ct state invalid").write("", &mut counters, &mut chain);
                // br_netfilter hands over IPv6 neighbour discovery, but not ARP.
                chain.push_str("    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n");
                "inet"
            }
        };
        for rule in &rules {
            rule.write("", &mut counters, &mut chain);
        }
        instance.load_rules(&table(family, otherwise, &counters, &chain))?;
        Ok(Self { instance })
    }

    /// Namespace, ports, counters and recorder.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }
}

/// Neighbours must find each other through a firewall that drops by default.
pub(super) const NEIGHBOURS: &str = "    ether type arp accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
";

/// A complete nftables table with one forward chain.
pub(super) fn table(family: &str, otherwise: Action, counters: &str, chain: &str) -> String {
    let mut script = String::new();
    let _ = writeln!(script, "table {family} firewall {{\n{counters}  chain forward {{");
    let _ =
        writeln!(script, "    type filter hook forward priority 0; policy {};\n{chain}  }}\n}}", otherwise.keyword());
    script
}
