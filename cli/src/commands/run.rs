//! `run start|list|show|watch`. (What is done to a run that was started is in `control`, why it is as it is in `why`, and what
//! happened in `timeline`.)

use proto::v1::{self, GetRunRequest, ListRunsRequest, ListTasksRequest, StartRunRequest};
use serde_json::json;

use super::{
    confirm::{ask, can_ask},
    control::control,
    plan, timeline,
    watch::{counts_text, watch},
    why,
};
use crate::{
    args::{Run, Start},
    client::{Client, request_id},
    error::{CliError, Result},
    exit_codes,
    output::{Format, Output, clean, moment, tell},
    shape,
};

/// Runs or tasks in one answer.
const PAGE: u32 = 200;

pub async fn run(out: Output, client: &mut Client, command: Run) -> Result<u8> {
    match command {
        Run::Start(args) => start(out, client, args).await,
        Run::List { limit, active } => list(out, client, limit, active).await,
        Run::Show { id, tasks } => show(out, client, id, tasks).await,
        Run::Watch { id } => watch(out, client, &id).await,
        Run::Timeline { id, after, limit } => timeline::timeline(out, client, id, after, limit).await,
        Run::Explain { id, step, task } => why::explain(out, client, id, step, task).await,
        Run::Replay { id } => why::replay(out, client, id).await,
        Run::Control(command) => control(out, client, command).await,
    }
}

async fn start(out: Output, client: &mut Client, args: Start) -> Result<u8> {
    let asked = plan::asked(client, &args.asked).await?;
    let plan = plan::draw(client, &asked).await?;
    let asks = !args.confirm && !plan.above_observe.is_empty();
    let shown = asks || out.format == Format::Table;
    if shown {
        tell(plan::in_words(out, &plan).trim_end());
    }
    if let Some(expected) = args.plan.filter(|expected| *expected != plan.sha256) {
        let what = format!(
            "the plan has changed: what would run now is {}, and {expected} was asked for",
            plan.sha256
        );
        return Err(CliError::new(exit_codes::REFUSED, what).with_hint(
            "compare it with what was approved; if it is right, have this one approved and give its hash",
        ));
    }
    if asks {
        confirm(&plan)?;
    }
    let request = StartRunRequest {
        playbook_yaml: asked.yaml,
        inputs_json: asked.inputs_json,
        request_id: request_id(),
        // What was shown is what runs, also where nobody named its hash.
        plan_sha256: plan.sha256,
    };
    let reply = client
        .call(async |mut api| api.start_run(request.clone()).await)
        .await?;
    for warning in reply.warnings.iter().filter(|_| !shown) {
        tell(format_args!("warning: {}", clean(warning)));
    }
    let hosts: Vec<String> = reply
        .targets
        .iter()
        .map(|set| format!("{}: {} hosts", set.name, set.agent_ids.len()))
        .collect();
    let text = format!(
        "Started run {}  {}\n",
        clean(&reply.run_id),
        clean(&hosts.join(", "))
    );
    let value = json!({
        "run_id": reply.run_id, "manifest_sha256": reply.manifest_sha256, "plan_sha256": reply.plan_sha256,
        "targets": shape::targets(&reply.targets), "warnings": reply.warnings,
    });
    // With --watch one document is promised by `json`: the run as it ended.
    if !(args.watch && out.format == Format::Json) {
        out.one(&text, &value)?;
    }
    if args.watch {
        watch(out, client, &reply.run_id).await
    } else {
        Ok(exit_codes::OK)
    }
}

/// Asks before a run that does more than observe: the number of hosts must be typed, so that nobody says yes
/// to a fleet by habit. Where nobody can be asked, `--confirm` is the answer.
fn confirm(plan: &v1::Plan) -> Result<()> {
    let what = plan.above_observe.join(", ");
    let refusal = |why: &str| {
        CliError::new(
            exit_codes::REFUSED,
            format!("this run does more than observe ({what}), and {why}"),
        )
        .with_hint(
            "read the plan; give --confirm if it is meant, and --plan HASH so that nothing else is started",
        )
    };
    if !can_ask() {
        return Err(refusal("there is no terminal to confirm it on"));
    }
    let (answer, places) = match plan.hosts.iter().filter(|host| host.touched).count() {
        0 => ("yes".to_owned(), "on no host.\nType yes".to_owned()),
        touched => {
            let places = format!("on {touched} of {} hosts.\nType the number of hosts", plan.fleet);
            (touched.to_string(), places)
        }
    };
    let question = format!("This run does more than observe ({what}) {places} to go on: ");
    match ask(&question)? == answer {
        true => Ok(()),
        false => Err(refusal("something else was typed")),
    }
}

async fn list(out: Output, client: &mut Client, limit: u32, active_only: bool) -> Result<u8> {
    let mut runs = Vec::new();
    let mut before_id = String::new();
    while (runs.len() as u32) < limit {
        let request = ListRunsRequest {
            limit: PAGE.min(limit - runs.len() as u32),
            before_id,
            active_only,
        };
        let page = client
            .call(async |mut api| api.list_runs(request.clone()).await)
            .await?;
        runs.extend(page.runs);
        if page.next_before_id.is_empty() {
            break;
        }
        before_id = page.next_before_id;
    }
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            vec![
                run.id.clone(),
                format!("{} v{}", run.playbook, run.version),
                run.status.clone(),
                run.requester.clone(),
                moment(run.created_at_ms),
                moment(run.ended_at_ms),
                run.parent
                    .as_ref()
                    .map(|parent| parent.run_id.clone())
                    .unwrap_or_default(),
                run.reason.clone(),
            ]
        })
        .collect();
    let items: Vec<_> = runs.iter().map(shape::run).collect();
    out.list(
        &[
            "id", "playbook", "status", "by", "started", "ended", "begun by", "reason",
        ],
        &rows,
        &items,
    )?;
    Ok(exit_codes::OK)
}

/// The run as it stands.
///
/// # Errors
/// When there is no such run, or no coordinator answers.
pub async fn get(client: &mut Client, id: String) -> Result<v1::Run> {
    let request = GetRunRequest { id };
    client
        .call(async |mut api| api.get_run(request.clone()).await)
        .await
}

async fn show(out: Output, client: &mut Client, id: String, with_tasks: bool) -> Result<u8> {
    let run = get(client, id.clone()).await?;
    let mut tasks = Vec::new();
    if with_tasks {
        for step in &run.steps {
            tasks.extend(tasks_of(client, &id, &step.name).await?);
        }
    }
    let mut text = out.fields(&[
        ("run", run.id.clone()),
        ("playbook", format!("{} v{}", run.playbook, run.version)),
        ("status", run.status.clone()),
        ("reason", run.reason.clone()),
        ("rollback", run.rollback.clone()),
        ("not undone", run.not_undone.join(", ")),
        ("by", run.requester.clone()),
        ("begun by", run.parent.as_ref().map(begun_by).unwrap_or_default()),
        (
            "set off by",
            run.trigger.as_ref().map(set_off_by).unwrap_or_default(),
        ),
        ("event", run.event_json.clone()),
        ("group", run.group_json.clone()),
        ("started", moment(run.created_at_ms)),
        ("ended", moment(run.ended_at_ms)),
        ("manifest", run.manifest_sha256.clone()),
        ("plan", run.plan_sha256.clone()),
        ("inputs", run.inputs_json.clone()),
        ("outputs", run.outputs_json.clone()),
    ]);
    for set in &run.targets {
        text.push_str(&out.fields(&[("targets", format!("{}: {}", set.name, set.agent_ids.join(", ")))]));
    }
    let rows: Vec<Vec<String>> = run
        .steps
        .iter()
        .map(|step| {
            let name = match (step.finally, step.about.as_str()) {
                (true, _) => format!("{} (finally)", step.name),
                (false, "") => step.name.clone(),
                (false, about) => format!("{} (about {about})", step.name),
            };
            let what = if step.action.is_empty() {
                step.kind.clone()
            } else {
                step.action.clone()
            };
            vec![
                name,
                what,
                step.status.clone(),
                counts_text(step).trim().to_owned(),
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&out.table(&["step", "does", "status", "tasks"], &rows));
    for approval in &run.waits {
        text.push_str(&clean(&super::approval::line(approval)));
        text.push('\n');
    }
    if !run.children.is_empty() {
        let rows: Vec<Vec<String>> = run.children.iter().map(child_row).collect();
        text.push('\n');
        text.push_str(&out.table(
            &["began run", "playbook", "status", "step", "item", "attempt"],
            &rows,
        ));
        let more = run.children_total as usize - run.children.len().min(run.children_total as usize);
        if more > 0 {
            text.push_str(&format!("and {more} more\n"));
        }
    }
    if with_tasks {
        let rows: Vec<Vec<String>> = tasks.iter().map(task_row).collect();
        text.push('\n');
        text.push_str(&out.table(&["step", "item", "agent", "status", "attempts", "error"], &rows));
    }
    let mut value = shape::run(&run);
    if with_tasks {
        value["tasks"] = tasks.iter().map(shape::task).collect();
    }
    out.one(&text, &value)?;
    Ok(exit_codes::OK)
}

/// The trigger, and the name of what it went by.
fn set_off_by(trigger: &v1::SetOff) -> String {
    format!(
        "trigger {}, by what has the SHA-256 {}",
        trigger.trigger_id, trigger.sha256
    )
}

/// The step of another run that began it.
fn begun_by(parent: &v1::ParentRun) -> String {
    format!(
        "run {}, step {}, item {}, attempt {}",
        parent.run_id, parent.step, parent.item, parent.attempt
    )
}

fn child_row(child: &v1::ChildRun) -> Vec<String> {
    vec![
        child.run_id.clone(),
        format!("{} v{}", child.playbook, child.version),
        child.status.clone(),
        child.step.clone(),
        child.item.to_string(),
        child.attempt.to_string(),
    ]
}

fn task_row(task: &v1::Task) -> Vec<String> {
    let error = match task.error_code.as_str() {
        "" => String::new(),
        code => format!("{code}: {}", task.error_message),
    };
    vec![
        task.step.clone(),
        task.item.to_string(),
        task.agent_id.clone(),
        task.status.clone(),
        task.attempts.to_string(),
        error,
    ]
}

async fn tasks_of(client: &mut Client, run_id: &str, step: &str) -> Result<Vec<v1::Task>> {
    let mut tasks = Vec::new();
    let mut after = 0;
    loop {
        let request = ListTasksRequest {
            run_id: run_id.to_owned(),
            step: step.to_owned(),
            after,
            limit: PAGE,
        };
        let page = client
            .call(async |mut api| api.list_tasks(request.clone()).await)
            .await?;
        tasks.extend(page.tasks);
        if page.next_after <= after {
            return Ok(tasks);
        }
        after = page.next_after;
    }
}
