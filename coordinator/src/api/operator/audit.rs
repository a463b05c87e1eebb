//! The audit, page by page, with its head.

use engine::id::RunId;
use proto::v1;

use super::{Operators, fill, page, parse};
use crate::api::convert;
use crate::api::error::ApiError;

impl Operators {
    pub(super) async fn list_audit(
        &self,
        _: String,
        asked: v1::ListAuditRequest,
    ) -> Result<v1::ListAuditReply, ApiError> {
        let run: Option<RunId> = match asked.run_id.as_str() {
            "" => None,
            id => Some(parse("run_id", id)?),
        };
        let limit = page(asked.limit);
        let reply = self.control.query(|state| {
            // One more than fits shows whether there is more.
            let records: Box<dyn Iterator<Item = _>> = match run {
                None => Box::new(state.audit_after(asked.after_sequence, limit + 1)),
                Some(run) => Box::new(state.audit_of_run(run, asked.after_sequence, limit + 1)),
            };
            let (records, is_more) = fill(records.map(convert::audit), limit, |record| {
                256 + record.detail_json.len()
            });
            v1::ListAuditReply {
                next_after: records.last().filter(|_| is_more).map_or(0, |last| last.sequence),
                records,
                head_hash: state.audit_head().to_string(),
            }
        });
        Ok(reply.await?)
    }
}
