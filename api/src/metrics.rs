//! Metrics, and the endpoint they are read from. Names begin with `switchyard_`, units are base units.

use crate::convert::share_out;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chain_graph::rollout::{Outcome, PhaseName};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use state_sync::{ControlPlane, Observer};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use xdp_layout::{Counter, DropReason};

/// Buckets of [`Metrics::program_seconds`], in seconds.
const PROGRAM_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// Verdicts of `switchyard_frames_total`, by counter.
const VERDICTS: [Counter; 4] = [Counter::Delivered, Counter::Transmitted, Counter::Replied, Counter::Passed];

/// Tiers of `switchyard_lookups_total`, by counter and label.
const TIERS: [(Counter, &str); 5] = [
    (Counter::TierCache, "cache"),
    (Counter::TierRecord, "record"),
    (Counter::TierTable, "table"),
    (Counter::TierOverlay, "overlay"),
    (Counter::TierStateless, "stateless"),
];

/// All metrics of a process.
pub struct Metrics {
    registry: Registry,
    /// Held while the data path's metrics are set to what it says, from nothing: two readers would add up.
    reading: Mutex<()>,
    /// `switchyard_api_requests_total{method,code}`.
    pub requests: IntCounterVec,
    /// `switchyard_api_program_seconds`: from a write's arrival until the data path was given it.
    pub program_seconds: Histogram,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// A name or label is not accepted; it would be a mistake in this module.
    pub fn new(control: ControlPlane) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new("switchyard_api_requests_total", "Requests by method and status code."),
            &["method", "code"],
        )?;
        let program_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "switchyard_api_program_seconds",
                "Time from the arrival of a write until the data path was given it.",
            )
            .buckets(PROGRAM_BUCKETS.to_vec()),
        )?;
        let build = IntGaugeVec::new(Opts::new("switchyard_build_info", "Always 1."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(program_seconds.clone()))?;
        registry.register(Box::new(build))?;
        registry.register(Box::new(RolloutCollector::new(control.clone())?))?;
        registry.register(Box::new(DataPathCollector::new(control)?))?;
        Ok(Self { registry, reading: Mutex::default(), requests, program_seconds })
    }

    /// Everything in the text format. Blocks while counters are read.
    ///
    /// # Errors
    /// The values cannot be encoded.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let families = {
            let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            self.registry.gather()
        };
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

/// Serves `GET /metrics` until the future is dropped.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let scrape = move || {
        let metrics = Arc::clone(&metrics);
        async move {
            match tokio::task::spawn_blocking(move || metrics.text()).await {
                Ok(Ok(text)) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
                Ok(Err(error)) => failed(&error.to_string()),
                Err(error) => failed(&error.to_string()),
            }
        }
    };
    axum::serve(listener, Router::new().route("/metrics", get(scrape))).await
}

fn failed(cause: &str) -> Response {
    tracing::error!(cause, "metrics cannot be read");
    (StatusCode::INTERNAL_SERVER_ERROR, cause.to_owned()).into_response()
}

/// Reads the rollouts when it is asked. Outcomes are not counted: only the last ones are remembered, so a count would fall.
struct RolloutCollector {
    control: ControlPlane,
    phase: IntGaugeVec,
    share: GaugeVec,
    outcome: IntGaugeVec,
    draining: IntGauge,
}

impl RolloutCollector {
    fn new(control: ControlPlane) -> Result<Self, prometheus::Error> {
        Ok(Self {
            control,
            phase: IntGaugeVec::new(
                Opts::new(
                    "switchyard_rollout_phase",
                    "1 for the phase that a graph's rollout is in; for graphs that had one.",
                ),
                &["tenant", "graph", "phase"],
            )?,
            share: GaugeVec::new(
                Opts::new(
                    "switchyard_rollout_share",
                    "The candidate's share of a graph's new flows, 0 to 1, as the data path confirmed it.",
                ),
                &["tenant", "graph"],
            )?,
            outcome: IntGaugeVec::new(
                Opts::new(
                    "switchyard_rollout_outcome",
                    "1 for what came of the last rollout of a graph that has ended.",
                ),
                &["tenant", "graph", "outcome"],
            )?,
            draining: IntGauge::new("switchyard_draining_views", "Views without new flows that are still installed.")?,
        })
    }

    fn read(&self) {
        let state = self.control.state();
        self.phase.reset();
        self.share.reset();
        self.outcome.reset();
        for rollout in state.rollouts() {
            let status = rollout.status();
            if status.place.phase == PhaseName::Idle {
                continue;
            }
            let (tenant, graph) = (status.graph.tenant.as_str(), status.graph.name.as_str());
            self.phase.with_label_values(&[tenant, graph, status.place.phase.name()]).set(1);
            self.share.with_label_values(&[tenant, graph]).set(share_out(status.share));
            if let Some(last) = rollout.history().next_back() {
                let word = match last.outcome {
                    Outcome::Success => "success",
                    Outcome::Failed(_) => "failed",
                    Outcome::Superseded { by: _ } => "superseded",
                };
                self.outcome.with_label_values(&[tenant, graph, word]).set(1);
            }
        }
        self.draining.set(i64::try_from(state.draining().count()).unwrap_or(i64::MAX));
    }

    fn parts(&self) -> [&dyn Collector; 4] {
        [&self.phase, &self.share, &self.outcome, &self.draining]
    }
}

impl Collector for RolloutCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

/// Reads the data path when it is asked.
struct DataPathCollector {
    control: ControlPlane,
    drops: IntCounterVec,
    frames: IntCounterVec,
    lookups: IntCounterVec,
    events: IntCounterVec,
    flows: IntGaugeVec,
    capacity: IntGauge,
    generation: IntGauge,
    tables: GaugeVec,
    instance_frames: IntCounterVec,
    instance_bytes: IntCounterVec,
    up: Gauge,
}

impl DataPathCollector {
    fn new(control: ControlPlane) -> Result<Self, prometheus::Error> {
        Ok(Self {
            control,
            drops: IntCounterVec::new(Opts::new("switchyard_drops_total", "Dropped frames by reason."), &["reason"])?,
            frames: IntCounterVec::new(
                Opts::new("switchyard_frames_total", "Frames that were not dropped, by verdict."),
                &["verdict"],
            )?,
            lookups: IntCounterVec::new(
                Opts::new("switchyard_lookups_total", "Paths found, by what they were found in."),
                &["tier"],
            )?,
            events: IntCounterVec::new(
                Opts::new("switchyard_events_total", "What else the data path counts, frames that came in among it."),
                &["event"],
            )?,
            flows: IntGaugeVec::new(
                Opts::new("switchyard_flows", "Flow records by tenant and state."),
                &["tenant", "state"],
            )?,
            capacity: IntGauge::new("switchyard_flow_capacity", "Flow records the connection table holds.")?,
            generation: IntGauge::new("switchyard_plan_generation", "Number of the plan in force.")?,
            tables: GaugeVec::new(
                Opts::new("switchyard_table_digest_info", "Always 1; the digest of a replica set's table is a label."),
                &["replica_set", "digest"],
            )?,
            instance_frames: IntCounterVec::new(
                Opts::new("switchyard_instance_frames_total", "Frames delivered to an instance."),
                &["instance"],
            )?,
            instance_bytes: IntCounterVec::new(
                Opts::new(
                    "switchyard_instance_bytes_total",
                    "Bytes delivered to an instance, Ethernet headers included.",
                ),
                &["instance"],
            )?,
            up: Gauge::new("switchyard_data_path_readable", "1 if the data path could be read, else 0.")?,
        })
    }

    fn read(&self, observer: &dyn Observer) -> Result<(), state_sync::DataPlaneError> {
        let (status, counters) = (observer.status()?, observer.counters()?);
        let state = self.control.state();
        let names = crate::convert::Names::new(state.desired());
        self.drops.reset();
        for reason in DropReason::ALL {
            self.drops.with_label_values(&[reason.name()]).inc_by(counters.dropped(*reason));
        }
        self.frames.reset();
        for verdict in VERDICTS {
            self.frames.with_label_values(&[verdict.name()]).inc_by(counters.event(verdict));
        }
        self.lookups.reset();
        for (counter, tier) in TIERS {
            self.lookups.with_label_values(&[tier]).inc_by(counters.event(counter));
        }
        self.events.reset();
        let is_event =
            |counter: &&Counter| !VERDICTS.contains(counter) && TIERS.iter().all(|(tier, _)| tier != *counter);
        for counter in Counter::ALL.iter().filter(is_event) {
            self.events.with_label_values(&[counter.name()]).inc_by(counters.event(*counter));
        }
        self.flows.reset();
        for (tenant, used) in &status.tenants {
            let name = names.tenant(*tenant);
            let name = name.trim_start_matches("tenants/");
            self.flows.with_label_values(&[name, "unanswered"]).set(gauge(used.unanswered));
            self.flows.with_label_values(&[name, "established"]).set(gauge(used.established));
        }
        self.capacity.set(gauge(status.flow_capacity));
        self.generation.set(gauge(status.generation.map_or(0, |generation| generation.get())));
        self.tables.reset();
        for (set, table) in state.image().tables() {
            let digest = format!("{:016x}", table.digest());
            self.tables.with_label_values(&[names.replica_set(*set), digest]).set(1.0);
        }
        self.instance_frames.reset();
        self.instance_bytes.reset();
        for (id, traffic) in &counters.instances {
            let name = names.instance(*id);
            let name = name.trim_start_matches("networkFunctions/");
            self.instance_frames.with_label_values(&[name]).inc_by(traffic.frames);
            self.instance_bytes.with_label_values(&[name]).inc_by(traffic.bytes);
        }
        Ok(())
    }

    fn parts(&self) -> [&dyn Collector; 11] {
        [
            &self.drops,
            &self.frames,
            &self.lookups,
            &self.events,
            &self.flows,
            &self.capacity,
            &self.generation,
            &self.tables,
            &self.instance_frames,
            &self.instance_bytes,
            &self.up,
        ]
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Collector for DataPathCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        match self.read(self.control.observer().as_ref()) {
            Ok(()) => self.up.set(1.0),
            Err(error) => {
                tracing::warn!(%error, "metrics of the data path cannot be read");
                self.up.set(0.0);
            }
        }
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}
