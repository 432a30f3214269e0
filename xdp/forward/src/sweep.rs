//! Expiry of idle records. The agent proposes keys; the decision is taken here, beside the packets, so that a record that
//! has just seen a frame stays.

use crate::cache;
use crate::key;
use crate::record::usage_of;
use crate::tables::{FlowRef, SetRef, Tables};
use crate::wire::protocol;
use xdp_layout::config::IdleClass;
use xdp_layout::event::Sweep;
use xdp_layout::flow::{FlowKey, FlowRecord, FlowState};

/// Which idle limit a record falls under.
#[inline(always)]
pub const fn idle_class(key: &FlowKey, state: u32) -> IdleClass {
    match FlowState::from_word(state) {
        FlowState::Unanswered => IdleClass::Unanswered,
        FlowState::Established if key.protocol() == protocol::TCP => IdleClass::EstablishedTcp,
        FlowState::Established => IdleClass::EstablishedOther,
        FlowState::Closing | FlowState::Dead | FlowState::Reset => IdleClass::Closing,
    }
}

/// Deletes the record of `key` if it was idle for its class's limit, or does at once what `sweep` asks for. True if this
/// call deleted it or marked it for a reset. A reset is for flows of `view` alone: the tuple may have begun anew on another
/// one since it was proposed.
#[inline(always)]
pub fn expire<T: Tables>(tables: &T, key: &FlowKey, now: u32, sweep: Sweep, view: u32) -> bool {
    let (Some(config), Some(tenant), Some(flow)) = (tables.config(), key.tenant(), tables.flow(key)) else {
        return false;
    };
    let mut record = FlowRecord::default();
    flow.load(&mut record);
    if record.tag != key::tag(key, tables.tag_key()) || FlowState::from_word(record.state) == FlowState::Dead {
        return false;
    }
    if sweep == Sweep::Reset && record.view != view {
        return false;
    }
    let limit = match idle_class(key, record.state) {
        IdleClass::Unanswered => config.idle[0],
        IdleClass::EstablishedTcp => config.idle[1],
        IdleClass::EstablishedOther => config.idle[2],
        IdleClass::Closing => config.idle[3],
    };
    // Signed: a frame may have come after `now` was read.
    if sweep == Sweep::Idle && (now.wrapping_sub(record.last_seen) as i32) < limit as i32 {
        return false;
    }
    if sweep == Sweep::Idle && was_used(tables, key, now, limit, &flow, &record) {
        return false;
    }
    if sweep == Sweep::Reset && key.protocol() == protocol::TCP {
        // It stays for the idle limit from now on: of frames that went by the path cache the record knows nothing.
        let _newer = flow.swap_seen(record.last_seen, now);
        let marked = flow.swap_state(record.state, record.state & !0xff | FlowState::Reset as u32);
        cache::clear(tables, key);
        return marked;
    }
    if !flow.swap_state(record.state, record.state & !0xff | FlowState::Dead as u32) {
        return false;
    }
    // Before the record goes, so that no frame of the tuple's next flow goes by the entry of this one.
    cache::clear(tables, key);
    let deleted = tables.flow_delete(key);
    tables.usage_give(tenant.get(), usage_of(record.state));
    deleted
}

/// Whether frames of the flow went by the path cache within `limit`, of which the record learns now; or may have, since the cache
/// was begun anew.
#[inline(always)]
fn was_used<T: Tables>(tables: &T, key: &FlowKey, now: u32, limit: u32, flow: &T::Flow, record: &FlowRecord) -> bool {
    let Some(config) = tables.cache() else { return false };
    if now.wrapping_sub(config.begun) < limit {
        return true;
    }
    let word = |set: u32, way: usize| Some(tables.cache_set(set)?.load(way));
    match cache::idle(config, key, now, word) {
        Some(idle) if idle < limit => {
            // Another frame may just have been seen.
            let _newer = flow.swap_seen(record.last_seen, now.wrapping_sub(idle));
            true
        }
        _ => false,
    }
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::expire;
    use crate::host::HostTables;
    use crate::key::tag;
    use crate::wire::protocol;
    use xdp_layout::config::Config;
    use xdp_layout::event::Sweep;
    use xdp_layout::flow::{FlowKey, FlowRecord, FlowState};
    use zerocopy::IntoBytes;

    #[test]
    fn a_tuple_that_began_anew_on_another_view_is_not_reset() {
        let key = FlowKey { tenant_protocol: u32::from(protocol::TCP) << 24 | 7, a_port: 1, ..FlowKey::default() };
        let tables = HostTables { config: Some(Config::default()), ..HostTables::default() };
        let state = FlowState::Established as u32;
        let record = FlowRecord { state, view: 2, tag: tag(&key, 0), ..FlowRecord::default() };
        tables.flows.borrow_mut().insert(key.as_bytes().to_vec(), record);
        let state = || FlowState::from_word(tables.flows.borrow()[key.as_bytes()].state);
        assert!(!expire(&tables, &key, 0, Sweep::Reset, 1));
        assert_eq!(state(), FlowState::Established);
        assert!(expire(&tables, &key, 0, Sweep::Reset, 2));
        assert_eq!(state(), FlowState::Reset);
    }

    #[test]
    fn a_flow_to_be_reset_is_remembered_for_the_limit_from_then_on() {
        let key = FlowKey { tenant_protocol: u32::from(protocol::TCP) << 24 | 7, a_port: 1, ..FlowKey::default() };
        let config = Config { idle: [30, 350, 120, 10], ..Config::default() };
        let tables = HostTables { config: Some(config), ..HostTables::default() };
        // Its frames went by the path cache, so the record has seen none for long.
        let (state, tag) = (FlowState::Established as u32, tag(&key, 0));
        let record = FlowRecord { state, view: 1, tag, last_seen: 100, ..FlowRecord::default() };
        tables.flows.borrow_mut().insert(key.as_bytes().to_vec(), record);
        assert!(expire(&tables, &key, 400, Sweep::Reset, 1));
        assert!(!expire(&tables, &key, 409, Sweep::Idle, 0));
        assert!(expire(&tables, &key, 410, Sweep::Idle, 0));
    }
}
