//! Set-up and judgement that end-to-end tests share: hosts of a usual network, stages of instances, metrics.

mod one_tenant;
mod rollout;
mod site;

pub use one_tenant::OneTenant;
pub use rollout::Rollout;
pub use site::Site;

use crate::{
    Documents, Error, FiveTuple, Host, HostConfig, Kind, MacAddr, Node, Recorder, Recording, Result, Way,
    nf::{
        BridgeFirewall, BridgeFirewallConfig, Instance, OneArmed, OneArmedConfig, Rule, SharedFirewall,
        SharedFirewallConfig, Snat, SnatConfig, TenantRules, Translation,
    },
};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// `spec` of a firewall that hosts do not see.
pub const TRANSPARENT: &str = "forwarding: transparent, tupleEffect: keeps";

/// An address prefix.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|e| panic!("{text:?} is no prefix: {e}"))
}

/// An address.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|e| panic!("{text:?} is no address: {e}"))
}

/// 10.0.0.`last`/24 and fd00::`last`/64 with a MAC address made of it: hosts of several tenants may have all in common.
///
/// # Errors
/// As [`Host::new`].
pub fn host(node: &Node, name: &str, last: u8) -> Result<Host> {
    let config = HostConfig::new(name)
        .mac(MacAddr([2, 0, 0, 0, 0, last]))
        .address(net(&format!("10.0.0.{last}/24")))
        .address(net(&format!("fd00::{last}/64")));
    Host::new(node, config)
}

/// A host in subnets, behind a gateway in each: pairs of address and gateway.
///
/// # Errors
/// As [`Host::new`].
pub fn routed_host(node: &Node, name: &str, subnets: &[(&str, &str)]) -> Result<Host> {
    let add = |config: HostConfig, (address, gateway): &(&str, &str)| config.address(net(address)).gateway(ip(gateway));
    Host::new(node, subnets.iter().fold(HostConfig::new(name), add))
}

/// `spec` of a [`router`].
pub const ROUTED: &str =
    "forwarding: routed, tupleEffect: keeps, addresses: [10.0.1.254, 10.0.2.254, 'fd01::254', 'fd02::254']";

/// A router with one port between the subnets of a [`routed_pair`], whose gateway it is.
///
/// # Errors
/// As [`OneArmed::new`].
pub fn router(node: &Node, name: &str) -> Result<OneArmed> {
    let addresses = ["10.0.1.254/24", "10.0.2.254/24", "fd01::254/64", "fd02::254/64"].map(net).to_vec();
    OneArmed::new(node, OneArmedConfig { name: name.to_owned(), addresses, routes: vec![], rules: vec![], mtu: 1500 })
}

/// Hosts `client`, 10.0.1.1 and fd01::1, and `server`, 10.0.2.2 and fd02::2.
///
/// # Errors
/// As [`Host::new`].
pub fn routed_pair(node: &Node) -> Result<(Host, Host)> {
    let client = [("10.0.1.1/24", "10.0.1.254"), ("fd01::1/64", "fd01::254")];
    let server = [("10.0.2.2/24", "10.0.2.254"), ("fd02::2/64", "fd02::254")];
    Ok((routed_host(node, "client", &client)?, routed_host(node, "server", &server)?))
}

/// The MAC address a host has for a neighbour; `None` if it has none.
///
/// # Errors
/// If `ip` cannot be run.
pub fn neighbour(host: &Host, address: &str) -> Result<Option<MacAddr>> {
    let text = host.namespace().output("ip", &["neigh", "show", "to", address, "dev", Host::INTERFACE])?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let mac = words.windows(2).find(|pair| pair[0] == "lladdr").and_then(|pair| pair[1].parse().ok());
    Ok(mac)
}

/// Transparent, stateless firewalls of these names that drop TCP to `closed` ports under rules `tcp<port>`.
///
/// # Errors
/// As [`BridgeFirewall::new`].
pub fn firewalls(node: &Node, names: &[&str], closed: &[u16]) -> Result<Vec<BridgeFirewall>> {
    let rules = || closed.iter().map(|port| Rule::drop(&format!("tcp{port}"), &format!("tcp dport {port}"))).collect();
    names.iter().map(|name| BridgeFirewall::new(node, BridgeFirewallConfig::new(name, rules()))).collect()
}

/// A source NAT from a subnet, in which it has the address and prefix `inside`, to one address of 198.51.100.0/24.
///
/// # Errors
/// As [`Snat::new`].
pub fn snat(node: &Node, name: &str, inside: &str, outside: &str) -> Result<Snat> {
    let config = SnatConfig {
        name: name.to_owned(),
        inside: vec![net(inside)],
        outside: vec![net(&format!("{outside}/24"))],
        routes: Vec::new(),
        translations: vec![Translation { from: None, to: ip(outside), ports: None }],
        mtu: 1500,
    };
    Snat::new(node, config)
}

/// `spec` of a [`shared_firewall`].
pub const SHARED: &str = "forwarding: transparent, tupleEffect: keeps, \
                          shared: {isolatesState: true, tags: [{tenant: red, vlan: 101}, {tenant: blue, vlan: 102}]}";

/// A firewall that tenants `red` and `blue` share under tags 101 and 102. For each it drops TCP to one port, under the rule
/// `<tenant>_closed`.
///
/// # Errors
/// As [`SharedFirewall::new`].
pub fn shared_firewall(node: &Node, name: &str, closed: [u16; 2]) -> Result<SharedFirewall> {
    let rules = |(tenant, vlan, port): (&str, u16, u16)| TenantRules {
        vlan,
        rules: vec![Rule::drop(&format!("{tenant}_closed"), &format!("tcp dport {port}"))],
    };
    let rules = [("red", 101, closed[0]), ("blue", 102, closed[1])].map(rules).to_vec();
    SharedFirewall::new(node, SharedFirewallConfig::new(name, rules))
}

/// Adds a function with instances, each with what else its spec says.
#[must_use]
pub fn function<'a>(
    documents: Documents,
    name: &str,
    spec: &str,
    instances: impl IntoIterator<Item = (&'a Instance, String)>,
) -> Documents {
    let documents = documents.function(name, spec, 10);
    instances
        .into_iter()
        .fold(documents, |documents, (instance, more)| documents.instance(name, instance.name(), instance, &more))
}

/// Firewalls' instances, with nothing more said about each.
#[must_use]
pub fn plain(firewalls: &[BridgeFirewall]) -> Vec<(&Instance, String)> {
    firewalls.iter().map(|firewall| (firewall.instance(), String::new())).collect()
}

/// The instances of one stage of a chain, recorded.
#[derive(Debug)]
pub struct Stage {
    recorders: Vec<(String, Recorder)>,
}

/// What one instance saw of one conversation at one port: frames that came in there, frames that went out.
pub type Seen = BTreeMap<FiveTuple, BTreeMap<String, BTreeSet<Way>>>;

impl Stage {
    /// Starts to record all ports of the instances.
    ///
    /// # Errors
    /// As [`Instance::record`].
    pub fn record<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> Result<Self> {
        let recorders = instances.into_iter().map(|instance| Ok((instance.name().to_owned(), instance.record()?)));
        Ok(Self { recorders: recorders.collect::<Result<_>>()? })
    }

    /// What each instance's recorder has, by its name.
    fn recordings(&self) -> impl Iterator<Item = Result<(&str, Recording)>> {
        self.recorders.iter().map(|(name, recorder)| {
            let recording = recorder.snapshot()?;
            if recording.lost != 0 {
                let reason = format!("it lost {} frames", recording.lost);
                return Err(Error::Config { object: format!("recorder of {name}"), reason });
            }
            Ok((name.as_str(), recording))
        })
    }

    /// By canonical tuple, which instance saw it at `port` and whether it came in or went out there. Later fragments and
    /// ICMP errors are left out.
    ///
    /// # Errors
    /// A recorder failed, or lost frames: then nothing can be judged.
    pub fn seen(&self, port: &str, wanted: impl Fn(&FiveTuple) -> bool) -> Result<Seen> {
        let mut seen = Seen::new();
        for recording in self.recordings() {
            let (name, recording) = recording?;
            let here = recording.sightings.keys();
            for one in here.filter(|one| one.interface == port && one.kind == Kind::Whole && wanted(&one.tuple)) {
                let by_instance = seen.entry(one.tuple.canonical()).or_default();
                by_instance.entry(name.to_owned()).or_default().insert(one.way);
            }
        }
        Ok(seen)
    }

    /// Frames that passed `port` in one way, by tuple, at all instances together. Later fragments and ICMP errors are left out.
    ///
    /// # Errors
    /// As [`seen`](Self::seen).
    pub fn frames(&self, port: &str, way: Way) -> Result<BTreeMap<FiveTuple, u64>> {
        let mut frames = BTreeMap::new();
        for recording in self.recordings() {
            let recording = recording?;
            let here = recording.1.sightings.into_iter();
            for (one, count) in
                here.filter(|(one, _)| one.interface == port && one.way == way && one.kind == Kind::Whole)
            {
                *frames.entry(one.tuple).or_default() += count.frames;
            }
        }
        Ok(frames)
    }

    /// By canonical tuple, the one instance that saw both of its directions at `port`.
    ///
    /// # Panics
    /// If a conversation was seen by several instances, or in one direction only, or [`seen`](Self::seen) fails.
    #[must_use]
    pub fn pins(&self, port: &str, wanted: impl Fn(&FiveTuple) -> bool) -> BTreeMap<FiveTuple, String> {
        let both = BTreeSet::from([Way::Received, Way::Sent]);
        let seen = self.seen(port, wanted).expect("recording");
        let pin = |(tuple, by_instance): (FiveTuple, BTreeMap<String, BTreeSet<Way>>)| {
            let ways: Vec<_> = by_instance.into_iter().collect();
            match ways.as_slice() {
                [(instance, ways)] if *ways == both => (tuple, instance.clone()),
                _ => panic!("{tuple} at {port}: not both ways through one instance, but {ways:?}"),
            }
        };
        seen.into_iter().map(pin).collect()
    }
}

/// Looks until something holds.
///
/// # Panics
/// If it does not within ten seconds.
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(Duration::from_secs(10), what, holds);
}

/// As [`eventually`], with another limit: for what waits for a time that the product has fixed.
///
/// # Panics
/// If it does not hold within `patience`.
pub fn eventually_within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What `GET /metrics` answers in the node's namespace: value by name with labels, as in the text.
///
/// # Panics
/// If it does not answer in time.
#[must_use]
pub fn metrics(node: &Node) -> BTreeMap<String, f64> {
    let read = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], 9090)))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = node.namespace().run(read).expect("namespace").expect("metrics are served");
    let lines = text.lines().filter(|line| line.starts_with("switchyard_"));
    let values = lines.filter_map(|line| line.rsplit_once(' '));
    values.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

/// The counter of the data path of this name, an event of `switchyard_events_total`.
///
/// # Panics
/// As [`metrics`], and if there is no such counter.
#[must_use]
pub fn event(node: &Node, name: &str) -> u64 {
    metrics(node)[&format!("switchyard_events_total{{event=\"{name}\"}}")] as u64
}
