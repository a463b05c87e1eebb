//! Evaluating the expressions of a manifest (CEL) under limits. On the leader only: the log records results.
//!
//! The `cel` crate parses; the tree is walked here. Its own interpreter has no bound on steps or memory, copies
//! every item that a comprehension visits (which makes a fan-out quadratic), puts whole values into its errors
//! and goes through maps in an order that differs between processes (docs/adr/0022-expressions-are-walked-here.md).
//!
//! The limits, so that no expression runs for ever or eats the memory:
//! - source of at most [`SOURCE_BYTES_MAX`] bytes, at most [`BRANCHES_MAX`] of `( [ { ! - ?`, a tree of at most
//!   [`NODES_MAX`] nodes and [`DEPTH_MAX`] levels;
//! - an evaluation takes at most [`STEPS_MAX`] steps (a node is one; a function pays for the items and bytes that
//!   it looks at) and makes at most [`ALLOCATED_BYTES_MAX`] bytes of new values. Both are counted, not timed: the
//!   same expression over the same values gives the same answer, or the same refusal, on every machine;
//! - a result of at most [`RESULT_BYTES_MAX`] bytes of JSON and [`DEPTH_MAX`] levels.
//!
//! Going through a map is refused: statically where the text shows it, otherwise when it happens. There is no
//! function that reads a clock.

mod functions;
mod here;
mod machine;
mod preview;
mod program;
mod value;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use crate::manifest::{Expression, Template, TextPart};

pub(crate) use here::PREFIX as HERE_PREFIX;
pub use here::{as_written, here_variables, here_variables_of};
pub(crate) use program::{Parsed, parse};
use value::Cel;

/// Of one expression.
pub const SOURCE_BYTES_MAX: usize = 4_096;
/// Characters in the source that make the parser go deeper.
pub const BRANCHES_MAX: usize = 200;
/// Of the syntax tree.
pub const NODES_MAX: usize = 1_500;
/// Levels of the syntax tree.
pub const DEPTH_MAX: usize = 64;
/// Steps of one evaluation.
pub const STEPS_MAX: u64 = 5_000_000;
/// Bytes of new values that one evaluation makes.
pub const ALLOCATED_BYTES_MAX: u64 = 64 << 20;
/// Of a result, as JSON.
pub const RESULT_BYTES_MAX: usize = 4 << 20;
/// Compiled programs that a thread keeps.
const CACHED_MAX: usize = 1_024;

/// Why an expression could not be evaluated.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{expression}`: {reason}")]
pub struct EvalError {
    /// The source text.
    pub expression: String,
    /// What went wrong, for people.
    pub reason: String,
}

/// A value made ready for expressions once, to be bound into many scopes for the price of a pointer.
#[derive(Clone, Debug)]
pub struct Shared(Cel);

impl Shared {
    /// Integers are ints, whatever JSON says. Linear in the value's size.
    pub fn new(value: &Value) -> Shared {
        Shared(Cel::from_json(value))
    }
}

/// The names that are in scope. A child holds only what it adds.
#[derive(Debug, Default)]
pub struct Scope<'a> {
    parent: Option<&'a Scope<'a>>,
    names: BTreeMap<String, Shared>,
}

impl<'a> Scope<'a> {
    /// An empty scope.
    pub fn new() -> Scope<'static> {
        Scope {
            parent: None,
            names: BTreeMap::new(),
        }
    }

    /// Adds a name, or replaces it.
    pub fn bind(&mut self, name: &str, value: &Value) {
        self.bind_shared(name, &Shared::new(value));
    }

    /// Adds a name, or replaces it.
    pub fn bind_shared(&mut self, name: &str, value: &Shared) {
        self.names.insert(name.to_owned(), value.clone());
    }

    /// A scope in which everything of this one is visible and more can be bound, without copying.
    pub fn child<'b>(&'b self) -> Scope<'b> {
        Scope {
            parent: Some(self),
            names: BTreeMap::new(),
        }
    }

    /// Evaluates an expression. Integers are ints; timestamps and durations come back as text.
    pub fn eval(&self, expression: &Expression) -> Result<Value, EvalError> {
        self.run(expression)?
            .to_json()
            .map_err(|reason| failed(expression, reason))
    }

    /// Evaluates a condition; anything but a bool is an error.
    pub fn test(&self, expression: &Expression) -> Result<bool, EvalError> {
        match self.run(expression)? {
            Cel::Bool(holds) => Ok(holds),
            other => Err(failed(
                expression,
                format!("a condition is true or false, this is {}", other.kind()),
            )),
        }
    }

    fn run(&self, expression: &Expression) -> Result<Cel, EvalError> {
        let parsed = cached(expression).map_err(|reason| failed(expression, reason))?;
        machine::run(&parsed, self).map_err(|reason| failed(expression, reason))
    }

    /// Renders a template.
    pub fn render(&self, template: &Template) -> Result<Value, EvalError> {
        match template {
            Template::Literal(value) => Ok(value.clone()),
            Template::Expression(expression) => self.eval(expression),
            Template::Text(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        TextPart::Text(part) => text.push_str(part),
                        TextPart::Expression(expression) => {
                            match self.eval(expression)? {
                                Value::String(part) => text.push_str(&part),
                                // For people to read, never to be parsed.
                                other => text.push_str(&other.to_string()),
                            }
                        }
                    }
                }
                Ok(Value::String(text))
            }
            Template::List(items) => items
                .iter()
                .map(|item| self.render(item))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Template::Map(entries) => {
                let mut map = serde_json::Map::new();
                for (name, template) in entries {
                    map.insert(name.clone(), self.render(template)?);
                }
                Ok(Value::Object(map))
            }
        }
    }

    /// Everything that an expression reads is in scope. One that does not parse can never be known.
    pub fn knows(&self, expression: &Expression) -> bool {
        cached(expression).is_ok_and(|parsed| parsed.names.iter().all(|name| self.find(name).is_some()))
    }

    fn find(&self, name: &str) -> Option<&Shared> {
        let mut scope = Some(self);
        while let Some(here) = scope {
            if let Some(found) = here.names.get(name) {
                return Some(found);
            }
            scope = here.parent;
        }
        None
    }
}

fn failed(expression: &Expression, reason: String) -> EvalError {
    EvalError {
        expression: expression.0.clone(),
        reason,
    }
}

thread_local! {
    static PROGRAMS: RefCell<BTreeMap<String, Rc<Parsed>>> = const { RefCell::new(BTreeMap::new()) };
}

fn cached(expression: &Expression) -> Result<Rc<Parsed>, String> {
    PROGRAMS.with(|programs| {
        if let Some(parsed) = programs.borrow().get(&expression.0) {
            return Ok(parsed.clone());
        }
        let parsed = Rc::new(parse(&expression.0).map_err(|error| error.message)?);
        let mut programs = programs.borrow_mut();
        if programs.len() >= CACHED_MAX {
            programs.clear();
        }
        programs.insert(expression.0.clone(), parsed.clone());
        Ok(parsed)
    })
}

#[cfg(test)]
mod tests;
