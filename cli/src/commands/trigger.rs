//! `trigger list|show|enable|disable`.

use proto::v1::{ListTriggersRequest, SetTriggerRequest, Trigger};
use serde_json::{Value, json};

use crate::{
    args,
    client::{Client, request_id},
    error::{CliError, Result},
    exit_codes,
    output::{Output, clean, moment},
};

pub async fn run(out: Output, client: &mut Client, command: args::Trigger) -> Result<u8> {
    match command {
        args::Trigger::List { playbook } => list(out, client, playbook).await?,
        args::Trigger::Show { id } => show(out, client, &id).await?,
        args::Trigger::Enable { id } => set(out, client, id, true, String::new()).await?,
        args::Trigger::Disable { id, reason } => set(out, client, id, false, reason).await?,
    }
    Ok(exit_codes::OK)
}

async fn all(client: &mut Client, playbook: &str) -> Result<Vec<Trigger>> {
    let request = ListTriggersRequest {
        playbook: playbook.to_owned(),
    };
    let reply = client.call(async |mut api| api.list_triggers(request.clone()).await);
    Ok(reply.await?.triggers)
}

async fn list(out: Output, client: &mut Client, playbook: Option<String>) -> Result<()> {
    let triggers = all(client, playbook.as_deref().unwrap_or_default()).await?;
    let rows: Vec<Vec<String>> = triggers
        .iter()
        .map(|trigger| {
            vec![
                trigger.id.clone(),
                trigger.on.clone(),
                state(trigger).to_owned(),
                trigger.matched.to_string(),
                trigger.fired.to_string(),
                trigger.deduplicated.to_string(),
                (trigger.dropped + trigger.refused + trigger.missed).to_string(),
                trigger.what.clone(),
            ]
        })
        .collect();
    let items: Vec<_> = triggers.iter().map(shape).collect();
    let columns = [
        "id",
        "on",
        "state",
        "matched",
        "runs",
        "seen before",
        "no run",
        "what",
    ];
    out.list(&columns, &rows, &items)
}

async fn show(out: Output, client: &mut Client, id: &str) -> Result<()> {
    let playbook = id.rsplit_once('/').map_or(id, |(playbook, _)| playbook);
    let triggers = all(client, playbook).await?;
    let Some(trigger) = triggers.iter().find(|trigger| trigger.id == id) else {
        let known: Vec<&str> = triggers.iter().map(|trigger| trigger.id.as_str()).collect();
        let hint = match known.as_slice() {
            [] => "`cordon trigger list` shows what there is; publishing a playbook arms its triggers"
                .to_owned(),
            known => format!("its triggers are {}", known.join(", ")),
        };
        return Err(CliError::new(
            exit_codes::NOT_FOUND,
            format!("there is no trigger {}", clean(id)),
        )
        .with_hint(hint));
    };
    out.one(&in_words(trigger), &shape(trigger))
}

async fn set(out: Output, client: &mut Client, id: String, enabled: bool, reason: String) -> Result<()> {
    let request = SetTriggerRequest {
        id,
        enabled,
        reason,
        request_id: request_id(),
    };
    let trigger = client
        .call(async |mut api| api.set_trigger(request.clone()).await)
        .await?;
    out.one(&in_words(&trigger), &shape(&trigger))
}

fn state(trigger: &Trigger) -> &'static str {
    match trigger.disabled_by.as_str() {
        "" => "armed",
        _ => "held back",
    }
}

/// Text of a trigger; none of it is empty.
fn in_words(trigger: &Trigger) -> String {
    let mut lines = vec![
        ("trigger", format!("{} (version {})", trigger.id, trigger.version)),
        ("on", format!("{}: {}", trigger.on, trigger.what)),
    ];
    if !trigger.dedupe.is_empty() {
        lines.push(("once for", trigger.dedupe.clone()));
    }
    lines.push((
        "state",
        match trigger.disabled_by.as_str() {
            "" => "armed".to_owned(),
            by => format!(
                "held back by {by} since {}: {}",
                moment(trigger.disabled_at_ms),
                trigger.disabled_reason
            ),
        },
    ));
    if trigger.next_at_ms > 0 {
        lines.push(("next", moment(trigger.next_at_ms)));
    }
    lines.push((
        "matched",
        format!(
            "{}, of which {} started runs, {} had been seen, {} wait to become runs",
            trigger.matched, trigger.fired, trigger.deduplicated, trigger.waiting
        ),
    ));
    let others = [
        (trigger.dropped, "left out by limits.concurrency"),
        (trigger.refused, "refused"),
        (trigger.missed, "missed"),
        (trigger.broken, "without a key"),
        (trigger.evicted, "keys forgotten early"),
    ];
    let others: Vec<String> = others
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !others.is_empty() {
        lines.push(("no run", others.join(", ")));
    }
    if !trigger.problem.is_empty() {
        lines.push((
            "last problem",
            format!("{} at {}", trigger.problem, moment(trigger.problem_at_ms)),
        ));
    }
    if !trigger.last_run_id.is_empty() {
        lines.push(("last run", trigger.last_run_id.clone()));
    }
    lines
        .iter()
        .map(|(name, value)| format!("{name:<13} {}\n", clean(value)))
        .collect()
}

fn shape(trigger: &Trigger) -> Value {
    let text = |text: &str| match text {
        "" => Value::Null,
        text => json!(text),
    };
    let ms = |ms: u64| match ms {
        0 => Value::Null,
        ms => json!(ms),
    };
    json!({
        "id": trigger.id, "version": trigger.version, "on": trigger.on, "what": trigger.what,
        "dedupe": text(&trigger.dedupe), "armed": trigger.disabled_by.is_empty(),
        "disabled_by": text(&trigger.disabled_by), "disabled_reason": text(&trigger.disabled_reason),
        "disabled_at_ms": ms(trigger.disabled_at_ms), "matched": trigger.matched, "fired": trigger.fired,
        "deduplicated": trigger.deduplicated, "dropped": trigger.dropped, "refused": trigger.refused,
        "broken": trigger.broken, "evicted": trigger.evicted, "missed": trigger.missed,
        "problem": text(&trigger.problem), "problem_at_ms": ms(trigger.problem_at_ms),
        "last_run_id": text(&trigger.last_run_id), "next_at_ms": ms(trigger.next_at_ms),
        "waiting": trigger.waiting, "keys_seen": trigger.keys_seen, "keys_counted": trigger.keys_counted,
    })
}
