//! Reads of the data path: status, counters, flows, traces.

use crate::agent::{Inner, expire, locked};
use crate::error::{Error, Result, describe};
use crate::maps::Gauges;
use crate::sys;
use chain_graph::model::Side;
use chain_graph::{Image, ImageTables, addr_of};
use state_sync::{
    Census, Counters, DataPlaneError, DataPlaneStatus, FlowEntry, FlowPage, FlowQuery, FlowUsage, Hop, HopReason,
    HopTarget, Observer, Reaper, Trace, TraceEnd, TraceQuery, ViewCounters,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use xdp_forward::key::{Tuple, flow_hash};
use xdp_forward::tables::PlanTables;
use xdp_forward::{Path, Question};
use xdp_layout::event::{Sweep, Traffic};
use xdp_layout::flow::{FlowKey, FlowRecord, FlowState, record_flags};
use xdp_layout::plan::ViewKey;
use xdp_layout::port::instance_traits;
use xdp_layout::{AttachmentId, Counter, DropReason, InstanceId, Position, TenantId, ViewId};
use zerocopy::IntoBytes;

/// Looks at the data path while the agent writes.
pub(crate) struct Watcher {
    pub(crate) inner: Arc<Mutex<Inner>>,
    pub(crate) gauges: Gauges,
    rate: u32,
}

impl Watcher {
    pub(crate) fn new(inner: Arc<Mutex<Inner>>, gauges: Gauges, rate: u32) -> Self {
        Self { inner, gauges, rate }
    }

    pub(crate) fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    fn image(&self) -> Option<Arc<Image>> {
        locked(&self.inner).image().cloned()
    }

    /// Deletes the records and counts of tenants that are gone, so that nobody inherits them with the number.
    pub(crate) fn expel(&self, tenants: &[TenantId]) -> Result<()> {
        let object = "the records of deleted tenants".to_owned();
        // A program that found a port of theirs may still be writing a record.
        sys::grace_period().map_err(|source| Error::Host { operation: "wait for a grace period", object, source })?;
        let mut keys = Vec::new();
        self.gauges.scan(|key, _| {
            if key.tenant().is_some_and(|tenant| tenants.contains(&tenant)) {
                keys.push(*key);
            }
        })?;
        expire(&self.inner, &keys, Sweep::Delete, None)?;
        for tenant in tenants {
            locked(&self.inner).forget_tenant(tenant.get())?;
            self.gauges.forget_drops(tenant.get())?;
        }
        Ok(())
    }

    fn read_status(&self) -> Result<DataPlaneStatus> {
        let inner = locked(&self.inner);
        let mut status = DataPlaneStatus {
            generation: inner.generation(),
            digest: inner.image().map_or(0, |image| image.plan().digest()),
            flow_capacity: self.gauges.flow_capacity,
            tenants: BTreeMap::new(),
        };
        for id in inner.image().into_iter().flat_map(|image| image.tenants().keys()) {
            let usage = inner.usage(id.get())?;
            let usage = FlowUsage { unanswered: usage.unanswered, established: usage.established };
            status.tenants.insert(*id, usage);
        }
        Ok(status)
    }

    fn read_counters(&self) -> Result<Counters> {
        let map = |name, source| crate::Error::Map { map: name, source };
        let mut counters = Counters::default();
        let mut words = BTreeMap::new();
        for counter in Counter::ALL {
            words.insert(*counter, self.gauges.count(*counter)?);
        }
        let total = |counter: &Counter| (*counter, counter.total(|word| words[&word]));
        counters.events = Counter::ALL.iter().map(total).collect();
        for reason in DropReason::ALL {
            let values = self.gauges.drops.get(&(*reason as u32), 0);
            let values = values.map_err(|e| map(xdp_layout::names::DROPS, e))?;
            counters.drops.insert(*reason, values.iter().sum());
        }
        let image = self.image();
        for id in image.iter().flat_map(|image| image.functions().values()).flat_map(|f| f.instances().keys()) {
            let values = self.gauges.instance_traffic.get(&u32::from(id.get()), 0);
            let values = values.map_err(|e| map(xdp_layout::names::INSTANCE_TRAFFIC, e))?;
            let sum = |pick: fn(&Traffic) -> u64| values.iter().map(pick).sum();
            counters.instances.insert(*id, Traffic { frames: sum(|t| t.frames), bytes: sum(|t| t.bytes) });
        }
        let tenant_drops = self.gauges.tenant_drops.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in tenant_drops.iter() {
            let (key, values) = entry.map_err(|e| map(xdp_layout::names::TENANT_DROPS, e))?;
            let reason = DropReason::ALL.iter().find(|reason| **reason as u32 == key.reason);
            if let (Some(tenant), Some(reason)) = (TenantId::new(key.tenant), reason) {
                counters.tenant_drops.insert((tenant, *reason), values.iter().sum());
            }
        }
        Ok(counters)
    }

    /// The page in the order of the keys' bytes, so that a page that begins after a key is well defined while flows come and go.
    fn read_flows(&self, query: &FlowQuery) -> Result<FlowPage> {
        let after = query.after.map(|key| key.as_bytes().to_vec());
        let mut page: BTreeMap<Vec<u8>, (FlowKey, FlowRecord)> = BTreeMap::new();
        let mut has_more = false;
        self.gauges.scan(|key, record| {
            let is_wanted = FlowState::from_word(record.state) != FlowState::Dead
                && query.tenant.is_none_or(|tenant| key.tenant() == Some(tenant))
                && query.instance.is_none_or(|id| record.path[..usize::from(record.path_len)].contains(&id.get()))
                && after.as_deref().is_none_or(|after| key.as_bytes() > after);
            if is_wanted {
                page.insert(key.as_bytes().to_vec(), (*key, *record));
                if page.len() > query.limit {
                    page.pop_last();
                    has_more = true;
                }
            }
        })?;
        let inner = locked(&self.inner);
        // Behind the scan: no frame of a flow on the page is younger than an entry says by then.
        let now = inner.ticks()? as u32;
        let by_cache = inner.cache.idle(page.values().map(|(key, _)| key), now)?;
        let idle = |record: &FlowRecord, by_cache: u32| {
            let ticks = (now.wrapping_sub(record.last_seen) as i32).max(0) as u32;
            Duration::from_secs_f64(f64::from(ticks.min(by_cache)) / f64::from(self.rate))
        };
        let flows = page.into_values().zip(by_cache);
        let flows: Vec<FlowEntry> =
            flows.map(|((key, record), by_cache)| FlowEntry { key, record, idle: idle(&record, by_cache) }).collect();
        let next = flows.last().filter(|_| has_more).map(|entry| entry.key);
        Ok(FlowPage { flows, next })
    }

    fn read_trace(&self, query: &TraceQuery) -> Result<Trace> {
        let generation = locked(&self.inner).generation();
        let Some(image) = self.image() else {
            return Ok(ended(DropReason::NotConfigured, None, generation));
        };
        let tuple = Tuple {
            source: addr_of(query.source.0),
            destination: addr_of(query.destination.0),
            source_port: query.source.1,
            destination_port: query.destination.1,
            protocol: query.protocol.get(),
        };
        let mut key = FlowKey::default();
        let source_is_a = tuple.key(query.tenant.get(), &mut key);
        let is_forward = query.side == Side::Client;
        let client_is_a = source_is_a == is_forward;
        let record = self.gauges.record(&key)?;
        if let Some(record) = record.filter(|record| FlowState::from_word(record.state) != FlowState::Dead) {
            return Ok(from_record(&image, query.tenant, &record, is_forward, generation));
        }
        let Some(arrival) = query.attachment.or_else(|| arrival(&image, query)) else {
            return Ok(ended(DropReason::NoRoute, None, generation));
        };
        let graph = image.tenants().get(&query.tenant).and_then(|tenant| tenant.attachments().get(&arrival)?.graph);
        let Some(graph) = graph else {
            return Ok(ended(DropReason::NoActiveView, None, generation));
        };
        let question = Question {
            tenant: query.tenant,
            client_is_a,
            graph: Some(graph),
            entry: is_forward.then_some(arrival),
            exit: (!is_forward).then_some(arrival),
            origin: None,
            view: None,
            position: None,
        };
        let tables = ImageTables::new(&image);
        Ok(match tables.path(&key, &question) {
            Ok(path) => from_path(&image, &tables, &key, &path, is_forward, generation),
            Err(reason) => ended(reason, None, generation),
        })
    }
}

fn ended(reason: DropReason, view: Option<ViewId>, generation: Option<xdp_layout::Generation>) -> Trace {
    Trace { hops: Vec::new(), end: TraceEnd::Dropped(reason), view, generation, has_record: false }
}

/// The attachment of the query's side that takes the source address.
fn arrival(image: &Image, query: &TraceQuery) -> Option<AttachmentId> {
    let tenant = image.tenants().get(&query.tenant)?;
    let source = addr_of(query.source.0);
    let routes = tenant.routes().iter().filter(|(route, _)| route.side == query.side && route.prefix.contains(&source));
    routes.max_by_key(|(route, _)| route.prefix.length()).and_then(|(_, attachment)| *attachment)
}

/// Where a path's instance stands, from the image.
fn stage(image: &Image, tenant_view: Option<ViewId>, tenant: Option<TenantId>, id: InstanceId) -> Option<HopTarget> {
    let instance = image.functions().values().find_map(|function| function.instances().get(&id))?;
    let views = tenant.and_then(|t| image.tenants().get(&t)).into_iter().flat_map(|t| t.graphs().values());
    let position =
        views.flat_map(|graph| graph.views.values()).filter(|view| Some(view.id()) == tenant_view).find_map(|view| {
            view.node_of(instance.replica_set).and_then(|n| Position::new(view.nodes()[n as usize].position))
        });
    Some(HopTarget::Instance {
        instance: id,
        replica_set: instance.replica_set,
        position: position.unwrap_or(Position::new(1)?),
    })
}

fn assemble(
    image: &Image,
    tenant: Option<TenantId>,
    path: &Path,
    is_forward: bool,
    reasons: &dyn Fn(InstanceId) -> HopReason,
) -> (Vec<Hop>, TraceEnd) {
    let view = ViewId::new(path.view);
    let mut instances: Vec<InstanceId> =
        path.instances[..usize::from(path.len)].iter().filter_map(|id| InstanceId::new(*id)).collect();
    let mut far = AttachmentId::new(path.exit);
    if !is_forward {
        instances.reverse();
        far = AttachmentId::new(path.entry);
    }
    let mut hops: Vec<Hop> = instances
        .iter()
        .filter_map(|id| Some(Hop { target: stage(image, view, tenant, *id)?, reason: reasons(*id) }))
        .collect();
    if let Some(attachment) = far {
        hops.push(Hop { target: HopTarget::Attachment(attachment), reason: HopReason::Route });
        return (hops, TraceEnd::Delivered);
    }
    let last = instances.last().and_then(|id| image.functions().values().find_map(|f| f.instances().get(id)));
    let ends = last.is_some_and(|instance| instance.traits & instance_traits::ENDS_FLOW != 0);
    (hops, if ends { TraceEnd::FlowEnds } else { TraceEnd::TupleChanges })
}

fn from_record(
    image: &Image,
    tenant: TenantId,
    record: &FlowRecord,
    is_forward: bool,
    generation: Option<xdp_layout::Generation>,
) -> Trace {
    let path = Path {
        view: record.view,
        entry: record.entry,
        exit: record.exit,
        flags: record.flags,
        len: record.path_len,
        cut_position: record.cut_position,
        instances: record.path,
    };
    let (hops, end) = assemble(image, Some(tenant), &path, is_forward, &|_| HopReason::Record);
    Trace { hops, end, view: record.view(), generation, has_record: true }
}

fn from_path(
    image: &Image,
    tables: &ImageTables<'_>,
    key: &FlowKey,
    path: &Path,
    is_forward: bool,
    generation: Option<xdp_layout::Generation>,
) -> Trace {
    let hash = flow_hash(key, tables.flow_hash_key());
    let starts_at_function = path.flags & record_flags::STARTS_AT_FUNCTION != 0;
    let reason = |id: InstanceId| {
        if starts_at_function && path.instances[0] == id.get() {
            return HopReason::OutsideBlock;
        }
        let set = tables.replica_set_of(id);
        let table = set.and_then(|set| Some((set, image.tables().get(&set)?)));
        let Some((set, table)) = table else {
            return HopReason::Route;
        };
        let slot = maglev::slot(maglev::mix(hash, set.get().into(), 0), table.entries().len() as u32);
        let choice = usize::from(table.entries()[slot as usize]);
        match table.members().members().get(choice) {
            Some(member) if member.instance != id => HopReason::Overlay { slot, choice: member.instance },
            _ => HopReason::TableSlot(slot),
        }
    };
    let (hops, end) = assemble(image, key.tenant(), path, is_forward, &reason);
    Trace { hops, end, view: ViewId::new(path.view), generation, has_record: false }
}

impl Observer for Watcher {
    fn status(&self) -> std::result::Result<DataPlaneStatus, DataPlaneError> {
        self.read_status().map_err(|e| describe("read status", &e))
    }
    fn counters(&self) -> std::result::Result<Counters, DataPlaneError> {
        self.read_counters().map_err(|e| describe("read counters", &e))
    }
    fn flows(&self, query: &FlowQuery) -> std::result::Result<FlowPage, DataPlaneError> {
        self.read_flows(query).map_err(|e| describe("list flows", &e))
    }
    fn trace(&self, query: &TraceQuery) -> std::result::Result<Trace, DataPlaneError> {
        self.read_trace(query).map_err(|e| describe("trace", &e))
    }
    fn census(&self) -> std::result::Result<Census, DataPlaneError> {
        self.count_records().map_err(|e| describe("count records by view", &e))
    }
    fn view_counters(
        &self,
        tenant: TenantId,
        view: ViewId,
    ) -> std::result::Result<Option<ViewCounters>, DataPlaneError> {
        let key = ViewKey { tenant: tenant.get(), view: view.get() };
        locked(&self.inner).view_counters(key).map_err(|e| describe("read the counters of a view", &e))
    }
}

impl Reaper for Watcher {
    fn reset_flows(&self, tenant: TenantId, view: ViewId) -> std::result::Result<u64, DataPlaneError> {
        self.reset(tenant, view).map_err(|e| describe("reset the flows of a view", &e))
    }
}
