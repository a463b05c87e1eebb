//! What starts a playbook by itself, and what holds it back.

use super::Compiler;
use super::fields::{self, Fields};
use super::template::Place as Where;
use crate::manifest::{Concurrency, Dedupe, Lock, OnConflict, OnLocked, Trigger, TriggerOn};
use crate::schedule::Schedule;
use crate::yaml::{Data, Node};

/// Triggers of one playbook.
pub(super) const TRIGGERS_MAX: usize = 32;
/// Events that a threshold can ask for.
pub(super) const AT_LEAST_MAX: u32 = 100_000;
/// The longest window of a threshold, and of what makes two triggers one.
const WINDOW_MS_MAX: u64 = 31 * 24 * 3_600_000;
/// Runs of one key at once.
pub(super) const CONCURRENCY_MAX: u32 = 100_000;
/// What a trigger can be: one of these.
pub(super) const KINDS: &[&str] = &["event", "threshold", "schedule", "submission", "webhook"];

impl Compiler {
    pub(super) fn triggers(&mut self, node: &Node) -> Vec<Trigger> {
        let items = match &node.data {
            Data::List(items) if items.len() <= TRIGGERS_MAX => items,
            _ => {
                self.problem(
                    "E0140",
                    node.place,
                    format!("`triggers` is a list of at most {TRIGGERS_MAX}"),
                    "- {event: detection_finding, when: condition}",
                );
                return Vec::new();
            }
        };
        items.iter().filter_map(|item| self.trigger(item)).collect()
    }

    fn trigger(&mut self, node: &Node) -> Option<Trigger> {
        let fields = self.fields(node, "a trigger", fields::TRIGGER)?;
        let given: Vec<&str> = KINDS
            .iter()
            .copied()
            .filter(|kind| fields.contains_key(kind))
            .collect();
        let [kind] = given.as_slice() else {
            self.problem(
                "E0140",
                node.place,
                format!("a trigger has one of: {}", KINDS.join(", ")),
                "- {event: detection_finding, when: condition}",
            );
            return None;
        };
        for (field, of) in [
            ("when", "event"),
            ("time_zone", "schedule"),
            ("catch_up", "schedule"),
        ] {
            if let Some(node) = fields.get(field).filter(|_| *kind != of) {
                self.problem(
                    "E0140",
                    node.place,
                    format!("`{field}` belongs to a trigger with `{of}`, this one has `{kind}`"),
                    "leave it out",
                );
            }
        }
        let on = match *kind {
            "event" => TriggerOn::Event {
                class: self.class(fields.get("event").copied(), node.place)?,
                when: fields
                    .get("when")
                    .and_then(|n| self.expression(n, &Where::Trigger)),
            },
            "threshold" => self.threshold(fields["threshold"])?,
            "schedule" => self.schedule(&fields)?,
            "submission" => TriggerOn::Submission {
                name: self.named(fields["submission"])?,
            },
            _ => TriggerOn::Webhook {
                name: self.named(fields["webhook"])?,
            },
        };
        let dedupe = fields.get("dedupe").and_then(|n| self.dedupe(n));
        Some(Trigger { on, dedupe })
    }

    fn threshold(&mut self, node: &Node) -> Option<TriggerOn> {
        let fields = self.fields(node, "`threshold`", fields::THRESHOLD)?;
        let class = self.class(fields.get("event").copied(), node.place);
        let when = fields
            .get("when")
            .and_then(|n| self.expression(n, &Where::Trigger));
        let by = fields.get("by").and_then(|n| self.expression(n, &Where::Trigger));
        let at_least = fields
            .get("at_least")
            .and_then(|n| self.count(n, "`at_least`", 1, AT_LEAST_MAX));
        let within_ms = fields.get("within").and_then(|n| self.window(n, "`within`"));
        for needed in ["by", "at_least", "within"] {
            if !fields.contains_key(needed) {
                self.problem(
                    "E0140",
                    node.place,
                    format!("a `threshold` needs `{needed}`"),
                    "threshold: {event: authentication, by: event.src_endpoint.ip, at_least: 10, within: 5m}",
                );
            }
        }
        Some(TriggerOn::Threshold {
            class: class?,
            when,
            by: by?,
            at_least: at_least?,
            within_ms: within_ms?,
        })
    }

    fn schedule(&mut self, fields: &Fields<'_>) -> Option<TriggerOn> {
        let node = fields["schedule"];
        let cron = self.text(node, "`schedule`")?;
        let time_zone = match fields.get("time_zone") {
            Some(node) => self.text(node, "`time_zone`")?,
            None => "UTC".to_owned(),
        };
        if let Err(why) = Schedule::parse(&cron, &time_zone) {
            self.problem(
                "E0141",
                node.place,
                format!("`{cron}` in `{time_zone}` is no schedule: {why}"),
                "minute, hour, day of month, month, day of week, and an IANA name: schedule: \"0 6 * * 1-5\", time_zone: Europe/Zurich",
            );
        }
        Some(TriggerOn::Schedule {
            cron,
            time_zone,
            catch_up: fields.get("catch_up").is_some_and(|n| self.flag(n, "`catch_up`")),
        })
    }

    /// The name of a submission or a webhook.
    fn named(&mut self, node: &Node) -> Option<String> {
        let name = self.text(node, "a name")?;
        if !super::top::is_playbook_name(&name) {
            self.problem(
                "E0140",
                node.place,
                format!("`{name}` is no name"),
                "1 to 63 of a-z, 0-9 and -",
            );
            return None;
        }
        Some(name)
    }

    fn dedupe(&mut self, node: &Node) -> Option<Dedupe> {
        let fields = self.fields(node, "`dedupe`", fields::DEDUPE)?;
        let (Some(key), Some(window)) = (fields.get("key"), fields.get("window")) else {
            self.problem(
                "E0140",
                node.place,
                "`dedupe` has `key` and `window`",
                "dedupe: {key: \"${event.device.uid}\", window: 4h}",
            );
            return None;
        };
        Some(Dedupe {
            key: self.template(key, &Where::Trigger)?,
            window_ms: self.window(window, "`window`")?,
        })
    }

    fn window(&mut self, node: &Node, what: &str) -> Option<u64> {
        let ms = self.deadline(node, what)?;
        if ms > WINDOW_MS_MAX {
            self.problem("E0106", node.place, format!("{what} is at most 31 days"), "");
            return None;
        }
        Some(ms)
    }

    pub(super) fn concurrency(&mut self, node: &Node) -> Option<Concurrency> {
        let fields = self.fields(node, "`concurrency`", fields::CONCURRENCY)?;
        let Some(max) = fields.get("max") else {
            self.problem("E0146", node.place, "how many at once?", "concurrency: {max: 1}");
            return None;
        };
        let on_conflict = match fields.get("on_conflict").map(|n| (n.place, &n.data)) {
            None => OnConflict::Refuse,
            Some((_, Data::Text(text))) if text == "refuse" => OnConflict::Refuse,
            Some((_, Data::Text(text))) if text == "drop" => OnConflict::Drop,
            Some((place, _)) => {
                self.problem("E0146", place, "`on_conflict` is `refuse` or `drop`", "");
                OnConflict::Refuse
            }
        };
        Some(Concurrency {
            key: fields.get("key").and_then(|n| self.template(n, &Where::Limits)),
            max: self.count(max, "`max`", 1, CONCURRENCY_MAX)?,
            on_conflict,
        })
    }

    pub(super) fn lock(&mut self, node: &Node) -> Option<Lock> {
        let fields = self.fields(node, "`lock`", fields::LOCK)?;
        let Some(each) = fields.get("each") else {
            self.problem(
                "E0146",
                node.place,
                "what is locked?",
                "lock: {each: \"${inputs.hosts}\"}",
            );
            return None;
        };
        let on_conflict = match fields.get("on_conflict").map(|n| (n.place, &n.data)) {
            None => OnLocked::Refuse,
            Some((_, Data::Text(text))) if text == "refuse" => OnLocked::Refuse,
            Some((_, Data::Text(text))) if text == "drop_item" => OnLocked::DropItem,
            Some((place, _)) => {
                self.problem("E0146", place, "`on_conflict` is `refuse` or `drop_item`", "");
                OnLocked::Refuse
            }
        };
        Some(Lock {
            each: self.template(each, &Where::Limits)?,
            on_conflict,
        })
    }
}
