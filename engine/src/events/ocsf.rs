//! What an event must be, to be taken: a JSON object of a known OCSF class, whose base attributes are of their types and
//! agree. What a class has besides is its sender's.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::Digest as _;

use super::{Event, Source};
use crate::id::Digest;
use crate::limits::{EVENT_BYTES_MAX, EVENT_DEPTH_MAX};

/// The classes of OCSF 1.x: (class_uid, name), in the order of their numbers.
const CLASSES: &[(u64, &str)] = &[
    (1001, "file_activity"),
    (1002, "kernel_extension_activity"),
    (1003, "kernel_activity"),
    (1004, "memory_activity"),
    (1005, "module_activity"),
    (1006, "scheduled_job_activity"),
    (1007, "process_activity"),
    (1008, "event_log_activity"),
    (1009, "script_activity"),
    (2001, "security_finding"),
    (2002, "vulnerability_finding"),
    (2003, "compliance_finding"),
    (2004, "detection_finding"),
    (2005, "incident_finding"),
    (2006, "data_security_finding"),
    (2007, "application_security_posture_finding"),
    (2008, "iam_analysis_finding"),
    (3001, "account_change"),
    (3002, "authentication"),
    (3003, "authorize_session"),
    (3004, "entity_management"),
    (3005, "user_access"),
    (3006, "group_management"),
    (4001, "network_activity"),
    (4002, "http_activity"),
    (4003, "dns_activity"),
    (4004, "dhcp_activity"),
    (4005, "rdp_activity"),
    (4006, "smb_activity"),
    (4007, "ssh_activity"),
    (4008, "ftp_activity"),
    (4009, "email_activity"),
    (4010, "network_file_activity"),
    (4011, "email_file_activity"),
    (4012, "email_url_activity"),
    (4013, "ntp_activity"),
    (4014, "tunnel_activity"),
    (5001, "inventory_info"),
    (5002, "config_state"),
    (5003, "user_inventory"),
    (5004, "patch_state"),
    (5019, "device_config_state_change"),
    (5020, "software_info"),
    (6001, "web_resources_activity"),
    (6002, "application_lifecycle"),
    (6003, "api_activity"),
    (6004, "web_resource_access_activity"),
    (6005, "datastore_activity"),
    (6006, "file_hosting"),
    (6007, "scan_activity"),
    (6008, "application_error"),
];

/// Attributes that every class has, and that are whole numbers where they are given.
const NUMBERS: &[&str] = &[
    "activity_id",
    "category_uid",
    "class_uid",
    "count",
    "severity_id",
    "status_id",
    "time",
    "timezone_offset",
    "type_uid",
];
/// And that are objects.
const OBJECTS: &[&str] = &[
    "metadata",
    "unmapped",
    "device",
    "actor",
    "user",
    "src_endpoint",
    "dst_endpoint",
    "finding_info",
];

/// Why an event is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventProblem {
    /// It is too long.
    #[error(
        "it has {0} bytes, of at most {EVENT_BYTES_MAX}: send what a playbook decides by, and name the rest"
    )]
    TooLong(usize),
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// It is nested too deep.
    #[error("it is nested more than {EVENT_DEPTH_MAX} deep: flatten it")]
    TooDeep,
    /// It is JSON, and no object.
    #[error("it is {0}, and an event is an object: {{\"class_uid\": 2004, ...}}")]
    NoObject(&'static str),
    /// It does not say what it is.
    #[error(
        "it has no `class_uid`: an OCSF event has one, such as 2004; what another source says is taken with a class of yours (`--class detection_finding`), and is in `event.unmapped` then"
    )]
    NoClass,
    /// It says it is something that is not known.
    #[error(
        "{0} is no class of OCSF 1: see https://schema.ocsf.io/classes, or give what comes nearest with `--class`"
    )]
    UnknownClass(String),
    /// An attribute is not what its name says.
    #[error("`{name}` is {found}, and {wanted}")]
    Attribute {
        /// Which.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
}

/// The name of an OCSF class, by its number or its name.
pub fn class_name(class: &str) -> Option<&'static str> {
    let mut classes = CLASSES.iter();
    classes
        .find(|(uid, name)| *name == class || uid.to_string() == class)
        .map(|(_, name)| *name)
}

/// Reads what came in from a source that says what it is: any JSON object.
///
/// # Errors
/// What is wrong with it.
pub fn read_any(text: &str, source: Source) -> Result<Event, EventProblem> {
    let value = object(text)?;
    Ok(Event {
        source,
        text: text.into(),
        sha256: Digest(sha2::Sha256::digest(text).into()),
        value: Value::Object(value),
    })
}

/// Reads an event. `class`: what one is that does not say so itself; its text is in `unmapped` then.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str, class: Option<&str>) -> Result<Event, EventProblem> {
    let mut event = object(text)?;
    let sha256 = Digest(sha2::Sha256::digest(text).into());
    let given = class
        .map(|class| class_name(class).ok_or_else(|| EventProblem::UnknownClass(class.to_owned())))
        .transpose()?;
    let (name, mapped) = match (event.get("class_uid"), given) {
        (Some(uid), _) => {
            let wanted = || "it is a whole number, such as 2004".to_owned();
            let uid = uid
                .as_u64()
                .ok_or_else(|| attribute("class_uid", uid, wanted()))?;
            let known = CLASSES.iter().find(|(known, _)| *known == uid);
            let (_, name) = known.ok_or_else(|| EventProblem::UnknownClass(uid.to_string()))?;
            check(&event, uid)?;
            (*name, false)
        }
        (None, Some(name)) => (name, true),
        (None, None) => return Err(EventProblem::NoClass),
    };
    if mapped {
        event = generic(name, event);
    }
    let value = Value::Object(event);
    let text: Arc<str> = match mapped {
        true => value.to_string().into(),
        false => text.into(),
    };
    if text.len() > EVENT_BYTES_MAX {
        return Err(EventProblem::TooLong(text.len()));
    }
    Ok(Event {
        source: Source::Class(name.to_owned()),
        text,
        sha256,
        value,
    })
}

fn object(text: &str) -> Result<Map<String, Value>, EventProblem> {
    if text.len() > EVENT_BYTES_MAX {
        return Err(EventProblem::TooLong(text.len()));
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| EventProblem::NotJson(error.to_string()))?;
    if is_deeper(&value, EVENT_DEPTH_MAX) {
        return Err(EventProblem::TooDeep);
    }
    match value {
        Value::Object(event) => Ok(event),
        other => Err(EventProblem::NoObject(kind_of(&other))),
    }
}

/// What another source says, as an event of a class.
fn generic(name: &'static str, said: Map<String, Value>) -> Map<String, Value> {
    let uid = CLASSES
        .iter()
        .find(|(_, known)| *known == name)
        .map_or(0, |(uid, _)| *uid);
    let mut event = Map::new();
    event.insert("category_uid".into(), json!(uid / 1000));
    event.insert("class_name".into(), json!(name));
    event.insert("class_uid".into(), json!(uid));
    event.insert("unmapped".into(), Value::Object(said));
    event
}

/// The base attributes are of their types, and say the same.
fn check(event: &Map<String, Value>, class: u64) -> Result<(), EventProblem> {
    for name in NUMBERS {
        if let Some(value) = event.get(*name).filter(|value| value.as_i64().is_none()) {
            return Err(attribute(name, value, "it is a whole number".to_owned()));
        }
    }
    for name in OBJECTS {
        if let Some(value) = event.get(*name).filter(|value| !value.is_object()) {
            return Err(attribute(name, value, "it is an object".to_owned()));
        }
    }
    let number = |name: &str| event.get(name).and_then(Value::as_u64);
    let category = class / 1000;
    if let Some(found) = number("category_uid").filter(|found| *found != category) {
        return Err(attribute(
            "category_uid",
            &json!(found),
            format!("class {class} is of category {category}"),
        ));
    }
    if let (Some(found), Some(activity)) = (number("type_uid"), number("activity_id"))
        && found != class * 100 + activity
    {
        let wanted = format!(
            "class {class} with activity {activity} is type {}",
            class * 100 + activity
        );
        return Err(attribute("type_uid", &json!(found), wanted));
    }
    Ok(())
}

fn attribute(name: &'static str, found: &Value, wanted: String) -> EventProblem {
    let found: String = found.to_string().chars().take(60).collect();
    EventProblem::Attribute { name, found, wanted }
}

fn is_deeper(value: &Value, than: usize) -> bool {
    match value {
        Value::Array(items) => than == 0 || items.iter().any(|item| is_deeper(item, than - 1)),
        Value::Object(entries) => than == 0 || entries.values().any(|item| is_deeper(item, than - 1)),
        _ => false,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_taken_as_it_came() {
        let text = r#" {"class_uid": 3002, "type_uid": 300201, "activity_id":1, "category_uid": 3, "user": {"name": "eve"}} "#;
        let event = read(text, None).expect("an event");
        assert_eq!(event.source, Source::Class("authentication".to_owned()));
        assert_eq!(&*event.text, text);
        assert_eq!(event.sha256, Digest(sha2::Sha256::digest(text).into()));
        assert_eq!(event.value["user"]["name"], "eve");
        assert_eq!(
            read(text, Some("4009")).expect("its own word counts").source,
            event.source
        );
    }

    #[test]
    fn what_another_source_says_is_taken_with_a_class() {
        let text = r#"{"alert": "x"}"#;
        let event = read(text, Some("detection_finding")).expect("an event");
        assert_eq!(event.value["class_uid"], 2004);
        assert_eq!(event.value["unmapped"]["alert"], "x");
        assert_eq!(
            event.sha256,
            Digest(sha2::Sha256::digest(text).into()),
            "of what came in"
        );
    }

    #[test]
    fn what_is_no_event_says_why() {
        let deep = format!(
            "{{\"class_uid\": 2004, \"a\": {}1{}}}",
            "[".repeat(40),
            "]".repeat(40)
        );
        let long = format!(
            "{{\"class_uid\": 2004, \"a\": \"{}\"}}",
            "x".repeat(EVENT_BYTES_MAX)
        );
        for (text, why) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("[]", "it is a list"),
            ("{}", "no `class_uid`"),
            (
                r#"{"class_uid": "2004"}"#,
                "`class_uid` is \"2004\", and it is a whole number",
            ),
            (r#"{"class_uid": 7}"#, "7 is no class"),
            (
                r#"{"class_uid": 2004, "severity_id": "high"}"#,
                "`severity_id` is \"high\"",
            ),
            (
                r#"{"class_uid": 2004, "device": "web-1"}"#,
                "`device` is \"web-1\", and it is an object",
            ),
            (
                r#"{"class_uid": 2004, "category_uid": 3}"#,
                "class 2004 is of category 2",
            ),
            (
                r#"{"class_uid": 2004, "activity_id": 1, "type_uid": 300201}"#,
                "is type 200401",
            ),
            (deep.as_str(), "nested more than"),
            (long.as_str(), "bytes, of at most"),
        ] {
            let said = read(text, None).expect_err(text).to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
