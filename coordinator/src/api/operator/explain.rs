//! Why a run, a step or a task is as it is: the sentence is the engine's, over the state as it is at the call.

use engine::explain::{About, explain, find_task, status};
use engine::id::RunId;
use proto::v1;

use super::{Operators, not_found, parse};
use crate::api::error::ApiError;
use crate::clock;

impl Operators {
    pub(super) async fn explain_run(
        &self,
        _: String,
        asked: v1::ExplainRunRequest,
    ) -> Result<v1::ExplainRunReply, ApiError> {
        let id: RunId = parse("run_id", &asked.run_id)?;
        if asked.step.is_empty() && !asked.task.is_empty() {
            return Err(ApiError::Invalid {
                field: "step",
                problem: "a task is one of a step: name that too".to_owned(),
            });
        }
        let reply = self.control.query(|state| {
            let run = state.run(&id).ok_or_else(|| not_found("run", id))?;
            let about = match (asked.step.as_str(), asked.task.as_str()) {
                ("", _) => About::Run,
                (step, task) => {
                    let step = run.step_number(step).ok_or_else(|| not_found("step", step))?;
                    match task {
                        "" => About::Step(step),
                        task => find_task(run, step, task).map_err(|why| ApiError::Invalid {
                            field: "task",
                            problem: why.to_string(),
                        })?,
                    }
                }
            };
            // This node's clock, or the log's where that is ahead: as when it will be acted on.
            let now = clock::now().max(state.now());
            let (step, item) = match about {
                About::Run => (None, None),
                About::Step(step) => (Some(step), None),
                About::Task(step, item) => (Some(step), Some(item)),
            };
            Ok(v1::ExplainRunReply {
                sentence: explain(state, run, about, now),
                status: status(run, about).to_owned(),
                step: step.map_or(String::new(), |step| run.declared(step).name.clone()),
                item,
                at_ms: now.0,
            })
        });
        reply.await?
    }
}
