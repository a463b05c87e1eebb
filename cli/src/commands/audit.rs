//! `audit list`.

use proto::v1::ListAuditRequest;

use crate::{
    args::Audit,
    client::Client,
    error::Result,
    exit_codes,
    output::{Output, moment},
    shape,
};

/// Records in one answer.
const PAGE: u32 = 500;

pub async fn run(out: Output, client: &mut Client, command: Audit) -> Result<u8> {
    let Audit::List {
        mut after,
        limit,
        run,
    } = command;
    let mut records = Vec::new();
    while (records.len() as u32) < limit {
        let request = ListAuditRequest {
            after_sequence: after,
            limit: PAGE.min(limit - records.len() as u32),
            run_id: run.clone(),
        };
        let page = client
            .call(async |mut api| api.list_audit(request.clone()).await)
            .await?;
        records.extend(page.records);
        // A page may be empty and yet not be the last, where records are filtered by run.
        if page.next_after <= after {
            break;
        }
        after = page.next_after;
    }
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            vec![
                record.sequence.to_string(),
                moment(record.at_ms),
                record.actor.clone(),
                record.verb.clone(),
                record.subject.clone(),
                record.detail_json.clone(),
            ]
        })
        .collect();
    let items: Vec<_> = records.iter().map(shape::audit).collect();
    out.list(
        &["sequence", "at", "who", "what", "whom", "detail"],
        &rows,
        &items,
    )?;
    Ok(exit_codes::OK)
}
