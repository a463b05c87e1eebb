//! `file.collect`: takes copies of files into the cluster's evidence, within limits.
//!
//! The files are chosen first (paths as given, then a walk), and each is opened anew, beneath its root,
//! when its turn comes: the choice is a list of names, never a promise about what they are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::beneath::Fence;
use super::filter::{Filter, FilterParameters};
use super::output::{ERRORS_BYTES_MAX, ExactPath, FileProblem, LISTS_BYTES_MAX, Listing};
use super::parameters::Size;
use super::walk::{Step, walk};
use super::{ActionError, Context, blocking, output, parameters};

/// Files when `max_files` is not given.
const FILES_DEFAULT: usize = 1000;

/// Files, at most: their names are held in memory.
const FILES_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
struct Parameters {
    #[serde(default)]
    paths: Vec<PathBuf>,
    #[serde(default)]
    roots: Vec<PathBuf>,
    #[serde(flatten)]
    filter: FilterParameters,
    /// All files together.
    max_bytes: Size,
    max_files: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Output {
    files: Vec<Collected>,
    skipped: Vec<FileProblem>,
    total_bytes: u64,
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Collected {
    #[serde(flatten)]
    path: ExactPath,
    sha256: String,
    size_bytes: u64,
    copies: u32,
    changed_during_read: bool,
}

/// What is to be collected, by name.
#[derive(Debug)]
struct Choice {
    paths: Vec<PathBuf>,
    skipped: Listing<FileProblem>,
    truncated: bool,
}

/// Runs the action.
///
/// # Errors
/// A file that cannot be read is skipped; a cluster that cannot take evidence fails the action, with
/// the code of the sink.
pub async fn run(context: Context) -> Result<Value, ActionError> {
    let parameters: Parameters = parameters::parse(context.parameters.clone())?;
    if parameters.paths.is_empty() && parameters.roots.is_empty() {
        return Err(ActionError::new(
            "invalid_parameters",
            "give `paths`, `roots`, or both: there is nothing to collect",
        ));
    }
    let fence = Fence::new(&context.environment.roots);
    let mut left_bytes = parameters.max_bytes.0;
    let mut choice = blocking({
        let (fence, cancel) = (fence.clone(), context.cancel.clone());
        move || choose(&parameters, &fence, &cancel)
    })
    .await?;

    let mut files = Listing::new(FILES_MAX, LISTS_BYTES_MAX - ERRORS_BYTES_MAX);
    let mut total_bytes = 0u64;
    for path in choice.paths {
        if context.cancel.is_cancelled() {
            return Err(ActionError::cancelled());
        }
        match collect(&context, &fence, &path, left_bytes).await? {
            Err(code) => {
                choice.truncated |= code == "over_limit";
                choice
                    .skipped
                    .push(FileProblem::new(path.as_os_str().as_bytes(), code));
            }
            Ok(collected) => {
                left_bytes = left_bytes.saturating_sub(collected.size_bytes);
                total_bytes += collected.size_bytes;
                if !files.push(collected) {
                    break;
                }
            }
        }
    }
    output(Output {
        truncated: choice.truncated || files.truncated() || choice.skipped.truncated(),
        files: files.into_items(),
        skipped: choice.skipped.into_items(),
        total_bytes,
    })
}

/// Sends one file. The inner error is the file's own, and the others go on.
async fn collect(
    context: &Context,
    fence: &Fence,
    path: &Path,
    left_bytes: u64,
) -> Result<Result<Collected, &'static str>, ActionError> {
    let opened = blocking({
        let (fence, path) = (fence.clone(), path.to_owned());
        move || Ok(fence.open_file(&path))
    })
    .await?;
    let opened = match opened {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if u64::try_from(opened.stat.st_size).unwrap_or(0) > left_bytes {
        return Ok(Err("over_limit"));
    }
    let bytes = path.as_os_str().as_bytes().to_vec();
    let exact = ExactPath::new(&bytes);
    let sent = context.environment.evidence.put(
        context.key.clone(),
        opened.file,
        bytes,
        left_bytes,
        context.cancel.clone(),
    );
    match sent.await {
        Ok(receipt) => Ok(Ok(Collected {
            path: exact,
            sha256: receipt.sha256,
            size_bytes: receipt.size_bytes,
            copies: receipt.copies,
            changed_during_read: receipt.changed_during_read,
        })),
        // What is wrong with this file alone does not keep the others.
        Err(error) if matches!(error.code, "io" | "not_found" | "denied" | "too_large") => {
            Ok(Err(error.code))
        }
        Err(error) => Err(error),
    }
}

fn choose(parameters: &Parameters, fence: &Fence, cancel: &CancellationToken) -> Result<Choice, ActionError> {
    let filter = Filter::new(&parameters.filter)?;
    let files_max = parameters.max_files.unwrap_or(FILES_DEFAULT).min(FILES_MAX);
    let mut skipped = Listing::of_problems();
    let mut seen = BTreeSet::new();
    let mut paths = Vec::new();
    let mut truncated = false;
    for path in &parameters.paths {
        if !seen.contains(path) {
            if paths.len() == files_max {
                truncated = true;
                break;
            }
            seen.insert(path.clone());
            paths.push(path.clone());
        }
    }
    let walked = walk(fence, &parameters.roots, &filter.exclude, cancel, |step| {
        match step {
            Step::Problem(path, refusal) => {
                skipped.push(FileProblem::new(path, refusal));
            }
            Step::File(entry) if filter.admits(entry.relative, entry.absolute, entry.stat) => {
                let path = PathBuf::from(OsString::from_vec(entry.absolute.to_vec()));
                if !seen.contains(&path) {
                    if paths.len() == files_max {
                        return ControlFlow::Break(());
                    }
                    seen.insert(path.clone());
                    paths.push(path);
                }
            }
            Step::File(_) => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(Choice {
        paths,
        skipped,
        truncated: truncated || walked.stopped,
    })
}
