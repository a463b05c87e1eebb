//! What a rollback would do, and the rollback, which does that or nothing.

use engine::id::RunId;
use engine::planner::{UndoTask, UndoView, undo_plan};
use engine::{Command, Refusal};
use playbook::canonical::canonical_json;
use proto::v1;
use serde_json::{Value, json};
use sha2::Digest as _;

use super::{Operators, PAGE_MAX, fill, not_found, parse};
use crate::api::error::ApiError;

impl Operators {
    pub(super) async fn plan_rollback(
        &self,
        _: String,
        asked: v1::PlanRollbackRequest,
    ) -> Result<v1::PlanRollbackReply, ApiError> {
        let run: RunId = parse("run_id", &asked.run_id)?;
        let plan = |state: &engine::State| {
            let run = state.run(&run)?;
            Some((undo_plan(state, run), run.revision))
        };
        let plan = self.control.query(plan).await?;
        let (plan, revision) = plan.ok_or_else(|| not_found("run", run))?;
        let plan_sha256 = hash_of(&plan);
        // The first tasks of all; how many there are is told of each step.
        let all = (0..)
            .zip(&plan)
            .flat_map(|(number, undo)| undo.tasks.iter().map(move |task| (number, task)));
        let (shown, _) = fill(all, PAGE_MAX, |(_, task)| {
            128 + task.parameters.as_ref().map_or(0, String::len)
        });
        let mut tasks: Vec<Vec<v1::UndoTask>> = plan.iter().map(|_| Vec::new()).collect();
        for (number, task) in shown {
            tasks[number].push(undo_task(task));
        }
        let undo = |(undo, tasks): (&UndoView, Vec<v1::UndoTask>)| v1::Undo {
            step: undo.step.clone(),
            action: undo.action.clone().unwrap_or_default(),
            tasks_total: undo.tasks.len() as u32,
            roles: undo.roles.clone(),
            tasks,
        };
        Ok(v1::PlanRollbackReply {
            undo: plan.iter().zip(tasks).map(undo).collect(),
            plan_sha256,
            revision,
        })
    }

    pub(super) async fn rollback_run(
        &self,
        operator: String,
        asked: v1::RollbackRunRequest,
    ) -> Result<v1::ControlRunReply, ApiError> {
        let run: RunId = parse("run_id", &asked.run_id)?;
        let request = super::request(&asked.request_id)?;
        let plan = |state: &engine::State| {
            // What was answered gets its answer again, though the plan is another by now.
            let again = request.is_some_and(|request| state.answer_to(&request).is_some());
            let found = state.run(&run).filter(|run| !again && run.status.is_end());
            found.map(|run| undo_plan(state, run))
        };
        if let Some(plan) = self.control.query(plan).await? {
            if plan.iter().all(|undo| undo.action.is_none()) {
                return Err(Refusal::State(nothing_to_undo(run, &plan)).into());
            }
            if hash_of(&plan) != asked.plan_sha256 {
                let why = format!("a rollback of run {run} would not do what plan_sha256 names: look again");
                return Err(Refusal::State(why).into());
            }
        }
        let command = Command::RollbackRun {
            run,
            reason: asked.reason,
            revision: asked.revision,
        };
        self.control_run(operator, &asked.request_id, run, command).await
    }
}

fn nothing_to_undo(run: RunId, plan: &[UndoView]) -> String {
    let left: Vec<&str> = plan.iter().map(|undo| undo.step.as_str()).collect();
    match left.is_empty() {
        true => format!("nothing of run {run} is to be undone"),
        false => format!(
            "nothing of run {run} can be undone: the catalogue has no inverse of {}, and the playbook no `compensate`",
            left.join(", ")
        ),
    }
}

/// SHA-256 over the canonical JSON of all that would be done, and of what would be left.
fn hash_of(plan: &[UndoView]) -> String {
    let task = |task: &UndoTask| {
        let what = match &task.parameters {
            Ok(parameters) => json!(parameters),
            Err(why) => json!({"code": why.code, "message": why.message}),
        };
        json!([task.item, task.agent, what, task.unknown])
    };
    let steps = plan.iter().map(|undo| {
        let tasks: Vec<Value> = undo.tasks.iter().map(task).collect();
        json!([undo.step, undo.action, undo.roles, tasks])
    });
    let text = canonical_json(&Value::Array(steps.collect()));
    hex::encode(sha2::Sha256::digest(text))
}

fn undo_task(task: &UndoTask) -> v1::UndoTask {
    let (parameters_json, problem) = match &task.parameters {
        Ok(parameters) => (parameters.clone(), String::new()),
        Err(why) => (String::new(), format!("{}: {}", why.code, why.message)),
    };
    v1::UndoTask {
        item: task.item,
        agent_id: task.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        parameters_json,
        problem,
        unknown: task.unknown,
    }
}
