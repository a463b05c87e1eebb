//! `run timeline`: who did what to a run, and when, in words.
//!
//! It is the audit of the run, which has a record of every decision, hand-over, end, answer and piece of evidence, in the order of
//! the log. The items of a step are named by their hosts.

use std::collections::BTreeMap;

use proto::v1::{AuditRecord, ListAuditRequest, ListTasksRequest};
use serde_json::{Value, json};

use super::run::get;
use crate::{
    client::Client,
    error::Result,
    exit_codes,
    output::{Output, moment, tell},
    shape::parsed,
};

/// Records, or tasks, in one answer.
const PAGE: u32 = 500;
/// Tasks whose hosts are asked for; those behind are named by their numbers.
const TASKS_NAMED: usize = 20_000;
/// Hosts in one line.
const HOSTS_SHOWN: usize = 3;

/// Where the items of the steps are.
type Places = BTreeMap<(String, u64), String>;

pub async fn timeline(out: Output, client: &mut Client, id: String, after: u64, limit: u32) -> Result<u8> {
    // Says that there is no such run, and in which words its name is in the audit.
    let run = get(client, id).await?;
    let (records, next_after) = records(client, &run.id, after, limit).await?;
    if after == 0 && records.first().is_some_and(|first| first.verb != "run.start") {
        tell(
            "note: the cluster no longer has the oldest records of this run; it keeps the newest of all runs",
        );
    }
    let places = places(client, &run.id).await?;
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            let detail = parsed(&record.detail_json);
            let step = detail["step"].as_str().unwrap_or_default().to_owned();
            vec![
                record.sequence.to_string(),
                moment(record.at_ms),
                who(record),
                step,
                what(&record.verb, &detail, &places),
            ]
        })
        .collect();
    let items: Vec<Value> = records
        .iter()
        .zip(&rows)
        .map(|(record, row)| {
            let detail = parsed(&record.detail_json);
            json!({
                "sequence": record.sequence, "at_ms": record.at_ms, "who": row[2], "step": row[3],
                "verb": record.verb, "what": row[4], "hosts": hosts(&detail, &places), "detail": detail,
            })
        })
        .collect();
    out.list(&["sequence", "at", "who", "step", "what"], &rows, &items)?;
    if next_after > 0 {
        tell(format_args!("there is more: go on with --after {next_after}"));
    }
    Ok(exit_codes::OK)
}

/// Up to so many records, and behind which to go on; 0: those are all.
async fn records(
    client: &mut Client,
    run_id: &str,
    mut after: u64,
    limit: u32,
) -> Result<(Vec<AuditRecord>, u64)> {
    let mut records = Vec::new();
    loop {
        let request = ListAuditRequest {
            after_sequence: after,
            limit: PAGE.min(limit - records.len() as u32),
            run_id: run_id.to_owned(),
        };
        let page = client
            .call(async |mut api| api.list_audit(request.clone()).await)
            .await?;
        records.extend(page.records);
        if page.next_after <= after {
            return Ok((records, 0));
        }
        after = page.next_after;
        if records.len() as u32 >= limit {
            return Ok((records, after));
        }
    }
}

async fn places(client: &mut Client, run_id: &str) -> Result<Places> {
    let mut places = Places::new();
    let mut after = 0;
    loop {
        let request = ListTasksRequest {
            run_id: run_id.to_owned(),
            step: String::new(),
            after,
            limit: PAGE,
        };
        let page = client
            .call(async |mut api| api.list_tasks(request.clone()).await)
            .await?;
        for task in page.tasks {
            let place = match (task.agent_id.as_str(), parsed(&task.item_json)) {
                ("", Value::Null) => continue,
                ("", Value::String(text)) => text,
                ("", value) => value.to_string(),
                (agent, _) => agent.to_owned(),
            };
            places.insert((task.step, u64::from(task.item)), place);
        }
        if page.next_after <= after || places.len() >= TASKS_NAMED {
            return Ok(places);
        }
        after = page.next_after;
    }
}

/// A person by his name; the leader and the nodes as what they are.
fn who(record: &AuditRecord) -> String {
    let actor = record.actor.as_str();
    actor.strip_prefix("operator/").unwrap_or(actor).to_owned()
}

/// The hosts that a record is about, the first of them, as long as they are known.
fn hosts(detail: &Value, places: &Places) -> Vec<String> {
    let step = detail["step"].as_str().unwrap_or_default();
    let name = |item: u64| {
        let known = places.get(&(step.to_owned(), item)).cloned();
        known.unwrap_or_else(|| item.to_string())
    };
    ranges(detail)
        .into_iter()
        .flat_map(|(first, last)| first..=last)
        .take(HOSTS_SHOWN)
        .map(name)
        .collect()
}

/// The items that a record is about, as inclusive ranges.
fn ranges(detail: &Value) -> Vec<(u64, u64)> {
    let range = |range: &Value| Some((range[0].as_u64()?, range[1].as_u64()?));
    match (&detail["items"], detail["item"].as_u64()) {
        (Value::Array(all), _) => all
            .iter()
            .filter_map(range)
            .filter(|(first, last)| first <= last)
            .collect(),
        (_, Some(item)) => vec![(item, item)],
        _ => Vec::new(),
    }
}

/// What happened, in words. A verb that this version does not know is shown as it is, with its detail.
fn what(verb: &str, detail: &Value, places: &Places) -> String {
    let text = |name: &str| match &detail[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        value => value.to_string(),
    };
    let because = |name: &str| match text(name) {
        why if why.is_empty() => String::new(),
        why => format!(": {why}"),
    };
    let attempt = match detail["attempt"].as_u64() {
        None | Some(0 | 1) => String::new(),
        Some(n) => format!(" (attempt {n})"),
    };
    let total: u64 = ranges(detail)
        .iter()
        .map(|(first, last)| (last - first).saturating_add(1))
        .fold(0, u64::saturating_add);
    let shown = hosts(detail, places);
    let on = match total - shown.len() as u64 {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    };
    let approval = text("approval");
    match verb {
        "run.start" => {
            let parent = &detail["parent"];
            let of = match (parent["run"].as_str(), parent["step"].as_str()) {
                (Some(run), Some(step)) => format!(" for step {step} of run {run}"),
                _ => String::new(),
            };
            format!("started {} v{}{of}", text("playbook"), text("version"))
        }
        "run.cancel" => format!("cancelled the run{}", because("reason")),
        "run.pause" => format!("paused the run{}", because("reason")),
        "run.resume" => "let the run go on".to_owned(),
        "run.retry" => "had tried again what did not succeed".to_owned(),
        "run.rollback" => format!("rolled the run back{}", because("reason")),
        "run.timeout" => "the run took longer than its limit".to_owned(),
        "run.end" => format!("the run ended: {}{}", text("status"), because("reason")),
        "step.end" => format!("the step ended: {}{}", text("status"), because("reason")),
        "task.gate" => format!("{on}: held back until people approve"),
        "task.release" => format!("{on}: let go by people"),
        "task.assign" => format!("{on}: handed out{attempt}"),
        "task.start" => format!("{on}: begun{attempt}"),
        "task.stop" => format!("{on}: told to stop{attempt}{}", because("reason")),
        "task.retry" => format!("{on}: to be tried again{attempt}{}", because("code")),
        "task.end" => format!("{on}: {}{attempt}{}", text("status"), because("code")),
        "task.run" => format!(
            "{on}: began run {}, {} v{}{attempt}",
            text("run"),
            text("playbook"),
            text("version")
        ),
        "task.late" => format!("{on}: said {} when it was over{attempt}", text("said")),
        "task.settle" => format!("{on}: settled as {}{}", text("as"), because("reason")),
        "approval.ask" => format!("approval {approval} asked of {}", names(&detail["roles"])),
        "approval.escalate" => format!("approval {approval} asked of {} too", names(&detail["roles"])),
        "approval.approve" => format!("approved {approval}{}", because("reason")),
        "approval.deny" => format!("denied {approval}{}", because("reason")),
        "approval.answer" => format!("answered {approval}{}", because("reason")),
        "approval.end" => format!("approval {approval} ended: {}", text("status")),
        "evidence.custody" => format!("{} kept from {}: {}", text("sha256"), text("agent"), text("path")),
        "refused" => format!("was refused {}{}", text("verb"), because("why")),
        verb => format!("{verb} {detail}"),
    }
}

fn names(list: &Value) -> String {
    let names = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_said_in_words_and_hosts_by_their_names() {
        let places: Places = (0..4)
            .map(|item| (("cut".to_owned(), item), format!("web-{item}")))
            .collect();
        let say = |verb: &str, detail: Value| what(verb, &detail, &places);
        assert_eq!(
            say(
                "task.end",
                json!({"step": "cut", "items": [[0, 1], [3, 3]], "attempt": 2, "status": "failed", "code": "busy"})
            ),
            "web-0, web-1, web-3: failed (attempt 2): busy"
        );
        assert_eq!(
            say(
                "task.assign",
                json!({"step": "cut", "items": [[2, 9999]], "attempt": 1})
            ),
            "web-2, web-3, 4 and 9995 more: handed out"
        );
        assert_eq!(
            say(
                "approval.ask",
                json!({"approval": 3, "roles": ["lead", "ciso"], "step": "cut"})
            ),
            "approval 3 asked of lead, ciso"
        );
        assert_eq!(say("run.new", json!({"a": 1})), "run.new {\"a\":1}");
    }

    #[test]
    fn a_detail_that_is_not_as_expected_is_no_harm() {
        let none = Places::new();
        for detail in [
            Value::Null,
            json!({"items": [[5, 1], [0, u64::MAX], "x", [1]], "attempt": "x"}),
            json!({"items": 7, "item": -1}),
        ] {
            for verb in ["task.end", "evidence.custody", "approval.ask", "run.start"] {
                assert!(!what(verb, &detail, &none).is_empty());
            }
        }
    }
}
