//! `file.hash`: the SHA-256 of files by their paths.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::beneath::{Fence, Refusal};
use super::hashing::{HASH_BYTES_MAX, Hashed, hash};
use super::output::{ERRORS_BYTES_MAX, ExactPath, FileProblem, LISTS_BYTES_MAX, Listing};
use super::{ActionError, Context, blocking, output, parameters};

/// Files in one answer, at most.
const FILES_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
struct Parameters {
    paths: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Output {
    files: Vec<HashedFile>,
    errors: Vec<FileProblem>,
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct HashedFile {
    #[serde(flatten)]
    path: ExactPath,
    size_bytes: u64,
    sha256: String,
    changed_during_read: bool,
}

/// Runs the action.
pub async fn run(context: Context) -> Result<Value, ActionError> {
    let parameters: Parameters = parameters::parse(context.parameters)?;
    let fence = Fence::new(&context.environment.roots);
    let cancel = context.cancel.clone();
    blocking(move || hash_all(&parameters.paths, &fence, &cancel))
        .await
        .and_then(output)
}

fn hash_all(paths: &[PathBuf], fence: &Fence, cancel: &CancellationToken) -> Result<Output, ActionError> {
    let mut files = Listing::new(FILES_MAX, LISTS_BYTES_MAX - ERRORS_BYTES_MAX);
    let mut errors = Listing::of_problems();
    for path in paths {
        let bytes = path.as_os_str().as_bytes();
        match hash_one(path, fence, cancel) {
            Err("cancelled") => return Err(ActionError::cancelled()),
            Err(refusal) => {
                errors.push(FileProblem::new(bytes, refusal));
            }
            Ok(Hashed {
                sha256,
                size_bytes,
                changed_during_read,
            }) => {
                let path = ExactPath::new(bytes);
                if !files.push(HashedFile {
                    path,
                    size_bytes,
                    sha256,
                    changed_during_read,
                }) {
                    break;
                }
            }
        }
    }
    let truncated = files.truncated() || errors.truncated();
    Ok(Output {
        files: files.into_items(),
        errors: errors.into_items(),
        truncated,
    })
}

fn hash_one(path: &Path, fence: &Fence, cancel: &CancellationToken) -> Result<Hashed, Refusal> {
    let opened = fence.open_file(path)?;
    hash(&opened.file, &opened.stat, HASH_BYTES_MAX, cancel)
}
