//! `steps.NAME.here`: the item of the same host in another step. The compiler writes it as the variable
//! `here_NAME`, which authors cannot name, and the planner binds it for each task.

use std::collections::BTreeSet;

use crate::manifest::{Expression, Template, TextPart};

/// What the compiler puts before a step's name.
pub(crate) const PREFIX: &str = "here_";

/// The steps whose `here` an expression reads, sorted.
pub fn here_variables(expression: &Expression) -> Vec<String> {
    let mut names = BTreeSet::new();
    collect(expression, &mut names);
    names.into_iter().collect()
}

/// The same over a whole template.
pub fn here_variables_of(template: &Template) -> Vec<String> {
    let mut names = BTreeSet::new();
    walk(template, &mut names);
    names.into_iter().collect()
}

/// The expression as its author wrote it, for people: `steps.NAME.here` again.
pub fn as_written(expression: &Expression) -> String {
    here_variables(expression)
        .iter()
        .fold(expression.0.clone(), |source, step| {
            let variable = format!(r"\b{PREFIX}{step}\b");
            match regex::Regex::new(&variable) {
                Ok(pattern) => pattern
                    .replace_all(&source, format!("steps.{step}.here"))
                    .into_owned(),
                Err(_) => source,
            }
        })
}

fn walk(template: &Template, names: &mut BTreeSet<String>) {
    match template {
        Template::Literal(_) => {}
        Template::Expression(expression) => collect(expression, names),
        Template::Text(parts) => parts.iter().for_each(|part| {
            if let TextPart::Expression(expression) = part {
                collect(expression, names);
            }
        }),
        Template::List(items) => items.iter().for_each(|item| walk(item, names)),
        Template::Map(entries) => entries.values().for_each(|item| walk(item, names)),
    }
}

fn collect(expression: &Expression, names: &mut BTreeSet<String>) {
    // An expression that does not parse reads nothing; evaluating it says why.
    if let Ok(parsed) = super::cached(expression) {
        names.extend(
            parsed
                .names
                .iter()
                .filter_map(|name| name.strip_prefix(PREFIX))
                .map(str::to_owned),
        );
    }
}
