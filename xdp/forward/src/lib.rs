//! The forwarding core: one frame in, one [`Verdict`] out; no clock, no allocation, no kernel constants.
//!
//! [`step`] runs in XDP, in tc and on the host; what it reads and writes are the traits in [`tables`] and [`frame`].
#![no_std]
#[cfg(feature = "host")]
extern crate std;

pub mod cache;
mod control;
pub mod frame;
#[cfg(feature = "host")]
pub mod host;
pub mod key;
pub mod overlay;
pub mod parse;
mod record;
mod route;
mod step;
pub mod sweep;
pub mod tables;
pub mod verdict;
pub mod walk;
pub mod wire;

pub use step::{Arrival, Scratch, Workspace, step};
pub use verdict::{Delivery, Verdict};
pub use walk::{Path, Question, recompute};
