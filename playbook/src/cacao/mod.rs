//! OASIS CACAO 2.0 (<https://docs.oasis-open.org/cacao/security-playbooks/v2.0/security-playbooks-v2.0.html>).
//!
//! - [`check()`]: whether a document keeps the standard's rules, all violations at once.
//! - [`import()`]: a document as a playbook in our language, for people to review. Nothing of it is carried out.
//! - [`export()`]: a playbook of ours as a document, which carries the text and is imported as it was.
//! - [`signatures`]: what the signatures of a document were made over. `certs` verifies them.
//!
//! The official JSON schema is no judge: it lets pass what breaks the text (dangling references, branches without an
//! end) and, read by its newer draft, refuses what keeps it. The rules here are those of the text.

mod carried;
mod cel;
mod check;
mod codes;
mod condition;
mod export;
mod flow;
mod id;
mod import;
mod jcs;
mod json;
mod repair;
mod signature;
mod violation;
mod vocabulary;
mod yaml;

pub(crate) use codes::ALL as CODES;
pub use export::{Origin, export};
pub use import::{Mapped, Note, Ruleset};
pub use json::DOCUMENT_BYTES_MAX;
pub use repair::Repair;
pub use signature::{Key, Message, Signature, signatures};
pub use violation::{Violation, Violations};

/// Everything that a document violates, warnings included; empty: it is a CACAO 2.0 playbook.
pub fn check(text: &str) -> Vec<Violation> {
    match json::read(text) {
        Ok(document) => check::check(&document),
        Err(violation) => vec![*violation],
    }
}

/// How strictly a document is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every rule holds.
    Strict,
    /// What can be repaired without guessing is repaired, and told.
    Lenient,
}

/// A document as a playbook in our language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The playbook.
    pub mapped: Mapped,
    /// What was repaired first.
    pub repairs: Vec<Repair>,
    /// What a reviewer should look at.
    pub warnings: Vec<Violation>,
    /// The document is an export of ours, and the playbook is the text that it carries.
    pub carried: bool,
}

/// A document as a playbook in our language.
///
/// # Errors
/// Every rule that the document breaks, or what of it our language cannot say.
pub fn import(text: &str, mode: Mode) -> Result<Imported, Violations> {
    let mut document = json::read(text).map_err(|violation| Violations::from(*violation))?;
    let mut repairs = match mode {
        Mode::Lenient if check::too_many_steps(&document).is_none() => repair::repair(&mut document),
        _ => Vec::new(),
    };
    let mut found = check::check(&document);
    if mode == Mode::Lenient {
        repairs.extend(repair::tolerate(&mut found));
    }
    let (warnings, list): (Vec<_>, Vec<_>) = found.into_iter().partition(Violation::is_warning);
    let Some(root) = document.as_object().filter(|_| list.is_empty()) else {
        return Err(Violations { list });
    };
    let carried = carried::carried(root)?;
    Ok(Imported {
        carried: carried.is_some(),
        mapped: match carried {
            Some(carried) => carried,
            None => import::map(root)?,
        },
        repairs,
        warnings,
    })
}
