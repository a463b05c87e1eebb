//! `playbook validate` and `playbook graph`, offline, and what the command knows of a playbook before it sends it.

use std::path::Path;

use playbook::{
    Problem, Problems,
    manifest::{Manifest, Type},
};
use proto::v1;
use serde_json::{Value, json};

use crate::{
    args::GraphFormat,
    error::{CliError, Result},
    exit_codes,
    output::{Format, Output, clean},
};

/// What a name of the library begins with.
pub(super) const LIBRARY: &str = "library:";

/// Checks every file and shows all problems of all of them; the exit code says whether there was any.
pub fn validate(out: Output, playbooks: &[String]) -> Result<u8> {
    let mut items = Vec::new();
    let mut all_hold = true;
    for name in playbooks {
        let yaml = read(name)?;
        let (text, item) = match playbook::compile(&yaml) {
            Ok(compiled) => {
                let steps = match compiled.manifest.step_count() {
                    1 => "1 step".to_owned(),
                    many => format!("{many} steps"),
                };
                let mut text = format!("{name}: valid, {steps}\n");
                for warning in &compiled.warnings {
                    text.push_str(&in_lines(&warning.to_string()));
                }
                (
                    text,
                    json!({ "playbook": name, "ok": true, "problems": [], "warnings": shapes(&compiled.warnings) }),
                )
            }
            Err(problems) => {
                all_hold = false;
                let text = format!("{name}: not valid\n{}", in_lines(&problems.to_string()));
                (
                    text,
                    json!({ "playbook": name, "ok": false, "problems": shapes(&problems.list), "warnings": [] }),
                )
            }
        };
        if out.format == Format::Table {
            out.print(&text)?;
        }
        items.push(item);
    }
    if out.format != Format::Table {
        out.list(&[], &[], &items)?;
    }
    Ok(if all_hold {
        exit_codes::OK
    } else {
        exit_codes::INVALID
    })
}

/// The language as JSON Schema.
pub fn schema(out: Output) -> Result<u8> {
    let schema = playbook::schema();
    out.one(&format!("{schema:#}\n"), &schema)?;
    Ok(exit_codes::OK)
}

/// Draws a playbook; with a run of it, coloured by how its steps stand.
///
/// # Errors
/// The playbook's problems; a run of something else.
pub fn graph(out: Output, name: &str, format: GraphFormat, run: Option<&v1::Run>) -> Result<u8> {
    let manifest = playbook::compile(&read(name)?)
        .map_err(|problems| invalid(name, &problems))?
        .manifest;
    if let Some(run) = run.filter(|run| run.manifest_sha256 != manifest.sha256()) {
        let message = format!(
            "run {} is of {} v{} as it was then, and {name} compiles to something else",
            run.id, run.playbook, run.version
        );
        return Err(CliError::new(exit_codes::REFUSED, message).with_hint(
            "give the text that the run was started with; `cordon run show` has the manifest's hash",
        ));
    }
    let status = |step: &str| {
        let run = run?;
        let of_it = run.steps.iter().find(|known| known.name == step)?;
        Some(of_it.status.clone())
    };
    let (field, text) = match format {
        GraphFormat::Mermaid => ("mermaid", playbook::graph::mermaid(&manifest, status)),
        GraphFormat::Svg => ("svg", playbook::graph::svg(&manifest, status)),
    };
    let value = json!({ "playbook": manifest.playbook, "manifest_sha256": manifest.sha256(), field: text });
    out.one(&text, &value)?;
    Ok(exit_codes::OK)
}

/// The text of a playbook, from a file or the library.
pub fn read(name: &str) -> Result<String> {
    if let Some(known) = name.strip_prefix(LIBRARY) {
        return playbook::library::find(known).map(str::to_owned).ok_or_else(|| {
            CliError::new(
                exit_codes::NOT_FOUND,
                format!("there is no `{known}` in the library"),
            )
            .with_hint(format!("it has: {}", library_names()))
        });
    }
    CliError::read("read the playbook", Path::new(name))
}

/// A playbook that compiles, before it is sent.
pub struct Checked(Manifest);

/// Compiles a playbook here, so that its problems show before anything is asked of the cluster.
///
/// # Errors
/// All of its problems.
pub fn check(name: &str, yaml: &str) -> Result<Checked> {
    playbook::compile(yaml)
        .map(|compiled| Checked(compiled.manifest))
        .map_err(|problems| invalid(name, &problems))
}

impl Checked {
    /// The value of an input as it was typed. What is text by its type stays as it is, so that an id of digits
    /// needs no quotes; everything else, and what is not declared, is JSON where it is JSON.
    pub fn input_value(&self, name: &str, text: &str) -> Value {
        let mut kind = self.0.inputs.get(name).map(|input| &input.kind);
        if let Some(Type::List(inner)) = kind
            && !text.starts_with('[')
        {
            kind = Some(inner);
        }
        let is_json = matches!(
            kind,
            None | Some(Type::Int | Type::Float | Type::Bool | Type::Json | Type::List(_) | Type::Map(_))
        );
        let as_text = || Value::String(text.to_owned());
        if is_json {
            serde_json::from_str(text).unwrap_or_else(|_| as_text())
        } else {
            as_text()
        }
    }

    /// Whether an input takes a list, so that one value of it is a list of one.
    pub fn takes_list(&self, name: &str) -> bool {
        matches!(self.0.inputs.get(name), Some(input) if matches!(input.kind, Type::List(_)))
    }
}

pub(super) fn invalid(name: &str, problems: &Problems) -> CliError {
    CliError::invalid(format!("{name} is not valid\n{problems}"))
}

pub(super) fn shapes(problems: &[Problem]) -> Vec<Value> {
    problems
        .iter()
        .map(|problem| {
            json!({
                "code": problem.code, "line": problem.place.line, "column": problem.place.column,
                "message": problem.message, "hint": problem.hint,
            })
        })
        .collect()
}

/// Escapes all but the line breaks.
pub(super) fn in_lines(text: &str) -> String {
    text.lines().map(|line| clean(line) + "\n").collect()
}

pub(super) fn library_names() -> String {
    let names: Vec<&str> = playbook::library::all().iter().map(|(name, _)| *name).collect();
    names.join(", ")
}
