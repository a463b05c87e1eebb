//! `run start|list|show|watch`. (What is done to a run that was started is in `control`.)

use proto::v1::{self, GetRunRequest, ListRunsRequest, ListTasksRequest, StartRunRequest};
use serde_json::{Map, Value, json};

use super::{
    confirm::{ask, can_ask},
    control::control,
    playbook::{Checked, check},
    watch::{counts_text, watch},
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
        Run::Control(command) => control(out, client, command).await,
    }
}

async fn start(out: Output, client: &mut Client, args: Start) -> Result<u8> {
    let yaml = super::published::text(client, &args.playbook).await?;
    let checked = check(&args.playbook, &yaml)?;
    let inputs = inputs(&args, &checked)?;
    if !args.confirm {
        confirm(client, &checked, &inputs).await?;
    }
    let request = StartRunRequest {
        playbook_yaml: yaml,
        inputs_json: Value::Object(inputs).to_string(),
        request_id: request_id(),
    };
    let reply = client
        .call(async |mut api| api.start_run(request.clone()).await)
        .await?;
    for warning in &reply.warnings {
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
        "run_id": reply.run_id, "manifest_sha256": reply.manifest_sha256,
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
async fn confirm(client: &mut Client, checked: &Checked, inputs: &Map<String, Value>) -> Result<()> {
    if checked.above_observe.is_empty() {
        return Ok(());
    }
    let refusal = |why: &str| {
        CliError::new(
            exit_codes::REFUSED,
            format!(
                "this run does more than observe ({}), and {why}",
                checked.above_observe.join(", ")
            ),
        )
        .with_hint("give --confirm if it is meant")
    };
    if !can_ask() {
        return Err(refusal("there is no terminal to confirm it on"));
    }
    let agents = super::agent::all(client, false).await?;
    let hosts = checked.count_hosts(inputs, &agents)?;
    let question = format!(
        "This run does more than observe ({}) on {hosts} of {} hosts.\nType the number of hosts to go on: ",
        checked.above_observe.join(", "),
        agents.len()
    );
    match ask(&question)? == hosts.to_string() {
        true => Ok(()),
        false => Err(refusal("another number was typed")),
    }
}

/// The inputs of the file, then those of the command line over them. An input given several times is a list.
fn inputs(args: &Start, checked: &Checked) -> Result<Map<String, Value>> {
    let mut inputs = match &args.inputs_file {
        None => Map::new(),
        Some(path) => {
            let text = CliError::read("read", path)?;
            serde_json::from_str(&text).map_err(|error| {
                CliError::invalid(format!(
                    "{} is not a JSON object of inputs: {error}",
                    path.display()
                ))
                .with_hint("write {\"name\": value, ...}")
            })?
        }
    };
    let mut given: Vec<(String, Vec<Value>)> = Vec::new();
    for text in &args.inputs {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| CliError::new(exit_codes::USAGE, format!("`{text}` is not NAME=VALUE")))?;
        let value = checked.input_value(name, value);
        match given.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value),
            None => given.push((name.to_owned(), vec![value])),
        }
    }
    for (name, mut values) in given {
        let wrapped = values[0].is_array() || !checked.takes_list(&name);
        let value = if values.len() == 1 && wrapped {
            values.remove(0)
        } else {
            Value::Array(values)
        };
        inputs.insert(name, value);
    }
    Ok(inputs)
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
                run.reason.clone(),
            ]
        })
        .collect();
    let items: Vec<_> = runs.iter().map(shape::run).collect();
    out.list(
        &["id", "playbook", "status", "by", "started", "ended", "reason"],
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
        ("started", moment(run.created_at_ms)),
        ("ended", moment(run.ended_at_ms)),
        ("manifest", run.manifest_sha256.clone()),
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
