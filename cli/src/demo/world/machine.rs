//! One machine of a world, as the world holds it: its keeper, and what it is asked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

use super::WorldError;
use super::keeper::KEEPER_ARGUMENT;
use super::protocol::{Answer, Exit, Greeting, Launch, Operation, Reply, Request};

/// How long a probe waits for an answer: everything is on one machine, so a second is ample.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long a keeper may take to end after it was told to.
const KEEPER_END_MAX: Duration = Duration::from_secs(10);

/// How long dropping a machine waits for the same; after that the keeper is killed.
const KEEPER_DROP_MAX: Duration = Duration::from_secs(3);

/// A machine of the world. Dropping it ends everything that runs on it.
pub struct Machine {
    name: String,
    addresses: Vec<IpAddr>,
    logs: PathBuf,
    keeper: Child,
    input: tokio::sync::Mutex<Option<ChildStdin>>,
    waiting: Waiting,
    next_id: AtomicU64,
    pids: Mutex<HashMap<String, u32>>,
}

type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Result<Answer, String>>>>>>;

/// What a probe found.
#[derive(Debug, Clone)]
pub struct Probe {
    pub reachable: bool,
    /// Why not.
    pub reason: String,
}

/// What a command left.
#[derive(Debug, Clone)]
pub struct Output {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

impl Machine {
    /// Starts a machine. Its processes' logs go to `logs`.
    pub(super) async fn start(
        executable: &Path,
        isolated: bool,
        name: &str,
        addresses: Vec<IpAddr>,
        logs: &Path,
    ) -> Result<Machine, WorldError> {
        let problem = |what: String| WorldError::Machine {
            machine: name.to_owned(),
            what,
        };
        let log = logs.join(format!("{name}-keeper.log"));
        let log = std::fs::File::create(&log).map_err(|source| WorldError::File { path: log, source })?;
        let mut keeper = Command::new(executable)
            .args([KEEPER_ARGUMENT, if isolated { "isolated" } else { "plain" }, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C in a terminal is for the demo alone: it ends its machines itself, in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| problem(format!("cannot start its keeper: {error}")))?;
        let input = keeper
            .stdin
            .take()
            .ok_or_else(|| problem("its keeper has no input".to_owned()))?;
        let output = keeper
            .stdout
            .take()
            .ok_or_else(|| problem("its keeper has no output".to_owned()))?;
        let mut lines = BufReader::new(output).lines();
        let first = lines.next_line().await.ok().flatten();
        let greeting: Option<Greeting> = first.and_then(|line| serde_json::from_str(&line).ok());
        match greeting {
            Some(Greeting { problem: None, .. }) => {}
            Some(Greeting {
                problem: Some(what), ..
            }) => return Err(problem(what)),
            None => return Err(problem("its keeper ended at once".to_owned())),
        }
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let replies = waiting.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(reply) = serde_json::from_str::<Reply>(&line) else {
                    break;
                };
                let waiter = replies
                    .lock()
                    .as_mut()
                    .and_then(|waiting| waiting.remove(&reply.id));
                if let Some(waiter) = waiter {
                    // Whoever asked may have given up.
                    let _gone = waiter.send(reply.result);
                }
            }
            // Dropping the senders tells everyone who waits, and None everyone who comes later.
            replies.lock().take();
        });
        Ok(Machine {
            name: name.to_owned(),
            addresses,
            logs: logs.to_owned(),
            keeper,
            input: tokio::sync::Mutex::new(Some(input)),
            waiting,
            next_id: AtomicU64::new(1),
            pids: Mutex::default(),
        })
    }

    /// The machine's host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the others reach it; IPv4 first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its first address of IPv4.
    pub fn address(&self) -> IpAddr {
        self.addresses[0]
    }

    /// The keeper's process id, whose network namespace is the machine's.
    pub(super) fn keeper_pid(&self) -> Option<u32> {
        self.keeper.id()
    }

    /// Where the process `name` logs to.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Starts a process under supervision.
    pub async fn spawn(&self, name: &str, launch: Launch) -> Result<u32, WorldError> {
        let log = self.log_path(name);
        let operation = Operation::Start {
            name: name.to_owned(),
            launch,
            log,
        };
        match self.ask(operation).await? {
            Answer::Started { pid } => {
                self.pids.lock().insert(name.to_owned(), pid);
                Ok(pid)
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// The id of the process that was last started under this name: by the machine's own count, which on the
    /// loopback is the computer's.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.pids.lock().get(name).copied()
    }

    /// Waits for the process's `ready` line and returns it. On failure the error holds the end of its log.
    pub async fn ready(&self, name: &str, within: Duration) -> Result<serde_json::Value, WorldError> {
        let operation = Operation::Ready {
            name: name.to_owned(),
            timeout_ms: millis(within),
        };
        match self.ask(operation).await {
            Ok(Answer::Line { line }) => serde_json::from_str(&line)
                .map_err(|error| self.problem(format!("the ready line of {name} is no JSON: {error}"))),
            Ok(other) => Err(self.unexpected(&other)),
            Err(WorldError::Machine { machine, what }) => {
                let log = super::tail(&self.log_path(name));
                Err(WorldError::Machine {
                    machine,
                    what: format!("{what}\n{log}"),
                })
            }
            Err(other) => Err(other),
        }
    }

    /// Sends a signal to the process.
    pub async fn signal(&self, name: &str, signal: Signal) -> Result<(), WorldError> {
        self.ask(Operation::Signal {
            name: name.to_owned(),
            signal: signal.as_raw(),
        })
        .await
        .map(drop)
    }

    /// SIGKILL, and waits until the process is gone.
    pub async fn kill(&self, name: &str) -> Result<(), WorldError> {
        self.signal(name, Signal::KILL).await?;
        self.wait(name, Duration::from_secs(10)).await.map(drop)
    }

    /// Waits for the process's end.
    pub async fn wait(&self, name: &str, within: Duration) -> Result<Exit, WorldError> {
        match self
            .ask(Operation::Wait {
                name: name.to_owned(),
                timeout_ms: millis(within),
            })
            .await?
        {
            Answer::Exited { exit } => Ok(exit),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Runs a command to its end.
    pub async fn run(&self, launch: Launch, within: Duration) -> Result<Output, WorldError> {
        match self
            .ask(Operation::Run {
                launch,
                timeout_ms: millis(within),
            })
            .await?
        {
            Answer::Output { exit, stdout, stderr } => Ok(Output { exit, stdout, stderr }),
            other => Err(self.unexpected(&other)),
        }
    }

    /// A new TCP connection from this machine.
    pub async fn probe(&self, to: SocketAddr) -> Result<Probe, WorldError> {
        let timeout_ms = millis(PROBE_TIMEOUT);
        self.reach(Operation::Connect { to, timeout_ms }).await
    }

    /// Opens a connection to an echo and keeps it, to see later whether it still lives.
    pub async fn hold(&self, name: &str, to: SocketAddr) -> Result<(), WorldError> {
        let timeout_ms = millis(PROBE_TIMEOUT);
        self.ask(Operation::Hold {
            name: name.to_owned(),
            to,
            timeout_ms,
        })
        .await
        .map(drop)
    }

    /// Whether the connection that is held still carries bytes there and back.
    pub async fn held(&self, name: &str) -> Result<Probe, WorldError> {
        let timeout_ms = millis(PROBE_TIMEOUT);
        self.reach(Operation::Held {
            name: name.to_owned(),
            timeout_ms,
        })
        .await
    }

    /// Serves an echo on every address of the machine.
    pub async fn listen(&self, port: u16) -> Result<(), WorldError> {
        let on = self
            .addresses
            .iter()
            .map(|address| SocketAddr::new(*address, port))
            .collect();
        self.ask(Operation::Listen { on }).await.map(drop)
    }

    /// Shows the folder `from` at `at`, on this machine only.
    pub async fn bind(&self, from: &Path, at: &Path) -> Result<(), WorldError> {
        self.ask(Operation::Bind {
            from: from.to_owned(),
            at: at.to_owned(),
        })
        .await
        .map(drop)
    }

    /// Mounts a small tmpfs on this machine only.
    pub async fn mount_tmpfs(&self, at: &Path, size_bytes: u64) -> Result<(), WorldError> {
        self.ask(Operation::MountTmpfs {
            at: at.to_owned(),
            size_bytes,
        })
        .await
        .map(drop)
    }

    pub(super) async fn ask(&self, operation: Operation) -> Result<Answer, WorldError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let gone = || self.problem("its keeper is gone".to_owned());
        self.waiting.lock().as_mut().ok_or_else(gone)?.insert(id, sender);
        let mut line = serde_json::to_vec(&Request { id, operation })
            .map_err(|error| self.problem(format!("cannot write the request: {error}")))?;
        line.push(b'\n');
        {
            let mut input = self.input.lock().await;
            let input = input.as_mut().ok_or_else(gone)?;
            input.write_all(&line).await.map_err(|_| gone())?;
        }
        receiver
            .await
            .map_err(|_| gone())?
            .map_err(|what| self.problem(what))
    }

    /// Ends everything on the machine and waits until it is gone.
    pub(super) async fn shut_down(mut self) -> Result<(), WorldError> {
        self.input.get_mut().take();
        if tokio::time::timeout(KEEPER_END_MAX, self.keeper.wait())
            .await
            .is_err()
        {
            let killed = self.keeper.kill().await;
            killed.map_err(|error| self.problem(format!("cannot kill its keeper: {error}")))?;
        }
        Ok(())
    }

    async fn reach(&self, operation: Operation) -> Result<Probe, WorldError> {
        match self.ask(operation).await? {
            Answer::Reachable { reachable, reason } => Ok(Probe { reachable, reason }),
            other => Err(self.unexpected(&other)),
        }
    }

    fn problem(&self, what: String) -> WorldError {
        WorldError::Machine {
            machine: self.name.clone(),
            what,
        }
    }

    fn unexpected(&self, answer: &Answer) -> WorldError {
        self.problem(format!("its keeper answered something else: {answer:?}"))
    }
}

impl Drop for Machine {
    /// Lets the keeper take its processes along before it is killed itself.
    fn drop(&mut self) {
        self.input.get_mut().take();
        let give_up = std::time::Instant::now() + KEEPER_DROP_MAX;
        while matches!(self.keeper.try_wait(), Ok(None)) && std::time::Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
