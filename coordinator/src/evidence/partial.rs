//! Partial files: what has arrived of an upload, resumable after any death but this disk's.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use engine::id::Digest;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{EvidenceError, blocking};

/// A partial file that nobody wrote to for this long is given up.
pub const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The folder of partial files, and who writes to which.
#[derive(Clone)]
pub struct Partials {
    folder: PathBuf,
    writers: Arc<Mutex<HashMap<String, Writer>>>,
}

/// The one stream that may write to a file: a later one cancels it, and waits for the lock.
struct Writer {
    lock: Arc<tokio::sync::Mutex<()>>,
    cancel: CancellationToken,
    streams: usize,
}

/// An open partial file. Its hash is that of everything written so far.
pub struct Partial {
    name: String,
    path: PathBuf,
    body: Option<(File, Sha256)>,
    size_bytes: u64,
    /// The file is an object already (they are one file with two names): nothing may be added to it.
    sealed: bool,
    taken_over: CancellationToken,
    // Fields drop in order: the lock is free before the writer is struck off the list.
    _lock: tokio::sync::OwnedMutexGuard<()>,
    _listed: Listed,
}

/// Strikes a stream off the list of writers.
struct Listed {
    name: String,
    writers: Arc<Mutex<HashMap<String, Writer>>>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut writers = self.writers.lock();
        if let Some(writer) = writers.get_mut(&self.name) {
            writer.streams -= 1;
            if writer.streams == 0 {
                writers.remove(&self.name);
            }
        }
    }
}

/// The name of the partial file of whatever these parts name: a hash, so that no text of an agent
/// becomes a path, and no two agents share a file.
pub fn partial_name(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hex::encode(hasher.finalize())
}

impl Partials {
    /// Opens the folder, which is made when it is missing.
    pub fn open(folder: &Path) -> Result<Partials, EvidenceError> {
        std::fs::create_dir_all(folder).map_err(|source| EvidenceError::Io {
            what: "make the folder of partial uploads",
            source,
        })?;
        Ok(Partials {
            folder: folder.to_owned(),
            writers: Arc::default(),
        })
    }

    /// How many bytes of this upload are here.
    pub async fn size(&self, name: &str) -> Result<u64, EvidenceError> {
        let path = self.folder.join(name);
        blocking("look at a partial upload", move || {
            match std::fs::metadata(path) {
                Ok(meta) => Ok(meta.len()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Opens a file for writing on from its end, hashing what is there. Another stream that writes to
    /// it is stopped first: its connection is most likely dead and does not know yet.
    pub async fn open_partial(&self, name: &str) -> Result<Partial, EvidenceError> {
        let taken_over = CancellationToken::new();
        let lock = {
            let mut writers = self.writers.lock();
            let writer = writers.entry(name.to_owned()).or_insert_with(|| Writer {
                lock: Arc::default(),
                cancel: CancellationToken::new(),
                streams: 0,
            });
            writer.streams += 1;
            std::mem::replace(&mut writer.cancel, taken_over.clone()).cancel();
            writer.lock.clone()
        };
        let listed = Listed {
            name: name.to_owned(),
            writers: self.writers.clone(),
        };
        let lock = lock.lock_owned().await;
        if taken_over.is_cancelled() {
            return Err(EvidenceError::TakenOver);
        }
        let path = self.folder.join(name);
        let opened = path.clone();
        let (file, hasher, size_bytes, sealed) = blocking("open a partial upload", move || {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(0o600)
                .open(opened)?;
            let (hasher, size) = hash_file(&mut file)?;
            let sealed = file.metadata()?.nlink() > 1;
            Ok((file, hasher, size, sealed))
        })
        .await?;
        Ok(Partial {
            name: name.to_owned(),
            path,
            body: Some((file, hasher)),
            size_bytes,
            sealed,
            taken_over,
            _lock: lock,
            _listed: listed,
        })
    }

    /// Forgets an upload. One that is not here is forgotten already.
    pub async fn remove(&self, name: &str) -> Result<(), EvidenceError> {
        let path = self.folder.join(name);
        blocking("remove a partial upload", move || remove_file(&path)).await
    }

    /// Removes what was abandoned; gives how many.
    pub async fn sweep(&self) -> Result<usize, EvidenceError> {
        let folder = self.folder.clone();
        blocking("sweep the partial uploads", move || {
            let mut removed = 0;
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let age = SystemTime::now().duration_since(entry.metadata()?.modified()?);
                if age.is_ok_and(|age| age > ABANDONED_AFTER) {
                    remove_file(&entry.path())?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }
}

impl Partial {
    /// The file's name within its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether it was published before: it and the object are one file.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Writes on. More than `limit` in all is refused before anything is written.
    pub async fn append(&mut self, data: Bytes, limit: u64) -> Result<(), EvidenceError> {
        if self.taken_over.is_cancelled() {
            return Err(EvidenceError::TakenOver);
        }
        let size_bytes = self.size_bytes + data.len() as u64;
        if self.sealed && !data.is_empty() {
            return Err(EvidenceError::TooLarge {
                limit: self.size_bytes,
            });
        }
        if size_bytes > limit {
            return Err(EvidenceError::TooLarge { limit });
        }
        let (mut file, mut hasher) = self.take_body()?;
        let body = blocking("write a partial upload", move || {
            hasher.update(&data);
            file.write_all(&data)?;
            Ok((file, hasher))
        })
        .await?;
        self.body = Some(body);
        self.size_bytes = size_bytes;
        Ok(())
    }

    /// Makes the file durable and gives its digest. After a failed fsync nothing is known of the file's
    /// pages, so it is removed, and the upload begins again.
    pub async fn finish(&mut self) -> Result<Digest, EvidenceError> {
        if self.taken_over.is_cancelled() {
            return Err(EvidenceError::TakenOver);
        }
        let (file, hasher) = self.take_body()?;
        let path = self.path.clone();
        blocking("make a partial upload durable", move || {
            if let Err(error) = file.sync_all() {
                remove_file(&path)?;
                return Err(error);
            }
            Ok(Digest(hasher.finalize().into()))
        })
        .await
    }

    /// Its first bytes, at most so many, read again.
    pub async fn beginning(&self, bytes_max: u64) -> Result<Vec<u8>, EvidenceError> {
        let path = self.path.clone();
        blocking("read a partial upload", move || {
            let mut bytes = Vec::new();
            File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
            Ok(bytes)
        })
        .await
    }

    /// A body that is gone was lost in a write that failed.
    fn take_body(&mut self) -> Result<(File, Sha256), EvidenceError> {
        self.body.take().ok_or_else(|| EvidenceError::Io {
            what: "write a partial upload",
            source: std::io::Error::other("an earlier write of this upload failed"),
        })
    }
}

fn hash_file(file: &mut File) -> std::io::Result<(Sha256, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    file.seek(SeekFrom::Start(0))?;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hasher, size));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

fn remove_file(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(data: &[u8]) -> Digest {
        Digest(Sha256::digest(data).into())
    }

    #[tokio::test]
    async fn an_upload_resumes_where_it_stood() {
        let folder = tempfile::tempdir().unwrap();
        let partials = Partials::open(folder.path()).unwrap();
        let name = partial_name(&["agent", "upload"]);
        let mut first = partials.open_partial(&name).await.unwrap();
        first.append(Bytes::from_static(b"half "), 100).await.unwrap();
        drop(first);
        assert_eq!(partials.size(&name).await.unwrap(), 5);
        let mut second = partials.open_partial(&name).await.unwrap();
        assert_eq!(second.size_bytes(), 5);
        second.append(Bytes::from_static(b"and half"), 100).await.unwrap();
        assert_eq!(second.finish().await.unwrap(), digest(b"half and half"));
    }

    #[tokio::test]
    async fn a_later_stream_takes_an_upload_over() {
        let folder = tempfile::tempdir().unwrap();
        let partials = Partials::open(folder.path()).unwrap();
        let mut first = partials.open_partial("n").await.unwrap();
        let later = tokio::spawn({
            let partials = partials.clone();
            async move { partials.open_partial("n").await }
        });
        first.taken_over.clone().cancelled().await;
        assert!(matches!(
            first.append(Bytes::from_static(b"x"), 10).await,
            Err(EvidenceError::TakenOver)
        ));
        drop(first);
        let second = later.await.unwrap().unwrap();
        assert_eq!(second.size_bytes(), 0);
        drop(second);
        assert!(partials.writers.lock().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_written_beyond_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let partials = Partials::open(folder.path()).unwrap();
        let mut partial = partials.open_partial("n").await.unwrap();
        let refused = partial.append(Bytes::from_static(b"12345"), 4).await;
        assert!(matches!(refused, Err(EvidenceError::TooLarge { limit: 4 })));
        assert_eq!(partials.size("n").await.unwrap(), 0);
    }

    #[test]
    fn names_are_hashes_of_their_parts() {
        assert_ne!(partial_name(&["ab", "c"]), partial_name(&["a", "bc"]));
        assert_eq!(partial_name(&["../../etc", "passwd"]).len(), 64);
    }
}
