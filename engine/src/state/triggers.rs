//! Triggers: what starts playbooks by itself. The newest version of each published playbook is armed.
//!
//! Nodes weigh events against the triggers ([`crate::events`]); here only keys are compared and counted. What is to become
//! a run is a *firing*: it is kept until the leader has drawn its plan and started it, or says why there is no such run, so
//! that what was acknowledged is not lost with a leader, and becomes one run. Everything is bounded: at a bound the oldest
//! makes room and is counted, or nothing is acknowledged and the sender waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use playbook::manifest::{OnConflict, TriggerOn};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::command::{Fired, Hit, NewEvent, Publish, Schedule, StartRun, TakeEvents};
use crate::effect::Reply;
use crate::error::Refusal;
use crate::id::{Digest, RunId, TriggerId};
use crate::limits::{
    EVENTS_MAX, FIRINGS_BYTES_MAX, FIRINGS_MAX, GROUP_BYTES_MAX, MESSAGE_BYTES_MAX, SCHEDULE_LATE_MS,
    TRIGGER_SEEN_MAX, TRIGGERS_MAX, WINDOW_BYTES_MAX, WINDOW_KEYS_MAX,
};
use crate::state::enrolment::{not_found, within};
use crate::state::{State, Turn};
use crate::time::Timestamp;

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

/// Keys that start nothing for a while.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    until: BTreeMap<Digest, Timestamp>,
    /// Derived.
    by_time: BTreeSet<(Timestamp, Digest)>,
}

/// The events that a threshold counts, by key.
#[derive(Clone, Debug, Default, PartialEq)]
struct Windows {
    by_key: BTreeMap<Arc<str>, Window>,
    /// Derived: the quietest first.
    by_time: BTreeSet<(Timestamp, Arc<str>)>,
    /// Derived.
    bytes: usize,
}

/// The events of one key.
#[derive(Clone, Debug, Default, PartialEq)]
struct Window {
    /// In the order in which they came; of the oldest only the time, where the texts are too much.
    events: VecDeque<Counted>,
    /// Derived: how many of the oldest have no text.
    bare: usize,
    /// Derived: of the texts.
    bytes: usize,
}

/// When an event came, and its text.
type Counted = (Timestamp, Option<Arc<str>>);

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

    /// Walks everything, for [`State::check`].
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

impl Seen {
    /// Remembers a key; how many others made room that were not over.
    fn insert(&mut self, key: Digest, until: Timestamp, now: Timestamp) -> u64 {
        if let Some(before) = self.until.insert(key, until) {
            self.by_time.remove(&(before, key));
        }
        self.by_time.insert((until, key));
        let mut evicted = 0;
        while let Some(&(first, key)) = self.by_time.first()
            && (first <= now || self.until.len() > TRIGGER_SEEN_MAX)
        {
            evicted += u64::from(first > now);
            self.by_time.pop_first();
            self.until.remove(&key);
        }
        evicted
    }
}

impl Seen {
    fn remove(&mut self, key: &Digest) {
        if let Some(until) = self.until.remove(key) {
            self.by_time.remove(&(until, *key));
        }
    }
}

impl Windows {
    /// Counts an event; the group, where that makes it whole, and how many keys made room.
    fn count(
        &mut self,
        key: &str,
        text: &Arc<str>,
        now: Timestamp,
        (at_least, within_ms): (u32, u64),
    ) -> (Option<Arc<str>>, u64) {
        let key: Arc<str> = key.into();
        let mut window = self.take(&key).unwrap_or_default();
        window.push((now, Some(text.clone())));
        let is_old = |(at, _): &Counted| at.plus_ms(within_ms) <= now;
        while window.events.front().is_some_and(is_old) {
            window.pop();
        }
        if window.events.len() >= at_least as usize {
            return (Some(window.group(&key)), 0);
        }
        self.put(key, window);
        let mut evicted = 0;
        // Those whose events are all too old count for nothing.
        while let Some((last, quiet)) = self.by_time.first().cloned() {
            let over = last.plus_ms(within_ms) <= now;
            if !over && self.by_key.len() <= WINDOW_KEYS_MAX && self.bytes <= WINDOW_BYTES_MAX {
                break;
            }
            evicted += u64::from(!over);
            self.take(&quiet);
        }
        (None, evicted)
    }

    /// How many events of a key count now, and their bytes.
    fn standing(&self, key: &str, now: Timestamp, within_ms: u64) -> (usize, usize) {
        let Some(window) = self.by_key.get(key) else {
            return (0, 0);
        };
        let young = |(at, _): &&Counted| at.plus_ms(within_ms) > now;
        (window.events.iter().rev().take_while(young).count(), window.bytes)
    }

    fn take(&mut self, key: &Arc<str>) -> Option<Window> {
        let window = self.by_key.remove(key)?;
        self.by_time.remove(&(window.last(), key.clone()));
        self.bytes -= window.size_bytes();
        Some(window)
    }

    fn put(&mut self, key: Arc<str>, window: Window) {
        self.by_time.insert((window.last(), key.clone()));
        self.bytes += window.size_bytes();
        self.by_key.insert(key, window);
    }
}

impl Window {
    fn last(&self) -> Timestamp {
        self.events.back().map_or(Timestamp(0), |(at, _)| *at)
    }

    fn push(&mut self, event: Counted) {
        self.bytes += text_bytes(&event);
        self.events.push_back(event);
        while self.bytes > GROUP_BYTES_MAX {
            let oldest = &mut self.events[self.bare];
            self.bytes -= text_bytes(oldest);
            oldest.1 = None;
            self.bare += 1;
        }
    }

    fn pop(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= text_bytes(&event);
            self.bare = self.bare.saturating_sub(1);
        }
    }

    fn size_bytes(&self) -> usize {
        24 * self.events.len() + self.bytes
    }

    /// `{key, count, first_at, last_at, events}`, the events the newest that fit, in their order. Their texts were JSON
    /// when they were taken, and the key is.
    fn group(&self, key: &str) -> Arc<str> {
        let kept: Vec<&str> = self
            .events
            .iter()
            .filter_map(|(_, text)| text.as_deref())
            .collect();
        let at = |event: Option<&Counted>| event.map_or(Timestamp(0), |(at, _)| *at).to_string();
        format!(
            "{{\"count\":{},\"events\":[{}],\"first_at\":\"{}\",\"key\":{key},\"last_at\":\"{}\"}}",
            self.events.len(),
            kept.join(","),
            at(self.events.front()),
            at(self.events.back())
        )
        .into()
    }
}

fn text_bytes((_, text): &Counted) -> usize {
    text.as_ref().map_or(0, |text| text.len())
}

impl State {
    /// Events that nodes have weighed.
    pub(super) fn take_events(&mut self, taken: &TakeEvents, turn: &mut Turn<'_>) -> Result<Reply, Refusal> {
        within("events of one command", taken.events.len(), EVENTS_MAX)?;
        if taken.listeners != self.triggers.listeners {
            return Err(Refusal::Stale);
        }
        let (firings, bytes) = self.triggers.to_fire(&taken.events, self.now);
        if self.triggers.firings.len() + firings > FIRINGS_MAX
            || self.triggers.firing_bytes + bytes > FIRINGS_BYTES_MAX
        {
            return Err(Refusal::Full(format!(
                "{} firings of triggers wait to become runs",
                self.triggers.firings.len()
            )));
        }
        let before = self.triggers.last;
        let mut deduplicated = 0;
        for (id, count) in &taken.deduplicated {
            if let Some(trigger) = self.triggers.by_id.get_mut(id) {
                trigger.counts.matched += u64::from(*count);
                trigger.counts.deduplicated += u64::from(*count);
                deduplicated += count;
            }
        }
        let now = self.now;
        for (id, count, why) in &taken.broken {
            if let Some(trigger) = self.triggers.by_id.get_mut(id) {
                trigger.counts.broken += u64::from(*count);
                trigger.problem = Some((now, why.clone()));
            }
        }
        let mut heard = 0;
        for event in &taken.events {
            for hit in &event.hits {
                match hit {
                    Hit::Trigger { of, by, dedupe } => {
                        deduplicated += self.trigger_hit(event, of, by.as_deref(), *dedupe);
                    }
                    Hit::Wait { run, step } => {
                        let took = self.with_run(*run, turn, |run, around| run.hear(*step, event, around));
                        heard += u32::from(took == Some(true));
                    }
                }
            }
        }
        let fired = (self.triggers.last - before) as u32;
        turn.out.triggers |= fired > 0;
        Ok(Reply::Events {
            fired,
            deduplicated,
            heard,
        })
    }

    /// An event is for a trigger: it fires, or counts, or was seen. How many were seen.
    fn trigger_hit(
        &mut self,
        event: &NewEvent,
        id: &TriggerId,
        by: Option<&str>,
        dedupe: Option<Digest>,
    ) -> u32 {
        let now = self.now;
        let Some(trigger) = self.triggers.by_id.get_mut(id) else {
            return 0;
        };
        trigger.counts.matched += 1;
        let TriggerOn::Threshold {
            at_least, within_ms, ..
        } = trigger.declared.on
        else {
            if dedupe.is_some_and(|key| !trigger.see(key, now)) {
                return 1;
            }
            self.triggers
                .fire(id, now, Some(event.text.clone()), None, (event.sha256, dedupe));
            return 0;
        };
        if dedupe.is_some_and(|key| trigger.has_seen(&key, now)) {
            trigger.counts.deduplicated += 1;
            return 1;
        }
        let key = by.unwrap_or("null");
        let (group, evicted) = trigger
            .windows
            .count(key, &event.text, now, (at_least, within_ms));
        trigger.counts.evicted += evicted;
        let Some(group) = group else { return 0 };
        if let Some(key) = dedupe {
            trigger.see(key, now);
        }
        let sha256 = crate::events::digest_of(&group);
        self.triggers.fire(id, now, None, Some(group), (sha256, dedupe));
        0
    }

    /// The newest version of a playbook is armed.
    pub(super) fn arm(&mut self, publish: &Publish, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let mut before = BTreeMap::new();
        let of = |id: &TriggerId| id.playbook == publish.name;
        while let Some(id) = self.triggers.by_id.keys().find(|id| of(id)).cloned() {
            before.extend(self.triggers.by_id.remove_entry(&id));
        }
        let fits = within(
            "armed triggers",
            self.triggers.by_id.len() + publish.triggers.len(),
            TRIGGERS_MAX,
        );
        if let Err(why) = fits {
            self.triggers.by_id.extend(before);
            return Err(why);
        }
        if before.is_empty() && publish.triggers.is_empty() {
            return Ok(());
        }
        for (number, declared) in (0u16..).zip(&publish.triggers) {
            let id = TriggerId {
                playbook: publish.name.clone(),
                number,
            };
            // What waits for the same is the same, wherever it stands; otherwise what stood in this place.
            let same = before
                .iter()
                .find(|(_, old)| old.declared == *declared)
                .map(|(id, _)| id.clone());
            let stays = publish
                .triggers
                .iter()
                .any(|other| before.get(&id).is_some_and(|old| old.declared == *other));
            let is_same = same.is_some();
            let old = match same {
                Some(same) => before.remove(&same),
                None if stays => None,
                None => before.remove(&id),
            };
            let mut trigger = match old {
                Some(old) if is_same => Trigger {
                    id: id.clone(),
                    ..old
                },
                // Whoever held it back did not hold it back for what it waited for.
                old => Trigger {
                    id: id.clone(),
                    version: publish.version,
                    declared: declared.clone(),
                    counts: old.as_ref().map(|old| old.counts).unwrap_or_default(),
                    last_run: old.as_ref().and_then(|old| old.last_run),
                    disabled: old.and_then(|old| old.disabled),
                    problem: None,
                    next_at: None,
                    scheduled: false,
                    seen: Seen::default(),
                    windows: Windows::default(),
                },
            };
            trigger.version = publish.version;
            self.triggers.by_id.insert(id, trigger);
        }
        for lost in before.values() {
            if let Some(hold) = &lost.disabled {
                let detail = json!({"by": hold.by, "reason": hold.reason, "version": publish.version});
                self.record(turn, "trigger.hold_ends", lost.id.to_string(), &detail);
            }
        }
        self.listen_again(turn);
        Ok(())
    }

    /// Something else listens from now on.
    pub(super) fn listen_again(&mut self, turn: &mut Turn<'_>) {
        self.triggers.listeners = self.applied_index;
        turn.out.triggers = true;
    }

    pub(super) fn set_trigger(
        &mut self,
        id: &TriggerId,
        enabled: bool,
        reason: &str,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        within("bytes of the reason", reason.len(), MESSAGE_BYTES_MAX)?;
        if !enabled && reason.trim().is_empty() {
            return Err(Refusal::Invalid("say why the trigger is held back".into()));
        }
        let now = self.now;
        let trigger = self
            .triggers
            .by_id
            .get_mut(id)
            .ok_or_else(|| not_found("trigger", &id.to_string()))?;
        if trigger.disabled.is_none() == enabled {
            return Ok(Reply::Done);
        }
        trigger.disabled = (!enabled).then(|| Disabled {
            by: turn.actor.person().unwrap_or_else(|| turn.actor.to_string()),
            at: now,
            reason: reason.to_owned(),
        });
        // Times that passed meanwhile were not missed.
        (trigger.scheduled, trigger.next_at) = (false, None);
        self.listen_again(turn);
        let verb = if enabled {
            "trigger.enable"
        } else {
            "trigger.disable"
        };
        let mut detail = json!({"reason": reason});
        if !enabled {
            let of = |firing: &&Firing| firing.trigger == *id;
            let waiting: Vec<u64> = self
                .triggers
                .firings()
                .filter(of)
                .map(|firing| firing.id)
                .collect();
            detail["dropped"] = json!(waiting.len());
            for firing in waiting {
                self.end_firing(firing, Ended::HeldBack, turn);
            }
        }
        self.record(turn, verb, id.to_string(), &detail);
        Ok(Reply::Done)
    }

    /// The leader's calendar says when a schedule is due, and that it is.
    pub(super) fn schedule(&mut self, said: &Schedule, turn: &mut Turn<'_>) -> Result<Reply, Refusal> {
        let now = self.now;
        let Some(trigger) = self.triggers.by_id.get_mut(&said.trigger) else {
            return Err(not_found("trigger", &said.trigger.to_string()));
        };
        let TriggerOn::Schedule { catch_up, .. } = trigger.declared.on else {
            return Err(Refusal::Invalid(format!(
                "trigger {} is no schedule",
                said.trigger
            )));
        };
        let known = trigger.scheduled.then_some(trigger.next_at).flatten();
        let is_over = trigger.version != said.version || trigger.disabled.is_some() || known != said.due;
        if is_over || said.due.is_some_and(|due| due > now) {
            return Err(Refusal::State(format!(
                "trigger {} has other times by now",
                said.trigger
            )));
        }
        trigger.next_at = said.next;
        trigger.scheduled = true;
        turn.out.triggers = true;
        let Some(due) = said.due else {
            return Ok(Reply::Done);
        };
        trigger.counts.matched += 1;
        if !catch_up && due.plus_ms(SCHEDULE_LATE_MS) < now {
            trigger.counts.missed += 1;
            trigger.problem = Some((now, format!("its time {due} was missed")));
            return Ok(Reply::Done);
        }
        if self.triggers.firings.len() >= FIRINGS_MAX {
            trigger.counts.missed += 1;
            trigger.problem = Some((
                now,
                format!("its time {due} was missed: too much waits to become runs"),
            ));
            return Ok(Reply::Done);
        }
        let event: Arc<str> = json!({"scheduled_at": due.to_string()}).to_string().into();
        let sha256 = crate::events::digest_of(&event);
        self.triggers
            .fire(&said.trigger, now, Some(event), None, (sha256, None));
        Ok(Reply::Done)
    }

    /// A run that a trigger set off: it begins, or what set it off is over all the same, where trying again would not help.
    pub(super) fn start_fired(
        &mut self,
        start: &StartRun,
        fired: &Fired,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        let Some(firing) = self.triggers.firing(fired.firing).cloned() else {
            return Err(Refusal::State(format!(
                "firing {} has become a run, or none, already",
                fired.firing
            )));
        };
        if let (Some(key), Some(trigger)) = (fired.dedupe, self.triggers.by_id.get(&firing.trigger))
            && trigger.has_seen(&key, self.now)
        {
            self.end_firing(fired.firing, Ended::Deduplicated, turn);
            return Ok(Reply::Done);
        }
        if let Err(why) = self.check_claims(&start.manifest, &start.claims, &BTreeSet::new()) {
            let drops = start
                .manifest
                .limits
                .concurrency
                .as_ref()
                .is_some_and(|limit| limit.on_conflict == OnConflict::Drop);
            let end = match drops {
                true => Ended::Dropped(why.to_string()),
                false => Ended::Refused(why.to_string()),
            };
            self.end_firing(fired.firing, end, turn);
            return Ok(Reply::Done);
        }
        let published = self.playbooks.get(&firing.trigger.playbook, Some(firing.version));
        let requester = published.map_or(String::new(), |published| published.published_by.clone());
        let reply = self.begin_run(start, requester, None, turn)?;
        let now = self.now;
        if let Some(trigger) = self.triggers.by_id.get_mut(&firing.trigger)
            && let Some(key) = fired.dedupe
        {
            trigger.see(key, now);
        }
        self.end_firing(fired.firing, Ended::Run(start.run), turn);
        Ok(reply)
    }

    /// The leader found that there can be no such run.
    pub(super) fn not_fired(
        &mut self,
        firing: u64,
        why: &str,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        within("bytes of the reason", why.len(), MESSAGE_BYTES_MAX)?;
        if self.triggers.firing(firing).is_none() {
            return Err(not_found("firing", &firing.to_string()));
        }
        self.end_firing(firing, Ended::Refused(why.to_owned()), turn);
        Ok(Reply::Done)
    }

    fn end_firing(&mut self, id: u64, end: Ended, turn: &mut Turn<'_>) {
        let Some(firing) = self.triggers.take(id) else {
            return;
        };
        turn.out.triggers = true;
        let now = self.now;
        let Some(trigger) = self.triggers.by_id.get_mut(&firing.trigger) else {
            return;
        };
        if let (Ended::HeldBack | Ended::Dropped(_) | Ended::Refused(_), Some(key)) = (&end, firing.dedupe) {
            // Nothing was started, so the next one may.
            trigger.seen.remove(&key);
        }
        let counts = &mut trigger.counts;
        let detail = match &end {
            Ended::Run(run) => {
                counts.fired += 1;
                trigger.last_run = Some(*run);
                json!({"run": run, "sha256": firing.sha256})
            }
            Ended::Deduplicated => {
                counts.deduplicated += 1;
                return;
            }
            Ended::HeldBack => {
                counts.dropped += 1;
                return;
            }
            Ended::Dropped(why) => {
                counts.dropped += 1;
                json!({"dropped": why, "sha256": firing.sha256})
            }
            Ended::Refused(why) => {
                counts.refused += 1;
                trigger.problem = Some((now, why.clone()));
                json!({"refused": why, "sha256": firing.sha256})
            }
        };
        self.record(turn, "trigger.fire", firing.trigger.to_string(), &detail);
    }
}

/// What becomes of a firing.
enum Ended {
    Run(RunId),
    Deduplicated,
    HeldBack,
    Dropped(String),
    Refused(String),
}

impl Serialize for Seen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.until.iter().collect::<Vec<_>>().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Seen, D::Error> {
        let until: BTreeMap<Digest, Timestamp> = Vec::deserialize(deserializer)?.into_iter().collect();
        let by_time = until.iter().map(|(key, until)| (*until, *key)).collect();
        Ok(Seen { until, by_time })
    }
}

impl Serialize for Windows {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let events = self.by_key.iter().map(|(key, window)| (key, &window.events));
        events.collect::<Vec<_>>().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Windows {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Windows, D::Error> {
        let mut windows = Windows::default();
        for (key, events) in Vec::<(Arc<str>, Vec<Counted>)>::deserialize(deserializer)? {
            let mut window = Window::default();
            for event in events {
                window.bare += usize::from(event.1.is_none());
                window.push(event);
            }
            windows.put(key, window);
        }
        Ok(windows)
    }
}
