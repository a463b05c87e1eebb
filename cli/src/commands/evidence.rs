//! `evidence list|get|verify`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use proto::v1::{GetEvidenceRequest, ListEvidenceRequest, VerifyEvidenceRequest};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::yes;
use crate::{
    args::Evidence,
    client::{Client, is_transient},
    error::{CliError, Result},
    exit_codes,
    output::{Output, moment, size},
    shape,
};

/// How often a transfer that broke goes on at the next endpoint without a byte in between.
const STALLS_MAX: u32 = 8;

pub async fn run(out: Output, client: &mut Client, command: Evidence) -> Result<u8> {
    match command {
        Evidence::List { run, agent } => {
            list(
                out,
                client,
                ListEvidenceRequest {
                    run_id: run,
                    agent_id: agent,
                },
            )
            .await
        }
        Evidence::Get { sha256, to } => get(out, client, &sha256, &to).await,
        Evidence::Verify { sha256 } => verify(out, client, sha256).await,
    }
}

async fn list(out: Output, client: &mut Client, request: ListEvidenceRequest) -> Result<u8> {
    let reply = client
        .call(async |mut api| api.list_evidence(request.clone()).await)
        .await?;
    let rows: Vec<Vec<String>> = reply
        .records
        .iter()
        .map(|record| {
            vec![
                record.sha256.clone(),
                size(record.size_bytes),
                match record.operator.is_empty() {
                    true => record.agent_id.clone(),
                    false => format!("{} for {}", record.operator, record.submission),
                },
                moment(record.collected_at_ms),
                record.nodes.join(","),
                if record.changed_during_read {
                    "changed while read".to_owned()
                } else {
                    String::new()
                },
                record.path.clone(),
            ]
        })
        .collect();
    let items: Vec<_> = reply.records.iter().map(shape::evidence).collect();
    out.list(
        &["sha256", "size", "agent", "collected", "copies", "note", "path"],
        &rows,
        &items,
    )?;
    Ok(exit_codes::OK)
}

async fn verify(out: Output, client: &mut Client, sha256: String) -> Result<u8> {
    let request = VerifyEvidenceRequest {
        sha256: sha256.clone(),
    };
    let reply = client
        .call(async |mut api| api.verify_evidence(request.clone()).await)
        .await?;
    let rows: Vec<Vec<String>> = reply
        .copies
        .iter()
        .map(|copy| {
            vec![
                copy.node_id.clone(),
                yes(copy.present),
                yes(copy.verified),
                copy.problem.clone(),
            ]
        })
        .collect();
    let verdict = if reply.ok {
        "Every copy verifies."
    } else {
        "NOT every copy verifies."
    };
    let text = format!(
        "{}{verdict}\n",
        out.table(&["node", "present", "verified", "problem"], &rows)
    );
    let copies: Vec<_> = reply.copies.iter().map(shape::copy).collect();
    out.one(
        &text,
        &json!({ "sha256": sha256, "ok": reply.ok, "copies": copies }),
    )?;
    Ok(if reply.ok {
        exit_codes::OK
    } else {
        exit_codes::FAILED
    })
}

async fn get(out: Output, client: &mut Client, sha256: &str, to: &Path) -> Result<u8> {
    if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(CliError::new(
            exit_codes::USAGE,
            format!("`{sha256}` is not a SHA-256 in hexadecimal"),
        ));
    }
    let mut sink = Sink::open(to)?;
    let received = fetch(client, sha256, &mut sink).await;
    match received {
        Ok(size_bytes) => {
            if sink.finish(sha256)? {
                let text = format!("Wrote {} to {}, hash verified.\n", size(size_bytes), to.display());
                let value = json!({ "sha256": sha256, "size_bytes": size_bytes, "to": to.to_string_lossy(), "verified": true });
                out.one(&text, &value)?;
            }
            Ok(exit_codes::OK)
        }
        Err(error) => {
            sink.abandon();
            Err(error)
        }
    }
}

/// Receives all of it, going on at another node with the bytes that are missing when one breaks off.
async fn fetch(client: &mut Client, sha256: &str, sink: &mut Sink) -> Result<u64> {
    let mut stalls = 0;
    loop {
        let request = GetEvidenceRequest {
            sha256: sha256.to_owned(),
            offset_bytes: sink.written,
        };
        let before = sink.written;
        let mut stream = client
            .call(async |mut api| api.get_evidence(request.clone()).await)
            .await?;
        let broken = loop {
            match stream.message().await {
                Ok(Some(part)) => sink.write(&part.data)?,
                Ok(None) => return Ok(sink.written),
                Err(status) => break status,
            }
        };
        stalls = if sink.written > before { 0 } else { stalls + 1 };
        if !is_transient(&broken) || stalls > STALLS_MAX {
            return Err(broken.into());
        }
        client.move_on();
    }
}

/// Where the bytes go: a new file beside its final name until the hash is known, or standard output.
struct Sink {
    file: Option<(fs::File, PathBuf, PathBuf)>,
    hash: Sha256,
    written: u64,
}

impl Sink {
    fn open(to: &Path) -> Result<Sink> {
        if to == Path::new("-") {
            return Ok(Sink {
                file: None,
                hash: Sha256::new(),
                written: 0,
            });
        }
        if to.exists() {
            return Err(CliError::new(
                exit_codes::REFUSED,
                format!("{} exists; nothing is overwritten", to.display()),
            ));
        }
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = to.with_file_name(name);
        // Evidence can be malware: not executable, and for its fetcher's eyes only.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .map_err(|error| CliError::file("make", &part, &error))?;
        Ok(Sink {
            file: Some((file, part, to.to_owned())),
            hash: Sha256::new(),
            written: 0,
        })
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.hash.update(data);
        self.written += data.len() as u64;
        match &mut self.file {
            Some((file, part, _)) => file
                .write_all(data)
                .map_err(|error| CliError::file("write", part, &error)),
            None => io::stdout()
                .write_all(data)
                .map_err(|error| CliError::file("write to", Path::new("standard output"), &error)),
        }
    }

    /// Puts the file in its place if the hash holds; says whether there is a file.
    fn finish(mut self, sha256: &str) -> Result<bool> {
        let found = hex::encode(std::mem::take(&mut self.hash).finalize());
        if !found.eq_ignore_ascii_case(sha256) {
            self.abandon();
            return Err(CliError::new(
                exit_codes::FAILED,
                format!("what the cluster sent has the hash {found}, not {sha256}; nothing was kept"),
            )
            .with_hint("`cordon evidence verify` says which copy is damaged"));
        }
        let Some((file, part, to)) = &self.file else {
            return Ok(false);
        };
        file.sync_all()
            .map_err(|error| CliError::file("write", part, &error))?;
        fs::rename(part, to).map_err(|error| CliError::file("make", to, &error))?;
        Ok(true)
    }

    fn abandon(&self) {
        if let Some((_, part, _)) = &self.file {
            // The error that led here is the one to report.
            let _ = fs::remove_file(part);
        }
    }
}
