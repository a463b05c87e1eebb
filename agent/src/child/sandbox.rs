//! What a child gives up before it looks at hostile data.
//!
//! In this order: it dies with its parent; limits; all capabilities; all file systems, TCP and signals to
//! others (Landlock, as far as the kernel has it); and by seccomp everything that opens, connects,
//! starts, traces or signals, also where there is no Landlock. What remains: its memory, the descriptors
//! that it is handed, and threads.

use std::collections::BTreeMap;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use serde::{Deserialize, Serialize};

/// How much a child may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of private memory (`RLIMIT_DATA`): reserved address space does not count, what is written does.
    pub memory_bytes_max: u64,
    /// Of all its threads.
    pub cpu_s_max: u64,
}

/// What the kernel did not let a child give up, so that it must not work.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The work must not start before.
    #[error("the process has {0} threads already; a child is confined before it starts any")]
    Threads(usize),
    /// A call failed.
    #[error("{what}: {source}")]
    Kernel {
        /// Doing what.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Landlock is there and refused.
    #[error("Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// No filter could be built or installed.
    #[error("seccomp: {0}")]
    Seccomp(String),
}

/// Gives everything up. Whether the kernel has Landlock is told.
///
/// # Errors
/// The child must end: it is not confined.
pub fn enter(limits: Limits) -> Result<bool, SandboxError> {
    let kernel = |what| {
        move |error: rustix::io::Errno| SandboxError::Kernel {
            what,
            source: error.into(),
        }
    };
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(|source| SandboxError::Kernel {
            what: "counting threads",
            source,
        })?
        .count();
    if threads != 1 {
        return Err(SandboxError::Threads(threads));
    }
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(kernel("asking to die with the parent"))?;
    limit(Resource::Data, limits.memory_bytes_max, limits.memory_bytes_max)?;
    // The soft limit names the reason (SIGXCPU); the hard one cannot be outlived.
    limit(Resource::Cpu, limits.cpu_s_max, limits.cpu_s_max + 1)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Nofile, 64, 64)?;
    rustix::thread::set_no_new_privs(true).map_err(kernel("giving up new privileges"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(kernel("giving up capabilities"))?;
    let landlock = give_up_files()?;
    give_up_calls()?;
    Ok(landlock)
}

fn limit(resource: Resource, soft: u64, hard: u64) -> Result<(), SandboxError> {
    setrlimit(
        resource,
        Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        },
    )
    .map_err(|error| SandboxError::Kernel {
        what: "limiting resources",
        source: error.into(),
    })
}

/// No rule is added, so everything that Landlock handles is denied.
fn give_up_files() -> Result<bool, SandboxError> {
    let abi = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset != landlock::RulesetStatus::NotEnforced)
}

fn give_up_calls() -> Result<(), SandboxError> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // Signals to itself are how a process ends itself.
    let others = condition(0, SeccompCmpOp::Ne, u64::from(std::process::id()))?;
    refused.insert(libc::SYS_tgkill, vec![others]);
    // A new thread is fine, a new process is not.
    let process = condition(0, SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64), 0)?;
    refused.insert(libc::SYS_clone, vec![process]);
    install(refused, libc::EPERM)?;
    // Its flags are out of a filter's sight; told that it does not exist, libc uses `clone`.
    install(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)
}

fn condition(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, SandboxError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|error| SandboxError::Seccomp(error.to_string()))
}

fn install(refused: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<(), SandboxError> {
    let wrong = |error: &dyn std::fmt::Display| SandboxError::Seccomp(error.to_string());
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| wrong(&error))?;
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let filter =
        SeccompFilter::new(refused, SeccompAction::Allow, errno, arch).map_err(|error| wrong(&error))?;
    let program = BpfProgram::try_from(filter).map_err(|error| wrong(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| wrong(&error))
}

/// Refused with EPERM.
const REFUSED: &[i64] = &[
    // Files.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_open_by_handle_at,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_memfd_create,
    // The network, and anybody else.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    // Programs, namespaces, and the kernel's own machines.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_prlimit64,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_capset,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];
