//! Variables become inputs, constants their values, and what people answer the output of the step that asked.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::super::cel::{Kind, Known, quoted};
use super::super::id::whole_variable;
use super::super::yaml::{Read, Yaml};
use super::names::Names;
use super::shape::{Order, Shape};
use super::step::OUTCOME;

/// An input's name.
pub(super) const INPUT_LENGTH_MAX: usize = 48;
/// Steps that set a variable: each is asked in turn where it is read.
const SETTERS_MAX: usize = 8;
/// The input with the folders to scan beneath, of which CACAO does not speak.
pub(super) const SCAN_ROOTS: &str = "scan_roots";

/// Every variable of a document.
pub(super) struct Variables<'a> {
    /// By step (empty: the playbook) and name.
    all: BTreeMap<&'a str, BTreeMap<&'a str, Variable<'a>>>,
    /// What steps change: by scope and name, the steps.
    set: BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>,
    /// The steps of ours whose output is known: those that ask people, and loops.
    pub asked: BTreeMap<&'a str, String>,
    /// Names of inputs.
    pub names: Names,
    /// Those that are read as inputs: the others need not be given.
    read: RefCell<BTreeSet<(&'a str, &'a str)>>,
}

struct Variable<'a> {
    kind: &'a str,
    value: Option<String>,
    description: &'a str,
    constant: bool,
    external: bool,
    input: String,
}

impl<'a> Variables<'a> {
    pub fn new(root: &'a Map<String, Value>, shape: &Shape<'a>) -> Variables<'a> {
        let mut names = Names::default();
        for reserved in [SCAN_ROOTS, OUTCOME] {
            names.identifier(reserved, "", INPUT_LENGTH_MAX);
        }
        let mut all: BTreeMap<&str, BTreeMap<&str, Variable<'_>>> = BTreeMap::new();
        let mut declare = |scope: &'a str, object: &'a Map<String, Value>, property: &str| {
            let declared = object.get(property).and_then(Value::as_object);
            for (name, variable) in declared.into_iter().flatten() {
                let text = |name: &str| variable.get(name).and_then(Value::as_str);
                let flag = |name: &str| variable.get(name) == Some(&Value::Bool(true));
                let value = match variable.get("value") {
                    Some(Value::String(value)) if whole_variable(value).is_none() => Some(value.clone()),
                    Some(value @ Value::Object(_)) => Some(value.to_string()),
                    _ => None,
                };
                let variable = Variable {
                    kind: text("type").unwrap_or_default(),
                    description: text("description").unwrap_or_default(),
                    constant: flag("constant") && value.is_some(),
                    value,
                    external: flag("external"),
                    input: names.identifier(name.trim_matches('_'), "variable", INPUT_LENGTH_MAX),
                };
                all.entry(scope).or_default().insert(name.as_str(), variable);
            }
        };
        declare("", root, "playbook_variables");
        for (id, step) in &shape.steps {
            declare(id, step, "step_variables");
        }
        let mut variables = Variables {
            all,
            set: BTreeMap::new(),
            asked: BTreeMap::new(),
            names,
            read: RefCell::default(),
        };
        for (id, step) in &shape.steps {
            let out = step
                .get("out_args")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            for name in out.filter_map(Value::as_str) {
                if let Some(key) = variables.key(id, name) {
                    variables.set.entry(key).or_default().insert(id);
                }
            }
        }
        variables
    }

    fn key(&self, step: &str, name: &str) -> Option<(&'a str, &'a str)> {
        [step, ""].into_iter().find_map(|scope| {
            let (scope, names) = self.all.get_key_value(scope)?;
            let (name, _) = names.get_key_value(name)?;
            Some((*scope, *name))
        })
    }

    fn variable(&self, (scope, name): (&str, &str)) -> &Variable<'a> {
        &self.all[scope][name]
    }

    /// The inputs that something reads: name, fields, and what each is for.
    pub fn inputs(&self) -> Vec<(String, Yaml, String)> {
        let read = self.read.borrow();
        let read = read.iter().map(|key| self.variable(*key));
        read.map(|variable| {
            let mut fields = field(variable.kind);
            fields.extend(default(variable.kind, variable.value.as_deref()).map(|value| ("default", value)));
            (
                variable.input.clone(),
                Yaml::map(fields),
                variable.description.to_owned(),
            )
        })
        .collect()
    }

    /// Variables from outside that nothing of ours reads.
    pub fn unread(&self) -> Vec<&'a str> {
        let read = self.read.borrow();
        let all = self
            .all
            .iter()
            .flat_map(|(scope, names)| names.iter().map(move |(name, of)| ((*scope, *name), of)));
        all.filter(|(key, of)| of.external && !read.contains(key))
            .map(|(key, _)| key.1)
            .collect()
    }

    /// A field of a form for what a step puts out, under the variable's name of ours.
    pub fn form(&self, step: &str) -> Vec<(String, Yaml)> {
        let mut form = Vec::new();
        for (key, _) in self.set.iter().filter(|(_, by)| by.contains(step)) {
            let variable = self.variable(*key);
            form.push((variable.input.clone(), Yaml::map(field(variable.kind))));
        }
        form
    }

    /// How a step reads a variable.
    pub fn read(&self, shape: &Shape<'a>, step: &'a str, name: &str) -> Result<Read, String> {
        let key = self
            .key(step, name)
            .ok_or_else(|| format!("`{name}` is not declared"))?;
        let variable = self.variable(key);
        if let (true, Some(value)) = (variable.constant, &variable.value) {
            return Ok(Read::Literal(value.clone()));
        }
        let first = match (variable.external, &variable.value) {
            (false, None) if self.set.contains_key(&key) => "null".to_owned(),
            _ => {
                self.read.borrow_mut().insert(key);
                format!("inputs.{}", variable.input)
            }
        };
        let mut read = first;
        let mut before: Vec<&'a str> = Vec::new();
        let setters = self.set.get(&key);
        if setters.is_some_and(|setters| setters.len() > SETTERS_MAX) {
            return Err(format!("`{name}` is set by more than {SETTERS_MAX} steps"));
        }
        for setter in setters.into_iter().flatten() {
            if *setter == step || self.shares_a_loop(shape, setter, step) {
                return Err(format!("`{name}` is set in a round before this one"));
            }
            match shape.relation(setter, step) {
                Order::Before => before.push(setter),
                Order::After | Order::Exclusive => {}
                Order::Unknown => return Err(format!("`{name}` can be set at the same time")),
            }
        }
        // The later one counts: it is asked first.
        before.sort_by(|a, b| match shape.relation(a, b) {
            Order::Before => std::cmp::Ordering::Less,
            Order::After => std::cmp::Ordering::Greater,
            _ => a.cmp(b),
        });
        for (at, setter) in before.iter().enumerate() {
            let known = before[..at]
                .iter()
                .all(|other| shape.relation(other, setter) != Order::Unknown);
            let own = self.asked.get(setter).filter(|_| known);
            let own =
                own.ok_or_else(|| format!("Cordon does not know what `{setter}` puts into `{name}`"))?;
            let looped = self
                .around(shape, setter)
                .find(|outer| !self.around(shape, step).any(|own| own == *outer));
            read = match looped.map(|outer| (outer, self.asked.get(outer))) {
                None => format!(
                    "steps.{own}.status == \"succeeded\" ? steps.{own}.output.{} : {}",
                    variable.input,
                    bracketed(&read)
                ),
                Some((id, Some(outer))) if shape.always(setter) && shape.opener(setter) == Some(id) => {
                    let rounds =
                        format!("steps.{outer}.status == \"succeeded\" && steps.{outer}.output.rounds > 0");
                    format!(
                        "{rounds} ? steps.{outer}.output.{own}.{} : {}",
                        variable.input,
                        bracketed(&read)
                    )
                }
                Some((_, _)) => return Err(format!("`{name}` may be set in one round and not in the next")),
            };
        }
        Ok(Read::Expression(read))
    }

    /// The loops around a step.
    fn around(&self, shape: &Shape<'a>, step: &'a str) -> impl Iterator<Item = &'a str> {
        let is_loop = |id: &&'a str| super::shape::kind(shape.steps[*id]) == "while-condition";
        shape
            .enclosing(step)
            .filter(is_loop)
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn shares_a_loop(&self, shape: &Shape<'a>, setter: &'a str, step: &'a str) -> bool {
        let outer: Vec<&str> = self.around(shape, step).collect();
        self.around(shape, setter).any(|id| outer.contains(&id))
            && shape.relation(setter, step) != Order::Before
    }

    /// What a loop's own condition reads: the round before, or what was there first.
    pub fn read_between_rounds(&self, shape: &Shape<'a>, step: &'a str, name: &str) -> Result<Read, String> {
        let key = self
            .key(step, name)
            .ok_or_else(|| format!("`{name}` is not declared"))?;
        let inner: Vec<&str> = self
            .set
            .get(&key)
            .into_iter()
            .flatten()
            .copied()
            .filter(|setter| shape.enclosing(setter).any(|outer| outer == step))
            .collect();
        match inner.as_slice() {
            [] => self.read(shape, step, name),
            [setter] if shape.always(setter) && shape.opener(setter) == Some(step) => {
                let own = self
                    .asked
                    .get(setter)
                    .ok_or_else(|| format!("Cordon does not know what `{setter}` puts into `{name}`"))?;
                let first = match self.read(shape, step, name)? {
                    Read::Expression(cel) => cel,
                    Read::Literal(value) => quoted(&value),
                };
                let input = &self.variable(key).input;
                Ok(Read::Expression(format!(
                    "steps.{own}.status == \"succeeded\" ? steps.{own}.output.{input} : {}",
                    bracketed(&first)
                )))
            }
            _ => Err(format!("`{name}` may be set in one round and not in the next")),
        }
    }

    /// The same for a comparison.
    pub fn known(&self, step: &str, name: &str, read: Read) -> Result<Known, String> {
        let key = self
            .key(step, name)
            .ok_or_else(|| format!("`{name}` is not declared"))?;
        let kind = match self.variable(key).kind {
            "bool" => Kind::Bool,
            "integer" | "long" => Kind::Int,
            "float" => Kind::Float,
            "dictionary" => return Err(format!("`{name}` is a dictionary")),
            _ => Kind::Text,
        };
        let cel = match read {
            Read::Expression(cel) => bracketed(&cel),
            Read::Literal(value) if kind == Kind::Text => quoted(&value),
            Read::Literal(value) if kind == Kind::Float => {
                let value: f64 = value.parse().map_err(|_| format!("`{name}` is no number"))?;
                format!("{value:?}")
            }
            Read::Literal(value) => value,
        };
        Ok(Known { cel, kind })
    }

    /// The name of the input that the variable of another playbook has there, if it was imported too.
    pub fn input_of(name: &str) -> String {
        Names::default().identifier(name.trim_matches('_'), "variable", INPUT_LENGTH_MAX)
    }
}

fn bracketed(cel: &str) -> String {
    if cel.contains(' ') {
        format!("({cel})")
    } else {
        cel.to_owned()
    }
}

/// The type of ours.
fn field(kind: &str) -> Vec<(&'static str, Yaml)> {
    let (kind, pattern) = match kind {
        "bool" => ("bool", None),
        "integer" | "long" => ("int", None),
        "float" => ("float", None),
        "ipv4-addr" | "ipv6-addr" => ("ip", None),
        "dictionary" => ("json", None),
        "mac-addr" => ("string", Some("([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")),
        "md5-hash" => ("string", Some("[0-9A-Fa-f]{32}")),
        "sha256-hash" => ("string", Some("[0-9A-Fa-f]{64}")),
        "hash" | "hexstring" => ("string", Some("[0-9A-Fa-f]*")),
        "uuid" => (
            "string",
            Some("[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[1-5][0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}"),
        ),
        _ => ("string", None),
    };
    let mut fields = vec![("type", Yaml::word(kind))];
    fields.extend(pattern.map(|pattern| ("pattern", Yaml::bare(pattern))));
    fields
}

/// The value as the type of ours has it; none: it must be given.
fn default(kind: &str, value: Option<&str>) -> Option<Yaml> {
    let value = value?;
    Some(match kind {
        "bool" => Yaml::plain(&Value::Bool(value.parse().ok()?)),
        "integer" | "long" => Yaml::plain(&Value::from(value.parse::<i64>().ok()?)),
        "float" => Yaml::plain(&Value::from(value.parse::<f64>().ok()?)),
        // A network is no address.
        "ipv4-addr" | "ipv6-addr" if value.parse::<std::net::IpAddr>().is_err() => return None,
        "dictionary" => Yaml::plain(&crate::canonical::sorted(&serde_json::from_str(value).ok()?)),
        "mac-addr" | "md5-hash" | "sha256-hash" | "uuid" if value.is_empty() => return None,
        _ => Yaml::bare(value),
    })
}
