//! A routed network function with one port: what comes in goes back out of the same interface.

use ipnet::IpNet;

use super::{Action, Instance, Rule, bridge_firewall::table};
use crate::{Node, Result, Route};

/// How a [`OneArmed`] is to be made.
#[derive(Debug, Clone)]
pub struct OneArmedConfig {
    /// Name of the instance, at most 11 letters, digits, `-`, `_`.
    pub name: String,
    /// Addresses of its port `in`, with prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Static routes over `in`; a default route sends everything back to the front end.
    pub routes: Vec<Route>,
    /// Rules for forwarded packets, first match decides; what no rule matches passes.
    pub rules: Vec<Rule>,
    /// MTU of the port in bytes.
    pub mtu: u16,
}

/// A running one-armed router with a firewall.
#[derive(Debug, Clone)]
pub struct OneArmed {
    instance: Instance,
}

impl OneArmed {
    /// Makes the instance and connects it to `node`.
    ///
    /// # Errors
    /// If the name is taken, or an address, route or rule is not valid.
    pub fn new(node: &Node, config: OneArmedConfig) -> Result<Self> {
        let OneArmedConfig { name, addresses, routes, rules, mtu } = config;
        let instance = Instance::new(node, &name, &["in"], mtu, true)?;
        instance.configure(&addresses, &[], &routes)?;
        let mut counters = String::new();
        let mut chain = String::new();
        for rule in &rules {
            rule.write("", &mut counters, &mut chain);
        }
        instance.load_rules(&table("inet", Action::Accept, &counters, &chain))?;
        Ok(Self { instance })
    }

    /// Namespace, port, counters and recorder.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }
}
