//! `playbook plan`: what a run would do, for people who must answer for it.

use proto::v1::{self, PlanRunRequest};
use serde_json::{Map, Value};

use super::playbook::{Checked, check};
use crate::{
    args::PlanArgs,
    client::Client,
    error::{CliError, Result},
    exit_codes,
    output::{Output, clean},
    shape,
};

/// Hosts that are named one by one; `-o json` has all.
const NAMED_MAX: usize = 20;

/// What would run: a text that compiles, and its inputs.
pub struct Asked {
    pub yaml: String,
    pub inputs_json: String,
}

pub async fn plan(out: Output, client: &mut Client, args: &PlanArgs) -> Result<u8> {
    let asked = asked(client, args).await?;
    let plan = draw(client, &asked).await?;
    out.one(&in_words(out, &plan), &shape::plan(&plan))?;
    Ok(exit_codes::OK)
}

/// Reads what is to run.
///
/// # Errors
/// All problems of the text; inputs that are not understood.
pub async fn asked(client: &mut Client, args: &PlanArgs) -> Result<Asked> {
    let yaml = super::published::text(client, &args.playbook).await?;
    let checked = check(&args.playbook, &yaml)?;
    let inputs_json = Value::Object(inputs(args, &checked)?).to_string();
    Ok(Asked { yaml, inputs_json })
}

/// Asks the cluster what a run would do now.
///
/// # Errors
/// Why there can be no such run.
pub async fn draw(client: &mut Client, asked: &Asked) -> Result<v1::Plan> {
    let request = PlanRunRequest {
        playbook_yaml: asked.yaml.clone(),
        inputs_json: asked.inputs_json.clone(),
    };
    client
        .call(async |mut api| api.plan_run(request.clone()).await)
        .await
}

/// The inputs of the file, then those of the command line over them. An input given several times is a list.
fn inputs(args: &PlanArgs, checked: &Checked) -> Result<Map<String, Value>> {
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

/// Everything that somebody must know before it runs, escaped. Ends in the plan's hash.
pub fn in_words(out: Output, plan: &v1::Plan) -> String {
    let mut text = clean(&format!(
        "Plan of {} v{}: {} of {} hosts",
        plan.playbook,
        plan.version,
        plan.hosts.len(),
        plan.fleet
    ));
    text.push_str("\n\n");
    if !plan.targets.is_empty() {
        text.push_str(&targets(out, plan));
        text.push('\n');
    }
    text.push_str(&steps(out, plan));
    let mut say = |line: String| {
        text.push_str(&clean(&line));
        text.push('\n');
    };
    parameters(plan, &mut say);
    people(plan, &mut say);
    undo(plan, &mut say);
    for (what, hosts) in [
        ("Offline", of(plan, |host| !host.online)),
        ("Critical", of(plan, |host| host.critical)),
    ] {
        if !hosts.is_empty() {
            say(String::new());
            say(format!("{what}: {}", named(&hosts)));
        }
    }
    if !plan.warnings.is_empty() {
        say(String::new());
    }
    for warning in &plan.warnings {
        say(format!("warning: {warning}"));
    }
    say(String::new());
    say(format!("Plan {}", plan.sha256));
    text
}

fn targets(out: Output, plan: &v1::Plan) -> String {
    let rows: Vec<Vec<String>> = plan
        .targets
        .iter()
        .map(|set| {
            let hosts: Vec<&v1::PlannedHost> = shape::hosts_of(plan, set).collect();
            let count =
                |holds: fn(&v1::PlannedHost) -> bool| match hosts.iter().filter(|host| holds(host)).count() {
                    0 => String::new(),
                    many => many.to_string(),
                };
            let ids: Vec<&str> = hosts.iter().map(|host| host.agent_id.as_str()).collect();
            vec![
                set.name.clone(),
                ids.len().to_string(),
                count(|host| !host.online),
                count(|host| host.critical),
                named(&ids),
            ]
        })
        .collect();
    out.table(&["targets", "hosts", "offline", "critical", "which"], &rows)
}

fn steps(out: Output, plan: &v1::Plan) -> String {
    let rows: Vec<Vec<String>> = plan
        .steps
        .iter()
        .map(|step| {
            let name = match step.finally {
                true => format!("{} (finally)", step.name),
                false => step.name.clone(),
            };
            let does = match (step.kind.as_str(), step.action.as_str()) {
                ("do" | "notify", action) => action.to_owned(),
                (kind, "") => kind.to_owned(),
                (kind, action) => format!("{kind} {action}"),
            };
            let undo = match step.undo.as_str() {
                "compensate" | "inverse" => step.undo_action.clone(),
                "runs" => "rollback of its runs".to_owned(),
                "impossible" => "cannot be undone".to_owned(),
                _ => String::new(),
            };
            vec![
                name,
                does,
                place(step),
                step.impact.clone(),
                gate_in_brief(step),
                undo,
            ]
        })
        .collect();
    out.table(&["step", "does", "on", "impact", "waits for", "undone by"], &rows)
}

fn place(step: &v1::PlannedStep) -> String {
    match (step.target_set.as_str(), step.runs_on.as_str(), step.tasks) {
        ("", place, _) => place.to_owned(),
        (set, _, Some(1)) => format!("{set}: 1 host"),
        (set, _, Some(tasks)) => format!("{set}: {tasks} hosts"),
        (set, _, None) => format!("some of {set}"),
    }
}

fn gate_in_brief(step: &v1::PlannedStep) -> String {
    match &step.gate {
        None => String::new(),
        Some(gate) if gate.waits == Some(0) => "nobody, as things are".to_owned(),
        Some(gate) => format!("{} of {}", gate.quorum, gate.roles.join(" or ")),
    }
}

fn parameters(plan: &v1::Plan, say: &mut impl FnMut(String)) {
    for step in &plan.steps {
        let with = shape::parsed(&step.parameters_json);
        let with: Vec<_> = with.as_object().into_iter().flatten().collect();
        if with.is_empty() && step.when.is_empty() {
            continue;
        }
        say(String::new());
        say(format!("{}:", step.name));
        if !step.when.is_empty() {
            say(format!("  only when {}", step.when));
        }
        for (name, value) in with {
            say(format!("  {name}: {value}"));
        }
    }
}

fn people(plan: &v1::Plan, say: &mut impl FnMut(String)) {
    for step in &plan.steps {
        let Some(gate) = &step.gate else { continue };
        say(String::new());
        let tasks = match (gate.waits, gate.of) {
            _ if gate.question => "asks people".to_owned(),
            (Some(waits), Some(of)) => format!("{waits} of {of} tasks wait as things are"),
            _ => "some of its tasks may wait".to_owned(),
        };
        let which = match gate.when.as_str() {
            "" => String::new(),
            when => format!(" (those for which {when})"),
        };
        say(format!("{}: {tasks}{which}.", step.name));
        let who = match gate.quorum {
            1 => "One person".to_owned(),
            many => format!("{many} different people"),
        };
        let but = match gate.not_requester {
            true => ", but not who starts the run",
            false => "",
        };
        let then = match gate.on_expiry.as_str() {
            "escalate" => format!("{} are asked as well", gate.escalate_to.join(" and ")),
            _ if gate.question => "the step fails".to_owned(),
            _ => "they are not done".to_owned(),
        };
        say(format!(
            "  {who} with the role {} must answer within {}{but}; then {then}.",
            gate.roles.join(" or "),
            catalogue::format_duration(gate.expires_ms)
        ));
        if !gate.why.is_empty() {
            say(format!("  More than the playbook asks for: {}.", gate.why));
        }
        let can = match gate.people.is_empty() {
            true => "nobody".to_owned(),
            false => gate.people.join(", "),
        };
        let later = match gate.people_later.is_empty() {
            true => String::new(),
            false => format!("; later also {}", gate.people_later.join(", ")),
        };
        say(format!("  Who can: {can}{later}."));
    }
}

fn undo(plan: &v1::Plan, say: &mut impl FnMut(String)) {
    let never: Vec<String> = plan
        .steps
        .iter()
        .filter(|step| step.undo == "impossible")
        .map(|step| format!("{} ({})", step.name, step.action))
        .collect();
    if !never.is_empty() {
        say(String::new());
        say(format!("Cannot be undone: {}", never.join(", ")));
    }
}

fn of(plan: &v1::Plan, holds: impl Fn(&v1::PlannedHost) -> bool) -> Vec<&str> {
    plan.hosts
        .iter()
        .filter(|host| holds(host))
        .map(|host| host.agent_id.as_str())
        .collect()
}

fn named(ids: &[&str]) -> String {
    let first = ids.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    match ids.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
