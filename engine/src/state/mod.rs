//! The replicated state, and the one way to change it: [`State::apply`].

pub mod agents;
pub mod approvals;
pub mod assignments;
pub mod audit;
pub mod children;
pub mod claims;
mod control;
mod deadlines;
mod decisions;
pub mod dedup;
mod enrolment;
pub mod evidence;
mod follow;
mod gates;
pub(crate) mod groups;
mod invariants;
pub(crate) mod life;
pub mod nodes;
mod outbox;
pub mod playbooks;
mod questions;
mod read;
mod reports;
pub mod roles;
mod running;
pub mod runs;
mod sessions;
pub mod steps;
pub mod tasks;
pub mod timers;
pub mod tokens;
pub mod triggers;
pub mod undo;
mod waits;

use serde_json::{Value, json};

use crate::command::{Actor, Command, Envelope};
use crate::effect::{Applied, Reply};
use crate::error::Refusal;
use crate::id::RunId;
use crate::time::Timestamp;

pub use agents::{Agent, Session};
pub use approvals::{Answer, Approval, ApprovalStatus};
pub use assignments::Assignment;
pub use audit::AuditRecord;
pub use nodes::Cluster;
pub use playbooks::Published;
pub use roles::Roles;
pub use runs::{Run, RunStatus, TaskView};
pub use steps::{StepState, StepStatus};
pub use tasks::{Task, TaskCounts, TaskStatus};
pub use tokens::Token;

use audit::TaskEvents;
use outbox::{Around, Outbox};
use timers::Timer;

pub use crate::snapshot::SnapshotError;

/// Everything that the cluster agrees on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub(crate) applied_index: u64,
    pub(crate) now: Timestamp,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) nodes: nodes::Nodes,
    pub(crate) agents: agents::Agents,
    pub(crate) tokens: tokens::Tokens,
    pub(crate) roles: roles::Roles,
    pub(crate) runs: runs::Runs,
    pub(crate) approvals: approvals::Approvals,
    pub(crate) evidence: evidence::Evidence,
    pub(crate) playbooks: playbooks::Playbooks,
    pub(crate) triggers: triggers::Triggers,
    pub(crate) audit: audit::Audit,
    pub(crate) dedup: dedup::Dedup,
    /// Derived.
    pub(crate) timers: timers::Timers,
}

/// One apply: what it was called with and what it gathers.
struct Turn<'a> {
    actor: &'a Actor,
    out: Outbox,
    events: TaskEvents,
}

impl State {
    /// Applies a committed command. Deterministic: the same index, time and command on the same state
    /// give the same state, reply and effects on every node.
    ///
    /// A refusal is data. Deadlines fire on [`Command::Tick`] only, so that a new leader can first hear from
    /// the agents that its predecessor's end cut off.
    ///
    /// # Panics
    /// If an invariant of the state is broken: the node must stop.
    pub fn apply(&mut self, index: u64, at: Timestamp, envelope: &Envelope) -> Applied {
        self.applied_index = index;
        self.now = self.now.max(at);
        let mut turn = Turn {
            actor: &envelope.actor,
            out: Outbox::default(),
            events: TaskEvents::default(),
        };
        let asked = envelope.request.map(|id| (id, dedup::fingerprint(envelope)));
        if let Some((id, fingerprint)) = &asked
            && let Some((before, reply)) = self.dedup.get(id)
        {
            let reply = if before == fingerprint {
                reply.clone()
            } else {
                Reply::Refused(Refusal::RequestReused)
            };
            return Applied {
                reply,
                effects: Vec::new(),
            };
        }
        let reply = self
            .dispatch(&envelope.command, &mut turn)
            .unwrap_or_else(|refusal| {
                self.audit_refusal(&envelope.command, &refusal, &turn);
                Reply::Refused(refusal)
            });
        self.cascade(&mut turn);
        // Nothing was taken of what is weighed again or has to wait, and it comes again under the same id.
        let comes_again = matches!(reply, Reply::Refused(Refusal::Stale | Refusal::Full(_)));
        if let Some((id, fingerprint)) = asked.filter(|_| !comes_again) {
            self.dedup.remember(id, fingerprint, reply.clone());
        }
        let stamp = (self.applied_index, self.now);
        let runs = &self.runs;
        turn.events
            .flush(&mut self.audit, stamp, turn.actor, |run, step| {
                runs.get(&run)
                    .map_or(String::new(), |run| run.declared(step).name.clone())
            });
        Applied {
            reply,
            effects: turn.out.into_effects(),
        }
    }

    fn dispatch(&mut self, command: &Command, turn: &mut Turn<'_>) -> Result<Reply, Refusal> {
        if self.cluster.is_none() && !matches!(command, Command::Bootstrap { .. } | Command::Tick) {
            return Err(Refusal::NotBootstrapped);
        }
        match command {
            Command::Bootstrap {
                cluster,
                trust_domain,
                nodes,
            } => self.bootstrap(*cluster, trust_domain, nodes, turn),
            Command::PutNode(node) => self.put_node(node, turn),
            Command::NodeLeaves { node, lose_evidence } => self.node_leaves(*node, *lose_evidence, turn),
            Command::RemoveNode { node } => self.remove_node(*node, turn),
            Command::CreateToken {
                id,
                hash,
                uses,
                expires_at,
                labels,
                agent,
            } => self.create_token(id, *hash, *uses, *expires_at, labels, agent.as_ref(), turn),
            Command::RevokeToken { id } => self.revoke_token(id, turn),
            Command::Enroll { token, key, hostname } => self.enroll(*token, *key, hostname, turn),
            Command::RenewKey { agent, current, next } => self.renew_key(agent, *current, *next, turn),
            Command::SetLabels { agent, labels } => self.set_labels(agent, labels, turn),
            Command::RevokeAgent { agent, reason } => self.revoke_agent(agent, reason, turn),
            Command::Sessions {
                node,
                opened,
                closed,
                facts,
            } => Ok(self.sessions(*node, opened, closed, facts, turn)),
            Command::StartChild(child) => self.start_child(child, turn),
            Command::StartRun(start) => match &start.fired {
                Some(fired) => self.start_fired(start, fired, turn),
                None => self.start_run(start, turn),
            },
            Command::Events(taken) => self.take_events(taken, turn),
            Command::SetTrigger {
                trigger,
                enabled,
                reason,
            } => self.set_trigger(trigger, *enabled, reason, turn),
            Command::Schedule(said) => self.schedule(said, turn),
            Command::NotFired { firing, why } => self.not_fired(*firing, why, turn),
            Command::CancelRun { run, reason } => self.cancel_run(*run, reason, turn),
            Command::CancelAndRollBack { run, reason } => self.cancel_and_roll_back(*run, reason, turn),
            Command::RollbackRun {
                run,
                reason,
                revision,
            } => self.rollback_run(*run, reason, *revision, turn),
            Command::PauseRun { run, reason } => self.pause_run(*run, reason, turn),
            Command::ResumeRun { run } => self.resume_run(*run, turn),
            Command::RetryRun { run, step, unknown } => self.retry_run(*run, *step, *unknown, turn),
            Command::SettleTask {
                task,
                succeeded,
                reason,
            } => self.settle_task(*task, *succeeded, reason, turn),
            Command::Plan { drawn_at, decisions } => Ok(self.decide(*drawn_at, decisions, turn)),
            Command::Reports { reports, .. } => Ok(self.reports(reports, turn)),
            Command::Calls(ended) => self.calls_ended(ended, turn),
            Command::Publish(publish) => self.publish(publish, turn),
            Command::Custody(custody) => self.take_custody(custody, turn),
            Command::HandedIn(handed_in) => self.take_handed_in(handed_in, turn),
            Command::Answer(answer) => self.answer(answer, turn),
            Command::GrantRole { operator, role } => self.grant_role(operator, role, turn),
            Command::RevokeRole { operator, role } => self.revoke_role(operator, role, turn),
            Command::Tick => {
                self.fire(turn);
                Ok(Reply::Done)
            }
        }
    }

    /// Everything that is due happens.
    fn fire(&mut self, turn: &mut Turn<'_>) {
        // What fires may set new deadlines, but always later ones than now: the loop ends. (A retry
        // without a pause is due at once, and waits then for the planner.)
        while let Some(timer) = self.timers.pop_due(self.now) {
            match timer {
                Timer::Task(key) => {
                    self.with_run(key.run, turn, |run, around| {
                        run.task_is_due(key.step, key.item, around);
                        run.touch(around);
                    });
                }
                Timer::Approval(id) => self.approval_is_due(id, turn),
                Timer::Step(id, step) => {
                    self.with_run(id, turn, |run, around| {
                        run.steps[usize::from(step)].due = true;
                        run.touch(around);
                    });
                }
                Timer::Run(id) => {
                    self.with_run(id, turn, |run, around| {
                        run.deadline = None;
                        run.cancel("it took longer than its limit", around);
                    });
                    self.record(turn, "run.timeout", id.to_string(), &json!({}));
                }
            }
        }
    }

    /// Changes a run with everything around it at hand; None if there is no such run.
    fn with_run<R>(
        &mut self,
        id: RunId,
        turn: &mut Turn<'_>,
        change: impl FnOnce(&mut Run, &mut Around<'_>) -> R,
    ) -> Option<R> {
        let run = self.runs.get_mut(&id)?;
        let mut around = Around {
            index: self.applied_index,
            now: self.now,
            agents: &mut self.agents,
            approvals: &mut self.approvals,
            timers: &mut self.timers,
            out: &mut turn.out,
            events: &mut turn.events,
        };
        Some(change(run, &mut around))
    }

    /// Writes an audit record of this apply.
    fn record(&mut self, turn: &Turn<'_>, verb: &str, subject: String, detail: &Value) {
        let stamp = (self.applied_index, self.now);
        self.audit.push(stamp, turn.actor, verb, subject, detail);
    }

    /// What a person was refused is recorded, and a join token's misuse. Other refusals are not: whoever can
    /// cause them could fill the audit.
    fn audit_refusal(&mut self, command: &Command, refusal: &Refusal, turn: &Turn<'_>) {
        let (verb, subject) = match command {
            // By its run, for that is where people look.
            Command::Answer(answer) => match self.approvals.get(answer.approval) {
                Some(approval) => ("approval.answer", approval.run.to_string()),
                None => ("approval.answer", answer.approval.to_string()),
            },
            Command::Enroll { token, .. } => match self.tokens.by_hash(token) {
                Some(token) => ("agent.enroll", token.id.clone()),
                None => return,
            },
            command if matches!(turn.actor, Actor::Operator(_)) => match command.name_and_subject() {
                Some(named) => named,
                None => return,
            },
            _ => return,
        };
        self.record(
            turn,
            "refused",
            subject,
            &json!({"verb": verb, "why": refusal.to_string()}),
        );
    }
}

impl Command {
    /// The audit's verb of an operator's command, and what it is about.
    fn name_and_subject(&self) -> Option<(&'static str, String)> {
        Some(match self {
            Command::PutNode(node) => ("node.put", node.name.clone()),
            Command::NodeLeaves { node, .. } => ("node.leave", node.0.to_string()),
            Command::RemoveNode { node } => ("node.remove", node.0.to_string()),
            Command::CreateToken { id, .. } => ("token.create", id.clone()),
            Command::RevokeToken { id } => ("token.revoke", id.clone()),
            Command::SetLabels { agent, .. } => ("agent.labels", agent.to_string()),
            Command::RevokeAgent { agent, .. } => ("agent.revoke", agent.to_string()),
            Command::StartRun(start) => ("run.start", start.run.to_string()),
            Command::CancelRun { run, .. } | Command::CancelAndRollBack { run, .. } => {
                ("run.cancel", run.to_string())
            }
            Command::PauseRun { run, .. } => ("run.pause", run.to_string()),
            Command::RollbackRun { run, .. } => ("run.rollback", run.to_string()),
            Command::ResumeRun { run } => ("run.resume", run.to_string()),
            Command::RetryRun { run, .. } => ("run.retry", run.to_string()),
            Command::SettleTask { task, .. } => ("task.settle", task.run.to_string()),
            Command::GrantRole { operator, .. } => ("role.grant", operator.clone()),
            Command::RevokeRole { operator, .. } => ("role.revoke", operator.clone()),
            Command::Publish(publish) => ("playbook.publish", publish.name.clone()),
            Command::SetTrigger { trigger, enabled, .. } => {
                let verb = if *enabled {
                    "trigger.enable"
                } else {
                    "trigger.disable"
                };
                (verb, trigger.to_string())
            }
            _ => return None,
        })
    }
}
