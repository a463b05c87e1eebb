//! What operators do to runs that were started: cancel, pause, resume, retry, settle.

use engine::Command;
use engine::id::{RunId, TaskKey};
use proto::v1;

use super::{Operators, not_found, parse};
use crate::api::error::ApiError;

impl Operators {
    pub(super) async fn cancel_run(
        &self,
        operator: String,
        asked: v1::CancelRunRequest,
    ) -> Result<v1::CancelRunReply, ApiError> {
        let run: RunId = parse("run_id", &asked.run_id)?;
        let reason = asked.reason;
        let command = match asked.rollback {
            true => Command::CancelAndRollBack { run, reason },
            false => Command::CancelRun { run, reason },
        };
        self.submit(operator, &asked.request_id, command).await?;
        Ok(v1::CancelRunReply {
            status: self.word(run).await?,
        })
    }

    pub(super) async fn pause_run(
        &self,
        operator: String,
        asked: v1::PauseRunRequest,
    ) -> Result<v1::ControlRunReply, ApiError> {
        let run: RunId = parse("run_id", &asked.run_id)?;
        let command = Command::PauseRun {
            run,
            reason: asked.reason,
        };
        self.control_run(operator, &asked.request_id, run, command).await
    }

    pub(super) async fn resume_run(
        &self,
        operator: String,
        asked: v1::ResumeRunRequest,
    ) -> Result<v1::ControlRunReply, ApiError> {
        let run: RunId = parse("run_id", &asked.run_id)?;
        let command = Command::ResumeRun { run };
        self.control_run(operator, &asked.request_id, run, command).await
    }

    pub(super) async fn retry_run(
        &self,
        operator: String,
        asked: v1::RetryRunRequest,
    ) -> Result<v1::ControlRunReply, ApiError> {
        let run: RunId = parse("run_id", &asked.run_id)?;
        let step = match asked.step.as_str() {
            "" => None,
            name => Some(self.step_number(run, name).await?),
        };
        let command = Command::RetryRun {
            run,
            step,
            unknown: asked.unknown,
        };
        self.control_run(operator, &asked.request_id, run, command).await
    }

    pub(super) async fn settle_task(
        &self,
        operator: String,
        asked: v1::SettleTaskRequest,
    ) -> Result<v1::ControlRunReply, ApiError> {
        let run: RunId = parse("run_id", &asked.run_id)?;
        let succeeded = match asked.outcome.as_str() {
            "succeeded" => true,
            "failed" => false,
            other => {
                return Err(ApiError::Invalid {
                    field: "outcome",
                    problem: format!("{other:?} is neither succeeded nor failed"),
                });
            }
        };
        let step = self.step_number(run, &asked.step).await?;
        let task = TaskKey {
            run,
            step,
            item: asked.item,
        };
        let command = Command::SettleTask {
            task,
            succeeded,
            reason: asked.reason,
        };
        self.control_run(operator, &asked.request_id, run, command).await
    }

    pub(super) async fn control_run(
        &self,
        operator: String,
        request_id: &str,
        run: RunId,
        command: Command,
    ) -> Result<v1::ControlRunReply, ApiError> {
        self.submit(operator, request_id, command).await?;
        Ok(v1::ControlRunReply {
            status: self.word(run).await?,
        })
    }

    /// The run's status, as people read it.
    async fn word(&self, run: RunId) -> Result<String, ApiError> {
        let word = |state: &engine::State| state.run(&run).map(|run| run.word().to_owned());
        self.control
            .query(word)
            .await?
            .ok_or_else(|| not_found("run", run))
    }

    async fn step_number(&self, run: RunId, name: &str) -> Result<u16, ApiError> {
        let number = |state: &engine::State| {
            state.run(&run).ok_or_else(|| not_found("run", run))?;
            state
                .step_number(&run, name)
                .ok_or_else(|| not_found("step", name))
        };
        self.control.query(number).await?
    }
}
