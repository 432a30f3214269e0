//! A transparent firewall shared by tenants, each with a VLAN tag and rules of its own.

use super::{
    Action, Instance, Rule,
    bridge_firewall::{NEIGHBOURS, table},
};
use crate::{Node, Result, link};

/// The rules of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRules {
    /// VLAN identifier of the tenant's frames, 1..=4094 (IEEE 802.1Q).
    pub vlan: u16,
    /// Rules, first match decides; names must differ between tenants too.
    pub rules: Vec<Rule>,
}

/// How a [`SharedFirewall`] is to be made.
#[derive(Debug, Clone)]
pub struct SharedFirewallConfig {
    /// Name of the instance, at most 11 letters, digits, `-`, `_`.
    pub name: String,
    /// The tenants. Frames with another tag or none are dropped and counted as `unknown_tag`.
    pub tenants: Vec<TenantRules>,
    /// What becomes of a tenant's packets no rule matches.
    pub otherwise: Action,
    /// MTU of both ports in bytes; the tag comes on top of it.
    pub mtu: u16,
}

impl SharedFirewallConfig {
    /// A firewall that accepts what no rule of a known tenant matches, MTU 1500.
    #[must_use]
    pub fn new(name: &str, tenants: Vec<TenantRules>) -> Self {
        Self { name: name.to_owned(), tenants, otherwise: Action::Accept, mtu: 1500 }
    }
}

/// A running shared firewall: a bridge that carries tagged frames across unchanged (it needs no
/// 802.1Q support of the kernel) and stateless rules by tag.
#[derive(Debug, Clone)]
pub struct SharedFirewall {
    instance: Instance,
}

impl SharedFirewall {
    /// Makes the firewall and connects it to `node`.
    ///
    /// # Errors
    /// If the name is taken, or nftables refuses a rule or tag.
    pub fn new(node: &Node, config: SharedFirewallConfig) -> Result<Self> {
        let SharedFirewallConfig { name, tenants, otherwise, mtu } = config;
        let instance = Instance::new(node, &name, &["in", "out"], mtu, false)?;
        link::show_bridged_packets(instance.namespace(), false)?;
        instance.bridge_ports()?;
        let mut counters = String::new();
        let mut chain = String::new();
        for TenantRules { vlan, rules } in &tenants {
            for rule in rules {
                rule.write(&format!("vlan id {vlan} "), &mut counters, &mut chain);
            }
            for line in NEIGHBOURS.lines() {
                chain.push_str(&format!("    vlan id {vlan} {}\n", inside_tag(line)));
            }
            chain.push_str(&format!("    vlan id {vlan} {}\n", otherwise.keyword()));
        }
        Rule::drop("unknown_tag", "").write("", &mut counters, &mut chain);
        instance.load_rules(&table("bridge", Action::Drop, &counters, &chain))?;
        Ok(Self { instance })
    }

    /// Namespace, ports, counters and recorder.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }
}

/// Behind a tag the EtherType is the VLAN header's.
fn inside_tag(rule: &str) -> String {
    rule.trim().replace("ether type", "vlan type")
}
