//! How a step's tasks are let go, who is asked first, what happens when they fail, and what undoes them.

use super::Compiler;
use super::fields;
use super::template::Place as Where;
use crate::manifest::{Compensate, GATE_MS_MAX, Gate, OnExpiry, OnFailure, Retry, Strategy, Timeout, Wave};
use crate::nearest;
use crate::yaml::{Data, Node};

/// Retries of one task.
pub(super) const RETRIES_MAX: u32 = 100;
/// People who must agree.
pub(super) const QUORUM_MAX: u32 = 20;
/// Groups of tasks.
pub(super) const WAVES_MAX: usize = 100;

impl Compiler {
    pub(super) fn strategy(&mut self, node: &Node, name: &str) -> Strategy {
        let Some(fields) = self.fields(node, "`strategy`", fields::STRATEGY) else {
            return Strategy::default();
        };
        Strategy {
            max_parallel: fields
                .get("max_parallel")
                .and_then(|n| self.count(n, "`max_parallel`", 1, u32::MAX)),
            fail_when: fields
                .get("fail_when")
                .and_then(|n| self.expression(n, &Where::FailWhen(name.to_owned()))),
            canary: fields
                .get("canary")
                .and_then(|n| self.count(n, "`canary`", 1, u32::MAX)),
            waves: fields.get("waves").map(|n| self.waves(n)).unwrap_or_default(),
            soak_ms: fields
                .get("soak")
                .and_then(|n| self.duration(n, "`soak`"))
                .unwrap_or(0),
            barrier: fields.get("barrier").is_some_and(|n| self.flag(n, "`barrier`")),
        }
    }

    fn waves(&mut self, node: &Node) -> Vec<Wave> {
        let items = match &node.data {
            Data::List(items) if (1..=WAVES_MAX).contains(&items.len()) => items,
            _ => {
                self.problem(
                    "E0142",
                    node.place,
                    format!("`waves` is a list of 1 to {WAVES_MAX} sizes"),
                    "waves: [1, 1%, 10%]",
                );
                return Vec::new();
            }
        };
        let mut waves = Vec::new();
        for item in items {
            let wave = match &item.data {
                Data::Int(count) => u32::try_from(*count).ok().filter(|n| *n > 0).map(Wave::Count),
                Data::Text(text) => text
                    .strip_suffix('%')
                    .and_then(|share| share.trim().parse::<f64>().ok())
                    .filter(|share| *share > 0.0 && *share <= 100.0)
                    .map(Wave::Percent),
                _ => None,
            };
            match wave {
                Some(wave) => waves.push(wave),
                None => self.problem(
                    "E0142",
                    item.place,
                    "the size of a wave is a number of tasks, or a share of them",
                    "1, 50 or 10%",
                ),
            }
        }
        waves
    }

    pub(super) fn retry(&mut self, node: &Node, name: &str) -> Option<Retry> {
        let fields = self.fields(node, "`retry`", fields::RETRY)?;
        let Some(max) = fields.get("max") else {
            self.problem(
                "E0119",
                node.place,
                "a `retry` without `max` would never end",
                "add `max: 3`",
            );
            return None;
        };
        let factor = fields
            .get("factor")
            .map_or(Some(2.0), |n| self.number(n, "`factor`"));
        if factor.is_some_and(|f| !(1.0..=10.0).contains(&f)) {
            self.problem("E0119", node.place, "`factor` is from 1 to 10", "");
        }
        Some(Retry {
            max: self.count(max, "`max`", 1, RETRIES_MAX)?,
            initial_ms: fields
                .get("initial")
                .map_or(Some(1_000), |n| self.duration(n, "`initial`"))?,
            factor: factor?,
            delay_ms_max: fields
                .get("max_delay")
                .map_or(Some(300_000), |n| self.duration(n, "`max_delay`"))?,
            jitter: fields.get("jitter").is_none_or(|n| self.flag(n, "`jitter`")),
            when: fields
                .get("when")
                .and_then(|n| self.expression(n, &Where::Retry(name.to_owned()))),
        })
    }

    pub(super) fn timeout(&mut self, node: &Node) -> Timeout {
        let Some(fields) = self.fields(node, "`timeout`", fields::TIMEOUT) else {
            return Timeout::default();
        };
        let mut ms = |name: &str| fields.get(name).and_then(|n| self.deadline(n, name));
        Timeout {
            queue_ms: ms("queue"),
            attempt_ms: ms("attempt"),
            total_ms: ms("total"),
            heartbeat_ms: ms("heartbeat"),
        }
    }

    /// `names` are those of the steps, by number.
    pub(super) fn on_failure(&mut self, node: &Node, name: &str, names: &[String]) -> OnFailure {
        match &node.data {
            Data::Text(text) if text == "fail" => return OnFailure::Fail,
            Data::Text(text) if text == "continue" => return OnFailure::Continue,
            Data::Map(_) => {}
            _ => {
                self.problem(
                    "E0134",
                    node.place,
                    "`on_failure` is `fail`, `continue`, or what to undo and whom to tell",
                    "on_failure: {compensate: [steps], notify: [\"log:soc\"]}",
                );
                return OnFailure::Fail;
            }
        }
        let Some(fields) = self.fields(node, "`on_failure`", fields::ON_FAILURE) else {
            return OnFailure::Fail;
        };
        let mut compensate = Vec::new();
        if let Some(list) = fields.get("compensate") {
            let Data::List(items) = &list.data else {
                self.problem(
                    "E0134",
                    list.place,
                    "`compensate` is a list of steps",
                    "compensate: [isolate]",
                );
                return OnFailure::Fail;
            };
            for item in items {
                let Some(step) = self.text(item, "a step") else {
                    continue;
                };
                match names.iter().position(|n| *n == step) {
                    Some(number) if !compensate.contains(&(number as u16)) => compensate.push(number as u16),
                    Some(_) => {}
                    None => {
                        let hint = nearest::hint(&step, names.iter().map(String::as_str));
                        self.problem("E0118", item.place, format!("there is no step `{step}`"), hint);
                    }
                }
            }
        }
        let notify = match fields.get("notify") {
            Some(list) => self
                .recipients(Some(list), list.place, &Where::Step(name.to_owned()))
                .unwrap_or_default(),
            None => Vec::new(),
        };
        OnFailure::Then { compensate, notify }
    }

    pub(super) fn gate(&mut self, node: &Node, task: &Where) -> Option<Gate> {
        let fields = self.fields(node, "`gate`", fields::GATE)?;
        let when = fields.get("when").and_then(|n| self.expression(n, task));
        let Some(approve) = fields.get("approve") else {
            self.problem(
                "E0138",
                node.place,
                "a gate says who may approve",
                "approve: {roles: [soc-lead], expires: 30m}",
            );
            return None;
        };
        let place = approve.place;
        let inner = self.fields(approve, "`approve`", fields::APPROVE)?;
        let roles = self.roles(inner.get("roles").copied(), place, "a gate", "E0138");
        let expires_ms = self.expires(&inner, place, "a gate", "E0138");
        if expires_ms.is_some_and(|ms| ms > GATE_MS_MAX) {
            self.problem(
                "E0138",
                place,
                "a gate waits an hour at most: who approves must know what has just been asked",
                "expires: 1h, with `on_expiry: escalate` where others can be asked next",
            );
        }
        let escalate_to = match inner.get("escalate_to") {
            Some(node) => self.roles(Some(node), place, "`escalate_to`", "E0138")?,
            None => Vec::new(),
        };
        let on_expiry = match inner.get("on_expiry").map(|n| (n.place, &n.data)) {
            None => OnExpiry::Reject,
            Some((_, Data::Text(text))) if text == "reject" => OnExpiry::Reject,
            Some((_, Data::Text(text))) if text == "escalate" => OnExpiry::Escalate,
            Some((place, _)) => {
                self.problem("E0138", place, "`on_expiry` is `reject` or `escalate`", "");
                OnExpiry::Reject
            }
        };
        if (on_expiry == OnExpiry::Escalate) == escalate_to.is_empty() {
            self.problem(
                "E0138",
                place,
                "`on_expiry: escalate` and `escalate_to` go together",
                "on_expiry: escalate, escalate_to: [ciso]",
            );
        }
        let not_requester = match inner.get("not").map(|n| (n.place, &n.data)) {
            None => false,
            Some((_, Data::Text(text))) if text == "requester" => true,
            Some((place, _)) => {
                self.problem(
                    "E0138",
                    place,
                    "`not` is `requester`",
                    "leave it out, or write `not: requester`",
                );
                false
            }
        };
        let quorum = inner
            .get("quorum")
            .map_or(Some(1), |n| self.count(n, "`quorum`", 1, QUORUM_MAX));
        Some(Gate {
            when,
            roles: roles?,
            quorum: quorum?,
            expires_ms: expires_ms?,
            on_expiry,
            escalate_to,
            not_requester,
        })
    }

    pub(super) fn compensate(&mut self, node: &Node, name: &str) -> Option<Compensate> {
        let fields = self.fields(node, "`compensate`", fields::COMPENSATE)?;
        let Some(action) = fields.get("do") else {
            self.problem(
                "E0139",
                node.place,
                "what undoes it?",
                "compensate: {do: an action, with: {...}}",
            );
            return None;
        };
        let place = action.place;
        let action = self.text(action, "`do`")?;
        let (with, places) = self.with(fields.get("with").copied(), &Where::Compensate(name.to_owned()));
        self.action(&action, place, &with, &places);
        Some(Compensate { action, with })
    }
}
