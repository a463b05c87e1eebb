//! What only the leader does: it plans, fires timers, begins the runs that steps ask for, and makes calls.

use std::collections::BTreeSet;

use engine::command::{CallEnded, Command, Envelope, Outcome, OutcomeStatus, TaskError};
use engine::id::{AttemptKey, RunId};
use engine::plan::child::{REFUSED, child, not_begun};
use engine::planner::Planner;
use engine::{Actor, Reply, State};
use serde_json::json;

use super::super::event::Event;
use super::super::invariants::Check;
use super::super::tally::Happened;
use super::super::world::{EPOCH_MS, World};
use super::proposals::Waiting;

/// What a leader knows beyond the state.
pub(super) struct Leading {
    pub(super) planner: Planner,
    pub(super) plans: BTreeSet<u64>,
    pub(super) tick: Option<u64>,
    pub(super) from_us: u64,
    /// Attempts whose runs are drawn, or proposed.
    pub(super) children: BTreeSet<AttemptKey>,
    /// Calls that are made, or whose end is proposed.
    pub(super) calls: BTreeSet<AttemptKey>,
}

/// Of the calls that are made so many in a hundred fail, and of so many nobody knows.
const FAILED_PERCENT: u64 = 15;
const UNKNOWN_PERCENT: u64 = 10;
/// Of the runs that steps ask for so many in a hundred are drawn twice.
const TWICE_PERCENT: u64 = 15;

impl World {
    /// Proposes what the planner and the clock ask for. True: something was proposed.
    pub(super) fn lead(&mut self, id: u64) -> Result<bool, (&'static str, String)> {
        let now = self.clock(id);
        let now_us = self.now_us;
        let node = self.nodes.get_mut(&id).expect("a node");
        let (Some(leading), Some(replica)) = (&mut node.leading, &node.replica) else {
            return Ok(false);
        };
        if now_us < leading.from_us || !replica.role().ready {
            return Ok(false);
        }
        let mut commands = Vec::new();
        {
            let state = replica.state().read();
            if leading.tick.is_none() && state.next_deadline().is_some_and(|due| due <= now) {
                commands.push(Command::Tick);
            }
            if leading.plans.is_empty() {
                commands.extend(leading.planner.plan(&state, now));
            }
        }
        let any = !commands.is_empty();
        for command in commands {
            let tick = matches!(command, Command::Tick);
            let envelope = Envelope {
                request: None,
                actor: Actor::Leader,
                command,
            };
            let waiting = if tick { Waiting::Tick } else { Waiting::Plan };
            let proposal = self.nodes[&id].next_id + 1;
            if let Some(leading) = &mut self.nodes.get_mut(&id).expect("a node").leading {
                if tick {
                    leading.tick = Some(proposal);
                } else {
                    leading.plans.insert(proposal);
                }
            }
            self.propose(id, envelope, waiting)?;
        }
        self.lead_runs(id);
        Ok(any)
    }

    /// Draws the runs that steps ask for, and makes calls: both take a while, in which the leader may die.
    fn lead_runs(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let (Some(leading), Some(replica)) = (&mut node.leading, &node.replica) else {
            return;
        };
        let life = node.life;
        let mut later = Vec::new();
        let state = replica.state().read();
        let runs: Vec<RunId> = state.active_runs().map(|run| run.id).collect();
        for run in runs {
            for call in state.children_wanted(&run) {
                let key = call.key;
                if !leading.children.insert(key) {
                    continue;
                }
                // Now and then it is drawn twice, as by a leader that has not heard of its own proposal.
                for _ in 0..1 + u32::from(self.rng.percent(TWICE_PERCENT)) {
                    let command = match child(&state, key, RunId(self.rng.uuid(EPOCH_MS))) {
                        Some(Ok(start)) => Command::StartChild(Box::new(start)),
                        Some(Err(why)) => Command::Calls(vec![not_begun(key, why)]),
                        None => continue,
                    };
                    let drawn = Event::ChildDrawn {
                        node: id,
                        life,
                        key,
                        command: Box::new(command),
                    };
                    later.push((self.rng.between(100, 300_000), drawn));
                }
            }
            for call in state.calls(&run) {
                if !leading.calls.insert(call.key) {
                    continue;
                }
                let outcome = match self.rng.below(100) as u64 {
                    _ if call.cancel.is_some() => call.broken_off(),
                    n if n < FAILED_PERCENT => failed(OutcomeStatus::Failed),
                    n if n < FAILED_PERCENT + UNKNOWN_PERCENT => failed(OutcomeStatus::Unknown),
                    _ => Outcome {
                        status: OutcomeStatus::Succeeded,
                        output: json!({}),
                        error: None,
                    },
                };
                let ended = CallEnded {
                    key: call.key,
                    outcome,
                };
                later.push((
                    self.rng.between(100, 400_000),
                    Event::CallEnds {
                        node: id,
                        life,
                        ended,
                    },
                ));
            }
        }
        drop(state);
        for (delay, event) in later {
            self.after(delay, event);
        }
    }

    /// A run was drawn: it is proposed, if this node still leads.
    pub(in crate::sim) fn child_drawn(
        &mut self,
        id: u64,
        life: u64,
        key: AttemptKey,
        command: Command,
    ) -> Check {
        let leads = |leading: &Leading| leading.children.contains(&key);
        self.propose_as_leader(id, life, leads, command, Waiting::Child(key))
    }

    /// A call has ended: that is proposed, if this node still leads.
    pub(in crate::sim) fn call_ends(&mut self, id: u64, life: u64, ended: CallEnded) -> Check {
        let key = ended.key;
        let leads = |leading: &Leading| leading.calls.contains(&key);
        self.propose_as_leader(id, life, leads, Command::Calls(vec![ended]), Waiting::Call(key))
    }

    fn propose_as_leader(
        &mut self,
        id: u64,
        life: u64,
        leads: impl FnOnce(&Leading) -> bool,
        command: Command,
        waiting: Waiting,
    ) -> Check {
        let node = &self.nodes[&id];
        if node.life != life || !node.leads() || !node.leading.as_ref().is_some_and(leads) {
            return Ok(());
        }
        let envelope = Envelope {
            request: None,
            actor: Actor::Leader,
            command,
        };
        self.propose(id, envelope, waiting)?;
        self.node_work(id)
    }

    /// What became of the run that was proposed for an attempt.
    pub(super) fn child_answered(&mut self, id: u64, key: AttemptKey, reply: &Reply) -> Check {
        match reply {
            Reply::RunStarted { run } => {
                self.tally.note(Happened::ChildBegan);
                self.invariants.one_child.begun(key, *run)?;
            }
            Reply::Refused(why) => {
                self.tally.note(Happened::ChildRefused);
                let wanted = |state: &State| {
                    state
                        .children_wanted(&key.task.run)
                        .iter()
                        .any(|call| call.key == key)
                };
                if self.nodes[&id].with_state(wanted) == Some(true) {
                    let why = TaskError {
                        code: REFUSED.into(),
                        message: why.to_string(),
                    };
                    let command = Command::Calls(vec![not_begun(key, why)]);
                    let envelope = Envelope {
                        request: None,
                        actor: Actor::Leader,
                        command,
                    };
                    return self.propose(id, envelope, Waiting::Child(key));
                }
            }
            _ => {}
        }
        self.forget_attempt(id, key);
        Ok(())
    }

    /// Nothing is under way for an attempt any more: what is still wanted of it begins anew.
    pub(super) fn forget_attempt(&mut self, id: u64, key: AttemptKey) {
        if let Some(leading) = &mut self.nodes.get_mut(&id).expect("a node").leading {
            leading.children.remove(&key);
            leading.calls.remove(&key);
        }
    }
}

fn failed(status: OutcomeStatus) -> Outcome {
    let error = TaskError {
        code: "busy".into(),
        message: "as told".into(),
    };
    Outcome {
        status,
        output: json!({}),
        error: Some(error),
    }
}
