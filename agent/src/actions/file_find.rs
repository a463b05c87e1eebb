//! `file.find`: the files beneath some roots that fit globs, size, age and hash.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::beneath::Fence;
use super::filter::{Filter, FilterParameters};
use super::hashing::{HASH_BYTES_MAX, hash};
use super::output::{ERRORS_BYTES_MAX, ExactPath, FileProblem, LISTS_BYTES_MAX, Listing};
use super::walk::{Entry, Step, walk};
use super::{ActionError, Context, blocking, output, parameters};

/// Matches when `max_matches` is not given.
const MATCHES_DEFAULT: usize = 1000;

/// Matches, at most.
const MATCHES_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
struct Parameters {
    roots: Vec<PathBuf>,
    #[serde(flatten)]
    filter: FilterParameters,
    /// Only files with one of these hashes; hashes what the other conditions leave.
    #[serde(default)]
    sha256: Vec<String>,
    /// Hash every match.
    #[serde(default)]
    hash: bool,
    max_matches: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Output {
    matches: Vec<Match>,
    visited: u64,
    truncated: bool,
    errors: Vec<FileProblem>,
}

#[derive(Debug, Serialize)]
struct Match {
    #[serde(flatten)]
    path: ExactPath,
    size_bytes: u64,
    modified_at_ms: i64,
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// Runs the action.
pub async fn run(context: Context) -> Result<Value, ActionError> {
    let parameters: Parameters = parameters::parse(context.parameters)?;
    let fence = Fence::new(&context.environment.roots);
    let cancel = context.cancel.clone();
    blocking(move || find(&parameters, &fence, &cancel))
        .await
        .and_then(output)
}

fn find(parameters: &Parameters, fence: &Fence, cancel: &CancellationToken) -> Result<Output, ActionError> {
    let filter = Filter::new(&parameters.filter)?;
    let wanted: BTreeSet<String> = parameters
        .sha256
        .iter()
        .map(|hash| hash.to_ascii_lowercase())
        .collect();
    let must_hash = parameters.hash || !wanted.is_empty();
    let matches_max = parameters.max_matches.unwrap_or(MATCHES_DEFAULT).min(MATCHES_MAX);
    let mut matches = Listing::new(matches_max, LISTS_BYTES_MAX - ERRORS_BYTES_MAX);
    let mut errors = Listing::of_problems();

    let walked = walk(fence, &parameters.roots, &filter.exclude, cancel, |step| {
        let entry = match step {
            Step::File(entry) => entry,
            Step::Problem(path, refusal) => {
                errors.push(FileProblem::new(path, refusal));
                return ControlFlow::Continue(());
            }
        };
        if !filter.admits(entry.relative, entry.absolute, entry.stat) {
            return ControlFlow::Continue(());
        }
        let (stat, sha256) = if must_hash {
            match hash_entry(&entry, cancel) {
                Ok((_, sha256)) if !wanted.is_empty() && !wanted.contains(&sha256) => {
                    return ControlFlow::Continue(());
                }
                Ok((stat, sha256)) => (stat, Some(sha256)),
                // The walk itself notices the cancel at its next entry.
                Err("cancelled") => return ControlFlow::Continue(()),
                Err(refusal) => {
                    errors.push(FileProblem::new(entry.absolute, refusal));
                    return ControlFlow::Continue(());
                }
            }
        } else {
            (*entry.stat, None)
        };
        if matches.push(describe(entry.absolute, &stat, sha256)) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    if cancel.is_cancelled() {
        return Err(ActionError::cancelled());
    }
    Ok(Output {
        truncated: matches.truncated() || walked.stopped || errors.truncated(),
        matches: matches.into_items(),
        visited: walked.visited,
        errors: errors.into_items(),
    })
}

fn hash_entry(entry: &Entry<'_>, cancel: &CancellationToken) -> Result<(Stat, String), &'static str> {
    let opened = entry.open()?;
    let hashed = hash(&opened.file, &opened.stat, HASH_BYTES_MAX, cancel)?;
    Ok((opened.stat, hashed.sha256))
}

fn describe(path: &[u8], stat: &Stat, sha256: Option<String>) -> Match {
    Match {
        path: ExactPath::new(path),
        size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified_at_ms: stat.st_mtime.saturating_mul(1000) + stat.st_mtime_nsec as i64 / 1_000_000,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        sha256,
    }
}
