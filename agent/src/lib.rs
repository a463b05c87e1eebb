//! Cordon: agent.
pub mod actions;
