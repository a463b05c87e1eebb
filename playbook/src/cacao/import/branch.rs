//! Steps that open branches.

use serde_json::{Map, Value};

use super::super::cel::{self, quoted};
use super::super::condition;
use super::super::flow::branches;
use super::super::violation::{Path, Violation};
use super::super::yaml::Yaml;
use super::shape::kind;
use super::step::Step;
use super::steps::{Mapper, text};
use super::way::{Entry, Own, Way, chain, link, opened_by};

impl<'a> Mapper<'a> {
    /// `parallel`, `if-condition`, `switch-condition`.
    pub(super) fn open(
        &mut self,
        id: &'a str,
        step: &'a Map<String, Value>,
        way: Way,
        steps: &mut Vec<Step>,
    ) -> Result<(), Violation> {
        let name = self.name(id, step);
        let what = match kind(step) {
            "if-condition" => self.decide_if(id, step),
            "switch-condition" => self.decide_switch(id, step),
            _ => vec![("decide", anchor())],
        };
        let made = self.begin(id, name.clone(), &way, what);
        steps.push(made);
        let before = steps.len();
        let opened: Vec<String> = branches(step).map(|branch| branch.case.to_owned()).collect();
        let is_parallel = kind(step) == "parallel";
        for (at, case) in opened.iter().enumerate() {
            let condition = (!is_parallel).then(|| format!("steps.{name}.output.branch == {}", quoted(case)));
            if let Some(region) = self.shape.opened(id, at) {
                self.region(region, &Entry::Opened(name.clone(), condition), steps)?;
            }
        }
        let inner = steps[before..].iter().map(Step::link).collect();
        self.own.insert(
            id,
            Own {
                chain: vec![link(&name)],
                inner,
                skippable: way.skippable,
            },
        );
        Ok(())
    }

    /// The condition in CEL, or why not.
    fn condition(&self, id: &'a str, condition: &str, between_rounds: bool) -> Result<String, String> {
        let known = |name: &str| {
            let read = if between_rounds {
                self.variables.read_between_rounds(self.shape, id, name)?
            } else {
                self.variables.read(self.shape, id, name)?
            };
            self.variables.known(id, name, read)
        };
        cel::to_cel(&condition::parse(condition)?, &known)
    }

    fn decide_if(&mut self, id: &'a str, step: &'a Map<String, Value>) -> Vec<(&'static str, Yaml)> {
        let condition = text(step, "condition").unwrap_or_default();
        match self.condition(id, condition, false) {
            Ok(cel) => {
                let rules = Yaml::List(vec![rule(&cel, "on_true"), otherwise("on_false")]);
                vec![("decide", rules)]
            }
            Err(why) => self.decide_by_people(id, step, condition, &why, vec!["on_true", "on_false"]),
        }
    }

    fn decide_switch(&mut self, id: &'a str, step: &'a Map<String, Value>) -> Vec<(&'static str, Yaml)> {
        let switch = text(step, "switch").unwrap_or_default();
        let cases: Vec<&str> = branches(step).map(|branch| branch.case).collect();
        let mut rules = Vec::new();
        for case in cases.iter().filter(|case| **case != "default") {
            let equal = format!("{switch} = '{case}'");
            match self.condition(id, &equal, false) {
                Ok(cel) => rules.push(rule(&cel, case)),
                Err(why) => return self.decide_by_people(id, step, switch, &why, cases),
            }
        }
        rules.push(otherwise("default"));
        vec![("decide", Yaml::List(rules))]
    }

    fn decide_by_people(
        &mut self,
        id: &'a str,
        step: &'a Map<String, Value>,
        condition: &str,
        why: &str,
        mut cases: Vec<&str>,
    ) -> Vec<(&'static str, Yaml)> {
        self.note(
            id,
            format!("a person decides, the condition has no exact translation: {why}"),
        );
        let is_switch = kind(step) == "switch-condition";
        if is_switch && !cases.contains(&"default") {
            cases.push("default");
        }
        let answer = Yaml::Map(vec![(
            "type".to_owned(),
            Yaml::map([("enum", Yaml::List(cases.into_iter().map(Yaml::text).collect()))]),
        )]);
        let asked = if is_switch {
            "Which case is it?"
        } else {
            "Does it hold?"
        };
        let question = self.question(id, &format!("{asked} {condition}"));
        let form = Yaml::Map(vec![("branch".to_owned(), answer)]);
        vec![("ask", self.asking(step, question, form))]
    }

    /// `while-condition`: a loop with a bound.
    pub(super) fn repeat(
        &mut self,
        id: &'a str,
        step: &'a Map<String, Value>,
        mut way: Way,
        steps: &mut Vec<Step>,
    ) -> Result<(), Violation> {
        let is_loop = |outer: &'a str| kind(self.shape.steps[outer]) == "while-condition";
        if self.shape.enclosing(id).any(is_loop) {
            let (root, message) = (Path::Root, "a loop within a loop cannot be imported");
            return Err(Violation {
                code: "C0803",
                path: root.name("workflow").name(id).to_string(),
                message: message.to_owned(),
                hint: "make the inner one a playbook of its own, and start it with a `playbook-action`"
                    .to_owned(),
            });
        }
        let name = self.name(id, step);
        let mut chain = Vec::new();
        if step.get("delay").and_then(Value::as_u64).is_some_and(|ms| ms > 0) {
            // A loop itself does not wait.
            let wait = self.name(id, step);
            let made = self.begin(id, wait.clone(), &way, vec![("decide", anchor())]);
            steps.push(made);
            way = opened_by(&wait);
            chain.push(link(&wait));
        }
        let mut body = Vec::new();
        if let Some(region) = self.shape.opened(id, 0) {
            self.region(region, &Entry::Begin, &mut body)?;
        }
        let condition = text(step, "condition").unwrap_or_default();
        let repeat = match self.condition(id, condition, true) {
            Ok(cel) => cel,
            Err(why) => {
                // Asked before the first round, and at the end of each.
                self.note(
                    id,
                    format!(
                        "a person decides whether to go on, the condition has no exact translation: {why}"
                    ),
                );
                let ask = |mapper: &mut Self| {
                    let form = Yaml::Map(vec![(
                        "again".to_owned(),
                        Yaml::map([("type", Yaml::word("bool"))]),
                    )]);
                    let question = mapper.question(id, &format!("Does it hold? {condition}"));
                    vec![("ask", mapper.asking(step, question, form))]
                };
                let first = self.name(id, step);
                let what = ask(self);
                let made = self.begin(id, first.clone(), &way, what);
                steps.push(made);
                way = opened_by(&first);
                let next = self.name(id, step);
                let what = ask(self);
                let behind = Way {
                    needs: body.iter().map(|step| format!("{}.done", step.name)).collect(),
                    when: None,
                    skippable: false,
                };
                let made = self.begin(id, next.clone(), &behind, what);
                body.push(made);
                let cel = format!(
                    "steps.{next}.status == \"succeeded\" ? steps.{next}.output.again : steps.{first}.output.again"
                );
                chain.push(link(&first));
                cel
            }
        };
        if body.is_empty() {
            self.note(id, "the loop does nothing, and is left out");
            let made = self.begin(id, name.clone(), &way, vec![("decide", anchor())]);
            steps.push(made);
        } else {
            self.note(
                id,
                "CACAO has no bound for loops: this one ends after `max` rounds",
            );
            let mut made = self.begin(id, name.clone(), &way, Vec::new());
            made.fields.retain(|(field, _)| ["needs", "when"].contains(field));
            if step.contains_key("timeout") {
                self.note(id, "the loop's own timeout is not carried over");
            }
            made.repeat = Some((repeat, body));
            steps.push(made);
            self.variables.asked.insert(id, name.clone());
        }
        chain.push(link(&name));
        let mut own = self::chain(chain, way.skippable);
        own.skippable |= own.chain.len() > 1;
        self.own.insert(id, own);
        Ok(())
    }
}

/// A decision that is always the same: branches begin behind it.
pub(super) fn anchor() -> Yaml {
    Yaml::List(vec![otherwise("all")])
}

pub(super) fn rule(cel: &str, branch: &str) -> Yaml {
    Yaml::map([
        ("when", Yaml::bare(cel)),
        ("set", Yaml::map([("branch", Yaml::text(branch))])),
    ])
}

pub(super) fn otherwise(branch: &str) -> Yaml {
    Yaml::map([("else", Yaml::map([("branch", Yaml::text(branch))]))])
}
