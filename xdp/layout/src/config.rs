//! The one-element configuration map.

use crate::Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Config::magic`] of a map that an agent has filled ("SWYD").
pub const MAGIC: u32 = 0x5357_5944;

/// Index into [`Config::idle`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum IdleClass {
    /// One direction seen.
    Unanswered = 0,
    /// TCP, both directions seen.
    EstablishedTcp = 1,
    /// Other protocols, both directions seen.
    EstablishedOther = 2,
    /// TCP after FINs or RST.
    Closing = 3,
}

/// What every program needs besides the plan. Written before any program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`crate::LAYOUT_VERSION`].
    pub version: u32,
    /// SipHash-1-3 key of instance selection and canary cohorts: the cluster seed.
    pub flow_key: [u64; 2],
    /// Key of record tags, of this node.
    pub tag_key: u64,
    /// Rate of the tick counter (kernel jiffies), Hz.
    pub ticks_per_second: u32,
    /// This front end ([`crate::NodeId`]).
    pub node: u32,
    /// This front end's underlay address; zero without uplinks.
    pub underlay: Addr,
    /// Ticks without a frame after which a record goes, by [`IdleClass`].
    pub idle: [u32; 4],
    /// MAC address the front end answers with: the neighbour of every host and routed NF.
    pub mac: [u8; 6],
    /// Must be 0.
    pub reserved: u16,
    /// MAC of the uplink: source of frames towards other front ends that leave from XDP.
    pub uplink_mac: [u8; 6],
    /// Must be 0.
    pub reserved2: u16,
}

/// Metadata before a frame that XDP decapsulated for local delivery. Generic receive offload merges frames only if their
/// metadata are equal, which keeps tenants apart whose frames agree in every byte (kernel `gro_list_prepare`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Handover {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`crate::TenantId`].
    pub tenant: u32,
    /// View << 1 | direction, as on the wire.
    pub spi: u32,
    /// Interface to deliver to.
    pub ifindex: u32,
    /// VLAN to push, 0 for none.
    pub vlan: u16,
    /// [`crate::port::target_flags`] of the destination.
    pub flags: u16,
    /// Instance or attachment it is for.
    pub element: u32,
}
