//! The words that the schemas are written in: bounded texts, paths, listings, closed objects.

use serde_json::{Map, Value, json};

/// The longest path that Linux takes.
pub const PATH_LENGTH_MAX: u64 = 4096;
/// The most entries in one listing of an output. What did not fit is said by `truncated`.
pub const LISTING_LENGTH_MAX: u64 = 10_000;
/// The most roots, paths, globs or hashes that one task is given.
pub const PARAMETER_LIST_LENGTH_MAX: u64 = 1_000;
/// The longest free text, e.g. a reason or an error.
pub const TEXT_LENGTH_MAX: u64 = 1_024;
/// The longest text of YARA rules.
pub const RULES_LENGTH_MAX: u64 = 256 * 1024;
/// What `duration` texts look like; `parse_duration` refuses the few others (an overflow, a unit twice).
pub const DURATION_PATTERN: &str = "^([0-9]{1,12}(ms|s|m|h|d)){1,5}$";
/// What `size` texts look like.
pub const SIZE_PATTERN: &str = "^[0-9]{1,15}(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB|kB)?$";
/// A SHA-256 in lower-case hex.
pub const SHA256_PATTERN: &str = "^[0-9a-f]{64}$";
/// An absolute path.
pub const PATH_PATTERN: &str = "^/[^\\x00]*$";

/// A parameter as `action describe` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type in words, e.g. `list of path`, `duration`.
    pub kind: String,
    /// It must be given.
    pub required: bool,
    /// One or two sentences.
    pub description: String,
}

/// A closed object. `properties` is an object of schemas.
pub(crate) fn object(properties: Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// A list of at most `length_max` items.
pub(crate) fn list(items: Value, length_max: u64) -> Value {
    json!({"type": "array", "items": items, "maxItems": length_max})
}

/// A list of parameters with at least one item.
pub(crate) fn some(items: Value) -> Value {
    json!({"type": "array", "items": items, "minItems": 1, "maxItems": PARAMETER_LIST_LENGTH_MAX})
}

/// A listing in an output.
pub(crate) fn listing(items: Value) -> Value {
    list(items, LISTING_LENGTH_MAX)
}

/// Free text.
pub(crate) fn text(length_max: u64) -> Value {
    json!({"type": "string", "maxLength": length_max})
}

/// A short code for programs, e.g. `permission_denied`.
pub(crate) fn code() -> Value {
    json!({"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}$"})
}

/// An absolute path that is asked for.
pub(crate) fn path() -> Value {
    json!({"type": "string", "title": "path", "pattern": PATH_PATTERN, "maxLength": PATH_LENGTH_MAX})
}

/// A path that was found. Not UTF-8: escaped here, exact in `path_base64`. Escapes take up to four characters
/// for one byte.
pub(crate) fn found_path() -> Value {
    text(4 * PATH_LENGTH_MAX)
}

/// The exact bytes of a path that is not UTF-8.
pub(crate) fn path_base64() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9+/]*={0,2}$", "maxLength": 2 * PATH_LENGTH_MAX})
}

/// A shell-like pattern.
pub(crate) fn glob() -> Value {
    json!({"type": "string", "title": "glob", "minLength": 1, "maxLength": PATH_LENGTH_MAX})
}

/// 64 lower-case hex digits.
pub(crate) fn sha256() -> Value {
    json!({"type": "string", "title": "sha256", "pattern": SHA256_PATTERN})
}

/// `30s`, `5m`, `1h30m`.
pub(crate) fn duration() -> Value {
    json!({"type": "string", "title": "duration", "pattern": DURATION_PATTERN})
}

/// Bytes, or `200MiB`.
pub(crate) fn size() -> Value {
    json!({
        "title": "size",
        "type": ["integer", "string"],
        "minimum": 0,
        "maximum": i64::MAX,
        "pattern": SIZE_PATTERN,
    })
}

/// A number that is not negative and fits CEL's int.
pub(crate) fn count() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": i64::MAX})
}

/// A number between these.
pub(crate) fn between(min: i64, max: i64) -> Value {
    json!({"type": "integer", "minimum": min, "maximum": max})
}

/// A process id of Linux.
pub(crate) fn pid() -> Value {
    between(0, 4_194_304)
}

/// true or false.
pub(crate) fn boolean() -> Value {
    json!({"type": "boolean"})
}

/// One of these texts.
pub(crate) fn one_of(options: &[&str]) -> Value {
    json!({"type": "string", "enum": options})
}

/// `{path, code}`: a file that was passed over, and why.
pub(crate) fn path_errors() -> Value {
    listing(object(
        json!({"path": found_path(), "path_base64": path_base64(), "code": code()}),
        &["path", "code"],
    ))
}

/// The schema with a description.
pub(crate) fn about(mut schema: Value, description: &str) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".into(), description.into());
    }
    schema
}

/// The parameters of an object's schema, required ones first.
pub(crate) fn parameters_of(schema: &Value) -> Vec<Parameter> {
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let required = |name: &str| {
        schema["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|n| n == name))
    };
    let mut parameters: Vec<Parameter> = properties
        .iter()
        .map(|(name, property)| Parameter {
            name: name.clone(),
            kind: kind_of(property),
            required: required(name),
            description: property["description"].as_str().unwrap_or_default().to_owned(),
        })
        .collect();
    parameters.sort_by(|a, b| (!a.required, &a.name).cmp(&(!b.required, &b.name)));
    parameters
}

/// The type of a schema in words.
pub fn kind_of(schema: &Value) -> String {
    if let Some(title) = schema["title"].as_str() {
        return title.to_owned();
    }
    if let Some(options) = schema["enum"].as_array() {
        let options: Vec<String> = options.iter().map(Value::to_string).collect();
        return options.join(" or ");
    }
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", kind_of(&schema["items"])),
        Some("object") => "map".to_owned(),
        Some("string") => "text".to_owned(),
        Some("integer") => "int".to_owned(),
        Some("number") => "number".to_owned(),
        Some("boolean") => "bool".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}
