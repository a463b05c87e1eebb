//! `run explain` and `run replay`: why a run, a step or a task is as it is, and whether that follows from its log.

use proto::v1::{ExplainRunRequest, ReplayRunRequest};
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

pub async fn replay(out: Output, client: &mut Client, id: String) -> Result<u8> {
    let request = ReplayRunRequest { run_id: id.clone() };
    let reply = client
        .call(async |mut api| api.replay_run(request.clone()).await)
        .await?;
    let same = reply.difference.is_empty();
    let text = match same {
        true => format!(
            "run {}: {} decisions, drawn {} times between entries {} and {} of the log, came out the same, and so did the run\n",
            clean(&id),
            reply.decisions,
            reply.drawn,
            reply.first_index,
            reply.last_index
        ),
        false => format!("run {}: {}\n", clean(&id), clean(&reply.difference)),
    };
    out.one(
        &text,
        &json!({
            "id": id, "same": same, "difference": reply.difference, "first_index": reply.first_index,
            "last_index": reply.last_index, "drawn": reply.drawn, "decisions": reply.decisions,
        }),
    )?;
    Ok(if same { exit_codes::OK } else { exit_codes::FAILED })
}
