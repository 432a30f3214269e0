//! What a user asks of a rollout, and whether it can be done.

use super::share::Percent;
use super::time::Span;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most steps of a rollout.
pub const STEPS_MAX: usize = 32;
/// The longest pause, deadline or drain: 30 days.
pub const SPAN_MAX: Span = Span::from_secs(30 * 24 * 3600);

/// How a graph gets from its stable view to another one, in the words of Argo Rollouts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RolloutSpec {
    /// Steps in their order, at most [`STEPS_MAX`]. None at all: the candidate is promoted once it is installed.
    pub steps: Vec<Step>,
    /// The longest that the data path may take to confirm a command. 1 ms to [`SPAN_MAX`].
    pub progress_deadline: Span,
    /// What the candidate may do before the rollout is aborted.
    pub bounds: Bounds,
    /// What happens to the flows of the view that leaves.
    pub drain: Drain,
}

/// No steps, no bounds. The deadline of 10 minutes is that of Kubernetes Deployments and of Argo Rollouts.
impl Default for RolloutSpec {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            progress_deadline: Span::from_secs(600),
            bounds: Bounds::default(),
            drain: Drain { policy: DrainPolicy::Finish, deadline: Span::from_secs(3600) },
        }
    }
}

/// A step of a rollout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Give the candidate this share of the new flows: 0 to 100 %. May be less than before.
    SetWeight(Percent),
    /// Wait and watch.
    Pause {
        /// How long, 1 ms to [`SPAN_MAX`]; `None` until somebody promotes or resumes.
        duration: Option<Span>,
    },
}

/// Limits on what the candidate may do, judged by the data path's own counters. What has no limit is not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bounds {
    /// Since when is counted.
    pub window: Window,
    /// The fewest flows to judge by: new flows for `dropped`, new TCP flows for `resets`. At least 1.
    pub min_flows: u32,
    /// The largest share of frames that may be dropped, 0 to 100 %.
    pub dropped: Option<Percent>,
    /// The largest share of TCP flows that may be reset, 0 to 100 %.
    pub resets: Option<Percent>,
    /// The most instances of the candidate's replica sets that may be down. Judged whatever the number of flows.
    pub down: Option<u16>,
}

/// No limits; windows of a step, of 100 flows at least.
impl Default for Bounds {
    fn default() -> Self {
        Self { window: Window::Step, min_flows: 100, dropped: None, resets: None, down: None }
    }
}

/// Since when the candidate is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Since the step began.
    Step,
    /// Since the first step began.
    Rollout,
}

/// What happens to the flows of a view that has left the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Drain {
    /// What happens at the deadline.
    pub policy: DrainPolicy,
    /// How long flows have before the policy applies. 1 ms to [`SPAN_MAX`].
    pub deadline: Span,
}

/// What happens at the deadline to flows that are still there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainPolicy {
    /// They are left to finish; the view stays until the last of them has, and is shown as overdue.
    Finish,
    /// They are reset.
    Reset,
}

/// What is wrong with a rollout, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {rule}")]
pub struct SpecViolation {
    /// Where: a field path such as `steps[3].pause.duration`.
    pub path: String,
    /// Which rule is broken.
    pub rule: SpecRule,
}

/// A rule for rollouts, as it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecRule {
    /// More than [`STEPS_MAX`].
    #[error("{steps} steps, at most {STEPS_MAX} are allowed")]
    TooManySteps {
        /// How many there are.
        steps: usize,
    },
    /// A weight or limit of more than everything.
    #[error("{percent}, 0 to 100 % are allowed")]
    OverHundred {
        /// What was given.
        percent: Percent,
    },
    /// A pause of no length.
    #[error("a pause of no length; leave the duration out to pause until a promote or resume")]
    NoPause,
    /// A deadline that is over when it begins.
    #[error("a deadline of no length; give at least 1 ms")]
    NoTime,
    /// Longer than [`SPAN_MAX`].
    #[error("{span}, at most {SPAN_MAX} are allowed")]
    TooLong {
        /// What was given.
        span: Span,
    },
    /// A judgement by no flows.
    #[error("a judgement by no flows; give at least 1")]
    NoFlows,
}

/// Everything that is wrong with a rollout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SpecViolations(pub Vec<SpecViolation>);

impl fmt::Display for SpecViolations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join("; "))
    }
}

/// A rollout without violations.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "RolloutSpec", into = "RolloutSpec")]
pub struct CheckedSpec(RolloutSpec);

impl CheckedSpec {
    /// What was checked.
    pub const fn get(&self) -> &RolloutSpec {
        &self.0
    }

    /// The number of steps.
    pub(super) fn steps(&self) -> u8 {
        u8::try_from(self.0.steps.len()).unwrap_or(u8::MAX)
    }

    /// A step by its number; the first is 1.
    pub(super) fn step(&self, number: u8) -> Option<Step> {
        self.0.steps.get(usize::from(number).checked_sub(1)?).copied()
    }
}

impl TryFrom<RolloutSpec> for CheckedSpec {
    type Error = SpecViolations;

    /// Reports every violation, in the order of the fields.
    fn try_from(spec: RolloutSpec) -> Result<Self, SpecViolations> {
        let violations = violations(&spec);
        if violations.is_empty() { Ok(Self(spec)) } else { Err(SpecViolations(violations)) }
    }
}

impl From<CheckedSpec> for RolloutSpec {
    fn from(spec: CheckedSpec) -> Self {
        spec.0
    }
}

fn violations(spec: &RolloutSpec) -> Vec<SpecViolation> {
    let RolloutSpec { steps, progress_deadline, bounds, drain } = spec;
    let Bounds { window: _, min_flows, dropped, resets, down: _ } = bounds;
    let mut found = Vec::new();
    let mut add = |path: &str, rule: Option<SpecRule>| {
        found.extend(rule.map(|rule| SpecViolation { path: path.to_owned(), rule }));
    };
    add("steps", (steps.len() > STEPS_MAX).then_some(SpecRule::TooManySteps { steps: steps.len() }));
    for (index, step) in steps.iter().enumerate() {
        match step {
            Step::SetWeight(weight) => add(&format!("steps[{index}].set_weight"), over_hundred(*weight)),
            Step::Pause { duration } => {
                let broken = duration.and_then(|duration| span(duration, SpecRule::NoPause));
                add(&format!("steps[{index}].pause.duration"), broken);
            }
        }
    }
    add("progress_deadline", span(*progress_deadline, SpecRule::NoTime));
    add("bounds.min_flows", (*min_flows == 0).then_some(SpecRule::NoFlows));
    add("bounds.dropped", dropped.and_then(over_hundred));
    add("bounds.resets", resets.and_then(over_hundred));
    add("drain.deadline", span(drain.deadline, SpecRule::NoTime));
    found
}

fn over_hundred(percent: Percent) -> Option<SpecRule> {
    (percent > Percent::HUNDRED).then_some(SpecRule::OverHundred { percent })
}

fn span(span: Span, zero: SpecRule) -> Option<SpecRule> {
    match span {
        Span::ZERO => Some(zero),
        span => (span > SPAN_MAX).then_some(SpecRule::TooLong { span }),
    }
}
