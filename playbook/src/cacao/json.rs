//! Reads JSON from elsewhere: bounded in size, depth and number of values, and without doubled names, because of
//! two values with one name different readers take different ones.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::violation::{Path, Violation};

/// The longest document: a playbook of a thousand steps has about 1 MiB.
pub const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// Nesting of one document; CACAO's own objects nest to a dozen levels.
const DEPTH_MAX: usize = 48;
/// Parts of a path that are shown.
const SHOWN_MAX: usize = 8;
/// Values of one document.
const VALUES_MAX: usize = 200_000;

/// Reads one document.
pub(super) fn read(text: &str) -> Result<Value, Box<Violation>> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(Box::new(Violation {
            code: "C0002",
            path: "$".to_owned(),
            message: format!(
                "a document of {} bytes is longer than {DOCUMENT_BYTES_MAX}",
                text.len()
            ),
            hint: "split it into playbooks that use each other".to_owned(),
        }));
    }
    let state = State::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Seed {
        state: &state,
        depth: 0,
    }
    .deserialize(&mut reader)
    .and_then(|value| reader.end().map(|()| value));
    // In the order of the names: what is made of a document must not depend on how a build keeps its maps.
    value
        .map(|value| crate::canonical::sorted(&value))
        .map_err(|error| {
            let code = state.code.get();
            let at = format!("line {}, column {}", error.line(), error.column());
            let message = match code {
                // serde_json writes the place behind its own words.
                "C0001" => format!("this is not JSON: {error}"),
                "C0003" => format!(
                    "it is nested deeper than {DEPTH_MAX} or has more than {VALUES_MAX} values, first at {at}"
                ),
                _ => format!("the name is given a second time at {at}"),
            };
            let hint = match code {
                "C0001" => "save it as one JSON document in UTF-8",
                "C0003" => "no CACAO playbook needs that; look at where it comes from",
                _ => "leave out one of the two",
            };
            Box::new(Violation {
                code,
                path: state.path(),
                message,
                hint: hint.to_owned(),
            })
        })
}

struct State {
    /// What an error would be.
    code: Cell<&'static str>,
    values: Cell<usize>,
    /// Where the reader is.
    stack: RefCell<Vec<String>>,
}

impl State {
    fn path(&self) -> String {
        let stack = self.stack.borrow();
        let shown = stack.iter().take(SHOWN_MAX).map(String::as_str);
        let rest = if stack.len() > SHOWN_MAX { "…" } else { "" };
        ["$"].into_iter().chain(shown).chain([rest]).collect()
    }
}

impl Default for State {
    fn default() -> State {
        State {
            code: Cell::new("C0001"),
            values: Cell::new(0),
            stack: RefCell::new(Vec::new()),
        }
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    state: &'a State,
    depth: usize,
}

impl Seed<'_> {
    fn inner(self) -> Self {
        Seed {
            depth: self.depth + 1,
            ..self
        }
    }

    fn enter(self, part: String) {
        self.state.stack.borrow_mut().push(part);
    }

    fn leave(self) {
        self.state.stack.borrow_mut().pop();
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let values = self.state.values.get() + 1;
        self.state.values.set(values);
        if self.depth > DEPTH_MAX || values > VALUES_MAX {
            self.state.code.set("C0003");
            return Err(D::Error::custom("too much"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            self.enter(Path::item_part(list.len()));
            let Some(item) = access.next_element_seed(self.inner())? else {
                break;
            };
            self.leave();
            list.push(item);
        }
        self.leave();
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            self.enter(Path::name_part(&name));
            if map.contains_key(&name) {
                self.state.code.set("C0004");
                return Err(A::Error::custom("twice"));
            }
            let value = access.next_value_seed(self.inner())?;
            self.leave();
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> &'static str {
        read(text).expect_err("refused").code
    }

    #[test]
    fn documents_are_bounded_and_names_are_unique() {
        assert_eq!(
            read(r#" {"a": [1, -2, 2.5, true, null, "x"]} "#).unwrap(),
            serde_json::json!({"a": [1, -2, 2.5, true, null, "x"]})
        );
        assert_eq!(code("{"), "C0001");
        assert_eq!(code("{} {}"), "C0001");
        assert_eq!(code("1e999"), "C0001");
        assert_eq!(code(&"[".repeat(1 << 20)), "C0003");
        assert_eq!(code(&format!("[{}0]", "0,".repeat(VALUES_MAX))), "C0003");
        assert_eq!(code(&" ".repeat(DOCUMENT_BYTES_MAX + 1)), "C0002");
        let twice = read(r#"{"a": [0, {"b c": 1, "b c": 2}]}"#).expect_err("refused");
        assert_eq!((twice.code, twice.path.as_str()), ("C0004", "$.a[1]['b c']"));
        assert_eq!(code(r#"{"a": 1, "\u0061": 2}"#), "C0004");
    }
}
