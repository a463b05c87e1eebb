//! Loops are unrolled when a playbook is compiled: a round is a few ordinary steps, so whatever holds for steps
//! (order, skipping, what a replay shows) holds for rounds (docs/adr/0023-loops-are-unrolled.md).
//!
//! A loop `poll` of at most two rounds over a body `check` becomes
//!
//! ```text
//! poll_1         asks `while`; false: skipped, and with it everything behind
//! poll_1_check   the body, once
//! poll_2         needs poll_1, and that poll_1_check ended
//! poll_2_check
//! poll           gathers: {rounds, exhausted, check: the last round's output}
//! ```

use std::collections::BTreeMap;

use super::Compiler;
use super::fields;
use super::step::Placed;
use super::template::{Place as Where, replace};
use crate::eval::Parsed;
use crate::manifest::{Expression, Kind, Need, NeedState, Rule, Step, Template};
use crate::problem::Place;
use crate::yaml::{Data, Node};

/// Rounds of one loop.
pub(super) const ROUNDS_MAX: u32 = 100;
/// Steps that all loops of a playbook may become.
const UNROLLED_MAX: usize = 1_000;
/// What a step of the body is before its first round.
const NEVER: &str =
    r#"{"status": "pending", "output": null, "items": [], "ok": [], "failed": [], "unknown": []}"#;

/// What names of a loop stand for in one of its rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    /// Steps of the body, and the step of this round. None: there was no round yet.
    steps: BTreeMap<String, Option<String>>,
    /// Rounds before this one.
    index: Option<u32>,
}

impl Round {
    /// The step that a name stands for.
    pub fn step(&self, name: &str) -> Option<String> {
        self.steps.get(name).cloned().flatten()
    }

    /// Every expression was compiled in an earlier round with names of the same kinds. (The first question of a
    /// loop sees no round, the second one does.)
    pub fn is_repeated(&self) -> bool {
        self.index.is_some_and(|made| made > 1)
    }

    /// An expression with the names of this round; None: it names nothing of the loop.
    pub fn rewrite(&self, source: &str, parsed: &Parsed) -> Option<String> {
        let by = |path: &[String]| match (path.first()?.as_str(), path.get(1)?.as_str()) {
            ("round", "index") => self.index.map(|index| (2, index.to_string())),
            ("steps", name) => self.steps.get(name).map(|step| {
                let text = step
                    .as_ref()
                    .map_or(NEVER.to_owned(), |step| format!("steps.{step}"));
                (2, text)
            }),
            _ => None,
        };
        let touched = parsed.places.iter().any(|(_, path)| by(path).is_some());
        touched.then(|| replace(source, parsed, by))
    }
}

/// A step before it is compiled.
pub(super) struct Raw<'a> {
    pub name: String,
    pub place: Place,
    pub what: What<'a>,
    pub round: Round,
    /// What it needs besides what it says.
    pub after: Vec<Need>,
}

/// What a raw step comes from.
pub(super) enum What<'a> {
    /// A step as it stands.
    Step(&'a Node),
    /// Whether a round is made.
    Asked {
        condition: &'a Node,
        /// The loop; for the first round only.
        node: Option<&'a Node>,
    },
    /// What the rounds came to.
    Gathered {
        condition: &'a Node,
        node: &'a Node,
        /// The last first.
        rounds: Vec<Made>,
    },
}

/// A round that was written out.
pub(super) struct Made {
    /// The step that asks whether it is made.
    asked: String,
    body: Vec<Body>,
}

/// A step of the body in one round.
struct Body {
    /// In the body.
    name: String,
    /// In the playbook.
    step: String,
    /// It has one output for each task.
    fans_out: bool,
}

impl Compiler {
    /// The steps of a section, loops unrolled. Needs refer to positions in this list.
    pub(super) fn unrolled<'a>(&mut self, node: &'a Node, section: &str) -> Vec<Raw<'a>> {
        let what = format!("`{section}`");
        let mut all: Vec<Raw<'a>> = Vec::new();
        let mut loops = 0;
        for (key, value) in self.entries(node, &what) {
            self.identifier(&key.name, key.place, "a step");
            let Some(inner) = value.get("loop") else {
                all.push(Raw {
                    name: key.name.clone(),
                    place: key.place,
                    what: What::Step(value),
                    round: Round::default(),
                    after: Vec::new(),
                });
                continue;
            };
            if section == "finally" {
                self.problem(
                    "E0143",
                    key.place,
                    "`finally` has no loops: it always ends",
                    "put the loop among the steps",
                );
                continue;
            }
            let before = all.len();
            self.unroll(&key.name, key.place, value, inner, &mut all);
            loops += all.len() - before;
        }
        if loops > UNROLLED_MAX {
            self.problem(
                "E0143",
                node.place,
                format!("the loops have {loops} steps in all rounds, of at most {UNROLLED_MAX}"),
                "lower `max`, or move the body into a playbook of its own",
            );
            all.clear();
        }
        all
    }

    fn unroll<'a>(
        &mut self,
        name: &str,
        place: Place,
        step: &'a Node,
        node: &'a Node,
        all: &mut Vec<Raw<'a>>,
    ) {
        let known = self
            .fields(step, "a step with a `loop`", fields::LOOP_STEP)
            .is_some();
        let Some(fields) = self.fields(node, "`loop`", fields::LOOP).filter(|_| known) else {
            return;
        };
        let (Some(condition), Some(max), Some(body)) =
            (fields.get("while"), fields.get("max"), fields.get("body"))
        else {
            self.problem(
                "E0143",
                node.place,
                "a `loop` has `while`, `max` and `body`: without `max` it could go on for ever",
                "loop: {while: condition, max: 10, body: {steps}}",
            );
            return;
        };
        let Some(max) = self.count(max, "`max`", 1, ROUNDS_MAX) else {
            return;
        };
        let Data::Map(body) = &body.data else {
            self.problem(
                "E0143",
                body.place,
                "`body` is a map of steps",
                "body: {check: {do: ...}}",
            );
            return;
        };
        for (key, value) in body {
            self.identifier(&key.name, key.place, "a step");
            if value.get("loop").is_some() {
                self.problem(
                    "E0143",
                    key.place,
                    "a loop within a loop is not unrolled",
                    "move the inner one into a playbook of its own",
                );
                return;
            }
        }
        if body.is_empty() {
            self.problem(
                "E0143",
                node.place,
                "a loop over nothing",
                "add steps under `body:`",
            );
            return;
        }
        let names = |round: u32| -> BTreeMap<String, Option<String>> {
            body.iter()
                .map(|(key, _)| {
                    let step = (round > 0).then(|| format!("{name}_{round}_{}", key.name));
                    (key.name.clone(), step)
                })
                .collect()
        };
        let need = |step: usize, state| Need {
            step: step as u16,
            state,
            by_host: false,
        };
        let mut gathered = Vec::new();
        let mut ended: Vec<Need> = Vec::new();
        for round in 1..=max {
            let asked = all.len();
            let mut after = ended.clone();
            if round > 1 {
                // Behind a round that was not made there is none.
                after.push(need(asked - body.len() - 1, NeedState::Succeeded));
            }
            all.push(Raw {
                name: format!("{name}_{round}"),
                place,
                what: What::Asked {
                    condition,
                    node: (round == 1).then_some(step),
                },
                round: Round {
                    steps: names(round - 1),
                    index: Some(round - 1),
                },
                after,
            });
            ended.clear();
            let mut steps = Vec::new();
            for (key, value) in body {
                ended.push(need(all.len(), NeedState::Done));
                let own = format!("{name}_{round}_{}", key.name);
                let fans_out = value.get("targets").is_some() || value.get("foreach").is_some();
                steps.push(Body {
                    name: key.name.clone(),
                    step: own.clone(),
                    fans_out,
                });
                all.push(Raw {
                    name: own,
                    place: key.place,
                    what: What::Step(value),
                    round: Round {
                        steps: names(round),
                        index: Some(round - 1),
                    },
                    after: vec![need(asked, NeedState::Succeeded)],
                });
            }
            gathered.insert(
                0,
                Made {
                    asked: format!("{name}_{round}"),
                    body: steps,
                },
            );
        }
        let first = all.len() - max as usize * (body.len() + 1);
        let after = (first..all.len())
            .map(|step| need(step, NeedState::Done))
            .collect();
        all.push(Raw {
            name: name.to_owned(),
            place,
            what: What::Gathered {
                condition,
                node: step,
                rounds: gathered,
            },
            round: Round {
                steps: names(max),
                index: Some(max),
            },
            after,
        });
    }

    /// Whether a round is made: a step that is skipped when `while` is false.
    pub(super) fn round_begins(
        &mut self,
        raw: &Raw<'_>,
        condition: &Node,
        node: &Option<&Node>,
        names: &[String],
    ) -> Option<Placed> {
        let at = Where::Step(raw.name.clone());
        let mut when = self.expression(condition, &at)?;
        let mut needs = Vec::new();
        if let Some(node) = node {
            // The loop's own needs and condition are those of its first round.
            self.round = Round::default();
            if let Some(node) = node.get("needs") {
                needs = self.needs(node, names);
            }
            if let Some(node) = node.get("when") {
                let own = self.expression(node, &at)?;
                when = Expression(format!("({}) && ({})", own.0, when.0));
            }
        }
        let set = BTreeMap::from([(
            "round".to_owned(),
            Template::Literal(raw.round.index.map_or(0, |index| index + 1).into()),
        )]);
        let rules = vec![Rule { when: None, set }];
        Some(placed(raw, rules, needs, Some(when)))
    }

    /// What the rounds came to: the last one that was made.
    pub(super) fn round_ends(
        &mut self,
        raw: &Raw<'_>,
        condition: &Node,
        node: &Node,
        made: &[Made],
        names: &[String],
    ) -> Option<Placed> {
        let at = Where::Step(raw.name.clone());
        let more = self.expression(condition, &at)?;
        self.round = Round::default();
        let needs = match node.get("needs") {
            Some(node) => self.needs(node, names),
            None => Vec::new(),
        };
        let when = match node.get("when") {
            Some(node) => Some(self.expression(node, &at)?),
            None => None,
        };
        let was_made = |round: &Made| format!("steps.{}.status == \"succeeded\"", round.asked);
        let outcome = |rounds: usize, exhausted: bool, body: &[Body]| {
            let mut set = BTreeMap::from([
                ("rounds".to_owned(), Template::Literal(rounds.into())),
                ("exhausted".to_owned(), Template::Literal(exhausted.into())),
            ]);
            for Body { name, step, fans_out } in body {
                let field = if *fans_out { "items" } else { "output" };
                let read = Expression(format!("steps.{step}.{field}"));
                set.insert(name.clone(), Template::Expression(read));
            }
            set
        };
        let mut rules = Vec::new();
        for (behind, round) in made.iter().enumerate() {
            let rounds = made.len() - behind;
            if behind == 0 {
                rules.push(Rule {
                    when: Some(Expression(format!("{} && ({})", was_made(round), more.0))),
                    set: outcome(rounds, true, &round.body),
                });
            }
            rules.push(Rule {
                when: Some(Expression(was_made(round))),
                set: outcome(rounds, false, &round.body),
            });
        }
        let mut none = outcome(0, false, &[]);
        let nothing = || Template::Literal(serde_json::Value::Null);
        none.extend(
            made.iter()
                .flat_map(|round| &round.body)
                .map(|step| (step.name.clone(), nothing())),
        );
        rules.push(Rule {
            when: None,
            set: none,
        });
        Some(placed(raw, rules, needs, when))
    }
}

pub(super) fn placed(raw: &Raw<'_>, rules: Vec<Rule>, needs: Vec<Need>, when: Option<Expression>) -> Placed {
    Placed {
        step: Step {
            needs,
            when,
            ..Step::plain(raw.name.clone(), Kind::Decide { rules })
        },
        place: raw.place,
        targets: None,
        item: None,
    }
}
