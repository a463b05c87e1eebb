//! SHA-256 while streaming, bounded, and honest about files that change meanwhile.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;

use rustix::fs::{Advice, Stat, fadvise, fstat};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::beneath::{Refusal, code, code_of_io};

/// A file larger than this is not hashed (`too_large`): at the speed of one core it would keep a task
/// busy for minutes. Sparse files pretend to be of any size.
pub const HASH_BYTES_MAX: u64 = 64 << 30;

/// How much is read at a time; between two reads the cancel token is asked.
const CHUNK_BYTES: usize = 256 * 1024;

/// What a file was while it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// Lower-case hex.
    pub sha256: String,
    /// How many bytes were read.
    pub size_bytes: u64,
    /// Size, modification or change time differed before and after, or the file ended early.
    pub changed_during_read: bool,
}

/// Hashes what the file held when it was opened: a file that grows while it is read ends at its old
/// size, so that a writer cannot keep the agent busy for ever.
///
/// # Errors
/// `too_large`, `cancelled`, or the code of a failed read.
pub fn hash(
    file: &File,
    before: &Stat,
    bytes_max: u64,
    cancel: &CancellationToken,
) -> Result<Hashed, Refusal> {
    let expected_bytes = u64::try_from(before.st_size).unwrap_or(0);
    if expected_bytes > bytes_max {
        return Err("too_large");
    }
    // Only a hint; a file system that does not take it is as good.
    let _ = fadvise(file, 0, None, Advice::Sequential);
    let mut reader = file.take(expected_bytes);
    let mut chunk = vec![0u8; CHUNK_BYTES];
    let mut digest = Sha256::new();
    let mut size_bytes = 0u64;
    loop {
        if cancel.is_cancelled() {
            return Err("cancelled");
        }
        match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                digest.update(&chunk[..count]);
                size_bytes += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(code_of_io(&error)),
        }
    }
    let after = fstat(file.as_fd()).map_err(code)?;
    let changed_during_read = size_bytes != expected_bytes || state(before) != state(&after);
    Ok(Hashed {
        sha256: hex::encode(digest.finalize()),
        size_bytes,
        changed_during_read,
    })
}

/// What tells whether a file is still as it was.
fn state(stat: &Stat) -> (i64, i64, i64, i64, i64) {
    (
        stat.st_size,
        stat.st_mtime,
        stat.st_mtime_nsec as i64,
        stat.st_ctime,
        stat.st_ctime_nsec as i64,
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::actions::beneath::Fence;

    fn open(path: &Path) -> (File, Stat) {
        let opened = Fence::new(&[]).open_file(path).expect("opens");
        (opened.file, opened.stat)
    }

    #[test]
    fn known_content_has_its_known_hash() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("abc");
        std::fs::write(&path, b"abc").expect("written");
        let (file, stat) = open(&path);
        let hashed = hash(&file, &stat, HASH_BYTES_MAX, &CancellationToken::new()).expect("hashes");
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            hashed.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!((hashed.size_bytes, hashed.changed_during_read), (3, false));
    }

    #[test]
    fn a_file_that_grew_or_shrank_since_it_was_opened_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        std::fs::write(&path, b"one").expect("written");
        let (file, stat) = open(&path);
        std::fs::write(&path, b"one and two").expect("written");
        let grown = hash(&file, &stat, HASH_BYTES_MAX, &CancellationToken::new()).expect("hashes");
        assert_eq!((grown.size_bytes, grown.changed_during_read), (3, true));

        let (file, stat) = open(&path);
        std::fs::write(&path, b"o").expect("written");
        let shrunk = hash(&file, &stat, HASH_BYTES_MAX, &CancellationToken::new()).expect("hashes");
        assert_eq!((shrunk.size_bytes, shrunk.changed_during_read), (1, true));
    }

    #[test]
    fn sparse_giants_and_cancelled_tasks_end_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sparse");
        std::fs::File::create(&path)
            .and_then(|file| file.set_len(1 << 40))
            .expect("a sparse file");
        let (file, stat) = open(&path);
        assert_eq!(
            hash(&file, &stat, HASH_BYTES_MAX, &CancellationToken::new()),
            Err("too_large")
        );

        let cancelled = CancellationToken::new();
        cancelled.cancel();
        assert_eq!(hash(&file, &stat, u64::MAX, &cancelled), Err("cancelled"));
    }
}
