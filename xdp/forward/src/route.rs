//! The next element of a path, and delivery to it.

use crate::frame::Frame;
use crate::overlay;
use crate::record::note_key;
use crate::step::{Scratch, Visit};
use crate::tables::{Notice, Tables};
use crate::verdict::{Delivery, Outcome, Step};
use crate::wire::ETHERNET;
use xdp_layout::event::{EventKind, of_instance};
use xdp_layout::flow::{FlowRecord, FlowState, NeighbourKey, Note, PATH_MAX, record_flags};
use xdp_layout::port::{Instance, PortKind, Side, TagKey, Target, instance_traits, target_flags};
use xdp_layout::{AttachmentId, DropReason, InstanceId};

/// [`Frame::gso_size`] of a frame whose segments differ in size (kernel `GSO_BY_FRAGS`).
const GSO_BY_FRAGMENTS: u32 = 0xffff;

/// Element number of an attachment in [`Delivery::element`].
pub(crate) const ATTACHMENT_ELEMENT: u32 = 65_536;

/// Where a frame goes next: an instance, by the port of a side, or an attachment. One of the two ids is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Next {
    instance: u16,
    attachment: u16,
    /// [`Side`] of the instance's port.
    side: u8,
}

impl Next {
    /// The instance, if it is one.
    #[inline(always)]
    pub(crate) fn instance(&self) -> Option<InstanceId> {
        InstanceId::new(self.instance)
    }

    /// The attachment, if it is one.
    #[inline(always)]
    pub(crate) fn attachment(&self) -> Option<AttachmentId> {
        AttachmentId::new(self.attachment)
    }

    /// The side of the instance's port.
    #[inline(always)]
    pub(crate) fn side(&self) -> Side {
        Side::from_raw(self.side)
    }
}

/// Where in a path a frame arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The port's kind.
    pub(crate) kind: PortKind,
    /// [`Port::side`](xdp_layout::port::Port::side).
    pub(crate) side: u8,
    /// The instance or attachment.
    pub(crate) id: u16,
    /// On an uplink: the index in the path of the element the frame is for.
    pub(crate) index: usize,
}

/// A flow's path, from a record or from the cache.
pub(crate) trait Stations {
    /// Instances the longest has.
    const MAX: usize;
    /// Instances it has.
    fn len(&self) -> usize;
    /// The instance at an index.
    fn at(&self, index: usize) -> u16;
    /// Client and server attachment, 0 for none.
    fn ends(&self) -> (u16, u16);
    /// [`record_flags`], of which only those that say where it ends are looked at.
    fn flags(&self) -> u8;
    /// Whether no frame enters it from an attachment in this direction.
    #[inline(always)]
    fn bars(&self, is_forward: bool) -> bool {
        let barred = if is_forward { record_flags::STARTS_AT_FUNCTION } else { record_flags::ENDS_AT_FUNCTION };
        self.flags() & barred != 0
    }
}

impl Stations for FlowRecord {
    const MAX: usize = PATH_MAX;
    #[inline(always)]
    fn len(&self) -> usize {
        self.path_len as usize
    }
    #[inline(always)]
    fn at(&self, index: usize) -> u16 {
        self.path[index & (PATH_MAX - 1)]
    }
    #[inline(always)]
    fn ends(&self) -> (u16, u16) {
        (self.entry, self.exit)
    }
    #[inline(always)]
    fn flags(&self) -> u8 {
        self.flags
    }
}

/// The index in the path of the neighbour of the element at which the frame arrived, in the frame's direction; one that the path
/// does not have stands for the attachment at its end. `against` is 0 towards the server and 1 towards the client, so it is also
/// the side of an attachment that a frame comes in at, and of the instance's port that it goes to.
#[inline(always)]
pub(crate) fn neighbour<P: Stations>(place: &Place, path: &P, against: u8) -> Step<usize> {
    let is_forward = against == 0;
    Ok(match place.kind {
        PortKind::Attachment => {
            if place.side != against || path.bars(is_forward) {
                return Err(DropReason::WrongAttachment);
            }
            if is_forward { 0 } else { path.len().wrapping_sub(1) }
        }
        PortKind::Instance => {
            if place.side == against {
                return Err(DropReason::WrongSide);
            }
            let here = find(path, place.id).ok_or(DropReason::NotInPath)?;
            if is_forward { here + 1 } else { here.wrapping_sub(1) }
        }
        PortKind::Uplink => place.index,
        PortKind::None => return Err(DropReason::NotConfigured),
    })
}

/// The attachment at which the path ends in a direction, 0 for none.
#[inline(always)]
pub(crate) fn end<P: Stations>(path: &P, against: u8) -> u16 {
    let (entry, exit) = path.ends();
    if against == 0 { exit } else { entry }
}

/// Where a frame goes next.
#[inline(always)]
pub(crate) fn next<P: Stations>(place: &Place, path: &P, against: u8) -> Step<Next> {
    let index = neighbour(place, path, against)?;
    if index < path.len() && index < P::MAX {
        let instance = InstanceId::new(path.at(index)).ok_or(DropReason::PortDown)?;
        return Ok(Next { instance: instance.get(), attachment: 0, side: against });
    }
    match end(path, against) {
        0 => Err(DropReason::TupleUnchanged),
        attachment => Ok(Next { instance: 0, attachment, side: 0 }),
    }
}

/// The index of an instance in a path; it occurs at most once.
#[inline(always)]
pub(crate) fn find<P: Stations>(path: &P, instance: u16) -> Option<usize> {
    let mut index = 0;
    while index < P::MAX {
        if index >= path.len() {
            return None;
        }
        if path.at(index) == instance {
            return Some(index);
        }
        index += 1;
    }
    None
}

/// Whether the flow may still go there: the instance is up and serves the tenant, the attachment is there and the tenant's.
/// Where not, its record is picked anew. The function that made the tuple has no substitute: it stays in the path.
#[inline(always)]
pub(crate) fn is_usable<T: Tables>(tables: &T, visit: &Visit, record: &FlowRecord, next: &Next) -> bool {
    let Some(id) = next.instance() else {
        return is_own_attachment(tables, visit.tenant, next.attachment);
    };
    if record.flags & record_flags::STARTS_AT_FUNCTION != 0 && record.path[0] == next.instance {
        return true;
    }
    tables.is_live(id) && tables.instance(id).is_some_and(|instance| serves(instance, visit.tenant))
}

/// Whether an attachment exists and belongs to the tenant.
#[inline(always)]
pub(crate) fn is_own_attachment<T: Tables>(tables: &T, tenant: u32, id: u16) -> bool {
    AttachmentId::new(id)
        .and_then(|id| tables.attachment(id))
        .is_some_and(|target| target.flags & target_flags::EXISTS != 0 && target.tenant == tenant)
}

/// Whether an instance is for this tenant: its own, or shared by tags. One that no graph uses is for nobody.
#[inline(always)]
const fn serves(instance: &Instance, tenant: u32) -> bool {
    instance.traits & instance_traits::TAGGED != 0 || instance.ports[0].tenant == tenant
}

/// Makes the frame ready for its next element, [`Scratch::next`].
#[inline(never)]
pub(crate) fn deliver<F: Frame, T: Tables>(frame: &mut F, tables: &T, scratch: &mut Scratch) -> Step<Outcome> {
    let Scratch { visit, record, next, delivery, .. } = scratch;
    let (target, vlan, element) = if let Some(id) = next.instance() {
        let (target, vlan) = to_instance(frame, tables, visit, record, id, next.side())?;
        (target, vlan, id.get() as u32)
    } else {
        let id = next.attachment().ok_or(DropReason::PortDown)?;
        let target = to_attachment(frame, tables, visit, record, id)?;
        (target, target.vlan, id.get() as u32 + ATTACHMENT_ELEMENT)
    };
    if target.flags & target_flags::REMOTE != 0 {
        return overlay::encapsulate(frame, tables, scratch, &target);
    }
    if vlan != 0 && !frame.tag(vlan) {
        return Err(DropReason::FrameEdit);
    }
    let direction = !visit.is_forward(record) as u32;
    *delivery = Delivery {
        ifindex: target.ifindex,
        flags: target.flags,
        vlan,
        tenant: visit.tenant,
        spi: record.view << 1 | direction,
        element,
    };
    Ok(Outcome::Deliver)
}

#[inline(always)]
fn to_instance<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    visit: &Visit,
    record: &FlowRecord,
    id: InstanceId,
    side: Side,
) -> Step<(Target, u16)> {
    let instance = *tables.instance(id).ok_or(DropReason::PortDown)?;
    if instance.traits & instance_traits::DOWN != 0 {
        return Err(DropReason::PortDown);
    }
    if !serves(&instance, visit.tenant) {
        return Err(DropReason::WrongTenant);
    }
    let (target, mac) = match side {
        Side::Client => (instance.ports[0], instance.macs[0]),
        Side::Server => (instance.ports[1], instance.macs[1]),
    };
    admit(frame, tables, visit, record, &target)?;
    if target.flags & target_flags::REMOTE != 0 {
        // Tag, MAC addresses and note are the business of the front end that delivers.
        return Ok((target, 0));
    }
    let vlan = if instance.traits & instance_traits::TAGGED != 0 {
        let key = TagKey { tenant: visit.tenant, instance: id.get() as u32 };
        tables.tag(key).ok_or(DropReason::NoTag)?
    } else {
        target.vlan
    };
    if instance.traits & instance_traits::ROUTED != 0 && !rewrite_macs(frame, mac, tables.mac()) {
        return Err(DropReason::FrameEdit);
    }
    let leaves_note = instance.traits & instance_traits::CHANGES_TUPLE != 0
        && side as u8 == Side::Client as u8
        && FlowState::from_word(record.state) == FlowState::Unanswered;
    if leaves_note && !visit.packet.is_error {
        leave_note(tables, visit, record, id);
    }
    tables.count_instance(id, frame.len());
    Ok((target, vlan))
}

/// So that the frame's other side, when it comes out with another tuple, finds its flow's view.
#[inline(never)]
fn leave_note<T: Tables>(tables: &T, visit: &Visit, record: &FlowRecord, id: InstanceId) {
    let note = Note { key: visit.key, view: record.view, position: record.cut_position as u32 };
    tables.note_put(&note_key(visit, id), &note);
}

#[inline(always)]
fn to_attachment<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    visit: &Visit,
    record: &FlowRecord,
    id: AttachmentId,
) -> Step<Target> {
    let target = *tables.attachment(id).ok_or(DropReason::PortDown)?;
    if target.flags & target_flags::EXISTS != 0 && target.tenant != visit.tenant {
        return Err(DropReason::WrongTenant);
    }
    admit(frame, tables, visit, record, &target)?;
    if target.flags & target_flags::REMOTE != 0 {
        return Ok(target);
    }
    let destination: [u8; 6] = frame.load(0).ok_or(DropReason::Malformed)?;
    let mac = tables.mac();
    // A frame for the front end's own address came by a routed element: it needs the host's address. Others keep theirs.
    if destination == mac {
        to_host(frame, tables, visit, id)?;
    }
    Ok(target)
}

/// Gives the frame the MAC address of the host it is for.
#[inline(never)]
fn to_host<F: Frame, T: Tables>(frame: &mut F, tables: &T, visit: &Visit, id: AttachmentId) -> Step<()> {
    let key = NeighbourKey { addr: visit.packet.destination, attachment: id.get(), reserved: 0 };
    let Some(neighbour) = tables.neighbour(&key) else {
        let notice = Notice {
            kind: EventKind::NeighbourWanted,
            tenant: visit.tenant,
            element: id.get() as u32,
            value: 0,
            addr: key.addr,
        };
        tables.emit(&notice, frame);
        return Err(DropReason::NeighbourUnknown);
    };
    if rewrite_macs(frame, neighbour.mac, tables.mac()) { Ok(()) } else { Err(DropReason::FrameEdit) }
}

/// Checks that a destination may have the frame: presence, size.
#[inline(always)]
fn admit<F: Frame, T: Tables>(frame: &F, tables: &T, visit: &Visit, record: &FlowRecord, target: &Target) -> Step<()> {
    let wanted = target_flags::EXISTS | target_flags::UP;
    if target.flags & wanted != wanted {
        return Err(DropReason::PortDown);
    }
    let headers = visit.packet.transport - ETHERNET as u32 + visit.packet.transport_header as u32;
    if !fits(frame, visit.packet.length, headers, target.mtu) {
        tell_too_big(frame, tables, visit, record, target);
        return Err(DropReason::TooBig);
    }
    Ok(())
}

/// Whether the datagram of `length` bytes that a frame is, or with segmentation offload the largest segment it stands for behind
/// `headers` bytes, is within `mtu`.
#[inline(always)]
pub(crate) fn fits<F: Frame>(frame: &F, length: u32, headers: u32, mtu: u16) -> bool {
    let mtu = mtu as u32;
    // Most frames are small, and what offload says of them lies far from what else is read.
    if frame.len() <= mtu + ETHERNET as u32 {
        return true;
    }
    match frame.gso_size() {
        0 => length <= mtu,
        // Segments of several sizes (SCTP): the sender has cut them for its own MTU, and tells none.
        GSO_BY_FRAGMENTS => true,
        segment => headers + segment <= mtu,
    }
}

/// Has the agent answer with ICMP: the attachment the sender is behind, or the function that made the tuple, which translates
/// what it gets (RFC 5508 section 4.2).
#[inline(never)]
fn tell_too_big<F: Frame, T: Tables>(frame: &F, tables: &T, visit: &Visit, record: &FlowRecord, target: &Target) {
    let (end, maker, side) = if visit.is_forward(record) {
        (record.entry, record.path[0], Side::Server)
    } else {
        (record.exit, record.path[(record.path_len as usize).wrapping_sub(1) & (PATH_MAX - 1)], Side::Client)
    };
    let element = if end != 0 { end as u32 } else { of_instance(maker, side) };
    let notice = Notice {
        kind: EventKind::TooBig,
        tenant: visit.tenant,
        element,
        value: target.mtu as u32,
        addr: visit.packet.tuple.source,
    };
    tables.emit(&notice, frame);
}

#[inline(always)]
pub(crate) fn rewrite_macs<F: Frame>(frame: &mut F, destination: [u8; 6], source: [u8; 6]) -> bool {
    let mut macs = [0; 12];
    macs[..6].copy_from_slice(&destination);
    macs[6..].copy_from_slice(&source);
    frame.store(0, macs)
}
