//! What triggers remember: keys that start nothing for a while, and the events that a threshold counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::limits::{GROUP_BYTES_MAX, TRIGGER_SEEN_MAX, WINDOW_BYTES_MAX, WINDOW_KEYS_MAX};
use crate::time::Timestamp;

/// Keys that start nothing for a while.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) until: BTreeMap<Digest, Timestamp>,
    /// Derived.
    by_time: BTreeSet<(Timestamp, Digest)>,
}

/// The events that a threshold counts, by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Windows {
    pub(super) by_key: BTreeMap<Arc<str>, Window>,
    /// Derived: the quietest first.
    by_time: BTreeSet<(Timestamp, Arc<str>)>,
    /// Derived.
    pub(super) bytes: usize,
}

/// The events of one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Window {
    /// In the order in which they came; of the oldest only the time, where the texts are too much.
    events: VecDeque<Counted>,
    /// Derived: how many of the oldest have no text.
    bare: usize,
    /// Derived: of the texts.
    bytes: usize,
}

/// When an event came, and its text.
type Counted = (Timestamp, Option<Arc<str>>);

impl Seen {
    /// Remembers a key; how many others made room that were not over.
    pub(super) fn insert(&mut self, key: Digest, until: Timestamp, now: Timestamp) -> u64 {
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

    pub(super) fn remove(&mut self, key: &Digest) {
        if let Some(until) = self.until.remove(key) {
            self.by_time.remove(&(until, *key));
        }
    }
}

impl Windows {
    /// Counts an event; the group, where that makes it whole, and how many keys made room.
    pub(super) fn count(
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
    pub(super) fn standing(&self, key: &str, now: Timestamp, within_ms: u64) -> (usize, usize) {
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
