//! Everything the kernel side and the user side of the data plane must agree on: ids, map structs, map names,
//! drop reasons, counters. No logic.
//!
//! Map structs are `repr(C)`, have no implicit padding and accept every bit pattern: the zerocopy derives prove both.
//! [`LAYOUT_VERSION`] names the pin directory; `LAYOUT.txt` is the golden listing a test compares.
#![no_std]

pub mod addr;
pub mod cache;
pub mod config;
pub mod counter;
pub mod event;
pub mod flow;
pub mod id;
pub mod names;
pub mod plan;
pub mod port;
pub mod reason;
#[cfg(feature = "user")]
mod user;

pub use addr::Addr;
pub use counter::Counter;
pub use id::{AttachmentId, Generation, GraphId, InstanceId, NodeId, Position, ReplicaSetId, TenantId, ViewId};
pub use reason::DropReason;

/// Version of every layout in this crate, part of the pin path. Raised by any change of size, offset or meaning.
pub const LAYOUT_VERSION: u32 = 4;
