//! Weighted Maglev hashing.
//!
//! A table maps a flow's hash to one member of a replica set. The construction follows Eisenbud et al., "Maglev: A Fast and
//! Reliable Software Network Load Balancer", NSDI 2016, section 3.4: every member walks the slots in its own pseudo-random order
//! and the members take turns at claiming the next free slot of their walk.
//!
//! - The lookup ([`pick`]) needs neither `std` nor an allocator and runs inside eBPF programs (`default-features = false`).
//! - The construction (feature `build`, on by default) is deterministic: same members, weights, size and key give the same bytes on
//!   every node, in whatever order the members are listed.
//! - A member that is *down* stays in the table; the lookup steps over it, so only its own keys move and they come back to it.
//!
//! This crate knows nothing of instances, tenants or maps: a member is a name and a weight when a table is built, and an index when
//! it is looked up.
#![no_std]

#[cfg(feature = "build")]
extern crate alloc;

mod lookup;

#[cfg(feature = "build")]
mod build;
#[cfg(feature = "build")]
mod digest;
#[cfg(feature = "build")]
mod disruption;
#[cfg(feature = "build")]
mod quota;
#[cfg(feature = "build")]
mod size;

pub use lookup::{ATTEMPTS, MAX_MEMBERS_SCAN, Pick, REHASHES, Table, candidate, mix, pick, slot};

#[cfg(feature = "build")]
pub use self::{
    build::{BuildError, BuiltTable, MAX_MEMBERS, Member, build},
    digest::digest,
    disruption::{DisruptionError, MemberChange, Report, Side, disruption},
    size::{SizeError, TableSize},
};
