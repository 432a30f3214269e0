//! Ports, attachments, instances, tenants, front ends: the things frames come from and go to.

use crate::Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where a frame arrived.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PortKey {
    /// Interface index in the front end's network namespace.
    pub ifindex: u32,
    /// VLAN identifier, 0 for untagged (and priority-tagged) frames.
    pub vlan: u32,
}

/// What a port is, [`Port::kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PortKind {
    /// Not ours.
    None = 0,
    /// A tenant's attachment.
    Attachment = 1,
    /// A port of an instance.
    Instance = 2,
    /// Towards other front ends.
    Uplink = 3,
}

impl PortKind {
    /// Decodes; anything unknown is `None`.
    #[inline(always)]
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::Attachment,
            2 => Self::Instance,
            3 => Self::Uplink,
            _ => Self::None,
        }
    }
}

/// Which side of a chain, [`Port::side`] and [`crate::plan::RouteKey::side`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Side {
    /// The clients' side; an instance's `in` port.
    Client = 0,
    /// The servers' side; an instance's `out` port.
    Server = 1,
}

impl Side {
    /// The other side.
    #[inline(always)]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
    /// Decodes the lowest bit.
    #[inline(always)]
    pub const fn from_raw(raw: u8) -> Self {
        if raw & 1 == 0 { Self::Client } else { Self::Server }
    }
}

/// [`Port::side`] of a one-armed instance.
pub const EITHER_SIDE: u8 = 2;

/// A port. 12 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Port {
    /// The tenant whose frames arrive here; 0 on uplinks.
    pub tenant: u32,
    /// [`PortKind`].
    pub kind: u8,
    /// [`Side`], or [`EITHER_SIDE`] for a one-armed instance.
    pub side: u8,
    /// [`crate::AttachmentId`] or [`crate::InstanceId`].
    pub id: u16,
    /// [`crate::GraphId`] of an attachment, 0 while no graph uses it.
    pub graph: u32,
}

/// Bits of [`Target::flags`].
pub mod target_flags {
    /// The entry is in use.
    pub const EXISTS: u16 = 1;
    /// The interface is present and up; frames for one that is not are dropped as `port_down` by the program, because
    /// the kernel would drop them after it without a trace.
    pub const UP: u16 = 2;
    /// A veth whose peer is in another network namespace: `bpf_redirect_peer` delivers into it.
    pub const PEER: u16 = 4;
    /// Behind another front end.
    pub const REMOTE: u16 = 8;
    /// With [`PEER`]: the kernel leaves it to the program to mark frames as the host's (before Linux 6.15, "bpf: Scrub packet on
    /// bpf_redirect_peer"). Those that came with a foreign MAC address are another host's for the stack behind the veth otherwise.
    pub const CLAIM: u16 = 16;
}

/// An attachment as a destination. 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Target {
    /// Interface index.
    pub ifindex: u32,
    /// Owner ([`crate::TenantId`]), for attachments.
    pub tenant: u32,
    /// VLAN to push, 0 for none.
    pub vlan: u16,
    /// [`target_flags`].
    pub flags: u16,
    /// [`crate::NodeId`] with [`target_flags::REMOTE`], else 0.
    pub node: u16,
    /// Largest IP datagram it takes, bytes.
    pub mtu: u16,
}

/// Bits of [`Instance::traits`].
pub mod instance_traits {
    /// Declared down: picked around, never delivered to.
    pub const DOWN: u16 = 1;
    /// Routed: takes frames addressed to its own MAC; transparent otherwise.
    pub const ROUTED: u16 = 2;
    /// One port for both sides.
    pub const ONE_ARMED: u16 = 4;
    /// Shared by tenants, told apart by a VLAN tag per tenant.
    pub const TAGGED: u16 = 8;
    /// See [`crate::plan::node_flags::CHANGES_TUPLE`].
    pub const CHANGES_TUPLE: u16 = 16;
    /// See [`crate::plan::node_flags::ENDS_FLOW`].
    pub const ENDS_FLOW: u16 = 32;
}

/// An instance as a destination. 56 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Instance {
    /// The ports by [`Side`]: `in`, `out`; equal for a one-armed instance. `tenant` is 0 for a shared instance.
    pub ports: [Target; 2],
    /// The instance's own MAC addresses behind those ports.
    pub macs: [[u8; 6]; 2],
    /// [`instance_traits`].
    pub traits: u16,
    /// [`crate::ReplicaSetId`] it belongs to.
    pub replica_set: u16,
    /// Must be 0.
    pub reserved: [u8; 8],
}

/// The tag of a tenant at a shared instance.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TagKey {
    /// [`crate::TenantId`].
    pub tenant: u32,
    /// [`crate::InstanceId`].
    pub instance: u32,
}

/// An address for which the front end answers ARP and neighbour solicitations of a tenant.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OwnedKey {
    /// The address.
    pub addr: Addr,
    /// [`crate::TenantId`].
    pub tenant: u32,
}

/// A tenant's budget of the connection table, in records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tenant {
    /// Unanswered records allowed.
    pub unanswered_max: u64,
    /// Established records allowed.
    pub established_max: u64,
}

/// A tenant's usage of the connection table, in records. Apart from the budget, which user space overwrites.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Usage {
    /// Unanswered records, changed atomically: +1 only on a successful insert, -1 only on a successful delete or promotion.
    pub unanswered: u64,
    /// Established (and closing) records.
    pub established: u64,
}

/// Another front end, by [`crate::NodeId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FrontEnd {
    /// Underlay address (IPv4 in this version of the wire format).
    pub addr: Addr,
    /// MAC of the next hop towards it; frames that leave from XDP have it as their destination.
    pub mac: [u8; 6],
    /// Must be 0.
    pub reserved: u16,
    /// Uplink interface; 0 in an element that stands for no front end.
    pub ifindex: u32,
    /// Largest outer IP datagram the underlay carries, bytes.
    pub mtu: u32,
}
