//! The law of Cordon: a pure, deterministic state machine and the planner that proposes to it.

pub mod command;
pub mod effect;
pub mod error;
pub mod id;
pub mod planner;
pub mod state;
pub mod time;

pub use command::{Actor, Command, Entry, Envelope};
pub use effect::{Applied, Effect, Reply};
pub use error::Refusal;
pub use state::{Assignment, State};
pub use time::Timestamp;
