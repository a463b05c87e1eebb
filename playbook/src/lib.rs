//! The playbook language, pure: YAML text to a [`manifest::Manifest`], and the evaluation of its expressions.
//!
//! - [`compile()`]: text to manifest; every problem at once, each with its place, a reason and a mend.
//! - [`bind_inputs`], [`resolve_targets`]: a manifest becomes a plan.
//! - [`explain`]: what the code of a problem means.
//! - [`schema()`]: the language as JSON Schema, for editors.
//! - [`graph`]: a picture of it.
//! - [`eval`]: expressions under limits, for the planner.
//! - [`cacao`]: playbooks of the OASIS standard, in and out.
//! - [`schedule`]: when a trigger by the clock is due.
//! - [`library`]: playbooks that come with Cordon.
//! - [`yaml`], [`nearest`]: what files beside a playbook are read with, so that their problems look like its own.
//!
//! Absent on purpose: clocks, files, randomness, and text templates over results. What a host returned is a
//! value; nothing here ever parses it.

mod bind;
pub mod cacao;
pub mod canonical;
mod compile;
pub mod eval;
pub mod explain;
pub mod graph;
pub mod library;
pub mod manifest;
pub mod nearest;
mod problem;
pub mod schedule;
pub mod yaml;

pub use bind::{
    bind_form, bind_inputs, check_value, inputs_of_event, named_hosts, reads_facts, resolve_targets,
    type_name,
};
pub use compile::{Compiled, TEXT_BYTES_MAX, compile, schema};
pub use problem::{Place, Problem, Problems};
