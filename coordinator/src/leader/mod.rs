//! What only the leader does, for as long as it leads: it plans, fires timers, makes calls, begins the runs that steps ask
//! for, speaks for nodes that are gone, and promotes learners. All that it knows beyond the state is lost with leadership,
//! on purpose.

mod calls;
mod children;
mod members;
mod triggers;

use std::sync::Arc;
use std::time::Duration;

use engine::effect::Effect;
use engine::id::NodeId;
use engine::planner::Planner;
use engine::{Actor, Command, Envelope, Reply, Timestamp};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::clock;
use crate::config::Config;
use crate::connect::Connections;
use crate::control::Control;
use crate::raft::ProposeError;

/// The pause before the leader tries again what was refused for want of room.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// A deadline that its tick did not move is not ticked at again before this.
const TICK_PAUSE: Duration = Duration::from_millis(50);
/// The longest sleep: clocks may be set.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How the leader goes about it.
#[derive(Clone)]
pub struct Leader {
    control: Control,
    config: Arc<Config>,
    connections: Connections,
}

/// Leadership is over, or this node is.
struct Over;

impl Leader {
    /// With this node's door.
    pub fn new(control: Control, config: Arc<Config>, connections: Connections) -> Leader {
        Leader {
            control,
            config,
            connections,
        }
    }

    /// Waits for leadership, serves it, and again, for ever.
    pub async fn run(self) {
        let mut role = self.control.raft().role();
        loop {
            let Ok(term) = role
                .wait_for(|role| role.is_leader && role.ready)
                .await
                .map(|role| role.term)
            else {
                return;
            };
            tracing::info!(term, "this node leads");
            tokio::select! {
                _over = self.serve() => {}
                _over = members::keep(&self.control, &self.config) => {}
                _over = calls::keep(&self.control, &self.connections) => {}
                _over = children::keep(&self.control) => {}
                _over = triggers::keep(&self.control) => {}
                _gone = role.wait_for(|role| !role.is_leader || role.term != term) => {}
            }
            tracing::info!(term, "this node leads no more");
            if role
                .wait_for(|role| !role.is_leader || role.term != term)
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// One term.
    async fn serve(&self) -> Over {
        // Before the first look at the state, so that no change falls between.
        let mut effects = self.control.watch();
        if self.bootstrap().await.is_err() {
            return Over;
        }
        self.grace().await;
        let mut planner = self.control.local(Planner::new);
        let mut ticked_at = None;
        loop {
            if self.note(&mut planner, &mut effects).is_err() {
                return Over;
            }
            let (now, commands, deadline) = self.control.local(|state| {
                let now = clock::now().max(state.now());
                (now, planner.plan(state, now), state.next_deadline())
            });
            if !commands.is_empty() {
                match self.propose_all(commands).await {
                    Ok(true) => {}
                    // What was planned and not proposed is found again by looking at everything.
                    Ok(false) => {
                        tokio::time::sleep(BUSY_PAUSE).await;
                        planner = self.control.local(Planner::new);
                    }
                    Err(Over) => return Over,
                }
                continue;
            }
            if deadline.is_some_and(|deadline| deadline <= now) && ticked_at != deadline {
                ticked_at = deadline;
                match self.propose_all(vec![Command::Tick]).await {
                    Ok(true) => {}
                    Ok(false) => ticked_at = None,
                    Err(Over) => return Over,
                }
                continue;
            }
            let wake = self.control.local(|state| planner.next_wake(state));
            let sleep = match ticked_at == deadline && deadline.is_some() {
                true => TICK_PAUSE.max(until(wake, now)),
                false => until(deadline, now).min(until(wake, now)),
            };
            tokio::select! {
                received = effects.recv() => match received {
                    Ok(batch) => {
                        planner.note(&batch);
                        self.alarms(&batch);
                    }
                    Err(RecvError::Lagged(_)) => planner = self.control.local(Planner::new),
                    Err(RecvError::Closed) => return Over,
                },
                () = tokio::time::sleep(sleep.min(SLEEP_MAX)) => {
                    if ticked_at == deadline {
                        ticked_at = None;
                    }
                }
            }
        }
    }

    /// A fresh cluster is told who it is.
    async fn bootstrap(&self) -> Result<(), Over> {
        if self.control.local(|state| state.cluster().is_some()) || self.config.join {
            return Ok(());
        }
        let command = Command::Bootstrap {
            cluster: self.config.cluster,
            trust_domain: self.config.trust_domain.clone(),
            nodes: self.config.members.clone(),
        };
        loop {
            if self.propose_all(vec![command.clone()]).await? {
                return Ok(());
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    /// When something is under way, agents that lost their node with the old leader get a moment to say
    /// what they are at before anything is tried again.
    async fn grace(&self) {
        if self.control.local(|state| state.runs_active() > 0) {
            tokio::time::sleep(Duration::from_millis(self.config.leader.grace_ms)).await;
        }
    }

    /// Takes in whatever has been applied by now.
    fn note(&self, planner: &mut Planner, effects: &mut Receiver<Arc<Vec<Effect>>>) -> Result<(), Over> {
        loop {
            match effects.try_recv() {
                Ok(batch) => {
                    planner.note(&batch);
                    self.alarms(&batch);
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Lagged(_)) => *planner = self.control.local(Planner::new),
                Err(TryRecvError::Closed) => return Err(Over),
            }
        }
    }

    /// Proposes all at once and waits for all; one round of fsyncs serves them together. False: some found
    /// no room, or their outcome is unknown.
    async fn propose_all(&self, commands: Vec<Command>) -> Result<bool, Over> {
        let proposals = commands.into_iter().map(|command| {
            self.control.raft().propose(Envelope {
                request: None,
                actor: Actor::Leader,
                command,
            })
        });
        let mut all = true;
        for outcome in futures::future::join_all(proposals).await {
            match outcome {
                Ok((index, Reply::Refused(refusal))) => {
                    tracing::warn!(index, %refusal, "the state refused what its leader proposed");
                }
                Ok(_) => {}
                Err(ProposeError::Busy | ProposeError::DiskFull | ProposeError::OutcomeUnknown) => {
                    all = false;
                }
                Err(error @ ProposeError::TooLarge { .. }) => {
                    tracing::error!(%error, "the planner made a command that does not fit an entry");
                    // Nothing that is tried soon again would fit either.
                    tokio::time::sleep(SLEEP_MAX).await;
                    all = false;
                }
                Err(ProposeError::NotLeader { .. } | ProposeError::Halted) => return Err(Over),
            }
        }
        Ok(all)
    }

    /// Alarms are told once, by the leader.
    fn alarms(&self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Alarm(alarm) = effect {
                tracing::warn!(alarm, "ALARM");
            }
        }
    }
}

/// How long it is from now; long when there is nothing to wait for.
fn until(at: Option<Timestamp>, now: Timestamp) -> Duration {
    at.map_or(SLEEP_MAX, |at| Duration::from_millis(at.0.saturating_sub(now.0)))
}

/// Closes, in the name of a node that is gone, the sessions that it held.
async fn close_sessions_of(control: &Control, node: NodeId) -> Result<(), Over> {
    const AT_ONCE: usize = 1_000;
    loop {
        let closed: Vec<_> = control.local(|state| {
            let session = |(agent, session): (&engine::id::AgentId, u64)| engine::command::SessionClosed {
                agent: agent.clone(),
                session,
            };
            state.sessions_of(node).take(AT_ONCE).map(session).collect()
        });
        if closed.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            node = node.0,
            sessions = closed.len(),
            "a node is not heard of: closing its sessions in its name"
        );
        let envelope = Envelope {
            request: None,
            actor: Actor::Leader,
            command: Command::Sessions {
                node,
                opened: Vec::new(),
                closed,
                facts: Vec::new(),
            },
        };
        match control.raft().propose(envelope).await {
            Ok((_, Reply::Refused(refusal))) => {
                tracing::warn!(%refusal, "the state refused to close them");
                return Ok(());
            }
            Ok(_) => {}
            Err(ProposeError::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
            Err(_) => return Err(Over),
        }
    }
}
