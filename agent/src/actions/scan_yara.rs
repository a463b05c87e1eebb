//! `scan.yara`: looks inside files with YARA rules, in a child that can do nothing else.
//!
//! This side walks, opens beneath the policy's roots and hands each file over; the child sees the content
//! alone. One file at a time: when a file ends the child, it is known which one, it is listed with the
//! limit that was hit, and the scan goes on with a new child.

use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::beneath::{Fence, RegularFile};
use super::filter::{Filter, FilterParameters};
use super::output::{ERRORS_BYTES_MAX, ExactPath, FileProblem, LISTS_BYTES_MAX, Listing};
use super::parameters::{self, Size};
use super::walk::{Step, walk};
use super::{ActionError, Context, blocking, output};
use crate::child::handover::{send_file, send_request};
use crate::child::sandbox::Limits;
use crate::child::yara::{Answer, Found, Request, RuleError};
use crate::child::{CHILD_ARGUMENT, SCAN_YARA};

/// When `max_file_bytes` is not given.
const FILE_BYTES_DEFAULT: u64 = 64 << 20;

/// When `max_matches` is not given.
const MATCHES_DEFAULT: usize = 1000;

/// When `memory_max` is not given.
const MEMORY_BYTES_DEFAULT: u64 = 512 << 20;

/// Below this a child cannot even start.
const MEMORY_BYTES_MIN: u64 = 32 << 20;

/// When `cpu_seconds_max` is not given.
const CPU_SECONDS_DEFAULT: u64 = 600;

/// One file may take this long.
const FILE_TIMEOUT: Duration = Duration::from_secs(60);

/// After so many children have died of their files, the scan ends.
const CHILDREN_MAX: usize = 16;

/// An answer, at most: bounded by the child's own limits, but the child is not trusted.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Of what a dying child says, this much is read.
const STDERR_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Deserialize)]
struct Parameters {
    rules: String,
    roots: Vec<PathBuf>,
    #[serde(flatten)]
    filter: FilterParameters,
    max_file_bytes: Option<Size>,
    max_matches: Option<usize>,
    memory_max: Option<Size>,
    cpu_seconds_max: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Output {
    matches: Vec<Match>,
    scanned: u64,
    skipped: Vec<FileProblem>,
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Match {
    #[serde(flatten)]
    path: ExactPath,
    rule: String,
    namespace: String,
    tags: Vec<String>,
    sha256: String,
    strings: Vec<Found>,
}

/// The child of now, for whoever has to end it.
#[derive(Clone, Default)]
struct Victim(Arc<Mutex<Option<OwnedFd>>>);

/// A child that has compiled the rules.
struct Scanner {
    child: Child,
    socket: Option<UnixStream>,
    answers: BufReader<ChildStdout>,
    errors: ChildStderr,
}

/// Why a child is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Memory,
    Cpu,
    Crash,
}

/// Runs the action.
///
/// # Errors
/// `invalid_rules` with the place of each error; `limit_memory`, `limit_cpu` when the rules alone take
/// more than they may; `cancelled` at the deadline too.
pub async fn run(context: Context) -> Result<Value, ActionError> {
    let parameters: Parameters = parameters::parse(context.parameters)?;
    let fence = Fence::new(&context.environment.roots);
    let victim = Victim::default();
    let work = blocking({
        let (victim, cancel) = (victim.clone(), context.cancel.clone());
        move || scan(&parameters, &fence, &victim, &cancel)
    });
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => done.and_then(output),
        () = context.cancel.cancelled() => {
            // The work notices by itself, unless it waits for its child.
            victim.kill();
            work.await.and_then(output)
        }
    }
}

fn scan(
    parameters: &Parameters,
    fence: &Fence,
    victim: &Victim,
    cancel: &CancellationToken,
) -> Result<Output, ActionError> {
    let filter = Filter::new(&parameters.filter)?;
    let file_bytes_max = parameters
        .max_file_bytes
        .map_or(FILE_BYTES_DEFAULT, |size| size.0);
    let request = Request {
        rules: parameters.rules.clone(),
        limits: Limits {
            memory_bytes_max: parameters
                .memory_max
                .map_or(MEMORY_BYTES_DEFAULT, |size| size.0)
                .max(MEMORY_BYTES_MIN),
            cpu_s_max: parameters.cpu_seconds_max.unwrap_or(CPU_SECONDS_DEFAULT).max(1),
        },
        file_bytes_max,
        file_timeout_s: FILE_TIMEOUT.as_secs(),
    };
    let mut matches = Listing::new(
        parameters.max_matches.unwrap_or(MATCHES_DEFAULT),
        LISTS_BYTES_MAX - ERRORS_BYTES_MAX,
    );
    let mut skipped = Listing::of_problems();
    let (mut scanned, mut children, mut truncated) = (0u64, 1usize, false);
    let mut scanner = Scanner::start(&request, victim, cancel)?;
    // What ends the scan from within the walk.
    let mut failure = None;
    let walked = walk(fence, &parameters.roots, &filter.exclude, cancel, |step| {
        let entry = match step {
            Step::File(entry) if filter.admits(entry.relative, entry.absolute, entry.stat) => entry,
            Step::File(_) => return ControlFlow::Continue(()),
            Step::Problem(path, refusal) => {
                skipped.push(FileProblem::new(path, refusal));
                return ControlFlow::Continue(());
            }
        };
        let RegularFile { file, stat } = match entry.open() {
            Ok(opened) => opened,
            Err(refusal) => {
                skipped.push(FileProblem::new(entry.absolute, refusal));
                return ControlFlow::Continue(());
            }
        };
        if u64::try_from(stat.st_size).unwrap_or(0) > file_bytes_max {
            skipped.push(FileProblem::new(entry.absolute, "too_large"));
            return ControlFlow::Continue(());
        }
        match scanner.scan(&file) {
            Ok(Answer::Scanned {
                matches: found,
                sha256,
                truncated: cut,
            }) => {
                scanned += 1;
                truncated |= cut;
                for found in found {
                    let listed = matches.push(Match {
                        path: ExactPath::new(entry.absolute),
                        rule: found.rule,
                        namespace: found.namespace,
                        tags: found.tags,
                        sha256: sha256.clone(),
                        strings: found.strings,
                    });
                    if !listed {
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            }
            Ok(Answer::Skipped(code)) => {
                let code = ["io", "timeout", "limit_memory"]
                    .into_iter()
                    .find(|known| *known == code)
                    .unwrap_or("scan_failed");
                skipped.push(FileProblem::new(entry.absolute, code));
                ControlFlow::Continue(())
            }
            // Anything else is no answer to a file: the child is not to be trusted any more.
            Ok(_) | Err(_) => {
                let death = scanner.end();
                if cancel.is_cancelled() {
                    failure = Some(ActionError::cancelled());
                    return ControlFlow::Break(());
                }
                skipped.push(FileProblem::new(entry.absolute, death.code()));
                // The processor time is of the scan as a whole: a new child would have it all again.
                if death == Death::Cpu || children == CHILDREN_MAX {
                    return ControlFlow::Break(());
                }
                children += 1;
                match Scanner::start(&request, victim, cancel) {
                    Ok(next) => {
                        scanner = next;
                        ControlFlow::Continue(())
                    }
                    Err(error) => {
                        failure = Some(error);
                        ControlFlow::Break(())
                    }
                }
            }
        }
    });
    let _ = scanner.end();
    let walked = walked?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    Ok(Output {
        truncated: truncated || walked.stopped || matches.truncated() || skipped.truncated(),
        matches: matches.into_items(),
        scanned,
        skipped: skipped.into_items(),
    })
}

impl Scanner {
    /// Starts a child and has it compile the rules.
    fn start(request: &Request, victim: &Victim, cancel: &CancellationToken) -> Result<Self, ActionError> {
        let broken = |error: std::io::Error| ActionError::io("starting the scanner's process", &error);
        let (ours, theirs) = UnixStream::pair().map_err(broken)?;
        // Not by its path: that may have become another version's since this agent started.
        let mut child = Command::new("/proc/self/exe")
            .arg0("cordon-agent-child")
            .args([CHILD_ARGUMENT, SCAN_YARA])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        let (Some(stdout), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(ActionError::new(
                "internal",
                "the scanner's process has no output",
            ));
        };
        victim.is(&child);
        let mut scanner = Scanner {
            child,
            socket: Some(ours),
            answers: BufReader::new(stdout),
            errors,
        };
        let answer = match &scanner.socket {
            Some(socket) => send_request(socket, request).and_then(|()| scanner.answer()),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        };
        match answer {
            Ok(Answer::Ready { .. }) => Ok(scanner),
            Ok(Answer::InvalidRules(errors)) => {
                let _ = scanner.end();
                Err(ActionError::new("invalid_rules", explain(&errors)))
            }
            Ok(Answer::TooManyRules(message)) => {
                let _ = scanner.end();
                Err(ActionError::new("limit_patterns", message))
            }
            Ok(_) | Err(_) => {
                let (death, said) = scanner.end_and_tell();
                if cancel.is_cancelled() {
                    return Err(ActionError::cancelled());
                }
                let message = match death {
                    Death::Memory => {
                        "compiling the rules took more memory than `memory_max` allows".to_owned()
                    }
                    Death::Cpu => {
                        "compiling the rules took more time than `cpu_seconds_max` allows".to_owned()
                    }
                    Death::Crash => format!("the scanner ended before it had compiled the rules: {said}"),
                };
                Err(ActionError::new(death.code(), message))
            }
        }
    }

    fn scan(&mut self, file: &std::fs::File) -> std::io::Result<Answer> {
        let socket = self.socket.as_ref().ok_or(std::io::ErrorKind::NotConnected)?;
        send_file(socket, file)?;
        self.answer()
    }

    fn answer(&mut self) -> std::io::Result<Answer> {
        let mut line = Vec::new();
        (&mut self.answers)
            .take(ANSWER_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }

    fn end(&mut self) -> Death {
        self.end_and_tell().0
    }

    /// Sees to it that the child is no more, and finds out why.
    fn end_and_tell(&mut self) -> (Death, String) {
        self.socket = None;
        let mut said = Vec::new();
        // A dying child has said what it had to say; one that answered nonsense is ended.
        let ended = self.child.try_wait().ok().flatten();
        let status = match ended {
            Some(status) => Some(status),
            None => self.wait_or_kill(),
        };
        let _ = (&mut self.errors).take(STDERR_BYTES_MAX).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let signal = status.and_then(|status| status.signal());
        let out_of_memory = [
            "memory allocation of",
            "annot allocate memory",
            "out of memory",
            "Out of memory",
        ];
        let death = if signal == Some(Signal::XCPU.as_raw()) {
            Death::Cpu
        } else if out_of_memory.iter().any(|words| said.contains(words)) {
            Death::Memory
        } else {
            Death::Crash
        };
        let first: String = said
            .lines()
            .next()
            .unwrap_or("it said nothing")
            .chars()
            .take(300)
            .collect();
        (death, first)
    }

    /// A child whose socket is closed ends by itself; how it ends is worth a moment.
    fn wait_or_kill(&mut self) -> Option<std::process::ExitStatus> {
        for _ in 0..200 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().and_then(|()| self.child.wait()).ok()
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        // Already gone, as a rule; a child is never left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Victim {
    /// The child is not reaped yet, so its id names it and nobody else.
    fn is(&self, child: &Child) {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pidfd;
    }

    fn kill(&self) {
        if let Some(pidfd) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // It may have ended already.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

impl Death {
    fn code(self) -> &'static str {
        match self {
            Death::Memory => "limit_memory",
            Death::Cpu => "limit_cpu",
            Death::Crash => "crashed",
        }
    }
}

fn explain(errors: &[RuleError]) -> String {
    let told: Vec<String> = errors
        .iter()
        .map(|error| {
            format!(
                "line {}, column {}: {} ({})",
                error.line, error.column, error.message, error.code
            )
        })
        .collect();
    format!("the rules do not compile: {}", told.join("; "))
}
