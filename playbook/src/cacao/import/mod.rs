//! A CACAO playbook in our language, as text for people to review.
//!
//! A step that opens branches becomes a `decide` (or, where its condition cannot be said exactly, an `ask`), and each
//! branch's first step asks what was decided. An edge becomes a need: `on_success` needs the step, `on_failure` its
//! failure, `on_completion` its end. What is not exact is told in a note, and in a comment beside it.

mod branch;
mod command;
mod names;
mod shape;
mod step;
mod steps;
mod variable;
mod way;

use serde_json::{Map, Value};

pub use command::Ruleset;

use super::violation::{Violation, Violations};
use super::yaml::{Yaml, comment};
use names::slug;
use shape::Shape;
use variable::{SCAN_ROOTS, Variables};

/// Something that a reviewer should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Of the document: a step.
    pub id: String,
    /// What is not said in the same way, or what is still to be done.
    pub message: String,
}

/// A playbook in our language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The name of ours.
    pub name: String,
    /// The text.
    pub text: String,
    /// What a reviewer should know, in the order of the steps.
    pub notes: Vec<Note>,
    /// Rules that the playbook names.
    pub rulesets: Vec<Ruleset>,
}

/// Maps a document that violates nothing.
pub(super) fn map(root: &Map<String, Value>) -> Result<Mapped, Violations> {
    let shape = Shape::new(root);
    let variables = Variables::new(root, &shape);
    let mut mapper = steps::Mapper::new(root, &shape, variables);
    let steps = mapper.workflow()?;
    let steps::Parts {
        variables,
        hosts,
        sets,
        notes,
        rulesets,
        scans,
    } = mapper.parts();

    let word = |name: &str| root.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut name = slug(word("name"), '-', 63);
    if name.is_empty() {
        name = word("id").to_ascii_lowercase();
    }
    let mut text = String::new();
    let mut line = |of: &str| {
        text.push_str(of);
        text.push('\n');
    };
    line(&comment(&format!("From CACAO 2.0: {}", word("name"))));
    line(&comment(&format!(
        "{}, version {}, by {}",
        word("id"),
        word("modified"),
        word("created_by")
    )));
    for note in &notes {
        line(&comment(&format!("Review {}: {}", note.id, note.message)));
    }
    line(&format!("playbook: {}", quoted(&name)));
    line("version: 1");
    line(&format!("info: {}", info(root).flow()));
    let inputs = variables.inputs();
    if !inputs.is_empty() || !hosts.is_empty() || scans {
        line("inputs:");
        for (name, fields, description) in inputs {
            let about = if description.is_empty() {
                String::new()
            } else {
                format!("   {}", comment(&description))
            };
            line(&format!("  {}: {}{about}", quoted(&name), fields.flow()));
        }
        for (name, about) in hosts {
            line(&format!(
                "  {}: {{type: list<host>, min: 1}}   {}",
                quoted(&name),
                comment(&about)
            ));
        }
        if scans {
            line(&format!(
                "  {SCAN_ROOTS}: {{type: list<path>, min: 1}}   # folders to scan beneath"
            ));
        }
    }
    if !sets.is_empty() {
        line("targets:");
        for (name, source) in sets {
            line(&format!(
                "  {}: {{hosts: {}}}",
                quoted(&name),
                Yaml::expression(&source).flow()
            ));
        }
    }
    line("steps:");
    for step in &steps {
        step.write(2, &mut text);
    }
    if text.len() > crate::TEXT_BYTES_MAX {
        return Err(Violation {
            code: "C0801",
            path: "$.workflow".to_owned(),
            message: format!("the playbook becomes longer than {} bytes", crate::TEXT_BYTES_MAX),
            hint: "split it into playbooks that use each other".to_owned(),
        }
        .into());
    }
    // What is exact can still be more than our language takes at once.
    if let Err(problems) = crate::compile(&text) {
        return Err(Violation {
            code: "C0804",
            path: "$.workflow".to_owned(),
            message: format!("what it becomes is refused\n{}", problems.list[0]),
            hint: "split it into playbooks that use each other".to_owned(),
        }
        .into());
    }
    Ok(Mapped {
        name,
        text,
        notes,
        rulesets,
    })
}

/// A name of ours, quoted where YAML would read something else: `22`, `no`.
fn quoted(name: &str) -> String {
    Yaml::word(name).flow()
}

/// What is for people only.
fn info(root: &Map<String, Value>) -> Yaml {
    let word = |name: &str| root.get(name).and_then(Value::as_str);
    let mut info = Vec::new();
    let kind = root
        .get("playbook_types")
        .and_then(|types| types.get(0)?.as_str());
    info.extend(kind.map(|kind| ("category", Yaml::bare(kind))));
    let impact = root.get("impact").and_then(Value::as_u64);
    info.extend(impact.map(|impact| ("impact", Yaml::number(impact))));
    let markings = root.get("data_marking_definitions").and_then(Value::as_object);
    let level = markings
        .into_iter()
        .flatten()
        .find_map(|(_, marking)| marking.get("tlpv2_level")?.as_str()?.strip_prefix("TLP:"));
    info.extend(level.map(|level| ("tlp", Yaml::bare(&level.to_ascii_lowercase()))));
    let description = word("description")
        .filter(|text| !text.is_empty())
        .or(word("name"));
    info.extend(description.map(|text| ("description", Yaml::bare(text))));
    Yaml::map(info)
}
