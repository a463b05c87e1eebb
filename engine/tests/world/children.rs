//! The runs that steps begin, as a coordinator's leader begins them.

use std::fmt::Write as _;

use engine::command::StartChild;
use engine::id::{AttemptKey, RunId};
use engine::plan::child::{child, not_begun};
use engine::{Actor, Command, Reply};

use super::{World, short, uuid};

impl World {
    /// Begins everything that is wanted; false: nothing was.
    pub(super) fn begin_children(&mut self) -> bool {
        let runs: Vec<_> = self.state.active_runs().map(|run| run.id).collect();
        let wanted: Vec<_> = runs
            .iter()
            .flat_map(|run| self.state.children_wanted(run))
            .collect();
        for call in &wanted {
            self.children += 1;
            let name = format!("c{}", self.children);
            if let Some(command) = self.drawn_child(call.key, &name) {
                self.propose_child(call.key, command);
            }
        }
        !wanted.is_empty()
    }

    /// What a leader proposes for an attempt.
    pub(super) fn drawn_child(&self, key: AttemptKey, name: &str) -> Option<Command> {
        Some(match child(&self.state, key, RunId(uuid(name)))? {
            Ok(start) => Command::StartChild(Box::new(start)),
            Err(why) => Command::Calls(vec![not_begun(key, why)]),
        })
    }

    /// Proposes it; what is refused, though it is still wanted, ends the attempt.
    pub(super) fn propose_child(&mut self, key: AttemptKey, command: Command) {
        let begun = match &command {
            Command::StartChild(child) => Some(short(child.start.run)),
            _ => None,
        };
        let at = format!(
            "{}/{}/{}",
            short(key.task.run),
            self.step_name(key),
            key.task.item
        );
        match self.apply(Actor::Leader, command) {
            Reply::Refused(why) => {
                let _ = writeln!(self.out, "  not begun: {at}: {why}");
                let run = key.task.run;
                if self
                    .state
                    .children_wanted(&run)
                    .iter()
                    .any(|call| call.key == key)
                {
                    let why = engine::command::TaskError {
                        code: engine::plan::child::REFUSED.into(),
                        message: why.to_string(),
                    };
                    self.apply(Actor::Leader, Command::Calls(vec![not_begun(key, why)]));
                }
            }
            Reply::RunStarted { .. } => {
                let _ = writeln!(self.out, "  begun: {at} as {}", begun.unwrap_or_default());
            }
            _ => {
                let _ = writeln!(self.out, "  no run for {at}");
            }
        }
    }

    /// draw RUN/STEP/ITEM NAME: as a leader would now, proposed with `propose`.
    pub(super) fn draw_child(&mut self, at: &str, name: &str) {
        let key = self.key(at);
        match self.drawn_child(key, name) {
            Some(command) => self.drawn_children.push((key, command)),
            None => self.out.push_str("  nothing is wanted\n"),
        }
    }

    /// propose: what was drawn, in its order.
    pub(super) fn propose_drawn(&mut self) {
        for (key, command) in std::mem::take(&mut self.drawn_children) {
            self.propose_child(key, command);
        }
        if self.leader {
            self.plan();
        }
    }

    /// Of a command that starts a child, its other parts kept.
    pub fn with_attempt(command: Command, attempt: AttemptKey) -> Command {
        match command {
            Command::StartChild(child) => {
                let start = child.start;
                Command::StartChild(Box::new(StartChild { attempt, start }))
            }
            other => other,
        }
    }

    fn step_name(&self, key: AttemptKey) -> String {
        let run = self.state.run(&key.task.run);
        run.map_or(String::new(), |run| run.declared(key.task.step).name.clone())
    }
}
