//! Playbooks tried out before anything runs: the real engine in virtual time, with hosts, systems and people that
//! answer as a test file says.
//!
//! - [`Suite::read`]: the YAML file beside a playbook, checked against it; every problem at once, each with its place.
//! - [`Suite::run`]: one case through [`engine::State`] and [`engine::planner::Planner`], as a leader drives them. Time
//!   jumps to whatever comes next, so that a case of hours takes milliseconds, and the same every time.
//! - [`Coverage`]: which branches of the playbook the cases took, and which they never did.
//! - [`codes`]: what each code of a problem means.
//!
//! It is a crate of its own because it stands on the engine, which itself stands on the playbook's language.
//!
//! Absent on purpose: clocks, files, randomness. The caller reads the files and takes the time.

pub mod codes;
mod compare;
mod coverage;
mod deeds;
mod fakes;
mod fleet;
mod heard;
mod people;
mod places;
mod read;
mod start;
mod suite;
mod trace;
mod unbuilt;
mod world;

pub use coverage::{Branch, Coverage};
pub use suite::Suite;
pub use trace::{Asked, CaseReport, StepEnd};
