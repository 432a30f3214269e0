//! Rollouts of graphs as a part of the desired state: their engines, their versions, and what drains.

mod lineage;
mod verb;
mod version;

pub(crate) use lineage::Lineage;
pub use lineage::VERSIONS_KEPT;
pub use verb::{Report, RolloutVerb};
pub use version::{Role, Version};
