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
/// An agent's id.
pub const HOST_PATTERN: &str = "^[a-z0-9-]{1,63}$";
/// A moment as in RFC 3339.
pub const TIMESTAMP_PATTERN: &str =
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$";
/// A set of rules that the cluster keeps, by name, and fixed to the bytes whose SHA-256 begins so.
pub const RULESET_PATTERN: &str = "^ruleset://[a-z0-9][a-z0-9._-]{0,62}(@sha256:[0-9a-f]{4,64})?$";
/// A share of something.
pub const PERCENT_PATTERN: &str = "^([1-9][0-9]?|100)%$";
/// A name that the configuration gives: a connection, a provider, a log.
pub const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9_.-]{0,62}$";
/// A path beneath the address of a connection, without a query.
pub const REQUEST_PATH_PATTERN: &str = "^/[^\\x00-\\x20\\x7f#?]*$";
/// The most entries in a map that nobody knows the keys of.
pub const MAP_LENGTH_MAX: u64 = 256;

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

/// An agent's id.
pub(crate) fn host() -> Value {
    json!({"type": "string", "title": "host", "pattern": HOST_PATTERN})
}

/// A moment, RFC 3339.
pub(crate) fn timestamp() -> Value {
    json!({"type": "string", "title": "timestamp", "pattern": TIMESTAMP_PATTERN})
}

/// Bytes that the cluster holds as evidence, by their SHA-256.
pub(crate) fn artifact() -> Value {
    json!({"type": "string", "title": "artifact", "pattern": SHA256_PATTERN})
}

/// Rules that the cluster keeps: `ruleset://NAME`, or `ruleset://NAME@sha256:HEX`.
pub(crate) fn ruleset() -> Value {
    json!({"type": "string", "title": "ruleset", "pattern": RULESET_PATTERN})
}

/// `30%`.
pub(crate) fn percent() -> Value {
    json!({"type": "string", "title": "percent", "pattern": PERCENT_PATTERN})
}

/// The name of something that the configuration knows.
pub(crate) fn name() -> Value {
    json!({"type": "string", "title": "name", "pattern": NAME_PATTERN})
}

/// The connection to another system, by the name that the coordinators' configuration gives it. Where it is and
/// its secrets stay there.
pub(crate) fn connection() -> Value {
    about(
        name(),
        "The connection to use, by its name in the coordinators' configuration.",
    )
}

/// A condition in CEL over `event`, with `inputs` and `config` in scope. Written out in the playbook: no
/// expression makes it, so nothing that a host or a message said becomes code.
pub(crate) fn condition() -> Value {
    json!({"type": "string", "title": "condition", "minLength": 1, "maxLength": 4 * TEXT_LENGTH_MAX})
}

/// An event in OCSF (<https://schema.ocsf.io>): open, because the classes and their extensions are many. What every
/// event has, and what playbooks ask for most, is typed.
pub(crate) fn ocsf() -> Value {
    let open = |properties: Value| json!({"type": "object", "title": "ocsf", "properties": properties});
    let user = || {
        open(
            json!({"name": text(TEXT_LENGTH_MAX), "uid": text(256), "email_addr": text(320), "domain": text(253)}),
        )
    };
    let endpoint =
        || open(json!({"ip": text(64), "port": between(0, 65_535), "hostname": text(253), "uid": text(256)}));
    let mut event = open(json!({
        "class_uid": count(),
        "activity_id": count(),
        "severity_id": between(0, 99),
        "status_id": between(0, 99),
        "time": {"type": "integer", "description": "Milliseconds since 1970."},
        "message": text(64 * TEXT_LENGTH_MAX),
        "user": user(),
        "actor": open(json!({"user": user()})),
        "device": open(json!({"uid": text(256), "hostname": text(253), "ip": text(64)})),
        "src_endpoint": endpoint(),
        "dst_endpoint": endpoint(),
        "finding_info": open(json!({"uid": text(256), "title": text(TEXT_LENGTH_MAX)})),
    }));
    event["required"] = json!(["class_uid", "time"]);
    event
}

/// Any JSON.
pub(crate) fn any_json() -> Value {
    json!({"title": "json"})
}

/// A map from texts to these.
pub(crate) fn map(values: Value) -> Value {
    json!({"type": "object", "title": format!("map of {}", kind_of(&values)), "additionalProperties": values, "maxProperties": MAP_LENGTH_MAX})
}

/// Something that was seen, typed by the name of STIX 2.1's cyber-observable object (`url`, `ipv4-addr`,
/// `domain-name`, `email-addr`, `file`, ...). A `file` has a hash as its value.
pub(crate) fn observable() -> Value {
    object(
        json!({
            "type": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{2,62}$"},
            "value": text(4 * TEXT_LENGTH_MAX),
            "name": text(TEXT_LENGTH_MAX),
        }),
        &["type", "value"],
    )
}

/// What is thought of something, worst first.
pub(crate) fn verdict() -> Value {
    one_of(&["malicious", "suspicious", "benign", "unknown"])
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
