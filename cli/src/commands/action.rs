//! `action list|describe`: the catalogue, offline.

use catalogue::RunsOn;
use serde_json::{Value, json};

use super::yes;
use crate::{
    args::Action,
    error::{CliError, Result},
    exit_codes,
    output::Output,
};

pub fn run(out: Output, command: &Action) -> Result<u8> {
    match command {
        Action::List => list(out)?,
        Action::Describe { name } => describe(out, name)?,
    }
    Ok(exit_codes::OK)
}

fn list(out: Output) -> Result<()> {
    let rows: Vec<Vec<String>> = catalogue::all()
        .iter()
        .map(|action| {
            vec![
                action.name.to_owned(),
                action.impact.as_str().to_owned(),
                action.runs_on.as_str().to_owned(),
                built(action).to_owned(),
                action.inverse.unwrap_or_default().to_owned(),
                action.summary.to_owned(),
            ]
        })
        .collect();
    let items: Vec<Value> = catalogue::all().iter().map(shape).collect();
    let columns = [
        "action",
        "impact",
        "runs on",
        "built",
        "undone by",
        "what it does",
    ];
    out.list(&columns, &rows, &items)
}

fn describe(out: Output, name: &str) -> Result<()> {
    let action = catalogue::find(name).ok_or_else(|| {
        CliError::new(exit_codes::NOT_FOUND, format!("there is no action `{name}`"))
            .with_hint("`cordon action list` shows all of them")
    })?;
    let mut text = out.fields(&[
        ("action", action.name.to_owned()),
        ("does", action.summary.to_owned()),
        ("impact", action.impact.as_str().to_owned()),
        ("undone by", action.inverse.unwrap_or("nothing").to_owned()),
        ("idempotent", yes(action.idempotent)),
        ("urgent", yes(action.urgent)),
        ("runs on", runs_on(action)),
        ("built", built_in_words(action)),
        (
            "timeout",
            format!(
                "{} ms unless the playbook says otherwise",
                action.default_timeout_ms
            ),
        ),
    ]);
    for (title, schema) in [
        ("Parameters", action.parameters_schema()),
        ("Output", action.output_schema()),
    ] {
        let pretty = serde_json::to_string_pretty(schema).unwrap_or_default();
        text.push_str(&format!("\n{title} (JSON Schema):\n{pretty}\n"));
    }
    let mut value = shape(action);
    value["parameters_schema"] = action.parameters_schema().clone();
    value["output_schema"] = action.output_schema().clone();
    out.one(&text, &value)
}

fn built(action: &catalogue::Action) -> &'static str {
    if action.built { "yes" } else { "not yet" }
}

fn built_in_words(action: &catalogue::Action) -> String {
    match action.built {
        true => "yes".to_owned(),
        false => format!(
            "not yet: its tasks fail with the code {}",
            catalogue::NOT_IMPLEMENTED
        ),
    }
}

fn runs_on(action: &catalogue::Action) -> String {
    let place = action.runs_on.as_str();
    let platforms = action.platforms.join(", ");
    match (action.runs_on, action.opt_in) {
        (RunsOn::Coordinator, _) => place.to_owned(),
        (RunsOn::Agent, false) => format!("{place} ({platforms})"),
        (RunsOn::Agent, true) => {
            format!("{place} ({platforms}), only where `actions` of the host's own policy names it")
        }
    }
}

fn shape(action: &catalogue::Action) -> Value {
    json!({
        "name": action.name, "summary": action.summary, "impact": action.impact.as_str(),
        "inverse": action.inverse, "idempotent": action.idempotent, "urgent": action.urgent,
        "runs_on": action.runs_on.as_str(), "built": action.built, "opt_in": action.opt_in,
        "platforms": action.platforms, "default_timeout_ms": action.default_timeout_ms,
    })
}
