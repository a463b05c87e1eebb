//! `run explain`: why a run, a step or a task is as it is.

use proto::v1::ExplainRunRequest;
use serde_json::json;

use crate::{
    client::Client,
    error::Result,
    exit_codes,
    output::{Output, clean},
};

pub async fn explain(out: Output, client: &mut Client, id: String, step: String, task: String) -> Result<u8> {
    let request = ExplainRunRequest {
        run_id: id.clone(),
        step,
        task,
    };
    let reply = client
        .call(async |mut api| api.explain_run(request.clone()).await)
        .await?;
    out.one(
        &format!("{}\n", clean(&reply.sentence)),
        &json!({
            "id": id, "step": reply.step, "item": reply.item, "status": reply.status,
            "sentence": reply.sentence, "at_ms": reply.at_ms,
        }),
    )?;
    Ok(exit_codes::OK)
}
