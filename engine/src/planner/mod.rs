//! What is ready, where, and under which limits. Runs on the leader only.
//!
//! The planner looks at runs that changed, and of those at steps, never at the fleet. It evaluates the
//! playbook's expressions and proposes [`Decision`]s; the log records those, never an expression. While a
//! proposal of a run is on its way, the run is left alone: what changes meanwhile is seen afterwards.

mod decision;
mod gate;
mod judge;
mod open;
mod run;
mod scope;
mod undo;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use playbook::eval::Scope;
use playbook::manifest::Expression;

use crate::command::Command;
use crate::effect::Effect;
use crate::id::RunId;
use crate::limits::{COMMAND_BYTES, PROPOSAL_WAIT_MS};
use crate::state::{Run, State};
use crate::time::Timestamp;

pub use decision::{Born, Decision, Gated, NewTask, NewTasks, NewUndo, Verdict};
pub(crate) use gate::absent_labels_are_null;
pub(crate) use scope::{Sources, parsed, target_value};
pub use undo::{ROLLBACK, UndoTask, UndoView, undo_plan};

/// Why a step is skipped whose `when` is false.
pub const RULED_OUT: &str = "its condition was false";
/// Why a step is skipped whose `when` is false for each of its tasks.
pub const ALL_RULED_OUT: &str = "every task's condition was false";

/// Which rule of a `decide` that has ended held, counted from 0. None: it did not succeed, or there is no such `decide`.
pub fn decided_by(state: &State, run: &RunId, step: u16) -> Option<usize> {
    run::decided_by(state, state.run(run)?, step)
}

/// What the condition of a step sees that waits for an event, but for the event.
pub(crate) fn wait_scope(state: &State, run: &Run, when: &Expression) -> Scope<'static> {
    run::Plan::new(state, run).scope(&Sources::of([when]))
}

/// What is decided about a run that goes on, as the state is; nothing, where it is over or not there.
pub(crate) fn decisions_of(state: &State, run: &RunId) -> Vec<Decision> {
    match state.run(run) {
        Some(run) if !run.status.is_end() => run::plan_run(state, run),
        _ => Vec::new(),
    }
}

/// The leader's memory of what may have become ready. Lost with leadership, rebuilt from the state.
#[derive(Debug, Default)]
pub struct Planner {
    /// Runs that changed since they were looked at.
    dirty: BTreeSet<RunId>,
    /// Runs with proposals on their way: how many commands, and until when they are waited for.
    flying: BTreeMap<RunId, (usize, Timestamp)>,
}

impl Planner {
    /// Looks at everything that is not over.
    pub fn new(state: &State) -> Planner {
        Planner {
            dirty: state.active_runs().map(|run| run.id).collect(),
            flying: BTreeMap::new(),
        }
    }

    /// Notes what an applied command changed. Every command's effects must be noted, the planner's own too.
    pub fn note(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Run(run) => {
                    self.dirty.insert(*run);
                }
                Effect::Planned(run) => {
                    if let Some((commands, _)) = self.flying.get_mut(run) {
                        *commands -= 1;
                        if *commands == 0 {
                            self.flying.remove(run);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// What to propose now; empty when nothing is ready. Each command fits an entry. A command that could not
    /// be proposed may be dropped: its runs are looked at again after [`PROPOSAL_WAIT_MS`].
    pub fn plan(&mut self, state: &State, now: Timestamp) -> Vec<Command> {
        let dropped: Vec<_> = self
            .flying
            .iter()
            .filter(|(_, (_, until))| *until <= now)
            .map(|(run, _)| *run)
            .collect();
        for run in dropped {
            self.flying.remove(&run);
            self.dirty.insert(run);
        }
        let ready: Vec<_> = self
            .dirty
            .iter()
            .copied()
            .filter(|run| !self.flying.contains_key(run))
            .collect();
        let mut pack = Pack::default();
        for id in ready {
            self.dirty.remove(&id);
            decisions_of(state, &id)
                .into_iter()
                .for_each(|decision| pack.push(decision));
        }
        let commands = pack.finish();
        for decisions in &commands {
            let runs: BTreeSet<_> = decisions.iter().map(Decision::run).collect();
            for run in runs {
                let entry = self
                    .flying
                    .entry(run)
                    .or_insert((0, now.plus_ms(PROPOSAL_WAIT_MS)));
                entry.0 += 1;
            }
        }
        let drawn_at = state.applied_index();
        let command = |decisions| Command::Plan { drawn_at, decisions };
        commands.into_iter().map(command).collect()
    }

    /// When `plan` wants to be called again though nothing changed; None: not before something does.
    pub fn next_wake(&self, _state: &State) -> Option<Timestamp> {
        self.flying.values().map(|(_, until)| *until).min()
    }
}

/// Decisions, in order, in commands of a bounded size.
#[derive(Default)]
struct Pack {
    commands: Vec<Vec<Decision>>,
    size_bytes: usize,
}

impl Pack {
    fn push(&mut self, decision: Decision) {
        let size = decision.size_bytes();
        if self.commands.is_empty() || self.size_bytes + size > COMMAND_BYTES {
            self.commands.push(Vec::new());
            self.size_bytes = 0;
        }
        self.size_bytes += size;
        if let Some(last) = self.commands.last_mut() {
            last.push(decision);
        }
    }

    fn finish(self) -> Vec<Vec<Decision>> {
        self.commands
    }
}
