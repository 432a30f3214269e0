//! Veth pairs between namespaces, their offloads, addresses and routes.

use std::{
    fmt,
    net::IpAddr,
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
};

use ipnet::IpNet;

use crate::{Error, Namespace, Result, sys};

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// A locally administered unicast address that no other call in this process returns.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let [_, a, b, c] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        Self([0x02, 0x53, 0x59, a, b, c])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not six hexadecimal bytes separated by colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an Ethernet address")]
pub struct ParseMacError(String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok());
        let bytes = bytes.collect::<Option<Vec<u8>>>().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| ParseMacError(text.to_owned()))
    }
}

/// One end of a veth pair.
#[derive(Debug, Clone)]
pub struct LinkEnd {
    /// Where it is.
    pub namespace: Namespace,
    /// Its name there, at most 15 bytes.
    pub interface: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its offloads.
    pub offloads: Offloads,
}

impl LinkEnd {
    /// The kernel's number for the interface in its namespace.
    ///
    /// # Errors
    /// If there is no such interface any more.
    pub fn index(&self) -> Result<u32> {
        self.namespace
            .run(|| sys::interface_index(&self.interface))?
            .map_err(Error::io("find interface", format!("{} in {}", self.interface, self.namespace.name())))
    }

    /// Takes the interface down or brings it up.
    ///
    /// # Errors
    /// If there is no such interface any more.
    pub fn set_up(&self, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.namespace.ip(&[format!("link set {} {state}", self.interface)])
    }
}

/// Offloads of one end of a veth pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// Generic receive offload. Turns on NAPI, which an end that is the target of an XDP
    /// redirect to its peer needs. The kernel's default for veth is off.
    pub gro: bool,
    /// Transmit checksum and segmentation offloads. Off makes the end behave like a wire:
    /// frames are segmented and summed before they leave.
    pub transmit: bool,
}

impl Offloads {
    /// The kernel's defaults for veth: used for the node's ends of hosts and instances.
    pub const KERNEL: Self = Self { gro: false, transmit: true };
    /// A pod's end: NAPI on, so that frames may be redirected to it by XDP.
    pub const POD: Self = Self { gro: true, transmit: true };
    /// A wire between two machines.
    pub const WIRE: Self = Self { gro: true, transmit: false };
}

/// Makes a veth pair and brings both ends up.
///
/// # Errors
/// If a name is taken or too long, or `mtu` (bytes of IP packet) is out of veth's 68..=65535.
pub fn veth(a: &LinkEnd, b: &LinkEnd, mtu: u16) -> Result<()> {
    a.namespace.ip(&[
        format!(
            "link add name {} mtu {mtu} address {} type veth peer name {} mtu {mtu} address {} \
             netns {}",
            a.interface,
            a.mac,
            b.interface,
            b.mac,
            b.namespace.name()
        ),
        format!("link set {} up", a.interface),
    ])?;
    b.namespace.ip(&[format!("link set {} up", b.interface)])?;
    for end in [a, b] {
        let switch = |on: bool| if on { "on" } else { "off" };
        let mut arguments = vec!["-K", &end.interface];
        if end.offloads.gro != Offloads::KERNEL.gro {
            arguments.extend(["gro", switch(end.offloads.gro)]);
        }
        if end.offloads.transmit != Offloads::KERNEL.transmit {
            arguments.extend(["tx", switch(end.offloads.transmit)]);
        }
        if arguments.len() > 2 {
            end.namespace.output("ethtool", &arguments)?;
        }
    }
    Ok(())
}

/// Makes a plain learning Linux bridge of interfaces that exist: a stand-in for a front end in
/// tests of the testbed, and the bar to compare with in benches.
///
/// # Errors
/// If the name is taken or an interface is missing.
pub fn bridge(namespace: &Namespace, name: &str, interfaces: &[&str]) -> Result<()> {
    let mut lines = vec![format!("link add name {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")];
    lines.extend(interfaces.iter().map(|port| format!("link set {port} master {name}")));
    lines.push(format!("link set {name} up"));
    namespace.ip(&lines)
}

/// Sets whether br_netfilter shows bridged IP packets to the `ip`, `ip6` and `inet` families in
/// this namespace; the default differs by kernel. Off needs no br_netfilter.
pub(crate) fn show_bridged_packets(namespace: &Namespace, shown: bool) -> Result<()> {
    if !shown && namespace.sysctl("net/bridge/bridge-nf-call-iptables").is_err() {
        return Ok(());
    }
    let value = if shown { "1" } else { "0" };
    namespace.set_sysctls(&[
        ("net/bridge/bridge-nf-call-iptables", value),
        ("net/bridge/bridge-nf-call-ip6tables", value),
        ("net/bridge/bridge-nf-call-arptables", "0"),
    ])
}

/// A static route of a host or a routed network function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination; `0.0.0.0/0` or `::/0` for the default route.
    pub to: IpNet,
    /// Next hop, taken to be on the link whether an address covers it or not. `None`: the
    /// destination itself is on the link.
    pub via: Option<IpAddr>,
    /// Interface in the namespace: `eth0` of a host, `in` or `out` of a network function.
    pub interface: String,
}

impl Route {
    /// A route over a next hop.
    #[must_use]
    pub fn via(to: IpNet, via: IpAddr, interface: &str) -> Self {
        Self { to, via: Some(via), interface: interface.to_owned() }
    }

    /// Destinations reached directly on the link.
    #[must_use]
    pub fn on_link(to: IpNet, interface: &str) -> Self {
        Self { to, via: None, interface: interface.to_owned() }
    }

    fn command(&self) -> String {
        let Self { to, via, interface } = self;
        let to = to.trunc();
        match via {
            Some(via) => format!("route add {to} via {via} dev {interface} onlink"),
            None => format!("route add {to} dev {interface}"),
        }
    }
}

/// Gives interfaces of `namespace` their addresses, then adds the routes.
pub(crate) fn configure(namespace: &Namespace, addresses: &[(&str, &[IpNet])], routes: &[Route]) -> Result<()> {
    let addresses = addresses.iter().flat_map(|(interface, addresses)| {
        addresses.iter().map(move |address| match address {
            IpNet::V4(_) => format!("addr add {address} dev {interface}"),
            IpNet::V6(_) => format!("addr add {address} dev {interface} nodad"),
        })
    });
    let lines = addresses.chain(routes.iter().map(Route::command)).collect::<Vec<_>>();
    if lines.is_empty() { Ok(()) } else { namespace.ip(&lines) }
}
