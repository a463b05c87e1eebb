//! `process.kill`: ends processes that are certainly the ones that were meant.
//!
//! A process id alone names nothing: it is used again. So the id is first turned into a pidfd, which
//! holds on to one process; then start time and program are compared with what the order says; then the
//! signal goes through that same pidfd. Never killed are init, this agent, its parents and kernel
//! threads.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::output::ExactPath;
use super::process;
use super::{ActionError, Context, blocking, output, parameters};

/// Processes in one order, at most.
const PROCESSES_MAX: usize = 256;

/// How long a process may take to be gone after the signal.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Parents of the agent are looked up this far.
const ANCESTORS_MAX: usize = 64;

#[derive(Debug, Deserialize)]
struct Parameters {
    processes: Vec<Target>,
    signal: Name,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Name {
    Kill,
    Term,
}

/// A process as it was seen: all that is given must still hold.
#[derive(Clone, Debug, Deserialize)]
struct Target {
    pid: i32,
    start_ticks: u64,
    exe: Option<String>,
    exe_sha256: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Output {
    killed: Vec<Killed>,
    gone: Vec<Gone>,
    refused: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Killed {
    pid: i32,
    name: String,
    exe: String,
}

#[derive(Debug, Serialize)]
struct Gone {
    pid: i32,
}

#[derive(Debug, Serialize)]
struct Refused {
    pid: i32,
    code: &'static str,
    reason: String,
}

/// What came of holding a process and looking at it.
enum Verdict {
    /// It is the one.
    Held(OwnedFd, Killed),
    /// It is not there any more.
    Gone,
    /// It is not to be killed.
    Refused(&'static str, String),
}

/// Runs the action.
///
/// # Errors
/// Only before the first signal; what became of each process is in the output.
pub async fn run(context: Context) -> Result<Value, ActionError> {
    let parameters: Parameters = parameters::parse(context.parameters)?;
    if parameters.processes.len() > PROCESSES_MAX {
        let message = format!(
            "{} processes in one order, but at most {PROCESSES_MAX} are allowed: split it",
            parameters.processes.len()
        );
        return Err(ActionError::new("invalid_parameters", message));
    }
    let signal = match parameters.signal {
        Name::Kill => Signal::KILL,
        Name::Term => Signal::TERM,
    };
    let protected = protected();
    let mut result = Output::default();
    let mut ending = Vec::new();
    for target in parameters.processes {
        if context.cancel.is_cancelled() && ending.is_empty() {
            return Err(ActionError::cancelled());
        }
        let (pid, start_ticks) = (target.pid, target.start_ticks);
        let verdict = blocking({
            let (protected, cancel) = (protected.clone(), context.cancel.clone());
            move || Ok(examine(&target, &protected, &cancel))
        })
        .await;
        // After the first signal an error would hide what was done.
        let verdict = match verdict {
            Err(error) if ending.is_empty() => return Err(error),
            Err(error) => Verdict::Refused("internal", error.message),
            Ok(verdict) => verdict,
        };
        match verdict {
            Verdict::Gone => result.gone.push(Gone { pid }),
            Verdict::Refused(code, reason) => result.refused.push(Refused { pid, code, reason }),
            Verdict::Held(pidfd, killed) => match pidfd_send_signal(&pidfd, signal) {
                Ok(()) => ending.push((start_ticks, killed)),
                Err(Errno::SRCH) => result.gone.push(Gone { pid }),
                Err(error) => result.refused.push(Refused {
                    pid,
                    code: "denied",
                    reason: error.to_string(),
                }),
            },
        }
    }
    let deadline = Instant::now() + GONE_WITHIN.min(context.timeout);
    for (start_ticks, killed) in ending {
        if is_gone_by(killed.pid, start_ticks, deadline).await {
            result.killed.push(killed);
        } else {
            let reason = format!(
                "{} got the signal and is still there after {GONE_WITHIN:?}",
                killed.name
            );
            result.refused.push(Refused {
                pid: killed.pid,
                code: "still_running",
                reason,
            });
        }
    }
    output(result)
}

/// Holds the process and compares it with what was meant.
fn examine(target: &Target, protected: &[i32], cancel: &CancellationToken) -> Verdict {
    if target.pid <= 1 || protected.contains(&target.pid) {
        let reason = "init, this agent and its parents are never killed".to_owned();
        return Verdict::Refused("protected", reason);
    }
    let Some(pid) = Pid::from_raw(target.pid) else {
        return Verdict::Gone;
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Verdict::Gone,
        Err(Errno::INVAL) => {
            return Verdict::Refused("not_a_process", "the id names a thread, not a process".to_owned());
        }
        Err(error) => return Verdict::Refused("unsupported", format!("the kernel gives no pidfd: {error}")),
    };
    // From here on the pidfd holds one process. What procfs says now is of that process, unless it has
    // ended: then the signal below finds nobody.
    let Some(found) = process::read(target.pid) else {
        return Verdict::Gone;
    };
    if found.kernel_thread {
        return Verdict::Refused("protected", format!("{} is a kernel thread", found.name));
    }
    if found.start_ticks != target.start_ticks || found.state == 'Z' {
        return Verdict::Gone;
    }
    let exe = process::executable(target.pid).map(|exe| ExactPath::new(&exe.path).path);
    if let Some(wanted) = &target.exe {
        match &exe {
            Some(found) if found == wanted => {}
            Some(found) => {
                return Verdict::Refused("other_program", format!("it runs {found}, not {wanted}"));
            }
            None => {
                return Verdict::Refused(
                    "other_program",
                    format!("what it runs cannot be seen; {wanted} was meant"),
                );
            }
        }
    }
    if let Some(wanted) = &target.exe_sha256 {
        match process::hash_executable(target.pid, cancel) {
            Ok(hashed) if hashed.sha256.eq_ignore_ascii_case(wanted) => {}
            Ok(hashed) => {
                let reason = format!("its program has the SHA-256 {}, not {wanted}", hashed.sha256);
                return Verdict::Refused("other_program", reason);
            }
            Err(refusal) => {
                return Verdict::Refused(
                    "other_program",
                    format!("its program cannot be hashed ({refusal})"),
                );
            }
        }
    }
    Verdict::Held(
        pidfd,
        Killed {
            pid: target.pid,
            name: found.name,
            exe: exe.unwrap_or_default(),
        },
    )
}

/// Whether the process has ended by then. A zombie has: it only waits for its parent to look.
async fn is_gone_by(pid: i32, start_ticks: u64, deadline: Instant) -> bool {
    loop {
        let there = process::read(pid).filter(|found| found.start_ticks == start_ticks && found.state != 'Z');
        if there.is_none() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// This process and its parents, up to init.
fn protected() -> Vec<i32> {
    let mut pids = vec![rustix::process::getpid().as_raw_pid()];
    while pids.len() < ANCESTORS_MAX {
        let last = pids[pids.len() - 1];
        match process::read(last) {
            Some(process) if process.ppid > 0 => pids.push(process.ppid),
            _ => break,
        }
    }
    pids
}
