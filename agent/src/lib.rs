//! Cordon's agent: the program on an endpoint.
//!
//! | module | noun |
//! |---|---|
//! | [`session`] | the session with a coordinator: a machine that decides without IO, and its driver |
//! | [`journal`] | what was about to be done and how it ended, durable before the act and before the report |
//! | [`guard`] | the host's own policy: a coordinator can only narrow it |
//! | [`runner`] | one attempt: deadline, cancel, panic, size of its output |
//! | [`actions`] | what this agent can do; what is risky happens in a [`child`] |
//! | [`isolation`] | the host's firewall |
//! | [`evidence`], [`probe`] | what actions use of the cluster |
//! | [`enroll`], [`renew`] | how an agent gets and keeps its identity |
//! | [`config`], [`facts`], [`cli`] | `agent.toml`, what the host says of itself, the program |
//!
//! What holds: an attempt runs at most once, over all crashes; nothing acts before its intent is on disk, and
//! nothing is reported before its outcome is; what is urgent never waits for what is not; every attempt has
//! a named end.
//!
//! What is deliberately absent: a shell, a listener, a way to change the local policy from afar.

pub mod actions;
pub mod child;
pub mod cli;
pub mod config;
pub mod enroll;
pub mod evidence;
pub mod facts;
pub mod guard;
#[cfg(target_os = "linux")]
pub mod isolation;
pub mod journal;
mod killpoint;
pub mod probe;
pub mod renew;
pub mod runner;
pub mod session;
