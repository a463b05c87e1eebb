//! `run cancel|rollback|pause|resume|retry|settle`.

use proto::v1::{
    CancelRunRequest, ControlRunReply, PauseRunRequest, ResumeRunRequest, RetryRunRequest, SettleTaskRequest,
};
use serde_json::json;

use super::rollback;
use crate::{
    args::Control,
    client::{Api, Client, request_id},
    error::Result,
    exit_codes,
    output::{Output, clean},
};

pub async fn control(out: Output, client: &mut Client, command: Control) -> Result<u8> {
    let request_id = request_id();
    let (id, status) = match command {
        Control::Rollback { id, reason, confirm } => {
            return rollback::rollback(out, client, id, reason, confirm).await;
        }
        Control::Cancel {
            id,
            reason,
            rollback: true,
            confirm,
        } => return rollback::cancel(out, client, id, reason, confirm).await,
        Control::Cancel { id, reason, .. } => {
            let request = CancelRunRequest {
                run_id: id.clone(),
                reason,
                request_id,
                rollback: false,
            };
            let call = async |mut api: Api| api.cancel_run(request.clone()).await;
            (id, client.call(call).await?.status)
        }
        Control::Pause { id, reason } => {
            let request = PauseRunRequest {
                run_id: id.clone(),
                reason,
                request_id,
            };
            let call = async |mut api: Api| api.pause_run(request.clone()).await;
            (id, status(client.call(call).await?))
        }
        Control::Resume { id } => {
            let request = ResumeRunRequest {
                run_id: id.clone(),
                request_id,
            };
            let call = async |mut api: Api| api.resume_run(request.clone()).await;
            (id, status(client.call(call).await?))
        }
        Control::Retry { id, step, unknown } => {
            let request = RetryRunRequest {
                run_id: id.clone(),
                step,
                unknown,
                request_id,
            };
            let call = async |mut api: Api| api.retry_run(request.clone()).await;
            (id, status(client.call(call).await?))
        }
        Control::Settle {
            id,
            task: (step, item),
            outcome,
            reason,
        } => {
            let request = SettleTaskRequest {
                run_id: id.clone(),
                step,
                item,
                outcome: outcome.as_str().to_owned(),
                reason,
                request_id,
            };
            let call = async |mut api: Api| api.settle_task(request.clone()).await;
            (id, status(client.call(call).await?))
        }
    };
    out.one(
        &format!("Run {} is {}.\n", clean(&id), clean(&status)),
        &json!({ "id": id, "status": status }),
    )?;
    Ok(exit_codes::OK)
}

fn status(reply: ControlRunReply) -> String {
    reply.status
}
