//! Rollouts: a graph gets from its stable view to another one in steps, or back.
//!
//! ```text
//! event --Rollout::apply(event, now)--> next state + at most one command
//!                                       command --shell--> data path --> Applied or ApplyFailed
//! ```
//!
//! Pure. Who runs it stores the state, carries commands out and reports; owns plans, data path and clock. Commands are
//! numbered, and a new one takes the place of the one before, so nothing ever waits for two changes at once. After a
//! restart [`Rollout::command`] says what is still to be done. A sample is best sent before the first tick then: a step
//! that ended in the meantime is judged by it.
//!
//! The candidate gets a share of *new* flows; flows that exist stay on their view. A lower weight in a step is the user's
//! will and done at once; an abort asks for room first (see [`CapacityReport`]).
//!
//! Bounds are judged at every sample, and at the end of every pause that has a duration: what cannot be judged then is
//! inconclusive and paused. Operators overrule judgements, not bounds: a bound that is exceeded aborts even a paused
//! rollout.

mod capacity;
mod drain;
mod event;
mod history;
mod measure;
mod operator;
mod rejected;
mod report;
mod run;
mod share;
mod spec;
mod state;
mod status;
mod time;

pub use capacity::{CapacityReport, Lack, SetLoad, Shortage};
pub use drain::{Draining, RecordCount, Retirement, Verdict};
pub use event::{Action, Command, Event, Sequence};
pub use history::HISTORY_MAX;
pub use measure::{Breach, Counters, Doubt, Figures, Health, Measurement, SAMPLE_AGE_MAX, Sample};
pub use rejected::{Rejected, Rejection};
pub use share::{Percent, PercentError, Share};
pub use spec::{
    Bounds, CheckedSpec, Drain, DrainPolicy, RolloutSpec, SPAN_MAX, STEPS_MAX, SpecRule, SpecViolation, SpecViolations,
    Step, Window,
};
pub use state::{Awaited, Ended, Failure, Next, Outcome, Pause, Phase, Resume, Run, Stage, State, Why};
pub use status::{PhaseName, Place, Status};
pub use time::{Span, Timer, Timestamp};

use crate::model::ObjectKey;
use run::Clerk;
use serde::{Deserialize, Serialize};
use xdp_layout::ViewId;

/// The rollouts of one graph: the running one, and what came of those before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rollout {
    graph: ObjectKey,
    stable: ViewId,
    sequence: Sequence,
    state: State,
    past: Vec<Ended>,
}

/// The views that a graph's plan has to name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Placement {
    /// The view of new flows, apart from the candidate's share.
    pub stable: ViewId,
    /// The candidate and its share of the new flows.
    pub candidate: Option<(ViewId, Share)>,
}

impl Rollout {
    /// Of a graph that has one view.
    pub const fn new(graph: ObjectKey, stable: ViewId) -> Self {
        Self { graph, stable, sequence: Sequence::NONE, state: State::Idle, past: Vec::new() }
    }

    /// What follows from an event: the next state, and what has to be done that was not to be done before. The clock may be
    /// set back between two calls; what waits then waits longer, by its own length at most.
    ///
    /// # Errors
    /// [`Rejected`] if the event does not fit.
    pub fn apply(&self, event: Event, now: Timestamp) -> Result<(Self, Option<Command>), Rejected> {
        let (mut next, name) = (self.clone(), event.name());
        let mut clerk = Clerk { last: self.sequence, now };
        if let State::Running(run) = &mut next.state {
            run.observe(now);
        }
        let handled = match event {
            Event::Start { spec, target } => next.start(Next { spec, target }, &mut clerk),
            Event::Replace { spec, target, force } => next.replace(Next { spec, target }, force, &mut clerk),
            Event::Tick => {
                next.tick(&mut clerk);
                Ok(())
            }
            Event::Applied { sequence } => next.applied(sequence, &mut clerk),
            Event::ApplyFailed { sequence, reason } => next.apply_failed(sequence, reason),
            Event::Sample(sample) => next.sample(sample, &mut clerk),
            Event::Capacity(report) => next.capacity(&report, &mut clerk),
            Event::Pause => next.pause(&clerk),
            Event::Resume => next.resume(&mut clerk),
            Event::Promote { full } => next.promote(full, &mut clerk),
            Event::Abort { reason, force } => next.abort(reason, force, &mut clerk),
        };
        handled.map_err(|why| self.rejected(name, why))?;
        next.sequence = clerk.last;
        let command = next.command().filter(|command| command.sequence > self.sequence);
        Ok((next, command))
    }

    /// The command in force: what is still to be done, as after a restart.
    pub fn command(&self) -> Option<Command> {
        match &self.state {
            State::Running(run) => run.command(self.stable),
            State::Idle | State::Completed(_) => None,
        }
    }

    /// The views that the plan has to name for the command in force to be done; while an abort waits for capacity, those
    /// that it names.
    pub fn placement(&self) -> Placement {
        let stable = self.stable;
        match &self.state {
            State::Running(run) => match &run.phase {
                Phase::Promoting(_) => Placement { stable: run.target, candidate: None },
                Phase::Aborting { stage: Stage::Withdrawing { .. }, .. } => Placement { stable, candidate: None },
                Phase::Installing(_)
                | Phase::Progressing(_)
                | Phase::Paused(_)
                | Phase::Aborting { stage: Stage::AwaitingCapacity { .. } | Stage::Lowering { .. }, .. } => {
                    Placement { stable, candidate: Some((run.target, run.asked())) }
                }
            },
            State::Idle | State::Completed(_) => Placement { stable, candidate: None },
        }
    }

    /// The graph.
    pub const fn graph(&self) -> &ObjectKey {
        &self.graph
    }

    /// The view of new flows, apart from the candidate's share.
    pub const fn stable(&self) -> ViewId {
        self.stable
    }

    /// What it is doing.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Number of the last command.
    pub const fn sequence(&self) -> Sequence {
        self.sequence
    }

    fn rejected(&self, event: &'static str, why: Rejection) -> Rejected {
        Rejected { event, graph: self.graph.clone(), why }
    }
}

impl State {
    /// The running rollout.
    fn running(&mut self) -> Result<&mut Run, Rejection> {
        let place = Place::of(self);
        match self {
            Self::Running(run) => Ok(run),
            Self::Idle | Self::Completed(_) => Err(Rejection::NotRunning { place }),
        }
    }
}
