//! What coordinators say to each other besides replication: `client` asks, `service` answers.

pub mod client;
pub mod service;
