//! The agent's side of a session with a coordinator.
//!
//! All decisions are in [`machine::Machine`], which does no IO, reads no clock and draws nothing from the
//! system: [`event`] holds its inputs and outputs, [`tasks`] what it knows of attempts (fencing), [`lanes`]
//! what waits, [`outbox`] what the cluster has not committed yet, [`link`] the connection. Around it
//! [`driver`] does what it decides, [`connection`] speaks, [`wire`] parses, [`current`] shares the connection with uploads,
//! and [`last`] remembers where it led.

pub mod connection;
pub mod current;
pub mod driver;
pub mod event;
pub mod jitter;
pub mod lanes;
pub mod last;
pub mod link;
pub mod machine;
pub mod outbox;
pub mod tasks;
pub mod wire;
