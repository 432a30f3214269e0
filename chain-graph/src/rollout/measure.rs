//! What the candidate was seen to do, and whether that is within bounds.

use super::share::Percent;
use super::spec::{Bounds, Window};
use super::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use xdp_layout::ViewId;

/// A sample older than this does not show what the candidate does at the end of a step: 15 s, which leaves room for
/// missed samples at any sensible interval.
pub const SAMPLE_AGE_MAX: Span = Span::from_secs(15);

/// The candidate, measured. The first one is best sent before [`super::Action::Install`] is confirmed: a window begins at
/// the last sample before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Which view was measured.
    pub view: ViewId,
    /// What the data path has counted; `None` if it could not be asked.
    pub counters: Option<Counters>,
    /// The instances of the candidate's replica sets; `None` if nobody knows.
    pub health: Option<Health>,
}

/// What the data path has counted for a view. Rises; a fall means that counting began anew, at 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Flows that began.
    pub flows: u64,
    /// TCP flows among them.
    pub tcp_flows: u64,
    /// TCP flows that were reset.
    pub tcp_resets: u64,
    /// Frames that came in.
    pub frames: u64,
    /// Frames among them that were dropped.
    pub dropped: u64,
}

/// Instances of a view's replica sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Health {
    /// All of them.
    pub instances: u16,
    /// Those that are down.
    pub down: u16,
}

/// What was counted in a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// When the window began.
    pub since: Timestamp,
    /// Counted since then; `None` if the data path could not be asked.
    pub counted: Option<Counters>,
    /// At the last sample; `None` if nobody knows.
    pub health: Option<Health>,
}

/// A bound that was exceeded, with the figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breach {
    /// Too many frames were dropped.
    Dropped {
        /// Frames that were dropped.
        dropped: u64,
        /// Frames that came in.
        frames: u64,
        /// The largest share allowed.
        limit: Percent,
    },
    /// Too many TCP flows were reset.
    Resets {
        /// TCP flows that were reset.
        resets: u64,
        /// TCP flows that began.
        flows: u64,
        /// The largest share allowed.
        limit: Percent,
    },
    /// Too many instances are down.
    Down {
        /// Instances that are down.
        down: u16,
        /// All instances.
        instances: u16,
        /// The most allowed.
        limit: u16,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped { dropped, frames, limit } => {
                write!(f, "{dropped} of {frames} frames dropped, at most {limit} are allowed")
            }
            Self::Resets { resets, flows, limit } => {
                write!(f, "{resets} of {flows} TCP flows reset, at most {limit} are allowed")
            }
            Self::Down { down, instances, limit } => {
                write!(f, "{down} of {instances} instances down, at most {limit} are allowed")
            }
        }
    }
}

/// Why a step could not be judged when it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// There is no sample of the step, or only one older than [`SAMPLE_AGE_MAX`].
    NoSample,
    /// The data path could not be asked.
    NoCounters,
    /// Nobody knows which instances are down.
    NoHealth,
    /// Too few flows for the bound on drops.
    TooFewFlows {
        /// Flows that began.
        flows: u64,
        /// The fewest to judge by.
        wanted: u32,
    },
    /// Too few TCP flows for the bound on resets.
    TooFewTcpFlows {
        /// TCP flows that began.
        flows: u64,
        /// The fewest to judge by.
        wanted: u32,
    },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSample => f.write_str("no sample of its end"),
            Self::NoCounters => f.write_str("no counters"),
            Self::NoHealth => f.write_str("health of the instances not known"),
            Self::TooFewFlows { flows, wanted } => write!(f, "{flows} flows, {wanted} are needed"),
            Self::TooFewTcpFlows { flows, wanted } => write!(f, "{flows} TCP flows, {wanted} are needed"),
        }
    }
}

/// The samples of a window.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// When the window began.
    began: Timestamp,
    /// The counters when the window began; `None` until they are known.
    baseline: Option<Counters>,
    /// The last sample of the window and when it came.
    latest: Option<(Timestamp, Sample)>,
}

impl Measurement {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self { began: now, baseline: None, latest: None }
    }

    /// Takes note of the beginning of a step.
    pub(super) fn begin_step(&mut self, window: Window, is_first: bool, now: Timestamp) {
        if is_first || window == Window::Step {
            let counters = self.latest.and_then(|(_, sample)| sample.counters);
            *self = Self { began: now, baseline: counters.or(self.baseline), latest: None };
        }
    }

    /// Takes a sample.
    pub(super) fn take(&mut self, sample: Sample, now: Timestamp) {
        if let Some(counters) = sample.counters {
            let before = self.latest.and_then(|(_, latest)| latest.counters).or(self.baseline);
            if before.is_some_and(|before| !counters.is_after(&before)) {
                self.baseline = Some(Counters::default());
            }
            self.baseline.get_or_insert(counters);
        }
        self.latest = Some((now, sample));
    }

    /// What was counted; `None` without a sample.
    pub(super) fn figures(&self) -> Option<Figures> {
        let (_, sample) = self.latest?;
        let counted = sample.counters.map(|counters| counters.minus(&self.baseline.unwrap_or_default()));
        Some(Figures { since: self.began, counted, health: sample.health })
    }

    /// Bounds that are exceeded.
    pub(super) fn breaches(&self, bounds: &Bounds) -> Vec<Breach> {
        let Some(Figures { counted, health, .. }) = self.figures() else { return Vec::new() };
        let fewest = u64::from(bounds.min_flows);
        let dropped = bounds.dropped.zip(counted).and_then(|(limit, Counters { flows, frames, dropped, .. })| {
            let exceeded = flows >= fewest && limit.is_exceeded_by(dropped, frames);
            exceeded.then_some(Breach::Dropped { dropped, frames, limit })
        });
        let resets = bounds.resets.zip(counted).and_then(|(limit, Counters { tcp_flows: flows, tcp_resets, .. })| {
            let exceeded = flows >= fewest && limit.is_exceeded_by(tcp_resets, flows);
            exceeded.then_some(Breach::Resets { resets: tcp_resets, flows, limit })
        });
        let down = bounds.down.zip(health).and_then(|(limit, Health { instances, down })| {
            (down > limit).then_some(Breach::Down { down, instances, limit })
        });
        [dropped, resets, down].into_iter().flatten().collect()
    }

    /// What keeps the window from being judged at `now`.
    pub(super) fn doubts(&self, bounds: &Bounds, now: Timestamp) -> Vec<Doubt> {
        let counts = bounds.dropped.is_some() || bounds.resets.is_some();
        if !counts && bounds.down.is_none() {
            return Vec::new();
        }
        let is_fresh = |taken: Timestamp| now.since(taken) <= SAMPLE_AGE_MAX;
        let Some((_, sample)) = self.latest.filter(|(taken, _)| is_fresh(*taken)) else {
            return vec![Doubt::NoSample];
        };
        let wanted = bounds.min_flows;
        let counted = self.figures().and_then(|figures| figures.counted);
        let too_few = |flows: u64| flows < u64::from(wanted);
        [
            (counts && counted.is_none()).then_some(Doubt::NoCounters),
            bounds
                .dropped
                .and(counted)
                .map(|counted| counted.flows)
                .filter(|flows| too_few(*flows))
                .map(|flows| Doubt::TooFewFlows { flows, wanted }),
            bounds
                .resets
                .and(counted)
                .map(|counted| counted.tcp_flows)
                .filter(|flows| too_few(*flows))
                .map(|flows| Doubt::TooFewTcpFlows { flows, wanted }),
            (bounds.down.is_some() && sample.health.is_none()).then_some(Doubt::NoHealth),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Counters {
    /// Whether counting went on from `before`.
    fn is_after(&self, before: &Self) -> bool {
        let Self { flows, tcp_flows, tcp_resets, frames, dropped } = *self;
        flows >= before.flows
            && tcp_flows >= before.tcp_flows
            && tcp_resets >= before.tcp_resets
            && frames >= before.frames
            && dropped >= before.dropped
    }

    fn minus(&self, before: &Self) -> Self {
        let Self { flows, tcp_flows, tcp_resets, frames, dropped } = *self;
        Self {
            flows: flows.saturating_sub(before.flows),
            tcp_flows: tcp_flows.saturating_sub(before.tcp_flows),
            tcp_resets: tcp_resets.saturating_sub(before.tcp_resets),
            frames: frames.saturating_sub(before.frames),
            dropped: dropped.saturating_sub(before.dropped),
        }
    }
}
