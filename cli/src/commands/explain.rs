//! `explain CODE`: what a problem of a playbook means, offline.

use playbook::explain::{self, Explanation};
use serde_json::{Value, json};

use crate::{
    error::{CliError, Result},
    exit_codes,
    output::Output,
};

/// One code, or the list of all.
///
/// # Errors
/// When there is no such code.
pub fn run(out: Output, code: Option<&str>) -> Result<u8> {
    match code {
        None => list(out)?,
        Some(code) => one(out, code)?,
    }
    Ok(exit_codes::OK)
}

/// Those of playbooks, then those of their tests.
fn all() -> impl Iterator<Item = &'static Explanation> {
    explain::all().chain(rehearse::codes::ALL)
}

fn list(out: Output) -> Result<()> {
    let rows: Vec<Vec<String>> = all()
        .map(|known| vec![known.code.to_owned(), known.title.to_owned()])
        .collect();
    let items: Vec<Value> = all().map(shape).collect();
    out.list(&["code", "what it says"], &rows, &items)
}

fn one(out: Output, code: &str) -> Result<()> {
    let known = explain::explain(code).or_else(|| rehearse::codes::explain(code));
    let known = known.ok_or_else(|| {
        CliError::new(exit_codes::NOT_FOUND, format!("there is no code `{code}`"))
            .with_hint("`cordon explain` lists all of them; a code stands in brackets, as in error[E0301]")
    })?;
    let mut text = format!("{}: {}\n\n{}\n", known.code, known.title, known.reason);
    if let Some(example) = known.example {
        for (title, part) in [("Wrong", example.wrong), ("Right", example.right)] {
            text.push_str(&format!("\n{title}:\n"));
            for line in part.lines() {
                text.push_str(&format!("  {line}\n"));
            }
        }
    }
    out.one(&text, &shape(known))
}

fn shape(known: &Explanation) -> Value {
    json!({
        "code": known.code, "title": known.title, "reason": known.reason,
        "wrong": known.example.map(|example| example.wrong),
        "right": known.example.map(|example| example.right),
    })
}
