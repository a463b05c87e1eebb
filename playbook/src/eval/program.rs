//! Parsing an expression under limits, and what can be told from its tree.

use std::collections::{BTreeMap, BTreeSet};

use cel::Program;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use regex::{Regex, RegexBuilder};

use super::functions::{self, Arity};
use super::{BRANCHES_MAX, DEPTH_MAX, NODES_MAX, SOURCE_BYTES_MAX};

/// The memory that one compiled regular expression may take.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// A compiled expression and its shape.
pub(crate) struct Parsed {
    pub program: Program,
    /// The patterns of `matches`, compiled, by the id of the call.
    pub patterns: BTreeMap<u64, Regex>,
    /// Free names, without the dots.
    pub names: BTreeSet<String>,
    /// Every chain of fields on a free name, the name first; the longest ones only.
    pub paths: BTreeSet<Vec<String>>,
    /// Paths that a comprehension goes over.
    pub ranges: BTreeSet<Vec<String>>,
    /// Where each path's name begins in the source: (byte offset, path).
    pub places: Vec<(usize, Vec<String>)>,
}

/// An expression that is no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParseError {
    pub message: String,
}

pub(crate) fn parse(source: &str) -> Result<Parsed, ParseError> {
    let refused = |message: String| Err(ParseError { message });
    if source.trim().is_empty() {
        return refused("an expression is empty".to_owned());
    }
    if source.len() > SOURCE_BYTES_MAX {
        return refused(format!(
            "an expression of {} bytes is longer than {SOURCE_BYTES_MAX}",
            source.len()
        ));
    }
    let branches = source.bytes().filter(|b| b"([{!-?".contains(b)).count();
    if branches > BRANCHES_MAX {
        return refused(format!(
            "an expression with {branches} branches has more than {BRANCHES_MAX}"
        ));
    }
    let parsed = std::panic::catch_unwind(|| Program::compile(source));
    let program = match parsed {
        Ok(Ok(program)) => program,
        Ok(Err(errors)) => {
            let first = errors.errors.first().map_or_else(
                || errors.to_string(),
                |e| {
                    let message = e.msg.lines().next().unwrap_or_default();
                    format!("{message} (column {} of the expression)", e.pos.1.max(1))
                },
            );
            return refused(first);
        }
        Err(_) => return refused("the parser gave up on it".to_owned()),
    };
    let mut walk = Walk::default();
    walk.expr(program.expression(), &[]);
    if walk.nodes > NODES_MAX {
        return refused(format!(
            "an expression of {} nodes is larger than {NODES_MAX}",
            walk.nodes
        ));
    }
    if walk.depth > DEPTH_MAX {
        return refused(format!(
            "an expression that nests {} levels goes deeper than {DEPTH_MAX}",
            walk.depth
        ));
    }
    if let Some(message) = walk.refusal {
        return refused(message);
    }
    let places = walk
        .idents
        .iter()
        .map(|(id, path)| {
            let at = program
                .source_info()
                .offset_for(*id)
                .map_or(0, |(start, _)| start as usize);
            (at, path.clone())
        })
        .collect();
    Ok(Parsed {
        patterns: walk.patterns,
        names: walk.names,
        paths: walk.paths,
        ranges: walk.ranges,
        places,
        program,
    })
}

/// The walk over a tree: what it reads, how large it is, and the first thing that is not of the language.
#[derive(Default)]
struct Walk {
    nodes: usize,
    depth: usize,
    level: usize,
    refusal: Option<String>,
    patterns: BTreeMap<u64, Regex>,
    names: BTreeSet<String>,
    paths: BTreeSet<Vec<String>>,
    ranges: BTreeSet<Vec<String>>,
    idents: Vec<(u64, Vec<String>)>,
}

impl Walk {
    /// `bound`: the names that the comprehensions around this node bind.
    fn expr(&mut self, node: &IdedExpr, bound: &[String]) {
        self.nodes += 1;
        self.level += 1;
        self.depth = self.depth.max(self.level);
        // A tree that is too deep is refused; walking on would only use the stack.
        if self.level <= DEPTH_MAX * 4 {
            self.inner(node, bound);
        }
        self.level -= 1;
    }

    fn inner(&mut self, node: &IdedExpr, bound: &[String]) {
        if let Some((root, path)) = path_of(node) {
            self.nodes += path.len() - 1;
            if !bound.contains(&path[0]) {
                self.names.insert(path[0].clone());
                self.idents.push((root, path.clone()));
                self.paths.insert(path);
            }
            return;
        }
        match &node.expr {
            Expr::Call(call) => {
                self.function(node.id, call);
                if let Some(target) = &call.target {
                    self.expr(target, bound);
                }
                for argument in &call.args {
                    self.expr(argument, bound);
                }
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, bound),
            Expr::List(list) => list.elements.iter().for_each(|e| self.expr(e, bound)),
            Expr::Map(map) => map.entries.iter().for_each(|e| self.entry(&e.expr, bound)),
            Expr::Struct(_) => self.refuse("there are no message types; write a map: {\"key\": value}"),
            Expr::Literal(LiteralValue::Bytes(_)) => {
                self.refuse("bytes are not a type of the language; write text");
            }
            Expr::Select(select) => self.expr(&select.operand, bound),
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        }
    }

    fn refuse(&mut self, message: impl Into<String>) {
        self.refusal.get_or_insert(message.into());
    }

    /// A call must be of a function that exists, as it is written.
    fn function(&mut self, id: u64, call: &CallExpr) {
        let name = call.func_name.as_str();
        if call.target.is_none() && functions::is_operator(name) {
            return;
        }
        let Some(Arity { least, most, member }) = functions::arity(name) else {
            let near = crate::nearest::nearest(name, functions::names());
            let hint = near
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            return self.refuse(format!("there is no function `{name}`{hint}"));
        };
        let given = call.args.len() + usize::from(call.target.is_some());
        if given < least || given > most || (call.target.is_some() && !member) {
            return self.refuse(format!("`{name}` is called as `{}`", functions::usage(name)));
        }
        if name == "matches" {
            self.pattern(id, call);
        }
    }

    /// A pattern that came from data would make data into code, and could be made to be slow.
    fn pattern(&mut self, id: u64, call: &CallExpr) {
        let Some(Expr::Literal(LiteralValue::String(pattern))) = call.args.last().map(|a| &a.expr) else {
            return self.refuse("the pattern of `matches` must be written out in quotes");
        };
        match RegexBuilder::new(pattern.inner())
            .size_limit(PATTERN_BYTES_MAX)
            .build()
        {
            Ok(pattern) => {
                self.patterns.insert(id, pattern);
            }
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default();
                self.refuse(format!(
                    "the pattern of `matches` is no regular expression: {reason}"
                ));
            }
        }
    }

    fn entry(&mut self, entry: &EntryExpr, bound: &[String]) {
        match entry {
            EntryExpr::StructField(field) => self.expr(&field.value, bound),
            EntryExpr::MapEntry(entry) => {
                self.expr(&entry.key, bound);
                self.expr(&entry.value, bound);
            }
        }
    }

    fn comprehension(&mut self, it: &ComprehensionExpr, bound: &[String]) {
        self.expr(&it.iter_range, bound);
        if let Some((_, path)) = path_of(&it.iter_range)
            && !bound.contains(&path[0])
        {
            self.ranges.insert(path);
        }
        let mut inner = bound.to_vec();
        inner.push(it.accu_var.clone());
        inner.extend(it.iter_var2.clone());
        inner.push(it.iter_var.clone());
        self.expr(&it.accu_init, bound);
        self.expr(&it.loop_cond, &inner);
        self.expr(&it.loop_step, &inner);
        self.expr(&it.result, &inner);
    }
}

/// `a.b.c` (also under `has`): the id of `a`, and the segments.
fn path_of(node: &IdedExpr) -> Option<(u64, Vec<String>)> {
    let mut fields = Vec::new();
    let mut node = node;
    loop {
        match &node.expr {
            Expr::Ident(name) => {
                fields.push(name.clone());
                fields.reverse();
                return Some((node.id, fields));
            }
            Expr::Select(select) => {
                if fields.len() > DEPTH_MAX * 4 {
                    return None;
                }
                fields.push(select.field.clone());
                node = &select.operand;
            }
            _ => return None,
        }
    }
}
