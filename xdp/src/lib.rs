//! The data plane's user side: loads the programs, writes images into the maps, watches over flows.
//!
//! ```text
//! Image --desired--> entries --install--> maps, one word switches the plan
//!                                 Agent: links, sweep, events        Watcher: status, counters, flows, trace
//! ```

mod agent;
mod ask;
mod cache;
mod clock;
mod desired;
mod error;
mod events;
mod expedite;
mod grace;
mod install;
mod links;
pub mod loader;
mod maps;
mod object;
mod observe;
mod regions;
mod reset;
mod sys;
mod views;

pub use agent::{Agent, FRONT_END_MAC, IdleLimits, Options};
pub use error::{Error, Result};
