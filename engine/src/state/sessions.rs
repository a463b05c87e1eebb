//! Who is attached where.
//!
//! The newest session of an agent is the one that counts, on whatever node. One that replaces a live one
//! closes it; with another boot id, or again and again, that is two hosts with one identity: an alarm.

use serde_json::json;

use crate::command::{SessionClosed, SessionOpened};
use crate::effect::{Effect, Reply};
use crate::id::{AgentId, NodeId};
use crate::limits::{FACTS_BYTES_MAX, SUPERSEDED_MAX, SUPERSEDED_WITHIN_MS};
use crate::state::agents::Session;
use crate::state::tasks::TaskStatus;
use crate::state::{State, Turn};

impl State {
    pub(super) fn sessions(
        &mut self,
        node: NodeId,
        opened: &[SessionOpened],
        closed: &[SessionClosed],
        facts: &[(AgentId, String)],
        turn: &mut Turn<'_>,
    ) -> Reply {
        let answers = opened
            .iter()
            .map(|session| self.open_session(node, session, turn).err())
            .collect();
        for gone in closed {
            let current = self
                .agents
                .get(&gone.agent)
                .and_then(|agent| agent.session.as_ref());
            if current.is_some_and(|s| s.node == node && s.session == gone.session) {
                self.agents.set_session(&gone.agent, None, self.now);
                self.presence_changed(&gone.agent, false, turn);
            }
        }
        for (id, facts) in facts {
            if facts.len() <= FACTS_BYTES_MAX
                && let Some(agent) = self.agents.get_mut(id)
                && agent.session.as_ref().is_some_and(|session| session.node == node)
            {
                agent.facts = facts.as_str().into();
            }
        }
        Reply::Sessions(answers)
    }

    /// Takes a session, or says why it must be closed.
    fn open_session(
        &mut self,
        node: NodeId,
        opened: &SessionOpened,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        if !self.nodes.by_id.contains_key(&node) {
            return Err("its node is no member of this cluster".into());
        }
        let Some(agent) = self.agents.get(&opened.agent) else {
            return Err("there is no such agent".into());
        };
        if let Some(reason) = &agent.revoked {
            return Err(format!("the agent is denied: {reason}"));
        }
        if !agent.accepts_key(&opened.key) {
            return Err("its key is not the recorded one".into());
        }
        let alarm = match &agent.session {
            Some(live) if live.node == node && live.session == opened.session => return Ok(()),
            Some(live) if live.node == node && live.session > opened.session => {
                return Err("a newer session took its place".into());
            }
            Some(live) => {
                turn.out.others.push(Effect::CloseSession {
                    agent: opened.agent.clone(),
                    session: live.session,
                    reason: "a newer session took its place".into(),
                });
                let (count, since) = agent.superseded;
                let fresh = self.now.0 > since.0.saturating_add(SUPERSEDED_WITHIN_MS);
                let (count, since) = if fresh { (1, self.now) } else { (count + 1, since) };
                let alarm = if live.boot_id != opened.boot_id {
                    Some("two hosts were attached with this identity at once")
                } else if count >= SUPERSEDED_MAX {
                    Some("sessions of this identity replace each other again and again")
                } else {
                    None
                };
                if let Some(agent) = self.agents.get_mut(&opened.agent) {
                    agent.superseded = (count, since);
                }
                alarm
            }
            None => None,
        };
        self.agents.set_session(
            &opened.agent,
            Some(Session {
                node,
                session: opened.session,
                since: self.now,
                boot_id: opened.boot_id.chars().take(64).collect(),
                key: opened.key,
            }),
            self.now,
        );
        if let Some(agent) = self.agents.get_mut(&opened.agent) {
            agent.version = opened.version.chars().take(64).collect();
            if opened.facts.len() <= FACTS_BYTES_MAX && !opened.facts.is_empty() {
                agent.facts = opened.facts.as_str().into();
            }
            if agent.key == opened.key {
                self.agents.confirm_key(&opened.agent);
            }
        }
        if let Some(what) = alarm {
            self.raise_alarm(&opened.agent, what, turn);
        }
        self.presence_changed(&opened.agent, true, turn);
        self.note_running(opened, turn);
        Ok(())
    }

    /// What the agent says it has begun counts as reported so.
    fn note_running(&mut self, opened: &SessionOpened, turn: &mut Turn<'_>) {
        for key in &opened.running {
            self.with_run(key.task.run, turn, |run, around| {
                let (step, item) = (key.task.step, key.task.item);
                let current = run.agent_of(step, item) == Some(&opened.agent) && {
                    let task = run.task(step, item);
                    task.status == TaskStatus::Assigned
                        && (task.attempt, task.token) == (key.attempt, key.token)
                };
                if current {
                    run.start(step, item, around);
                    run.touch(around);
                }
            });
        }
    }

    /// The agent's tasks learn that it came or went.
    pub(super) fn presence_changed(&mut self, id: &AgentId, online: bool, turn: &mut Turn<'_>) {
        turn.out.presence = true;
        let Some(agent) = self.agents.get(id) else { return };
        if online && !agent.open.is_empty() {
            turn.out.agents.insert(id.clone());
        }
        let open: Vec<_> = agent.open.iter().copied().collect();
        for key in open {
            self.with_run(key.run, turn, |run, around| {
                run.presence_changed(key.step, key.item, online, around);
            });
        }
    }

    fn raise_alarm(&mut self, id: &AgentId, what: &str, turn: &mut Turn<'_>) {
        if let Some(agent) = self.agents.get_mut(id) {
            if agent.alarm.as_deref() == Some(what) {
                return;
            }
            agent.alarm = Some(what.to_owned());
        }
        turn.out.others.push(Effect::Alarm(format!("agent {id}: {what}")));
        self.record(turn, "agent.alarm", id.to_string(), &json!({"alarm": what}));
    }
}
