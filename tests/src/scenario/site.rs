//! A tenant's hosts and the functions between them.

use super::{Stage, TRANSPARENT, eventually, firewalls, function, host, plain};
use crate::{
    Documents, Evidence, FiveTuple, Flow, Host, Node, Result, Witnesses,
    nf::{BridgeFirewall, Instance},
    traffic::{Ping, short_connection},
};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

const TCP: u8 = 6;

/// A client and a server in one subnet, and functions of transparent firewalls that can be put between them. Sites of several
/// tenants have the same addresses.
#[derive(Debug)]
pub struct Site {
    /// The tenant.
    pub tenant: String,
    /// Host `<tenant>-c`, 10.0.0.1.
    pub client: Host,
    /// Host `<tenant>-s`, 10.0.0.2.
    pub server: Host,
    functions: Vec<(String, Vec<BridgeFirewall>)>,
}

impl Site {
    /// Makes the hosts and, by function, instances of these names that drop TCP to `closed` ports.
    ///
    /// # Errors
    /// If a name is taken.
    pub fn new(node: &Node, tenant: &str, functions: &[(&str, &[&str])], closed: &[u16]) -> Result<Self> {
        let make = |side: &str, last| host(node, &format!("{tenant}-{side}"), last);
        let (client, server) = (make("c", 1)?, make("s", 2)?);
        let functions =
            functions.iter().map(|(name, members)| Ok(((*name).to_owned(), firewalls(node, members, closed)?)));
        Ok(Self { tenant: tenant.to_owned(), client, server, functions: functions.collect::<Result<_>>()? })
    }

    /// The tenant's attachments and its functions with all instances; neither the tenant nor a graph.
    #[must_use]
    pub fn declare(&self, documents: Documents) -> Documents {
        let documents = documents.hosts(&self.tenant, &self.client, &self.server);
        let add = |documents, (name, members): &(String, Vec<BridgeFirewall>)| {
            function(documents, name, TRANSPARENT, plain(members))
        };
        self.functions.iter().fold(documents, add)
    }

    /// The firewalls of a function.
    ///
    /// # Panics
    /// If there is none of this name.
    #[must_use]
    pub fn members(&self, function: &str) -> &[BridgeFirewall] {
        let found = self.functions.iter().find(|(name, _)| name == function);
        &found.unwrap_or_else(|| panic!("no function {function}")).1
    }

    /// Starts to record at the instances of a function.
    ///
    /// # Errors
    /// As [`Stage::record`].
    ///
    /// # Panics
    /// As [`members`](Self::members).
    pub fn record(&self, function: &str) -> Result<Stage> {
        Stage::record(self.members(function).iter().map(BridgeFirewall::instance))
    }

    /// All instances.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.functions.iter().flat_map(|(_, members)| members).map(BridgeFirewall::instance)
    }

    /// The function of an instance.
    ///
    /// # Panics
    /// If no function has it.
    #[must_use]
    pub fn function_of(&self, instance: &str) -> &str {
        let has = |members: &[BridgeFirewall]| members.iter().any(|member| member.instance().name() == instance);
        let found = self.functions.iter().find(|(_, members)| has(members));
        &found.unwrap_or_else(|| panic!("no instance {instance}")).0
    }

    /// Starts to record at the hosts and at all instances.
    ///
    /// # Errors
    /// As [`Witnesses::start`].
    pub fn witnesses(&self) -> Result<Witnesses> {
        Witnesses::start(&self.client, &self.server, self.instances())
    }

    /// A port of the server.
    #[must_use]
    pub fn service(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.server.ipv4(), port)
    }

    /// Whether the server answers every one of two pings within 300 ms each.
    ///
    /// # Panics
    /// If `ping` cannot be run.
    #[must_use]
    pub fn ping(&self) -> bool {
        let ping = Ping { count: 2, timeout: Duration::from_millis(300), ..Ping::new(self.server.ipv4()) };
        ping.run(self.client.namespace()).expect("ping").is_perfect()
    }

    /// Makes short connections to an echo server, one after the other.
    ///
    /// # Errors
    /// As [`short_connection`].
    pub fn connect_shortly(&self, port: u16, connections: usize) -> Result<()> {
        let to = self.service(port);
        self.client.namespace().run(|| (0..connections).try_for_each(|_| short_connection(to)))?
    }

    /// What was seen of TCP to a port of the server, whose clients wait for every answer.
    ///
    /// # Panics
    /// If a recorder has failed.
    #[must_use]
    pub fn evidence(&self, witnesses: &Witnesses, port: u16) -> Evidence {
        let of_port = |tuple: &FiveTuple| tuple.protocol == TCP && tuple.destination_port == port;
        let flows = || witnesses.flows(of_port).expect("recordings");
        let mut seen = flows();
        // The last acknowledgements may still be on their way.
        eventually("no frame is on its way", || {
            let before = std::mem::replace(&mut seen, flows());
            before == seen
        });
        seen
    }

    /// The functions that a flow from a port of the client passed.
    ///
    /// # Panics
    /// If there is no such flow.
    #[must_use]
    pub fn path(&self, evidence: &Evidence, port: u16) -> Vec<&str> {
        self.path_of(flow_from(evidence, port))
    }

    fn path_of(&self, flow: &Flow) -> Vec<&str> {
        flow.path.iter().map(|instance| self.function_of(instance)).collect()
    }

    /// Asserts that the flows from these ports of the client passed these functions with every frame, and were not reset.
    ///
    /// # Panics
    /// If one did not, or was not seen.
    pub fn assert_whole(&self, evidence: &Evidence, ports: &[u16], path: &[&str]) {
        for flow in ports.iter().map(|port| flow_from(evidence, *port)) {
            assert!(flow.faults.is_empty() && flow.resets == 0, "{flow:#?}");
            assert_eq!(self.path_of(flow), path, "{flow:#?}");
        }
    }

    /// Makes short connections to an echo server: how many passed which functions, every frame of each.
    ///
    /// # Panics
    /// If one fails, or was not whole.
    #[must_use]
    pub fn paths_of_new(&self, port: u16, connections: usize) -> BTreeMap<Vec<&str>, usize> {
        let witnesses = self.witnesses().expect("recorders");
        self.connect_shortly(port, connections).expect("new connections");
        let mut paths = BTreeMap::new();
        for flow in self.evidence(&witnesses, port).values() {
            assert!(flow.faults.is_empty() && flow.resets == 0, "{flow:#?}");
            *paths.entry(self.path_of(flow)).or_default() += 1;
        }
        paths
    }
}

fn flow_from(evidence: &Evidence, port: u16) -> &Flow {
    let mut of_port = evidence.iter().filter(|(tuple, _)| tuple.source_port == port);
    of_port.next().unwrap_or_else(|| panic!("no flow from port {port} was seen")).1
}
