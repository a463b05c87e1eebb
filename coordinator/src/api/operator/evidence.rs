//! Evidence, as operators list, read and verify it.

use engine::id::{AgentId, Digest, RunId};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use proto::v1;
use tonic::Status;

use super::{Operators, parse};
use crate::api::convert;
use crate::api::error::ApiError;

/// Records in one answer; ask by run or by agent for the others.
const RECORDS_MAX: usize = 5_000;

impl Operators {
    pub(super) async fn list_evidence(
        &self,
        _: String,
        asked: v1::ListEvidenceRequest,
    ) -> Result<v1::ListEvidenceReply, ApiError> {
        let run: Option<RunId> = match asked.run_id.as_str() {
            "" => None,
            id => Some(parse("run_id", id)?),
        };
        let agent: Option<AgentId> = match asked.agent_id.as_str() {
            "" => None,
            id => Some(parse("agent_id", id)?),
        };
        let records = self
            .control
            .query(|state| {
                let records: Box<dyn Iterator<Item = _>> = match (&run, &agent) {
                    (Some(run), _) => Box::new(state.evidence_of_run(run)),
                    (None, Some(agent)) => Box::new(state.evidence_of_agent(agent)),
                    (None, None) => Box::new(state.evidence()),
                };
                let wanted =
                    records.filter(|record| agent.as_ref().is_none_or(|agent| record.agent == *agent));
                let collected = wanted.map(|record| convert::evidence(state, record));
                // What people handed in is of no run and no host.
                let all = run.is_none() && agent.is_none();
                let handed_in = state.handed_in().filter(|_| all);
                let handed_in = handed_in.map(|record| convert::handed_in(state, record));
                handed_in.chain(collected).take(RECORDS_MAX).collect()
            })
            .await?;
        Ok(v1::ListEvidenceReply { records })
    }

    pub(super) async fn get_evidence(
        &self,
        operator: String,
        asked: v1::GetEvidenceRequest,
    ) -> Result<BoxStream<'static, Result<v1::EvidenceData, Status>>, ApiError> {
        let digest: Digest = parse("sha256", &asked.sha256)?;
        let content = self.evidence.read(digest, asked.offset_bytes).await?;
        tracing::info!(operator, %digest, "an operator reads evidence");
        let size_bytes = content.size_bytes;
        let first = v1::EvidenceData {
            data: bytes::Bytes::new(),
            size_bytes,
        };
        let data = content
            .data
            .map_ok(move |data| v1::EvidenceData { data, size_bytes });
        let data = data.map_err(|error| Status::from(ApiError::from(error)));
        // The size comes at once, also of what is empty.
        Ok(futures::stream::once(async { Ok(first) }).chain(data).boxed())
    }

    pub(super) async fn verify_evidence(
        &self,
        _: String,
        asked: v1::VerifyEvidenceRequest,
    ) -> Result<v1::VerifyEvidenceReply, ApiError> {
        let checks = self.evidence.verify(parse("sha256", &asked.sha256)?).await?;
        let ok = !checks.is_empty() && checks.iter().all(|check| check.verified);
        let copies = self.control.local(|state| {
            let copy = |check: crate::evidence::read::CopyCheck| v1::EvidenceCopy {
                node_id: state
                    .node(check.node)
                    .map_or_else(|| check.node.0.to_string(), |node| node.name.clone()),
                present: check.present,
                verified: check.verified,
                problem: check.problem.unwrap_or_default(),
            };
            checks.into_iter().map(copy).collect()
        });
        Ok(v1::VerifyEvidenceReply { copies, ok })
    }
}
