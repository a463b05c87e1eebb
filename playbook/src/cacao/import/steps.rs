//! Steps of ours for the steps of a workflow, and what leads from one to the next.

use std::collections::{BTreeMap, BTreeSet};

use catalogue::format_duration;
use serde_json::{Map, Value};

use super::super::violation::{Path, Violation};
use super::super::yaml::{Read, Yaml, comment};
use super::Note;
use super::branch::anchor;
use super::command::{self, Ruleset};
use super::names::{Names, slug};
use super::shape::{Shape, kind};
use super::step::{OUTCOME, ROUNDS, Step};
use super::variable::{INPUT_LENGTH_MAX, Variables};
use super::way::{Entry, Link, Own, Way, chain, link};

/// Who is asked where the document names nobody.
const ROLE: &str = "responder";
/// How long a question is open where the document says nothing.
const EXPIRES: &str = "24h";
/// Branches within branches.
const DEPTH_MAX: usize = 32;
/// Steps in all rounds of all loops that a playbook can have.
const UNROLLED_MAX: usize = 900;

pub(super) struct Mapper<'a> {
    root: &'a Map<String, Value>,
    pub(super) shape: &'a Shape<'a>,
    pub(super) variables: Variables<'a>,
    names: Names,
    pub(super) own: BTreeMap<&'a str, Own>,
    /// Steps that nothing leads to in the end.
    pub(super) left_out: BTreeSet<&'a str>,
    notes: Vec<Note>,
    rulesets: Vec<Ruleset>,
    scans: bool,
    /// Inputs with hosts, by agent or target: the input, and what it is for.
    hosts: BTreeMap<&'a str, (String, String)>,
    set_names: Names,
    /// Sets of hosts: by their members, the name and where the hosts come from.
    sets: BTreeMap<Vec<&'a str>, (String, String)>,
}

/// What stands around the steps.
pub(super) struct Parts<'a> {
    pub variables: Variables<'a>,
    pub hosts: Vec<(String, String)>,
    pub sets: Vec<(String, String)>,
    pub notes: Vec<Note>,
    pub rulesets: Vec<Ruleset>,
    pub scans: bool,
}

pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

fn list<'a>(object: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a Value> {
    object.get(name).and_then(Value::as_array).into_iter().flatten()
}

impl<'a> Mapper<'a> {
    pub fn new(root: &'a Map<String, Value>, shape: &'a Shape<'a>, variables: Variables<'a>) -> Mapper<'a> {
        Mapper {
            root,
            shape,
            variables,
            names: Names::default(),
            own: BTreeMap::new(),
            left_out: BTreeSet::new(),
            notes: Vec::new(),
            rulesets: Vec::new(),
            scans: false,
            hosts: BTreeMap::new(),
            set_names: Names::default(),
            sets: BTreeMap::new(),
        }
    }

    pub fn parts(self) -> Parts<'a> {
        Parts {
            variables: self.variables,
            hosts: self.hosts.into_values().collect(),
            sets: self.sets.into_values().collect(),
            notes: self.notes,
            rulesets: self.rulesets,
            scans: self.scans,
        }
    }

    /// Every step, in order.
    pub fn workflow(&mut self) -> Result<Vec<Step>, Violation> {
        let mut steps = Vec::new();
        self.region(0, &Entry::Begin, &mut steps)?;
        if steps.is_empty() {
            return Err(Violation {
                code: "C0802",
                path: "$.workflow".to_owned(),
                message: "no step that does anything is reached".to_owned(),
                hint: "lead from the start to an action".to_owned(),
            });
        }
        let unrolled: usize = steps.iter().map(Step::count).sum();
        let unread = self.variables.unread();
        if !unread.is_empty() {
            self.note(
                "playbook_variables",
                format!("nothing that was imported reads: {}", unread.join(", ")),
            );
        }
        let rounds = UNROLLED_MAX
            .checked_div(unrolled)
            .unwrap_or(ROUNDS)
            .clamp(1, ROUNDS);
        for step in steps.iter_mut().filter(|step| step.repeat.is_some()) {
            step.rounds = rounds;
        }
        Ok(steps)
    }

    pub(super) fn note(&mut self, id: &str, message: impl Into<String>) {
        self.notes.push(Note {
            id: id.to_owned(),
            message: message.into(),
        });
    }

    pub(super) fn region(
        &mut self,
        number: usize,
        entry: &Entry,
        steps: &mut Vec<Step>,
    ) -> Result<(), Violation> {
        let region = &self.shape.regions[number];
        if self.shape.enclosing(region.entry).take(DEPTH_MAX + 1).count() > DEPTH_MAX {
            let root = Path::Root;
            return Err(Violation {
                code: "C0801",
                path: root.name("workflow").name(region.entry).to_string(),
                message: format!("branches are in branches more than {DEPTH_MAX} deep"),
                hint: "make the inner ones playbooks of their own".to_owned(),
            });
        }
        for id in &region.order {
            let step = self.shape.steps[id];
            let Some(way) = self.way(id, *id == region.entry, entry) else {
                if kind(step) != "end" {
                    self.note(id, "no failure leads to this step, and it is left out");
                }
                self.left_out.insert(id);
                continue;
            };
            match kind(step) {
                "end" => {}
                "start" => self.start(id, step, &way, steps),
                "action" => self.action(id, step, way, steps),
                "playbook-action" => self.sub_playbook(id, step, way, steps),
                "while-condition" => self.repeat(id, step, way, steps)?,
                _ => self.open(id, step, way, steps)?,
            }
        }
        Ok(())
    }

    /// What every step of ours begins with.
    pub(super) fn begin(
        &mut self,
        id: &'a str,
        name: String,
        way: &Way,
        what: Vec<(&'static str, Yaml)>,
    ) -> Step {
        let step = self.shape.steps[id];
        let mut comments = Vec::new();
        let said: Vec<&str> = [text(step, "name"), text(step, "description")]
            .into_iter()
            .flatten()
            .collect();
        comments.push(comment(&format!("{id}: {}", said.join(": "))));
        let mut fields = Vec::new();
        if !way.needs.is_empty() {
            fields.push(("needs", Yaml::words(way.needs.iter().map(String::as_str))));
        }
        if let Some(when) = &way.when {
            fields.push(("when", Yaml::bare(when)));
        }
        if let Some(ms) = step.get("delay").and_then(Value::as_u64).filter(|ms| *ms > 0) {
            fields.push(("delay", Yaml::Scalar(format_duration(ms))));
        }
        fields.extend(what);
        Step {
            name,
            comments,
            answers: false,
            fields,
            repeat: None,
            rounds: ROUNDS,
        }
    }

    pub(super) fn name(&mut self, id: &str, step: &Map<String, Value>) -> String {
        let short = id
            .rsplit_once("--")
            .map_or("step", |(_, uuid)| uuid.split('-').next().unwrap_or("step"));
        self.names.step(
            text(step, "name").unwrap_or_default(),
            &format!("{} {short}", kind(step)),
        )
    }

    /// A start does nothing, unless it waits.
    fn start(&mut self, id: &'a str, step: &Map<String, Value>, way: &Way, steps: &mut Vec<Step>) {
        if step.get("delay").and_then(Value::as_u64).is_none_or(|ms| ms == 0) {
            return;
        }
        let name = self.name(id, step);
        steps.push(self.begin(id, name.clone(), way, vec![("decide", anchor())]));
        self.own.insert(id, chain(vec![link(&name)], false));
    }

    fn action(&mut self, id: &'a str, step: &'a Map<String, Value>, way: Way, steps: &mut Vec<Step>) {
        let commands: Vec<&Map<String, Value>> =
            list(step, "commands").filter_map(Value::as_object).collect();
        let targets: Vec<&str> = list(step, "targets").filter_map(Value::as_str).collect();
        let agent = text(step, "agent").unwrap_or_default();
        let on: Vec<&'a str> = if targets.is_empty() { vec![agent] } else { targets };
        let is_manual = |command: &&&Map<String, Value>| text(command, "type") == Some("manual");
        let answers = commands.iter().rposition(|command| is_manual(&command));
        let skippable = way.skippable;
        let mut links: Vec<Link> = Vec::new();
        let mut way = way;
        for (at, command) in commands.iter().enumerate() {
            // A request goes to each of several systems.
            let is_request = matches!(text(command, "type"), Some("http-api" | "openc2-http"));
            let systems: Vec<Option<&'a str>> = if is_request {
                on.iter().copied().map(Some).collect()
            } else {
                vec![None]
            };
            for system in systems {
                let name = self.name(id, step);
                let what = self.command(id, step, command, &name, &on, system, answers == Some(at));
                let mut made = self.begin(id, name.clone(), &way, what);
                if at > 0 {
                    made.fields.retain(|(field, _)| *field != "delay");
                }
                if let Some(about) = text(command, "description") {
                    made.comments.push(comment(about));
                }
                self.limits(id, step, &mut made);
                if answers == Some(at) {
                    self.variables.asked.insert(id, name.clone());
                }
                way = Way {
                    needs: vec![name],
                    when: made.link().done(),
                    skippable: true,
                };
                links.push(made.link());
                steps.push(made);
            }
        }
        self.own.insert(id, chain(links, skippable));
    }

    /// Deadlines, and what a failure means.
    fn limits(&mut self, id: &'a str, step: &Map<String, Value>, made: &mut Step) {
        let is = |kind: &str| made.fields.iter().any(|(name, _)| *name == kind);
        let (acts, asks) = (is("do"), is("ask"));
        if let Some(ms) = step.get("timeout").and_then(Value::as_u64).filter(|ms| *ms > 0) {
            if acts {
                let total = Yaml::Scalar(format_duration(ms));
                made.fields.push(("timeout", Yaml::map([("total", total)])));
            } else if !asks {
                self.note(id, "its timeout is not carried over: a playbook has its own");
            }
        }
        if self.is_caught(id) {
            made.fields.push(("on_failure", Yaml::word("continue")));
            made.answers = asks;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a command, and where it stands")]
    fn command(
        &mut self,
        id: &'a str,
        step: &'a Map<String, Value>,
        command: &Map<String, Value>,
        name: &str,
        on: &[&'a str],
        system: Option<&'a str>,
        answers: bool,
    ) -> Vec<(&'static str, Yaml)> {
        let kind = text(command, "type").unwrap_or_default();
        if kind == "manual" {
            return self.ask(id, step, &command::says(command), answers);
        }
        let connection = command::connection(self.definition(system.unwrap_or_default()).1);
        let (variables, shape) = (&self.variables, self.shape);
        let mut read = |variable: &str| variables.read(shape, id, variable);
        match command::action(command, name, &connection, &mut read) {
            Ok(made) => {
                for note in made.notes {
                    self.note(id, note);
                }
                self.rulesets.extend(made.ruleset);
                self.scans |= made.action == "scan.yara";
                let mut fields = vec![("do", Yaml::word(made.action)), ("with", Yaml::map(made.with))];
                if made.on_hosts {
                    fields.insert(0, ("targets", Yaml::word(&self.set(on))));
                }
                fields
            }
            Err(why) => {
                self.note(
                    id,
                    format!("a person carries out the command of the type `{kind}`: {why}"),
                );
                let says = by_hand(kind, command);
                self.ask(id, step, &says, answers)
            }
        }
    }

    /// A question to people: that it is done, and what it put out.
    fn ask(
        &mut self,
        id: &'a str,
        step: &'a Map<String, Value>,
        says: &str,
        answers: bool,
    ) -> Vec<(&'static str, Yaml)> {
        // Where nothing follows a failure there is no answer that says so: the question expires, and the run fails.
        let outcomes: &[&str] = if self.is_caught(id) {
            &["done", "failed"]
        } else {
            &["done"]
        };
        let outcomes = Yaml::map([("enum", Yaml::words(outcomes.iter().copied()))]);
        let mut form = vec![(OUTCOME.to_owned(), Yaml::map([("type", outcomes)]))];
        if answers {
            form.extend(self.variables.form(id));
        }
        let question = self.question(id, says);
        let ask = self.asking(step, question, Yaml::Map(form));
        vec![("ask", ask)]
    }

    /// Text for people; what cannot be read stands in it as the document has it.
    pub(super) fn question(&mut self, id: &'a str, says: &str) -> Yaml {
        let (variables, shape) = (&self.variables, self.shape);
        let written = Yaml::template(says, &mut |name| variables.read(shape, id, name));
        written.unwrap_or_else(|why| {
            self.note(
                id,
                format!("the text for people has the name of a variable, not its value: {why}"),
            );
            Yaml::text(says)
        })
    }

    pub(super) fn asking(&self, step: &Map<String, Value>, question: Yaml, form: Yaml) -> Yaml {
        let (kind, name) = self.definition(text(step, "agent").unwrap_or_default());
        let role = if ["individual", "group", "organization"].contains(&kind) {
            slug(name, '-', 63)
        } else {
            String::new()
        };
        let role = if role.is_empty() { ROLE.to_owned() } else { role };
        let expires = step
            .get("timeout")
            .and_then(Value::as_u64)
            .filter(|ms| *ms > 0)
            .map(format_duration);
        Yaml::map([
            ("roles", Yaml::List(vec![Yaml::text(&role)])),
            (
                "expires",
                Yaml::Scalar(expires.unwrap_or_else(|| EXPIRES.to_owned())),
            ),
            ("text", question),
            ("form", form),
        ])
    }

    /// The type and name of an agent or target.
    fn definition(&self, id: &str) -> (&'a str, &'a str) {
        let found = ["target_definitions", "agent_definitions"]
            .into_iter()
            .find_map(|dictionary| self.root.get(dictionary)?.get(id)?.as_object());
        found.map_or(("", ""), |found| {
            (
                text(found, "type").unwrap_or_default(),
                text(found, "name").unwrap_or_default(),
            )
        })
    }

    /// The set of the hosts that stand for these agents or targets; people name them when a run starts.
    fn set(&mut self, of: &[&'a str]) -> String {
        if let Some((name, _)) = self.sets.get(of) {
            return name.clone();
        }
        let mut inputs = Vec::new();
        for id in of {
            if !self.hosts.contains_key(id) {
                let (kind, name) = self.definition(id);
                let input = self
                    .variables
                    .names
                    .identifier(&format!("hosts {name}"), id, INPUT_LENGTH_MAX);
                let about = format!("the agents' ids of: {name} ({kind}{})", self.address(id));
                self.hosts.insert(id, (input, about));
            }
            inputs.push(self.hosts[id].0.clone());
        }
        let name = self
            .set_names
            .identifier(inputs[0].trim_start_matches("hosts_"), "all", INPUT_LENGTH_MAX);
        let source = inputs
            .iter()
            .map(|input| format!("inputs.{input}"))
            .collect::<Vec<_>>()
            .join(" + ");
        self.sets.insert(of.to_vec(), (name.clone(), source));
        name
    }

    /// Where the document says that an agent or target is.
    fn address(&self, id: &str) -> String {
        let found = ["target_definitions", "agent_definitions"]
            .into_iter()
            .find_map(|dictionary| self.root.get(dictionary)?.get(id)?.get("address")?.as_object());
        let all: Vec<&str> = found
            .into_iter()
            .flatten()
            .flat_map(|(_, list)| list.as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .take(4)
            .collect();
        if all.is_empty() {
            String::new()
        } else {
            format!(", {}", all.join(", "))
        }
    }

    fn sub_playbook(&mut self, id: &'a str, step: &'a Map<String, Value>, way: Way, steps: &mut Vec<Step>) {
        let name = self.name(id, step);
        let of = text(step, "playbook_id").unwrap_or_default().to_ascii_lowercase();
        let version = text(step, "playbook_version").unwrap_or("the latest");
        self.note(
            id,
            format!("publish the playbook that it starts (version {version}) under the name `{of}`, or change the name"),
        );
        let mut with = Vec::new();
        for argument in list(step, "in_args").filter_map(Value::as_str) {
            match self.variables.read(self.shape, id, argument) {
                Ok(Read::Expression(cel)) => {
                    with.push((Variables::input_of(argument), Yaml::expression(&cel)));
                }
                Ok(Read::Literal(value)) => with.push((Variables::input_of(argument), Yaml::text(&value))),
                Err(why) => self.note(id, format!("`{argument}` is not handed on: {why}")),
            }
        }
        let mut what = vec![("playbook", Yaml::map([("name", Yaml::text(&of))]))];
        if !with.is_empty() {
            what.push(("with", Yaml::Map(with)));
        }
        let mut made = self.begin(id, name.clone(), &way, what);
        self.limits(id, step, &mut made);
        steps.push(made);
        self.own.insert(id, chain(vec![link(&name)], way.skippable));
    }
}

/// A command for a person to carry out.
fn by_hand(kind: &str, command: &Map<String, Value>) -> String {
    let mut says = format!("By hand, as `{kind}`: {}", command::says(command));
    let body = match text(command, "content") {
        Some(content) => Some(content.to_owned()),
        None => text(command, "content_b64").and_then(super::super::check::decoded),
    };
    if let Some(body) = body {
        says.push_str(&format!("\n{body}"));
    }
    says
}
