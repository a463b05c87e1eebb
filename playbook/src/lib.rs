//! The playbook language, pure: YAML text to a manifest, and the evaluation of its expressions.

pub mod eval;
pub mod manifest;
