//! Triggers: what starts playbooks by itself. The newest version of each published playbook is armed.
//!
//! Nodes weigh events against the triggers ([`crate::events`]); here only keys are compared and counted. What is to become
//! a run is a *firing*: it is kept until the leader has drawn its plan and started it, or says why there is no such run, so
//! that what was acknowledged is not lost with a leader, and becomes one run. Everything is bounded: at a bound the oldest
//! makes room and is counted, or nothing is acknowledged and the sender waits.

mod apply;
mod keys;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use playbook::manifest::TriggerOn;
use serde::{Deserialize, Serialize};

use crate::command::{Hit, NewEvent};
use crate::id::{Digest, RunId, TriggerId};
use crate::limits::{
    FIRINGS_BYTES_MAX, FIRINGS_MAX, GROUP_BYTES_MAX, TRIGGER_SEEN_MAX, WINDOW_BYTES_MAX, WINDOW_KEYS_MAX,
};
use crate::time::Timestamp;

use keys::{Seen, Windows};

/// A trigger that is armed, or held back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// Its name.
    pub id: TriggerId,
    /// The version of the playbook that it starts.
    pub version: u32,
    /// What it waits for.
    pub declared: playbook::manifest::Trigger,
    /// Somebody holds it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
    /// What came of it.
    pub counts: TriggerCounts,
    /// The last problem, and when that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<(Timestamp, String)>,
    /// The last run that it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunId>,
    /// When a schedule is due; None: it is none, or the leader has not said yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// The leader has looked at its calendar, for this version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scheduled: bool,
    seen: Seen,
    windows: Windows,
}

/// Who holds a trigger back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// The operator.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// What came of a trigger, since it was first published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerCounts {
    /// Events for which its condition held, and times that have come.
    pub matched: u64,
    /// Runs that it started.
    pub fired: u64,
    /// Matches, or groups of them, that started nothing, for the same key was seen.
    pub deduplicated: u64,
    /// Runs that were left out, as `limits.concurrency` says.
    pub dropped: u64,
    /// Runs that there could not be: see the last problem.
    pub refused: u64,
    /// Events without a key.
    pub broken: u64,
    /// Keys that were forgotten early, to make room.
    pub evicted: u64,
    /// Times of a schedule that no coordinator led at.
    pub missed: u64,
}

/// What is to become a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    /// Its number.
    pub id: u64,
    /// What set it off.
    pub trigger: TriggerId,
    /// The version of the playbook that is started.
    pub version: u32,
    /// When that was.
    pub at: Timestamp,
    /// The event, JSON; None: a group of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Arc<str>>,
    /// The group, JSON: `{key, count, first_at, last_at, events}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Arc<str>>,
    /// SHA-256 of what came in; of a group: of what it says.
    pub sha256: Digest,
    /// The key that starts nothing more for a while, if this becomes a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<Digest>,
}

impl Firing {
    fn bytes(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        128 + text(&self.event) + text(&self.group)
    }
}

/// All triggers, and what they set off.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Triggers {
    by_id: BTreeMap<TriggerId, Trigger>,
    firings: BTreeMap<u64, Firing>,
    /// The number of the last firing.
    last: u64,
    /// The index of the entry since which something else listens.
    listeners: u64,
    /// Derived.
    firing_bytes: usize,
}

/// All of it, as it is written.
#[derive(Serialize)]
pub(crate) struct Writing<'a> {
    triggers: Vec<&'a Trigger>,
    firings: Vec<&'a Firing>,
    last: u64,
    listeners: u64,
}

/// And as it is read.
#[derive(Default, Deserialize)]
pub(crate) struct Written {
    triggers: Vec<Trigger>,
    firings: Vec<Firing>,
    last: u64,
    listeners: u64,
}

impl Triggers {
    /// All, by playbook and number.
    pub fn iter(&self) -> impl Iterator<Item = &Trigger> {
        self.by_id.values()
    }

    /// Those that nobody holds back.
    pub fn armed(&self) -> impl Iterator<Item = &Trigger> {
        self.iter().filter(|trigger| trigger.disabled.is_none())
    }

    /// By name.
    pub fn get(&self, id: &TriggerId) -> Option<&Trigger> {
        self.by_id.get(id)
    }

    /// What is to become runs, the oldest first.
    pub fn firings(&self) -> impl Iterator<Item = &Firing> {
        self.firings.values()
    }

    /// One of them.
    pub fn firing(&self, id: u64) -> Option<&Firing> {
        self.firings.get(&id)
    }

    /// Grows whenever something else listens to events.
    pub fn revision(&self) -> u64 {
        self.listeners
    }

    /// There never was one: such a state is written as if there were none.
    pub(crate) fn is_nothing(&self) -> bool {
        self.by_id.is_empty() && self.last == 0 && self.listeners == 0
    }

    pub(crate) fn writing(&self) -> Writing<'_> {
        Writing {
            triggers: self.by_id.values().collect(),
            firings: self.firings.values().collect(),
            last: self.last,
            listeners: self.listeners,
        }
    }

    pub(crate) fn read(written: Written) -> Triggers {
        let mut triggers = Triggers {
            last: written.last,
            listeners: written.listeners,
            ..Triggers::default()
        };
        for trigger in written.triggers {
            triggers.by_id.insert(trigger.id.clone(), trigger);
        }
        for firing in written.firings {
            triggers.push(firing);
        }
        triggers
    }

    fn push(&mut self, firing: Firing) {
        self.firing_bytes += firing.bytes();
        self.firings.insert(firing.id, firing);
    }

    fn take(&mut self, id: u64) -> Option<Firing> {
        let firing = self.firings.remove(&id)?;
        self.firing_bytes -= firing.bytes();
        Some(firing)
    }

    /// What is to become a run.
    fn fire(
        &mut self,
        id: &TriggerId,
        at: Timestamp,
        event: Option<Arc<str>>,
        group: Option<Arc<str>>,
        (sha256, dedupe): (Digest, Option<Digest>),
    ) {
        let Some(trigger) = self.by_id.get(id) else { return };
        self.last += 1;
        self.push(Firing {
            id: self.last,
            trigger: id.clone(),
            version: trigger.version,
            at,
            event,
            group,
            sha256,
            dedupe,
        });
    }

    /// How many firings these events give, and at most how many bytes those take.
    fn to_fire(&self, events: &[NewEvent], now: Timestamp) -> (usize, usize) {
        let (mut firings, mut bytes) = (0, 0);
        let mut seen: BTreeSet<(&TriggerId, Digest)> = BTreeSet::new();
        let mut counted: BTreeMap<(&TriggerId, &str), (usize, usize)> = BTreeMap::new();
        for event in events {
            for hit in &event.hits {
                let Hit::Trigger { of, by, dedupe } = hit else {
                    continue;
                };
                let Some(trigger) = self.by_id.get(of) else {
                    continue;
                };
                if dedupe.is_some_and(|key| trigger.has_seen(&key, now) || seen.contains(&(of, key))) {
                    continue;
                }
                let size = match trigger.declared.on {
                    TriggerOn::Threshold {
                        at_least, within_ms, ..
                    } => {
                        let key = by.as_deref().unwrap_or("null");
                        let window = counted
                            .entry((of, key))
                            .or_insert_with(|| trigger.windows.standing(key, now, within_ms));
                        *window = (window.0 + 1, window.1 + event.text.len());
                        if window.0 < at_least as usize {
                            continue;
                        }
                        let (_, bytes) = std::mem::take(window);
                        bytes.min(GROUP_BYTES_MAX) + key.len() + 256
                    }
                    _ => event.text.len() + 128,
                };
                firings += 1;
                bytes += size;
                seen.extend(dedupe.map(|key| (of, key)));
            }
        }
        (firings, bytes)
    }

    /// Walks everything, for [`crate::State::check`].
    ///
    /// # Panics
    /// With the broken invariant, if any.
    pub(crate) fn check(&self) {
        for trigger in self.iter() {
            let at = format!("trigger {}", trigger.id);
            assert!(
                trigger.seen.until.len() <= TRIGGER_SEEN_MAX,
                "{at}: what it has seen is bounded"
            );
            assert!(
                trigger.windows.by_key.len() <= WINDOW_KEYS_MAX,
                "{at}: its keys are bounded"
            );
            assert!(
                trigger.windows.bytes <= WINDOW_BYTES_MAX,
                "{at}: what it counts is bounded"
            );
        }
        assert!(
            self.firings.len() <= FIRINGS_MAX && self.firing_bytes <= FIRINGS_BYTES_MAX,
            "what is to become runs is bounded"
        );
        for firing in self.firings() {
            assert!(firing.id <= self.last, "firing {}: it was counted", firing.id);
            assert!(
                firing.event.is_some() != firing.group.is_some(),
                "firing {}: it is for an event, or for a group of them",
                firing.id
            );
        }
    }
}

impl Trigger {
    /// The same key was seen, and starts nothing now.
    pub fn has_seen(&self, key: &Digest, now: Timestamp) -> bool {
        self.seen.until.get(key).is_some_and(|until| *until > now)
    }

    /// How many keys start nothing for now, and for how many keys a threshold counts events.
    pub fn keys(&self) -> (usize, usize) {
        (self.seen.until.len(), self.windows.by_key.len())
    }

    /// Notes a key; false: it was seen.
    fn see(&mut self, key: Digest, now: Timestamp) -> bool {
        let Some(dedupe) = &self.declared.dedupe else {
            return true;
        };
        if self.has_seen(&key, now) {
            self.counts.deduplicated += 1;
            return false;
        }
        let until = now.plus_ms(dedupe.window_ms);
        self.counts.evicted += self.seen.insert(key, until, now);
        true
    }
}
