//! A whole cluster in one seeded, single-threaded world with a virtual clock.
//!
//! What is real: every replica (raft, the state machine, snapshots), the planner, every agent's session
//! machine. What is simulated: disks that forget what was not synced, a network that drops, duplicates,
//! reorders and partitions, clocks that differ, agents' journals, and what actions do. The thin shells around
//! the real parts (`node`, `agents`) do what the coordinator's and the agent's own shells do.
//!
//! The same seed gives the same world, event by event: nothing here reads a clock, a hash map or the system's
//! randomness. Each file in `invariants` holds one property; all are checked after every step.

pub mod agents;
pub mod clients;
pub mod event;
pub mod faults;
pub mod invariants;
pub mod links;
pub mod network;
pub mod node;
pub mod rng;
pub mod tally;
pub mod workload;
pub mod world;

pub use tally::{Happened, Tally, Totals};
pub use world::{Options, Summary, Violation, run};
