//! Network functions: real programs from Debian in namespaces of their own.

mod bridge_firewall;
mod one_armed;
mod proxy;
mod shared;
mod snat;

use std::{collections::BTreeMap, fmt::Write as _};

use ipnet::IpNet;
use serde::Deserialize;

pub use bridge_firewall::{BridgeFirewall, BridgeFirewallConfig, Tracking};
pub use one_armed::{OneArmed, OneArmedConfig};
pub use proxy::{Proxy, ProxyConfig, ProxyProgram};
pub use shared::{SharedFirewall, SharedFirewallConfig, TenantRules};
pub use snat::{Snat, SnatConfig, Translation};

use crate::{Error, LinkEnd, MacAddr, Namespace, Node, Offloads, Recorder, Result, Route, link};

/// A port of an instance.
#[derive(Debug, Clone)]
pub struct Port {
    /// The instance's end of the link.
    pub inside: LinkEnd,
    /// The node's end of the link.
    pub node: LinkEnd,
}

/// What every instance has: a namespace and one or two ports.
///
/// The ports are called `in` and `out` inside and `<name>-in` and `<name>-out` at the node; a
/// one-armed instance has `in` only.
#[derive(Debug, Clone)]
pub struct Instance {
    namespace: Namespace,
    ports: Vec<Port>,
}

impl Instance {
    /// Makes a namespace with ports of these names. Transparent instances get no IPv6, so that
    /// they stay silent; routed ones forward.
    fn new(node: &Node, name: &str, ports: &[&str], mtu: u16, routed: bool) -> Result<Self> {
        let namespace = node.add_namespace(name)?;
        if routed {
            // Forwarding first: writing it resets the interfaces' other settings.
            namespace.set_sysctls(&[
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv6/conf/all/forwarding", "1"),
                ("net/ipv6/conf/default/forwarding", "1"),
                ("net/ipv4/conf/all/rp_filter", "0"),
                ("net/ipv4/conf/default/rp_filter", "0"),
                ("net/ipv4/conf/all/accept_redirects", "0"),
                ("net/ipv4/conf/default/accept_redirects", "0"),
                ("net/ipv4/conf/all/send_redirects", "0"),
                ("net/ipv4/conf/default/send_redirects", "0"),
                // Answer for an address on its own port only, as separate machines would.
                ("net/ipv4/conf/all/arp_ignore", "1"),
                ("net/ipv4/conf/default/arp_ignore", "1"),
            ])?;
        } else {
            namespace.set_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")])?;
        }
        let ports = ports.iter().map(|&interface| {
            let inside = LinkEnd {
                namespace: namespace.clone(),
                interface: interface.to_owned(),
                mac: MacAddr::unique(),
                offloads: Offloads::POD,
            };
            let node = node.attach(&inside, &format!("{name}-{interface}"), mtu)?;
            Ok(Port { inside, node })
        });
        let ports = ports.collect::<Result<_>>()?;
        Ok(Self { namespace, ports })
    }

    /// A Linux bridge over `in` and `out` that does nothing but carry frames across. It does not
    /// learn, so what enters one port always leaves by the other, wherever a MAC was seen.
    fn bridge_ports(&self) -> Result<()> {
        let mut lines = vec![
            "link add name br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 \
             group_fwd_mask 0"
                .to_owned(),
        ];
        for port in &self.ports {
            let interface = &port.inside.interface;
            lines.push(format!("link set {interface} master br0"));
            lines.push(format!("link set {interface} type bridge_slave learning off flood on"));
        }
        lines.push("link set br0 up".into());
        self.namespace.ip(&lines)
    }

    fn configure(&self, inside: &[IpNet], outside: &[IpNet], routes: &[Route]) -> Result<()> {
        link::configure(&self.namespace, &[("in", inside), ("out", outside)], routes)
    }

    fn load_rules(&self, script: &str) -> Result<()> {
        self.namespace.output_of_input("nft", &["-f", "-"], script).map(drop)
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The name the caller gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.namespace.short_name()
    }

    /// The port towards the clients; the only one of a one-armed instance.
    #[must_use]
    pub fn inward(&self) -> &Port {
        &self.ports[0]
    }

    /// The port towards the servers; the same as [`Instance::inward`] if one-armed.
    #[must_use]
    pub fn outward(&self) -> &Port {
        self.ports.last().expect("an instance has at least one port")
    }

    /// All ports, `in` first.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// Starts to record what passes its ports.
    ///
    /// # Errors
    /// If packet sockets cannot be opened.
    pub fn record(&self) -> Result<Recorder> {
        let interfaces = self.ports.iter().map(|port| port.inside.interface.as_str());
        Recorder::start(&self.namespace, &interfaces.collect::<Vec<_>>())
    }

    /// What its nftables rules have counted so far, by rule name.
    ///
    /// # Errors
    /// If nftables cannot be asked.
    pub fn rule_counters(&self) -> Result<BTreeMap<String, RuleCount>> {
        let text = self.namespace.output("nft", &["-j", "list", "counters"])?;
        let listing = serde_json::from_str::<CounterListing>(&text).map_err(|error| Error::Output {
            program: "nft".into(),
            reason: error.to_string(),
            output: text,
        })?;
        let counters = listing.nftables.into_iter().filter_map(|object| {
            let Counter { name, packets, bytes } = object.counter?;
            let name = name.strip_prefix(COUNTER_PREFIX)?.to_owned();
            Some((name, RuleCount { packets, bytes }))
        });
        Ok(counters.collect())
    }

    /// Connections its conntrack holds now; 0 if it tracks none.
    ///
    /// # Errors
    /// If the kernel has no conntrack.
    pub fn tracked_connections(&self) -> Result<u64> {
        let text = self.namespace.sysctl("net/netfilter/nf_conntrack_count")?;
        text.parse().map_err(|_| Error::Output {
            program: "nf_conntrack_count".into(),
            reason: "not a number".into(),
            output: text,
        })
    }
}

/// Keeps rule names clear of nftables' keywords.
const COUNTER_PREFIX: &str = "rule_";

/// What a rule of an instance has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleCount {
    /// Packets; a segment train carried as one (GSO) counts once.
    pub packets: u64,
    /// Bytes from the network header on.
    pub bytes: u64,
}

#[derive(Deserialize)]
struct CounterListing {
    nftables: Vec<CounterObject>,
}

#[derive(Deserialize)]
struct CounterObject {
    counter: Option<Counter>,
}

#[derive(Deserialize)]
struct Counter {
    name: String,
    packets: u64,
    bytes: u64,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Action {
    /// It goes on.
    #[default]
    Accept,
    /// It disappears.
    Drop,
}

impl Action {
    fn keyword(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        }
    }
}

/// A firewall rule. Packets it matches are counted under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Name of its counter: letters, digits, `_`; unique in the instance.
    pub name: String,
    /// An nftables match such as `tcp dport 23`; empty for every packet.
    pub matches: String,
    /// What becomes of matching packets.
    pub action: Action,
}

impl Rule {
    /// Drops what matches.
    #[must_use]
    pub fn drop(name: &str, matches: &str) -> Self {
        Self { name: name.to_owned(), matches: matches.to_owned(), action: Action::Drop }
    }

    /// Accepts what matches.
    #[must_use]
    pub fn accept(name: &str, matches: &str) -> Self {
        Self { name: name.to_owned(), matches: matches.to_owned(), action: Action::Accept }
    }

    /// Appends the counter's declaration and the rule to their places in a table.
    fn write(&self, prefix: &str, counters: &mut String, chain: &mut String) {
        let Self { name, matches, action } = self;
        let _ = writeln!(counters, "  counter {COUNTER_PREFIX}{name} {{ }}");
        let _ = writeln!(chain, "    {prefix}{matches} counter name \"{COUNTER_PREFIX}{name}\" {}", action.keyword());
    }
}
