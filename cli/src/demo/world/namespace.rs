//! Leaving the machine's own network: namespaces, as root or inside a user namespace of our own.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use super::{Reality, nft};

/// The hidden argument under which a child tries out, in namespaces that end with it, what is possible here.
pub const TRIAL_ARGUMENT: &str = "__demo-trial";

/// Why a namespace could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}")]
pub struct NamespaceError {
    what: &'static str,
    #[source]
    source: io::Error,
}

/// Finds out what this machine offers, without changing anything of the process that asks: a child does
/// it all once, in namespaces that end with it.
///
/// `single_threaded` says whether the process that will call [`enter_network`] has only one thread,
/// which a user namespace needs.
pub fn survey(single_threaded: bool) -> Reality {
    survey_with(Path::new("/proc/self/exe"), single_threaded)
}

/// The same, with the helpers of another executable (a test's).
pub fn survey_with(executable: &Path, single_threaded: bool) -> Reality {
    let nft = nft::find();
    let Some(nft) = nft else {
        return Reality::Loopback {
            why: "nft is neither in PATH nor in /usr/sbin or /sbin, so isolation cannot be applied; \
                  install nftables to see it"
                .to_owned(),
            nft: None,
        };
    };
    if !rustix::process::geteuid().is_root() && !single_threaded {
        return Reality::Loopback {
            why: "not root, and a process with several threads cannot make a user namespace".to_owned(),
            nft: Some(nft),
        };
    }
    match trial(executable) {
        Ok(()) => Reality::Namespaces { nft },
        Err(why) => Reality::Loopback { why, nft: Some(nft) },
    }
}

/// Moves the calling thread, and every thread and process that it starts from now on, into a fresh
/// network namespace. Without root it makes a user namespace first, which only a process of a single
/// thread can.
pub fn enter_network() -> Result<(), NamespaceError> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if !uid.is_root() {
        unshare(UnshareFlags::NEWUSER, "make a user namespace")?;
        let map = |what, path: &str, text: String| {
            fs::write(path, text).map_err(|source| NamespaceError { what, source })
        };
        // Without CAP_SETGID outside, the kernel takes a map of groups only once setgroups is off.
        map("deny setgroups", "/proc/self/setgroups", "deny".to_owned())?;
        map(
            "map the user",
            "/proc/self/uid_map",
            format!("0 {} 1", uid.as_raw()),
        )?;
        map(
            "map the group",
            "/proc/self/gid_map",
            format!("0 {} 1", gid.as_raw()),
        )?;
    }
    unshare(UnshareFlags::NEWNET, "make a network namespace")
}

/// Makes the calling process the outside of a new machine: its own network, mounts, host name, and (for
/// the processes that it starts) process ids.
pub fn enter_machine() -> Result<(), NamespaceError> {
    unshare(
        UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWPID,
        "make the namespaces of a machine",
    )
}

/// Finishes the inside of a machine, as its first process: nothing that is mounted here is seen outside,
/// `/proc` shows only its own processes, and it has its own name.
pub fn settle_machine(hostname: &str) -> Result<(), NamespaceError> {
    let failed = |what| {
        move |errno: rustix::io::Errno| NamespaceError {
            what,
            source: errno.into(),
        }
    };
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("make the mounts private"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None::<&std::ffi::CStr>)
        .map_err(failed("mount the machine's own /proc"))?;
    rustix::system::sethostname(hostname.as_bytes()).map_err(failed("set the host's name"))
}

fn unshare(flags: UnshareFlags, what: &'static str) -> Result<(), NamespaceError> {
    #[expect(
        unsafe_code,
        reason = "rustix marks every unshare unsafe because of CLONE_FILES"
    )]
    // SAFETY: the danger is UnshareFlags::FILES, which no caller in this file passes; the table of
    // descriptors stays shared.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(|errno| NamespaceError {
        what,
        source: errno.into(),
    })
}

fn trial(executable: &Path) -> Result<(), String> {
    let output = Command::new(executable)
        .arg(TRIAL_ARGUMENT)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start a trial of the namespaces: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text
        .trim()
        .lines()
        .last()
        .unwrap_or("the trial of the namespaces failed")
        .to_owned())
}

/// What the trial child does: everything that a world needs, once.
pub fn run_trial() -> Result<(), String> {
    let say = |error: NamespaceError| {
        let hint = match error.source.raw_os_error() {
            Some(1 | 13) => " (this user, or this container, may not make namespaces)",
            _ => "",
        };
        format!("{error}{hint}")
    };
    enter_network().map_err(say)?;
    let nft = nft::find().ok_or("nft is not installed")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    runtime
        .block_on(async {
            let network = super::network::Network::open()?;
            network.make_bridge("cordon-trial", &[]).await
        })
        .map_err(|error| error.to_string())?;
    drop(runtime);
    nft::trial(&nft)?;
    enter_machine().map_err(say)?;
    // Process ids are new only for children, so the inside of a machine is tried by one.
    let inside = Command::new("/proc/self/exe")
        .args([TRIAL_ARGUMENT, "inside"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start a process in a new process namespace: {error}"))?;
    if inside.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&inside.stderr).trim().to_owned())
    }
}

/// What the trial's own child does.
pub fn run_trial_inside() -> Result<(), String> {
    settle_machine("trial").map_err(|error| error.to_string())
}
