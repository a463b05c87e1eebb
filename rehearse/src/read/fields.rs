//! Values out of nodes, with a problem for each that is not what it should be.

use playbook::yaml::{Data, Key, Node};
use playbook::{Place, Problem, nearest};
use serde_json::{Map, Value};

/// What was found wrong.
#[derive(Default)]
pub(super) struct Reader {
    pub found: Vec<Problem>,
}

impl Reader {
    pub fn problem(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let problem = Problem {
            code,
            place,
            message: message.into(),
            hint: hint.into(),
        };
        // What stands at the top is read once for each case.
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }

    /// A map's entries; None: it is no map.
    pub fn map<'a>(&mut self, node: &'a Node, what: &str) -> Option<&'a [(Key, Node)]> {
        match &node.data {
            Data::Map(entries) => Some(entries),
            _ => {
                self.shape(node, what, "a map");
                None
            }
        }
    }

    /// A map all of whose names are known.
    pub fn fields<'a>(&mut self, node: &'a Node, what: &str, known: &[&str]) -> Option<&'a Node> {
        for (key, _) in self.map(node, what)? {
            if !known.contains(&key.name.as_str()) {
                let hint = nearest::hint(&key.name, known.iter().copied());
                self.problem(
                    "T0102",
                    key.place,
                    format!("{what} has no field `{}`", key.name),
                    hint,
                );
            }
        }
        Some(node)
    }

    /// A list's items; what is no list is a list of one.
    pub fn one_or_more<'a>(&self, node: &'a Node) -> &'a [Node] {
        match &node.data {
            Data::List(items) => items,
            _ => std::slice::from_ref(node),
        }
    }

    pub fn list<'a>(&mut self, node: &'a Node, what: &str) -> &'a [Node] {
        match &node.data {
            Data::List(items) => items,
            _ => {
                self.shape(node, what, "a list");
                &[]
            }
        }
    }

    pub fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.data {
            Data::Text(text) => Some(text.clone()),
            _ => {
                self.shape(node, what, "text");
                None
            }
        }
    }

    /// One of these words.
    pub fn word(&mut self, node: &Node, what: &str, known: &[&str]) -> Option<String> {
        let text = self.text(node, what)?;
        if known.contains(&text.as_str()) {
            return Some(text);
        }
        let hint = nearest::hint(&text, known.iter().copied());
        self.problem("T0104", node.place, format!("there is no {what} `{text}`"), hint);
        None
    }

    pub fn count(&mut self, node: &Node, what: &str) -> Option<u64> {
        match node.data {
            Data::Int(number) if number >= 0 => Some(number as u64),
            _ => {
                self.shape(node, what, "a whole number from 0 on");
                None
            }
        }
    }

    pub fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        match node.data {
            Data::Bool(flag) => Some(flag),
            _ => {
                self.shape(node, what, "true or false");
                None
            }
        }
    }

    /// In milliseconds.
    pub fn duration(&mut self, node: &Node, what: &str) -> Option<u64> {
        let parsed = match &node.data {
            Data::Text(text) => catalogue::parse_duration(text).ok(),
            _ => None,
        };
        if parsed.is_none() {
            self.shape(node, what, "a duration such as 30s or 1h30m");
        }
        parsed
    }

    pub fn object(&mut self, node: &Node, what: &str) -> Map<String, Value> {
        match node.to_json() {
            Value::Object(map) => map,
            _ => {
                self.shape(node, what, "a map");
                Map::new()
            }
        }
    }

    fn shape(&mut self, node: &Node, what: &str, wanted: &str) {
        let message = format!("{what} is {wanted}, this is {}", node.kind());
        self.problem("T0101", node.place, message, "");
    }
}
