//! Events as a node takes them, and what triggers set off as a coordinator's leader starts it.

use std::fmt::Write as _;

use engine::command::{Command, Schedule};
use engine::events::{Source, read, read_any, weigh};
use engine::id::{RunId, TriggerId};
use engine::plan::fired::fired;
use engine::{Actor, Reply, Timestamp};

use super::{World, short, uuid};

impl World {
    /// `events [stale] [webhook=NAME] JSON...`, a line of events: weighed, then committed. `stale`: by a node to which
    /// nothing has been said of what listens now.
    pub(super) fn events(&mut self, rest: &str) {
        let (stale, rest) = match rest.strip_prefix("stale ") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (webhook, rest) = match rest
            .strip_prefix("webhook=")
            .and_then(|rest| rest.split_once(' '))
        {
            Some((name, rest)) => (Some(name), rest),
            None => (None, rest),
        };
        let mut events = Vec::new();
        for value in serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>() {
            let text = value.expect("JSON").to_string();
            let event = match webhook {
                Some(name) => read_any(&text, Source::Webhook(name.to_owned())),
                None => read(&text, None),
            };
            match event {
                Ok(event) => events.push(event),
                Err(why) => {
                    let _ = writeln!(self.out, "  no event: {why}");
                }
            }
        }
        let weighed = weigh(&self.state, Timestamp(self.now), &events);
        for (number, matched) in weighed.matched.iter().enumerate() {
            for problem in &matched.problems {
                let _ = writeln!(self.out, "  event {number}: {problem}");
            }
        }
        let Some(mut command) = weighed.command else {
            let _ = writeln!(self.out, "  nothing listens");
            return;
        };
        if stale {
            command.listeners -= 1;
        }
        self.ask(self.actor.clone(), Command::Events(Box::new(command)));
    }

    /// Starts everything that triggers set off; false: nothing was.
    pub(super) fn start_fired(&mut self) -> bool {
        let firings: Vec<u64> = self.state.triggers().firings().map(|firing| firing.id).collect();
        for &firing in &firings {
            let run = RunId(uuid(&format!("f{firing}")));
            let command = match fired(&self.state, firing, run).expect("it is there") {
                Ok(start) => Command::StartRun(Box::new(start)),
                Err(why) => Command::NotFired { firing, why },
            };
            let said = match &command {
                Command::NotFired { why, .. } => format!("no run: {why}"),
                _ => String::new(),
            };
            let said = match self.apply(Actor::Leader, command) {
                Reply::RunStarted { run } => format!("started {}", short(run)),
                Reply::Refused(why) => {
                    let why = why.to_string();
                    self.apply(
                        Actor::Leader,
                        Command::NotFired {
                            firing,
                            why: why.clone(),
                        },
                    );
                    format!("no run: {why}")
                }
                Reply::Done if said.is_empty() => "left out".to_owned(),
                _ => said,
            };
            let _ = writeln!(self.out, "  firing {firing}: {said}");
        }
        !firings.is_empty()
    }

    /// `schedule PLAYBOOK/N [due=MS] [next=MS]`, after the world's beginning.
    pub(super) fn schedule(&mut self, id: &str, due: Option<u64>, next: Option<u64>) {
        let trigger: TriggerId = id.parse().expect("PLAYBOOK/N");
        let version = self
            .state
            .triggers()
            .get(&trigger)
            .map_or(0, |trigger| trigger.version);
        let at = |ms: Option<u64>| ms.map(|ms| Timestamp(1_000_000 + ms));
        let times = Schedule {
            trigger,
            version,
            due: at(due),
            next: at(next),
        };
        self.ask(Actor::Leader, Command::Schedule(times));
    }

    pub(super) fn show_triggers(&mut self) {
        for trigger in self.state.triggers().iter() {
            let counts = &trigger.counts;
            let (seen, counted) = trigger.keys();
            let state = match &trigger.disabled {
                Some(held) => format!("held back by {} ({})", held.by, held.reason),
                None => "armed".to_owned(),
            };
            let others = [
                (counts.dropped, "dropped"),
                (counts.refused, "refused"),
                (counts.broken, "broken"),
                (counts.evicted, "evicted"),
                (counts.missed, "missed"),
            ];
            let others: String = others
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!(" {what} {count}"))
                .collect();
            let problem = trigger
                .problem
                .as_ref()
                .map_or(String::new(), |(_, why)| format!(" problem {why:?}"));
            let run = trigger
                .last_run
                .map_or(String::new(), |run| format!(" last {}", short(run)));
            let next = trigger
                .next_at
                .map_or(String::new(), |at| format!(" next {}", at.0 - 1_000_000));
            let _ = writeln!(
                self.out,
                "  {} v{} {state}: matched {} fired {} deduplicated {}{others} keys {seen}/{counted}{next}{run}{problem}",
                trigger.id, trigger.version, counts.matched, counts.fired, counts.deduplicated
            );
        }
    }
}
