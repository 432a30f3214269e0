//! The one entry: what happens to a frame at every hop.

use crate::cache;
use crate::control;
use crate::frame::Frame;
use crate::overlay;
use crate::parse::{Fragment, Packet, Parsed, parse};
use crate::record;
use crate::route;
use crate::tables::{Observed, Tables};
use crate::verdict::{Delivery, Outcome, Step, Verdict};
use crate::walk::Walk;
use xdp_layout::flow::{FlowKey, FlowRecord, FragmentKey, FragmentPorts, record_flags};
use xdp_layout::port::{Port, PortKey, PortKind, Side};
use xdp_layout::{Counter, DropReason, TenantId};

/// Seconds for which a first fragment is remembered (RFC 791 suggests 15, Linux reassembles for 30).
pub(crate) const FRAGMENT_SECONDS: u32 = 30;

/// Where and when a frame arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Interface index.
    pub ifindex: u32,
    /// Ticks of the configured rate; wraps.
    pub now: u32,
}

/// A packet on its way through one hop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    /// Port of arrival.
    pub(crate) port: Port,
    /// The port's kind.
    pub(crate) kind: PortKind,
    /// VLAN tag the frame arrived with.
    pub(crate) vlan: u16,
    pub(crate) now: u32,
    /// Tenant of the port, or on an uplink that of the frame, 0 until it is known; raw, since all-zero bytes must be a value.
    pub(crate) tenant: u32,
    pub(crate) packet: Packet,
    pub(crate) key: FlowKey,
    pub(crate) source_is_a: bool,
    /// On an uplink: the index in the path of the element the frame is for.
    pub(crate) index: u8,
    /// NSH time to live with which it goes on to another front end: hops between front ends that are left.
    pub(crate) ttl: u8,
}

/// Working memory of one [`step`]. The kernel's stack has 512 bytes, so the programs keep it in a per-CPU map; a frame
/// finds nothing in it that another left, every field is written before it is read. All-zero bytes are a valid value.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Scratch {
    pub(crate) delivery: Delivery,
    /// Whether the frame's flow had a record.
    pub(crate) is_known: bool,
    pub(crate) visit: Visit,
    pub(crate) record: FlowRecord,
    pub(crate) previous: FlowRecord,
    pub(crate) walk: Walk,
    pub(crate) next: route::Next,
    /// An encapsulation header.
    pub(crate) header: [u8; overlay::OVERHEAD],
    /// An IPv6 header and a neighbour-discovery message.
    pub(crate) message: [u8; control::ND_BYTES],
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            is_known: false,
            visit: Visit {
                port: Port::default(),
                kind: PortKind::None,
                vlan: 0,
                now: 0,
                tenant: 0,
                packet: Packet::default(),
                key: FlowKey::default(),
                source_is_a: false,
                index: 0,
                ttl: 0,
            },
            record: FlowRecord::default(),
            previous: FlowRecord::default(),
            walk: Walk::default(),
            next: route::Next::default(),
            delivery: Delivery::default(),
            header: [0; overlay::OVERHEAD],
            message: [0; control::ND_BYTES],
        }
    }
}

impl Visit {
    /// Whether the frame travels from the client to the server of `record`.
    #[inline(always)]
    pub(crate) fn is_forward(&self, record: &FlowRecord) -> bool {
        self.source_is_a == (record.flags & record_flags::CLIENT_IS_A != 0)
    }

    /// Where in a path it is.
    #[inline(always)]
    pub(crate) fn place(&self) -> route::Place {
        route::Place { kind: self.kind, side: self.port.side, id: self.port.id, index: self.index as usize }
    }

    /// The side the port stands on; `None` for a one-armed instance.
    #[inline(always)]
    pub(crate) fn side(&self) -> Option<Side> {
        match self.port.side {
            0 => Some(Side::Client),
            1 => Some(Side::Server),
            _ => None,
        }
    }
}

/// Where [`step`] gets its working memory from, if it needs any.
pub trait Workspace<'a> {
    /// The memory; `None` never, but that the kernel's verifier does not know.
    fn get(self) -> Option<&'a mut Scratch>;
}

impl<'a> Workspace<'a> for &'a mut Scratch {
    #[inline(always)]
    fn get(self) -> Option<&'a mut Scratch> {
        Some(self)
    }
}

/// Forwards one frame. The frame is changed only if the verdict is neither [`Verdict::Pass`] nor [`Verdict::Drop`].
#[inline(always)]
pub fn step<'a, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    workspace: impl Workspace<'a>,
    arrival: Arrival,
) -> Verdict {
    let hit = if F::MOSTLY_CACHED { cache::hit } else { cache::hit_apart };
    if let Some(delivery) = hit(frame, tables, arrival) {
        return Verdict::Deliver(delivery);
    }
    frame.linearize();
    let Some(scratch) = workspace.get() else {
        return Verdict::Drop(DropReason::NotConfigured);
    };
    let vlan = frame.vlan();
    let key = PortKey { ifindex: arrival.ifindex, vlan: vlan as u32 };
    let Some(port) = tables.port(key) else {
        let untagged = PortKey { ifindex: arrival.ifindex, vlan: 0 };
        if vlan == 0 || tables.port(untagged).is_none() {
            return Verdict::Pass;
        }
        tables.count(Counter::FramesIn);
        tables.count_drop(DropReason::UnknownVlan, 0);
        return Verdict::Drop(DropReason::UnknownVlan);
    };
    tables.count(Counter::FramesIn);
    // An uplink's port has no tenant: its frames tell, once they are read that far.
    scratch.visit.port = port;
    scratch.visit.tenant = port.tenant;
    scratch.is_known = false;
    match forward(frame, tables, scratch, arrival, vlan) {
        Ok(Outcome::Deliver) => {
            tables.count(Counter::Delivered);
            // Not with the first frame: many flows have no second.
            if scratch.is_known {
                cache::fill(tables, scratch);
            }
            Verdict::Deliver(scratch.delivery)
        }
        Ok(Outcome::Reply) => {
            tables.count(Counter::Replied);
            Verdict::Reply
        }
        Ok(Outcome::Transmit) => {
            tables.count(Counter::Transmitted);
            Verdict::Transmit { ifindex: scratch.delivery.ifindex }
        }
        Ok(Outcome::Pass) => {
            tables.count(Counter::Passed);
            Verdict::Pass
        }
        Err(reason) => {
            tables.count_drop(reason, scratch.visit.tenant);
            Verdict::Drop(reason)
        }
    }
}

#[inline(always)]
fn forward<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    scratch: &mut Scratch,
    arrival: Arrival,
    vlan: u16,
) -> Step<Outcome> {
    let port = scratch.visit.port;
    if port.kind == PortKind::Uplink as u8 {
        return overlay::receive(frame, tables, scratch, arrival);
    }
    if TenantId::new(port.tenant).is_none() {
        return Err(DropReason::NotConfigured);
    }
    // Also takes a priority tag (VLAN 0) off: its frame is untagged for us.
    if !frame.untag() {
        return Err(DropReason::FrameEdit);
    }
    if frame.hides_tag() {
        return Err(DropReason::UnsupportedEthertype);
    }
    let visit = &mut scratch.visit;
    visit.kind = PortKind::from_raw(port.kind);
    visit.vlan = vlan;
    visit.now = arrival.now;
    visit.ttl = overlay::TTL;
    match parse(frame, &mut visit.packet)? {
        Parsed::Packet => {
            identify(tables, visit)?;
            hop(frame, tables, scratch)
        }
        Parsed::Arp => control::arp(frame, tables, scratch),
        Parsed::Neighbour => control::neighbour(frame, tables, scratch),
    }
}

/// Finds out which flow a packet belongs to.
#[inline(always)]
pub(crate) fn identify<T: Tables>(tables: &T, visit: &mut Visit) -> Step<()> {
    if visit.packet.beyond_limit {
        tables.count(Counter::HeaderLimit);
    }
    if visit.packet.fragment != Fragment::Whole {
        reassociate(tables, visit)?;
    }
    let tuple = &visit.packet.tuple;
    // LAND: which end is the client's would be undefined.
    if tuple.source.halves() == tuple.destination.halves() && tuple.source_port == tuple.destination_port {
        return Err(DropReason::SelfTuple);
    }
    visit.source_is_a = tuple.key(visit.tenant, &mut visit.key);
    Ok(())
}

/// Gives a later fragment the ports of its first, and remembers those of a first.
#[inline(never)]
fn reassociate<T: Tables>(tables: &T, visit: &mut Visit) -> Step<()> {
    let packet = &mut visit.packet;
    let key = FragmentKey {
        source: packet.tuple.source,
        destination: packet.tuple.destination,
        tenant_protocol: visit.tenant | (packet.tuple.protocol as u32) << 24,
        identification: packet.identification,
    };
    if packet.fragment == Fragment::First {
        let ports = FragmentPorts {
            source: packet.tuple.source_port,
            destination: packet.tuple.destination_port,
            seen: visit.now,
        };
        tables.fragment_put(&key, &ports);
        return Ok(());
    }
    let ports = tables.fragment(&key).ok_or(DropReason::FragmentBeforeFirst)?;
    let ticks = tables.config().ok_or(DropReason::NotConfigured)?.ticks_per_second;
    if visit.now.wrapping_sub(ports.seen) > FRAGMENT_SECONDS * ticks {
        return Err(DropReason::FragmentBeforeFirst);
    }
    packet.tuple.source_port = ports.source;
    packet.tuple.destination_port = ports.destination;
    Ok(())
}

/// Record, then what follows from it.
#[inline(always)]
fn hop<F: Frame, T: Tables>(frame: &mut F, tables: &T, scratch: &mut Scratch) -> Step<Outcome> {
    match record::find(tables, &scratch.visit, &mut scratch.record) {
        record::Found::Use => scratch.is_known = true,
        record::Found::Create => record::create(tables, scratch, record::Claim::None)?,
        record::Found::Restart => {
            if let Err(reason) = record::create(tables, scratch, record::Claim::Restart) {
                record::forget(tables, &scratch.visit);
                return Err(reason);
            }
        }
        record::Found::Reset => {
            record::tell_reset(frame, tables, &scratch.visit);
            return Err(DropReason::FlowReset);
        }
    }
    let outcome = onward(frame, tables, scratch);
    count_on_trial(tables, scratch, outcome.is_err());
    outcome
}

/// Counts what became of a frame behind its record, if its view is on trial.
#[inline(always)]
pub(crate) fn count_on_trial<T: Tables>(tables: &T, scratch: &Scratch, is_dropped: bool) {
    if scratch.record.flags & record_flags::WATCHED != 0 {
        let key = record::view_key(&scratch.visit, scratch.record.view);
        tables.count_view(key, if is_dropped { Observed::DroppedFrame } else { Observed::Frame });
    }
}

#[inline(always)]
fn against(scratch: &Scratch) -> u8 {
    !scratch.visit.is_forward(&scratch.record) as u8
}

/// Next element, delivery.
#[inline(always)]
fn onward<F: Frame, T: Tables>(frame: &mut F, tables: &T, scratch: &mut Scratch) -> Step<Outcome> {
    scratch.next = match route::next(&scratch.visit.place(), &scratch.record, against(scratch)) {
        Ok(next) => next,
        Err(reason) => {
            // A flow without a record is pinned to nothing: what a function sends of its own accord violates nothing.
            if reason == DropReason::NotInPath && scratch.is_known {
                tables.count(Counter::ConsistencyViolation);
            }
            return Err(reason);
        }
    };
    if !route::is_usable(tables, &scratch.visit, &scratch.record, &scratch.next) {
        tables.count(Counter::RecordRepicked);
        scratch.previous = scratch.record;
        record::create(tables, scratch, record::Claim::Repick)?;
        scratch.next = route::next(&scratch.visit.place(), &scratch.record, against(scratch))?;
    }
    route::deliver(frame, tables, scratch)
}
