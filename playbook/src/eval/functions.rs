//! The functions of the language. None reads a clock, draws a random number, or goes through a map.

use std::sync::Arc;

use cel::common::ast::operators;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;

use super::machine::{Fault, Meter};
use super::value::{Cel, span_text};

pub(crate) const MAP_ITERATED: &str =
    "a map cannot be gone through, its order means nothing; go through a list, or ask for a key";

/// How many arguments a function takes, the one before the dot included.
pub(crate) struct Arity {
    pub(crate) least: usize,
    pub(crate) most: usize,
    /// May be written `x.f()`.
    pub(crate) member: bool,
}

/// Name, least and most arguments, member, how it is written. By name.
const FUNCTIONS: [(&str, usize, usize, bool, &str); 21] = [
    ("bool", 1, 1, false, "bool(text)"),
    ("contains", 2, 2, true, "text.contains(text)"),
    ("distinct", 1, 1, true, "list.distinct()"),
    ("double", 1, 1, false, "double(number or text)"),
    ("duration", 1, 1, false, "duration(\"5m\")"),
    ("endsWith", 2, 2, true, "text.endsWith(text)"),
    ("flatten", 1, 1, true, "list.flatten()"),
    ("int", 1, 1, false, "int(number, text, timestamp or duration)"),
    ("join", 1, 2, true, "list.join(\", \")"),
    ("lowerAscii", 1, 1, true, "text.lowerAscii()"),
    ("matches", 2, 2, true, "text.matches(\"pattern\")"),
    ("max", 1, 1, true, "list.max()"),
    ("min", 1, 1, true, "list.min()"),
    ("size", 1, 1, true, "size(list, map or text)"),
    ("sort", 1, 1, true, "list.sort()"),
    ("split", 2, 2, true, "text.split(\",\")"),
    ("startsWith", 2, 2, true, "text.startsWith(text)"),
    ("string", 1, 1, false, "string(value)"),
    ("timestamp", 1, 1, false, "timestamp(\"2026-01-31T12:00:00Z\")"),
    ("trim", 1, 1, true, "text.trim()"),
    ("upperAscii", 1, 1, true, "text.upperAscii()"),
];

pub(crate) fn arity(name: &str) -> Option<Arity> {
    let (_, least, most, member, _) = FUNCTIONS.iter().find(|f| f.0 == name)?;
    Some(Arity {
        least: *least,
        most: *most,
        member: *member,
    })
}

pub(crate) fn usage(name: &str) -> &'static str {
    FUNCTIONS.iter().find(|f| f.0 == name).map_or("", |f| f.4)
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|f| f.0)
}

pub(crate) fn is_operator(name: &str) -> bool {
    [
        operators::CONDITIONAL,
        operators::LOGICAL_AND,
        operators::LOGICAL_OR,
        operators::LOGICAL_NOT,
        operators::SUBSTRACT,
        operators::ADD,
        operators::MULTIPLY,
        operators::DIVIDE,
        operators::MODULO,
        operators::EQUALS,
        operators::NOT_EQUALS,
        operators::GREATER_EQUALS,
        operators::LESS_EQUALS,
        operators::GREATER,
        operators::LESS,
        operators::NEGATE,
        operators::INDEX,
        operators::NOT_STRICTLY_FALSE,
        operators::IN,
    ]
    .contains(&name)
}

/// Calls a function other than `matches`. Its name and the number of arguments were checked by the parser.
pub(crate) fn call(name: &str, mut arguments: Vec<Cel>, meter: &mut Meter) -> Result<Cel, Fault> {
    let second = if arguments.len() > 1 {
        arguments.pop()
    } else {
        None
    };
    let first = arguments.pop().unwrap_or(Cel::Null);
    let wrong = |value: &Cel| Fault::error(format!("`{}`: cannot take {}", usage(name), value.kind()));
    match (name, &first, second.as_ref()) {
        ("size", Cel::Text(text), None) => {
            meter.steps(text.len() as u64 / 64)?;
            Ok(Cel::Int(text.chars().count() as i64))
        }
        ("size", Cel::List(items), None) => Ok(Cel::Int(items.len() as i64)),
        ("size", Cel::Map(entries), None) => Ok(Cel::Int(entries.len() as i64)),
        ("contains" | "startsWith" | "endsWith", Cel::Text(text), Some(Cel::Text(part))) => {
            meter.steps(text.len() as u64 / 64)?;
            Ok(Cel::Bool(match name {
                "contains" => text.contains(part.as_ref()),
                "startsWith" => text.starts_with(part.as_ref()),
                _ => text.ends_with(part.as_ref()),
            }))
        }
        ("lowerAscii", Cel::Text(text), None) => meter.text(text.to_ascii_lowercase()),
        ("upperAscii", Cel::Text(text), None) => meter.text(text.to_ascii_uppercase()),
        ("trim", Cel::Text(text), None) => meter.text(text.trim().to_owned()),
        ("split", Cel::Text(text), Some(Cel::Text(by))) if !by.is_empty() => {
            meter.steps(text.len() as u64 / 16)?;
            meter.bytes(text.len() as u64 * 2)?;
            meter.list(text.split(by.as_ref()).map(Cel::text).collect())
        }
        ("join", Cel::List(items), by) => join(items, by, meter),
        ("distinct" | "sort" | "flatten" | "min" | "max", Cel::List(items), None) => {
            of_list(name, items, meter)
        }
        ("string", _, None) => string(&first, meter).ok_or_else(|| wrong(&first))?,
        ("int", _, None) => int(&first).ok_or_else(|| wrong(&first))?,
        ("double", Cel::Int(i), None) => Ok(Cel::Float(*i as f64)),
        ("double", Cel::Float(_), None) => Ok(first),
        ("double", Cel::Text(text), None) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Cel::Float(number)),
            _ => Err(Fault::error("`double`: the text is not a number")),
        },
        ("bool", Cel::Bool(_), None) => Ok(first),
        ("bool", Cel::Text(text), None) => match text.as_ref() {
            "true" => Ok(Cel::Bool(true)),
            "false" => Ok(Cel::Bool(false)),
            _ => Err(Fault::error("`bool`: the text is neither `true` nor `false`")),
        },
        ("timestamp", Cel::Time(_), None) => Ok(first),
        ("timestamp", Cel::Text(text), None) => text
            .parse::<Timestamp>()
            .map(Cel::Time)
            .map_err(|_| Fault::error("`timestamp`: the text is not an RFC 3339 timestamp")),
        ("timestamp", Cel::Int(seconds), None) => Timestamp::from_second(*seconds)
            .map(Cel::Time)
            .map_err(|_| Fault::error("`timestamp`: out of range")),
        ("duration", Cel::Span(_), None) => Ok(first),
        ("duration", Cel::Text(text), None) => catalogue::parse_duration(text)
            .map(|ms| Cel::Span(ms as i64))
            .map_err(|_| Fault::error("`duration`: the text is not a duration such as `5m` or `1h30m`")),
        (_, _, Some(second)) => Err(Fault::error(format!(
            "`{}`: cannot take {} and {}",
            usage(name),
            first.kind(),
            second.kind()
        ))),
        _ => Err(wrong(&first)),
    }
}

/// `text.matches("pattern")`: anywhere in the text, as RE2 does.
pub(crate) fn matches(text: &Cel, pattern: &Regex, meter: &mut Meter) -> Result<Cel, Fault> {
    let Cel::Text(text) = text else {
        return Err(Fault::error(format!(
            "`{}`: cannot take {}",
            usage("matches"),
            text.kind()
        )));
    };
    meter.steps(1 + text.len() as u64 / 4)?;
    Ok(Cel::Bool(pattern.is_match(text)))
}

fn join(items: &[Cel], by: Option<&Cel>, meter: &mut Meter) -> Result<Cel, Fault> {
    let by = match by {
        None => "",
        Some(Cel::Text(by)) => by.as_ref(),
        Some(other) => return Err(Fault::error(format!("`join`: cannot join by {}", other.kind()))),
    };
    let mut text = String::new();
    for (at, item) in items.iter().enumerate() {
        let Cel::Text(item) = item else {
            return Err(Fault::error(format!(
                "`join`: item {at} is {}, not text",
                item.kind()
            )));
        };
        meter.bytes((item.len() + by.len()) as u64)?;
        meter.steps(1)?;
        if at > 0 {
            text.push_str(by);
        }
        text.push_str(item);
    }
    Ok(Cel::Text(Arc::from(text)))
}

fn of_list(name: &str, items: &[Cel], meter: &mut Meter) -> Result<Cel, Fault> {
    let steps = items.len() as u64 * u64::from(items.len().max(1).ilog2() + 1);
    meter.steps(steps)?;
    let no_order = || Fault::error(format!("`{name}`: the items have no order among each other"));
    match name {
        "flatten" => {
            let mut flat = Vec::new();
            for item in items {
                match item {
                    Cel::List(inner) => {
                        meter.steps(inner.len() as u64)?;
                        meter.items(inner.len() as u64)?;
                        flat.extend(inner.iter().cloned());
                    }
                    other => flat.push(other.clone()),
                }
            }
            meter.list(flat)
        }
        "distinct" => {
            // Texts, the usual case, by hash order; anything else one against the others.
            let mut seen = std::collections::BTreeSet::new();
            let mut kept: Vec<Cel> = Vec::new();
            for item in items {
                let new = match item {
                    Cel::Text(text) => seen.insert(text.clone()),
                    other => {
                        let mut steps = 0;
                        let new = !kept.iter().any(|k| k.equals(other, &mut steps));
                        meter.steps(steps)?;
                        new
                    }
                };
                if new {
                    kept.push(item.clone());
                }
            }
            meter.list(kept)
        }
        _ => {
            if items.iter().any(|item| items[0].compare(item).is_none()) {
                return Err(no_order());
            }
            let mut sorted = items.to_vec();
            sorted.sort_by(|a, b| a.compare(b).unwrap_or(std::cmp::Ordering::Equal));
            match name {
                "sort" => meter.list(sorted),
                "min" => sorted
                    .into_iter()
                    .next()
                    .ok_or_else(|| Fault::error("`min`: the list is empty")),
                _ => sorted
                    .pop()
                    .ok_or_else(|| Fault::error("`max`: the list is empty")),
            }
        }
    }
}

fn string(value: &Cel, meter: &mut Meter) -> Option<Result<Cel, Fault>> {
    Some(match value {
        Cel::Text(_) => Ok(value.clone()),
        Cel::Bool(b) => meter.text(b.to_string()),
        Cel::Int(i) => meter.text(i.to_string()),
        Cel::Float(f) => meter.text(f.to_string()),
        Cel::Time(at) => meter.text(at.to_string()),
        Cel::Span(ms) => meter.text(span_text(*ms)),
        Cel::Null | Cel::List(_) | Cel::Map(_) => return None,
    })
}

fn int(value: &Cel) -> Option<Result<Cel, Fault>> {
    Some(match value {
        Cel::Int(_) => Ok(value.clone()),
        // Whole numbers below 2^63 are exact.
        Cel::Float(f) if f.abs() < 9_223_372_036_854_775_808.0 => Ok(Cel::Int(*f as i64)),
        Cel::Float(_) => Err(Fault::error("`int`: out of range")),
        Cel::Text(text) => text
            .parse()
            .map(Cel::Int)
            .map_err(|_| Fault::error("`int`: the text is not a whole number")),
        Cel::Time(at) => Ok(Cel::Int(at.as_second())),
        Cel::Span(ms) => Ok(Cel::Int(ms / 1000)),
        Cel::Null | Cel::Bool(_) | Cel::List(_) | Cel::Map(_) => return None,
    })
}

/// `+ - * / %` on numbers, texts, lists, timestamps and durations.
pub(crate) fn arithmetic(operator: &str, left: &Cel, right: &Cel, meter: &mut Meter) -> Result<Cel, Fault> {
    let sign = operator.trim_matches('_');
    let overflow = || Fault::error(format!("`{sign}`: the number is too large"));
    let wrong = || {
        Fault::error(format!(
            "`{sign}`: cannot take {} and {}",
            left.kind(),
            right.kind()
        ))
    };
    let span = |ms: i64| SignedDuration::from_millis(ms);
    match (left, right) {
        (Cel::Int(a), Cel::Int(b)) => {
            if *b == 0 && matches!(sign, "/" | "%") {
                return Err(Fault::error(format!("`{sign}`: division by zero")));
            }
            match sign {
                "+" => a.checked_add(*b),
                "-" => a.checked_sub(*b),
                "*" => a.checked_mul(*b),
                "/" => a.checked_div(*b),
                _ => a.checked_rem(*b),
            }
            .map(Cel::Int)
            .ok_or_else(overflow)
        }
        (Cel::Int(_) | Cel::Float(_), Cel::Int(_) | Cel::Float(_)) => {
            let number = |value: &Cel| match value {
                Cel::Int(i) => *i as f64,
                Cel::Float(f) => *f,
                _ => f64::NAN,
            };
            let (a, b) = (number(left), number(right));
            Ok(Cel::Float(match sign {
                "+" => a + b,
                "-" => a - b,
                "*" => a * b,
                "/" => a / b,
                _ => return Err(wrong()),
            }))
        }
        (Cel::Text(a), Cel::Text(b)) if sign == "+" => {
            meter.bytes((a.len() + b.len()) as u64)?;
            Ok(Cel::Text(Arc::from([a.as_ref(), b.as_ref()].concat())))
        }
        (Cel::List(a), Cel::List(b)) if sign == "+" => {
            let length = (a.len() + b.len()) as u64;
            meter.steps(length / 4)?;
            meter.items(length)?;
            Ok(Cel::list(a.iter().chain(b.iter()).cloned().collect()))
        }
        (Cel::Time(a), Cel::Span(b)) if matches!(sign, "+" | "-") => {
            let moved = if sign == "+" {
                a.checked_add(span(*b))
            } else {
                a.checked_sub(span(*b))
            };
            moved.map(Cel::Time).map_err(|_| overflow())
        }
        (Cel::Span(a), Cel::Time(b)) if sign == "+" => {
            b.checked_add(span(*a)).map(Cel::Time).map_err(|_| overflow())
        }
        (Cel::Time(a), Cel::Time(b)) if sign == "-" => a
            .as_millisecond()
            .checked_sub(b.as_millisecond())
            .map(Cel::Span)
            .ok_or_else(overflow),
        (Cel::Span(a), Cel::Span(b)) if matches!(sign, "+" | "-") => {
            let sum = if sign == "+" {
                a.checked_add(*b)
            } else {
                a.checked_sub(*b)
            };
            sum.map(Cel::Span).ok_or_else(overflow)
        }
        _ => Err(wrong()),
    }
}
