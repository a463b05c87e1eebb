//! OASIS CACAO 2.0 (<https://docs.oasis-open.org/cacao/security-playbooks/v2.0/security-playbooks-v2.0.html>).
//!
//! - [`check`]: whether a document keeps the standard's rules, all violations at once.
//!
//! The official JSON schema is no judge: it lets pass what breaks the text (dangling references, branches without an
//! end) and, read by its newer draft, refuses what keeps it. The rules here are those of the text.

mod check;
mod codes;
mod condition;
mod flow;
mod id;
mod json;
mod violation;
mod vocabulary;

pub(crate) use codes::ALL as CODES;
pub use json::DOCUMENT_BYTES_MAX;
pub use violation::{Violation, Violations};

/// Everything that a document violates, warnings included; empty: it is a CACAO 2.0 playbook.
pub fn check(text: &str) -> Vec<Violation> {
    match json::read(text) {
        Ok(document) => check::check(&document),
        Err(violation) => vec![*violation],
    }
}
