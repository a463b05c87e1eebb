//! Cordon: agent.
pub mod actions;
pub mod child;
