//! YAML to a tree in which every node knows its place.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Error;

use crate::problem::{Place, Problem};

/// Nodes of one text: a playbook of a few hundred steps has a few thousand.
const NODES_MAX: usize = 50_000;
/// Nesting of one text.
const DEPTH_MAX: usize = 32;
/// `*name` in one text.
const ALIASES_MAX: usize = 256;
/// `&name` in one text.
const ANCHORS_MAX: usize = 64;

/// A node and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Of its first character.
    pub place: Place,
    /// What stands there.
    pub data: Data,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Data {
    /// Nothing.
    Null,
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Everything else that is one value.
    Text(String),
    /// Its items.
    List(Vec<Node>),
    /// Its entries, in the order of the text; no name twice.
    Map(Vec<(Key, Node)>),
}

/// A map's key and its place.
#[derive(Clone, Debug)]
pub struct Key {
    /// Of its first character.
    pub place: Place,
    /// The key itself.
    pub name: String,
}

/// Reads one document.
///
/// # Errors
/// What makes it no YAML, or more than a text may be.
pub fn read(text: &str) -> Result<Node, Box<Problem>> {
    let options = serde_saphyr::options! {
        reject_unsupported_tags: true,
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_depth: DEPTH_MAX,
            max_aliases: ALIASES_MAX,
            max_anchors: ANCHORS_MAX,
            max_documents: 1,
        },
    };
    let raw: serde_saphyr::Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = error.location().map_or(Place { line: 1, column: 1 }, |at| Place {
                line: u32::try_from(at.line()).unwrap_or(0),
                column: u32::try_from(at.column()).unwrap_or(0),
            });
            let (message, hint) = in_words(&error);
            Box::new(Problem {
                code: "E0001",
                place,
                message: format!("this is not YAML that a playbook can be: {message}"),
                hint: hint.to_owned(),
            })
        })?;
    Ok(node(raw))
}

/// What is wrong and how to mend it. Of the reader's own words only those about the syntax are kept: the others
/// speak of its options.
fn in_words(error: &serde_saphyr::Error) -> (String, &'static str) {
    use serde_saphyr::budget::BudgetBreach;
    let mut inner = error.without_snippet();
    while let Error::AliasError { error, .. } = inner {
        inner = error.without_snippet();
    }
    match inner {
        Error::DuplicateMappingKey { key: Some(key), .. } => (
            format!("`{key}` is given twice in the same map"),
            "leave out one of the two, or give it another name",
        ),
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Documents { .. } => (
                "a second document begins here".to_owned(),
                "one playbook a file: split it at `---`",
            ),
            BudgetBreach::Depth { .. } => (
                format!("it is nested deeper than {DEPTH_MAX}"),
                "split what is nested into steps",
            ),
            BudgetBreach::Nodes { .. } => (
                format!("it has more than {NODES_MAX} values, with what its aliases repeat"),
                "move data into inputs",
            ),
            _ => (
                format!(
                    "it has more than {ANCHORS_MAX} anchors or {ALIASES_MAX} aliases, or repeats too much"
                ),
                "write out what is repeated, or move it into inputs",
            ),
        },
        _ => {
            let whole = error.to_string();
            let first = whole.lines().next().unwrap_or("not YAML");
            (
                first.trim_start_matches("error: ").to_owned(),
                "keys are unique, indentation is by spaces, one document a file",
            )
        }
    }
}

impl Node {
    /// The kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "a bool",
            Data::Int(_) => "an integer",
            Data::Float(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }

    /// The value of a key.
    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.data {
            Data::Map(entries) => entries
                .iter()
                .find(|(key, _)| key.name == name)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The same without places.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(b) => Value::Bool(*b),
            Data::Int(i) => Value::from(*i),
            Data::Float(f) => Value::from(*f),
            Data::Text(t) => Value::String(t.clone()),
            Data::List(l) => Value::Array(l.iter().map(Node::to_json).collect()),
            Data::Map(m) => Value::Object(m.iter().map(|(k, v)| (k.name.clone(), v.to_json())).collect()),
        }
    }
}

type Spanned<T> = serde_saphyr::Spanned<T>;

enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn node(raw: Spanned<Raw>) -> Node {
    let place = place_of(&raw);
    let data = match raw.value {
        Raw::Null => Data::Null,
        Raw::Bool(b) => Data::Bool(b),
        Raw::Int(i) => Data::Int(i),
        Raw::Float(f) => Data::Float(f),
        Raw::Text(t) => Data::Text(t),
        Raw::List(l) => Data::List(l.into_iter().map(node).collect()),
        Raw::Map(m) => Data::Map(
            m.into_iter()
                .map(|(key, value)| {
                    let place = place_of(&key);
                    (
                        Key {
                            place,
                            name: key.value,
                        },
                        node(value),
                    )
                })
                .collect(),
        ),
    };
    Node { place, data }
}

fn place_of<T>(spanned: &Spanned<T>) -> Place {
    let at = &spanned.referenced;
    Place {
        line: u32::try_from(at.line()).unwrap_or(0),
        column: u32::try_from(at.column()).unwrap_or(0),
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Raw, E> {
        i64::try_from(value)
            .map(Raw::Int)
            .map_err(|_| E::custom("an integer of more than 63 bits"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = access.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = access.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}
