//! The wire: `cordon.v1`, as prost and tonic make it from `cordon/v1/*.proto`. Types only.
//!
//! One file per party: `operator`, `agent`, `enroll`, `peer`. What is deliberately absent: conversions
//! (each caller converts by hand at its edge, so that the core never depends on the wire) and logic.

/// Messages, clients and servers of the package `cordon.v1`.
#[allow(clippy::all, clippy::semicolon_if_nothing_returned, clippy::large_futures)]
pub mod v1 {
    tonic::include_proto!("cordon.v1");
}

/// The encoded `FileDescriptorSet` of the protocol: what a test walks to see every RPC.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cordon.descriptors"));
