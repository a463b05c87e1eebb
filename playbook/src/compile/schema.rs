//! The language as JSON Schema (draft 2020-12), for editors.
//!
//! Which fields there are comes from the tables that the compiler reads by ([`fields`]), and what an action takes
//! comes from the catalogue, so that neither can be forgotten here: a field of a table without a schema is a panic,
//! and a test makes the schema. Texts of this file are what an editor shows beside a field.
//!
//! It refuses unknown fields, missing ones and values of the wrong kind; what needs more than one place to be judged
//! (names, order, expressions) is `validate`'s. Beyond what `validate` asks, it wants `info` to be of its types.

use catalogue::RunsOn;
use catalogue::schema::{DURATION_PATTERN, SIZE_PATTERN};
use serde_json::{Map, Value, json};

use super::fields::{self, Known};
use super::{kinds, policy, triggers};

/// What `parse_type` takes beside `list<T>`, `map<T>` and an enum.
const TYPES: &[&str] = &[
    "string",
    "int",
    "float",
    "bool",
    "timestamp",
    "duration",
    "ip",
    "cidr",
    "url",
    "email",
    "host",
    "sha256",
    "path",
    "artifact",
    "json",
];
const PLAYBOOK_NAME: &str = "^[a-z0-9-]{1,63}$";
const IDENTIFIER: &str = "^[a-z][a-z0-9_]{0,62}$";

/// The language as JSON Schema, draft 2020-12.
pub fn schema() -> Value {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Cordon playbook",
    });
    if let (Value::Object(whole), Value::Object(top)) = (
        &mut schema,
        closed(fields::TOP, &["playbook", "version", "steps"], top),
    ) {
        whole.extend(top);
    }
    schema["$defs"] = definitions();
    schema
}

fn definitions() -> Value {
    let mut with = Map::new();
    for action in catalogue::all() {
        with.insert(
            action.name.to_owned(),
            about(action.summary, or_expressions(action.parameters_schema())),
        );
    }
    json!({
        "value": {"description": "A value; `\"${...}\"` in it is an expression."},
        "expression_in_text": {"type": "string", "pattern": "\\$\\{"},
        "condition": {
            "anyOf": [{"type": "boolean"}, {"type": "string", "not": {"pattern": "^\\s*\\$\\{"}}],
        },
        "duration": {"type": "string", "pattern": DURATION_PATTERN, "examples": ["30s", "5m", "1h30m", "7d"]},
        "size": {"type": ["integer", "string"], "minimum": 0, "pattern": SIZE_PATTERN, "examples": ["64KiB", "200MiB"]},
        "number": {"type": ["number", "string"], "pattern": SIZE_PATTERN},
        "class": {"type": "string", "pattern": IDENTIFIER, "examples": ["authentication", "detection_finding", "email_activity"]},
        "roles": {"type": "array", "items": {"type": "string", "pattern": PLAYBOOK_NAME}, "minItems": 1},
        "recipients": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "pattern": format!("^({}):", kinds::CHANNELS.join("|"))},
        },
        "type": {
            "anyOf": [
                {"enum": TYPES},
                {"type": "string", "pattern": format!("^\\s*((list|map)<\\s*)+({})(\\s*>)+\\s*$", TYPES.join("|"))},
                {
                    "type": "object",
                    "properties": {"enum": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
                    "required": ["enum"],
                    "additionalProperties": false,
                },
            ],
        },
        "compensate": about(
            "The action that undoes this one; where the catalogue declares an inverse it may be left out.",
            doing(closed(fields::COMPENSATE, &["do"], action)),
        ),
        "step": step(),
        "with": with,
    })
}

fn top(field: &str) -> Value {
    match field {
        "playbook" => about("The name.", json!({"type": "string", "pattern": PLAYBOOK_NAME})),
        "version" => about("Counted up with each change.", count(u32::MAX)),
        "info" => about("For people; decides nothing.", closed(fields::INFO, &[], info)),
        "triggers" => about(
            "What starts a run.",
            json!({"type": "array", "items": trigger(), "maxItems": triggers::TRIGGERS_MAX}),
        ),
        "inputs" => about(
            "What a run is given.",
            named(closed(fields::INPUT, &["type"], input)),
        ),
        "limits" => about("Bounds of the whole run.", closed(fields::LIMITS, &[], limit)),
        "targets" => about(
            "Named sets of hosts, frozen when the run is planned.",
            named(targets()),
        ),
        "steps" => {
            let mut steps = about(
                "What happens. Steps without `needs` start at once.",
                named(refer("step")),
            );
            steps["minProperties"] = 1.into();
            steps
        }
        "finally" => about(
            "Steps that always run, one after another, when no other is left; they cannot fail the run.",
            named(json!({"allOf": [refer("step"), {"properties": {"needs": false}}]})),
        ),
        "outputs" => about("Values that the run ends with.", named(refer("value"))),
        _ => missing("playbook", field),
    }
}

fn info(field: &str) -> Value {
    match field {
        "attack" => about("Techniques of MITRE ATT&CK.", list(text(), 0)),
        "category" => about("What it is for.", text()),
        "impact" => about(
            "From 0 to 100, as in CACAO.",
            json!({"type": "integer", "minimum": 0, "maximum": 100}),
        ),
        "tlp" => about("Traffic Light Protocol: who may see it.", text()),
        "owner" => about("Whom to ask.", text()),
        "description" => about("In a few sentences.", text()),
        _ => missing("info", field),
    }
}

fn input(field: &str) -> Value {
    match field {
        "from" => about(
            "The value of a triggered run: an expression over `event` or `group`.",
            refer("value"),
        ),
        "media" => about("The media type of an artifact.", text()),
        "max_bytes" => about("The greatest size of an artifact.", refer("size")),
        other => form_field(other),
    }
}

fn form_field(field: &str) -> Value {
    match field {
        "type" => about("What values it takes.", refer("type")),
        "default" => about("Taken when nothing is given.", refer("value")),
        "min" => about(
            "Least length of a text or list, least value of a number.",
            refer("number"),
        ),
        "max" => about(
            "Greatest length of a text or list, greatest value of a number.",
            refer("number"),
        ),
        "distinct" => about("Duplicates are removed, the first kept.", flag()),
        "pattern" => about("A regular expression that the whole text must match.", text()),
        _ => missing("input", field),
    }
}

fn limit(field: &str) -> Value {
    match field {
        "timeout" => about("The run is cancelled when it takes longer.", refer("duration")),
        "max_targets" => about("A plan with more hosts is refused.", count(u32::MAX)),
        "concurrency" => about(
            "How many runs at once, with the same key.",
            closed(fields::CONCURRENCY, &["max"], |field| match field {
                "key" => about("Runs with the same key count together.", refer("value")),
                "max" => about("So many.", count(triggers::CONCURRENCY_MAX)),
                "on_conflict" => about("What happens to one more.", json!({"enum": ["refuse", "drop"]})),
                _ => missing("concurrency", field),
            }),
        ),
        "lock" => about(
            "What no other run may touch meanwhile.",
            closed(fields::LOCK, &["each"], |field| match field {
                "each" => about("A list; each of its items is locked.", refer("value")),
                "on_conflict" => about(
                    "What happens when an item is locked.",
                    json!({"enum": ["refuse", "drop_item"]}),
                ),
                _ => missing("lock", field),
            }),
        ),
        _ => missing("limits", field),
    }
}

fn trigger() -> Value {
    let mut schema = closed(fields::TRIGGER, &[], |field| match field {
        "event" => about("A class of OCSF: each event of it.", refer("class")),
        "when" => about("Which events, over `event`.", refer("condition")),
        "threshold" => about(
            "Many events with the same key within a time.",
            closed(
                fields::THRESHOLD,
                &["event", "by", "at_least", "within"],
                |field| match field {
                    "event" => about("A class of OCSF.", refer("class")),
                    "when" => about("Which of them count, over `event`.", refer("condition")),
                    "by" => about("The key: an expression over `event`.", refer("condition")),
                    "at_least" => about("So many.", count(triggers::AT_LEAST_MAX)),
                    "within" => about("The window, at most 31 days.", refer("duration")),
                    _ => missing("threshold", field),
                },
            ),
        ),
        "schedule" => about(
            "Minute, hour, day of month, month, day of week, as in cron.",
            json!({"type": "string", "examples": ["0 6 * * 1-5"]}),
        ),
        "time_zone" => about(
            "An IANA name; UTC unless given.",
            json!({"type": "string", "examples": ["Europe/Zurich"]}),
        ),
        "catch_up" => about("A run that was missed is made up for, once.", flag()),
        "submission" => about(
            "A file that is handed in under this name.",
            json!({"type": "string", "pattern": PLAYBOOK_NAME}),
        ),
        "webhook" => about(
            "A call that comes in under this name.",
            json!({"type": "string", "pattern": PLAYBOOK_NAME}),
        ),
        "dedupe" => about(
            "One run for each key within the window.",
            closed(fields::DEDUPE, &["key", "window"], |field| match field {
                "key" => about("What makes two the same.", refer("value")),
                "window" => about("For how long, at most 31 days.", refer("duration")),
                _ => missing("dedupe", field),
            }),
        ),
        _ => missing("trigger", field),
    });
    schema["oneOf"] = one_of(triggers::KINDS);
    schema
}

fn targets() -> Value {
    let mut schema = closed(fields::TARGETS, &[], |field| match field {
        "hosts" => about("Agents' ids.", refer("value")),
        "select" => about(
            "Every agent for which it holds, over `agent`.",
            refer("condition"),
        ),
        "max" => about("More hosts refuse the plan.", count(u32::MAX)),
        "allow_empty" => about("No host is no error.", flag()),
        _ => missing("targets", field),
    });
    schema["oneOf"] = one_of(&["hosts", "select"]);
    schema
}

fn step() -> Value {
    let mut schema = doing(closed(fields::STEP, &[], step_field));
    schema["oneOf"] = one_of(fields::KINDS);
    if let Some(rules) = schema["allOf"].as_array_mut() {
        rules.push(
            json!({"if": {"required": ["loop"]}, "then": {"propertyNames": {"enum": fields::LOOP_STEP}}}),
        );
        rules.push(json!({
            "if": {"required": ["with"]},
            "then": {"anyOf": [{"required": ["do"]}, {"required": ["playbook"]}]},
        }));
    }
    schema
}

fn step_field(field: &str) -> Value {
    match field {
        "do" | "with" => action(field),
        "decide" => about(
            "Rules; the first that holds decides. The last is `else`.",
            decide(),
        ),
        "score" => about(
            "Rules that add up; each that fired is kept with its note.",
            list(
                closed(fields::SCORE_RULE, &["add", "when"], |field| match field {
                    "add" => about(
                        "How much.",
                        json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX}),
                    ),
                    "when" => about("Added when it holds.", refer("condition")),
                    "note" => about("Why, for people.", text()),
                    _ => missing("score", field),
                }),
                1,
            ),
        ),
        "ask" => about(
            "A form for people.",
            closed(fields::ASK, &["roles", "expires", "form"], |field| match field {
                "roles" => about("Who may answer.", refer("roles")),
                "expires" => about("How long it waits.", refer("duration")),
                "form" => about(
                    "What is asked, field by field.",
                    named(closed(fields::FIELD, &["type"], form_field)),
                ),
                "text" => about("The question.", refer("value")),
                _ => missing("ask", field),
            }),
        ),
        "notify" => about(
            "Tells people.",
            closed(fields::NOTIFY, &["to", "text"], |field| match field {
                "to" => about("KIND:ADDRESS, each.", refer("recipients")),
                "severity" => about("How urgent it is.", refer("value")),
                "text" => about("What is said.", refer("value")),
                _ => missing("notify", field),
            }),
        ),
        "wait_event" => about(
            "Waits for an event.",
            closed(fields::WAIT_EVENT, &["event", "expires"], |field| match field {
                "event" => about("A class of OCSF.", refer("class")),
                "when" => about("Which of them, over `event`.", refer("condition")),
                "expires" => about("How long it waits.", refer("duration")),
                _ => missing("wait_event", field),
            }),
        ),
        "playbook" => about(
            "Runs another playbook; `with` gives its inputs.",
            closed(fields::SUB_PLAYBOOK, &["name"], |field| match field {
                "name" => about("Which.", json!({"type": "string", "pattern": PLAYBOOK_NAME})),
                "version" => about("Which version; the newest unless given.", count(u32::MAX)),
                "wait" => about(
                    "Whether this step ends when that run does. It does unless given.",
                    flag(),
                ),
                "max_depth" => about(
                    "How deep playbooks may start each other.",
                    count(crate::manifest::DEPTH_MAX),
                ),
                _ => missing("playbook", field),
            }),
        ),
        "loop" => about(
            "Steps that are repeated.",
            closed(fields::LOOP, &["while", "max", "body"], |field| match field {
                "while" => about("Another round while it holds.", refer("condition")),
                "max" => about("At most so many rounds.", count(super::looping::ROUNDS_MAX)),
                "body" => about("The steps of a round.", named(refer("step"))),
                _ => missing("loop", field),
            }),
        ),
        other => around(other),
    }
}

/// What stands around whatever a step does.
fn around(field: &str) -> Value {
    match field {
        "needs" => about(
            "`a`: a succeeded; `b.done`: b ended, in whatever way; `c.failed`: c failed. Without: starts at once.",
            list(
                json!({"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}([.](done|failed))?$"}),
                0,
            ),
        ),
        "when" => about("False: the step, or the task, is skipped.", refer("condition")),
        "targets" => about(
            "A set: one task for each of its hosts.",
            json!({"type": "string", "pattern": IDENTIFIER}),
        ),
        "foreach" => about(
            "One task for each item of a list.",
            closed(fields::FOREACH, &["in", "as"], |field| match field {
                "in" => about("The list: an expression.", refer("condition")),
                "as" => about(
                    "The name that an item has.",
                    json!({"type": "string", "pattern": IDENTIFIER}),
                ),
                "max_parallel" => about("At most so many at once.", count(u32::MAX)),
                "distinct" => about("Duplicates are removed, the first kept.", flag()),
                "host" => about("On whose agent an item runs: an expression.", refer("condition")),
                _ => missing("foreach", field),
            }),
        ),
        "strategy" => about(
            "How the tasks are let go.",
            closed(fields::STRATEGY, &[], strategy),
        ),
        "gate" => about(
            "Tasks that wait for people.",
            closed(fields::GATE, &["approve"], gate),
        ),
        "retry" => about(
            "When a failed task is tried again.",
            closed(fields::RETRY, &["max"], retry),
        ),
        "timeout" => about(
            "Every one of them ends the task in a named state.",
            closed(fields::TIMEOUT, &[], |field| match field {
                "queue" => about("How long to wait for an offline host.", refer("duration")),
                "attempt" => about("How long one attempt may run.", refer("duration")),
                "total" => about("How long the task may take, retries included.", refer("duration")),
                "heartbeat" => about(
                    "How long an attempt may go without a sign of life.",
                    refer("duration"),
                ),
                _ => missing("timeout", field),
            }),
        ),
        "delay" => about("Waited before the first task.", refer("duration")),
        "expect" => about(
            "A condition on `output`; false fails the task.",
            refer("condition"),
        ),
        "on_failure" => about(
            "What the step's failure means for the run. `fail` unless given.",
            json!({"anyOf": [{"enum": ["fail", "continue"]}, closed(fields::ON_FAILURE, &[], |field| match field {
                "compensate" => about("Steps to undo.", list(json!({"type": "string", "pattern": IDENTIFIER}), 0)),
                "notify" => about("Whom to tell.", refer("recipients")),
                _ => missing("on_failure", field),
            })]}),
        ),
        "compensate" => refer("compensate"),
        _ => missing("step", field),
    }
}

fn decide() -> Value {
    let mut rule = closed(fields::RULE, &[], |field| match field {
        "when" => about("The condition.", refer("condition")),
        "set" => about("The output, name by name.", json!({"type": "object"})),
        "else" => about(
            "The output when no rule holds. The last.",
            json!({"type": "object"}),
        ),
        _ => missing("decide", field),
    });
    rule["oneOf"] = json!([{"required": ["when", "set"]}, {"required": ["else"]}]);
    let mut rules = list(rule, 1);
    rules["contains"] = json!({"required": ["else"]});
    rules["maxContains"] = 1.into();
    rules
}

fn strategy(field: &str) -> Value {
    match field {
        "max_parallel" => about("At most so many tasks at once.", count(u32::MAX)),
        "canary" => about("So many first; the others only if they succeed.", count(u32::MAX)),
        "waves" => about(
            "One wave after another: so many tasks, or a share of them.",
            json!({
                "type": "array",
                "minItems": 1,
                "maxItems": policy::WAVES_MAX,
                "items": {"type": ["integer", "string"], "minimum": 1, "pattern": "^[0-9.eE+-]+\\s*%$"},
            }),
        ),
        "soak" => about("Waited between two waves.", refer("duration")),
        "fail_when" => about(
            "Over `failed`, `ok`, `unknown` and `total`: fails the step. `failed > 0` unless given.",
            refer("condition"),
        ),
        "barrier" => about("Wait for all hosts of the step before.", flag()),
        _ => missing("strategy", field),
    }
}

fn gate(field: &str) -> Value {
    match field {
        "when" => about("Which tasks wait. All unless given.", refer("condition")),
        "approve" => about(
            "Who may let them go.",
            closed(fields::APPROVE, &["roles", "expires"], |field| match field {
                "roles" => about("Any of these.", refer("roles")),
                "quorum" => about("So many of them. One unless given.", count(policy::QUORUM_MAX)),
                "expires" => about("How long it waits.", refer("duration")),
                "on_expiry" => about(
                    "What then. `reject` unless given.",
                    json!({"enum": ["reject", "escalate"]}),
                ),
                "escalate_to" => about("Who is asked then.", refer("roles")),
                "not" => about("Who may not.", json!({"enum": ["requester"]})),
                _ => missing("approve", field),
            }),
        ),
        _ => missing("gate", field),
    }
}

fn retry(field: &str) -> Value {
    match field {
        "max" => about("At most so many retries.", count(policy::RETRIES_MAX)),
        "initial" => about("The first pause. `1s` unless given.", refer("duration")),
        "factor" => about(
            "Each pause is this times the one before. 2 unless given.",
            json!({"type": ["number", "string"], "minimum": 1, "maximum": 10, "pattern": SIZE_PATTERN}),
        ),
        "max_delay" => about("No pause is longer. `5m` unless given.", refer("duration")),
        "jitter" => about("Spread the pauses. It is so unless given.", flag()),
        "when" => about(
            "Only errors for which it holds, over `error`.",
            refer("condition"),
        ),
        _ => missing("retry", field),
    }
}

/// `do` and `with`.
fn action(field: &str) -> Value {
    match field {
        "do" => {
            let names: Vec<&str> = catalogue::all().iter().map(|action| action.name).collect();
            about("An action of the catalogue.", json!({"enum": names}))
        }
        "with" => about("The parameters.", json!({"type": "object"})),
        _ => missing("action", field),
    }
}

/// What stands under `with` is what the action takes; an action of an agent needs hosts, and no other has them.
fn doing(mut schema: Value) -> Value {
    let is_step = schema["properties"].get("targets").is_some();
    let rules: Vec<Value> = catalogue::all()
        .iter()
        .map(|action| {
            let mut then = json!({"properties": {"with": {"$ref": format!("#/$defs/with/{}", action.name)}}});
            let mut required = Vec::new();
            if action.parameters().iter().any(|parameter| parameter.required) {
                required.push("with");
            }
            match action.runs_on {
                RunsOn::Agent if is_step => required.push("targets"),
                RunsOn::Coordinator if is_step => then["properties"]["targets"] = false.into(),
                RunsOn::Agent | RunsOn::Coordinator => {}
            }
            then["required"] = required.into();
            json!({"if": {"properties": {"do": {"const": action.name}}, "required": ["do"]}, "then": then})
        })
        .collect();
    schema["allOf"] = rules.into();
    schema
}

/// The schema of a value, for text in which an expression may stand in its place or in that of any part of it.
fn or_expressions(schema: &Value) -> Value {
    let mut relaxed = schema.clone();
    if let Some(properties) = relaxed.get_mut("properties").and_then(Value::as_object_mut) {
        for property in properties.values_mut() {
            *property = in_place_of(property);
        }
    }
    for part in ["items", "additionalProperties"] {
        if schema[part].is_object() {
            relaxed[part] = in_place_of(&schema[part]);
        }
    }
    relaxed
}

fn in_place_of(schema: &Value) -> Value {
    let mut relaxed = json!({"anyOf": [or_expressions(schema), refer("expression_in_text")]});
    if let Some(description) = schema.get("description") {
        relaxed["description"] = description.clone();
    }
    relaxed
}

/// A map with these fields and no others.
fn closed(known: Known, required: &[&str], field: impl Fn(&str) -> Value) -> Value {
    let properties: Map<String, Value> = known
        .iter()
        .map(|name| ((*name).to_owned(), field(name)))
        .collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// A map of names to these.
fn named(schema: Value) -> Value {
    json!({"type": "object", "propertyNames": {"pattern": IDENTIFIER}, "additionalProperties": schema})
}

/// Exactly one of these fields is there.
fn one_of(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"required": [name]})).collect()
}

fn refer(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn about(description: &str, mut schema: Value) -> Value {
    schema["description"] = description.into();
    schema
}

fn list(items: Value, least: u32) -> Value {
    json!({"type": "array", "items": items, "minItems": least})
}

fn count(most: u32) -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": most})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

/// A test makes the schema, so this is met by whoever adds a field, and by nobody else.
fn missing(construct: &str, field: &str) -> Value {
    panic!("the field `{field}` of `{construct}` has no schema")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_are_those_of_inputs() {
        for name in TYPES {
            assert!(crate::bind::parse_type(name).is_some(), "{name}");
        }
        let known = crate::explain::explain("E0110").expect("a code");
        assert!(
            TYPES.iter().all(|name| known.reason.contains(name)),
            "{}",
            known.reason
        );
    }
}
