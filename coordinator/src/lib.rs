//! A member of the coordinator cluster: the shell around the engine.
//!
//! ```text
//! api, hub --Envelope--> control --> raft (fsync, majority) --> engine::State --effects--> hub, leader, watchers
//! ```
//! - `cli`, `app`, `config`, `identity`: the process. Config -> App -> run, with the listeners injected.
//! - `control`: the one door to propose, read and watch. `attempt`, `clock`: what its users share.
//! - `api`: operators, agents, enrolment, peers; who may call (`api::auth`); conversion at the edge.
//! - `hub`: the sessions of this node's agents. `leader`: the planner and the timers, on the leader only.
//! - `evidence`: content-addressed bytes, on two nodes before they are acknowledged.
//! - `raft`, `storage`: replication and the disk.
//!
//! Invariants: only `raft` names raft's types; only `api`, `hub` and `raft` name the wire's; only `storage`
//! and `evidence` write files. Nothing here decides what the state should become: that is the engine's.
//! Absent on purpose: any state of runs or agents outside the engine, reads by lease, and queues without a bound.

pub mod api;
pub mod app;
pub mod attempt;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connect;
pub mod control;
pub mod evidence;
pub mod hub;
pub mod identity;
pub mod leader;
pub mod raft;
pub mod reshape;
pub mod storage;
