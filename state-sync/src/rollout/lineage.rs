//! The versions of one graph over time.

use super::{Role, Version};
use crate::GraphSpec;
use chain_graph::model::Graph;
use chain_graph::rollout::{Draining, Rollout, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    pub(crate) const fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    pub(crate) fn draining(&self) -> &[Draining] {
        &self.draining
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
        let placement = self.rollout.placement();
        if view == placement.stable {
            Role::Stable
        } else if placement.candidate.is_some_and(|(candidate, _)| candidate == view) {
            Role::Candidate
        } else if self.draining.iter().any(|draining| draining.view() == view) {
            Role::Draining
        } else {
            Role::Retired
        }
    }
}
