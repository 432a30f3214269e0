//! Flow key, flow record, and the small tables beside them.

use crate::{Addr, AttachmentId, InstanceId, TenantId, ViewId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Network functions a frame may pass between two changes of its tuple; the length of [`FlowRecord::path`].
pub const PATH_MAX: usize = 16;

/// A flow: tenant and canonical 5-tuple (3-tuple with ports 0 where the protocol has none). The lower (address, port)
/// pair comes first, so both directions have one key. 40 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct FlowKey {
    /// The lower endpoint's address.
    pub a: Addr,
    /// The higher endpoint's address.
    pub b: Addr,
    /// The lower endpoint's port, host byte order; the identifier for ICMP echo.
    pub a_port: u16,
    /// The higher endpoint's port.
    pub b_port: u16,
    /// Tenant in the low 24 bits, IP protocol in the high 8.
    pub tenant_protocol: u32,
}

impl FlowKey {
    /// The tenant, unless the key is all zero.
    #[inline(always)]
    pub const fn tenant(&self) -> Option<TenantId> {
        TenantId::new(self.tenant_protocol & 0x00ff_ffff)
    }

    /// The IP protocol number.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        (self.tenant_protocol >> 24) as u8
    }
}

/// Life of a record, the low byte of [`FlowRecord::state`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FlowState {
    /// Frames of one direction only; counted against the tenant's unanswered budget.
    Unanswered = 1,
    /// Both directions seen; counted against the established budget.
    Established = 2,
    /// TCP: both FINs or a RST seen. A SYN starts a new flow.
    Closing = 3,
    /// Claimed by one CPU for replacement or deletion; a reader treats it as a miss.
    Dead = 4,
    /// TCP, to be reset: its frames are dropped, and their senders answered with a reset.
    Reset = 5,
}

impl FlowState {
    /// Decodes the low byte of a state word; anything unknown is `Dead`.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        match word as u8 {
            1 => Self::Unanswered,
            2 => Self::Established,
            3 => Self::Closing,
            5 => Self::Reset,
            _ => Self::Dead,
        }
    }
}

/// Bits 8..16 of [`FlowRecord::state`].
pub mod state_bits {
    /// FIN seen from the client side.
    pub const FIN_CLIENT: u32 = 1 << 8;
    /// FIN seen from the server side.
    pub const FIN_SERVER: u32 = 1 << 9;
    /// Counted as established in the tenant's usage (else as unanswered).
    pub const COUNTED_ESTABLISHED: u32 = 1 << 10;
}

/// Bits of [`FlowRecord::flags`].
pub mod record_flags {
    /// The client's end is the key's `a` endpoint.
    pub const CLIENT_IS_A: u8 = 1;
    /// The first frame came from the client side.
    pub const FROM_CLIENT: u8 = 2;
    /// The record began with a TCP segment that was not a SYN.
    pub const MIDSTREAM: u8 = 4;
    /// An instance was picked although another was the table's choice (down overlay).
    pub const OVERLAY: u8 = 8;
    /// The first element of the path made this tuple (NAT outside, proxy): there is no client attachment.
    pub const STARTS_AT_FUNCTION: u8 = 16;
    /// The last element of the path changes the tuple: there is no server attachment.
    pub const ENDS_AT_FUNCTION: u8 = 32;
    /// An outside record that was linked to its inside record by a note.
    pub const LINKED: u8 = 64;
    /// Picked by a view on trial: what happens to the flow is counted for the view.
    pub const WATCHED: u8 = 128;
}

/// The connection-table entry of a flow. 64 bytes, one cache line.
///
/// The kernel recycles elements at once, so a reader may hold a pointer to another flow's record: it copies what it
/// needs and then compares [`tag`](Self::tag). `last_seen` may be written blindly; `state` changes by compare-and-swap
/// and carries 16 bits of the tag, so that a swap on a recycled element fails; everything else changes only by a map update.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowRecord {
    /// Keyed 64-bit hash of the key.
    pub tag: u64,
    /// The view the flow is pinned to ([`ViewId`]).
    pub view: u32,
    /// Low 32 bits of the plan generation the path was picked by.
    pub generation: u32,
    /// Ticks (see [`crate::config::Config::ticks_per_second`]) at the last frame that did not go by the path cache, or at one that a sweep
    /// has learnt of from there.
    pub last_seen: u32,
    /// Tag bits 16..32, [`state_bits`] 8..16, [`FlowState`] 0..8.
    pub state: u32,
    /// Client attachment; 0 with [`record_flags::STARTS_AT_FUNCTION`].
    pub entry: u16,
    /// Server attachment; 0 with [`record_flags::ENDS_AT_FUNCTION`].
    pub exit: u16,
    /// Elements used in `path`.
    pub path_len: u8,
    /// [`record_flags`].
    pub flags: u8,
    /// Position of the last element's node when it changes the tuple, else 0.
    pub cut_position: u8,
    /// Must be 0.
    pub reserved: u8,
    /// Instances in client-to-server order ([`InstanceId`]).
    pub path: [u16; PATH_MAX],
}

impl FlowRecord {
    /// The view, unless the record is all zero.
    #[inline(always)]
    pub const fn view(&self) -> Option<ViewId> {
        ViewId::new(self.view)
    }

    /// The client attachment, if the segment begins at one.
    #[inline(always)]
    pub const fn entry(&self) -> Option<AttachmentId> {
        AttachmentId::new(self.entry)
    }

    /// The server attachment, if the segment ends at one.
    #[inline(always)]
    pub const fn exit(&self) -> Option<AttachmentId> {
        AttachmentId::new(self.exit)
    }

    /// The instance at `index` of the path.
    #[inline(always)]
    pub const fn instance(&self, index: usize) -> Option<InstanceId> {
        if index < PATH_MAX && index < self.path_len as usize { InstanceId::new(self.path[index]) } else { None }
    }
}

/// Names a fragmented datagram: later fragments carry no ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FragmentKey {
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// Tenant and protocol, as in [`FlowKey`].
    pub tenant_protocol: u32,
    /// IPv4 identification or IPv6 fragment identification.
    pub identification: u32,
}

/// What the first fragment said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FragmentPorts {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Ticks when the first fragment passed; older than 30 s counts as absent.
    pub seen: u32,
}

/// What stays the same when an NF rewrites a first frame's tuple; links the outside record to the inside one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NoteKey {
    /// TCP: initial sequence number. UDP: length and payload bytes. ICMP echo: sequence number and payload bytes.
    pub fingerprint: u64,
    /// The endpoint the NF keeps: the server's address.
    pub kept: Addr,
    /// The server's port (0 for ICMP).
    pub kept_port: u16,
    /// The instance that got the frame.
    pub instance: u16,
    /// Tenant and protocol, as in [`FlowKey`].
    pub tenant_protocol: u32,
}

/// The inside flow a note stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Note {
    /// The inside flow.
    pub key: FlowKey,
    /// Its view.
    pub view: u32,
    /// Position of the tuple-changing node in that view.
    pub position: u32,
}

/// A host behind an attachment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NeighbourKey {
    /// Its address.
    pub addr: Addr,
    /// The attachment.
    pub attachment: u16,
    /// Must be 0.
    pub reserved: u16,
}

/// The host's MAC address, learnt from ARP and neighbour discovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Neighbour {
    /// MAC address.
    pub mac: [u8; 6],
    /// Must be 0.
    pub reserved: u16,
}

const _: () = assert!(size_of::<FlowKey>() == 40 && size_of::<FlowRecord>() == 64);
