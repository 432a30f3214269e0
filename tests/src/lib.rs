//! Network-namespace testbed: hosts, real network functions, load and independent judges.
//!
//! A [`Testbed`] owns one *node* namespace, in which a front end runs and in which every
//! node-side veth end lives, so that parallel testbeds never see each other and the host's own
//! namespace stays untouched. Around it stand [`Host`]s (clients, servers) and the network
//! functions of [`nf`], each in a namespace of its own:
//!
//! ```text
//!  Host eth0 --- veth ---+                    +--- veth --- in  NF  out --- veth ---+
//!                        |  node namespace    |                                     |
//!  Host eth0 --- veth ---+  (the front end) --+-------------------------------------+
//! ```
//!
//! Everything is removed on drop; what a crashed process left behind is swept by the next
//! testbed. Whether packets went where they should is judged by [`Recorder`]s inside the
//! instances' namespaces and by the end points, never by the front end's own counters.
//!
//! This crate's library depends on no other crate of the workspace: [`FrontEnd`] runs the built program as a user would.

mod drops;
mod error;
mod evidence;
mod front_end;
mod host;
mod link;
pub mod measure;
mod namespace;
pub mod nf;
pub mod preflight;
mod process;
mod recorder;
pub mod scenario;
mod sys;
mod testbed;
#[cfg(target_arch = "x86_64")]
pub mod trace;
pub mod traffic;

pub use drops::{KernelDrop, KernelDrops};
pub use error::{Error, Result};
pub use evidence::{Evidence, Flow, Witnesses};
pub use front_end::{Documents, FrontEnd, Ran, binary};
pub use host::{Host, HostConfig};
pub use link::{LinkEnd, MacAddr, Offloads, ParseMacError, Route, bridge, veth};
pub use namespace::Namespace;
pub use preflight::requirements;
pub use process::Process;
pub use recorder::{Count, FiveTuple, Kind, Recorder, Recording, Sighting, Way};
pub use testbed::{Node, Testbed, Uplink};
