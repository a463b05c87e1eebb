//! `playbook publish|list|show|history|diff`: what the cluster keeps under a name and a version.

use std::fmt::Write as _;

use proto::v1;
use serde_json::{Value, json};
use similar::TextDiff;

use super::playbook;
use crate::{
    client::{Client, request_id},
    error::{CliError, Result},
    exit_codes,
    output::{Format, Output, clean, moment},
};

/// What the name of a published playbook begins with.
const PUBLISHED: &str = "published:";

/// Hands a text in.
pub async fn publish(out: Output, client: &mut Client, name: &str, note: String) -> Result<u8> {
    let request = v1::PublishPlaybookRequest {
        playbook_yaml: text(client, name).await?,
        note,
        request_id: request_id(),
    };
    let published = client
        .call(async |mut api| api.publish_playbook(request.clone()).await)
        .await?;
    let mut text = format!("{} version {} is published.\n", published.name, published.version);
    for warning in &published.warnings {
        let _ = writeln!(text, "{}", clean(warning));
    }
    out.one(&text, &shape(&published))?;
    Ok(exit_codes::OK)
}

/// The newest version of each, or all versions of one, the newest first.
pub async fn list(out: Output, client: &mut Client, name: &str) -> Result<u8> {
    let request = v1::ListPlaybooksRequest { name: name.into() };
    let playbooks = client
        .call(async |mut api| api.list_playbooks(request.clone()).await)
        .await?
        .playbooks;
    let rows: Vec<_> = playbooks
        .iter()
        .map(|one| {
            vec![
                one.name.clone(),
                one.version.to_string(),
                moment(one.published_at_ms),
                one.published_by.clone(),
                clean(&one.note),
            ]
        })
        .collect();
    let items: Vec<_> = playbooks.iter().map(shape).collect();
    out.list(&["NAME", "VERSION", "PUBLISHED", "BY", "NOTE"], &rows, &items)?;
    Ok(exit_codes::OK)
}

/// The text of one.
pub async fn show(out: Output, client: &mut Client, name: &str) -> Result<u8> {
    let published = get(client, name).await?;
    let mut value = shape(&published);
    value["playbook_yaml"] = published.playbook_yaml.clone().into();
    let text = published
        .playbook_yaml
        .lines()
        .fold(String::new(), |all, line| all + &clean(line) + "\n");
    out.one(&text, &value)?;
    Ok(exit_codes::OK)
}

/// What differs between two.
pub async fn diff(out: Output, client: &mut Client, from: &str, to: &str) -> Result<u8> {
    let before = text(client, from).await?;
    let after = text(client, to).await?;
    let changes = TextDiff::from_lines(&before, &after);
    let text: String = changes
        .unified_diff()
        .header(from, to)
        .to_string()
        .lines()
        .fold(String::new(), |all, line| all + &clean(line) + "\n");
    let same = before == after;
    match out.format {
        Format::Table if same => out.print("No difference.\n")?,
        _ => out.one(
            &text,
            &json!({"from": from, "to": to, "same": same, "diff": text}),
        )?,
    }
    Ok(exit_codes::OK)
}

/// The text of a playbook: a file, `library:NAME`, or `published:NAME[@VERSION]`.
///
/// # Errors
/// When there is none.
pub async fn text(client: &mut Client, name: &str) -> Result<String> {
    match name.strip_prefix(PUBLISHED) {
        Some(published) => Ok(get(client, published).await?.playbook_yaml),
        None => playbook::read(name),
    }
}

async fn get(client: &mut Client, name: &str) -> Result<v1::PublishedPlaybook> {
    let (name, version) = match name.split_once('@') {
        None => (name, 0),
        Some((name, version)) => {
            let number = version.parse::<u32>().ok().filter(|version| *version > 0);
            let number = number.ok_or_else(|| {
                CliError::new(exit_codes::USAGE, format!("`{version}` is no version of {name}"))
                    .with_hint("NAME@3, or NAME for the newest")
            })?;
            (name, number)
        }
    };
    let request = v1::GetPlaybookRequest {
        name: name.into(),
        version,
    };
    client
        .call(async |mut api| api.get_playbook(request.clone()).await)
        .await
}

fn shape(published: &v1::PublishedPlaybook) -> Value {
    json!({
        "name": published.name,
        "version": published.version,
        "manifest_sha256": published.manifest_sha256,
        "note": published.note,
        "published_by": published.published_by,
        "published_at_ms": published.published_at_ms,
        "warnings": published.warnings,
    })
}
