//! Desired state: a deterministic state machine, its durable store, and the one writer that drives the data path.
//!
//! ```text
//! Command --DesiredState::apply--> Applied --Store::commit--> durable --DataPlane::prepare, enter--> programmed
//!            pure, all or nothing             fsync                     level-triggered
//! ```
//!
//! [`ControlPlane`] runs that line, one group of waiting commands at a time. A command is answered after it is durable
//! and the data path has been given the result. [`DesiredState`] knows neither clock nor task nor file: commands in,
//! state out, the same everywhere.

mod apply;
mod clock;
mod command;
mod control;
mod dataplane;
mod memo;
mod numbers;
mod plan;
mod resource;
mod restore;
mod rollout;
mod state;
mod store;

pub use clock::{Clock, SystemClock};
pub use command::{Action, Change, Command, Operation, Precondition, REQUEST_ID_MAX, Refusal, Rejected};
pub use control::{ControlOptions, ControlPlane, Outcome, Programmed, WriteError};
pub use dataplane::{
    Census, Counters, DataPlane, DataPlaneError, DataPlaneStatus, FlowEntry, FlowPage, FlowQuery, FlowUsage, Hop,
    HopReason, HopTarget, Installed, Observer, PendingPort, PendingReason, PortOwner, Reaper, Trace, TraceEnd,
    TraceQuery, ViewCensus, ViewCounters,
};
pub use memo::RequestMemo;
pub use resource::{
    AttachmentSpec, FunctionSpec, GraphSpec, InstanceSpec, Kind, PathError, ReplicaSetSpec, Resource, ResourcePath,
    TenantSpec,
};
pub use rollout::{Report, Role, RolloutVerb, VERSIONS_KEPT, Version};
pub use state::{Applied, DesiredState, Entry, REQUESTS_REMEMBERED, Setting};
pub use store::{FORMAT, Store, StoreError};
