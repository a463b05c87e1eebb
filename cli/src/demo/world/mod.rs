//! A world for the demo and for the end-to-end tests: machines of their own on one computer, joined by a
//! network that is not the computer's.
//!
//! - [`namespace`] finds out what the computer offers and moves the calling thread off its network.
//! - [`World`] makes [`Machine`]s: each has a network, mounts, process ids and a host name of its own,
//!   and a keeper (a process of this same executable) that starts, signals and watches what runs there.
//! - [`Cluster`] puts coordinators on machines, [`AgentProcess`] an agent, and [`OperatorClient`] asks
//!   them what an operator asks.
//!
//! Where there are no namespaces the machines are plain processes on addresses of the loopback, one
//! address each, with the same interface: nothing else changes but that isolation cannot be real.
//!
//! Everything ends with the world: a keeper ends when its input does, in whatever way its world ended,
//! and takes its processes along. Nothing here uses the computer's own network or firewall.

pub mod namespace;

mod agent;
mod cluster;
mod keeper;
mod machine;
mod mounts;
mod network;
mod nft;
mod operator;
mod protocol;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub use agent::{AgentProcess, JournalLine, all_online};
pub use cluster::{Cluster, Node};
pub use machine::{Machine, Output, PROBE_TIMEOUT, Probe};
pub use operator::{Api, OperatorClient, has_ended, request_id, run_in_words};
pub use protocol::{Exit, Launch};

use namespace::NamespaceError;
use network::{Network, NetworkError};

/// The bridge in the hub's namespace, to which every machine's cable goes.
const BRIDGE: &str = "cordon0";
/// The link inside each machine.
const LINK: &str = "eth0";
/// How much of a log an error shows.
const TAIL_LINES: usize = 20;

/// How often a level is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// What kind of world this computer allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reality {
    /// Machines in namespaces, and nft works in them: isolation is real.
    Namespaces { nft: PathBuf },
    /// Plain processes on the loopback.
    Loopback {
        /// For people.
        why: String,
        /// To check rules with, at least.
        nft: Option<PathBuf>,
    },
}

/// Why a world could not be made, or a machine of it not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A namespace was refused.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The network could not be built.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A machine's trouble.
    #[error("machine {machine}: {what}")]
    Machine { machine: String, what: String },
    /// A file's trouble.
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Something was awaited and did not come.
    #[error("{what} did not happen within {seconds} s; last seen: {seen}")]
    Awaited {
        what: String,
        seconds: u64,
        seen: String,
    },
    /// A call to a coordinator was refused.
    #[error("{call}: {reason}")]
    Call { call: &'static str, reason: String },
    /// Identities could not be made or read.
    #[error("certificates: {0}")]
    Certificates(String),
}

/// A set of machines on one network, and a folder for what they leave.
pub struct World {
    reality: Reality,
    executable: PathBuf,
    folder: tempfile::TempDir,
    network: Option<Network>,
    /// Second and third byte of the loopback addresses, so that worlds side by side do not meet.
    loopback: [u8; 2],
    machines: u16,
}

impl Reality {
    /// Whether isolation cuts traffic here.
    pub fn is_real(&self) -> bool {
        matches!(self, Reality::Namespaces { .. })
    }

    /// The nft program, if there is one.
    pub fn nft(&self) -> Option<&Path> {
        match self {
            Reality::Namespaces { nft } => Some(nft),
            Reality::Loopback { nft, .. } => nft.as_deref(),
        }
    }

    /// Checks rules with `nft -c`, without applying anything.
    pub fn check_rules(&self, rules: &str) -> Result<(), String> {
        nft::check(self.nft().ok_or("nft is not installed")?, rules)
    }
}

impl World {
    /// Makes an empty world. In a world of namespaces the calling thread must be off the computer's
    /// network already ([`namespace::enter_network`]), with the tokio runtime built after that.
    ///
    /// `executable` answers the hidden arguments of the keeper, the coordinator and the agent.
    pub async fn new(reality: Reality, executable: PathBuf) -> Result<World, WorldError> {
        let folder = tempfile::Builder::new()
            .prefix("cordon-")
            .tempdir()
            .map_err(|source| WorldError::File {
                path: std::env::temp_dir(),
                source,
            })?;
        for name in ["logs", "disk"] {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).map_err(|source| WorldError::File { path, source })?;
        }
        let network = if reality.is_real() {
            let network = Network::open()?;
            network.loopback_up().await?;
            network.make_bridge(BRIDGE, &network::addresses(1)).await?;
            Some(network)
        } else {
            None
        };
        let [.., high, low] = std::process::id().to_be_bytes();
        let count = WORLDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(World {
            reality,
            executable,
            folder,
            network,
            // Not 127.0: that is where everybody else is.
            loopback: [high.max(1), low.wrapping_add(count)],
            machines: 0,
        })
    }

    /// What kind of world this is.
    pub fn reality(&self) -> &Reality {
        &self.reality
    }

    /// The world's folder: logs, configurations, state. It is removed with the world.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where, on every machine that has mounts of its own, that machine's own disk is shown.
    pub fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Where the processes' logs are.
    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// Adds a machine with this host name.
    pub async fn machine(&mut self, name: &str) -> Result<Machine, WorldError> {
        self.machines += 1;
        let number = self.machines;
        let logs = self.logs();
        let Some(network) = &self.network else {
            let [high, low] = self.loopback;
            let last = u8::try_from(number).map_err(|_| WorldError::Machine {
                machine: name.to_owned(),
                what: "a world on the loopback has room for 255 machines".to_owned(),
            })?;
            let address = IpAddr::V4(Ipv4Addr::new(127, high, low, last));
            return Machine::start(&self.executable, false, name, vec![address], &logs).await;
        };
        // 1 is the hub itself.
        let addresses = network::addresses(number + 1);
        let plain = addresses.iter().map(|(address, _)| *address).collect();
        let machine = Machine::start(&self.executable, true, name, plain, &logs).await?;
        let pid = machine.keeper_pid().ok_or_else(|| WorldError::Machine {
            machine: name.to_owned(),
            what: "its keeper ended".to_owned(),
        })?;
        // The name is unique to the hub, then changed by moving: the inside is called the same everywhere.
        network
            .make_cable(BRIDGE, &format!("port{number}"), LINK, pid)
            .await?;
        let operation = protocol::Operation::Configure {
            link: LINK.to_owned(),
            addresses: addresses.to_vec(),
        };
        machine.ask(operation).await?;
        Ok(machine)
    }

    /// Keeps the folder after the world's end, and says where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

static WORLDS: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Answers the hidden arguments under which a world's helpers are started; None: none of them.
pub fn helper_main() -> Option<ExitCode> {
    // Lossy is enough: the helpers' own arguments are ours, and paths among them come from UTF-8 text.
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let (first, rest) = args.split_first()?;
    let say = |result: Result<(), String>| match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    };
    match first.as_str() {
        keeper::KEEPER_ARGUMENT => Some(keeper::main(rest)),
        keeper::CHILD_ARGUMENT => Some(keeper::become_child(rest)),
        namespace::TRIAL_ARGUMENT if rest.is_empty() => Some(say(namespace::run_trial())),
        namespace::TRIAL_ARGUMENT => Some(say(namespace::run_trial_inside())),
        _ => None,
    }
}

/// The end of a log, for an error.
pub fn tail(log: &Path) -> String {
    let text = match std::fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("(its log {} cannot be read: {error})", log.display()),
    };
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    let shown: Vec<String> = lines[from..].iter().map(|line| format!("  | {line}")).collect();
    format!("the end of {}:\n{}", log.display(), shown.join("\n"))
}

/// Waits until `look` finds the level that it waits for, and returns what it found. What `look` says
/// instead becomes part of the error when the time is over.
pub async fn level<T>(
    what: &str,
    within: Duration,
    look: impl AsyncFn() -> Result<Result<T, String>, WorldError>,
) -> Result<T, WorldError> {
    let give_up = Instant::now() + within;
    loop {
        match look().await? {
            Ok(found) => return Ok(found),
            Err(seen) if Instant::now() >= give_up => {
                return Err(WorldError::Awaited {
                    what: what.to_owned(),
                    seconds: within.as_secs(),
                    seen,
                });
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
