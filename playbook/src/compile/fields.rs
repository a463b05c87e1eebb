//! Which fields there are, and what else could have been meant.

use std::collections::BTreeMap;

use catalogue::{parse_duration, parse_size};

use super::Compiler;
use crate::nearest;
use crate::problem::Place;
use crate::yaml::{Data, Node};

/// The fields of one construct.
pub(super) type Known = &'static [&'static str];

pub(super) const TOP: Known = &[
    "playbook", "version", "info", "triggers", "inputs", "limits", "targets", "steps", "finally", "outputs",
];
pub(super) const INFO: Known = &["attack", "category", "impact", "tlp", "owner", "description"];
pub(super) const INPUT: Known = &[
    "type",
    "from",
    "default",
    "min",
    "max",
    "distinct",
    "pattern",
    "media",
    "max_bytes",
];
pub(super) const FIELD: Known = &["type", "default", "min", "max", "distinct", "pattern"];
pub(super) const LIMITS: Known = &["timeout", "max_targets", "concurrency", "lock"];
pub(super) const CONCURRENCY: Known = &["key", "max", "on_conflict"];
pub(super) const LOCK: Known = &["each", "on_conflict"];
pub(super) const TRIGGER: Known = &[
    "event",
    "when",
    "threshold",
    "schedule",
    "time_zone",
    "catch_up",
    "submission",
    "webhook",
    "dedupe",
];
pub(super) const THRESHOLD: Known = &["event", "when", "by", "at_least", "within"];
pub(super) const DEDUPE: Known = &["key", "window"];
pub(super) const TARGETS: Known = &["hosts", "select", "max", "allow_empty"];
pub(super) const STEP: Known = &[
    "do",
    "decide",
    "score",
    "ask",
    "notify",
    "wait_event",
    "playbook",
    "loop",
    "with",
    "needs",
    "when",
    "targets",
    "foreach",
    "strategy",
    "gate",
    "retry",
    "timeout",
    "delay",
    "expect",
    "on_failure",
    "compensate",
];
/// What a step can be: one of these.
pub(super) const KINDS: Known = &[
    "do",
    "decide",
    "score",
    "ask",
    "notify",
    "wait_event",
    "playbook",
    "loop",
];
pub(super) const FOREACH: Known = &["in", "as", "max_parallel", "distinct", "host"];
pub(super) const STRATEGY: Known = &["max_parallel", "canary", "waves", "soak", "fail_when", "barrier"];
pub(super) const GATE: Known = &["when", "approve"];
pub(super) const APPROVE: Known = &["roles", "quorum", "expires", "on_expiry", "escalate_to", "not"];
pub(super) const RETRY: Known = &["max", "initial", "factor", "max_delay", "jitter", "when"];
pub(super) const TIMEOUT: Known = &["queue", "attempt", "total", "heartbeat"];
pub(super) const ON_FAILURE: Known = &["compensate", "notify"];
pub(super) const COMPENSATE: Known = &["do", "with"];
pub(super) const RULE: Known = &["when", "set", "else"];
pub(super) const SCORE_RULE: Known = &["add", "when", "note"];
pub(super) const ASK: Known = &["roles", "expires", "form", "text"];
pub(super) const NOTIFY: Known = &["to", "severity", "text"];
pub(super) const WAIT_EVENT: Known = &["event", "when", "expires"];
pub(super) const SUB_PLAYBOOK: Known = &["name", "version", "wait", "max_depth"];
pub(super) const LOOP: Known = &["while", "max", "body"];
pub(super) const LOOP_STEP: Known = &["loop", "needs", "when"];

pub(super) type Fields<'a> = BTreeMap<&'a str, &'a Node>;

impl Compiler {
    /// The fields of a map; what is unknown is a problem by name.
    pub(super) fn fields<'a>(&mut self, node: &'a Node, what: &str, known: Known) -> Option<Fields<'a>> {
        let Data::Map(entries) = &node.data else {
            self.problem(
                "E0101",
                node.place,
                format!("{what} is a map, this is {}", node.kind()),
                "write `name: value` lines",
            );
            return None;
        };
        let mut fields = Fields::new();
        for (key, value) in entries {
            let name = key.name.as_str();
            if known.contains(&name) {
                fields.insert(name, value);
            } else {
                let hint = nearest::hint(name, known.iter().copied());
                self.problem("E0102", key.place, format!("{what} has no field `{name}`"), hint);
            }
        }
        Some(fields)
    }

    pub(super) fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.data {
            Data::Text(text) => Some(text.clone()),
            _ => {
                self.problem(
                    "E0104",
                    node.place,
                    format!("{what} is text, this is {}", node.kind()),
                    "put it in quotes",
                );
                None
            }
        }
    }

    pub(super) fn count(&mut self, node: &Node, what: &str, least: u32, most: u32) -> Option<u32> {
        let number = match node.data {
            Data::Int(int) => u32::try_from(int).ok().filter(|n| (least..=most).contains(n)),
            _ => None,
        };
        if number.is_none() {
            self.problem(
                "E0104",
                node.place,
                format!("{what} is an integer from {least} to {most}"),
                "",
            );
        }
        number
    }

    pub(super) fn number(&mut self, node: &Node, what: &str) -> Option<f64> {
        match node.data {
            Data::Int(int) => Some(int as f64),
            Data::Float(float) if float.is_finite() => Some(float),
            // Bounds of sizes and durations may be written in their units.
            Data::Text(ref text) => match parse_size(&serde_json::Value::String(text.clone())) {
                Ok(bytes) => Some(bytes as f64),
                Err(_) => self.bad_number(node.place, what),
            },
            _ => self.bad_number(node.place, what),
        }
    }

    /// Bytes.
    pub(super) fn size(&mut self, node: &Node, what: &str) -> Option<u64> {
        match parse_size(&node.to_json()) {
            Ok(bytes) => Some(bytes),
            Err(why) => {
                self.problem(
                    "E0104",
                    node.place,
                    format!("{what}: {why}"),
                    "write it as in 4096, 64KiB or 50MiB",
                );
                None
            }
        }
    }

    fn bad_number(&mut self, place: Place, what: &str) -> Option<f64> {
        self.problem("E0104", place, format!("{what} is a number"), "");
        None
    }

    pub(super) fn flag(&mut self, node: &Node, what: &str) -> bool {
        match node.data {
            Data::Bool(flag) => flag,
            _ => {
                self.problem("E0104", node.place, format!("{what} is true or false"), "");
                false
            }
        }
    }

    /// A duration within which something must end, so not nothing.
    pub(super) fn deadline(&mut self, node: &Node, what: &str) -> Option<u64> {
        let ms = self.duration(node, what)?;
        if ms == 0 {
            let message = format!("{what}: nothing ends within no time at all");
            self.problem("E0106", node.place, message, "leave it out for the default");
            return None;
        }
        Some(ms)
    }

    /// Milliseconds.
    pub(super) fn duration(&mut self, node: &Node, what: &str) -> Option<u64> {
        let parsed = match &node.data {
            Data::Text(text) => parse_duration(text).map_err(|error| error.to_string()),
            _ => Err(format!("{what} is a duration, this is {}", node.kind())),
        };
        match parsed {
            Ok(ms) => Some(ms),
            Err(message) => {
                self.problem(
                    "E0106",
                    node.place,
                    format!("{what}: {message}"),
                    "write it as in 30s, 5m, 24h or 1h30m",
                );
                None
            }
        }
    }

    /// `[a-z][a-z0-9_]{0,62}`.
    pub(super) fn identifier(&mut self, name: &str, place: Place, what: &str) -> bool {
        let valid = name.len() <= 63
            && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && !name.starts_with(crate::eval::HERE_PREFIX);
        if !valid {
            self.problem(
                "E0107",
                place,
                format!("`{name}` cannot be the name of {what}"),
                "1 to 63 of a-z, 0-9 and _, a letter first; names that begin with `here_` are reserved",
            );
        }
        valid
    }
}
