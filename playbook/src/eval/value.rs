//! Values that are shared, not copied: cloning one is at most a reference count.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Number, Value};

use super::{DEPTH_MAX, RESULT_BYTES_MAX};

/// A value of the expression language.
#[derive(Clone, Debug)]
pub(crate) enum Cel {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    List(Arc<Vec<Cel>>),
    Map(Arc<BTreeMap<Arc<str>, Cel>>),
    Time(Timestamp),
    /// In milliseconds; may be negative.
    Span(i64),
}

impl Cel {
    pub(crate) fn text(text: impl AsRef<str>) -> Cel {
        Cel::Text(Arc::from(text.as_ref()))
    }

    pub(crate) fn list(items: Vec<Cel>) -> Cel {
        Cel::List(Arc::new(items))
    }

    /// Integers are ints; one that does not fit 63 bits is a float.
    pub(crate) fn from_json(value: &Value) -> Cel {
        match value {
            Value::Null => Cel::Null,
            Value::Bool(b) => Cel::Bool(*b),
            Value::Number(n) => match n.as_i64() {
                Some(i) => Cel::Int(i),
                None => Cel::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(s) => Cel::text(s),
            Value::Array(items) => Cel::list(items.iter().map(Cel::from_json).collect()),
            Value::Object(entries) => Cel::Map(Arc::new(
                entries
                    .iter()
                    .map(|(key, value)| (Arc::from(key.as_str()), Cel::from_json(value)))
                    .collect(),
            )),
        }
    }

    /// The result as JSON; an error when it is too large or too deep.
    pub(crate) fn to_json(&self) -> Result<Value, String> {
        let mut left = RESULT_BYTES_MAX as u64;
        self.json_within(&mut left, 0)
    }

    fn json_within(&self, left: &mut u64, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err(format!("the result is nested deeper than {DEPTH_MAX}"));
        }
        *left = left
            .checked_sub(match self {
                Cel::Text(text) => text.len() as u64 + 2,
                _ => 8,
            })
            .ok_or_else(|| format!("the result is larger than {RESULT_BYTES_MAX} bytes"))?;
        Ok(match self {
            Cel::Null => Value::Null,
            Cel::Bool(b) => Value::Bool(*b),
            Cel::Int(i) => Value::from(*i),
            Cel::Float(f) => Number::from_f64(*f)
                .map(Value::Number)
                .ok_or("the result is not a finite number")?,
            Cel::Text(text) => Value::String(text.as_ref().to_owned()),
            Cel::List(items) => items
                .iter()
                .map(|item| item.json_within(left, depth + 1))
                .collect::<Result<_, _>>()?,
            Cel::Map(entries) => {
                let mut object = serde_json::Map::new();
                for (key, value) in entries.iter() {
                    *left = left.saturating_sub(key.len() as u64);
                    object.insert(key.as_ref().to_owned(), value.json_within(left, depth + 1)?);
                }
                Value::Object(object)
            }
            Cel::Time(at) => Value::String(at.to_string()),
            Cel::Span(ms) => Value::String(span_text(*ms)),
        })
    }

    /// The type's name, with its article.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Cel::Null => "null",
            Cel::Bool(_) => "a bool",
            Cel::Int(_) => "an int",
            Cel::Float(_) => "a float",
            Cel::Text(_) => "text",
            Cel::List(_) => "a list",
            Cel::Map(_) => "a map",
            Cel::Time(_) => "a timestamp",
            Cel::Span(_) => "a duration",
        }
    }

    /// Values of different types are unequal, except that numbers compare as numbers. `steps` is what the
    /// comparison has cost, at least one.
    pub(crate) fn equals(&self, other: &Cel, steps: &mut u64) -> bool {
        *steps += 1;
        match (self, other) {
            (Cel::Null, Cel::Null) => true,
            (Cel::Bool(a), Cel::Bool(b)) => a == b,
            (Cel::Int(a), Cel::Int(b)) => a == b,
            (Cel::Float(a), Cel::Float(b)) => a == b,
            (Cel::Int(_), Cel::Float(_)) | (Cel::Float(_), Cel::Int(_)) => {
                self.compare(other) == Some(Ordering::Equal)
            }
            (Cel::Text(a), Cel::Text(b)) => {
                *steps += (a.len().min(b.len()) / 64) as u64;
                a == b
            }
            (Cel::List(a), Cel::List(b)) => {
                Arc::ptr_eq(a, b)
                    || (a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.equals(b, steps)))
            }
            (Cel::Map(a), Cel::Map(b)) => {
                Arc::ptr_eq(a, b)
                    || (a.len() == b.len()
                        && a.iter()
                            .zip(b.iter())
                            .all(|((ka, a), (kb, b))| ka == kb && a.equals(b, steps)))
            }
            (Cel::Time(a), Cel::Time(b)) => a == b,
            (Cel::Span(a), Cel::Span(b)) => a == b,
            _ => false,
        }
    }

    /// The order of two numbers, texts, bools, timestamps or durations; None: they have none.
    pub(crate) fn compare(&self, other: &Cel) -> Option<Ordering> {
        match (self, other) {
            (Cel::Int(a), Cel::Int(b)) => Some(a.cmp(b)),
            (Cel::Float(a), Cel::Float(b)) => a.partial_cmp(b),
            (Cel::Int(a), Cel::Float(b)) => compare_int_float(*a, *b),
            (Cel::Float(a), Cel::Int(b)) => compare_int_float(*b, *a).map(Ordering::reverse),
            (Cel::Text(a), Cel::Text(b)) => Some(a.cmp(b)),
            (Cel::Bool(a), Cel::Bool(b)) => Some(a.cmp(b)),
            (Cel::Time(a), Cel::Time(b)) => Some(a.cmp(b)),
            (Cel::Span(a), Cel::Span(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// Exact, also beyond 2^53.
fn compare_int_float(int: i64, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float >= 9_223_372_036_854_775_808.0 {
        return Some(Ordering::Less);
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Greater);
    }
    let whole = float.trunc();
    Some(int.cmp(&(whole as i64)).then_with(|| {
        let rest = float - whole;
        0.0f64.partial_cmp(&rest).unwrap_or(Ordering::Equal)
    }))
}

/// A duration as the language writes it; a negative one with a sign in front.
pub(crate) fn span_text(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}", catalogue::format_duration(ms.unsigned_abs()))
}
