//! What this agent can do: one file per action.
//!
//! An action gets a [`Context`] and gives a JSON object that fits the catalogue's schema, or an
//! [`ActionError`]. Its parameters become a typed struct at once ([`parameters`]); its files are opened
//! by [`beneath`] and its trees walked by [`walk`], and by nothing else, so that no action can leave the
//! roots of the local policy or follow a link. Lists are bounded ([`mod@output`]) and say when they are cut.
//!
//! Deliberately absent: a shell, and any way to run a command that is not one of Cordon's own.

#[cfg(target_os = "linux")]
mod beneath;
#[cfg(target_os = "linux")]
mod file_collect;
#[cfg(target_os = "linux")]
mod file_find;
#[cfg(target_os = "linux")]
mod file_hash;
#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod hashing;
#[cfg(target_os = "linux")]
mod host_info;
#[cfg(target_os = "linux")]
mod host_isolate;
#[cfg(target_os = "linux")]
mod host_release;
mod output;
mod parameters;
mod patterns;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod process_kill;
#[cfg(target_os = "linux")]
mod process_list;
#[cfg(all(target_os = "linux", feature = "yara"))]
mod scan_yara;
#[cfg(target_os = "linux")]
mod walk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use catalogue::{NOT_IMPLEMENTED, RunsOn};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// One attempt of one task, as the coordinator named it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptKey {
    /// UUID of the run.
    pub run_id: String,
    /// The step's name.
    pub step: String,
    /// Index within the step's fan-out.
    pub item: u32,
    /// From 1.
    pub attempt: u32,
    /// The log index that assigned it.
    pub token: u64,
}

/// What an action works with.
#[derive(Clone)]
pub struct Context {
    /// Which attempt this is.
    pub key: AttemptKey,
    /// Checked against the catalogue's schema already.
    pub parameters: serde_json::Value,
    /// Fires on cancel and at the deadline; the action stops as soon as it can.
    pub cancel: CancellationToken,
    /// How long the attempt may run.
    pub timeout: Duration,
    /// The agent around it.
    pub environment: Arc<Environment>,
}

/// The agent around an action.
pub struct Environment {
    /// The agent's own folder (0700).
    pub state_dir: PathBuf,
    /// host:port of every coordinator's agent listener: what stays reachable under isolation.
    pub coordinators: Vec<String>,
    /// Takes evidence to the cluster.
    pub evidence: Arc<dyn EvidenceSink>,
    /// Makes a new mutually authenticated connection to any coordinator and asks it something.
    pub probe: Arc<dyn CoordinatorProbe>,
    /// Whether isolation is carried out here.
    pub isolation: IsolationMode,
    /// The local policy's path roots: actions on files never leave them. Empty: `/`.
    pub roots: Vec<PathBuf>,
}

/// Whether this agent may change the host's firewall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationMode {
    /// Isolation is real.
    #[default]
    Enforce,
    /// Rules are built and checked, and nothing is applied: for trials on a machine that must stay
    /// reachable. The output says `isolated: false`.
    Check,
}

/// Takes evidence to the cluster; resumes on the node that holds the part, also after this agent died.
pub trait EvidenceSink: Send + Sync {
    /// Sends the file's content, hashing while it streams, and returns when two coordinators hold it and
    /// the custody record is committed. `path` is what the record will say.
    fn put(
        &self,
        key: AttemptKey,
        file: std::fs::File,
        path: Vec<u8>,
        size_bytes_max: u64,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<Receipt, ActionError>>;
}

/// Evidence that the cluster holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Lower-case hex.
    pub sha256: String,
    /// Of the content.
    pub size_bytes: u64,
    /// On how many coordinators.
    pub copies: u32,
    /// Size or modification time differed before and after.
    pub changed_during_read: bool,
}

/// Asks a coordinator something over a connection that did not exist before.
pub trait CoordinatorProbe: Send + Sync {
    /// A full TLS handshake and one answered call, within the time given.
    fn probe(&self, within: Duration) -> BoxFuture<'_, Result<(), String>>;
}

/// Why an action did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ActionError {
    /// Stable, `[a-z_]+`: `not_found`, `timeout`, `cancelled`, `unsupported`, `denied`, `limit`, `io`, ...
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The effect may have happened all the same: the task ends `unknown`, not `failed`.
    pub uncertain: bool,
}

impl ActionError {
    /// An error after which nothing has been done.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        ActionError {
            code,
            message: message.into(),
            uncertain: false,
        }
    }

    /// The task was cancelled, or its time is over, before anything was changed.
    pub fn cancelled() -> Self {
        Self::new("cancelled", "the task was cancelled, or its time was over")
    }

    /// Something that the host should be able to do failed.
    pub fn io(doing: &str, error: &std::io::Error) -> Self {
        Self::new("io", format!("{doing}: {error}"))
    }

    /// The same error, after something may have been done.
    pub fn uncertain(mut self) -> Self {
        self.uncertain = true;
        self
    }
}

/// The actions of this build on this platform, sorted.
pub fn supported() -> Vec<&'static str> {
    if cfg!(target_os = "linux") {
        SUPPORTED.to_vec()
    } else {
        Vec::new()
    }
}

const SUPPORTED: &[&str] = &[
    "file.collect",
    "file.find",
    "file.hash",
    "host.info",
    "host.isolate",
    "host.release",
    "process.kill",
    "process.list",
    #[cfg(feature = "yara")]
    "scan.yara",
];

/// Runs an action of the catalogue. The output is a JSON object of at most 64 KiB.
///
/// # Errors
/// `not_implemented` for an action that no agent of this version has, `unsupported` for one that this build or
/// platform lacks; else the action's own.
#[cfg(target_os = "linux")]
pub async fn run(action: &str, context: Context) -> Result<serde_json::Value, ActionError> {
    match action {
        "file.collect" => file_collect::run(context).await,
        "file.find" => file_find::run(context).await,
        "file.hash" => file_hash::run(context).await,
        "host.info" => host_info::run(context).await,
        "host.isolate" => host_isolate::run(context).await,
        "host.release" => host_release::run(context).await,
        "process.kill" => process_kill::run(context).await,
        "process.list" => process_list::run(context).await,
        #[cfg(feature = "yara")]
        "scan.yara" => scan_yara::run(context).await,
        _ => Err(missing(action)),
    }
}

/// Runs an action of the catalogue: on this platform there is none yet.
///
/// # Errors
/// As on the others.
#[cfg(not(target_os = "linux"))]
pub async fn run(action: &str, _context: Context) -> Result<serde_json::Value, ActionError> {
    Err(missing(action))
}

fn missing(action: &str) -> ActionError {
    let built = catalogue::find(action).is_some_and(|known| known.built && known.runs_on == RunsOn::Agent);
    let message = format!(
        "this agent ({}, version {}) has no action {action:?}; it has: {}. Upgrade the agent, or leave this host out",
        std::env::consts::OS,
        env!("CARGO_PKG_VERSION"),
        supported().join(", "),
    );
    ActionError::new(if built { "unsupported" } else { NOT_IMPLEMENTED }, message)
}

/// Runs what blocks (files, hashing) off the async threads. The work itself asks the cancel token.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ActionError> + Send + 'static,
) -> Result<T, ActionError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(ActionError::new("internal", format!("an action ended unexpectedly: {error}")).uncertain())
        }
    }
}

/// The output as JSON.
fn output(output: impl serde::Serialize) -> Result<serde_json::Value, ActionError> {
    serde_json::to_value(output).map_err(|error| {
        ActionError::new(
            "internal",
            format!("an output could not be written as JSON: {error}"),
        )
    })
}
