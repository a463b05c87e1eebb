//! What this agent can do: one file per action. (Contract between the runner and the actions.)

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// One attempt of one task, as the coordinator named it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// The local policy's path roots: actions on files never leave them. Empty: `/`.
    pub roots: Vec<PathBuf>,
}

/// Takes evidence to the cluster; resumes on any node, also after this agent died.
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

/// Runs an action of the catalogue. The output is a JSON object of at most 64 KiB.
pub async fn run(action: &str, context: Context) -> Result<serde_json::Value, ActionError> {
    let _ = context;
    Err(ActionError {
        code: "unsupported",
        message: format!("this build has no action {action}"),
        uncertain: false,
    })
}
