//! Rollouts after an installation: their commands are answered, their candidates measured.
//!
//! Everything that is seen goes to the state machine as a [`Report`], like any other command. What is due is decided by the
//! clock that the state machine is told, so that the two never disagree.

use super::{Writer, measure};
use crate::command::{Command, Operation};
use crate::dataplane::PendingPort;
use crate::rollout::{Report, RolloutVerb};
use crate::state::{Applied, DesiredState};
use chain_graph::model::ObjectKey;
use chain_graph::rollout::{self, Action, Phase, Rollout, Sample, Span, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Time between two samples of a candidate.
const INTERVAL: Span = Span::from_secs(1);

/// Whether it is time again. A clock that was set back makes it so.
fn is_due(last: Option<Timestamp>, now: Timestamp) -> bool {
    last.is_none_or(|last| now < last || now.since(last) >= INTERVAL)
}

/// The rollouts that have not ended.
fn running(state: &DesiredState) -> impl Iterator<Item = &Rollout> {
    state.lineages.values().filter(|lineage| lineage.is_running()).map(|lineage| &lineage.rollout)
}

/// The commands that are in force.
pub(super) fn commands(state: &DesiredState) -> Vec<(ObjectKey, rollout::Command)> {
    running(state).filter_map(|rollout| Some((rollout.graph().clone(), rollout.command()?))).collect()
}

impl Writer {
    /// Does what is due. Samples go before ticks: a step that has ended is judged by them.
    pub(super) fn follow(&mut self) {
        let now = self.clock.now();
        self.answer();
        if is_due(self.sampled, now) {
            self.sampled = Some(now);
            self.sample_all();
        }
        self.tick(now);
        self.answer();
        self.count_if_due(now);
    }

    /// How long to wait for a command before there is something to do.
    pub(super) fn patience(&self) -> Duration {
        let (state, now) = (self.state(), self.clock.now());
        let deadlines = running(&state).filter_map(|rollout| rollout.status().next_deadline);
        let due = deadlines.min().map(|deadline| Duration::from_millis(deadline.since(now).millis()));
        // What is due and still there could not be done.
        due.filter(|due| !due.is_zero()).map_or(self.retry, |due| due.min(self.retry))
    }

    /// Answers the commands of all rollouts until the data path has carried out none of them. Every answer brings a rollout
    /// a step further, so this ends. Questions for room are left to the next count.
    pub(super) fn answer(&mut self) {
        loop {
            let mut is_answered = false;
            for (key, command) in commands(&self.state()) {
                is_answered |= self.answer_one(&key, command);
            }
            if !is_answered {
                return;
            }
        }
    }

    fn answer_one(&mut self, key: &ObjectKey, command: rollout::Command) -> bool {
        let rollout::Command { sequence, action, .. } = command;
        if action == Action::ReportCapacity {
            return false;
        }
        let Some(reason) = self.obstacle(key, command) else {
            if action == Action::Install {
                // The first window begins with what the view had counted before it got flows.
                self.sample(key);
            }
            return self.report(key, Report::Applied { sequence });
        };
        let state = self.state();
        let known = state.lineages.get(key).and_then(|lineage| lineage.run()?.failure.as_ref());
        if known != Some(&reason) {
            self.report(key, Report::ApplyFailed { sequence, reason });
        }
        false
    }

    /// Why what a rollout asks for is not in force; `None` if it is.
    fn obstacle(&self, key: &ObjectKey, command: rollout::Command) -> Option<String> {
        let state = self.state();
        if let Some(error) = &self.programmed.borrow().error {
            return Some(error.to_string());
        }
        if self.in_force.as_ref().is_none_or(|in_force| in_force.generation() != state.generation()) {
            return Some("nothing is installed yet".to_owned());
        }
        match command.action {
            Action::Install => measure::unready(&state, key, command.target, &self.pending()),
            Action::SetShare(_) | Action::Promote(_) | Action::Withdraw(_) | Action::ReportCapacity => None,
        }
    }

    pub(super) fn pending(&self) -> Vec<PendingPort> {
        let programmed = self.programmed.borrow();
        programmed.installed.as_ref().map(|installed| installed.pending.clone()).unwrap_or_default()
    }

    fn sample_all(&mut self) {
        let state = self.state();
        for rollout in running(&state) {
            self.sample(rollout.graph());
        }
    }

    /// Measures the candidate of a rollout; while one is aborted nobody asks.
    fn sample(&mut self, key: &ObjectKey) {
        let state = self.state();
        let run = state.lineages.get(key).and_then(|lineage| lineage.run());
        let run = run.filter(|run| !matches!(run.phase, Phase::Aborting { .. }));
        let Some((run, tenant)) = run.zip(measure::tenant(&state, key)) else { return };
        let view = run.target;
        let counters = self.observer.view_counters(tenant, view).unwrap_or_else(|error| {
            tracing::warn!(graph = %key, %view, %error, "candidate not measured");
            None
        });
        let health = Some(measure::health(&state, key, view, &self.pending()));
        self.report(key, Report::Sample(Sample { view, counters: counters.map(Into::into), health }));
    }

    fn tick(&mut self, now: Timestamp) {
        let state = self.state();
        for rollout in running(&state) {
            if rollout.status().next_deadline.is_some_and(|deadline| deadline <= now) {
                self.report(rollout.graph(), Report::Tick);
            }
        }
    }

    /// Tells the state machine; whether anybody can see a difference.
    pub(super) fn report(&mut self, key: &ObjectKey, report: Report) -> bool {
        self.report_all(vec![(key.clone(), report)], self.clock.now())
    }

    /// Tells the state machine of several graphs in one command; whether anybody can see a difference. What nobody can see
    /// is not stored.
    pub(super) fn report_all(&mut self, reports: Vec<(ObjectKey, Report)>, now: Timestamp) -> bool {
        if reports.is_empty() {
            return false;
        }
        let old = self.state();
        let keys: Vec<ObjectKey> = reports.iter().map(|(key, _)| key.clone()).collect();
        let operation = |(graph, report)| Operation::Rollout { graph, verb: RolloutVerb::Report(report) };
        let command = Command::batch(reports.into_iter().map(operation).collect());
        match old.apply(&command, now) {
            Ok(Applied { state, changes, changed: true }) => match self.adopt(&old, state, &changes) {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(graphs = ?keys, %error, "progress of rollouts not stored");
                    false
                }
            },
            Ok(Applied { state, changed: false, .. }) => {
                let is_same =
                    |key| state.lineages.get(key).zip(old.lineages.get(key)).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
                if !keys.iter().all(is_same) {
                    self.state.send_replace(Arc::new(state));
                }
                false
            }
            Err(rejected) => {
                tracing::warn!(graphs = ?keys, %rejected, "a rollout does not take what it is told");
                false
            }
        }
    }
}
