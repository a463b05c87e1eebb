//! Which fields there are, and what else could have been meant.

use std::collections::BTreeMap;

use catalogue::{parse_duration, parse_size};

use super::Compiler;
use crate::nearest;
use crate::problem::Place;
use crate::yaml::{Data, Node};

/// The fields of one construct: those that run, and those of the language that cannot run yet.
pub(super) struct Known {
    now: &'static [&'static str],
    later: &'static [&'static str],
}

pub(super) const TOP: &Known = &Known {
    now: &[
        "playbook", "version", "info", "inputs", "limits", "targets", "steps", "finally", "outputs",
    ],
    later: &["triggers"],
};
pub(super) const INFO: &Known = &Known {
    now: &["attack", "category", "impact", "tlp", "owner", "description"],
    later: &[],
};
pub(super) const INPUT: &Known = &Known {
    now: &["type", "default", "min", "max", "distinct", "pattern"],
    later: &["from", "media", "max_bytes"],
};
pub(super) const LIMITS: &Known = &Known {
    now: &["timeout", "max_targets"],
    later: &["concurrency", "lock"],
};
pub(super) const TARGETS: &Known = &Known {
    now: &["hosts", "select", "max", "allow_empty"],
    later: &[],
};
pub(super) const STEP: &Known = &Known {
    now: &[
        "do",
        "decide",
        "with",
        "needs",
        "when",
        "targets",
        "foreach",
        "strategy",
        "retry",
        "timeout",
        "delay",
        "expect",
        "on_failure",
    ],
    later: &[
        "score",
        "ask",
        "notify",
        "wait_event",
        "playbook",
        "loop",
        "gate",
        "compensate",
    ],
};
/// What a step can be, but not yet.
pub(super) const KINDS_LATER: &[&str] = &["score", "ask", "notify", "wait_event", "playbook", "loop"];
pub(super) const FOREACH: &Known = &Known {
    now: &["in", "as", "max_parallel", "distinct", "host"],
    later: &[],
};
pub(super) const STRATEGY: &Known = &Known {
    now: &["max_parallel", "fail_when"],
    later: &["canary", "waves", "soak", "barrier", "distinct"],
};
pub(super) const RETRY: &Known = &Known {
    now: &["max", "initial", "factor", "max_delay", "jitter", "when"],
    later: &[],
};
pub(super) const TIMEOUT: &Known = &Known {
    now: &["queue", "attempt", "total", "heartbeat"],
    later: &[],
};
pub(super) const RULE: &Known = &Known {
    now: &["when", "set", "else"],
    later: &[],
};

pub(super) type Fields<'a> = BTreeMap<&'a str, &'a Node>;

impl Compiler {
    /// The fields of a map; what is unknown, or not there yet, is a problem by name.
    pub(super) fn fields<'a>(&mut self, node: &'a Node, what: &str, known: &Known) -> Option<Fields<'a>> {
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
            if known.now.contains(&name) {
                fields.insert(name, value);
            } else if known.later.contains(&name) {
                self.problem(
                    "E0103",
                    key.place,
                    format!("`{name}` is part of the language, but this version cannot run it yet"),
                    "leave it out, or wait for a version that has it: it is never ignored",
                );
            } else {
                let hint = nearest::hint(name, known.now.iter().copied());
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
