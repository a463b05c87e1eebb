//! Evaluating the expressions of a manifest under limits. (Contract; see the module's owner.)

use serde_json::Value;

use crate::manifest::{Expression, Template};

/// Why an expression could not be evaluated.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{expression}: {reason}")]
pub struct EvalError {
    /// The source text.
    pub expression: String,
    /// What went wrong, for people.
    pub reason: String,
}

/// The names that are in scope. Cheap to extend: a child holds only what it adds.
pub struct Scope<'a> {
    parent: Option<&'a Scope<'a>>,
    names: Vec<(String, Value)>,
}

impl<'a> Scope<'a> {
    /// An empty scope.
    pub fn new() -> Scope<'static> {
        Scope {
            parent: None,
            names: Vec::new(),
        }
    }

    /// Adds a name, or replaces it.
    pub fn bind(&mut self, name: &str, value: &Value) {
        self.names.retain(|(n, _)| n != name);
        self.names.push((name.to_owned(), value.clone()));
    }

    /// A scope in which everything of this one is visible and more can be bound, without copying.
    pub fn child<'b>(&'b self) -> Scope<'b> {
        Scope {
            parent: Some(self),
            names: Vec::new(),
        }
    }

    /// Evaluates an expression. Integers are ints; timestamps and durations come back as text.
    pub fn eval(&self, expression: &Expression) -> Result<Value, EvalError> {
        let _ = self.parent;
        Err(EvalError {
            expression: expression.0.clone(),
            reason: "not built".into(),
        })
    }

    /// Evaluates a condition; anything but a bool is an error.
    pub fn test(&self, expression: &Expression) -> Result<bool, EvalError> {
        self.eval(expression).map(|v| v == Value::Bool(true))
    }

    /// Renders a template.
    pub fn render(&self, template: &Template) -> Result<Value, EvalError> {
        match template {
            Template::Literal(value) => Ok(value.clone()),
            Template::Expression(expression) => self.eval(expression),
            _ => Err(EvalError {
                expression: String::new(),
                reason: "not built".into(),
            }),
        }
    }
}

impl Default for Scope<'static> {
    fn default() -> Self {
        Scope::new()
    }
}
