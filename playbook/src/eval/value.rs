//! JSON to CEL and back.

use cel::Value as Cel;
use cel::objects::{Key, Map};
use serde_json::Value;

/// The value, and how many values it holds.
pub(super) fn from_json(value: &Value) -> (Cel, u64) {
    match value {
        Value::Null => (Cel::Null, 1),
        Value::Bool(b) => (Cel::Bool(*b), 1),
        Value::Number(n) => {
            let number = match n.as_i64() {
                Some(int) => Cel::Int(int),
                None => Cel::Float(n.as_f64().unwrap_or(f64::NAN)),
            };
            (number, 1)
        }
        Value::String(s) => (Cel::String(s.clone().into()), 1),
        Value::Array(items) => {
            let mut nodes = 1;
            let list = items
                .iter()
                .map(|item| {
                    let (value, n) = from_json(item);
                    nodes += n;
                    value
                })
                .collect::<Vec<_>>();
            (Cel::List(list.into()), nodes)
        }
        Value::Object(entries) => {
            let mut nodes = 1;
            let map = entries
                .iter()
                .map(|(key, item)| {
                    let (value, n) = from_json(item);
                    nodes += n;
                    (Key::String(key.clone().into()), value)
                })
                .collect();
            (
                Cel::Map(Map {
                    map: std::sync::Arc::new(map),
                }),
                nodes,
            )
        }
    }
}

/// As JSON, of at most so many bytes.
pub(super) fn to_json(value: &Cel, bytes_max: usize) -> Result<Value, String> {
    let mut left = bytes_max;
    convert(value, &mut left)
}

fn convert(value: &Cel, left: &mut usize) -> Result<Value, String> {
    let mut take = |bytes: usize| {
        *left = left
            .checked_sub(bytes)
            .ok_or_else(|| "its result is too large".to_owned())?;
        Ok::<(), String>(())
    };
    take(8)?;
    Ok(match value {
        Cel::Null => Value::Null,
        Cel::Bool(b) => Value::Bool(*b),
        Cel::Int(i) => Value::from(*i),
        Cel::UInt(u) => Value::from(*u),
        Cel::Float(f) => serde_json::Number::from_f64(*f)
            .map(Value::Number)
            .ok_or("its result is not a finite number")?,
        Cel::String(s) => {
            take(s.len())?;
            Value::String(s.to_string())
        }
        Cel::Timestamp(at) => Value::String(at.to_rfc3339()),
        Cel::Duration(lasts) => Value::String(catalogue::format_duration(
            u64::try_from(lasts.num_milliseconds()).map_err(|_| "its result is a negative duration")?,
        )),
        Cel::List(items) => {
            let mut list = Vec::with_capacity(items.len().min(1_024));
            for item in items.iter() {
                list.push(convert(item, left)?);
            }
            Value::Array(list)
        }
        Cel::Map(map) => {
            let mut object = serde_json::Map::new();
            for (key, item) in map.map.iter() {
                let Key::String(key) = key else {
                    return Err("a key of its result is not text".to_owned());
                };
                object.insert(key.to_string(), convert(item, left)?);
            }
            // The order of a hash map must not show.
            object.sort_keys();
            Value::Object(object)
        }
        _ => return Err("its result is not a value that can be kept".to_owned()),
    })
}

/// As a part of a text.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// For messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
