//! What a fake's output leaves out.
//!
//! A schema demands fields about which most tests have nothing to say: how many files were visited, what was skipped.
//! They are filled in with the least value that the schema takes (no items, 0, false, no text), so that a test says only
//! what it is about. What has no least value, such as a hash, must be given.

use serde_json::{Map, Value, json};

/// The value with what its schema requires and it does not have.
pub(super) fn filled(schema: &Value, mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => fill_map(schema, map),
        Value::Array(items) => {
            for item in items {
                *item = filled(&schema["items"], item.take());
            }
        }
        _ => {}
    }
    value
}

fn fill_map(schema: &Value, map: &mut Map<String, Value>) {
    for (name, value) in map.iter_mut() {
        *value = filled(&schema["properties"][name], value.take());
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let Some(name) = name.as_str().filter(|name| !map.contains_key(*name)) else {
            continue;
        };
        if let Some(value) = least(&schema["properties"][name]) {
            map.insert(name.to_owned(), value);
        }
    }
}

/// The least value of a schema; None: it has none.
fn least(schema: &Value) -> Option<Value> {
    let bound = |name: &str| schema[name].as_u64().unwrap_or(0);
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return Some(first.clone());
    }
    match schema["type"].as_str()? {
        "boolean" => Some(json!(false)),
        "integer" | "number" => Some(schema.get("minimum").cloned().unwrap_or(json!(0))),
        "string" if schema.get("pattern").is_none() && bound("minLength") == 0 => Some(json!("")),
        "array" if bound("minItems") == 0 => Some(json!([])),
        "object" => {
            let mut map = Map::new();
            fill_map(schema, &mut map);
            Some(Value::Object(map))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::filled;

    #[test]
    fn what_has_a_least_value_is_filled_in_and_a_hash_is_not() {
        let schema = catalogue::find("scan.yara").expect("an action").output_schema();
        assert_eq!(
            filled(
                schema,
                json!({"matches": [{"path": "/a", "sha256": "x"}], "other": 1})
            ),
            json!({
                "matches": [{"path": "/a", "sha256": "x", "rule": "", "namespace": "", "tags": [], "strings": []}],
                "other": 1, "scanned": 0, "skipped": [], "truncated": false,
            })
        );
        let hashed = filled(schema, json!({"matches": [{}]}));
        assert_eq!(hashed["matches"][0].get("sha256"), None);
    }

    #[test]
    fn most_actions_answer_with_nothing_said() {
        let answers = |action: &&catalogue::Action| {
            let output = filled(action.output_schema(), json!({}));
            action.check_output(&output).is_empty()
        };
        let silent = catalogue::all().iter().filter(answers).count();
        assert!(silent * 2 > catalogue::all().len(), "{silent}");
    }
}
