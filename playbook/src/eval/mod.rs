//! Evaluating the expressions of a manifest (CEL) under limits. On the leader only: the log records results.
//!
//! The limits, so that no expression runs for ever or eats the memory:
//! - source of at most [`SOURCE_BYTES_MAX`] bytes, at most [`BRANCHES_MAX`] of `( [ { ! - ?`, a tree of at most
//!   [`NODES_MAX`] nodes and [`DEPTH_MAX`] levels;
//! - before it runs: its comprehensions (`exists`, `map`, ...) can take at most [`STEPS_MAX`] steps. The bound is
//!   (all values that it reads + its own nodes) to the power of its independently nested comprehensions; one that
//!   goes over a part of the item of the one around it is not independent, since together they walk a tree once;
//! - a result of at most [`RESULT_BYTES_MAX`] bytes of JSON.
//!
//! Iterating a map is refused wherever it can be told from the text: the order would differ between processes.
//! There is no function that reads a clock.

mod here;
mod program;
mod value;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use cel::Context;
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use serde_json::Value;

use crate::manifest::{Expression, Template, TextPart};

pub(crate) use here::PREFIX as HERE_PREFIX;
pub use here::{here_variables, here_variables_of};
pub(crate) use program::{Parsed, parse};

/// Of one expression.
pub const SOURCE_BYTES_MAX: usize = 4_096;
/// Characters in the source that make the parser go deeper.
pub const BRANCHES_MAX: usize = 200;
/// Of the syntax tree.
pub const NODES_MAX: usize = 1_500;
/// Levels of the syntax tree.
pub const DEPTH_MAX: usize = 64;
/// Steps of all comprehensions together.
pub const STEPS_MAX: u64 = 20_000_000;
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
pub struct Shared {
    value: Arc<dyn Val>,
    /// Values in it, itself included.
    nodes: u64,
}

impl Shared {
    /// Integers are ints, whatever JSON says.
    pub fn new(value: &Value) -> Shared {
        let (value, nodes) = value::from_json(value);
        let boxed: Box<dyn Val> = value.try_into().expect("JSON has no functions");
        Shared {
            value: Arc::from(boxed),
            nodes,
        }
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
        let failed = |reason: String| EvalError {
            expression: expression.0.clone(),
            reason,
        };
        let parsed = cached(expression).map_err(&failed)?;
        let mut read = parsed.nodes as u64;
        for name in &parsed.names {
            read = read.saturating_add(self.find(name).map_or(0, |found| found.nodes));
        }
        let steps = read.saturating_pow(parsed.nesting);
        if parsed.nesting > 0 && steps > STEPS_MAX {
            return Err(failed(format!(
                "it could take {steps} steps over {read} values, more than {STEPS_MAX}: nest fewer lists in each other"
            )));
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut context = Context::default();
            context.set_variable_resolver(self);
            parsed.program.execute(&context)
        }));
        let value = match result {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("the evaluator gave up on it".to_owned())),
        };
        value::to_json(&value, RESULT_BYTES_MAX).map_err(failed)
    }

    /// Evaluates a condition; anything but a bool is an error.
    pub fn test(&self, expression: &Expression) -> Result<bool, EvalError> {
        match self.eval(expression)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(EvalError {
                expression: expression.0.clone(),
                reason: format!("a condition is true or false, this is {}", value::kind(&other)),
            }),
        }
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
                            text.push_str(&value::as_text(&self.eval(expression)?));
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

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        self.find(variable).map(|found| CowVal::Borrowed(&*found.value))
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
