//! How the run of a case begins: as a person asks for it, or by what a trigger takes.
//!
//! Whether a trigger takes an event is not decided here: the playbook is published to a cluster of its own, and the event
//! is weighed by it as by any other.

use std::collections::BTreeSet;

use engine::command::{Hit, Publish};
use engine::events::{Event, Source, read, read_any, weigh};
use engine::plan::{Ground, PlanError, draw};
use engine::{Actor, Command, Envelope, Reply, State};
use playbook::Problems;
use playbook::canonical::canonical_json;
use playbook::manifest::TriggerOn;
use serde_json::{Value, json};

use crate::suite::{Given, Suite};
use crate::world::{RUN, Stuck, World, bootstrap, digest};

impl World<'_> {
    /// Starts the run.
    pub(crate) fn start(&mut self, suite: &Suite, given: &Given) -> Result<(), Stuck> {
        let manifest = &suite.manifest;
        let refused = |problems: Problems| Stuck::Refused(problems.in_short());
        let config = Value::Object(given.config.clone());
        let mut inputs = given.inputs.clone();
        let event = given.event.clone().unwrap_or_default();
        let group = given.group.as_ref().map(|group| whole(group, given));
        if given.event.is_some() || group.is_some() {
            self.triggers = self.taken_by(suite, &event, group.as_ref())?;
            let group = group.as_ref().unwrap_or(&Value::Null);
            inputs.extend(playbook::inputs_of_event(manifest, &event, group, &config).map_err(refused)?);
        }
        inputs.extend(given.own_inputs.clone());
        let inputs = playbook::bind_inputs(manifest, &Value::Object(inputs)).map_err(refused)?;
        let named = playbook::named_hosts(manifest, &inputs, &config);
        let ground = Ground::of(&self.state, named.as_ref(), &BTreeSet::new())
            .because(event, group.unwrap_or_default());
        let plan =
            draw(manifest.clone(), inputs, config, &ground, &given.requester).map_err(|why| match why {
                PlanError::Targets(problems) => refused(problems),
                other => Stuck::Refused(other.to_string()),
            })?;
        let start = plan.start(RUN, None);
        let actor = Actor::Operator(given.requester.clone());
        match self.apply(actor, Command::StartRun(Box::new(start))) {
            Reply::Refused(why) => Err(Stuck::Refused(why.to_string())),
            _ => Ok(()),
        }
    }

    /// The triggers of the playbook that take what the case begins with, from 0. Of a playbook that has none, nothing is
    /// asked.
    fn taken_by(&self, suite: &Suite, event: &Value, group: Option<&Value>) -> Result<BTreeSet<u16>, Stuck> {
        let declared = &suite.manifest.triggers;
        if declared.is_empty() {
            return Ok(BTreeSet::new());
        }
        let listening = listening(suite).map_err(Stuck::Broken)?;
        let (mut taken, mut why_not) = (BTreeSet::new(), Vec::new());
        for (number, trigger) in (0u16..).zip(declared) {
            let said = match group {
                Some(group) => self.takes_group(&listening, number, &trigger.on, group),
                None => self.takes(&listening, number, &trigger.on, event),
            };
            match said {
                Ok(()) => {
                    taken.insert(number);
                }
                Err(why) => why_not.push(format!("trigger {}: {why}", number + 1)),
            }
        }
        match taken.is_empty() {
            false => Ok(taken),
            true => Err(Stuck::Refused(format!(
                "no trigger of the playbook takes it: {}",
                why_not.join("; ")
            ))),
        }
    }

    /// Whether a trigger takes an event; otherwise why not.
    fn takes(&self, listening: &State, number: u16, on: &TriggerOn, event: &Value) -> Result<(), String> {
        let text = canonical_json(event);
        let event = match on {
            TriggerOn::Event { .. } => read(&text, None),
            TriggerOn::Submission { name } => read_any(&text, Source::Submission(name.clone())),
            TriggerOn::Webhook { name } => read_any(&text, Source::Webhook(name.clone())),
            TriggerOn::Threshold { .. } => return Err("it takes a `group`".to_owned()),
            TriggerOn::Schedule { .. } => {
                return match event["scheduled_at"].is_string() {
                    true => Ok(()),
                    false => Err("it takes `event: {scheduled_at: TIME}`".to_owned()),
                };
            }
        };
        self.hit(listening, number, &event.map_err(|why| why.to_string())?)
            .map(|_| ())
    }

    /// Whether a trigger takes a group: each of its events, under its key, and enough of them.
    fn takes_group(
        &self,
        listening: &State,
        number: u16,
        on: &TriggerOn,
        group: &Value,
    ) -> Result<(), String> {
        let TriggerOn::Threshold { at_least, .. } = on else {
            return Err("it takes an `event`".to_owned());
        };
        let key = canonical_json(&group["key"]);
        let events = group["events"].as_array().map_or(&[][..], Vec::as_slice);
        for event in events {
            let event = read(&canonical_json(event), None).map_err(|why| why.to_string())?;
            let by = self.hit(listening, number, &event)?;
            if by.as_deref() != Some(&key) {
                let by = by.unwrap_or_default();
                return Err(format!("an event of the group {key} has the key {by}"));
            }
        }
        match group["count"].as_u64() {
            Some(count) if count >= u64::from(*at_least).max(events.len() as u64) => Ok(()),
            _ => Err(format!(
                "it takes {at_least} events, and of these there are {}",
                group["count"]
            )),
        }
    }

    /// The key under which a trigger takes an event; why it does not.
    fn hit(&self, listening: &State, number: u16, event: &Event) -> Result<Option<String>, String> {
        let weighed = weigh(listening, self.now(), std::slice::from_ref(event));
        let hits = weighed.command.into_iter().flat_map(|taken| taken.events);
        let by = hits.flat_map(|event| event.hits).find_map(|hit| match hit {
            Hit::Trigger { of, by, .. } if of.number == number => Some(by),
            _ => None,
        });
        by.ok_or_else(|| {
            let mut problems = weighed.matched.into_iter().flat_map(|matched| matched.problems);
            problems
                .next()
                .unwrap_or_else(|| "it is for another class, or its `when` does not hold".to_owned())
        })
    }
}

/// A cluster that only listens, for what this playbook waits for.
fn listening(suite: &Suite) -> Result<State, String> {
    let mut state = State::default();
    let publish = Publish {
        name: suite.manifest.playbook.clone(),
        version: suite.manifest.version,
        text: suite.playbook.as_str().into(),
        manifest_hash: digest(&suite.playbook),
        note: String::new(),
        triggers: suite.manifest.triggers.clone(),
    };
    for (index, command) in (1..).zip([bootstrap(), Command::Publish(Box::new(publish))]) {
        let envelope = Envelope {
            request: None,
            actor: Actor::Leader,
            command,
        };
        if let Reply::Refused(why) = state.apply(index, crate::suite::BEGINS_AT, &envelope).reply {
            return Err(why.to_string());
        }
    }
    Ok(state)
}

/// A group with what a cluster says of it and the case does not.
fn whole(group: &Value, given: &Given) -> Value {
    let mut group = group.clone();
    let count = group["events"].as_array().map_or(0, Vec::len);
    let at = given.begins_at.to_string();
    if let Value::Object(fields) = &mut group {
        fields.entry("count").or_insert(json!(count));
        fields.entry("first_at").or_insert(json!(at));
        fields.entry("last_at").or_insert(json!(at));
    }
    group
}
