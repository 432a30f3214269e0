//! The versions of one graph over time.

use super::{Role, Version};
use crate::GraphSpec;
use chain_graph::model::{Candidate, Graph, ObjectKey, Versions};
use chain_graph::plan::ViewRef;
use chain_graph::rollout::{CheckedSpec, Drain, Draining, Phase, Rollout, Run, State, Timestamp, Why};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xdp_layout::ViewId;

/// Versions of a graph that are remembered. More are kept only while they are installed.
pub const VERSIONS_KEPT: usize = 32;

/// The versions of one graph: the engine that decides between them, their content, and those that drain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lineage {
    pub(crate) rollout: Rollout,
    /// Every version that is remembered, retired ones too.
    pub(crate) made: BTreeMap<ViewId, Arc<Made>>,
    /// In the order in which they left.
    pub(crate) draining: Vec<Draining>,
}

/// What a version says, and where it comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) parent: Option<ViewId>,
    pub(crate) graph: Arc<Graph>,
    pub(crate) at: Option<Timestamp>,
}

impl Lineage {
    /// Of a graph with one version. `at` is when that was declared, if it is known.
    pub(crate) fn new(key: ObjectKey, stable: ViewRef, graph: &Arc<Graph>, at: Option<Timestamp>) -> Self {
        let rollout = Rollout::new(key, stable.id);
        let mut lineage = Self { rollout, made: BTreeMap::new(), draining: Vec::new() };
        lineage.note(stable, graph, at);
        lineage
    }

    /// The rollout that is running.
    pub(crate) fn run(&self) -> Option<&Run> {
        run(&self.rollout)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.run().is_some()
    }

    /// The target of the rollout that begins when the running one has ended.
    pub(crate) fn waiting(&self) -> Option<ViewId> {
        waiting(&self.rollout)
    }

    /// The views that the rollout needs: those of its placement, and the one that waits.
    pub(crate) fn live(&self) -> BTreeSet<ViewId> {
        Self::live_of(&self.rollout)
    }

    pub(super) fn live_of(rollout: &Rollout) -> BTreeSet<ViewId> {
        let placement = rollout.placement();
        let candidate = placement.candidate.map(|(view, _)| view);
        [placement.stable].into_iter().chain(candidate).chain(waiting(rollout)).collect()
    }

    /// How views drain that leave by the rollout.
    pub(super) fn drain(&self) -> Drain {
        self.run().map_or_else(|| CheckedSpec::default().get().drain, |run| run.spec.get().drain)
    }

    /// Remembers what a view says. It may have been written otherwise before, and say the same.
    pub(super) fn note(&mut self, view: ViewRef, graph: &Arc<Graph>, at: Option<Timestamp>) {
        let known = self.made.get(&view.id);
        if known.is_none_or(|known| known.graph != *graph) {
            let at = known.map_or(at, |known| known.at);
            self.made.insert(view.id, Arc::new(Made { parent: view.parent, graph: Arc::clone(graph), at }));
        }
    }

    /// What is to be declared of the graph for its rollout to have what it needs, and for what is draining and installed, and
    /// `leaving`, to stay. `None` if the content of a live view is not known.
    pub(crate) fn declared(
        &self,
        leaving: impl Iterator<Item = ViewId>,
        is_installed: impl Fn(ViewId) -> bool,
    ) -> Option<(Arc<Graph>, Versions)> {
        let graph = |view: ViewId| self.made.get(&view).map(|made| Arc::clone(&made.graph));
        let placement = self.rollout.placement();
        let mut candidate = None;
        if let Some((view, share)) = placement.candidate {
            candidate = Some(Candidate { graph: graph(view)?, share: share.get() });
        }
        let is_placed = |view: ViewId| {
            view == placement.stable || placement.candidate.is_some_and(|(candidate, _)| candidate == view)
        };
        let beside = self.draining.iter().map(Draining::view).chain(leaving).chain(self.waiting());
        let beside: BTreeSet<ViewId> = beside.filter(|view| is_installed(*view) && !is_placed(*view)).collect();
        let draining = beside.into_iter().filter_map(graph).collect();
        Some((graph(placement.stable)?, Versions { candidate, draining }))
    }

    /// Forgets the oldest versions that are not installed, if there are too many.
    pub(super) fn forget(&mut self) {
        let surplus = self.made.len().saturating_sub(VERSIONS_KEPT);
        let retired = self.made.keys().copied().filter(|view| self.role(*view) == Role::Retired);
        let oldest: Vec<ViewId> = retired.take(surplus).collect();
        for view in oldest {
            self.made.remove(&view);
        }
    }

    /// Whether nobody can tell the two apart who does not look at figures.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        let (own, others) = (&self.rollout, &other.rollout);
        own.placement() == others.placement()
            && own.command() == others.command()
            && own.status().place == others.status().place
            && self.waiting() == other.waiting()
            && self.draining == other.draining
            && self.made == other.made
    }

    /// For people, the newest first: numbers rise.
    pub(crate) fn versions(&self) -> Vec<Version> {
        let version = |(view, made): (&ViewId, &Arc<Made>)| Version {
            view: *view,
            parent: made.parent,
            spec: GraphSpec::from(&*made.graph),
            made: made.at,
            role: self.role(*view),
        };
        self.made.iter().rev().map(version).collect()
    }

    fn role(&self, view: ViewId) -> Role {
        if view == self.rollout.placement().stable {
            Role::Stable
        } else if self.live().contains(&view) {
            Role::Candidate
        } else if self.draining.iter().any(|draining| draining.view() == view) {
            Role::Draining
        } else {
            Role::Retired
        }
    }
}

fn run(rollout: &Rollout) -> Option<&Run> {
    match rollout.state() {
        State::Running(run) => Some(run),
        State::Idle | State::Completed(_) => None,
    }
}

fn waiting(rollout: &Rollout) -> Option<ViewId> {
    match &run(rollout)?.phase {
        Phase::Aborting { why: Why::Superseded(next) | Why::Failed(_, Some(next)), .. } => Some(next.target),
        Phase::Aborting { why: Why::Failed(_, None), .. }
        | Phase::Installing(_)
        | Phase::Progressing(_)
        | Phase::Paused(_)
        | Phase::Promoting(_) => None,
    }
}
