//! Service graphs and what becomes of them.
//!
//! ```text
//! Desired --check--> Checked --compile--> View (one per graph version)
//!                       \                  |
//!                        +---- Image::build+--> Image { Plan, views, tables, routes, ... }
//! ```
//!
//! Pure: no I/O, no clock, no threads. The same input gives the same bytes, whatever the order it was put together in.
//! What a user declares is in [`model`]; nothing else of this crate accepts it unchecked.

pub mod model;
mod name;
mod net;

pub mod check;
mod cidr;
pub mod diff;
mod digest;
pub mod image;
pub mod map;
mod outside;
pub mod phase;
pub mod plan;
pub mod rollout;
mod tables;
pub mod view;

pub use check::{Checked, Violation, ViolationKind, check, check_after, check_capacity};
pub use cidr::{Cidr, addr_of};
pub use diff::{Comparison, Diff};
pub use image::{BuildError, BuiltTable, Cluster, Image};
pub use plan::Plan;
pub use tables::ImageTables;
pub use view::{View, ViewContent};
