//! Events of other systems, as OCSF (<https://schema.ocsf.io>): read at the door, and weighed against what listens.
//!
//! [`read`] checks what came in. [`weigh`] asks every armed trigger and every waiting step, over the state as a node has
//! applied it; expressions are evaluated here, and the log records only what came of them. [`crate::State::apply`] refuses
//! what was weighed before something else began to listen: it is weighed again then.

mod ocsf;

use std::collections::BTreeMap;
use std::sync::Arc;

use playbook::canonical::canonical_json;
use playbook::eval::{EvalError, Scope};
use playbook::manifest::{Kind, Template, TriggerOn};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::command::{Hit, NewEvent, TakeEvents};
use crate::id::{Digest, RunId};
use crate::limits::{EVENT_KEY_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::planner::wait_scope;
use crate::state::State;
use crate::state::triggers::Trigger;
use crate::time::Timestamp;

pub use ocsf::{EventProblem, class_name, read, read_any};

/// What an event is, for what listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The name of its OCSF class.
    Class(String),
    /// A file was handed in under this name.
    Submission(String),
    /// A request came in for the webhook of this name.
    Webhook(String),
}

/// An event that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What it is.
    pub source: Source,
    /// The JSON text that expressions see, of at most [`crate::limits::EVENT_BYTES_MAX`].
    pub text: Arc<str>,
    /// SHA-256 of what came in.
    pub sha256: Digest,
    /// The text, parsed.
    pub value: Value,
}

/// What came of events, before they are in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighed {
    /// What to propose; None: nothing listens to any of them.
    pub command: Option<TakeEvents>,
    /// Per event, what listens to it.
    pub matched: Vec<Matched>,
}

/// What listens to one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Triggers whose condition holds, those that it starts nothing by included.
    pub triggers: u32,
    /// Triggers that it starts nothing by: the same was seen within their window.
    pub deduplicated: u32,
    /// Steps that waited for it.
    pub waits: u32,
    /// Conditions and keys that could not be evaluated: whose, and why.
    pub problems: Vec<String>,
}

/// Asks everything that listens. `now`: the asking node's clock.
pub fn weigh(state: &State, now: Timestamp, events: &[Event]) -> Weighed {
    let now = now.max(state.now());
    let armed: Vec<&Trigger> = state.triggers().armed().collect();
    let waits: Vec<(RunId, u16)> = state.waits().collect();
    let mut taken = TakeEvents {
        listeners: state.triggers().revision(),
        ..TakeEvents::default()
    };
    let (mut seen, mut broken) = (BTreeMap::new(), BTreeMap::new());
    let mut all = Vec::with_capacity(events.len());
    for event in events {
        let mut matched = Matched::default();
        let mut hits = Vec::new();
        let mut scope = Scope::new();
        scope.bind("event", &event.value);
        scope.bind("config", &json!({}));
        scope.bind("group", &Value::Null);
        for trigger in &armed {
            match asked(trigger, event, &scope) {
                Ok(None) => {}
                Ok(Some(hit)) => {
                    matched.triggers += 1;
                    // A storm is counted, not written.
                    match &hit {
                        Hit::Trigger {
                            dedupe: Some(key), ..
                        } if trigger.has_seen(key, now) => {
                            matched.deduplicated += 1;
                            *seen.entry(trigger.id.clone()).or_insert(0u32) += 1;
                        }
                        _ => hits.push(hit),
                    }
                }
                Err(why) => {
                    if let Asking::Key(_) = why {
                        let entry = broken.entry(trigger.id.clone()).or_insert((0u32, String::new()));
                        entry.0 += 1;
                        entry.1 = why.to_string();
                    }
                    matched.problems.push(format!("trigger {}: {why}", trigger.id));
                }
            }
        }
        for &(run, step) in &waits {
            match waits_for(state, run, step, event) {
                Ok(false) => {}
                Ok(true) => {
                    matched.waits += 1;
                    hits.push(Hit::Wait { run, step });
                }
                Err(why) => matched
                    .problems
                    .push(format!("a step of run {run} that waits: {why}")),
            }
        }
        if !hits.is_empty() {
            taken.events.push(NewEvent {
                text: event.text.clone(),
                sha256: event.sha256,
                hits,
            });
        }
        all.push(matched);
    }
    taken.deduplicated = seen.into_iter().collect();
    taken.broken = broken
        .into_iter()
        .map(|(id, (count, why))| (id, count, cut(why)))
        .collect();
    let nothing = taken.events.is_empty() && taken.deduplicated.is_empty() && taken.broken.is_empty();
    Weighed {
        command: (!nothing).then_some(taken),
        matched: all,
    }
}

/// Why a trigger could not be asked.
#[derive(Debug, thiserror::Error)]
enum Asking {
    /// It is taken for one whose condition does not hold.
    #[error("when: {0}")]
    When(EvalError),
    /// What would tell it from others is not there.
    #[error("{0}")]
    Key(String),
}

/// What a trigger makes of an event; None: it is not for it.
fn asked(trigger: &Trigger, event: &Event, scope: &Scope<'_>) -> Result<Option<Hit>, Asking> {
    let (fits, when, by) = match (&trigger.declared.on, &event.source) {
        (TriggerOn::Event { class, when }, Source::Class(of)) => (class == of, when.as_ref(), None),
        (TriggerOn::Threshold { class, when, by, .. }, Source::Class(of)) => {
            (class == of, when.as_ref(), Some(by))
        }
        (TriggerOn::Submission { name }, Source::Submission(of))
        | (TriggerOn::Webhook { name }, Source::Webhook(of)) => (name == of, None, None),
        _ => (false, None, None),
    };
    if !fits {
        return Ok(None);
    }
    if let Some(when) = when
        && !scope.test(when).map_err(Asking::When)?
    {
        return Ok(None);
    }
    let key = |what: &str, value: Result<Value, EvalError>| {
        let text = value.map(|value| canonical_json(&value));
        match text {
            Ok(text) if text.len() <= EVENT_KEY_BYTES_MAX => Ok(text),
            Ok(text) => Err(Asking::Key(format!(
                "{what}: {} bytes, of at most {EVENT_KEY_BYTES_MAX}",
                text.len()
            ))),
            Err(why) => Err(Asking::Key(format!("{what}: {why}"))),
        }
    };
    let by = by.map(|by| key("by", scope.eval(by))).transpose()?;
    let dedupe = match &trigger.declared.dedupe {
        Some(dedupe) if by.is_none() || by_key_only(&dedupe.key) => {
            let mut scope = scope.child();
            if let Some(by) = &by {
                scope.bind("group", &json!({"key": crate::planner::parsed(by)}));
            }
            Some(digest_of(&key("dedupe.key", scope.render(&dedupe.key))?))
        }
        // It is told when the group is whole.
        _ => None,
    };
    Ok(Some(Hit::Trigger {
        of: trigger.id.clone(),
        by,
        dedupe,
    }))
}

/// What tells groups apart reads nothing but their key.
pub(crate) fn by_key_only(key: &Template) -> bool {
    let mut sources = crate::planner::Sources::default();
    sources.add_template(key);
    !["events", "count", "first_at", "last_at", "event"]
        .iter()
        .any(|word| sources.has(word))
}

/// A key, as it is remembered.
pub(crate) fn digest_of(key: &str) -> Digest {
    Digest(sha2::Sha256::digest(key).into())
}

/// Whether a step that waits takes this event.
fn waits_for(state: &State, run: RunId, step: u16, event: &Event) -> Result<bool, EvalError> {
    let Some(run) = state.run(&run) else {
        return Ok(false);
    };
    let Kind::WaitEvent { class, when, .. } = &run.declared(step).kind else {
        return Ok(false);
    };
    if event.source != Source::Class(class.clone()) {
        return Ok(false);
    }
    let Some(when) = when else { return Ok(true) };
    let mut scope = wait_scope(state, run, when);
    scope.bind("event", &event.value);
    scope.test(when)
}

fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX)
            .rev()
            .find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    text
}
