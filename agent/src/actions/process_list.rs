//! `process.list`: the programs that run, with what names each of them for ever.
//!
//! Kernel threads are left out: they run no program and cannot be killed. A program that only calls
//! itself `[kworker/0:1]` is listed.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::output::{ExactPath, LISTS_BYTES_MAX, Listing};
use super::patterns::Patterns;
use super::process::{self, Process};
use super::{ActionError, Context, blocking, output, parameters};

/// Processes in one answer, at most.
const PROCESSES_MAX: usize = 5000;

#[derive(Debug, Deserialize)]
struct Parameters {
    /// A glob over the process's name, or over the last part of its program's path.
    name: Option<String>,
    /// A glob over the path of its program.
    exe: Option<String>,
    #[serde(default)]
    with_hash: bool,
}

#[derive(Debug, Serialize)]
struct Output {
    processes: Vec<Listed>,
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Listed {
    pid: i32,
    ppid: i32,
    name: String,
    /// Empty when this agent may not see it.
    exe: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe_sha256: Option<String>,
    cmdline: Vec<String>,
    uid: u32,
    start_ticks: u64,
    started_at_ms: u64,
}

/// Runs the action.
pub async fn run(context: Context) -> Result<Value, ActionError> {
    let parameters: Parameters = parameters::parse(context.parameters)?;
    let cancel = context.cancel.clone();
    blocking(move || list(&parameters, &cancel))
        .await
        .and_then(output)
}

fn list(parameters: &Parameters, cancel: &CancellationToken) -> Result<Output, ActionError> {
    let glob = |field, glob: &Option<String>| {
        glob.as_ref()
            .map(|glob| Patterns::new(field, std::slice::from_ref(glob)))
            .transpose()
    };
    let (name_glob, exe_glob) = (glob("name", &parameters.name)?, glob("exe", &parameters.exe)?);
    let boot_ms = process::boot_ms().map_err(|refusal| {
        ActionError::new(
            "io",
            format!("/proc/stat does not say when the host started ({refusal})"),
        )
    })?;
    let pids = process::pids().map_err(|error| ActionError::io("listing /proc", &error))?;
    let mut hashes = HashMap::new();
    let mut processes = Listing::new(PROCESSES_MAX, LISTS_BYTES_MAX);
    for pid in pids {
        if cancel.is_cancelled() {
            return Err(ActionError::cancelled());
        }
        let Some(process) = process::read(pid).filter(|process| !process.kernel_thread) else {
            continue;
        };
        let exe = process::executable(pid).map(|exe| exe.path).unwrap_or_default();
        let file_name = exe.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let named = name_glob
            .as_ref()
            .is_none_or(|glob| glob.matches(process.name.as_bytes(), b"") || glob.matches(file_name, b""));
        let runs = exe_glob.as_ref().is_none_or(|glob| glob.matches(&exe, &exe));
        if !named || !runs {
            continue;
        }
        let exe_sha256 = if parameters.with_hash {
            hash_once(&mut hashes, &process, &exe, cancel)
        } else {
            None
        };
        // It may have ended meanwhile, and its id may name another: then what was read of it is mixed.
        if process::read(pid).is_none_or(|now| now.start_ticks != process.start_ticks) {
            continue;
        }
        let listed = Listed {
            pid,
            ppid: process.ppid,
            name: process.name,
            exe: ExactPath::new(&exe).path,
            exe_sha256,
            cmdline: process::arguments(pid),
            uid: process::uid(pid).unwrap_or(u32::MAX),
            start_ticks: process.start_ticks,
            started_at_ms: boot_ms + process::ticks_to_ms(process.start_ticks),
        };
        if !processes.push(listed) {
            break;
        }
    }
    Ok(Output {
        truncated: processes.truncated(),
        processes: processes.into_items(),
    })
}

/// Many processes run one program: each file is hashed once, whatever path it is known by.
fn hash_once(
    hashes: &mut HashMap<(u64, u64), Option<String>>,
    process: &Process,
    exe: &[u8],
    cancel: &CancellationToken,
) -> Option<String> {
    if exe.is_empty() {
        return None;
    }
    let stat = rustix::fs::stat(format!("/proc/{}/exe", process.pid)).ok()?;
    hashes
        .entry((stat.st_dev, stat.st_ino))
        .or_insert_with(|| {
            process::hash_executable(process.pid, cancel)
                .ok()
                .map(|hashed| hashed.sha256)
        })
        .clone()
}
