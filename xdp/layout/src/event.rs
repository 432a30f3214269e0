//! What the data path asks of the agent.

use crate::port::Side;
use crate::{Addr, AttachmentId, InstanceId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Event::kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum EventKind {
    /// Ask who has `addr` behind attachment `element`.
    NeighbourWanted = 1,
    /// Tell the sender `addr` behind `element`, or the function there that made the datagram, that it was too big; `value` is the limit in bytes and `frame` begins
    /// with the datagram.
    TooBig = 2,
    /// Answer the TCP segment `frame`, which came from `addr` behind `element`, with a reset; `value` is its ports, the
    /// source's in the high half.
    Reset = 3,
}

/// Bit of [`Event::element`]: an instance's port.
const INSTANCE: u32 = 1 << 16;
/// Bit of [`Event::element`] that tells an instance's port on the servers' side.
const SERVER_SIDE: u32 = 1 << 17;

/// [`Event::element`] for the port of an instance on a side; `instance` is its [`crate::InstanceId`], 0 for none.
#[inline(always)]
pub const fn of_instance(instance: u16, side: Side) -> u32 {
    if instance == 0 { 0 } else { instance as u32 | INSTANCE | (side as u32 * SERVER_SIDE) }
}

/// What an [`Event::element`] stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Element {
    /// An attachment.
    Attachment(AttachmentId),
    /// The port of an instance on a side.
    Instance(InstanceId, Side),
}

impl Element {
    /// Decodes; `None` for nothing.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        if raw & INSTANCE == 0 {
            return match AttachmentId::new(raw as u16) {
                Some(id) if raw < INSTANCE => Some(Self::Attachment(id)),
                _ => None,
            };
        }
        let side = if raw & SERVER_SIDE != 0 { Side::Server } else { Side::Client };
        match InstanceId::new(raw as u16) {
            Some(id) => Some(Self::Instance(id, side)),
            None => None,
        }
    }
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
    /// [`crate::AttachmentId`], or [`of_instance`].
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

/// What the flows of a view on trial met, a per-CPU set of counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ViewTraffic {
    /// Records written.
    pub flows: u64,
    /// Those of TCP.
    pub tcp_flows: u64,
    /// Records of TCP closed by a RST of either end, or of a function.
    pub tcp_resets: u64,
    /// Frames on their way to the next element, counted at every hop.
    pub frames: u64,
    /// Those of them that were dropped.
    pub dropped: u64,
}

/// What [`SweepHeader::force`] asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Sweep {
    /// Delete records that are idle.
    Idle = 0,
    /// Delete records, idle or not.
    Delete = 1,
    /// Have TCP flows reset ([`crate::flow::FlowState::Reset`]), delete the records of others.
    Reset = 2,
}

impl Sweep {
    /// Decodes; anything unknown is `Idle`.
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        match raw {
            1 => Self::Delete,
            2 => Self::Reset,
            _ => Self::Idle,
        }
    }
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
    /// [`Sweep`].
    pub force: u32,
    /// Keys that follow.
    pub count: u32,
    /// Out: records deleted, or marked for a reset.
    pub deleted: u32,
    /// The view whose flows are to be reset; only [`Sweep::Reset`] looks at it.
    pub view: u32,
    /// Must be 0.
    pub reserved: [u32; 2],
}

/// Offset of [`SweepHeader::force`].
pub const SWEEP_FORCE: u32 = core::mem::offset_of!(SweepHeader, force) as u32;
/// Offset of [`SweepHeader::deleted`].
pub const SWEEP_DELETED: usize = core::mem::offset_of!(SweepHeader, deleted);

#[cfg(test)]
mod tests {
    use super::{Element, of_instance};
    use crate::port::Side;
    use crate::{AttachmentId, InstanceId};

    #[test]
    fn elements_are_what_they_were_made_of() {
        let id = InstanceId::new(65_535).unwrap();
        for side in [Side::Client, Side::Server] {
            assert_eq!(Element::from_raw(of_instance(id.get(), side)), Some(Element::Instance(id, side)));
            assert_eq!(Element::from_raw(of_instance(0, side)), None);
        }
        let id = AttachmentId::new(65_535).unwrap();
        assert_eq!(Element::from_raw(id.get().into()), Some(Element::Attachment(id)));
        assert_eq!(Element::from_raw(0), None);
    }
}
