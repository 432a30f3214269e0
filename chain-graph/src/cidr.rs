//! Prefixes in the one address space that the data plane knows: IPv4 is v4-mapped.

use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use xdp_layout::{Addr, plan::Prefix};

/// Bits before an IPv4 address in its v4-mapped form.
const V4_BITS: u8 = 96;

/// The data plane's form of an address.
pub fn addr_of(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(v4) => Addr::v4(v4.octets()),
        IpAddr::V6(v6) => Addr(v6.octets()),
    }
}

/// A prefix of the 128-bit space, host bits zero. Orders by address, then from short to long: a prefix comes before
/// everything inside it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    addr: Addr,
    length: u8,
}

impl Cidr {
    /// Every IPv6 address, and every IPv4 address in its mapped form.
    pub const ALL: Self = Self { addr: Addr([0; 16]), length: 0 };
    /// Every IPv4 address.
    pub const V4: Self = Self { addr: Addr::v4([0; 4]), length: V4_BITS };

    pub(crate) const fn from_parts(addr: Addr, length: u8) -> Self {
        Self { addr, length }
    }

    /// The first address.
    pub const fn addr(self) -> Addr {
        self.addr
    }

    /// Length in bits, 0..=128; 96 more than the IPv4 length.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// The form in which edges hold it.
    pub const fn prefix(self) -> Prefix {
        Prefix::new(self.addr, self.length)
    }

    /// Whether the address lies in it.
    pub const fn contains(self, addr: &Addr) -> bool {
        self.prefix().contains(addr)
    }

    /// Whether every address of `other` lies in it.
    pub const fn covers(self, other: Self) -> bool {
        self.length <= other.length && self.contains(&other.addr)
    }

    /// Whether it is a prefix of IPv4 addresses.
    pub const fn is_v4(self) -> bool {
        self.length >= V4_BITS && self.addr.is_v4()
    }

    /// First and last address as integers.
    pub const fn bounds(self) -> (u128, u128) {
        let first = u128::from_be_bytes(self.addr.0);
        let host = if self.length >= 128 { 0 } else { u128::MAX >> self.length };
        (first, first | host)
    }
}

impl From<IpNet> for Cidr {
    fn from(net: IpNet) -> Self {
        let net = net.trunc();
        match net {
            IpNet::V4(v4) => Self { addr: addr_of(v4.addr().into()), length: V4_BITS + v4.prefix_len() },
            IpNet::V6(v6) => Self { addr: addr_of(v6.addr().into()), length: v6.prefix_len() },
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_v4() {
            write!(f, "{}/{}", Ipv4Addr::from(self.addr.v4_bytes()), self.length - V4_BITS)
        } else {
            write!(f, "{}/{}", Ipv6Addr::from(self.addr.0), self.length)
        }
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
