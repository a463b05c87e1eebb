//! The law of Cordon: a pure, deterministic state machine and the planner that proposes to it.
//!
//! - [`State::apply`] is the only way to change the state. It is called with committed commands, in the log's
//!   order, on every node, and gives the same state, reply and effects everywhere. [`command`] is every
//!   input, [`effect`] every output, [`error`] every refusal.
//! - [`events::weigh`] asks what listens to the events of other systems.
//! - [`explain::explain`] says why a run, a step or a task waits or ended as it did.
//! - [`plan::draw`] says what a run would do before it begins, and names that by a hash.
//! - [`plan::child`] says which run an attempt of a `playbook` step asks for.
//! - [`planner::Planner`] runs on the leader only. It reads the state, evaluates the playbook's expressions, and
//!   proposes decisions; `apply` checks each against the run as it then is.
//! - [`replay::replay`] decides a run again from its log, and compares.
//! - [`state`] is split by noun; [`limits`] has every bound; [`snapshot`] the bytes of the whole state.
//!
//! Deliberately absent: clocks (time is stamped into the entry), randomness (ids and jitter come with the
//! command or are hashes of names), hash maps (their order differs between processes), files, the network,
//! logging, and async. A clippy configuration beside this crate bans what could bring them in.
//!
//! Invariants, checked by [`State::check`]: every task that is not judged or over has a deadline; a task is
//! handed out only as an attempt that the token of its log entry fences; a final word is never replaced, but by a person's
//! retry or settlement;
//! every change has its audit record in the same apply.

pub mod codec;
pub mod command;
pub mod effect;
pub mod error;
pub mod events;
pub mod explain;
mod hash;
pub mod id;
pub mod limits;
pub mod plan;
pub mod planner;
pub mod replay;
pub mod snapshot;
pub mod state;
pub mod time;

pub use command::{Actor, Command, Entry, Envelope};
pub use effect::{Applied, Effect, Reply};
pub use error::Refusal;
pub use state::runs::NOTIFY;
pub use state::{Assignment, State};
pub use time::Timestamp;
