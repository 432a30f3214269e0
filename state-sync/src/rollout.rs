//! Rollouts of graphs as a part of the desired state: their engines, their versions, and what drains.

mod lineage;
mod turn;
mod verb;
mod version;

pub use lineage::VERSIONS_KEPT;
pub(crate) use lineage::{Lineage, Made};
pub(crate) use turn::Turn;
pub use verb::{Report, RolloutVerb};
pub use version::{Role, Version};
