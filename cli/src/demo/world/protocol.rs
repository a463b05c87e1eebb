//! What a world and the keepers of its machines say to each other: one JSON object a line, over the
//! keeper's standard input and output.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One request; `id` names its reply.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub id: u64,
    pub operation: Operation,
}

/// What a keeper can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operation {
    /// Gives the machine its addresses. Only in a world of namespaces.
    Configure {
        link: String,
        addresses: Vec<(std::net::IpAddr, u8)>,
    },
    /// Mounts a small tmpfs, so that a disk can fill up. Only in a world of namespaces.
    MountTmpfs { at: PathBuf, size_bytes: u64 },
    /// Shows the folder `from` at `at`, on this machine only. Only in a world of namespaces.
    Bind { from: PathBuf, at: PathBuf },
    /// Starts a supervised process.
    Start {
        name: String,
        launch: Launch,
        log: PathBuf,
    },
    /// Waits until the process has printed its `ready` line (any JSON object with `"ready": true`).
    Ready { name: String, timeout_ms: u64 },
    /// Sends a signal to the process itself (not to its children).
    Signal { name: String, signal: i32 },
    /// Waits until the process has ended.
    Wait { name: String, timeout_ms: u64 },
    /// Runs a command to its end.
    Run { launch: Launch, timeout_ms: u64 },
    /// Tries a TCP connection from this machine.
    Connect { to: SocketAddr, timeout_ms: u64 },
    /// Serves an echo on this port, over IPv4 and IPv6, until the machine ends.
    Listen { on: Vec<SocketAddr> },
    /// Opens a connection to an echo and keeps it.
    Hold {
        name: String,
        to: SocketAddr,
        timeout_ms: u64,
    },
    /// Whether the connection that is held still carries bytes there and back.
    Held { name: String, timeout_ms: u64 },
}

/// What to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    /// None: this same executable.
    pub program: Option<PathBuf>,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
}

/// The answer to one request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    pub id: u64,
    pub result: Result<Answer, String>,
}

/// What a keeper answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Answer {
    Done,
    Started {
        pid: u32,
    },
    Line {
        line: String,
    },
    Exited {
        exit: Exit,
    },
    Output {
        exit: Exit,
        stdout: String,
        stderr: String,
    },
    Reachable {
        reachable: bool,
        reason: String,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

/// The keeper's first line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Greeting {
    /// Whether the machine has namespaces of its own.
    pub isolated: bool,
    /// Why it could not be set up.
    pub problem: Option<String>,
}

impl Launch {
    /// This same executable with these arguments.
    pub fn own(args: impl IntoIterator<Item = impl Into<String>>) -> Launch {
        Launch {
            program: None,
            args: args.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
        }
    }

    /// Another program with these arguments.
    pub fn program(path: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<String>>) -> Launch {
        Launch {
            program: Some(path.into()),
            ..Launch::own(args)
        }
    }

    /// With one more variable in its environment.
    pub fn with_env(mut self, name: &str, value: impl Into<String>) -> Launch {
        self.env.insert(name.to_owned(), value.into());
        self
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => write!(f, "an unknown end"),
        }
    }
}
