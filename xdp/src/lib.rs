//! The data plane's user side: loads the programs, writes a plan's image into the maps, watches over flows.

mod error;
pub mod loader;
mod object;
mod sys;

pub use error::{Error, Result};
