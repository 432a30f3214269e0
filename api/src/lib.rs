//! Northbound gRPC API.

/// Generated message types, clients and servers of `switchyard.v1`.
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("switchyard.v1");
}
