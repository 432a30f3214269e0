//! Clients and servers.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{LinkEnd, MacAddr, Namespace, Node, Offloads, Result, Route, link};

/// How a [`Host`] is to be made.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Name of the namespace, and of the node's end of its link. Unique in the testbed, at most
    /// 11 letters, digits, `-`, `_`.
    pub name: String,
    /// Ethernet address; hosts of different tenants may share one. Default: unique.
    pub mac: MacAddr,
    /// Addresses with prefix lengths; hosts of different tenants may share them.
    pub addresses: Vec<IpNet>,
    /// Static routes, on `eth0`.
    pub routes: Vec<Route>,
    /// MTU of the link in bytes, at both ends. Default 1500.
    pub mtu: u16,
    /// Offloads of `eth0`. Default [`Offloads::POD`].
    pub offloads: Offloads,
}

impl HostConfig {
    /// A host with the defaults and no address.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            mac: MacAddr::unique(),
            addresses: Vec::new(),
            routes: Vec::new(),
            mtu: 1500,
            offloads: Offloads::POD,
        }
    }

    /// Sets the Ethernet address.
    #[must_use]
    pub fn mac(mut self, mac: MacAddr) -> Self {
        self.mac = mac;
        self
    }

    /// Adds an address.
    #[must_use]
    pub fn address(mut self, address: IpNet) -> Self {
        self.addresses.push(address);
        self
    }

    /// Adds a default route, of the gateway's address family.
    #[must_use]
    pub fn gateway(mut self, gateway: IpAddr) -> Self {
        let to = match gateway {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
        };
        self.routes.push(Route::via(to, gateway, Host::INTERFACE));
        self
    }

    /// Adds a route over a next hop.
    #[must_use]
    pub fn route(mut self, to: IpNet, via: IpAddr) -> Self {
        self.routes.push(Route::via(to, via, Host::INTERFACE));
        self
    }

    /// Sets the MTU.
    #[must_use]
    pub fn mtu(mut self, mtu: u16) -> Self {
        self.mtu = mtu;
        self
    }
}

/// A namespace with one interface, `eth0`, connected to a node: a client or a server.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its own end of the link.
    pub eth0: LinkEnd,
    /// The node's end of the link, named as the host is.
    pub node: LinkEnd,
    addresses: Vec<IpNet>,
}

impl Host {
    /// Name of a host's interface.
    pub const INTERFACE: &'static str = "eth0";

    /// Makes a host and connects it to `node`.
    ///
    /// # Errors
    /// If the name is taken, or an address, route or the MTU is not valid.
    pub fn new(node: &Node, config: HostConfig) -> Result<Self> {
        let HostConfig { name, mac, addresses, routes, mtu, offloads } = config;
        let namespace = node.add_namespace(&name)?;
        let eth0 = LinkEnd { namespace, interface: Self::INTERFACE.to_owned(), mac, offloads };
        let node = node.attach(&eth0, &name, mtu)?;
        link::configure(&eth0.namespace, &[(Self::INTERFACE, &addresses)], &routes)?;
        Ok(Self { eth0, node, addresses })
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.eth0.namespace
    }

    /// The first IPv4 address it was given.
    ///
    /// # Panics
    /// If it was given none.
    #[must_use]
    pub fn ipv4(&self) -> IpAddr {
        self.first_address(IpAddr::is_ipv4)
    }

    /// The first IPv6 address it was given.
    ///
    /// # Panics
    /// If it was given none.
    #[must_use]
    pub fn ipv6(&self) -> IpAddr {
        self.first_address(IpAddr::is_ipv6)
    }

    fn first_address(&self, family: fn(&IpAddr) -> bool) -> IpAddr {
        let mut addresses = self.addresses.iter().map(IpNet::addr);
        addresses.find(family).expect("the host was given no address of this family")
    }
}
