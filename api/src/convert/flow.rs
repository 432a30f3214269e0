//! Flows and traces.

use super::attachment::side;
use super::graph::protocol;
use super::{Names, path, tenant_name};
use crate::fields::{Violations, narrow};
use crate::v1;
use chain_graph::model::{Desired, Protocol};
use state_sync::{FlowEntry, Hop, HopReason, HopTarget, Kind, ResourcePath, Trace, TraceEnd, TraceQuery};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use xdp_layout::flow::{FlowState, record_flags};
use xdp_layout::{Addr, GraphId};

fn address(addr: &Addr) -> IpAddr {
    if addr.is_v4() { Ipv4Addr::from(addr.v4_bytes()).into() } else { Ipv6Addr::from(addr.0).into() }
}

/// A flow record as clients see it.
pub(crate) fn flow(entry: &FlowEntry, names: &Names) -> v1::Flow {
    let FlowEntry { key, record, idle } = entry;
    let a = v1::Endpoint { address: address(&key.a).to_string(), port: key.a_port.into() };
    let b = v1::Endpoint { address: address(&key.b).to_string(), port: key.b_port.into() };
    let (client, server) = if record.flags & record_flags::CLIENT_IS_A != 0 { (a, b) } else { (b, a) };
    let state = match FlowState::from_word(record.state) {
        FlowState::Unanswered => v1::FlowState::Unanswered,
        FlowState::Established => v1::FlowState::Established,
        FlowState::Closing => v1::FlowState::Closing,
        FlowState::Reset => v1::FlowState::Reset,
        FlowState::Dead => v1::FlowState::Unspecified,
    };
    let path = (0..usize::from(record.path_len)).filter_map(|index| record.instance(index));
    v1::Flow {
        tenant: key.tenant().map(|id| names.tenant(id)).unwrap_or_default(),
        protocol: Protocol::new(key.protocol()).map(|protocol| protocol.to_string()).unwrap_or_default(),
        client: Some(client),
        server: Some(server),
        state: state.into(),
        view: record.view,
        generation: record.generation,
        instances: path.map(|id| names.instance(id)).collect(),
        client_attachment: record.entry().map(|id| names.attachment(id)).unwrap_or_default(),
        server_attachment: record.exit().map(|id| names.attachment(id)).unwrap_or_default(),
        idle: prost_types::Duration::try_from(*idle).ok(),
        midstream: record.flags & record_flags::MIDSTREAM != 0,
        overlay: record.flags & record_flags::OVERLAY != 0,
        linked: record.flags & record_flags::LINKED != 0,
    }
}

fn endpoint(proto: Option<v1::Endpoint>) -> Result<(IpAddr, u16), Violations> {
    let mut violations = Violations::new();
    let Some(v1::Endpoint { address, port }) = proto else {
        violations.add("", "must be given");
        return Err(violations);
    };
    let ip = address.parse::<IpAddr>().map_err(|_| format!("{address:?} is no IPv4 or IPv6 address"));
    let ip = violations.take("address", ip);
    let port = violations.take("port", narrow(port, u16::MAX.into()));
    violations.finish(ip.zip(port))
}

/// What a trace can ask for: the request is well-formed, and names what exists.
pub(crate) enum TraceRequest {
    /// Ask this.
    Query(TraceQuery),
    /// There is no such resource.
    NotFound(ResourcePath),
}

/// Reads a trace request.
pub(crate) fn trace_query(request: v1::TraceFlowRequest, desired: &Desired) -> Result<TraceRequest, Violations> {
    let v1::TraceFlowRequest { tenant, side: raw, attachment, protocol: text, source, destination } = request;
    let mut violations = Violations::new();
    let tenant = violations.take("tenant", tenant_name(&tenant));
    let side = violations.take("side", side(raw));
    let attachment = match attachment.as_str() {
        "" => None,
        text => violations.take("attachment", path(text, Kind::Attachment)),
    };
    let protocol = violations.take("protocol", protocol(&text));
    let source = violations.take_under("source", endpoint(source));
    let destination = violations.take_under("destination", endpoint(destination));
    if let (Some((a, _)), Some((b, _))) = (source, destination)
        && a.is_ipv4() != b.is_ipv4()
    {
        violations.add("destination.address", "is of another family than the source");
    }
    let value = match (tenant, side, protocol, source, destination) {
        (Some(tenant), Some(side), Some(protocol), Some(source), Some(destination)) => {
            Some((tenant, side, protocol, source, destination))
        }
        _ => None,
    };
    let (tenant, side, protocol, source, destination) = violations.finish(value)?;
    let Some(owner) = desired.tenants.get(&tenant) else {
        return Ok(TraceRequest::NotFound(ResourcePath::Tenant(tenant)));
    };
    let attachment = match attachment {
        Some(ResourcePath::Attachment(key)) => match desired.attachments.get(&key).filter(|_| key.tenant == tenant) {
            Some(found) => Some(found.id),
            None => return Ok(TraceRequest::NotFound(ResourcePath::Attachment(key))),
        },
        _ => None,
    };
    Ok(TraceRequest::Query(TraceQuery { tenant: owner.id, side, attachment, protocol, source, destination }))
}

fn hop(hop: &Hop, names: &Names) -> v1::TraceHop {
    let Hop { target, reason } = hop;
    let (target, replica_set, position) = match target {
        HopTarget::Instance { instance, replica_set, position } => {
            (names.instance(*instance), names.replica_set(*replica_set), position.get().into())
        }
        HopTarget::Attachment(id) => (names.attachment(*id), String::new(), 0),
    };
    let (reason, slot, choice) = match reason {
        HopReason::Record => (v1::HopReason::Record, None, None),
        HopReason::TableSlot(slot) => (v1::HopReason::TableSlot, Some(*slot), None),
        HopReason::Overlay { slot, choice } => (v1::HopReason::Overlay, Some(*slot), Some(*choice)),
        HopReason::OutsideBlock => (v1::HopReason::OutsideBlock, None, None),
        HopReason::Route => (v1::HopReason::Route, None, None),
    };
    v1::TraceHop {
        reason: reason.into(),
        target,
        replica_set,
        position,
        slot,
        table_choice: choice.map(|id| names.instance(id)).unwrap_or_default(),
    }
}

/// A trace as clients see it. `graph`: the graph that the deciding view belongs to.
pub(crate) fn trace(trace: &Trace, graph: Option<GraphId>, names: &Names) -> v1::TraceFlowResponse {
    let Trace { hops, end, view, generation, has_record } = trace;
    let (outcome, dropped) = match end {
        TraceEnd::Delivered => (v1::TraceOutcome::Delivered, None),
        TraceEnd::TupleChanges => (v1::TraceOutcome::TupleChanges, None),
        TraceEnd::FlowEnds => (v1::TraceOutcome::FlowEnds, None),
        TraceEnd::Dropped(reason) => (v1::TraceOutcome::Dropped, Some(reason)),
    };
    v1::TraceFlowResponse {
        hops: hops.iter().map(|step| hop(step, names)).collect(),
        outcome: outcome.into(),
        drop_reason: dropped.map(|reason| reason.name().to_owned()).unwrap_or_default(),
        drop_meaning: dropped.map(|reason| reason.meaning().trim().to_owned()).unwrap_or_default(),
        graph: graph.map(|id| names.graph(id)).unwrap_or_default(),
        view: view.map_or(0, |view| view.get()),
        generation: generation.map_or(0, |generation| generation.get()),
        has_record: *has_record,
    }
}

#[cfg(test)]
mod tests {
    use super::address;
    use xdp_layout::Addr;

    #[test]
    fn addresses_of_both_families() {
        assert_eq!(address(&Addr::v4([192, 0, 2, 1])).to_string(), "192.0.2.1");
        let mut v6 = [0; 16];
        (v6[0], v6[1], v6[15]) = (0x20, 0x01, 1);
        assert_eq!(address(&Addr(v6)).to_string(), "2001::1");
    }
}
