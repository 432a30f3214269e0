//! The wall clock: the only one that outlives a restart.

use chain_graph::rollout::Timestamp;
use std::fmt;
use std::time::SystemTime;

/// Tells the time. Read by the control plane alone: the state machine is told.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time; may be set back between two calls.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
