//! A template as far as it can be known, for people who look at a plan before anything has run.

use serde_json::{Map, Value};

use super::{Scope, as_written};
use crate::manifest::{Expression, Template, TextPart};

impl Scope<'_> {
    /// Renders what the names in scope are enough for. What they are not enough for, and what cannot be evaluated,
    /// stands as it was written: `${steps.a.output}`.
    pub fn preview(&self, template: &Template) -> Value {
        match template {
            Template::Literal(value) => value.clone(),
            Template::Expression(expression) => self
                .known(expression)
                .unwrap_or_else(|| Value::String(written(expression))),
            Template::Text(parts) => Value::String(parts.iter().map(|part| self.part(part)).collect()),
            Template::List(items) => items.iter().map(|item| self.preview(item)).collect(),
            Template::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|(name, template)| (name.clone(), self.preview(template)));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    fn part(&self, part: &TextPart) -> String {
        match part {
            TextPart::Text(text) => text.clone(),
            TextPart::Expression(expression) => match self.known(expression) {
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
                None => written(expression),
            },
        }
    }

    fn known(&self, expression: &Expression) -> Option<Value> {
        // Why it cannot be evaluated is told by the step that will need it: a plan only shows.
        self.knows(expression)
            .then(|| self.eval(expression).ok())
            .flatten()
    }
}

fn written(expression: &Expression) -> String {
    format!("${{{}}}", as_written(expression))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_stands_as_it_was_written() {
        let expression = |text: &str| Expression(text.to_owned());
        let template = Template::Map(BTreeMap::from([
            (
                "known".to_owned(),
                Template::Expression(expression("inputs.n + 1")),
            ),
            (
                "late".to_owned(),
                Template::Expression(expression("here_find.output.paths")),
            ),
            (
                "broken".to_owned(),
                Template::Expression(expression("inputs.absent")),
            ),
            (
                "text".to_owned(),
                Template::Text(vec![
                    TextPart::Text("n=".into()),
                    TextPart::Expression(expression("inputs.n")),
                    TextPart::Text(" of ".into()),
                    TextPart::Expression(expression("run.id")),
                ]),
            ),
            (
                "list".to_owned(),
                Template::List(vec![
                    Template::Literal(json!(1)),
                    Template::Expression(expression("inputs.all.filter(x, x > 1)")),
                ]),
            ),
        ]));
        let mut scope = Scope::new();
        scope.bind("inputs", &json!({"n": 2, "all": [1, 2]}));
        assert_eq!(
            scope.preview(&template),
            json!({
                "known": 3, "late": "${steps.find.here.output.paths}", "broken": "${inputs.absent}",
                "text": "n=2 of ${run.id}", "list": [1, [2]],
            })
        );
        assert!(!scope.knows(&expression("inputs.n == target.id")));
        assert!(!scope.knows(&expression("inputs.n ==")));
    }
}
