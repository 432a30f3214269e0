//! Views: which of them are watched, how many records name them, how their flows are ended.

use crate::agent::{expire, locked};
use crate::error::{Error, Result};
use crate::install::Renewed;
use crate::loader::Loader;
use crate::observe::Watcher;
use crate::sys;
use aya::maps::{MapData, MapError, PerCpuHashMap, PerCpuValues};
use chain_graph::Image;
use chain_graph::plan::ActiveViews;
use state_sync::{Census, ViewCounters};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use xdp_layout::event::{Sweep, ViewTraffic};
use xdp_layout::flow::FlowState;
use xdp_layout::names;
use xdp_layout::plan::ViewKey;
use xdp_layout::{GraphId, InstanceId, TenantId, ViewId};

fn failed(source: MapError) -> Error {
    Error::Map { map: names::VIEW_TRAFFIC, source }
}

/// The counters of views on trial. A view is watched while it has an entry.
pub(crate) struct Watch {
    map: PerCpuHashMap<MapData, ViewKey, ViewTraffic>,
    watched: BTreeSet<ViewKey>,
}

impl Watch {
    /// Takes the counters over, those of an earlier process included.
    pub(crate) fn open(loader: &mut Loader) -> Result<Self> {
        let map = PerCpuHashMap::try_from(loader.take_map(names::VIEW_TRAFFIC)?).map_err(failed)?;
        let watched = map.keys().collect::<std::result::Result<_, _>>().map_err(failed)?;
        Ok(Self { map, watched })
    }

    /// Begins to watch views on trial of the graphs that changed, before a flow can be theirs.
    pub(crate) fn begin(&mut self, graphs: &[Renewed<GraphId, ActiveViews>]) -> Result<()> {
        for key in graphs.iter().filter_map(|graph| on_trial(graph.after.as_ref()?)) {
            if self.watched.contains(&key) {
                continue;
            }
            let processors = aya::util::nr_cpus().map_err(|(object, source)| Error::Host {
                operation: "count the processors by",
                object: object.to_owned(),
                source,
            })?;
            let zeros = PerCpuValues::try_from(vec![ViewTraffic::default(); processors]).map_err(|source| {
                Error::Host { operation: "make", object: "a counter for every processor".to_owned(), source }
            })?;
            match self.map.insert(key, zeros, 0) {
                Ok(()) => drop(self.watched.insert(key)),
                Err(error) if is_full(&error) => {
                    let ViewKey { tenant, view } = key;
                    tracing::warn!(tenant, view, "too many views on trial: this one is not measured");
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Stops watching views that are not on trial any more: of the graphs that changed, or all of them.
    pub(crate) fn end(&mut self, image: &Image, graphs: &[Renewed<GraphId, ActiveViews>], all: bool) -> Result<()> {
        let gone: Vec<ViewKey> = if all {
            let wanted: BTreeSet<_> =
                image.plan().content().graphs.values().filter_map(|active| on_trial(active)).collect();
            self.watched.difference(&wanted).copied().collect()
        } else {
            let trial = |active: &Option<Arc<ActiveViews>>| active.as_ref().and_then(|active| on_trial(active));
            let ended = graphs.iter().filter(|graph| trial(&graph.before) != trial(&graph.after));
            ended.filter_map(|graph| trial(&graph.before)).collect()
        };
        for key in gone {
            if self.watched.contains(&key) {
                self.map.remove(&key).map_err(failed)?;
                self.watched.remove(&key);
            }
        }
        Ok(())
    }

    /// The counters of a view, if it is watched.
    pub(crate) fn read(&self, key: ViewKey) -> Result<Option<ViewCounters>> {
        if !self.watched.contains(&key) {
            return Ok(None);
        }
        let values = self.map.get(&key, 0).map_err(failed)?;
        let sum = |pick: fn(&ViewTraffic) -> u64| values.iter().map(pick).sum();
        Ok(Some(ViewCounters {
            flows: sum(|traffic| traffic.flows),
            tcp_flows: sum(|traffic| traffic.tcp_flows),
            tcp_resets: sum(|traffic| traffic.tcp_resets),
            frames: sum(|traffic| traffic.frames),
            dropped: sum(|traffic| traffic.dropped),
        }))
    }
}

/// Whether a map has no room for another element.
fn is_full(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(e) if e.io_error.kind() == std::io::ErrorKind::ArgumentListTooLong)
}

fn on_trial(active: &ActiveViews) -> Option<ViewKey> {
    let canary = active.canary.as_ref()?;
    Some(ViewKey { tenant: active.tenant.get(), view: canary.view.id.get() })
}

impl Watcher {
    /// Counts records by view. A program that still runs by an older plan may write a record behind the count, so it begins
    /// when all of those have ended.
    pub(crate) fn count_records(&self) -> Result<Census> {
        let generation = locked(&self.inner).generation();
        sys::grace_period().map_err(|source| Error::Host {
            operation: "wait for",
            object: "programs that run by an older plan".to_owned(),
            source,
        })?;
        let began = Instant::now();
        let mut census = Census { generation, ..Census::default() };
        self.gauges.scan(|key, record| {
            let (Some(tenant), Some(view)) = (key.tenant(), record.view()) else { return };
            if FlowState::from_word(record.state) == FlowState::Dead {
                return;
            }
            let counted = census.views.entry((tenant, view)).or_default();
            counted.records += 1;
            for id in record.path[..usize::from(record.path_len)].iter().filter_map(|id| InstanceId::new(*id)) {
                *counted.instances.entry(id).or_default() += 1;
            }
        })?;
        Ok(Census { cost: began.elapsed(), ..census })
    }

    /// Has a view's TCP flows reset and deletes the records of its others.
    pub(crate) fn reset(&self, tenant: TenantId, view: ViewId) -> Result<u64> {
        let mut keys = Vec::new();
        self.gauges.scan(|key, record| {
            let ends = matches!(FlowState::from_word(record.state), FlowState::Dead | FlowState::Reset);
            if key.tenant() == Some(tenant) && record.view() == Some(view) && !ends {
                keys.push(*key);
            }
        })?;
        expire(&self.inner, &keys, Sweep::Reset, Some(view))
    }
}
