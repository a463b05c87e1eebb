//! Which fake answers an attempt, and whether a value holds what is wanted of it.

use playbook::Place;
use serde_json::Value;

use crate::suite::{Answer, Fake};

/// What is asked for.
pub(crate) struct Question<'a> {
    pub host: Option<&'a str>,
    pub item: Option<&'a Value>,
    pub parameters: &'a Value,
    /// From 1.
    pub attempt: u32,
}

/// The answer of the first fake that fits, and where that fake stands.
pub(crate) fn answer<'a>(fakes: &'a [Fake], question: &Question<'_>) -> Option<(Place, &'a Answer)> {
    let fake = fakes.iter().find(|fake| fits(fake, question))?;
    let at = (question.attempt.max(1) as usize - 1).min(fake.attempts.len() - 1);
    fake.attempts.get(at).map(|answer| (fake.place, answer))
}

fn fits(fake: &Fake, question: &Question<'_>) -> bool {
    let host = fake.hosts.is_empty()
        || question
            .host
            .is_some_and(|host| fake.hosts.iter().any(|known| known == host));
    let item = fake
        .item
        .as_ref()
        .is_none_or(|wanted| question.item.is_some_and(|item| holds(wanted, item)));
    let with = fake
        .with
        .as_ref()
        .is_none_or(|wanted| holds(wanted, question.parameters));
    host && item && with
}

/// Whether a value holds what is wanted: of a map every entry that is named, of a list as many items each of which
/// holds its own; anything else is equal, numbers by their value.
pub(crate) fn holds(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted
            .iter()
            .all(|(name, value)| found.get(name).is_some_and(|found| holds(value, found))),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len()
                && wanted
                    .iter()
                    .zip(found)
                    .all(|(wanted, found)| holds(wanted, found))
        }
        (Value::Number(wanted), Value::Number(found)) => {
            wanted == found
                || wanted
                    .as_f64()
                    .is_some_and(|wanted| found.as_f64() == Some(wanted))
        }
        (wanted, found) => wanted == found,
    }
}

/// The value of a JSON text of the engine's own; null: there is none.
pub(crate) fn parsed(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::holds;

    #[test]
    fn a_map_may_have_more_and_a_list_may_not() {
        let found = json!({"a": 1, "b": [{"c": 2.0, "d": 3}], "e": null});
        for wanted in [
            json!({}),
            json!({"a": 1.0}),
            json!({"b": [{"c": 2}]}),
            json!({"e": null}),
        ] {
            assert!(holds(&wanted, &found), "{wanted}");
        }
        for wanted in [
            json!({"a": 2}),
            json!({"b": []}),
            json!({"b": [{"c": 2}, {}]}),
            json!({"f": null}),
            json!({"a": "1"}),
            json!([]),
        ] {
            assert!(!holds(&wanted, &found), "{wanted}");
        }
    }
}
