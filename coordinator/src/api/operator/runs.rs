//! Runs: planned, then committed.

use engine::id::{Digest, RunId};
use engine::{Command, Reply};
use proto::v1;

use super::{Operators, fill, not_found, page, parse};
use crate::api::convert::{self, Detail};
use crate::api::error::ApiError;

impl Operators {
    pub(super) async fn start_run(
        &self,
        operator: String,
        asked: v1::StartRunRequest,
    ) -> Result<v1::StartRunReply, ApiError> {
        // Results, cancels and releases are always taken (R69).
        if !self.control.raft().has_room_for_runs() {
            return Err(self.control.disk_full(self.control.node()).into());
        }
        let expected: Option<Digest> = match asked.plan_sha256.as_str() {
            "" => None,
            hash => Some(parse("plan_sha256", hash)?),
        };
        let drawn = self
            .draw(
                operator.clone(),
                asked.playbook_yaml,
                asked.inputs_json,
                super::request(&asked.request_id)?,
            )
            .await?;
        let mut warnings = drawn.compile_warnings;
        warnings.extend(drawn.plan.warnings.iter().cloned());
        let start = drawn.plan.start(RunId(uuid::Uuid::now_v7()), expected);
        let command = Command::StartRun(Box::new(start));
        let run = match self.submit(operator, &asked.request_id, command).await? {
            Reply::RunStarted { run } => run,
            other => return Err(ApiError::Internal(format!("a run was started with {other:?}"))),
        };
        // A repeated request is answered with the first one's run, whatever was resolved this time.
        let started = self
            .control
            .query(|state| {
                state
                    .run(&run)
                    .map(|run| (run.manifest_hash, run.plan_hash, convert::targets(run)))
            })
            .await?;
        let (manifest_hash, plan_hash, targets) = started.ok_or_else(|| not_found("run", run))?;
        Ok(v1::StartRunReply {
            run_id: run.to_string(),
            manifest_sha256: manifest_hash.to_string(),
            targets,
            warnings,
            plan_sha256: convert::hash(plan_hash),
        })
    }

    pub(super) async fn list_runs(
        &self,
        _: String,
        asked: v1::ListRunsRequest,
    ) -> Result<v1::ListRunsReply, ApiError> {
        let before: Option<RunId> = match asked.before_id.as_str() {
            "" => None,
            id => Some(parse("before_id", id)?),
        };
        let (runs, is_more) = self
            .control
            .query(|state| {
                let runs: Box<dyn Iterator<Item = _>> = match &before {
                    None => Box::new(state.runs_newest_first()),
                    Some(before) => Box::new(state.runs_before(before)),
                };
                let runs = runs.filter(|run| !asked.active_only || !run.status.is_end());
                let runs = runs.map(|run| convert::run(state, run, Detail::Listed));
                fill(runs, page(asked.limit), |run| 512 + 256 * run.steps.len())
            })
            .await?;
        let last = runs.last().filter(|_| is_more);
        Ok(v1::ListRunsReply {
            next_before_id: last.map(|run| run.id.clone()).unwrap_or_default(),
            runs,
        })
    }

    pub(super) async fn get_run(&self, _: String, asked: v1::GetRunRequest) -> Result<v1::Run, ApiError> {
        let id: RunId = parse("id", &asked.id)?;
        let found = self
            .control
            .query(|state| state.run(&id).map(|run| convert::run(state, run, Detail::Full)))
            .await?;
        found.ok_or_else(|| not_found("run", id))
    }

    pub(super) async fn list_tasks(
        &self,
        _: String,
        asked: v1::ListTasksRequest,
    ) -> Result<v1::ListTasksReply, ApiError> {
        let id: RunId = parse("run_id", &asked.run_id)?;
        let reply = self.control.query(|state| {
            let run = state.run(&id).ok_or_else(|| not_found("run", id))?;
            let steps = match asked.step.as_str() {
                "" => 0..run.steps.len() as u16,
                name => {
                    let number = run.step_number(name).ok_or_else(|| not_found("step", name))?;
                    number..number + 1
                }
            };
            // `after` counts tasks over all the steps that are asked for.
            let tasks = steps
                .flat_map(|step| state.tasks(&id, step, 0))
                .skip(asked.after as usize);
            let weigh = |task: &v1::Task| {
                let runs = 40 * task.run_ids.len();
                256 + runs + task.output_json.len() + task.error_message.len() + task.item_json.len()
            };
            let (tasks, is_more) = fill(
                tasks.map(|task| convert::task(state, run, &task)),
                page(asked.limit),
                weigh,
            );
            let next_after = if is_more {
                asked.after + tasks.len() as u32
            } else {
                0
            };
            Ok(v1::ListTasksReply { tasks, next_after })
        });
        reply.await?
    }
}
