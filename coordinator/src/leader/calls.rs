//! Calls: tasks that run on no host, carried out here for as long as this node leads.
//!
//! A call that an earlier leader had begun is made again, with the same idempotency key, which is the task's: at
//! least once, then, and what the other side does with the key decides whether it is exactly once. What the state no
//! longer asks for is broken off.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use engine::command::CallEnded;
use engine::effect::Effect;
use engine::id::{AttemptKey, RunId};
use engine::{Actor, Assignment, Command, Envelope, Reply};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, JoinSet};

use super::{BUSY_PAUSE, Over};
use crate::connect::Connections;
use crate::control::Control;
use crate::raft::ProposeError;

/// Outcomes of one command.
const BATCH_MAX: usize = 64;

/// What is under way.
struct Calls<'a> {
    control: &'a Control,
    connections: &'a Connections,
    /// Those that are being made, and those whose end is on its way to the state.
    known: HashMap<AttemptKey, Known>,
    making: JoinSet<CallEnded>,
}

struct Known {
    making: AbortHandle,
    /// It was broken off, as asked.
    stopped: bool,
}

/// Makes calls until leadership is over.
pub(super) async fn keep(control: &Control, connections: &Connections) -> Over {
    let mut effects = control.watch();
    let mut calls = Calls {
        control,
        connections,
        known: HashMap::new(),
        making: JoinSet::new(),
    };
    calls.look_at_all();
    loop {
        tokio::select! {
            received = effects.recv() => match received {
                Ok(batch) => calls.look(&batch),
                Err(RecvError::Lagged(_)) => calls.look_at_all(),
                Err(RecvError::Closed) => return Over,
            },
            Some(ended) = calls.making.join_next() => {
                if calls.report(ended.ok()).await.is_err() {
                    return Over;
                }
            }
        }
    }
}

impl Calls<'_> {
    fn look_at_all(&mut self) {
        let runs: Vec<RunId> = self
            .control
            .local(|state| state.active_runs().map(|run| run.id).collect());
        for run in runs {
            self.look_at(run);
        }
    }

    fn look(&mut self, effects: &Arc<Vec<Effect>>) {
        for effect in effects.iter() {
            if let Effect::Run(run) = effect {
                self.look_at(*run);
            }
        }
    }

    /// Begins what the run asks for, and breaks off what it does not any more.
    fn look_at(&mut self, run: RunId) {
        let wanted = self.control.local(|state| state.calls(&run));
        self.known.retain(|key, known| {
            let keep = key.task.run != run || wanted.iter().any(|call| call.key == *key);
            if !keep {
                known.making.abort();
            }
            keep
        });
        for call in wanted {
            let stop = call.cancel.is_some();
            match self.known.get_mut(&call.key) {
                Some(known) if known.stopped || !stop => continue,
                // It comes out of the set as nothing; what is told of it is put in now.
                Some(known) => known.making.abort(),
                None => {}
            }
            let key = call.key;
            let making = match stop {
                true => {
                    let outcome = call.broken_off();
                    self.making.spawn(std::future::ready(CallEnded { key, outcome }))
                }
                false => self.making.spawn(make(self.connections.clone(), call)),
            };
            self.known.insert(
                key,
                Known {
                    making,
                    stopped: stop,
                },
            );
        }
    }

    /// Tells the state of a call that ended, and of all others that have meanwhile.
    async fn report(&mut self, first: Option<CallEnded>) -> Result<(), Over> {
        let mut ended: Vec<_> = first.into_iter().collect();
        while ended.len() < BATCH_MAX
            && let Some(next) = self.making.try_join_next()
        {
            ended.extend(next.ok());
        }
        if ended.is_empty() {
            return Ok(());
        }
        loop {
            let proposed = self
                .control
                .raft()
                .propose(Envelope {
                    request: None,
                    actor: Actor::Leader,
                    command: Command::Calls(ended.clone()),
                })
                .await;
            match proposed {
                Ok((index, Reply::Refused(refusal))) => {
                    tracing::warn!(index, %refusal, "the state refused how calls ended");
                    return Ok(());
                }
                Ok(_) => return Ok(()),
                Err(ProposeError::Busy | ProposeError::DiskFull | ProposeError::OutcomeUnknown) => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(error @ ProposeError::TooLarge { .. }) => {
                    // One output is bounded; many together were too much.
                    if ended.len() == 1 {
                        tracing::error!(%error, "how a call ended does not fit an entry");
                        return Ok(());
                    }
                    ended.truncate(ended.len() / 2);
                }
                Err(ProposeError::NotLeader { .. } | ProposeError::Halted) => return Err(Over),
            }
        }
    }
}

async fn make(connections: Connections, call: Assignment) -> CallEnded {
    let idempotency_key = format!("{}/{}/{}", call.key.task.run, call.step, call.key.task.item);
    let within = Duration::from_millis(call.attempt_timeout_ms);
    let outcome = tokio::time::timeout(within, connections.call(&call, &idempotency_key))
        .await
        .unwrap_or_else(|_elapsed| call.unanswered());
    CallEnded {
        key: call.key,
        outcome,
    }
}
