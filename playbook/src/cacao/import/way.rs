//! What leads from one step to the next.

use std::collections::BTreeSet;

use super::shape::kind;
use super::step::OUTCOME;
use super::steps::Mapper;

/// A step of ours, as far as others ask how it ended.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub name: String,
    /// It is a question, and a person may have answered that it failed.
    pub answers: bool,
}

impl Link {
    fn failed(&self) -> String {
        let name = &self.name;
        let ended = format!("!(steps.{name}.status in [\"succeeded\", \"skipped\"])");
        if self.answers {
            let answered = format!(
                "steps.{name}.status == \"succeeded\" && steps.{name}.output.{OUTCOME} == \"failed\""
            );
            format!("{ended} || ({answered})")
        } else {
            ended
        }
    }

    /// What must hold besides that the step succeeded.
    pub fn done(&self) -> Option<String> {
        self.answers
            .then(|| format!("steps.{}.output.{OUTCOME} == \"done\"", self.name))
    }
}

/// What one step of the document became.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// Its own steps, one after the other; never empty.
    pub chain: Vec<Link>,
    /// Those of its branches.
    pub inner: Vec<Link>,
    /// It may not be reached.
    pub skippable: bool,
}

impl Own {
    fn last(&self) -> &Link {
        &self.chain[self.chain.len() - 1]
    }

    fn all(&self) -> impl Iterator<Item = &Link> {
        self.chain.iter().chain(&self.inner)
    }

    fn done(&self) -> impl Iterator<Item = String> {
        self.all().map(|link| format!("{}.done", link.name))
    }

    fn failed(&self) -> String {
        self.all().map(Link::failed).collect::<Vec<_>>().join(" || ")
    }

    fn ran(&self) -> String {
        format!("steps.{}.status != \"skipped\"", self.chain[0].name)
    }

    fn succeeded(&self) -> String {
        let mut all = vec![format!("steps.{}.status == \"succeeded\"", self.last().name)];
        if self.inner.is_empty() {
            all.extend(self.last().done());
        } else {
            all.push(format!("!({})", self.failed()));
        }
        all.join(" && ")
    }
}

/// How a step is reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    pub needs: Vec<String>,
    pub when: Option<String>,
    pub skippable: bool,
}

/// What leads into a region.
#[derive(Clone)]
pub(super) enum Entry {
    /// Nothing: it begins at once.
    Begin,
    /// A step of ours, and what it must have decided.
    Opened(String, Option<String>),
}

impl<'a> Mapper<'a> {
    /// How a step is reached: by what leads to it in its region, and by what opens the region. None: by nothing.
    pub(super) fn way(&self, id: &str, is_entry: bool, entry: &Entry) -> Option<Way> {
        let mut edges: Vec<(Own, &str)> = Vec::new();
        let mut begins = is_entry && matches!(entry, Entry::Begin);
        for (from, property) in self.shape.into(id) {
            match self.own.get(from) {
                Some(own) => edges.push((own.clone(), property)),
                None if self.left_out.contains(from) => {}
                // A start that became nothing leads on as if it were not there.
                None => begins = true,
            }
        }
        if self.shape.exception == Some(id) {
            let uncaught = self.own.iter().filter(|(from, _)| self.is_uncaught(from));
            let chain: Vec<Link> = uncaught.flat_map(|(_, own)| own.chain.clone()).collect();
            if !chain.is_empty() {
                edges.push((self::chain(chain, true), "on_failure"));
            }
        }
        let opened = match entry {
            Entry::Opened(step, condition) if is_entry => Some((step, condition)),
            _ => None,
        };
        match (edges.as_slice(), opened) {
            ([], None) => begins.then(Way::default),
            ([], Some((step, condition))) => Some(Way {
                needs: vec![step.clone()],
                when: condition.clone(),
                skippable: true,
            }),
            ([(own, property)], None) if !begins => Some(single(own, property)),
            _ => {
                // Where several lead to one step, each says in which case.
                let mut needs = BTreeSet::new();
                let mut cases = BTreeSet::new();
                for (own, property) in &edges {
                    needs.extend(own.done());
                    cases.insert(match *property {
                        "on_success" => own.succeeded(),
                        "on_failure" => own.failed(),
                        _ => own.ran(),
                    });
                }
                if let Some((step, condition)) = opened {
                    needs.insert(format!("{step}.done"));
                    let ran = format!("steps.{step}.status == \"succeeded\"");
                    cases.insert(
                        condition
                            .as_ref()
                            .map_or(ran.clone(), |condition| format!("{ran} && {condition}")),
                    );
                }
                let cases: Vec<String> = cases.into_iter().map(|case| format!("({case})")).collect();
                Some(Way {
                    needs: needs.into_iter().collect(),
                    when: (!begins).then(|| cases.join(" || ")),
                    skippable: !begins,
                })
            }
        }
    }

    /// Whether something of the document follows when this step fails.
    pub(super) fn is_caught(&self, id: &'a str) -> bool {
        let has = |property: &str| self.shape.steps[id].contains_key(property);
        let outer = self
            .shape
            .enclosing(id)
            .any(|outer| self.shape.steps[outer].contains_key("on_failure"));
        let handled = self.shape.exception.is_some() && self.is_uncaught(id);
        has("on_completion") || has("on_failure") || outer || handled
    }

    /// Whether a failure of this step is for the playbook's own handler, if there is one.
    pub(super) fn is_uncaught(&self, id: &str) -> bool {
        let has = |id: &str, property: &str| self.shape.steps[id].contains_key(property);
        let Some((id, _)) = self.shape.steps.get_key_value(id) else {
            return false;
        };
        !has(id, "on_completion")
            && !has(id, "on_failure")
            && self.shape.exception != Some(id)
            && self
                .shape
                .enclosing(id)
                .all(|outer| !has(outer, "on_failure") && kind(self.shape.steps[outer]) != "while-condition")
    }
}

pub(super) fn chain(chain: Vec<Link>, skippable: bool) -> Own {
    Own {
        chain,
        inner: Vec::new(),
        skippable,
    }
}

/// A step that asks nobody.
pub(super) fn link(name: &str) -> Link {
    Link {
        name: name.to_owned(),
        answers: false,
    }
}

pub(super) fn opened_by(step: &str) -> Way {
    Way {
        needs: vec![step.to_owned()],
        when: None,
        skippable: true,
    }
}

/// One thing leads to a step.
pub(super) fn single(own: &Own, property: &str) -> Way {
    let is_one = own.chain.len() == 1 && own.inner.is_empty();
    let done = || own.done().collect();
    match property {
        "on_success" if own.inner.is_empty() => Way {
            needs: vec![own.last().name.clone()],
            when: own.last().done(),
            skippable: true,
        },
        "on_success" => Way {
            needs: done(),
            when: Some(own.succeeded()),
            skippable: true,
        },
        "on_failure" if is_one && !own.last().answers => Way {
            needs: vec![format!("{}.failed", own.last().name)],
            when: None,
            skippable: true,
        },
        "on_failure" => Way {
            needs: done(),
            when: Some(own.failed()),
            skippable: true,
        },
        _ => Way {
            needs: done(),
            when: own.skippable.then(|| own.ran()),
            skippable: own.skippable,
        },
    }
}
