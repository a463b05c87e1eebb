//! What a step does: the eight kinds.

use std::collections::BTreeMap;

use super::Compiler;
use super::fields::{self, Fields};
use super::template::Place as Where;
use super::types::cannot_give;
use crate::manifest::{DEPTH_MAX, Field, Kind, Rule, ScoreRule, Template};
use crate::nearest;
use crate::problem::Place;
use crate::yaml::{Data, Node};

/// How deep they may be nested when nothing is said.
const DEPTH_DEFAULT: u32 = 4;
/// Whom a message can be sent to.
pub(super) const CHANNELS: &[&str] = &["log", "webhook", "email", "slack", "pagerduty", "teams"];

impl Compiler {
    pub(super) fn kind(&mut self, name: &str, place: Place, fields: &Fields<'_>, at: &Where) -> Option<Kind> {
        let given: Vec<(&str, &Node)> = fields::KINDS
            .iter()
            .filter_map(|kind| Some((*kind, *fields.get(kind)?)))
            .collect();
        let (kind, node) = match given.as_slice() {
            [one] => *one,
            [] => {
                self.problem(
                    "E0123",
                    place,
                    format!("step `{name}` does nothing"),
                    format!("add one of: {}", fields::KINDS.join(", ")),
                );
                return None;
            }
            [(first, _), (second, _), ..] => {
                self.problem(
                    "E0123",
                    place,
                    format!("step `{name}` does two things, `{first}` and `{second}`"),
                    "one of them; make two steps",
                );
                return None;
            }
        };
        if let Some(with) = fields.get("with").filter(|_| !["do", "playbook"].contains(&kind)) {
            self.problem(
                "E0122",
                with.place,
                format!("a `{kind}` has no parameters"),
                "leave out `with`",
            );
        }
        let step = Where::Step(name.to_owned());
        Some(match kind {
            "do" => {
                let action = self.text(node, "`do`")?;
                let (with, places) = self.with(fields.get("with").copied(), at);
                self.action(&action, node.place, &with, &places);
                Kind::Do { action, with }
            }
            "decide" => Kind::Decide {
                rules: self.rules(node, &step),
            },
            "score" => Kind::Score {
                rules: self.score(node, &step),
            },
            "ask" => self.ask(node, &step)?,
            "notify" => self.notify(node, at)?,
            "wait_event" => self.wait_event(node, name)?,
            "playbook" => {
                let (with, _) = self.with(fields.get("with").copied(), at);
                self.sub_playbook(node, with)?
            }
            // A `loop` was unrolled before its steps are compiled.
            _ => return None,
        })
    }

    /// Parameters, and where each stands.
    pub(super) fn with(
        &mut self,
        node: Option<&Node>,
        at: &Where,
    ) -> (BTreeMap<String, Template>, BTreeMap<String, Place>) {
        let (mut with, mut places) = (BTreeMap::new(), BTreeMap::new());
        let Some(node) = node else { return (with, places) };
        for (key, value) in self.entries(node, "`with`") {
            places.insert(key.name.clone(), key.place);
            if let Some(template) = self.template(value, at) {
                with.insert(key.name.clone(), template);
            }
        }
        (with, places)
    }

    /// The action exists, and its parameters fit as far as they are literal.
    pub(super) fn action(
        &mut self,
        name: &str,
        place: Place,
        with: &BTreeMap<String, Template>,
        places: &BTreeMap<String, Place>,
    ) {
        let Some(action) = catalogue::find(name) else {
            let hint = nearest::hint(name, catalogue::all().iter().map(|a| a.name));
            self.problem("E0130", place, format!("there is no action `{name}`"), hint);
            return;
        };
        let parameters = action.parameters();
        for (given, at) in places {
            if !parameters.iter().any(|p| p.name == *given) {
                let hint = nearest::hint(given, parameters.iter().map(|p| p.name.as_str()));
                self.problem("E0131", *at, format!("`{name}` has no parameter `{given}`"), hint);
            }
        }
        for parameter in parameters
            .iter()
            .filter(|p| p.required && !places.contains_key(&p.name))
        {
            let message = format!("`{name}` needs `{}`: {}", parameter.name, parameter.description);
            self.problem(
                "E0132",
                place,
                message,
                format!("add `{}:` under `with:` ({})", parameter.name, parameter.kind),
            );
        }
        // One parameter at a time, so that each finding has its place; what is missing was said above.
        for (given, template) in with {
            if let (Some((what, wanted)), Some(at)) =
                (cannot_give(action, given, template), places.get(given))
            {
                self.problem(
                    "E0314",
                    *at,
                    format!("`{name}`: `{given}` is {wanted}, and this gives {what}"),
                    format!("see `cordon action describe {name}`"),
                );
            }
            let (Template::Literal(value), Some(at)) = (template, places.get(given)) else {
                continue;
            };
            if !parameters.iter().any(|p| p.name == *given) {
                continue;
            }
            let alone = serde_json::json!({ given.as_str(): value });
            for finding in action
                .check_parameters(&alone)
                .into_iter()
                .filter(|f| !f.contains("is missing"))
            {
                self.problem(
                    "E0133",
                    *at,
                    format!("`{name}`: {finding}"),
                    format!("see `cordon action describe {name}`"),
                );
            }
        }
        // Rules over several parameters can be judged when all of them are literal.
        let literal: Option<serde_json::Map<String, serde_json::Value>> = with
            .iter()
            .map(|(given, template)| match template {
                Template::Literal(value) => Some((given.clone(), value.clone())),
                _ => None,
            })
            .collect();
        if let Some(all) = literal.filter(|all| !all.is_empty()) {
            for finding in action
                .check_parameters(&all.into())
                .into_iter()
                .filter(|f| f.contains("one of these"))
            {
                self.problem(
                    "E0133",
                    place,
                    format!("`{name}`: {finding}"),
                    format!("see `cordon action describe {name}`"),
                );
            }
        }
    }

    fn rules(&mut self, node: &Node, at: &Where) -> Vec<Rule> {
        let Data::List(items) = &node.data else {
            self.problem(
                "E0124",
                node.place,
                "`decide` is a list of rules",
                "- {when: condition, set: {name: value}}, last - {else: {...}}",
            );
            return Vec::new();
        };
        let mut rules = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let Some(fields) = self.fields(item, "a rule", fields::RULE) else {
                continue;
            };
            let last = number + 1 == items.len();
            match (fields.get("when"), fields.get("set"), fields.get("else")) {
                (Some(when), Some(set), None) => {
                    let when = self.expression(when, at);
                    let set = self.set(set, at);
                    rules.push(Rule { when, set });
                }
                (None, None, Some(set)) if last => rules.push(Rule {
                    when: None,
                    set: self.set(set, at),
                }),
                (None, None, Some(set)) => {
                    self.problem(
                        "E0125",
                        set.place,
                        "`else` is the last rule: those behind it never match",
                        "move it to the end",
                    );
                }
                _ => self.problem(
                    "E0124",
                    item.place,
                    "a rule has `when` and `set`, the last one `else`",
                    "- {when: condition, set: {name: value}}",
                ),
            }
        }
        if items.last().is_none_or(|item| item.get("else").is_none()) {
            self.problem(
                "E0126",
                node.place,
                "a `decide` without `else` can decide nothing",
                "add `- {else: {...}}` as the last rule",
            );
        }
        rules
    }

    fn set(&mut self, node: &Node, at: &Where) -> BTreeMap<String, Template> {
        let entries = self.entries(node, "`set`");
        entries
            .iter()
            .filter_map(|(key, value)| Some((key.name.clone(), self.template(value, at)?)))
            .collect()
    }

    fn score(&mut self, node: &Node, at: &Where) -> Vec<ScoreRule> {
        let Data::List(items) = &node.data else {
            self.problem(
                "E0135",
                node.place,
                "`score` is a list of rules",
                "- {add: 10, when: condition, note: why}",
            );
            return Vec::new();
        };
        if items.is_empty() {
            self.problem(
                "E0135",
                node.place,
                "a `score` without rules is always 0",
                "add a rule",
            );
        }
        let mut rules = Vec::new();
        for item in items {
            let Some(fields) = self.fields(item, "a rule", fields::SCORE_RULE) else {
                continue;
            };
            let add = match fields.get("add").map(|n| &n.data) {
                Some(Data::Int(add)) if i32::try_from(*add).is_ok() => Some(*add),
                _ => None,
            };
            let when = fields.get("when").and_then(|n| self.expression(n, at));
            let note = fields.get("note").and_then(|n| self.text(n, "`note`"));
            match (add, when, fields.contains_key("when")) {
                (Some(add), Some(when), _) => rules.push(ScoreRule { add, when, note }),
                (Some(_), None, true) => {}
                _ => self.problem(
                    "E0135",
                    item.place,
                    "a rule has `add`, a whole number, and `when`",
                    "- {add: 10, when: condition, note: why}",
                ),
            }
        }
        rules
    }

    fn ask(&mut self, node: &Node, at: &Where) -> Option<Kind> {
        let fields = self.fields(node, "`ask`", fields::ASK)?;
        let roles = self.roles(fields.get("roles").copied(), node.place, "`ask`", "E0136");
        let expires_ms = self.expires(&fields, node.place, "`ask`", "E0136");
        let text = fields.get("text").and_then(|n| self.template(n, at));
        let mut form = BTreeMap::new();
        match fields.get("form") {
            None => self.problem(
                "E0136",
                node.place,
                "an `ask` without `form` asks for nothing",
                "form: {name: {type: string}}",
            ),
            Some(node) => {
                for (key, value) in self.entries(node, "`form`") {
                    self.identifier(&key.name, key.place, "a field");
                    if let Some(field) = self.field(&key.name, value, at) {
                        form.insert(key.name.clone(), field);
                    }
                }
            }
        }
        Some(Kind::Ask {
            roles: roles?,
            text,
            expires_ms: expires_ms?,
            form,
        })
    }

    fn field(&mut self, name: &str, node: &Node, at: &Where) -> Option<Field> {
        let fields = self.fields(node, "a field", fields::FIELD)?;
        let mut input = self.input_of(name, node.place, &fields)?;
        let default = match fields.get("default") {
            None => None,
            Some(node) => match self.template(node, at)? {
                Template::Literal(value) => {
                    let value = self.default_of(name, &input, &value, node.place)?;
                    input.default = None;
                    Some(Template::Literal(value))
                }
                computed => Some(computed),
            },
        };
        Some(Field { input, default })
    }

    fn notify(&mut self, node: &Node, at: &Where) -> Option<Kind> {
        let fields = self.fields(node, "`notify`", fields::NOTIFY)?;
        let to = self.recipients(fields.get("to").copied(), node.place, at);
        let severity = fields.get("severity").and_then(|n| self.template(n, at));
        let Some(text) = fields.get("text") else {
            self.problem("E0137", node.place, "a `notify` has `text`", "add `text:`");
            return None;
        };
        Some(Kind::Notify {
            to: to?,
            severity,
            text: self.template(text, at)?,
        })
    }

    /// `KIND:ADDRESS`, each; the kind is literal, so that it is known before anything runs.
    pub(super) fn recipients(
        &mut self,
        node: Option<&Node>,
        place: Place,
        at: &Where,
    ) -> Option<Vec<Template>> {
        let Some(Data::List(items)) = node
            .map(|n| &n.data)
            .filter(|d| !matches!(d, Data::List(l) if l.is_empty()))
        else {
            self.problem(
                "E0137",
                node.map_or(place, |n| n.place),
                "whom to tell is a list",
                "to: [\"email:soc@example.org\", \"log:soc\"]",
            );
            return None;
        };
        let mut all = Vec::new();
        for item in items {
            let text = self.text(item, "a recipient")?;
            let kind = text.split(':').next().unwrap_or_default();
            if !CHANNELS.contains(&kind) || !text.contains(':') {
                let hint = nearest::hint(kind, CHANNELS.iter().copied());
                self.problem(
                    "E0137",
                    item.place,
                    format!("`{text}` is no KIND:ADDRESS that a message can be sent to"),
                    hint,
                );
                continue;
            }
            all.push(self.template(item, at)?);
        }
        Some(all)
    }

    fn wait_event(&mut self, node: &Node, name: &str) -> Option<Kind> {
        let fields = self.fields(node, "`wait_event`", fields::WAIT_EVENT)?;
        let class = self.class(fields.get("event").copied(), node.place);
        let when = fields
            .get("when")
            .and_then(|n| self.expression(n, &Where::Event(name.to_owned())));
        let expires_ms = self.expires(&fields, node.place, "`wait_event`", "E0145");
        Some(Kind::WaitEvent {
            class: class?,
            when,
            expires_ms: expires_ms?,
        })
    }

    /// The name of an OCSF class.
    pub(super) fn class(&mut self, node: Option<&Node>, place: Place) -> Option<String> {
        let Some(node) = node else {
            self.problem(
                "E0145",
                place,
                "which class of events?",
                "event: detection_finding",
            );
            return None;
        };
        let class = self.text(node, "a class of events")?;
        self.identifier(&class, node.place, "a class of events")
            .then_some(class)
    }

    fn sub_playbook(&mut self, node: &Node, with: BTreeMap<String, Template>) -> Option<Kind> {
        let fields = self.fields(node, "`playbook`", fields::SUB_PLAYBOOK)?;
        let Some(name) = fields.get("name") else {
            self.problem(
                "E0144",
                node.place,
                "which playbook?",
                "playbook: {name: ..., version: 1}",
            );
            return None;
        };
        let place = name.place;
        let name = self.text(name, "the name of a playbook")?;
        if !super::top::is_playbook_name(&name) {
            self.problem(
                "E0108",
                place,
                format!("`{name}` cannot be the name of a playbook"),
                "1 to 63 of a-z, 0-9 and -",
            );
        }
        Some(Kind::Playbook {
            name,
            version: fields
                .get("version")
                .and_then(|n| self.count(n, "`version`", 1, u32::MAX)),
            wait: fields.get("wait").is_none_or(|n| self.flag(n, "`wait`")),
            depth_max: fields.get("max_depth").map_or(Some(DEPTH_DEFAULT), |n| {
                self.count(n, "`max_depth`", 1, DEPTH_MAX)
            })?,
            with,
        })
    }

    /// Names of roles.
    pub(super) fn roles(
        &mut self,
        node: Option<&Node>,
        place: Place,
        what: &str,
        code: &'static str,
    ) -> Option<Vec<String>> {
        let items = match node.map(|n| &n.data) {
            Some(Data::List(items)) if !items.is_empty() => items,
            _ => {
                self.problem(
                    code,
                    node.map_or(place, |n| n.place),
                    format!("{what} needs `roles`: a list of those who may answer"),
                    "roles: [soc-lead]",
                );
                return None;
            }
        };
        let mut roles = Vec::new();
        for item in items {
            let role = self.text(item, "a role")?;
            if !super::top::is_playbook_name(&role) {
                self.problem(
                    code,
                    item.place,
                    format!("`{role}` is no role"),
                    "1 to 63 of a-z, 0-9 and -",
                );
            }
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        Some(roles)
    }

    /// How long it waits; whatever waits for people or the world says it.
    pub(super) fn expires(
        &mut self,
        fields: &Fields<'_>,
        place: Place,
        what: &str,
        code: &'static str,
    ) -> Option<u64> {
        match fields.get("expires") {
            Some(node) => self.deadline(node, "`expires`"),
            None => {
                self.problem(
                    code,
                    place,
                    format!("{what} without `expires` could wait for ever"),
                    "add `expires: 30m`",
                );
                None
            }
        }
    }
}
