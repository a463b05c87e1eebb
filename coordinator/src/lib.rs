//! Cordon: coordinator.

pub mod raft;
pub mod storage;
