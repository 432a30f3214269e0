//! When a view that gets no new flows may go.

use super::spec::{Drain, DrainPolicy};
use super::time::{Timer, Timestamp};
use serde::{Deserialize, Serialize};
use xdp_layout::{Generation, ViewId};

/// A view that gets no new flows by the plan and whose flows are still there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Draining {
    view: ViewId,
    left: Generation,
    policy: DrainPolicy,
    deadline: Timer,
    has_reset: bool,
}

/// Records that name a view, of all front ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordCount {
    /// How many.
    pub records: u64,
    /// The lowest generation that was in force at a front end when its part of the count began.
    pub generation: Generation,
}

/// What to do with a draining view.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Let its flows be.
    Keep,
    /// Reset its flows, and count again.
    ResetFlows,
    /// Remove it: no record names it.
    Retire(Retirement),
}

/// How a view's last flow ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retirement {
    /// By itself, as all of them.
    Finished,
    /// After the remaining ones were reset.
    Reset,
}

impl Draining {
    /// A view to which the plan of generation `left` is the first to give no new flows. Time runs from `now`.
    pub const fn new(view: ViewId, left: Generation, drain: Drain, now: Timestamp) -> Self {
        let deadline = Timer::start(drain.deadline, now);
        Self { view, left, policy: drain.policy, deadline, has_reset: false }
    }

    /// The view.
    pub const fn view(&self) -> ViewId {
        self.view
    }

    /// Whether it has taken longer than the deadline.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.deadline.is_over(now)
    }

    /// The next state, and what to do; `count` is `None` if there is none. A count that began while a plan named the view
    /// does not count: a flow may have begun behind it, and by that plan the view still gets the new ones, which must not be
    /// reset. Generations tell, since clocks differ from machine to machine.
    pub fn step(&self, count: Option<RecordCount>, now: Timestamp) -> (Self, Verdict) {
        let mut next = self.clone();
        next.deadline.observe(now);
        let count = count.filter(|count| count.generation >= self.left);
        let is_empty = count.is_some_and(|count| count.records == 0);
        let has_left = count.is_some() || self.has_reset;
        let verdict = match (is_empty, self.policy) {
            (true, _) if self.has_reset => Verdict::Retire(Retirement::Reset),
            (true, _) => Verdict::Retire(Retirement::Finished),
            (false, DrainPolicy::Reset) if has_left && next.is_overdue(now) => Verdict::ResetFlows,
            (false, DrainPolicy::Reset | DrainPolicy::Finish) => Verdict::Keep,
        };
        next.has_reset |= verdict == Verdict::ResetFlows;
        (next, verdict)
    }
}
