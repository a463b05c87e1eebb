//! `approval list|show|approve|deny|answer|watch`: what waits for people, in words, and their answers.

use std::time::Duration;

use proto::v1::{
    self, AnswerApprovalRequest, GetApprovalRequest, ListApprovalsRequest, WatchApprovalsRequest,
};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    args::{Approval, Say},
    client::{Client, is_transient, request_id},
    error::{CliError, Result},
    exit_codes,
    output::{Format, Output, clean, moment},
    shape,
};

/// Approvals in one answer.
const PAGE: u32 = 200;
/// How long a watch looks for a node that answers.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a node may take to open the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(300);

pub async fn run(out: Output, client: &mut Client, command: Approval) -> Result<u8> {
    match command {
        Approval::List { all, run, limit } => list(out, client, all, &run, limit).await?,
        Approval::Show { id } => {
            let approval = get(client, id).await?;
            out.one(&in_words(&approval), &shape::approval(&approval))?;
        }
        Approval::Approve(say) => say_it(out, client, say, "approve", &[]).await?,
        Approval::Deny(say) => say_it(out, client, say, "deny", &[]).await?,
        Approval::Answer { say, set } => say_it(out, client, say, "answer", &set).await?,
        Approval::Watch => watch(out, client).await?,
    }
    Ok(exit_codes::OK)
}

async fn get(client: &mut Client, id: u64) -> Result<v1::Approval> {
    client
        .call(async |mut api| api.get_approval(GetApprovalRequest { id }).await)
        .await
}

async fn list(out: Output, client: &mut Client, all: bool, run_id: &str, limit: u32) -> Result<()> {
    let mut approvals = Vec::new();
    let mut before_id = 0;
    while (approvals.len() as u32) < limit {
        let request = ListApprovalsRequest {
            limit: PAGE.min(limit - approvals.len() as u32),
            before_id,
            all,
            run_id: run_id.to_owned(),
        };
        let page = client
            .call(async |mut api| api.list_approvals(request.clone()).await)
            .await?;
        approvals.extend(page.approvals);
        if page.next_before_id == 0 {
            break;
        }
        before_id = page.next_before_id;
    }
    let rows: Vec<Vec<String>> = approvals
        .iter()
        .map(|approval| {
            vec![
                approval.id.to_string(),
                approval.status.clone(),
                approval.run_id.clone(),
                approval.step.clone(),
                what(approval),
                approval.roles.join(" or "),
                format!("{} of {}", approval.missing, approval.quorum),
                left(approval),
            ]
        })
        .collect();
    let items: Vec<_> = approvals.iter().map(shape::approval).collect();
    out.list(
        &["id", "status", "run", "step", "for", "asks", "missing", "left"],
        &rows,
        &items,
    )
}

/// Answers what it looks at: the answer names it, and is refused if it has changed in between.
async fn say_it(out: Output, client: &mut Client, say: Say, verdict: &str, set: &[String]) -> Result<()> {
    let asked = get(client, say.id).await?;
    let output_json = match verdict {
        "answer" => filled_in(&asked, set)?.to_string(),
        _ => String::new(),
    };
    let request = AnswerApprovalRequest {
        id: say.id,
        binding: say.binding.unwrap_or(asked.binding),
        verdict: verdict.to_owned(),
        reason: say.reason,
        output_json,
        request_id: request_id(),
    };
    let approval = client
        .call(async |mut api| api.answer_approval(request.clone()).await)
        .await?;
    let text = match (approval.status.as_str(), approval.missing) {
        ("waiting", 1) => format!("Noted. One more must answer approval {}.\n", approval.id),
        ("waiting", missing) => format!("Noted. {missing} more must answer approval {}.\n", approval.id),
        (status, _) => format!(
            "Approval {} is {}: {}.\n",
            approval.id,
            clean(status),
            clean(&what(&approval))
        ),
    };
    out.one(&text, &shape::approval(&approval))
}

/// The fields that are given. JSON where the field's type asks for it; a list may be given by its elements.
fn filled_in(asked: &v1::Approval, set: &[String]) -> Result<Value> {
    let mut fields: Map<String, Value> = Map::new();
    for text in set {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| CliError::new(exit_codes::USAGE, format!("`{text}` is not NAME=VALUE")))?;
        let kind = asked.form.iter().find(|field| field.name == name);
        let kind = kind.map_or("", |field| field.r#type.as_str());
        let inner = kind.strip_prefix("list<").and_then(|rest| rest.strip_suffix('>'));
        let value = match inner {
            Some(inner) if !value.starts_with('[') => {
                let element = typed(inner, value);
                match fields.remove(name) {
                    Some(Value::Array(mut all)) => {
                        all.push(element);
                        Value::Array(all)
                    }
                    _ => Value::Array(vec![element]),
                }
            }
            _ => typed(kind, value),
        };
        if fields.insert(name.to_owned(), value).is_some() {
            let what = format!("`{name}` is given twice");
            return Err(CliError::new(exit_codes::USAGE, what));
        }
    }
    Ok(Value::Object(fields))
}

fn typed(kind: &str, text: &str) -> Value {
    let is_json = matches!(kind, "int" | "float" | "bool" | "json")
        || kind.starts_with("list<")
        || kind.starts_with("map<");
    let parsed = if is_json {
        serde_json::from_str(text).ok()
    } else {
        None
    };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Follows what waits until it is stopped, through the loss of any node.
async fn watch(out: Output, client: &mut Client) -> Result<()> {
    let mut give_up = Instant::now() + PATIENCE;
    loop {
        let opened = open(client).await;
        let broken = match opened {
            Err(error) => error,
            Ok(mut stream) => loop {
                match stream.message().await {
                    Ok(Some(approval)) => {
                        give_up = Instant::now() + PATIENCE;
                        match out.format {
                            Format::Table => out.line(&clean(&line(&approval)))?,
                            // There is no end at which a whole document could be closed.
                            Format::Json | Format::Jsonl => {
                                let out = Output {
                                    format: Format::Jsonl,
                                    ..out
                                };
                                out.one("", &shape::approval(&approval))?;
                            }
                        }
                    }
                    Ok(None) => {
                        break CliError::new(exit_codes::CONNECTION, "the coordinator closed the stream");
                    }
                    Err(status) if is_transient(&status) => break client.judge(status),
                    Err(status) => return Err(status.into()),
                }
            },
        };
        if broken.exit_code != exit_codes::CONNECTION || Instant::now() >= give_up {
            return Err(broken);
        }
        client.move_on();
        sleep(PAUSE).await;
    }
}

async fn open(client: &mut Client) -> Result<tonic::Streaming<v1::Approval>> {
    let mut api = client.api().await?;
    match timeout(OPEN_TIMEOUT, api.watch_approvals(WatchApprovalsRequest {})).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(client.judge(status)),
        Err(_) => Err(CliError::new(
            exit_codes::CONNECTION,
            format!("{} did not answer", client.endpoint()),
        )),
    }
}

/// An approval in a line. Not escaped yet.
pub fn line(approval: &v1::Approval) -> String {
    match approval.status.as_str() {
        "waiting" => format!(
            "approval {}  step {} waits: {}; {} more of {}, {} left",
            approval.id,
            approval.step,
            what(approval),
            approval.missing,
            approval.roles.join(" or "),
            left(approval)
        ),
        status => format!("approval {}  step {}: {status}", approval.id, approval.step),
    }
}

/// What it is for, in few words.
fn what(approval: &v1::Approval) -> String {
    match approval.kind.as_str() {
        "question" => match approval.text.as_str() {
            "" => "a question".to_owned(),
            text => text.chars().take(60).collect(),
        },
        _ => format!("{} ({}) {}", approval.action, approval.impact, tasks(approval)),
    }
}

fn tasks(approval: &v1::Approval) -> String {
    match (approval.tasks_total, approval.on_hosts) {
        (1, true) => "on 1 host".into(),
        (many, true) => format!("on {many} hosts"),
        (1, false) => "once".into(),
        (many, false) => format!("{many} times"),
    }
}

/// How long people have; empty where it is over.
fn left(approval: &v1::Approval) -> String {
    if approval.status != "waiting" {
        return String::new();
    }
    let seconds = approval.expires_at_ms.saturating_sub(approval.now_ms) / 1_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

/// Everything that an approver must know, in words, escaped.
fn in_words(approval: &v1::Approval) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(&clean(&line));
        text.push('\n');
    };
    say(format!(
        "Approval {} ({}) for step {} of {} v{}",
        approval.id, approval.status, approval.step, approval.playbook, approval.version
    ));
    say(format!(
        "Run {}, started by {}",
        approval.run_id, approval.requester
    ));
    if !approval.plan_sha256.is_empty() {
        say(format!("Plan {}", approval.plan_sha256));
    }
    say(String::new());
    if approval.kind == "question" {
        question(approval, &mut say);
    } else {
        effect(approval, &mut say);
    }
    say(String::new());
    let people = match approval.quorum {
        1 => "One person".to_owned(),
        many => format!("{many} different people"),
    };
    let but = if approval.not_requester {
        format!(", but not {}, who started the run", approval.requester)
    } else {
        String::new()
    };
    say(format!(
        "{people} with the role {} must answer{but}.",
        approval.roles.join(" or ")
    ));
    if !approval.note.is_empty() {
        say(format!("Note: {}.", approval.note));
    }
    for answer in &approval.answers {
        let verb = match (answer.yes, approval.kind.as_str()) {
            (false, _) => "said no",
            (true, "question") => "answered",
            (true, _) => "approved",
        };
        say(format!(
            "{}  {} ({}) {verb}: {}",
            moment(answer.at_ms),
            answer.operator_id,
            answer.role,
            answer.reason
        ));
    }
    if approval.status != "waiting" {
        say(format!("{}  {}", moment(approval.ended_at_ms), approval.status));
        return text;
    }
    let then = match approval.on_expiry.as_str() {
        "escalate" => "others are asked as well",
        _ if approval.kind == "question" => "the step fails",
        _ => "it is not done",
    };
    say(format!(
        "{} more must answer; {} left (until {}), then {then}.",
        approval.missing,
        left(approval),
        moment(approval.expires_at_ms)
    ));
    say(format!("Bound to {}", approval.binding));
    text
}

fn effect(approval: &v1::Approval, say: &mut impl FnMut(String)) {
    let done = match approval.status.as_str() {
        "waiting" => "is done if it is approved",
        "approved" => "was let go",
        _ => "is not done",
    };
    say(format!(
        "{} ({}) {} {done}:",
        approval.action,
        approval.impact,
        tasks(approval)
    ));
    let mut before: Option<&str> = None;
    for task in &approval.tasks {
        let mut labels: Vec<String> = task
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        labels.sort();
        let place = match (task.agent_id.as_str(), task.online) {
            ("", _) => "the coordinator".to_owned(),
            (agent, true) => agent.to_owned(),
            (agent, false) => format!("{agent} (offline)"),
        };
        let item = match task.item_json.as_str() {
            "" => String::new(),
            item => format!("  for {item}"),
        };
        say(format!("  on {place}{item}  {}", labels.join(" "))
            .trim_end()
            .to_owned());
        // Hosts often share them: they are said again where they differ.
        if before != Some(&task.parameters_json) {
            for (name, value) in shape::parsed(&task.parameters_json)
                .as_object()
                .into_iter()
                .flatten()
            {
                say(format!("     with {name}: {value}"));
            }
            before = Some(&task.parameters_json);
        } else {
            say("     with the same".to_owned());
        }
    }
    let more = approval.tasks_total as usize - approval.tasks.len().min(approval.tasks_total as usize);
    if more > 0 {
        say(format!(
            "  and {more} more: `cordon run show {} --tasks`",
            approval.run_id
        ));
    }
}

fn question(approval: &v1::Approval, say: &mut impl FnMut(String)) {
    if !approval.text.is_empty() {
        say(approval.text.clone());
    }
    let given = shape::parsed(&approval.output_json);
    for field in &approval.form {
        let value = match (given.get(&field.name), field.default_json.as_str()) {
            (Some(value), _) => format!("= {value}"),
            (None, "") => "must be given".to_owned(),
            (None, default) => format!("= {default} unless you say otherwise"),
        };
        say(format!("  {} ({}) {value}", field.name, field.r#type));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> v1::Approval {
        let task = |item: u32, agent: &str, mode: &str| v1::ApprovalTask {
            item,
            agent_id: agent.into(),
            parameters_json: format!(r#"{{"mode":"{mode}"}}"#),
            online: item == 0,
            labels: [("criticality".to_owned(), "critical".to_owned())].into(),
            ..v1::ApprovalTask::default()
        };
        v1::Approval {
            id: 3,
            kind: "gate".into(),
            status: "waiting".into(),
            run_id: "r1".into(),
            playbook: "contain".into(),
            version: 2,
            requester: "ada".into(),
            step: "cut".into(),
            action: "host.isolate".into(),
            impact: "contain".into(),
            binding: "beef".into(),
            roles: vec!["commander".into(), "ciso".into()],
            quorum: 2,
            missing: 1,
            not_requester: true,
            created_at_ms: 1_700_000_000_000,
            now_ms: 1_700_000_060_000,
            expires_at_ms: 1_700_000_600_000,
            on_expiry: "reject".into(),
            note: "a host is critical".into(),
            answers: vec![v1::ApprovalAnswer {
                operator_id: "bob".into(),
                role: "commander".into(),
                yes: true,
                reason: "seen\x1b[2J it".into(),
                at_ms: 1_700_000_030_000,
            }],
            tasks_total: 4,
            on_hosts: true,
            tasks: vec![
                task(0, "db-1", "network"),
                task(1, "db-2", "network"),
                task(2, "db-3", "\u{202e}x"),
            ],
            ..v1::Approval::default()
        }
    }

    #[test]
    fn an_approver_reads_what_will_happen_where() {
        assert_eq!(
            in_words(&gate()),
            "\
Approval 3 (waiting) for step cut of contain v2
Run r1, started by ada

host.isolate (contain) on 4 hosts is done if it is approved:
  on db-1  criticality=critical
     with mode: \"network\"
  on db-2 (offline)  criticality=critical
     with the same
  on db-3 (offline)  criticality=critical
     with mode: \"\\u{202e}x\"
  and 1 more: `cordon run show r1 --tasks`

2 different people with the role commander or ciso must answer, but not ada, who started the run.
Note: a host is critical.
2023-11-14T22:13:50Z  bob (commander) approved: seen\\u{1b}[2J it
1 more must answer; 9m 0s left (until 2023-11-14T22:23:20Z), then it is not done.
Bound to beef
"
        );
    }

    #[test]
    fn a_question_says_what_must_be_given() {
        let field = |name: &str, kind: &str, default: &str| v1::FormField {
            name: name.into(),
            r#type: kind.into(),
            default_json: default.into(),
        };
        let asked = v1::Approval {
            kind: "question".into(),
            status: "waiting".into(),
            text: "Which backup?".into(),
            form: vec![
                field("hosts", "list<host>", r#"["db-1"]"#),
                field("point", "timestamp", ""),
                field("tries", "int", "1"),
            ],
            quorum: 1,
            ..v1::Approval::default()
        };
        let text = in_words(&asked);
        assert!(text.contains("Which backup?\n  hosts (list<host>) = [\"db-1\"] unless you say otherwise\n  point (timestamp) must be given\n"), "{text}");
        let set = |all: &[&str]| filled_in(&asked, &all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            set(&["hosts=a", "hosts=b", "point=2026-01-01T00:00:00Z", "tries=2"]).unwrap(),
            serde_json::json!({"hosts": ["a", "b"], "point": "2026-01-01T00:00:00Z", "tries": 2})
        );
        assert_eq!(
            set(&["hosts=[\"a\"]"]).unwrap(),
            serde_json::json!({"hosts": ["a"]})
        );
        for wrong in [&["point"][..], &["point=1", "point=2"]] {
            assert_eq!(set(wrong).unwrap_err().exit_code, exit_codes::USAGE);
        }
    }
}
