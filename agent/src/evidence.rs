//! Takes evidence to the cluster: hashed while it is read, in chunks; resumed on the coordinator that holds the part,
//! and sent again from its beginning elsewhere. (The agent goes back to where its last session was: `session/last.rs`.)
//!
//! The upload's id is made from the task and the file (its inode, size and modification time), not drawn:
//! so the same file of the same task is resumed after a lost connection, by the task's next attempt, and after
//! this agent was killed, without a note that could get lost. A file that
//! changed meanwhile is another upload.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use proto::v1;
use proto::v1::agent_service_client::AgentServiceClient;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::actions::{ActionError, AttemptKey, EvidenceSink, Receipt};
use crate::runner::wall_ms;
use crate::session::current::Current;
use crate::session::jitter::Jitter;
use crate::session::wire::wire_key;

const CHUNK_BYTES: usize = 256 * 1024;
/// Tries of one file, over all coordinators.
const TRIES_MAX: u32 = 40;
const PAUSE_MS_MIN: u64 = 200;
const PAUSE_MS_MAX: u64 = 5_000;
/// Where a coordinator puts the stable code of a refusal.
const CODE_KEY: &str = "cordon-code";
/// How long a coordinator may take to say what it holds.
const OFFSET_WITHIN: Duration = Duration::from_secs(10);

/// The sink over the session's connection.
#[derive(Clone, Debug)]
pub struct Uploads {
    current: Current,
}

struct Upload {
    key: AttemptKey,
    id: String,
    file: Arc<File>,
    path: Vec<u8>,
    size_bytes_max: u64,
    before: Metadata,
    cancel: CancellationToken,
}

enum Failed {
    /// On another connection it may succeed.
    Again(String),
    /// It will not.
    ForGood(ActionError),
}

impl Uploads {
    /// Over whatever connection the session stands on.
    pub fn new(current: Current) -> Uploads {
        Uploads { current }
    }

    async fn upload(&self, upload: Upload) -> Result<Receipt, ActionError> {
        let mut jitter = Jitter::new(wall_ms() ^ upload.before.ino());
        let mut problem = String::from("no coordinator is connected");
        for tries in 0..TRIES_MAX {
            if tries > 0 {
                let whole = PAUSE_MS_MIN.saturating_mul(1 << tries.min(10)).min(PAUSE_MS_MAX);
                let pause = Duration::from_millis(jitter.between(whole / 2, whole));
                cancellable(&upload.cancel, tokio::time::sleep(pause)).await?;
            }
            let channel = cancellable(&upload.cancel, self.current.get()).await?;
            let client = AgentServiceClient::new(channel);
            match cancellable(&upload.cancel, attempt(client, &upload)).await? {
                Ok(receipt) => return Ok(receipt),
                Err(Failed::ForGood(error)) => return Err(error),
                Err(Failed::Again(why)) => {
                    if why != problem {
                        tracing::warn!(tries, why, "an upload is tried again");
                    }
                    problem = why;
                }
            }
        }
        Err(ActionError::new(
            "upload",
            format!("no coordinator took it in {TRIES_MAX} tries; the last said: {problem}"),
        ))
    }
}

impl EvidenceSink for Uploads {
    fn put(
        &self,
        key: AttemptKey,
        file: File,
        path: Vec<u8>,
        size_bytes_max: u64,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<Receipt, ActionError>> {
        Box::pin(async move {
            let before = file
                .metadata()
                .map_err(|error| ActionError::io("look at the file", &error))?;
            if before.len() > size_bytes_max {
                let message = format!(
                    "the file has {} bytes, and {size_bytes_max} are allowed",
                    before.len()
                );
                return Err(ActionError::new("too_large", message));
            }
            let id = upload_id(&key, &path, &before);
            let file = Arc::new(file);
            self.upload(Upload {
                key,
                id,
                file,
                path,
                size_bytes_max,
                before,
                cancel,
            })
            .await
        })
    }
}

/// One try on one coordinator.
async fn attempt(
    mut client: AgentServiceClient<tonic::transport::Channel>,
    upload: &Upload,
) -> Result<Receipt, Failed> {
    let request = v1::EvidenceOffsetRequest {
        key: Some(wire_key(&upload.key)),
        upload_id: upload.id.clone(),
    };
    let offset = tokio::time::timeout(OFFSET_WITHIN, client.evidence_offset(request))
        .await
        .map_err(|_| Failed::Again("the coordinator did not say how much it holds".to_owned()))?
        .map_err(failed)?
        .into_inner()
        .offset_bytes;
    let (chunks, outgoing) = mpsc::channel(2);
    let reading = {
        let (file, before) = (upload.file.clone(), upload.before.clone());
        let header = v1::EvidenceHeader {
            key: Some(wire_key(&upload.key)),
            upload_id: upload.id.clone(),
            offset_bytes: offset,
            path: Bytes::from(upload.path.clone()),
            size_bytes_max: upload.size_bytes_max,
        };
        let max = upload.size_bytes_max;
        tokio::task::spawn_blocking(move || read(&file, &before, header, max, &chunks))
    };
    let reply = client.put_evidence(ReceiverStream::new(outgoing)).await;
    // The reader ends as soon as nobody takes its chunks.
    let read = reading.await.map_err(|error| Failed::Again(error.to_string()))?;
    match (reply, read) {
        (Ok(receipt), Ok(changed_during_read)) => {
            let receipt = receipt.into_inner();
            Ok(Receipt {
                sha256: receipt.sha256,
                size_bytes: receipt.size_bytes,
                copies: receipt.copies,
                changed_during_read,
            })
        }
        (_, Err(ReadFailed::File(error))) => Err(Failed::ForGood(error)),
        (Err(status), _) => Err(failed(status)),
        (Ok(_), Err(ReadFailed::NobodyListens)) => Err(Failed::Again(
            "the coordinator answered before it had everything".to_owned(),
        )),
    }
}

enum ReadFailed {
    File(ActionError),
    NobodyListens,
}

/// Reads and hashes the whole file, and sends what lies behind the offset. Whether it changed meanwhile.
fn read(
    file: &File,
    before: &Metadata,
    header: v1::EvidenceHeader,
    size_bytes_max: u64,
    chunks: &mpsc::Sender<v1::EvidenceChunk>,
) -> Result<bool, ReadFailed> {
    let io = |error| ReadFailed::File(ActionError::io("read the file", &error));
    let offset = header.offset_bytes;
    let send = |chunk| chunks.blocking_send(chunk).map_err(|_| ReadFailed::NobodyListens);
    send(v1::EvidenceChunk {
        header: Some(header),
        data: Bytes::new(),
        trailer: None,
    })?;
    let mut hash = Sha256::new();
    let mut at = 0;
    loop {
        // Chunks never straddle the offset.
        let wanted = if at < offset {
            (offset - at).min(CHUNK_BYTES as u64) as usize
        } else {
            CHUNK_BYTES
        };
        let mut buffer = vec![0; wanted];
        let length = file.read_at(&mut buffer, at).map_err(io)?;
        if length == 0 {
            break;
        }
        buffer.truncate(length);
        hash.update(&buffer);
        at += length as u64;
        if at > size_bytes_max {
            let message = format!("the file grew beyond {size_bytes_max} bytes while it was read");
            return Err(ReadFailed::File(ActionError::new("too_large", message)));
        }
        if at > offset {
            send(v1::EvidenceChunk {
                header: None,
                data: Bytes::from(buffer),
                trailer: None,
            })?;
        }
    }
    let after = file.metadata().map_err(io)?;
    let state = |meta: &Metadata| (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino());
    let changed_during_read = state(before) != state(&after) || at != before.len();
    let trailer = v1::EvidenceTrailer {
        sha256: hex::encode(hash.finalize()),
        size_bytes: at,
        read_at_ms: wall_ms(),
        changed_during_read,
    };
    send(v1::EvidenceChunk {
        header: None,
        data: Bytes::new(),
        trailer: Some(trailer),
    })?;
    Ok(changed_during_read)
}

fn upload_id(key: &AttemptKey, path: &[u8], meta: &Metadata) -> String {
    let mut hash = Sha256::new();
    for part in [
        key.run_id.as_bytes(),
        key.step.as_bytes(),
        &key.item.to_le_bytes(),
        path,
    ] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    for number in [
        meta.dev(),
        meta.ino(),
        meta.len(),
        meta.mtime() as u64,
        meta.mtime_nsec() as u64,
    ] {
        hash.update(number.to_le_bytes());
    }
    hex::encode(&hash.finalize()[..20])
}

fn failed(status: tonic::Status) -> Failed {
    let text = format!("{:?}: {}", status.code(), status.message());
    let stable = status
        .metadata()
        .get(CODE_KEY)
        .and_then(|code| code.to_str().ok());
    if stable == Some("too_large") {
        return Failed::ForGood(ActionError::new("too_large", status.message().to_owned()));
    }
    match status.code() {
        // What another node, or the same a moment later, may answer otherwise.
        Code::Unavailable
        | Code::Unknown
        | Code::Internal
        | Code::Aborted
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::DataLoss
        | Code::ResourceExhausted => Failed::Again(text),
        _ => Failed::ForGood(ActionError::new(
            "upload",
            format!("the cluster refuses the evidence: {text}"),
        )),
    }
}

async fn cancellable<T>(
    cancel: &CancellationToken,
    future: impl Future<Output = T>,
) -> Result<T, ActionError> {
    tokio::select! {
        done = future => Ok(done),
        () = cancel.cancelled() => Err(ActionError::cancelled()),
    }
}
