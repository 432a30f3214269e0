//! What one command makes of the versions of one graph.
//!
//! A view has no number before an image holds it, and the engine speaks in numbers. So a target is first tried as the
//! candidate, with everything else that is installed beside it, and the engine hears of it by the number it got. What
//! the engine then wants is arranged, and differs from the trial only where a rollout is replaced: the target then
//! waits, installed without flows, so that nobody else gets its number.

use super::lineage::Lineage;
use super::verb::{Report, RolloutVerb};
use crate::command::Refusal;
use crate::resource::ResourcePath;
use chain_graph::model::{Candidate, Graph, Versions};
use chain_graph::plan::ActiveViews;
use chain_graph::rollout::{CheckedSpec, Command, Drain, Draining, Event, RecordCount, Rejected, Rejection, Verdict};
use chain_graph::rollout::{Rollout, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xdp_layout::{Generation, GraphId, ViewId};

/// The versions of one graph while a command is carried out.
pub(crate) struct Turn {
    before: Arc<Lineage>,
    after: Lineage,
    target: Option<Target>,
    leaving: BTreeMap<ViewId, Drain>,
    is_report: bool,
}

/// A version that becomes the candidate once it has a number.
struct Target {
    graph: Arc<Graph>,
    spec: CheckedSpec,
    /// Instead of the rollout that is running, with or without force.
    replaces: Option<bool>,
}

impl Turn {
    pub(crate) fn new(lineage: &Arc<Lineage>) -> Self {
        Self {
            before: Arc::clone(lineage),
            after: Lineage::clone(lineage),
            target: None,
            leaving: BTreeMap::new(),
            is_report: false,
        }
    }

    /// Carries out a verb, apart from what needs the number of a new version. `graph` is the graph's number.
    pub(crate) fn drive(&mut self, verb: &RolloutVerb, graph: GraphId, now: Timestamp) -> Result<(), Refusal> {
        match verb.clone() {
            RolloutVerb::Start { spec, target } => {
                self.refuse_running()?;
                self.target = Some(Target { graph: Arc::new(target.numbered(graph)), spec, replaces: None });
                Ok(())
            }
            RolloutVerb::Replace { spec, target, force } => {
                if !self.before.is_running() {
                    return Err(Refusal::Rollout(Rejected {
                        event: "replace",
                        graph: self.before.rollout.graph().clone(),
                        why: Rejection::NotRunning { place: self.before.rollout.status().place },
                    }));
                }
                self.target = Some(Target { graph: Arc::new(target.numbered(graph)), spec, replaces: Some(force) });
                Ok(())
            }
            RolloutVerb::Undo { spec, to } => {
                let last = self.before.rollout.undo_target();
                let view = match to {
                    Some(view) if !self.before.is_running() => view,
                    Some(_) | None => last.map_err(Refusal::Rollout)?,
                };
                let made = self.before.made.get(&view);
                let made = made.ok_or_else(|| Refusal::UnknownVersion { path: self.path(), view })?;
                self.target = Some(Target { graph: Arc::clone(&made.graph), spec, replaces: None });
                Ok(())
            }
            RolloutVerb::Pause => self.tell(Event::Pause, now),
            RolloutVerb::Resume => self.tell(Event::Resume, now),
            RolloutVerb::Promote { full } => self.tell(Event::Promote { full }, now),
            RolloutVerb::Abort { reason, force } => self.tell(Event::Abort { reason, force }, now),
            RolloutVerb::Report(report) => {
                self.is_report = true;
                self.report(report, now)
            }
        }
    }

    fn report(&mut self, report: Report, now: Timestamp) -> Result<(), Refusal> {
        match report {
            Report::Tick => self.tell(Event::Tick, now),
            Report::Applied { sequence } => self.tell(Event::Applied { sequence }, now),
            Report::ApplyFailed { sequence, reason } => self.tell(Event::ApplyFailed { sequence, reason }, now),
            Report::Sample(sample) => self.tell(Event::Sample(sample), now),
            Report::Capacity(report) => self.tell(Event::Capacity(report), now),
            Report::Count { generation, records } => {
                self.count(generation, &records, now);
                Ok(())
            }
        }
    }

    fn count(&mut self, generation: Generation, records: &BTreeMap<ViewId, u64>, now: Timestamp) {
        let left = self.after.draining.iter().filter_map(|draining| {
            let records = records.get(&draining.view()).copied().unwrap_or(0);
            match draining.step(Some(RecordCount { records, generation }), now) {
                (_, Verdict::Retire(_)) => None,
                (next, Verdict::Keep | Verdict::ResetFlows) => Some(next),
            }
        });
        self.after.draining = left.collect();
    }

    /// Tells the engine, and notes which views come and go by what it wants then.
    fn tell(&mut self, event: Event, now: Timestamp) -> Result<(), Refusal> {
        let drain = self.after.drain();
        let (rollout, _) = self.after.rollout.apply(event, now).map_err(Refusal::Rollout)?;
        self.enter(rollout, drain);
        Ok(())
    }

    fn enter(&mut self, rollout: Rollout, drain: Drain) {
        let (before, after) = (self.after.live(), Lineage::live_of(&rollout));
        self.after.rollout = rollout;
        self.after.draining.retain(|draining| !after.contains(&draining.view()));
        self.leaving.retain(|view, _| !after.contains(view));
        self.leaving.extend(before.difference(&after).map(|view| (*view, drain)));
    }

    /// Refuses what a running rollout does not bear.
    pub(crate) fn refuse_running(&self) -> Result<(), Refusal> {
        if self.before.is_running() { Err(self.disturbed()) } else { Ok(()) }
    }

    fn disturbed(&self) -> Refusal {
        Refusal::RolloutRunning { path: self.path(), place: self.before.rollout.status().place }
    }

    fn path(&self) -> ResourcePath {
        ResourcePath::Graph(self.before.rollout.graph().clone())
    }

    /// The versions to build first, while `stable` is the stable one: every view that is installed stays so, and the
    /// target is tried.
    pub(crate) fn trial(&self, stable: &Arc<Graph>) -> Versions {
        let candidate = self.target.as_ref().map(|target| Candidate { graph: Arc::clone(&target.graph), share: 0 });
        let draining = self.before.draining.iter().map(Draining::view);
        let installed: BTreeSet<ViewId> = self.before.live().into_iter().chain(draining).collect();
        let draining = installed.iter().filter_map(|view| self.before.made.get(view));
        let draining = draining.map(|made| &made.graph).filter(|graph| *graph != stable).cloned().collect();
        Versions { candidate, draining }
    }

    /// Whether there is a target that has no number yet.
    pub(crate) const fn has_target(&self) -> bool {
        self.target.is_some()
    }

    /// Takes note of the numbers that an image gave, and tells the engine of what was waiting for them. `stable` is the
    /// graph as it is declared.
    pub(crate) fn see(&mut self, active: &ActiveViews, stable: &Arc<Graph>, now: Timestamp) -> Result<(), Refusal> {
        if let (Some(Target { graph, spec, replaces }), Some(canary)) = (self.target.take(), active.canary) {
            self.after.note(canary.view, &graph, Some(now));
            let target = canary.view.id;
            let event = match replaces {
                None => Event::Start { spec, target },
                Some(force) => Event::Replace { spec, target, force },
            };
            return self.tell(event, now);
        }
        if self.after.is_running() || self.before.is_running() {
            return Ok(());
        }
        self.after.note(active.stable, stable, Some(now));
        if active.stable.id != self.after.rollout.stable() {
            let switched = switched(&self.after.rollout, active.stable.id, now).map_err(Refusal::Rollout)?;
            self.enter(switched, self.after.drain());
        }
        Ok(())
    }

    /// What is to be declared of the graph; `active` is what was built last. A version that is not installed any more, since
    /// it does not mean the same any more, has no flows to wait for.
    pub(crate) fn arrange(&self, active: &ActiveViews) -> Option<(Arc<Graph>, Versions)> {
        let installed: BTreeSet<ViewId> = active.installed().map(|view| view.id).collect();
        self.after.declared(self.leaving.keys().copied(), |view| installed.contains(&view))
    }

    /// The versions after the command, given what was built in the end.
    ///
    /// # Errors
    /// A view of a running rollout is not what it was, or not installed.
    pub(crate) fn close(
        mut self,
        active: &ActiveViews,
        generation: Generation,
        now: Timestamp,
    ) -> Result<Closed, Refusal> {
        let draining: BTreeSet<ViewId> = active.draining.iter().map(|view| view.id).collect();
        let placement = self.after.rollout.placement();
        let canary = active.canary.map(|canary| (canary.view.id, canary.share));
        let is_placed = active.stable.id == placement.stable
            && canary == placement.candidate.map(|(view, share)| (view, share.get()))
            && self.after.waiting().is_none_or(|waiting| active.installed().any(|view| view.id == waiting));
        if !is_placed {
            return Err(self.disturbed());
        }
        self.after.draining.retain(|old| draining.contains(&old.view()));
        let leaving = self.leaving.iter().filter(|(view, _)| draining.contains(view));
        self.after.draining.extend(leaving.map(|(view, drain)| Draining::new(*view, generation, *drain, now)));
        self.after.forget();
        let is_visible = if self.is_report { !self.after.looks_like(&self.before) } else { self.after != *self.before };
        let lineage = if self.after == *self.before { self.before } else { Arc::new(self.after) };
        Ok(Closed { lineage, is_visible })
    }
}

/// The end of a turn.
pub(crate) struct Closed {
    pub(crate) lineage: Arc<Lineage>,
    /// Whether anybody can see a difference; figures alone are none.
    pub(crate) is_visible: bool,
}

/// An ordinary change of a graph is a rollout without steps whose commands nobody waits for. So it is in the history, and
/// can be undone.
fn switched(rollout: &Rollout, target: ViewId, now: Timestamp) -> Result<Rollout, Rejected> {
    let (mut next, mut command) = rollout.apply(Event::Start { spec: CheckedSpec::default(), target }, now)?;
    while let Some(Command { sequence, .. }) = command {
        (next, command) = next.apply(Event::Applied { sequence }, now)?;
    }
    Ok(next)
}
