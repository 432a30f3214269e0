//! What the data path asks of the agent.

use crate::Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Event::kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum EventKind {
    /// Ask who has `addr` behind attachment `element`.
    NeighbourWanted = 1,
    /// Tell the sender `addr` behind `element` that its datagram was too big; `value` is the limit in bytes and `frame` begins
    /// with the datagram.
    TooBig = 2,
}

/// Bytes of the frame an event carries.
pub const EVENT_FRAME: usize = 128;

/// One event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// [`EventKind`].
    pub kind: u32,
    /// [`crate::TenantId`].
    pub tenant: u32,
    /// [`crate::AttachmentId`].
    pub element: u32,
    /// Depends on the kind.
    pub value: u32,
    /// The address it is about.
    pub addr: Addr,
    /// First bytes of the frame, from the Ethernet header.
    pub frame: [u8; EVENT_FRAME],
}

/// A per-CPU pair of counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Bytes, Ethernet header included.
    pub bytes: u64,
}

/// Key of the per-tenant drop counters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TenantDropKey {
    /// [`crate::TenantId`].
    pub tenant: u32,
    /// [`crate::DropReason`].
    pub reason: u32,
}

/// What the agent hands to the sweep program, followed by `count` flow keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SweepHeader {
    /// Out: the tick counter.
    pub ticks: u64,
    /// 1 to delete whether idle or not.
    pub force: u32,
    /// Keys that follow.
    pub count: u32,
    /// Out: records deleted.
    pub deleted: u32,
    /// Must be 0.
    pub reserved: [u32; 3],
}

/// Offset of [`SweepHeader::force`].
pub const SWEEP_FORCE: u32 = core::mem::offset_of!(SweepHeader, force) as u32;
/// Offset of [`SweepHeader::deleted`].
pub const SWEEP_DELETED: usize = core::mem::offset_of!(SweepHeader, deleted);
