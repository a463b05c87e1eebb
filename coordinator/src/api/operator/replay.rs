//! A run, decided again from this node's log.

use engine::State;
use engine::id::RunId;
use engine::replay::{ReplayError, Replayed, replay};
use proto::v1;

use super::plans::apart;
use super::{Operators, not_found, parse};
use crate::api::error::ApiError;
use crate::control::{QueryError, SubmitError};
use crate::raft::{HistoryError, ReadError};

impl Operators {
    pub(super) async fn replay_run(
        &self,
        _: String,
        asked: v1::ReplayRunRequest,
    ) -> Result<v1::ReplayRunReply, ApiError> {
        let id: RunId = parse("run_id", &asked.run_id)?;
        // It takes a processor, and a second copy of the state.
        let _turn = self
            .replaying
            .acquire()
            .await
            .map_err(|closed| ApiError::Internal(format!("no run is replayed: {closed}")))?;
        let (run, upto) = self
            .control
            .query(|state| (state.run(&id).cloned(), state.applied_index()))
            .await?;
        let run = run.ok_or_else(|| not_found("run", id))?;
        let mut history = self.control.raft().history().await.map_err(|error| match error {
            HistoryError::Read(ReadError::Halted) => ApiError::Query(QueryError::Halted),
            HistoryError::Read(ReadError::NoLeader | ReadError::Busy) => ApiError::Submit(SubmitError::Busy),
            HistoryError::Storage(error) => ApiError::Internal(error.to_string()),
        })?;
        history.entries.retain(|(index, _)| *index <= upto);
        apart(move || {
            let base = State::decode(&history.base)
                .map_err(|error| ApiError::Internal(format!("the checkpoint: {error}")))?;
            answer(replay(base, &history.entries, &run))
        })
        .await
    }
}

fn answer(found: Result<Replayed, ReplayError>) -> Result<v1::ReplayRunReply, ApiError> {
    match found {
        Ok(found) => Ok(v1::ReplayRunReply {
            first_index: found.first,
            last_index: found.last,
            drawn: found.drawn as u64,
            decisions: found.decisions as u64,
            difference: String::new(),
        }),
        Err(error @ (ReplayError::Decided { .. } | ReplayError::Different { .. })) => {
            Ok(v1::ReplayRunReply {
                difference: error.to_string(),
                ..v1::ReplayRunReply::default()
            })
        }
        Err(error @ ReplayError::TooOld { .. }) => {
            Err(ApiError::Refused(engine::Refusal::State(error.to_string())))
        }
        Err(error @ ReplayError::Unreadable { .. }) => Err(ApiError::Internal(error.to_string())),
    }
}
