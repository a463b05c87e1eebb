//! `run rollback` and `run cancel --rollback`: what would be undone is shown first, and confirmed.

use proto::v1::{
    CancelRunRequest, PlanRollbackReply, PlanRollbackRequest, RollbackRunRequest, Undo, UndoTask,
};
use serde_json::{Value, json};

use super::confirm::{ask, can_ask};
use crate::{
    client::{Api, Client, request_id},
    error::{CliError, Result},
    exit_codes,
    output::{Format, Output, clean},
    shape,
};

/// Undoes what a run did that is over: what was shown, or nothing.
pub async fn rollback(
    out: Output,
    client: &mut Client,
    id: String,
    reason: String,
    confirm: bool,
) -> Result<u8> {
    let plan = plan(client, &id).await?;
    agree(out, &id, &plan, "", confirm)?;
    let request = RollbackRunRequest {
        run_id: id.clone(),
        reason,
        plan_sha256: plan.plan_sha256.clone(),
        revision: plan.revision,
        request_id: request_id(),
    };
    let call = async |mut api: Api| api.rollback_run(request.clone()).await;
    let status = client.call(call).await?.status;
    done(out, &id, &status, &plan)
}

/// Cancels a run, and undoes what it has done and what still ends well until then.
pub async fn cancel(
    out: Output,
    client: &mut Client,
    id: String,
    reason: String,
    confirm: bool,
) -> Result<u8> {
    let plan = plan(client, &id).await?;
    let more = "What goes on and ends well before it is stopped is undone too.\n";
    agree(out, &id, &plan, more, confirm)?;
    let request = CancelRunRequest {
        run_id: id.clone(),
        reason,
        request_id: request_id(),
        rollback: true,
    };
    let call = async |mut api: Api| api.cancel_run(request.clone()).await;
    let status = client.call(call).await?.status;
    done(out, &id, &status, &plan)
}

async fn plan(client: &mut Client, id: &str) -> Result<PlanRollbackReply> {
    let request = PlanRollbackRequest {
        run_id: id.to_owned(),
    };
    let call = async |mut api: Api| api.plan_rollback(request.clone()).await;
    client.call(call).await
}

/// Shows the plan, and asks: the number of tasks must be typed. Where nobody can be asked, `--confirm` is the answer.
fn agree(out: Output, id: &str, plan: &PlanRollbackReply, more: &str, confirm: bool) -> Result<()> {
    let undone = plan.undo.iter().filter(|undo| !undo.action.is_empty());
    let tasks: u32 = undone.map(|undo| undo.tasks_total).sum();
    // One document is promised by `json`: the plan alone where it is not carried out.
    if out.format == Format::Table || (!confirm && !can_ask()) {
        out.one(&(shown(out, plan) + more), &document(id, "", plan))?;
    }
    if confirm {
        return Ok(());
    }
    let refusal = |why: &str| {
        let what = format!("this rollback does {tasks} tasks, and {why}");
        CliError::new(exit_codes::REFUSED, what).with_hint("give --confirm if it is meant")
    };
    if !can_ask() {
        return Err(refusal("there is no terminal to confirm it on"));
    }
    let question = format!("This rollback does {tasks} tasks.\nType the number of tasks to go on: ");
    match ask(&question)? == tasks.to_string() {
        true => Ok(()),
        false => Err(refusal("another number was typed")),
    }
}

fn done(out: Output, id: &str, status: &str, plan: &PlanRollbackReply) -> Result<u8> {
    let text = format!("Run {} is {}.\n", clean(id), clean(status));
    out.one(&text, &document(id, status, plan))?;
    Ok(exit_codes::OK)
}

/// The plan for people: a line for each task, in the order in which they are done.
fn shown(out: Output, plan: &PlanRollbackReply) -> String {
    let mut rows = Vec::new();
    for undo in &plan.undo {
        let by = match undo.action.as_str() {
            "" => "nothing",
            action => action,
        };
        for task in &undo.tasks {
            let step = format!("{}/{}", undo.step, task.item);
            rows.push(vec![step, by.to_owned(), task.agent_id.clone(), with(undo, task)]);
        }
        let more = undo.tasks_total as usize - undo.tasks.len().min(undo.tasks_total as usize);
        if more > 0 {
            let more = format!("and {more} tasks more");
            rows.push(vec![undo.step.clone(), by.to_owned(), String::new(), more]);
        }
    }
    match rows.is_empty() {
        true => "Nothing of it is to be undone.\n".to_owned(),
        false => out.table(&["undoes", "by", "agent", "with"], &rows),
    }
}

/// With what a task is undone, or why it is not, and what else to know of it.
fn with(undo: &Undo, task: &UndoTask) -> String {
    let mut text = match (task.problem.as_str(), undo.action.as_str()) {
        ("", _) => task.parameters_json.clone(),
        (problem, "") => problem.to_owned(),
        (problem, _) => format!("will fail: {problem}"),
    };
    if task.unknown {
        text.push_str(" (it may not have been done)");
    }
    if !undo.roles.is_empty() {
        text.push_str(&format!(
            " (waits for {}, where the step did)",
            undo.roles.join(" or ")
        ));
    }
    text
}

fn document(id: &str, status: &str, plan: &PlanRollbackReply) -> Value {
    let undo: Vec<Value> = plan.undo.iter().map(shape::undo).collect();
    json!({"id": id, "status": status, "plan_sha256": plan.plan_sha256, "undo": undo})
}
