//! Values in which `${expressions}` may stand, and the expressions themselves.

use std::collections::BTreeMap;

use super::Compiler;
use crate::eval::{self, HERE_PREFIX, Parsed};
use crate::manifest::{Expression, Template, TextPart};
use crate::problem;
use crate::yaml::{Data, Node};

/// Where in a playbook an expression stands: decides what it may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `inputs.*.from`: the event or group that started the run.
    From,
    /// Of a trigger: the event, or the group.
    Trigger,
    /// `limits`: inputs, config, and what started the run.
    Limits,
    /// `targets.*.hosts`: inputs and config.
    Targets,
    /// `targets.*.select`: those and `agent`.
    Select,
    /// Of a step as a whole: no host, no item.
    Step(String),
    /// Of each task of a step: its host and its item too.
    Task(String),
    /// `expect`: those and `output`.
    Expect(String),
    /// `compensate`: what the task saw, and its `output`.
    Compensate(String),
    /// `wait_event.when`: what the step sees, and the `event`.
    Event(String),
    /// `retry.when`: `error`.
    Retry(String),
    /// `fail_when`: the counts.
    FailWhen(String),
    /// `outputs`: every step.
    Outputs,
}

impl Place {
    /// There are no steps yet.
    pub fn is_before_the_run(&self) -> bool {
        matches!(
            self,
            Place::From | Place::Trigger | Place::Limits | Place::Targets | Place::Select
        )
    }
}

/// One expression, and where it stands: checked when all steps are known.
pub(super) struct Use {
    pub at: Place,
    pub place: problem::Place,
    pub source: String,
    pub parsed: Parsed,
    /// Steps whose `here` it reads.
    pub here: Vec<String>,
    /// In a later round of a loop: what is wrong with it was told.
    pub repeated: bool,
}

impl Use {
    pub fn reads(&self, path: &[&str]) -> bool {
        self.parsed
            .paths
            .iter()
            .any(|p| p.len() >= path.len() && path.iter().zip(p).all(|(a, b)| a == b))
    }
}

impl Compiler {
    /// A bare expression.
    pub(super) fn expression(&mut self, node: &Node, at: &Place) -> Option<Expression> {
        let source = match &node.data {
            Data::Text(text) => text.trim().to_owned(),
            Data::Bool(flag) => flag.to_string(),
            _ => {
                self.problem(
                    "E0201",
                    node.place,
                    format!("an expression is text, this is {}", node.kind()),
                    "put it in quotes",
                );
                return None;
            }
        };
        if source.starts_with("${") {
            self.problem(
                "E0202",
                node.place,
                "this field is an expression by nature",
                "write it without `${` and `}`",
            );
            return None;
        }
        self.parse(&source, node.place, at)
    }

    /// A value.
    pub(super) fn template(&mut self, node: &Node, at: &Place) -> Option<Template> {
        Some(match &node.data {
            Data::Text(text) => self.text_template(text, node.place, at)?,
            Data::List(items) => {
                let items: Option<Vec<Template>> = items.iter().map(|item| self.template(item, at)).collect();
                let items = items?;
                if items.iter().all(|item| matches!(item, Template::Literal(_))) {
                    Template::Literal(node.to_json())
                } else {
                    Template::List(items)
                }
            }
            Data::Map(entries) => {
                let mut map = BTreeMap::new();
                for (key, value) in entries {
                    map.insert(key.name.clone(), self.template(value, at)?);
                }
                if map.values().all(|item| matches!(item, Template::Literal(_))) {
                    Template::Literal(node.to_json())
                } else {
                    Template::Map(map)
                }
            }
            _ => Template::Literal(node.to_json()),
        })
    }

    fn text_template(&mut self, text: &str, place: problem::Place, at: &Place) -> Option<Template> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            // `$${` is a literal `${`.
            if rest[..start].ends_with('$') {
                literal.push_str(&rest[..start - 1]);
                literal.push_str("${");
                rest = &rest[start + 2..];
                continue;
            }
            literal.push_str(&rest[..start]);
            let inner = &rest[start + 2..];
            let Some(end) = closing(inner) else {
                self.problem(
                    "E0203",
                    place,
                    "`${` without its `}`",
                    "close it, or write `$${` for a literal `${`",
                );
                return None;
            };
            let expression = self.parse(inner[..end].trim(), place, at)?;
            if !literal.is_empty() {
                parts.push(TextPart::Text(std::mem::take(&mut literal)));
            }
            parts.push(TextPart::Expression(expression));
            rest = &inner[end + 1..];
        }
        literal.push_str(rest);
        if parts.is_empty() {
            return Some(Template::Literal(serde_json::Value::String(literal)));
        }
        if !literal.is_empty() {
            parts.push(TextPart::Text(literal));
        }
        match parts.as_slice() {
            [TextPart::Expression(whole)] => Some(Template::Expression(whole.clone())),
            _ => Some(Template::Text(parts)),
        }
    }

    fn parse(&mut self, source: &str, place: problem::Place, at: &Place) -> Option<Expression> {
        let parsed = match eval::parse(source) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.problem(
                    "E0204",
                    place,
                    format!("`{}` is not an expression: {}", short(source), error.message),
                    "see docs/playbook-reference.md",
                );
                return None;
            }
        };
        if let Some(name) = parsed.names.iter().find(|name| name.starts_with(HERE_PREFIX)) {
            self.problem(
                "E0205",
                place,
                format!("`{name}` is a reserved name"),
                "write `steps.NAME.here`",
            );
            return None;
        }
        let (source, parsed) = match self.round.rewrite(source, &parsed) {
            None => (source.to_owned(), parsed),
            Some(source) => match eval::parse(&source) {
                Ok(parsed) => (source, parsed),
                Err(error) => {
                    self.problem(
                        "E0204",
                        place,
                        format!("`{}`, in a round of a loop: {}", short(&source), error.message),
                        "write it shorter",
                    );
                    return None;
                }
            },
        };
        let here = here_of(&parsed);
        let rewritten = rewrite(&source, &parsed);
        self.uses.push(Use {
            at: at.clone(),
            place,
            source,
            parsed,
            here,
            repeated: self.repeated,
        });
        Some(Expression(rewritten))
    }
}

/// The end of an expression: the first `}` that closes none of its own braces and stands in no text.
fn closing(source: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in source.char_indices() {
        match quote {
            Some(q) => match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if c == q => quote = None,
                _ => {}
            },
            None => match c {
                '"' | '\'' => quote = Some(c),
                '{' => depth += 1,
                '}' if depth == 0 => return Some(at),
                '}' => depth -= 1,
                _ => {}
            },
        }
    }
    None
}

fn here_of(parsed: &Parsed) -> Vec<String> {
    let mut names: Vec<String> = parsed
        .paths
        .iter()
        .filter(|p| p.len() >= 3 && p[0] == "steps" && p[2] == "here")
        .map(|p| p[1].clone())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// `steps.NAME.here` becomes `here_NAME`.
fn rewrite(source: &str, parsed: &Parsed) -> String {
    replace(source, parsed, |path| {
        (path.len() >= 3 && path[0] == "steps" && path[2] == "here")
            .then(|| (3, format!("{HERE_PREFIX}{}", path[1])))
    })
}

/// Replaces chains of names: for a path, how many of its names, and by what.
pub(super) fn replace(
    source: &str,
    parsed: &Parsed,
    by: impl Fn(&[String]) -> Option<(usize, String)>,
) -> String {
    let mut cuts: Vec<(usize, usize, String)> = Vec::new();
    for (at, path) in &parsed.places {
        let Some((count, text)) = by(path) else { continue };
        // Places are counted in characters.
        let start = source
            .char_indices()
            .nth(*at)
            .map_or(source.len(), |(byte, _)| byte);
        let names: Vec<&str> = path[..count].iter().map(String::as_str).collect();
        if let Some(end) = chain_end(source, start, &names) {
            cuts.push((start, end, text));
        }
    }
    cuts.sort();
    let mut text = String::new();
    let mut done = 0;
    for (start, end, name) in cuts {
        text.push_str(&source[done..start]);
        text.push_str(&name);
        done = end;
    }
    text.push_str(&source[done..]);
    text
}

/// Where `a . b . c` ends that begins at `start`.
fn chain_end(source: &str, start: usize, names: &[&str]) -> Option<usize> {
    let mut at = start;
    for (n, name) in names.iter().enumerate() {
        if n > 0 {
            at += skip_space(&source[at..]);
            at += source[at..].strip_prefix('.').map(|_| 1)?;
            at += skip_space(&source[at..]);
        }
        at += source[at..].strip_prefix(name).map(|_| name.len())?;
    }
    Some(at)
}

fn skip_space(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

pub(super) fn short(source: &str) -> String {
    if source.chars().count() <= 80 {
        return source.to_owned();
    }
    source.chars().take(77).chain("...".chars()).collect()
}
