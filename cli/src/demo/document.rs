//! The JSON document of `cordon demo --json`. Its shape is stable.

use serde::Serialize;

/// The whole document, on one line.
#[derive(Debug, Serialize)]
pub struct Document {
    pub ok: bool,
    pub run: Run,
    pub tasks: Tasks,
    pub isolation: Isolation,
    pub evidence: Vec<Evidence>,
    pub chaos: Chaos,
}

#[derive(Debug, Default, Serialize)]
pub struct Run {
    pub id: String,
    pub status: String,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Tasks {
    pub total: u32,
    pub succeeded: u32,
    pub failed: u32,
    pub skipped: u32,
    pub unknown: u32,
}

#[derive(Debug, Serialize)]
pub struct Isolation {
    /// Whether isolation really cut traffic here.
    pub real: bool,
    pub probes: Vec<Probe>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    pub host: String,
    /// `before`, `during` or `after`.
    pub when: &'static str,
    /// `coordinator` or `other`.
    pub target: &'static str,
    pub reachable: bool,
}

#[derive(Debug, Serialize)]
pub struct Evidence {
    pub sha256: String,
    pub host: String,
    pub path: String,
    pub size_bytes: u64,
    pub copies: usize,
    pub verified: bool,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Chaos {
    pub leader_killed: bool,
    /// From SIGKILL of the leader to the next task that was committed, as a client saw it.
    pub failover_ms: u64,
    /// Task attempts that an agent began more than once, or tasks that ended more than once.
    pub duplicates: usize,
    /// Tasks of which agents' journals and the cluster's records do not tell the same.
    pub lost: usize,
}

impl std::fmt::Display for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| std::fmt::Error)?)
    }
}
