//! The evaluation: a walk over the syntax tree that pays for every node and every byte.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::functions::{self, MAP_ITERATED};
use super::program::Parsed;
use super::value::Cel;
use super::{ALLOCATED_BYTES_MAX, STEPS_MAX, Scope, Shared};

/// What one item of a list takes.
const ITEM_BYTES: u64 = size_of::<Cel>() as u64;

/// Why an evaluation stopped.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The expression is wrong for these values. `false && error` is still false.
    Error {
        message: String,
        /// The node, once known.
        node: Option<u64>,
    },
    /// A limit was reached. Nothing absorbs this.
    Limit(String),
}

impl Fault {
    pub(crate) fn error(message: impl Into<String>) -> Fault {
        Fault::Error {
            message: message.into(),
            node: None,
        }
    }

    fn at(self, id: u64) -> Fault {
        match self {
            Fault::Error { message, node: None } => Fault::Error {
                message,
                node: Some(id),
            },
            other => other,
        }
    }
}

/// What an evaluation may still spend.
pub(crate) struct Meter {
    steps_left: u64,
    bytes_left: u64,
}

impl Meter {
    pub(crate) fn steps(&mut self, steps: u64) -> Result<(), Fault> {
        self.steps_left = self.steps_left.checked_sub(steps).ok_or_else(|| {
            Fault::Limit(format!(
                "takes more than {STEPS_MAX} steps; go through smaller lists, or split it"
            ))
        })?;
        Ok(())
    }

    pub(crate) fn bytes(&mut self, bytes: u64) -> Result<(), Fault> {
        self.bytes_left = self
            .bytes_left
            .checked_sub(bytes)
            .ok_or_else(|| Fault::Limit(format!("makes more than {ALLOCATED_BYTES_MAX} bytes of values")))?;
        Ok(())
    }

    pub(crate) fn items(&mut self, items: u64) -> Result<(), Fault> {
        self.bytes(items * ITEM_BYTES)
    }

    pub(crate) fn text(&mut self, text: String) -> Result<Cel, Fault> {
        self.steps(text.len() as u64 / 64)?;
        self.bytes(text.len() as u64)?;
        Ok(Cel::Text(Arc::from(text)))
    }

    pub(crate) fn list(&mut self, items: Vec<Cel>) -> Result<Cel, Fault> {
        self.items(items.len() as u64)?;
        Ok(Cel::list(items))
    }
}

/// Evaluates; an error says what and where, in characters from one.
pub(crate) fn run(program: &Parsed, scope: &Scope<'_>) -> Result<Cel, String> {
    let mut machine = Machine {
        program,
        scope,
        meter: Meter {
            steps_left: STEPS_MAX,
            bytes_left: ALLOCATED_BYTES_MAX,
        },
    };
    machine
        .eval(program.program.expression(), None)
        .map_err(|fault| match fault {
            Fault::Limit(message) => message,
            Fault::Error { message, node } => match node.and_then(|id| place(program, id)) {
                Some(at) => format!("{message} (at character {})", at + 1),
                None => message,
            },
        })
}

/// Where a node stands in the source, in characters.
fn place(program: &Parsed, id: u64) -> Option<u32> {
    let (start, _) = program.program.source_info().offset_for(id)?;
    Some(start)
}

/// A variable of a comprehension, and those around it.
struct Frame<'a> {
    name: &'a str,
    value: Cel,
    outer: Option<&'a Frame<'a>>,
}

struct Machine<'p, 's> {
    program: &'p Parsed,
    scope: &'s Scope<'s>,
    meter: Meter,
}

impl<'p> Machine<'p, '_> {
    fn eval(&mut self, node: &'p IdedExpr, frame: Option<&Frame<'_>>) -> Result<Cel, Fault> {
        self.meter.steps(1)?;
        match &node.expr {
            Expr::Literal(literal) => Ok(literal_value(literal)),
            Expr::Ident(name) => self.variable(name, frame).map_err(|f| f.at(node.id)),
            Expr::Select(select) if select.test => self.has(&select.operand, &select.field, frame),
            Expr::Select(select) => {
                let operand = self.eval(&select.operand, frame)?;
                field(&operand, &select.field).map_err(|f| f.at(node.id))
            }
            Expr::List(list) => {
                let mut items = Vec::with_capacity(list.elements.len());
                for element in &list.elements {
                    items.push(self.eval(element, frame)?);
                }
                self.meter.list(items)
            }
            Expr::Map(map) => {
                let mut entries = BTreeMap::new();
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(Fault::error("there are no message types").at(node.id));
                    };
                    let Cel::Text(key) = self.eval(&entry.key, frame)? else {
                        return Err(Fault::error("the keys of a map must be text").at(entry.key.id));
                    };
                    let value = self.eval(&entry.value, frame)?;
                    self.meter.bytes(ITEM_BYTES * 2)?;
                    if entries.insert(key, value).is_some() {
                        return Err(Fault::error("the map has a key twice").at(entry.key.id));
                    }
                }
                Ok(Cel::Map(Arc::new(entries)))
            }
            Expr::Call(call) => self.call(node.id, call, frame).map_err(|f| f.at(node.id)),
            Expr::Comprehension(loop_) => self.comprehension(loop_, frame).map_err(|f| f.at(node.id)),
            Expr::Struct(_) | Expr::Unspecified => Err(Fault::error("is not an expression").at(node.id)),
        }
    }

    fn variable(&self, name: &str, frame: Option<&Frame<'_>>) -> Result<Cel, Fault> {
        let mut inner = frame;
        while let Some(frame) = inner {
            if frame.name == name {
                return Ok(frame.value.clone());
            }
            inner = frame.outer;
        }
        match self.scope.find(name) {
            Some(Shared(value)) => Ok(value.clone()),
            None => Err(Fault::error(format!("`{name}` is not known here"))),
        }
    }

    /// `has(a.b.c)`: whether it is there. What is absent, or null, on the way is an answer, not an error.
    fn has(&mut self, operand: &'p IdedExpr, name: &str, frame: Option<&Frame<'_>>) -> Result<Cel, Fault> {
        let holds = match &operand.expr {
            Expr::Select(select) if !select.test => {
                if let Cel::Bool(false) = self.has(&select.operand, &select.field, frame)? {
                    return Ok(Cel::Bool(false));
                }
                self.eval(operand, frame)?
            }
            _ => self.eval(operand, frame)?,
        };
        match holds {
            Cel::Map(entries) => Ok(Cel::Bool(
                entries.get(name).is_some_and(|v| !matches!(v, Cel::Null)),
            )),
            Cel::Null => Ok(Cel::Bool(false)),
            other => Err(Fault::error(format!("{} has no fields", other.kind())).at(operand.id)),
        }
    }

    fn call(&mut self, id: u64, call: &'p CallExpr, frame: Option<&Frame<'_>>) -> Result<Cel, Fault> {
        if let Some(target) = &call.target {
            let mut arguments = vec![self.eval(target, frame)?];
            for argument in &call.args {
                arguments.push(self.eval(argument, frame)?);
            }
            return self.function(id, call, arguments);
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::CONDITIONAL, [condition, yes, no]) => match self.eval(condition, frame)? {
                Cel::Bool(true) => self.eval(yes, frame),
                Cel::Bool(false) => self.eval(no, frame),
                other => Err(Fault::error(format!(
                    "`?`: the condition is {}, not a bool",
                    other.kind()
                ))),
            },
            (operators::LOGICAL_OR, [left, right]) => self.logical(left, right, true, frame),
            (operators::LOGICAL_AND, [left, right]) => self.logical(left, right, false, frame),
            (operators::LOGICAL_NOT, [operand]) => match self.eval(operand, frame)? {
                Cel::Bool(b) => Ok(Cel::Bool(!b)),
                other => Err(Fault::error(format!("`!`: cannot take {}", other.kind()))),
            },
            (operators::NEGATE, [operand]) => match self.eval(operand, frame)? {
                Cel::Int(i) => i
                    .checked_neg()
                    .map(Cel::Int)
                    .ok_or_else(|| Fault::error("`-`: the number is too large")),
                Cel::Float(f) => Ok(Cel::Float(-f)),
                Cel::Span(ms) => Ok(Cel::Span(-ms)),
                other => Err(Fault::error(format!("`-`: cannot take {}", other.kind()))),
            },
            (operator @ (operators::EQUALS | operators::NOT_EQUALS), [left, right]) => {
                let (left, right) = (self.eval(left, frame)?, self.eval(right, frame)?);
                let mut steps = 0;
                let equal = left.equals(&right, &mut steps);
                self.meter.steps(steps)?;
                Ok(Cel::Bool(equal == (operator == operators::EQUALS)))
            }
            (
                operator @ (operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS),
                [left, right],
            ) => {
                let (left, right) = (self.eval(left, frame)?, self.eval(right, frame)?);
                let order = left.compare(&right).ok_or_else(|| {
                    let sign = operator.trim_matches('_');
                    Fault::error(format!(
                        "`{sign}`: cannot compare {} and {}",
                        left.kind(),
                        right.kind()
                    ))
                })?;
                Ok(Cel::Bool(match operator {
                    operators::LESS => order == Ordering::Less,
                    operators::LESS_EQUALS => order != Ordering::Greater,
                    operators::GREATER => order == Ordering::Greater,
                    _ => order != Ordering::Less,
                }))
            }
            (operators::IN, [item, container]) => {
                let (item, container) = (self.eval(item, frame)?, self.eval(container, frame)?);
                self.contains(&item, &container)
            }
            (operators::INDEX, [operand, index]) => {
                let (operand, index) = (self.eval(operand, frame)?, self.eval(index, frame)?);
                item(&operand, &index)
            }
            (
                operator @ (operators::ADD
                | operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO),
                [left, right],
            ) => {
                let (left, right) = (self.eval(left, frame)?, self.eval(right, frame)?);
                functions::arithmetic(operator, &left, &right, &mut self.meter)
            }
            (_, arguments) => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(self.eval(argument, frame)?);
                }
                self.function(id, call, values)
            }
        }
    }

    fn function(&mut self, id: u64, call: &CallExpr, arguments: Vec<Cel>) -> Result<Cel, Fault> {
        if let Some(pattern) = self.program.patterns.get(&id) {
            let text = arguments.first().unwrap_or(&Cel::Null);
            return functions::matches(text, pattern, &mut self.meter);
        }
        functions::call(&call.func_name, arguments, &mut self.meter)
    }

    /// `||` (absorbing `true`) and `&&` (absorbing `false`): the absorbing side decides, whatever is wrong with
    /// the other.
    fn logical(
        &mut self,
        left: &'p IdedExpr,
        right: &'p IdedExpr,
        absorbing: bool,
        frame: Option<&Frame<'_>>,
    ) -> Result<Cel, Fault> {
        let left = self.eval(left, frame).and_then(bool_of);
        match left {
            Ok(value) if value == absorbing => Ok(Cel::Bool(absorbing)),
            Err(limit @ Fault::Limit(_)) => Err(limit),
            left => {
                let right = self.eval(right, frame).and_then(bool_of)?;
                if right == absorbing {
                    return Ok(Cel::Bool(absorbing));
                }
                left.map(|_| Cel::Bool(right))
            }
        }
    }

    fn contains(&mut self, item: &Cel, container: &Cel) -> Result<Cel, Fault> {
        match (item, container) {
            (_, Cel::List(items)) => {
                let mut steps = 0;
                let found = items.iter().any(|candidate| candidate.equals(item, &mut steps));
                // Comparing short texts is far cheaper than visiting a node.
                self.meter.steps(steps / 16)?;
                Ok(Cel::Bool(found))
            }
            (Cel::Text(key), Cel::Map(entries)) => Ok(Cel::Bool(entries.contains_key(key))),
            _ => Err(Fault::error(format!(
                "`in`: cannot look for {} in {}",
                item.kind(),
                container.kind()
            ))),
        }
    }

    fn comprehension(
        &mut self,
        loop_: &'p ComprehensionExpr,
        frame: Option<&Frame<'_>>,
    ) -> Result<Cel, Fault> {
        let items = match self.eval(&loop_.iter_range, frame)? {
            Cel::List(items) => items,
            Cel::Map(_) => return Err(Fault::error(MAP_ITERATED)),
            other => {
                return Err(Fault::error(format!(
                    "only a list can be gone through, this is {}",
                    other.kind()
                )));
            }
        };
        match Shape::of(loop_) {
            Shape::Append { guard, item } => self.append(loop_, &items, guard, item, frame),
            Shape::Fold { absorbing, operand } => self.fold(loop_, &items, absorbing, operand, frame),
            Shape::Count { condition } => {
                let mut count = 0;
                for item in items.iter() {
                    if self.within(loop_, item, condition, frame).and_then(bool_of)? {
                        count += 1;
                    }
                }
                Ok(Cel::Bool(count == 1))
            }
            Shape::Unknown => Err(Fault::error(
                "this form of comprehension is not part of the language",
            )),
        }
    }

    /// Evaluates a part of a comprehension for one item.
    fn within(
        &mut self,
        loop_: &'p ComprehensionExpr,
        item: &Cel,
        part: &'p IdedExpr,
        outer: Option<&Frame<'_>>,
    ) -> Result<Cel, Fault> {
        let frame = Frame {
            name: &loop_.iter_var,
            value: item.clone(),
            outer,
        };
        self.eval(part, Some(&frame))
    }

    fn append(
        &mut self,
        loop_: &'p ComprehensionExpr,
        items: &[Cel],
        guard: Option<&'p IdedExpr>,
        element: &'p IdedExpr,
        frame: Option<&Frame<'_>>,
    ) -> Result<Cel, Fault> {
        let mut list = Vec::new();
        for item in items {
            if let Some(guard) = guard
                && !self.within(loop_, item, guard, frame).and_then(bool_of)?
            {
                continue;
            }
            list.push(self.within(loop_, item, element, frame)?);
            self.meter.items(1)?;
        }
        Ok(Cel::list(list))
    }

    /// `exists` (absorbing `true`) and `all` (absorbing `false`): an error counts only if no item decides.
    fn fold(
        &mut self,
        loop_: &'p ComprehensionExpr,
        items: &[Cel],
        absorbing: bool,
        operand: &'p IdedExpr,
        frame: Option<&Frame<'_>>,
    ) -> Result<Cel, Fault> {
        let mut pending = None;
        for item in items {
            match self.within(loop_, item, operand, frame).and_then(bool_of) {
                Ok(value) if value == absorbing => return Ok(Cel::Bool(absorbing)),
                Ok(_) => {}
                Err(limit @ Fault::Limit(_)) => return Err(limit),
                Err(error) => pending = Some(error),
            }
        }
        pending.map_or(Ok(Cel::Bool(!absorbing)), Err)
    }
}

/// What the parser's macros make of `map`, `filter`, `exists`, `all` and `exists_one`.
enum Shape<'p> {
    /// `@result + [item]`, perhaps under a condition.
    Append {
        guard: Option<&'p IdedExpr>,
        item: &'p IdedExpr,
    },
    /// `@result || x` or `@result && x`.
    Fold {
        absorbing: bool,
        operand: &'p IdedExpr,
    },
    /// `x ? @result + 1 : @result`.
    Count {
        condition: &'p IdedExpr,
    },
    Unknown,
}

impl<'p> Shape<'p> {
    fn of(loop_: &'p ComprehensionExpr) -> Shape<'p> {
        let Expr::Call(step) = &loop_.loop_step.expr else {
            return Shape::Unknown;
        };
        match (step.func_name.as_str(), step.args.as_slice()) {
            (operators::LOGICAL_OR, [_, operand]) => Shape::Fold {
                absorbing: true,
                operand,
            },
            (operators::LOGICAL_AND, [_, operand]) => Shape::Fold {
                absorbing: false,
                operand,
            },
            (operators::ADD, _) => Shape::append(None, &loop_.loop_step),
            (operators::CONDITIONAL, [condition, step, _]) => match Shape::append(Some(condition), step) {
                Shape::Unknown => Shape::Count { condition },
                append => append,
            },
            _ => Shape::Unknown,
        }
    }

    fn append(guard: Option<&'p IdedExpr>, step: &'p IdedExpr) -> Shape<'p> {
        if let Expr::Call(call) = &step.expr
            && call.func_name == operators::ADD
            && let [_, added] = call.args.as_slice()
            && let Expr::List(list) = &added.expr
            && let [item] = list.elements.as_slice()
        {
            return Shape::Append { guard, item };
        }
        Shape::Unknown
    }
}

fn bool_of(value: Cel) -> Result<bool, Fault> {
    match value {
        Cel::Bool(b) => Ok(b),
        other => Err(Fault::error(format!(
            "a condition is {}, not a bool",
            other.kind()
        ))),
    }
}

fn literal_value(literal: &LiteralValue) -> Cel {
    match literal {
        LiteralValue::Boolean(b) => Cel::Bool(*b.inner()),
        LiteralValue::Double(f) => Cel::Float(*f.inner()),
        LiteralValue::Int(i) => Cel::Int(*i.inner()),
        // `5u` is an int like any other: JSON has one kind of integer.
        LiteralValue::UInt(u) => i64::try_from(*u.inner()).map_or(Cel::Float(*u.inner() as f64), Cel::Int),
        LiteralValue::String(s) => Cel::text(s.inner()),
        LiteralValue::Null | LiteralValue::Bytes(_) => Cel::Null,
    }
}

fn field(operand: &Cel, name: &str) -> Result<Cel, Fault> {
    match operand {
        Cel::Map(entries) => entries
            .get(name)
            .cloned()
            .ok_or_else(|| Fault::error(format!("there is no `{name}`; ask with `has(...)` first"))),
        Cel::Null => Err(Fault::error(format!(
            "there is no `{name}` on null; ask with `has(...)` first"
        ))),
        other => Err(Fault::error(format!("{} has no `{name}`", other.kind()))),
    }
}

fn item(operand: &Cel, index: &Cel) -> Result<Cel, Fault> {
    match (operand, index) {
        (Cel::List(items), Cel::Int(at)) => usize::try_from(*at)
            .ok()
            .and_then(|at| items.get(at))
            .cloned()
            .ok_or_else(|| Fault::error(format!("there is no item {at}, the list has {}", items.len()))),
        (Cel::Map(_), Cel::Text(key)) => field(operand, key),
        _ => Err(Fault::error(format!(
            "`[]`: cannot index {} with {}",
            operand.kind(),
            index.kind()
        ))),
    }
}
