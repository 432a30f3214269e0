//! Images: everything the data plane needs, by id, for one plan.
//!
//! An image is made of parts that are shared with the image before: one for each tenant, one for each network function,
//! one table for each replica set. Making the next image costs in proportion to what changed, and so does finding the
//! changes for whoever installs it, see [`crate::map`].

mod build;
mod function;
mod table;
mod tenant;
mod views;

pub use function::{FunctionImage, InstanceImage, InstancePort};
pub use table::BuiltTable;
pub use tenant::{AttachmentImage, PortBinding, PortName, Route, TenantImage};
pub use views::GraphImage;

use crate::check::Checked;
use crate::map::Map;
use crate::model::ResourceName;
use crate::plan::Plan;
use build::Builder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use xdp_layout::{InstanceId, ReplicaSetId, TenantId, ViewId};

/// What the whole cluster has in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cluster {
    /// Life of the cluster; a restore from a backup starts a new one.
    pub incarnation: u64,
    /// SipHash key of instance selection, tables and canary cohorts.
    pub seed: [u64; 2],
}

/// Why no image can be made of a declaration without violations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The tenant has used up its view numbers; they are never reused.
    #[error("build image: tenant {tenant} has used all {} view numbers", ViewId::MAX)]
    ViewsExhausted {
        /// The tenant.
        tenant: ResourceName,
    },
    /// A replica set's table cannot be built.
    #[error("build image: table of replica set {set}")]
    Table {
        /// The replica set.
        set: ReplicaSetId,
        /// Why.
        source: maglev::BuildError,
    },
    /// A function's declared maximum of members has no table size.
    #[error("build image: tables of network function {function}")]
    TableSize {
        /// The function.
        function: ResourceName,
        /// Why.
        source: maglev::SizeError,
    },
}

/// Everything the data plane needs for one plan.
#[derive(Clone, Debug)]
pub struct Image {
    checked: Checked,
    plan: Arc<Plan>,
    tenants: Map<TenantId, Arc<TenantImage>>,
    functions: Map<ResourceName, Arc<FunctionImage>>,
    tables: Map<ReplicaSetId, Arc<BuiltTable>>,
    down: Arc<BTreeSet<InstanceId>>,
}

impl Image {
    /// Builds the image of a declaration. The plan stays that of `before` if nothing changed that a path depends on; else it
    /// is the next one.
    ///
    /// A version of a graph whose content is that of a view installed in `before`, whichever part it plays there, keeps that
    /// view's number: so a candidate that becomes stable does, and a draining version that becomes stable again. Other
    /// content gets the tenant's next number. A draining version has flows only under the number of an installed view, so
    /// one that amounts to none is left out.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(before: Option<&Self>, checked: &Checked, cluster: Cluster) -> Result<Self, BuildError> {
        Builder::new(before, before.map(|before| &*before.plan), checked, cluster).build()
    }

    /// Builds the image after a restart, when only the plan is left of the image before. Views keep their numbers, draining
    /// ones too, and the plan stays as it is if the declaration still amounts to it.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn resume(plan: &Plan, checked: &Checked, cluster: Cluster) -> Result<Self, BuildError> {
        Builder::new(None, Some(plan), checked, cluster).build()
    }

    /// The declaration it was made from.
    pub fn checked(&self) -> &Checked {
        &self.checked
    }
    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
    /// Tenants.
    pub fn tenants(&self) -> &Map<TenantId, Arc<TenantImage>> {
        &self.tenants
    }
    /// Network functions.
    pub fn functions(&self) -> &Map<ResourceName, Arc<FunctionImage>> {
        &self.functions
    }
    /// Tables; a replica set without a member of positive weight has none.
    pub fn tables(&self) -> &Map<ReplicaSetId, Arc<BuiltTable>> {
        &self.tables
    }
    /// Instances that are declared down: an overlay, part of no plan.
    pub fn down(&self) -> &BTreeSet<InstanceId> {
        &self.down
    }
}
