//! Events are taken, triggers are armed and held back, and firings end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use playbook::manifest::{OnConflict, TriggerOn};
use serde_json::json;

use super::keys::{Seen, Windows};
use super::{Disabled, Firing, Trigger};
use crate::command::{Fired, Hit, NewEvent, Publish, Schedule, StartRun, TakeEvents};
use crate::effect::Reply;
use crate::error::Refusal;
use crate::id::{Digest, RunId, TriggerId};
use crate::limits::{
    EVENTS_MAX, FIRINGS_BYTES_MAX, FIRINGS_MAX, MESSAGE_BYTES_MAX, SCHEDULE_LATE_MS, TRIGGERS_MAX,
};
use crate::state::enrolment::{not_found, within};
use crate::state::{State, Turn};

impl State {
    /// Events that nodes have weighed.
    pub(in crate::state) fn take_events(
        &mut self,
        taken: &TakeEvents,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
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
    pub(in crate::state) fn arm(&mut self, publish: &Publish, turn: &mut Turn<'_>) -> Result<(), Refusal> {
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
    pub(in crate::state) fn listen_again(&mut self, turn: &mut Turn<'_>) {
        self.triggers.listeners = self.applied_index;
        turn.out.triggers = true;
    }

    pub(in crate::state) fn set_trigger(
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
    pub(in crate::state) fn schedule(
        &mut self,
        said: &Schedule,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
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
    pub(in crate::state) fn start_fired(
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
    pub(in crate::state) fn not_fired(
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
