//! Runs begin, are cancelled, and leave evidence.

use playbook::canonical::sorted;
use serde_json::json;

use crate::command::{Actor, Custody, HandedIn, StartRun};
use crate::effect::Reply;
use crate::error::Refusal;
use crate::id::{AgentId, Digest, RunId};
use crate::limits::{
    ACTIVE_RUNS_MAX, CUSTODY_RECORDS_MAX, HANDED_IN_TEXT_BYTES_MAX, MESSAGE_BYTES_MAX, RUN_TARGETS_MAX,
    STEPS_MAX,
};
use crate::plan::hash::Frozen;
use crate::state::children::{Cascade, Parent};
use crate::state::enrolment::{not_found, within};
use crate::state::outbox::Around;
use crate::state::runs::{Run, RunStatus, SetOff};
use crate::state::steps::{StepState, StepStatus};
use crate::state::timers::Timer;
use crate::state::undo::Undo;
use crate::state::{State, Turn};
use std::collections::BTreeSet;
use std::sync::Arc;

impl State {
    pub(super) fn start_run(&mut self, start: &StartRun, turn: &mut Turn<'_>) -> Result<Reply, Refusal> {
        let requester = match turn.actor {
            Actor::Operator(id) => id.clone(),
            other => other.to_string(),
        };
        self.begin_run(start, requester, None, turn)
    }

    /// Starts a run on somebody's behalf; `parent`: what began it, if that is a step of another one.
    pub(super) fn begin_run(
        &mut self,
        start: &StartRun,
        requester: String,
        parent: Option<Parent>,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        if self.runs.get(&start.run).is_some() {
            return Err(Refusal::Exists {
                what: "run".into(),
                name: start.run.to_string(),
            });
        }
        let manifest = &start.manifest;
        if manifest.format > playbook::manifest::FORMAT {
            return Err(Refusal::Invalid(format!(
                "the manifest has format {}, this cluster reads up to {}: upgrade it",
                manifest.format,
                playbook::manifest::FORMAT
            )));
        }
        if manifest.sha256().parse::<Digest>().ok() != Some(start.manifest_hash) {
            return Err(Refusal::Invalid(
                "the manifest is not the one that its hash names".into(),
            ));
        }
        super::gates::check_expiry(manifest)?;
        let steps = usize::from(manifest.step_count());
        within("steps", steps, STEPS_MAX)?;
        within("active runs", self.runs.active().len() + 1, ACTIVE_RUNS_MAX)?;
        let hosts = start.targets.values().map(Vec::len).sum();
        within("targets of one run", hosts, RUN_TARGETS_MAX)?;
        if let Some(limit) = manifest.limits.max_targets {
            within("targets of the playbook", hosts, limit as usize)?;
        }
        for id in start.targets.values().flatten() {
            match self.agents.get(id) {
                None => return Err(not_found("agent", id.as_str())),
                Some(agent) if agent.revoked.is_some() => {
                    return Err(Refusal::State(format!(
                        "agent {id} is denied: it cannot be a target"
                    )));
                }
                Some(_) => {}
            }
        }
        for (name, set) in &manifest.targets {
            match start.targets.get(name).map(Vec::as_slice) {
                None => {
                    return Err(Refusal::Invalid(format!(
                        "the target set {name} was not resolved"
                    )));
                }
                Some([]) if !set.allow_empty => {
                    return Err(Refusal::Invalid(format!("the target set {name} is empty")));
                }
                Some(hosts) => {
                    if let Some(max) = set.max {
                        within(
                            &format!("hosts of the target set {name}"),
                            hosts.len(),
                            max as usize,
                        )?;
                    }
                }
            }
        }
        let plan_hash = self.plan_hash(start)?;
        let line = parent.map_or_else(BTreeSet::new, |parent| self.line_of(parent.attempt.task.run));
        self.check_claims(manifest, &start.claims, &line)?;
        let deadline = manifest.limits.timeout_ms.map(|ms| self.now.plus_ms(ms));
        let counts: Vec<_> = start
            .targets
            .iter()
            .map(|(name, hosts)| (name, hosts.len()))
            .collect();
        let mut detail = json!({
            "playbook": manifest.playbook, "version": manifest.version,
            "manifest": start.manifest_hash, "targets": counts,
        });
        if let Some(plan) = plan_hash {
            detail["plan"] = json!(plan);
        }
        if let Some(parent) = parent {
            let attempt = parent.attempt;
            let above = self.known_run(attempt.task.run)?;
            detail["parent"] = json!({
                "run": above.id, "step": above.declared(attempt.task.step).name, "item": attempt.task.item,
                "attempt": attempt.attempt,
            });
        }
        let firing = start
            .fired
            .as_ref()
            .and_then(|fired| self.triggers.firing(fired.firing));
        let trigger = firing.map(|firing| {
            Box::new(SetOff {
                by: firing.trigger.clone(),
                at: firing.at,
                sha256: firing.sha256,
                text: firing.event.clone(),
            })
        });
        if let Some(trigger) = &trigger {
            detail["trigger"] = json!({"id": trigger.by.to_string(), "sha256": trigger.sha256});
        }
        let manifest = self.runs.store_manifest(start.manifest_hash, manifest);
        self.runs.insert(Run {
            id: start.run,
            manifest,
            manifest_hash: start.manifest_hash,
            plan_hash,
            requester,
            inputs: Arc::new(sorted(&start.inputs)),
            targets: start.targets.clone(),
            config: Arc::new(sorted(&start.config)),
            event: Arc::new(sorted(&start.event)),
            group: Arc::new(sorted(&start.group)),
            status: RunStatus::Running,
            failed: false,
            reason: String::new(),
            created_at: self.now,
            ended_at: None,
            deadline,
            outputs: None,
            revision: self.applied_index,
            steps: vec![StepState::new(); steps],
            undo: Undo::default(),
            trimmed: false,
            paused_at: None,
            reopened_at: 0,
            parent,
            claims: start.claims.clone(),
            trigger,
        });
        self.timers.change(Timer::Run(start.run), None, deadline);
        turn.out.runs.insert(start.run);
        self.record(turn, "run.start", start.run.to_string(), &detail);
        Ok(Reply::RunStarted { run: start.run })
    }

    /// The hash of what would run, over what the command carries and what the state says of its targets.
    ///
    /// # Errors
    /// When it is not the one that was expected.
    fn plan_hash(&self, start: &StartRun) -> Result<Option<Digest>, Refusal> {
        let Some(foretold) = &start.foretold else {
            return Ok(None);
        };
        if foretold.steps.len() != usize::from(start.manifest.step_count()) {
            return Err(Refusal::Invalid(
                "what is foretold is not of the manifest's steps".into(),
            ));
        }
        let frozen = Frozen {
            manifest: &start.manifest,
            manifest_hash: start.manifest_hash,
            inputs: &start.inputs,
            config: &start.config,
            targets: &start.targets,
            steps: &foretold.steps,
            event: &start.event,
            group: &start.group,
        };
        let labels = |id: &AgentId| self.agents.get(id).map(|agent| &agent.labels);
        let found = frozen.hash(labels, self.agents.len());
        match foretold.expected {
            Some(expected) if expected != found => Err(Refusal::OtherPlan {
                expected: expected.to_string(),
                found: found.to_string(),
            }),
            _ => Ok(Some(found)),
        }
    }

    pub(super) fn cancel_run(
        &mut self,
        id: RunId,
        reason: &str,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        if self.cancellable(id, reason)?.status == RunStatus::Running {
            self.with_run(id, turn, |run, around| run.cancel(reason, around));
            self.record(turn, "run.cancel", id.to_string(), &json!({"reason": reason}));
        }
        Ok(Reply::Done)
    }

    /// A run that people may cancel, or have.
    pub(super) fn cancellable(&self, id: RunId, reason: &str) -> Result<&Run, Refusal> {
        within("bytes of the reason", reason.len(), MESSAGE_BYTES_MAX)?;
        let run = self.known_run(id)?;
        if run.status.is_end() {
            let mut all = self.children(id).filter(|child| !child.status.is_end());
            let goes_on = all.next().map_or(String::new(), |child| {
                format!("; run {}, which it began, goes on: cancel that one", child.id)
            });
            return Err(Refusal::State(format!(
                "run {id} is over: {}{goes_on}",
                run.status.as_str()
            )));
        }
        if run.status == RunStatus::RollingBack {
            return Err(Refusal::State(format!(
                "run {id} is being rolled back: it can be paused, not cancelled"
            )));
        }
        Ok(run)
    }

    pub(super) fn take_custody(&mut self, custody: &Custody, turn: &mut Turn<'_>) -> Result<Reply, Refusal> {
        let key = custody.task;
        let run = self
            .runs
            .get(&key.run)
            .ok_or_else(|| not_found("run", &key.run.to_string()))?;
        let step = usize::from(key.step);
        let of_task = run.trimmed || run.agent_of(key.step, key.item) == Some(&custody.agent);
        if step >= run.steps.len() || !of_task {
            return Err(Refusal::Invalid(
                "the evidence is of a task that the agent does not have".into(),
            ));
        }
        within("custody records", self.evidence.len() + 1, CUSTODY_RECORDS_MAX)?;
        let name = run.declared(key.step).name.clone();
        if self.evidence.take(custody) {
            turn.out.runs.insert(key.run);
            let index = self.applied_index;
            if let Some(run) = self.runs.get_mut(&key.run) {
                run.revision = index;
            }
            let detail = json!({
                "sha256": custody.sha256, "size_bytes": custody.size_bytes, "agent": custody.agent,
                "path": String::from_utf8_lossy(&custody.path), "step": name, "item": key.item,
                "nodes": custody.nodes,
            });
            self.record(turn, "evidence.custody", key.run.to_string(), &detail);
        }
        Ok(Reply::Done)
    }

    pub(super) fn take_handed_in(
        &mut self,
        handed_in: &HandedIn,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        for (what, text) in [
            ("operator", &handed_in.operator),
            ("submission", &handed_in.submission),
            ("media type", &handed_in.media),
            ("file name", &handed_in.file),
        ] {
            if text.is_empty() || text.len() > HANDED_IN_TEXT_BYTES_MAX {
                return Err(Refusal::Invalid(format!(
                    "the {what} of what is handed in has {} bytes: it has 1 to {HANDED_IN_TEXT_BYTES_MAX}",
                    text.len()
                )));
            }
        }
        within("custody records", self.evidence.len() + 1, CUSTODY_RECORDS_MAX)?;
        if self.evidence.take_handed_in(handed_in) {
            let detail = json!({
                "sha256": handed_in.sha256, "size_bytes": handed_in.size_bytes, "operator": handed_in.operator,
                "media": handed_in.media, "file": handed_in.file, "nodes": handed_in.nodes,
            });
            self.record(turn, "evidence.handed_in", handed_in.submission.clone(), &detail);
        }
        Ok(Reply::Done)
    }
}

impl Run {
    /// Nothing more is begun; what was begun is stopped; `finally` still runs.
    pub(super) fn cancel(&mut self, reason: &str, around: &mut Around<'_>) {
        if self.status != RunStatus::Running {
            return;
        }
        self.resume(around);
        self.status = RunStatus::Cancelling;
        reason.clone_into(&mut self.reason);
        let steps = self.manifest.steps.len() as u16;
        for step in 0..steps {
            let state = &mut self.steps[usize::from(step)];
            match state.status {
                StepStatus::Waiting => {
                    self.end_step(step, StepStatus::Cancelled, "the run was cancelled", around);
                }
                StepStatus::Running => self.stop_step(step, "cancelled", around),
                _ => {}
            }
        }
        around.out.cascade.push(Cascade::Cancel(self.id));
        self.touch(around);
    }

    /// No further task of the step is made or begun.
    pub(super) fn stop_step(&mut self, step: u16, code: &str, around: &mut Around<'_>) {
        let cancelling = code == "cancelled";
        self.drop_approvals(step, "the run was cancelled", around);
        self.stop_waiting(step, "the run was cancelled", around);
        let state = &mut self.steps[usize::from(step)];
        state.stopped = true;
        for item in 0..state.tasks.len() as u32 {
            // A step that failed lets what was begun go on to its end; a cancelled run stops it.
            let begun = self.task(step, item).status.in_flight();
            if cancelling || !begun {
                self.cancel_task(step, item, code, around);
            }
        }
    }

    /// The end of a step.
    pub(super) fn end_step(&mut self, step: u16, status: StepStatus, reason: &str, around: &mut Around<'_>) {
        let state = &mut self.steps[usize::from(step)];
        if let Some(due_at) = state.due_at.filter(|_| state.is_timed()) {
            around
                .timers
                .change(Timer::Step(self.id, step), Some(due_at), None);
            state.due = true;
        }
        state.status = status;
        reason.clone_into(&mut state.reason);
        state.ended_at = Some(around.now);
        state.free.clear();
        self.step_has_moved(step);
    }
}
