//! The life of a flow record: found, promoted, closed, replaced, created.

use crate::cache;
use crate::frame::Frame;
use crate::key;
use crate::route;
use crate::step::{Scratch, Visit};
use crate::tables::{FlowRef, Inserted, Notice, Observed, Tables, Usage};
use crate::verdict::Step;
use crate::walk::{Path, Question};
use crate::wire::{protocol, tcp};
use xdp_layout::event::EventKind;
use xdp_layout::flow::{FlowRecord, FlowState, NoteKey, record_flags, state_bits};
use xdp_layout::plan::ViewKey;
use xdp_layout::port::{PortKind, Side, instance_traits};
use xdp_layout::{AttachmentId, Counter, DropReason, GraphId, InstanceId, Position, TenantId, ViewId};

/// What the connection table said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// The flow's record, copied.
    Use,
    /// None.
    Create,
    /// A closing record that this CPU has claimed, because a SYN starts the tuple anew.
    Restart,
    /// The flow is to be reset.
    Reset,
}

/// Whether a record gives way to the new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    /// There is none.
    None,
    /// Already claimed and no longer counted.
    Restart,
    /// [`Scratch::previous`], an instance of whose path is down.
    Repick,
}

/// The tag bits and state of a fresh state word.
#[inline(always)]
const fn state_word(tag: u64, state: FlowState, bits: u32) -> u32 {
    (tag as u32) << 16 | bits | state as u32
}

/// Looks the flow up and follows its state.
#[inline(always)]
pub(crate) fn find<T: Tables>(tables: &T, visit: &Visit, record: &mut FlowRecord) -> Found {
    let Some(flow) = tables.flow(&visit.key) else {
        return Found::Create;
    };
    flow.load(record);
    if record.tag != key::tag(&visit.key, tables.tag_key()) {
        tables.count(Counter::StaleRecord);
        return Found::Create;
    }
    let state = FlowState::from_word(record.state);
    if state == FlowState::Dead {
        return Found::Create;
    }
    if state == FlowState::Reset {
        return Found::Reset;
    }
    if !visit.packet.is_error {
        let flags = visit.packet.tcp_flags;
        let is_syn = flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN;
        if is_syn && state == FlowState::Closing && claim(tables, visit, &flow, record.state) {
            tables.count(Counter::RecordReused);
            return Found::Restart;
        }
        follow(tables, visit, &flow, record, state);
    }
    if record.last_seen != visit.now {
        flow.touch(visit.now);
    }
    tables.count(Counter::TierRecord);
    Found::Use
}

/// Takes a record away from everybody else and out of the tenant's usage. False if another CPU was first.
#[inline(always)]
fn claim<T: Tables>(tables: &T, visit: &Visit, flow: &T::Flow, state: u32) -> bool {
    if !flow.swap_state(state, state & !0xff | FlowState::Dead as u32) {
        return false;
    }
    tables.usage_give(visit.tenant, usage_of(state));
    true
}

/// Which budget a state word is counted against.
#[inline(always)]
pub(crate) const fn usage_of(state: u32) -> Usage {
    if state & state_bits::COUNTED_ESTABLISHED != 0 { Usage::Established } else { Usage::Unanswered }
}

/// Promotes a record on the first answer and closes it on FINs or a RST.
#[inline(always)]
fn follow<T: Tables>(tables: &T, visit: &Visit, flow: &T::Flow, record: &FlowRecord, state: FlowState) {
    let is_forward = visit.is_forward(record);
    let began_forward = record.flags & record_flags::FROM_CLIENT != 0;
    let is_answer = state == FlowState::Unanswered && is_forward != began_forward;
    let closing_flags = visit.packet.tcp_flags & (tcp::FIN | tcp::RST);
    if !is_answer && closing_flags == 0 {
        return;
    }
    let mut word = record.state;
    let mut promoted = false;
    if is_answer {
        if tables.usage_take(visit.tenant, Usage::Established) {
            word = word & !0xff | FlowState::Established as u32 | state_bits::COUNTED_ESTABLISHED;
            promoted = true;
        } else {
            tables.count(Counter::BudgetEstablished);
        }
    }
    if closing_flags != 0 {
        if closing_flags & tcp::FIN != 0 {
            word |= if is_forward { state_bits::FIN_CLIENT } else { state_bits::FIN_SERVER };
        }
        let both = state_bits::FIN_CLIENT | state_bits::FIN_SERVER;
        if closing_flags & tcp::RST != 0 || word & both == both {
            word = word & !0xff | FlowState::Closing as u32;
        }
    }
    if word == record.state {
        return;
    }
    // The loser of a race gives back what it took: counters change once per change of state.
    let swapped = flow.swap_state(record.state, word);
    if promoted {
        tables.usage_give(visit.tenant, if swapped { Usage::Unanswered } else { Usage::Established });
    }
    let is_reset = closing_flags & tcp::RST != 0 && state != FlowState::Closing;
    if swapped && is_reset && record.flags & record_flags::WATCHED != 0 {
        tables.count_view(view_key(visit, record.view), Observed::Reset);
    }
}

/// Names the view of a flow.
#[inline(always)]
pub(crate) const fn view_key(visit: &Visit, view: u32) -> ViewKey {
    ViewKey { tenant: visit.tenant, view }
}

/// Classifies the flow and writes its record, or goes without one when the budget is reached or the table is full. The
/// record to use is in [`Scratch::record`].
#[inline(never)]
pub(crate) fn create<T: Tables>(tables: &T, scratch: &mut Scratch, claim: Claim) -> Step<()> {
    let Scratch { visit, record, previous, walk, .. } = scratch;
    let visit = &*visit;
    let previous = if claim == Claim::Repick { Some(&*previous) } else { None };
    let plan = tables.active();
    let mut question = Question {
        tenant: TenantId::new(visit.tenant).ok_or(DropReason::NotConfigured)?,
        client_is_a: visit.source_is_a,
        graph: None,
        entry: None,
        exit: None,
        origin: None,
        view: None,
        position: None,
    };
    let linked = ask(tables, visit, previous, &mut question)?;
    // Only the stage whose instance is down is picked anew.
    let walked = walk.run(tables, plan, &visit.key, &question, previous.map(|previous| &previous.path));
    observe(tables, visit, &walk.path, question.view.map_or(0, ViewId::get), walked.is_err());
    walked?;
    let path = &walk.path;
    let flags = visit.packet.tcp_flags;
    let is_midstream = visit.key.protocol() == protocol::TCP && flags & tcp::SYN == 0;
    let tag = key::tag(&visit.key, tables.tag_key());
    record.tag = tag;
    record.view = path.view;
    record.generation = plan.generation() as u32;
    record.last_seen = visit.now;
    record.state = state_word(tag, FlowState::Unanswered, 0);
    record.entry = path.entry;
    record.exit = path.exit;
    record.path_len = path.len;
    record.flags = path.flags;
    record.cut_position = path.cut_position;
    record.reserved = 0;
    record.path = path.instances;
    if visit.source_is_a == question.client_is_a {
        record.flags |= record_flags::FROM_CLIENT;
    }
    if is_midstream {
        record.flags |= record_flags::MIDSTREAM;
    }
    if linked {
        record.flags |= record_flags::LINKED;
    }
    if let Some(previous) = previous {
        repick(tables, visit, previous, record);
        return Ok(());
    }
    if is_midstream {
        tables.count(Counter::TcpNoRecord);
    }
    // Neither an ICMP error nor a RST begins a flow worth remembering.
    let is_transient = visit.packet.is_error || flags & tcp::RST != 0;
    write(tables, scratch, claim == Claim::Restart, is_transient);
    Ok(())
}

/// Counts a walk that led nowhere for a view on trial, and one through another view than the one `pinned` (0 for none), which
/// then was taken out under its flows. Apart from [`create`] for the sake of the stack.
#[inline(never)]
fn observe<T: Tables>(tables: &T, visit: &Visit, path: &Path, pinned: u32, has_failed: bool) {
    if has_failed && path.flags & record_flags::WATCHED != 0 {
        tables.count_view(view_key(visit, path.view), Observed::DroppedFrame);
    }
    if !has_failed && pinned != 0 && pinned != path.view {
        tables.count(Counter::ConsistencyViolation);
    }
}

/// Puts a repicked path in the place of the old one; state and usage stay.
#[inline(never)]
fn repick<T: Tables>(tables: &T, visit: &Visit, previous: &FlowRecord, record: &mut FlowRecord) {
    record.state = previous.state;
    // How the flow began does not change with the frame that finds an instance down.
    let beginning = record_flags::FROM_CLIENT | record_flags::MIDSTREAM | record_flags::LINKED | record_flags::WATCHED;
    record.flags = record.flags & !beginning | previous.flags & beginning | record_flags::OVERLAY;
    tables.count(Counter::TierOverlay);
    if let Some(flow) = tables.flow(&visit.key)
        && flow.swap_state(previous.state, previous.state & !0xff | FlowState::Dead as u32)
        && !tables.flow_replace(&visit.key, record)
    {
        tables.usage_give(visit.tenant, usage_of(previous.state));
    }
    cache::clear(tables, &visit.key);
}

/// Inserts a record within the tenant's budget. If another CPU was first, its record takes the place of ours.
#[inline(never)]
pub(crate) fn write<T: Tables>(tables: &T, scratch: &mut Scratch, replaces: bool, is_transient: bool) {
    put(tables, scratch, replaces, is_transient);
    if replaces {
        cache::clear(tables, &scratch.visit.key);
    }
}

#[inline(always)]
fn put<T: Tables>(tables: &T, scratch: &mut Scratch, replaces: bool, is_transient: bool) {
    let Scratch { visit, record, previous: theirs, .. } = scratch;
    if is_transient || !tables.usage_take(visit.tenant, Usage::Unanswered) {
        if !is_transient {
            tables.count(Counter::BudgetUnanswered);
        }
        if replaces {
            let _gone = tables.flow_delete(&visit.key);
        }
        tables.count(Counter::TierStateless);
        return;
    }
    let inserted = if replaces && tables.flow_replace(&visit.key, record) {
        Inserted::Yes
    } else {
        tables.flow_insert(&visit.key, record)
    };
    if inserted == Inserted::Yes {
        let overlay = record.flags & record_flags::OVERLAY != 0;
        tables.count(if overlay { Counter::TierOverlay } else { Counter::TierTable });
        if record.flags & record_flags::WATCHED != 0 {
            let is_tcp = visit.key.protocol() == protocol::TCP;
            let observed = if is_tcp { Observed::TcpFlow } else { Observed::Flow };
            tables.count_view(view_key(visit, record.view), observed);
        }
        return;
    }
    tables.usage_give(visit.tenant, Usage::Unanswered);
    if inserted == Inserted::Full {
        tables.count(Counter::TableFull);
        tables.count(Counter::TierStateless);
        return;
    }
    tables.count(Counter::InsertRace);
    if let Some(flow) = tables.flow(&visit.key) {
        flow.load(theirs);
        if theirs.tag == record.tag && FlowState::from_word(theirs.state) != FlowState::Dead {
            *record = *theirs;
        }
    }
}

/// Fills in what is known of the flow from where its frame arrived. True if a note links it to an inside flow.
#[inline(never)]
fn ask<T: Tables>(tables: &T, visit: &Visit, previous: Option<&FlowRecord>, question: &mut Question) -> Step<bool> {
    let mut linked = false;
    match visit.kind {
        PortKind::Attachment => {
            question.graph = Some(GraphId::new(visit.port.graph as u16).ok_or(DropReason::NoActiveView)?);
            if visit.side() == Some(Side::Server) {
                question.client_is_a = !visit.source_is_a;
                question.exit = AttachmentId::new(visit.port.id);
            } else {
                question.entry = AttachmentId::new(visit.port.id);
            }
        }
        PortKind::Instance => {
            let id = InstanceId::new(visit.port.id).ok_or(DropReason::NotConfigured)?;
            let instance = *tables.instance(id).ok_or(DropReason::PortDown)?;
            let key = xdp_layout::plan::OriginKey { tenant: visit.tenant, replica_set: instance.replica_set as u32 };
            // Only functions that make tuples continue a graph by themselves; a record knows its graph wherever it is repicked.
            let graph = previous.and_then(|previous| graph_of(tables, visit.tenant, previous));
            question.graph = Some(graph.or_else(|| tables.origin(key)).ok_or(DropReason::NoActiveView)?);
            if visit.side() == Some(Side::Client) {
                question.client_is_a = !visit.source_is_a;
            } else if instance.traits & (instance_traits::CHANGES_TUPLE | instance_traits::ENDS_FLOW) != 0 {
                question.origin = Some(id);
                if instance.traits & instance_traits::CHANGES_TUPLE != 0 && previous.is_none() {
                    inherit(tables, visit, id, question);
                    linked = question.view.is_some();
                    tables.count(if linked { Counter::NoteLinked } else { Counter::NoteMissing });
                }
            }
        }
        PortKind::None | PortKind::Uplink => return Err(DropReason::NotConfigured),
    }
    if let Some(previous) = previous {
        question.client_is_a = previous.flags & record_flags::CLIENT_IS_A != 0;
        // An attachment that is gone is looked for anew, by its route.
        if route::is_own_attachment(tables, visit.tenant, previous.entry) {
            question.entry = previous.entry();
        }
        if route::is_own_attachment(tables, visit.tenant, previous.exit) {
            question.exit = previous.exit();
        }
        question.view = previous.view();
        if previous.flags & record_flags::STARTS_AT_FUNCTION != 0 {
            question.origin = previous.instance(0);
        }
    }
    Ok(linked)
}

/// The graph of a record's view, while that is installed.
#[inline(always)]
fn graph_of<T: Tables>(tables: &T, tenant: u32, record: &FlowRecord) -> Option<GraphId> {
    let slot = tables.view_slot(ViewKey { tenant, view: record.view })?;
    GraphId::new(tables.view(slot)?.graph as u16)
}

/// Has the sender of a TCP segment answered with a reset (RFC 9293 section 3.10.7.1). One that comes from an instance gets
/// none: the ends of the connection have their own.
#[inline(never)]
pub(crate) fn tell_reset<F: Frame, T: Tables>(frame: &F, tables: &T, visit: &Visit) {
    let tuple = &visit.packet.tuple;
    if visit.kind != PortKind::Attachment || visit.packet.is_error || visit.packet.tcp_flags & tcp::RST != 0 {
        return;
    }
    let notice = Notice {
        kind: EventKind::Reset,
        tenant: visit.tenant,
        element: visit.port.id as u32,
        value: (tuple.source_port as u32) << 16 | tuple.destination_port as u32,
        addr: tuple.source,
    };
    tables.emit(&notice, frame);
}

/// Deletes the record that this CPU has claimed for a new flow which is then refused.
#[inline(always)]
pub(crate) fn forget<T: Tables>(tables: &T, visit: &Visit) {
    let _gone = tables.flow_delete(&visit.key);
    cache::clear(tables, &visit.key);
}

/// The key under which an inside flow leaves its note, from a frame on either side of the NF.
#[inline(always)]
pub(crate) fn note_key(visit: &Visit, instance: InstanceId) -> NoteKey {
    let tuple = &visit.packet.tuple;
    let is_icmp = tuple.protocol == protocol::ICMP || tuple.protocol == protocol::ICMPV6;
    NoteKey {
        fingerprint: visit.packet.fingerprint,
        kept: tuple.destination,
        // A NAT may rewrite an echo's identifier.
        kept_port: if is_icmp { 0 } else { tuple.destination_port },
        instance: instance.get(),
        tenant_protocol: visit.key.tenant_protocol,
    }
}

/// Takes view and position from the inside flow this frame came from, if that left a note.
#[inline(always)]
fn inherit<T: Tables>(tables: &T, visit: &Visit, instance: InstanceId, question: &mut Question) {
    if let Some(note) = tables.note(&note_key(visit, instance)) {
        question.view = ViewId::new(note.view);
        question.position = Position::new(note.position as u8);
    }
}
