//! The one entry: what happens to a frame at every hop.

use crate::control;
use crate::frame::Frame;
use crate::key::Tuple;
use crate::parse::{Fragment, Packet, Parsed, parse};
use crate::record;
use crate::route;
use crate::tables::Tables;
use crate::verdict::{Step, Verdict};
use xdp_layout::flow::{FlowKey, FlowRecord, FragmentKey, FragmentPorts, record_flags};
use xdp_layout::port::{Port, PortKey, PortKind, Side};
use xdp_layout::{Counter, DropReason, TenantId};

/// Seconds for which a first fragment is remembered (RFC 791 suggests 15, Linux reassembles for 30).
pub const FRAGMENT_SECONDS: u32 = 30;

/// Where and when a frame arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Interface index.
    pub ifindex: u32,
    /// Ticks of the configured rate; wraps.
    pub now: u32,
}

/// A packet on its way through one hop.
pub(crate) struct Visit {
    /// Port of arrival.
    pub(crate) port: Port,
    /// The port's kind.
    pub(crate) kind: PortKind,
    /// VLAN tag the frame arrived with.
    pub(crate) vlan: u16,
    pub(crate) now: u32,
    pub(crate) tenant: TenantId,
    pub(crate) packet: Packet,
    pub(crate) key: FlowKey,
    pub(crate) source_is_a: bool,
}

impl Visit {
    /// Whether the frame travels from the client to the server of `record`.
    #[inline(always)]
    pub(crate) fn is_forward(&self, record: &FlowRecord) -> bool {
        self.source_is_a == (record.flags & record_flags::CLIENT_IS_A != 0)
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

/// Forwards one frame. The frame is changed only if the verdict is neither [`Verdict::Pass`] nor [`Verdict::Drop`].
#[inline(always)]
pub fn step<F: Frame, T: Tables>(frame: &mut F, tables: &T, arrival: Arrival) -> Verdict {
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
    match forward(frame, tables, arrival, port, vlan) {
        Ok(verdict) => {
            tables.count(match verdict {
                Verdict::Deliver(_) => Counter::Delivered,
                Verdict::Transmit { .. } => Counter::Transmitted,
                Verdict::Reply => Counter::Replied,
                Verdict::Pass | Verdict::Drop(_) => Counter::Passed,
            });
            verdict
        }
        Err(reason) => {
            tables.count_drop(reason, port.tenant);
            Verdict::Drop(reason)
        }
    }
}

#[inline(always)]
fn forward<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    arrival: Arrival,
    port: Port,
    vlan: u16,
) -> Step<Verdict> {
    let tenant = TenantId::new(port.tenant).ok_or(DropReason::NotConfigured)?;
    if vlan != 0 && !frame.untag() {
        return Err(DropReason::FrameEdit);
    }
    let at = control::At { port: &port, vlan, tenant };
    match parse(frame)? {
        Parsed::Packet(packet) => {
            let (packet, key, source_is_a) = identify(tables, arrival.now, tenant, packet)?;
            let visit = Visit {
                port,
                kind: PortKind::from_raw(port.kind),
                vlan,
                now: arrival.now,
                tenant,
                packet,
                key,
                source_is_a,
            };
            hop(frame, tables, &visit)
        }
        Parsed::Arp => control::arp(frame, tables, &at),
        Parsed::Neighbour(kind) => control::neighbour(frame, tables, &at, kind),
    }
}

/// Finds out which flow a packet belongs to.
#[inline(always)]
fn identify<T: Tables>(
    tables: &T,
    now: u32,
    tenant: TenantId,
    mut packet: Packet,
) -> Step<(Packet, FlowKey, bool)> {
    if packet.beyond_limit {
        tables.count(Counter::HeaderLimit);
    }
    match packet.fragment {
        Fragment::Whole => {}
        Fragment::First(identification) => {
            let ports = FragmentPorts {
                source: packet.tuple.source_port,
                destination: packet.tuple.destination_port,
                seen: now,
            };
            tables.fragment_put(&fragment_key(tenant, &packet.tuple, identification), &ports);
        }
        Fragment::Later(identification) => {
            let ports = tables
                .fragment(&fragment_key(tenant, &packet.tuple, identification))
                .ok_or(DropReason::FragmentBeforeFirst)?;
            let age = now.wrapping_sub(ports.seen);
            let ticks = tables.config().ok_or(DropReason::NotConfigured)?.ticks_per_second;
            if age > FRAGMENT_SECONDS * ticks {
                return Err(DropReason::FragmentBeforeFirst);
            }
            packet.tuple.source_port = ports.source;
            packet.tuple.destination_port = ports.destination;
        }
    }
    let tuple = &packet.tuple;
    // LAND: which end is the client's would be undefined.
    if tuple.source.halves() == tuple.destination.halves()
        && (tuple.source_port == tuple.destination_port || tuple.protocol == crate::wire::protocol::ICMP)
    {
        return Err(DropReason::SelfTuple);
    }
    let (key, source_is_a) = tuple.key(tenant);
    Ok((packet, key, source_is_a))
}

#[inline(always)]
fn fragment_key(tenant: TenantId, tuple: &Tuple, identification: u32) -> FragmentKey {
    FragmentKey {
        source: tuple.source,
        destination: tuple.destination,
        tenant_protocol: tenant.get() | (tuple.protocol as u32) << 24,
        identification,
    }
}

/// Record, next element, delivery.
#[inline(always)]
fn hop<F: Frame, T: Tables>(frame: &mut F, tables: &T, visit: &Visit) -> Step<Verdict> {
    let mut record = match record::find(tables, visit) {
        record::Found::Use(record) => record,
        record::Found::Create => record::create(tables, visit, None)?,
        record::Found::Restart => record::create(tables, visit, Some(record::Claim::Restart))?,
    };
    let mut next = route::next(visit, &record)?;
    if let route::Next::Instance(instance, _) = next
        && !tables.is_live(instance)
    {
        tables.count(Counter::RecordRepicked);
        record = record::create(tables, visit, Some(record::Claim::Repick(record)))?;
        next = route::next(visit, &record)?;
    }
    route::deliver(frame, tables, visit, &record, next)
}
