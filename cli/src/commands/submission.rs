//! `event send --submission`: one file, kept as evidence, that starts what listens for it.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use proto::v1::{SubmitChunk, SubmitHeader};
use serde_json::json;

use crate::{
    args::SendEvents,
    client::{Client, request_id},
    error::{CliError, Result},
    exit_codes,
    output::{Output, clean, size, tell},
};

/// The largest file that the cluster takes.
const FILE_BYTES_MAX: u64 = 100 << 20;
/// The further fields of the event.
const JSON_BYTES_MAX: u64 = 64 << 10;
/// One piece of the file.
const CHUNK_BYTES: usize = 256 << 10;
/// How long one try may take, with its copy on another node.
const LONGEST: Duration = Duration::from_secs(300);

pub async fn hand_in(
    out: Output,
    client: &mut Client,
    args: &SendEvents,
    submission: &str,
    file: &Path,
) -> Result<u8> {
    let opened = File::open(file).map_err(|error| CliError::file("read", file, &error))?;
    let bytes = Bytes::from(bounded(opened, file, FILE_BYTES_MAX)?);
    let json = match &args.json {
        None => Vec::new(),
        Some(path) if path.as_os_str() == "-" => bounded(io::stdin(), path, JSON_BYTES_MAX)?,
        Some(path) => {
            let opened = File::open(path).map_err(|error| CliError::file("read", path, &error))?;
            bounded(opened, path, JSON_BYTES_MAX)?
        }
    };
    let json = String::from_utf8(json).map_err(|_| CliError::invalid("--json is not UTF-8 text"))?;
    let mail = file
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("eml"));
    let guessed = match mail {
        true => "message/rfc822",
        false => "application/octet-stream",
    };
    let name = file.file_name().unwrap_or(file.as_os_str());
    let header = SubmitHeader {
        submission: submission.to_owned(),
        file: name.to_string_lossy().into_owned(),
        media: args.media.clone().unwrap_or_else(|| guessed.to_owned()),
        json,
        size_bytes: bytes.len() as u64,
        request_id: request_id(),
    };
    let reply = client
        .call_within(LONGEST, async |mut api| {
            api.submit(tokio_stream::iter(chunks(&header, &bytes))).await
        })
        .await?;
    let event = reply.event.unwrap_or_default();
    let notes: Vec<String> = event.events.into_iter().flat_map(|event| event.notes).collect();
    for note in &notes {
        tell(format_args!("{}", clean(note)));
    }
    let text = format!(
        "{} ({}) is evidence on {} coordinators: {} to become runs, {} seen before\n",
        clean(&reply.sha256),
        size(reply.size_bytes),
        reply.copies,
        event.fired,
        event.deduplicated
    );
    let value = json!({
        "sha256": reply.sha256, "size_bytes": reply.size_bytes, "copies": reply.copies, "fired": event.fired,
        "deduplicated": event.deduplicated, "notes": notes,
    });
    out.one(&text, &value)?;
    Ok(exit_codes::OK)
}

/// The header, then the file piece by piece.
fn chunks(header: &SubmitHeader, bytes: &Bytes) -> Vec<SubmitChunk> {
    let header = SubmitChunk {
        header: Some(header.clone()),
        data: Bytes::new(),
    };
    let pieces = (0..bytes.len()).step_by(CHUNK_BYTES).map(|at| SubmitChunk {
        header: None,
        data: bytes.slice(at..bytes.len().min(at + CHUNK_BYTES)),
    });
    std::iter::once(header).chain(pieces).collect()
}

/// All of it, if it is not too much.
fn bounded(source: impl io::Read, path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = source.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| CliError::file("read", path, &error))?;
    match bytes.len() as u64 > most {
        true => Err(CliError::invalid(format!(
            "{} has more than {most} bytes, which is the most that is taken",
            path.display()
        ))),
        false => Ok(bytes),
    }
}
