//! Northbound API: `switchyard.v1` over gRPC.
//!
//! ```text
//! client --> server --> service/* --convert--> state_sync::Command --> ControlPlane
//!               |           |
//!            requests     error (google.rpc.Status with details)
//! ```
//!
//! Requests become commands of the state machine, with every violation of every field reported at once; what the state
//! machine and the data path answer becomes messages again. Nothing is decided here.

pub mod client;
mod convert;
mod document;
pub mod error;
pub mod fields;
mod message;
pub mod metrics;
mod page;
mod requests;
pub mod server;
mod service;

pub use server::{Address, Listener, ServeError, serve};
pub use tonic_types::StatusExt;

/// Generated message types, clients and servers of `switchyard.v1`. Resource messages have a serial form, the `spec` of
/// documents: field names in camel case, defaults left out, output-only fields and names not in it.
#[allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("switchyard.v1");
}
