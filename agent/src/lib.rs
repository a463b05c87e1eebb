//! Cordon's agent: the program on an endpoint.
//!
//! [`session`] decides (sans-IO), and carries what it decided to and from a coordinator; [`actions`] act,
//! what is risky in a [`child`].

pub mod actions;
pub mod child;
#[cfg(target_os = "linux")]
pub mod isolation;
pub mod session;
