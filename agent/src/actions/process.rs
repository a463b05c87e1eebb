//! What procfs says about processes.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{FileType, fstat};
use tokio_util::sync::CancellationToken;

use super::beneath::{Refusal, code, code_of_io};
use super::hashing::{Hashed, hash};
use super::output::ExactPath;

/// Executables larger than this are not hashed.
const EXE_BYTES_MAX: u64 = 1 << 30;

/// Of the command line, at most this much is read.
const CMDLINE_BYTES_MAX: u64 = 4096;

/// Arguments shown, at most.
const ARGUMENTS_MAX: usize = 64;

/// Clock ticks a second in `/proc/PID/stat`: USER_HZ, a constant of the kernel's interface on every
/// architecture that Cordon supports.
const TICKS_PER_SECOND: u64 = 100;

/// Set in the flags of kernel threads (PF_KTHREAD, linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// One process, as `/proc/PID/stat` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// The kernel's name of it (`comm`), at most 15 bytes.
    pub name: String,
    /// `R`, `S`, `D`, `Z`, ...
    pub state: char,
    /// Its parent's id.
    pub ppid: i32,
    /// When it started, in ticks since boot: with the pid it names one process for ever.
    pub start_ticks: u64,
    /// It has no program of its own.
    pub kernel_thread: bool,
}

/// The program that a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// As bytes; without the kernel's ` (deleted)`.
    pub path: Vec<u8>,
    /// The file is not in any folder any more.
    pub deleted: bool,
}

/// Every process there is.
///
/// # Errors
/// `/proc` cannot be read.
pub fn pids() -> std::io::Result<Vec<i32>> {
    let mut pids: Vec<i32> = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

/// Reads one process. None: there is none of this id.
pub fn read(pid: i32) -> Option<Process> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat)
}

/// The user that a process acts as (its effective id).
pub fn uid(pid: i32) -> Option<u32> {
    let status = std::fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// The arguments of a process, cut at the limits. Empty for a zombie or a kernel thread.
pub fn arguments(pid: i32) -> Vec<String> {
    let mut bytes = Vec::new();
    let read = File::open(format!("/proc/{pid}/cmdline"))
        .and_then(|file| file.take(CMDLINE_BYTES_MAX).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes
        .split(|byte| *byte == 0)
        .take(ARGUMENTS_MAX)
        .map(|argument| ExactPath::new(argument).path)
        .collect()
}

/// What a process runs. None: nothing (a kernel thread, a zombie), or it is not ours to see.
pub fn executable(pid: i32) -> Option<Executable> {
    let link = PathBuf::from(format!("/proc/{pid}/exe"));
    let mut path = std::fs::read_link(&link).ok()?.as_os_str().as_bytes().to_vec();
    let deleted = rustix::fs::stat(&link).is_ok_and(|stat| stat.st_nlink == 0);
    if deleted && let Some(plain) = path.strip_suffix(b" (deleted)") {
        path = plain.to_vec();
    }
    Some(Executable { path, deleted })
}

/// The SHA-256 of what a process runs, from the very file it was started from, also when that has been
/// deleted or replaced since.
///
/// # Errors
/// A code, as for files.
pub fn hash_executable(pid: i32, cancel: &CancellationToken) -> Result<Hashed, Refusal> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let opened =
        rustix::fs::open(format!("/proc/{pid}/exe"), flags, rustix::fs::Mode::empty()).map_err(code)?;
    let stat = fstat(&opened).map_err(code)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("not_regular");
    }
    hash(&File::from(opened), &stat, EXE_BYTES_MAX, cancel)
}

/// When the host started, in milliseconds since 1970.
///
/// # Errors
/// A code: `/proc/stat` cannot be read, or lacks it.
pub fn boot_ms() -> Result<u64, Refusal> {
    let stat = std::fs::read_to_string("/proc/stat").map_err(|error| code_of_io(&error))?;
    let seconds: Option<u64> = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|text| text.trim().parse().ok());
    seconds.map(|seconds| seconds * 1000).ok_or("io")
}

/// Ticks since boot as milliseconds.
pub fn ticks_to_ms(ticks: u64) -> u64 {
    ticks.saturating_mul(1000) / TICKS_PER_SECOND
}

/// `pid (comm) state ppid ...`: the name may hold spaces and brackets, so the last `)` ends it.
fn parse_stat(stat: &[u8]) -> Option<Process> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(stat.get(..open)?).ok()?.trim().parse().ok()?;
    let name = ExactPath::new(stat.get(open + 1..close)?).path;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    // proc_pid_stat(5) counts from 1, and `state` is field 3.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Process {
        pid,
        name,
        state: field(3)?.chars().next()?,
        ppid: field(4)?.parse().ok()?,
        start_ticks: field(22)?.parse().ok()?,
        kernel_thread: field(9)?.parse::<u64>().ok()? & KERNEL_THREAD != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_brackets_and_spaces() {
        let line = b"42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 0 0\n";
        let process = parse_stat(line).expect("a process");
        assert_eq!(process.name, "a) b (c)");
        assert_eq!(
            (process.pid, process.ppid, process.state, process.start_ticks),
            (42, 7, 'S', 98765)
        );
        assert!(!process.kernel_thread);
        assert_eq!(parse_stat(b"42 (cut"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn this_process_is_as_it_is() {
        let pid = i32::try_from(std::process::id()).expect("an id");
        let me = read(pid).expect("runs");
        assert_eq!(me.pid, pid);
        let exe = executable(pid).expect("has a program");
        assert_eq!(
            exe.path,
            std::env::current_exe().expect("known").as_os_str().as_bytes()
        );
        assert!(!arguments(pid).is_empty());
        assert_eq!(uid(pid), Some(rustix::process::geteuid().as_raw()));
        let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).expect("after 1970");
        let started_ms = boot_ms().expect("known") + ticks_to_ms(me.start_ticks);
        assert!(
            now_ms.abs_diff(started_ms) < 24 * 3600 * 1000,
            "{started_ms} and {now_ms}"
        );
    }
}
