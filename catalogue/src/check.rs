//! Compiled validators, and their findings in words for people.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{Draft, JsonType, ValidationError, Validator};
use serde_json::Value;

use crate::schema::{
    DURATION_PATTERN, HOST_PATTERN, NAME_PATTERN, PATH_PATTERN, PERCENT_PATTERN, REQUEST_PATH_PATTERN,
    RULESET_PATTERN, SHA256_PATTERN, SIZE_PATTERN, TIMESTAMP_PATTERN,
};
use crate::units::{parse_duration, parse_size};

/// More findings than this say nothing new.
const FINDINGS_MAX: usize = 20;

/// The schemas of one action with their validators.
#[derive(Debug)]
pub(crate) struct Schemas {
    pub(crate) parameters: Value,
    pub(crate) output: Value,
    parameters_validator: Validator,
    output_validator: Validator,
}

impl Schemas {
    pub(crate) fn new(parameters: Value, output: Value) -> Schemas {
        Schemas {
            parameters_validator: compile(&parameters),
            output_validator: compile(&output),
            parameters,
            output,
        }
    }

    pub(crate) fn check_parameters(&self, parameters: &Value) -> Vec<String> {
        let mut findings = findings(&self.parameters_validator, parameters);
        // What a pattern cannot say: overflows, and units in the wrong order.
        if findings.is_empty() {
            check_units(&self.parameters, parameters, &mut findings);
        }
        findings
    }

    pub(crate) fn check_output(&self, output: &Value) -> Vec<String> {
        findings(&self.output_validator, output)
    }
}

fn compile(schema: &Value) -> Validator {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .build(schema)
        // The schemas are ours, and a test compiles every one of them.
        .expect("every schema of the catalogue compiles")
}

fn findings(validator: &Validator, value: &Value) -> Vec<String> {
    if validator.is_valid(value) {
        return Vec::new();
    }
    let mut findings: Vec<String> = validator
        .iter_errors(value)
        .take(FINDINGS_MAX)
        .map(|error| describe(&error))
        .collect();
    // The order of a map's keys is not the same in every build.
    findings.sort();
    findings
}

/// Says where and what. The offending value itself is left out: it may be large, secret or hostile.
fn describe(error: &ValidationError<'_>) -> String {
    let place = place_of(error.instance_path().as_str());
    let what = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let names: Vec<String> = unexpected.iter().map(|name| format!("`{name}`")).collect();
            format!("there is no {} here", names.join(", "))
        }
        ValidationErrorKind::Required { property } => {
            format!("`{}` is missing", property.as_str().unwrap_or_default())
        }
        ValidationErrorKind::AnyOf { context } => {
            let ways: Vec<String> = context
                .iter()
                .map(|errors| errors.iter().map(describe).collect::<Vec<_>>().join(" and "))
                .collect();
            format!("one of these must be mended: {}", ways.join("; or "))
        }
        ValidationErrorKind::Enum { options } => format!("must be one of {options}"),
        ValidationErrorKind::Pattern { pattern } => match pattern.as_str() {
            DURATION_PATTERN => "must be a duration such as `30s`, `5m` or `1h30m`".to_owned(),
            SIZE_PATTERN => "must be a size: a number of bytes, or text such as `200MiB`".to_owned(),
            SHA256_PATTERN => "must be a SHA-256: 64 lower-case hex digits".to_owned(),
            PATH_PATTERN => "must be an absolute path".to_owned(),
            HOST_PATTERN => "must be an agent's id".to_owned(),
            NAME_PATTERN => "must be a name: 1 to 63 of a-z, 0-9, `_`, `.` and `-`".to_owned(),
            PERCENT_PATTERN => "must be a share from `1%` to `100%`".to_owned(),
            REQUEST_PATH_PATTERN => {
                "must be a path that begins with `/`, without spaces, `?` and `#`".to_owned()
            }
            RULESET_PATTERN => {
                "must be a set of rules: `ruleset://NAME`, or `ruleset://NAME@sha256:HEX`".to_owned()
            }
            TIMESTAMP_PATTERN => "must be a moment as in RFC 3339, such as `2026-01-31T12:00:00Z`".to_owned(),
            other => format!("must match {other}"),
        },
        ValidationErrorKind::Type { kind: wanted_types } => {
            let kind = match error.instance().as_ref() {
                Value::Null => "null",
                Value::Bool(_) => "a bool",
                Value::Number(_) => "a number",
                Value::String(_) => "text",
                Value::Array(_) => "a list",
                Value::Object(_) => "a map",
            };
            format!("is {kind}, must be {}", wanted(wanted_types))
        }
        _ => error.masked_with("it").to_string(),
    };
    if place.is_empty() {
        what
    } else {
        format!("`{place}`: {what}")
    }
}

/// The types that a schema takes, in words.
fn wanted(kind: &TypeKind) -> String {
    let word = |kind: JsonType| match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "a bool",
        JsonType::Integer => "an int",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "a map",
        JsonType::String => "text",
    };
    match kind {
        TypeKind::Single(kind) => word(*kind).to_owned(),
        TypeKind::Multiple(kinds) => kinds.iter().map(word).collect::<Vec<_>>().join(" or "),
    }
}

/// `/allow/0` as people write it: `allow[0]`.
fn place_of(pointer: &str) -> String {
    let mut place = String::new();
    for part in pointer.split('/').filter(|part| !part.is_empty()) {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            place.push_str(&format!("[{part}]"));
        } else {
            if !place.is_empty() {
                place.push('.');
            }
            place.push_str(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    place
}

/// Parses every duration and size of the top level.
fn check_units(schema: &Value, parameters: &Value, findings: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    for (name, property) in properties {
        let Some(text) = parameters[name].as_str() else {
            continue;
        };
        let error = match property["title"].as_str() {
            Some("duration") => parse_duration(text).err(),
            Some("size") => parse_size(&parameters[name]).err(),
            _ => None,
        };
        if let Some(error) = error {
            findings.push(format!("`{name}`: {error}"));
        }
    }
}
