//! What agents say of their attempts, in batches.

use agent::session::event::{Received, Report as Said, Status};
use engine::command::{Command, Envelope, Outcome, OutcomeStatus, Report, ReportBody, TaskError};
use engine::id::{AttemptKey, NodeId, RunId, TaskKey};
use engine::{Actor, Reply};

use super::super::event::Event;
use super::super::invariants::Check;
use super::super::world::World;
use super::proposals::Waiting;

/// A report as a session heard it.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Heard {
    pub(super) agent: usize,
    pub(super) said: Said,
}

impl World {
    pub(super) fn flush_soon(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.flushing {
            return;
        }
        node.flushing = true;
        let life = node.life;
        let delay = self.rng.between(1_000, 5_000);
        self.after(delay, Event::NodeFlush { node: id, life });
    }

    pub(in crate::sim) fn node_flush(&mut self, id: u64, life: u64) -> Check {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.life != life || !node.is_alive() {
            return Ok(());
        }
        node.flushing = false;
        let heard = std::mem::take(&mut node.reports);
        let mut batch = Vec::new();
        let mut reports = Vec::new();
        for one in heard {
            // A run that this node has not applied yet: the report waits.
            match self.report_of(id, &one) {
                Some(report) => {
                    self.note_ended(id, one.agent, &one.said);
                    reports.push(report);
                    batch.push(one);
                }
                None => self.nodes.get_mut(&id).expect("a node").reports.push(one),
            }
        }
        if !self.nodes[&id].reports.is_empty() {
            self.flush_soon(id);
        }
        if reports.is_empty() {
            return Ok(());
        }
        let command = Command::Reports {
            node: NodeId(id),
            reports,
        };
        let envelope = Envelope {
            request: None,
            actor: Actor::Node(NodeId(id)),
            command,
        };
        self.propose(id, envelope, Waiting::Reports(batch))?;
        self.node_work(id)
    }

    /// What an agent says that it has ended is not to be cancelled when the cluster drops it.
    pub(super) fn note_ended(&mut self, id: u64, agent: usize, said: &Said) {
        let Said::Ended { key, .. } = said else { return };
        let Some(key) = self.key_of(id, key) else { return };
        if let Some(session) = self.nodes.get_mut(&id).expect("a node").sessions.get_mut(&agent) {
            session.outbox.note_ended(&key);
        }
    }

    pub(super) fn reports_taken(&mut self, id: u64, heard: Vec<Heard>, reply: &Reply) {
        let Reply::Reports(each) = reply else { return };
        for (one, refused) in heard.into_iter().zip(each) {
            let node = &self.nodes[&id];
            let Some(connection) = node.sessions.get(&one.agent).map(|s| s.connection) else {
                continue;
            };
            let (started, ended, key) = match one.said {
                Said::Started { key, .. } => (vec![key.clone()], Vec::new(), key),
                Said::Ended { key, .. } => (Vec::new(), vec![key.clone()], key),
            };
            let message = match refused {
                None => Received::Committed {
                    started,
                    ended,
                    refused: Vec::new(),
                },
                Some(reason) => Received::Committed {
                    started: Vec::new(),
                    ended: Vec::new(),
                    refused: vec![(key, reason.clone())],
                },
            };
            self.send_down(id, one.agent, connection, message);
        }
    }

    fn report_of(&self, id: u64, heard: &Heard) -> Option<Report> {
        let (key, body) = match &heard.said {
            Said::Started { key, .. } => (key, ReportBody::Started),
            Said::Ended { key, outcome } => {
                let status = match outcome.status {
                    Status::Succeeded => OutcomeStatus::Succeeded,
                    Status::Failed => OutcomeStatus::Failed,
                    Status::Cancelled => OutcomeStatus::Cancelled,
                    Status::Unknown => OutcomeStatus::Unknown,
                };
                let error = outcome.error.as_ref().map(|e| TaskError {
                    code: e.code.clone(),
                    message: e.message.clone(),
                });
                let output = serde_json::json!({});
                (
                    key,
                    ReportBody::Ended(Outcome {
                        status,
                        output,
                        error,
                    }),
                )
            }
        };
        Some(Report {
            agent: self.agents[heard.agent].id.clone(),
            key: self.key_of(id, key)?,
            body,
        })
    }

    pub(super) fn key_of(&self, id: u64, key: &agent::actions::AttemptKey) -> Option<AttemptKey> {
        let run: RunId = key.run_id.parse().ok()?;
        let step = self.nodes[&id].with_state(|state| state.step_number(&run, &key.step))??;
        let task = TaskKey {
            run,
            step,
            item: key.item,
        };
        Some(AttemptKey {
            task,
            attempt: key.attempt,
            token: key.token,
        })
    }
}

pub(super) fn wire_key(key: &AttemptKey, step: &str) -> agent::actions::AttemptKey {
    agent::actions::AttemptKey {
        run_id: key.task.run.to_string(),
        step: step.to_owned(),
        item: key.task.item,
        attempt: key.attempt,
        token: key.token,
    }
}
