//! Parsing an expression under limits, and what can be told from its tree.

use std::collections::BTreeSet;

use cel::Program;
use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr};

use super::{BRANCHES_MAX, DEPTH_MAX, NODES_MAX, SOURCE_BYTES_MAX};

/// A compiled expression and its shape.
pub(crate) struct Parsed {
    pub program: Program,
    /// Of the tree.
    pub nodes: usize,
    /// Comprehensions that are independently nested in each other.
    pub nesting: u32,
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
    walk.expr(program.expression(), 0, &[]);
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
        nodes: walk.nodes,
        nesting: walk.nesting,
        names: walk.names,
        paths: walk.paths,
        ranges: walk.ranges,
        places,
        program,
    })
}

#[derive(Default)]
struct Walk {
    nodes: usize,
    depth: usize,
    level: usize,
    nesting: u32,
    names: BTreeSet<String>,
    paths: BTreeSet<Vec<String>>,
    ranges: BTreeSet<Vec<String>>,
    idents: Vec<(u64, Vec<String>)>,
}

impl Walk {
    /// `nested`: independent comprehensions around this node; `bound`: the names that they bind.
    fn expr(&mut self, node: &IdedExpr, nested: u32, bound: &[String]) {
        self.nodes += 1;
        self.level += 1;
        self.depth = self.depth.max(self.level);
        self.nesting = self.nesting.max(nested);
        // A tree that is too deep is refused; walking on would only use the stack.
        if self.level <= DEPTH_MAX * 4 {
            self.inner(node, nested, bound);
        }
        self.level -= 1;
    }

    fn inner(&mut self, node: &IdedExpr, nested: u32, bound: &[String]) {
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
                if let Some(target) = &call.target {
                    self.expr(target, nested, bound);
                }
                for argument in &call.args {
                    self.expr(argument, nested, bound);
                }
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, nested, bound),
            Expr::List(list) => list.elements.iter().for_each(|e| self.expr(e, nested, bound)),
            Expr::Map(map) => map
                .entries
                .iter()
                .for_each(|e| self.entry(&e.expr, nested, bound)),
            Expr::Struct(made) => made
                .entries
                .iter()
                .for_each(|e| self.entry(&e.expr, nested, bound)),
            Expr::Select(select) => self.expr(&select.operand, nested, bound),
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        }
    }

    fn entry(&mut self, entry: &EntryExpr, nested: u32, bound: &[String]) {
        match entry {
            EntryExpr::StructField(field) => self.expr(&field.value, nested, bound),
            EntryExpr::MapEntry(entry) => {
                self.expr(&entry.key, nested, bound);
                self.expr(&entry.value, nested, bound);
            }
        }
    }

    fn comprehension(&mut self, it: &ComprehensionExpr, nested: u32, bound: &[String]) {
        self.expr(&it.iter_range, nested, bound);
        if let Some((_, path)) = path_of(&it.iter_range)
            && !bound.contains(&path[0])
        {
            self.ranges.insert(path);
        }
        // Going over a part of the item of the comprehension around walks the same tree once.
        let dependent =
            path_of(&it.iter_range).is_some_and(|(_, path)| path.len() > 1 && bound.last() == Some(&path[0]));
        let nested = if dependent && nested > 0 {
            nested
        } else {
            nested + 1
        };
        self.nesting = self.nesting.max(nested);
        let mut inner = bound.to_vec();
        inner.push(it.accu_var.clone());
        inner.extend(it.iter_var2.clone());
        inner.push(it.iter_var.clone());
        self.expr(&it.accu_init, nested, bound);
        self.expr(&it.loop_cond, nested, &inner);
        self.expr(&it.loop_step, nested, &inner);
        self.expr(&it.result, nested, &inner);
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
