//! Counts of records: how much room there is, which views have drained, whose flows are to be reset.
//!
//! All of it walks the connection table, so it is done on a thread of its own, one walk at a time. A count answers what was
//! asked before it began; what has changed since is told by the generation that the count itself read.

use super::errand::Errand;
use super::{Writer, measure};
use crate::dataplane::{Census, DataPlaneError};
use crate::rollout::Report;
use crate::state::DesiredState;
use chain_graph::Image;
use chain_graph::model::ObjectKey;
use chain_graph::rollout::{self, Action, Draining, RecordCount, Sequence, Span, Timestamp, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use xdp_layout::{Generation, TenantId, ViewId};

/// Least time between the beginnings of two counts.
const INTERVAL: Span = Span::from_secs(1);
/// One part in so many of a processor's time may go into counts while nobody waits for them: 2 %.
const SHARE: u32 = 50;

/// A view of a tenant.
type Viewed = (TenantId, ViewId);

/// What is known of counts, and the walk under way.
#[derive(Default)]
pub(super) struct Counting {
    walk: Option<Errand<Result<Count, DataPlaneError>>>,
    /// Views whose flows the walk resets.
    resetting: BTreeSet<Viewed>,
    /// When the last count began.
    began: Option<Timestamp>,
    /// What it cost.
    cost: Duration,
    /// The questions for room that had been asked by then.
    asked: BTreeMap<ObjectKey, Sequence>,
    /// Those that had been asked when the last one began that has ended, well or not.
    told: BTreeMap<ObjectKey, Sequence>,
}

/// A count that has ended.
pub(super) struct Count {
    census: Census,
    /// The questions for room that it answers.
    asked: BTreeMap<ObjectKey, Sequence>,
    /// Views whose flows were reset because of it, and whether they all were.
    reset: BTreeMap<Viewed, bool>,
}

impl Counting {
    /// What the walk under way brings; waits forever if there is none.
    pub(super) async fn ended(&mut self) -> Result<Count, DataPlaneError> {
        let Some(walk) = &mut self.walk else { return std::future::pending().await };
        let result = walk.result().await;
        self.walk = None;
        self.resetting.clear();
        self.told.clone_from(&self.asked);
        let (operation, cause) = ("walk over the connection table", "it panicked");
        result.unwrap_or_else(|| Err(DataPlaneError { operation: operation.to_owned(), cause: cause.to_owned() }))
    }

    /// Whether a count has ended that began after this question.
    pub(super) fn has_told(&self, graph: &ObjectKey, question: Sequence) -> bool {
        self.told.get(graph) == Some(&question)
    }

    /// While the flows of a view are being reset, none may begin in it: waits for the end of that before an image is entered
    /// by which new flows take such a view. Rare: somebody undoes a change at the very end of its drain.
    pub(super) fn await_resets(&mut self, image: &Image) {
        let is_active = |(tenant, view): &Viewed| {
            let mut graphs = image.plan().content().graphs.values().filter(|graph| graph.tenant == *tenant);
            graphs.any(|graph| graph.stable.id == *view || graph.canary.is_some_and(|canary| canary.view.id == *view))
        };
        if let Some(walk) = &mut self.walk
            && self.resetting.iter().any(is_active)
        {
            walk.wait();
        }
    }

    /// Whether records are to be counted: at once for a question that is new and when a view is overdue, else from time to
    /// time while anything drains or asks for room.
    fn is_due(&self, asked: &BTreeMap<ObjectKey, Sequence>, draining: &[&Draining], now: Timestamp) -> bool {
        if asked.iter().any(|(key, sequence)| self.asked.get(key) != Some(sequence)) {
            return true;
        }
        let Some(began) = self.began else { return !draining.is_empty() };
        let is_overdue = |view: &&Draining| view.is_overdue(now) && !view.is_overdue(began);
        // A clock that was set back makes it due.
        let has_passed = |span: Span| now < began || now.since(began) >= span;
        match (asked.is_empty(), draining.is_empty()) {
            (true, true) => false,
            (true, false) => draining.iter().any(is_overdue) || has_passed(interval(self.cost)),
            (false, _) => has_passed(INTERVAL),
        }
    }
}

/// Time between two counts that nobody waits for.
fn interval(cost: Duration) -> Span {
    let millis = u64::try_from(cost.saturating_mul(SHARE).as_millis()).unwrap_or(u64::MAX);
    INTERVAL.max(Span::from_millis(millis))
}

/// The rollouts that ask for room, each with its command.
fn questions(state: &DesiredState) -> impl Iterator<Item = (ObjectKey, rollout::Command)> {
    super::follow::commands(state).into_iter().filter(|(_, command)| command.action == Action::ReportCapacity)
}

/// The questions for room.
pub(super) fn asked(state: &DesiredState) -> BTreeMap<ObjectKey, Sequence> {
    questions(state).map(|(key, command)| (key, command.sequence)).collect()
}

impl Writer {
    /// Begins to count records if that is due and no walk is under way.
    pub(super) fn count_if_due(&mut self, now: Timestamp) {
        let state = self.state();
        let asked = asked(&state);
        let draining: Vec<&Draining> = state.draining().map(|(_, draining)| draining).collect();
        if self.counting.walk.is_some() || !self.counting.is_due(&asked, &draining, now) {
            return;
        }
        (self.counting.began, self.counting.asked) = (Some(now), asked.clone());
        let observer = Arc::clone(&self.observer);
        self.walk(move || Ok(Count { census: observer.census()?, asked, reset: BTreeMap::new() }));
    }

    fn walk(&mut self, walk: impl FnOnce() -> Result<Count, DataPlaneError> + Send + 'static) {
        match Errand::start("count", walk) {
            Ok(walk) => self.counting.walk = Some(walk),
            Err(error) => tracing::warn!(%error, "records not counted: no thread could be started"),
        }
    }

    /// Tells the state machine of a count. Flows are reset before that is noted: done twice it does no harm, left out it
    /// would. So a count by which flows are to be reset is kept until they are, and looked at again.
    pub(super) fn counted(&mut self, count: Result<Count, DataPlaneError>) {
        let mut count = match count {
            Ok(count) => count,
            Err(error) => {
                tracing::warn!(%error, "records not counted");
                return;
            }
        };
        self.counting.cost = count.census.cost;
        self.tell_room(&mut count);
        let now = self.clock.now();
        let overdue = self.overdue(&count, now);
        if overdue.is_empty() {
            // All at once: views that retire together are one plan and one installation.
            let reports = self.reports(&count, now);
            self.report_all(reports, now);
        } else {
            self.reset(count, overdue);
        }
    }

    /// Answers the questions that had been asked when the count began.
    fn tell_room(&mut self, count: &mut Count) {
        let asked = std::mem::take(&mut count.asked);
        for (key, command) in questions(&self.state()) {
            if asked.get(&key) == Some(&command.sequence) {
                self.tell_capacity((&key, command.sequence), (command.stable, command.target), &count.census);
            }
        }
    }

    fn tell_capacity(&mut self, (key, sequence): (&ObjectKey, Sequence), views: (ViewId, ViewId), census: &Census) {
        let Some(in_force) = &self.in_force else { return };
        let pending = self.pending();
        let report = measure::capacity(&self.state(), in_force, (key, sequence), views, (census, &pending));
        if let Some(report) = report {
            self.report(key, Report::Capacity(report));
        }
    }

    /// The views whose flows are to be reset by a count and were not yet.
    fn overdue(&self, count: &Count, now: Timestamp) -> BTreeSet<Viewed> {
        let state = self.state();
        let all = drained(&state, &count.census).into_iter().flat_map(|graph| graph.overdue(now));
        all.filter(|view| !count.reset.contains_key(view)).collect()
    }

    fn reset(&mut self, count: Count, views: BTreeSet<Viewed>) {
        self.counting.resetting.clone_from(&views);
        let reaper = Arc::clone(&self.reaper);
        self.walk(move || {
            let mut count = count;
            for (tenant, view) in views {
                let result = reaper.reset_flows(tenant, view);
                match &result {
                    Ok(flows) => tracing::info!(%tenant, %view, flows, "flows of a draining view reset"),
                    Err(error) => tracing::warn!(%tenant, %view, %error, "flows of a draining view not reset"),
                }
                count.reset.insert((tenant, view), result.is_ok());
            }
            Ok(count)
        });
    }

    /// What a count says of every graph that has draining views, apart from those with flows that could not be reset.
    fn reports(&self, count: &Count, now: Timestamp) -> Vec<(ObjectKey, Report)> {
        let is_reset = |view: &Viewed| count.reset.get(view).is_some_and(|is_reset| *is_reset);
        let state = self.state();
        let graphs = drained(&state, &count.census).into_iter();
        let graphs = graphs.filter(|graph| graph.overdue(now).iter().all(is_reset));
        graphs.map(|graph| (graph.key.clone(), graph.report())).collect()
    }
}

/// The draining views of a graph with what a count found.
struct Drained<'a> {
    key: &'a ObjectKey,
    tenant: TenantId,
    /// The plan by which the count began.
    generation: Generation,
    views: Vec<(&'a Draining, u64)>,
}

/// The graphs that have draining views; none if the count cannot be told by a plan.
fn drained<'a>(state: &'a DesiredState, census: &Census) -> Vec<Drained<'a>> {
    let Some(generation) = census.generation else { return Vec::new() };
    let graphs = state.lineages.iter().filter(|(_, lineage)| !lineage.draining.is_empty());
    let graphs = graphs.filter_map(|(key, lineage)| Some((key, measure::tenant(state, key)?, &lineage.draining)));
    let records = |tenant, view: &Draining| census.views.get(&(tenant, view.view())).map_or(0, |found| found.records);
    let drained = graphs.map(|(key, tenant, draining)| {
        let views = draining.iter().map(|view| (view, records(tenant, view))).collect();
        Drained { key, tenant, generation, views }
    });
    drained.collect()
}

impl Drained<'_> {
    /// The views whose flows are to be reset.
    fn overdue(&self, now: Timestamp) -> Vec<Viewed> {
        let count = |records| RecordCount { records, generation: self.generation };
        let overdue =
            self.views.iter().filter(|(view, records)| view.step(Some(count(*records)), now).1 == Verdict::ResetFlows);
        overdue.map(|(view, _)| (self.tenant, view.view())).collect()
    }

    fn report(&self) -> Report {
        let records = self.views.iter().map(|(view, records)| (view.view(), *records)).collect();
        Report::Count { generation: self.generation, records }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chain_graph::rollout::{Drain, DrainPolicy};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn draining(deadline: Span) -> Draining {
        let drain = Drain { policy: DrainPolicy::Reset, deadline };
        Draining::new(ViewId::new(1).expect("a number"), Generation::new(2).expect("a number"), drain, NOW)
    }

    /// Counted at `NOW`, at this cost.
    fn counted(cost: Duration) -> Counting {
        Counting { began: Some(NOW), cost, ..Counting::default() }
    }

    #[test]
    fn counts_that_nobody_waits_for_take_two_percent_of_a_processor() {
        let view = draining(Span::from_secs(3600));
        let is_due = |cost: u64, after: u64| {
            let now = NOW.after(Span::from_millis(after));
            counted(Duration::from_millis(cost)).is_due(&BTreeMap::new(), &[&view], now)
        };
        assert!(!is_due(1, 999) && is_due(1, 1000), "never within a second");
        assert!(!is_due(200, 9999) && is_due(200, 10_000));
    }

    #[test]
    fn a_view_that_is_overdue_does_not_wait_for_the_next_count() {
        let view = draining(Span::from_secs(5));
        let dear = counted(Duration::from_secs(1));
        let due = |millis| dear.is_due(&BTreeMap::new(), &[&view], NOW.after(Span::from_millis(millis)));
        assert!(!due(4999) && due(5000));
        let later = Counting { began: Some(NOW.after(Span::from_secs(5))), ..dear };
        assert!(!later.is_due(&BTreeMap::new(), &[&view], NOW.after(Span::from_secs(6))), "once");
    }

    #[test]
    fn nothing_is_counted_for_nobody() {
        assert!(!Counting::default().is_due(&BTreeMap::new(), &[], NOW));
        assert!(
            Counting::default().is_due(&BTreeMap::new(), &[&draining(Span::from_secs(5))], NOW),
            "the first at once"
        );
    }
}
