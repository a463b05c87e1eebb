//! The keeper: the first process of each machine of a world. It starts, signals and watches the machine's
//! processes, and makes connections from the machine's own network, as told on its standard input. When
//! that ends (whoever made the world is gone, in whatever way) it kills everything that it started.
//!
//! In a world of namespaces the keeper is process 1 of its machine, so the kernel itself ends all the
//! others with it. Elsewhere every process is in a group of its own, and is told to die with its parent.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::network::Network;
use super::protocol::{Answer, Exit, Greeting, Launch, Operation, Reply, Request};
use super::{mounts, namespace};

/// `__demo-keeper isolated|plain HOSTNAME`: a machine.
pub const KEEPER_ARGUMENT: &str = "__demo-keeper";
/// `__demo-child PROGRAM ARGS..`: becomes the program, once it is sure to die with the keeper.
pub const CHILD_ARGUMENT: &str = "__demo-child";
/// `__demo-keeper inside HOSTNAME`: process 1 of an isolated machine.
const INSIDE: &str = "inside";

/// Output of a command that is run to its end: more than this is cut.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// Connections that an echo serves at once.
const ECHO_CONNECTIONS_MAX: usize = 256;

/// Runs a keeper to its end. `args` follow [`KEEPER_ARGUMENT`].
pub fn main(args: &[String]) -> ExitCode {
    let hostname = args.get(1).map_or("machine", String::as_str);
    match args.first().map(String::as_str) {
        Some("isolated") => match outside(hostname) {
            Ok(code) => code,
            Err(problem) => refuse(problem),
        },
        Some(INSIDE) => match namespace::settle_machine(hostname) {
            Ok(()) => serve(true),
            Err(error) => refuse(error.to_string()),
        },
        _ => serve(false),
    }
}

/// Replaces this process by the program given, after asking the kernel to kill it when the keeper dies.
pub fn become_child(args: &[String]) -> ExitCode {
    let keeper = rustix::process::getppid();
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return fail(&format!("cannot ask to die with the keeper: {error}"));
    }
    // The keeper may have died before the request was made.
    if rustix::process::getppid() != keeper {
        return ExitCode::FAILURE;
    }
    let Some((program, rest)) = args.split_first() else {
        return fail("nothing to become");
    };
    let error = std::process::Command::new(program).args(rest).exec();
    fail(&format!("cannot execute {program}: {error}"))
}

/// The outside of an isolated machine: makes its namespaces and waits for its first process. It starts no
/// thread: a process whose children get a new process namespace cannot.
fn outside(hostname: &str) -> Result<ExitCode, String> {
    namespace::enter_machine().map_err(|error| error.to_string())?;
    let status = std::process::Command::new("/proc/self/exe")
        .args([KEEPER_ARGUMENT, INSIDE, hostname])
        .status()
        .map_err(|error| format!("cannot start the machine's first process: {error}"))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn refuse(problem: String) -> ExitCode {
    let greeting = Greeting {
        isolated: false,
        problem: Some(problem),
    };
    match serde_json::to_string(&greeting) {
        Ok(line) => println!("{line}"),
        Err(error) => return fail(&format!("cannot say what went wrong: {error}")),
    }
    ExitCode::FAILURE
}

fn fail(problem: &str) -> ExitCode {
    eprintln!("{problem}");
    ExitCode::FAILURE
}

fn serve(isolated: bool) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start a runtime: {error}")),
    };
    let keeper = Rc::new(Keeper {
        isolated,
        ..Keeper::default()
    });
    let result = LocalSet::new().block_on(&runtime, keeper.clone().run());
    keeper.kill_all();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("the keeper lost its world: {error}")),
    }
}

/// The state of one machine. Everything runs on one thread.
#[derive(Default)]
struct Keeper {
    isolated: bool,
    processes: RefCell<HashMap<String, Process>>,
    held: RefCell<HashMap<String, Rc<tokio::sync::Mutex<TcpStream>>>>,
}

/// A process under supervision.
#[derive(Clone)]
struct Process {
    pid: Pid,
    ready: watch::Receiver<Option<String>>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Keeper {
    async fn run(self: Rc<Self>) -> io::Result<()> {
        let network = if self.isolated {
            Some(Network::open().map_err(io::Error::other)?)
        } else {
            None
        };
        if let Some(network) = &network {
            network.loopback_up().await.map_err(io::Error::other)?;
        }
        let network = Rc::new(network);
        let mut output = tokio::io::stdout();
        write_line(
            &mut output,
            &Greeting {
                isolated: self.isolated,
                problem: None,
            },
        )
        .await?;

        let (replies, mut outgoing) = mpsc::channel::<Reply>(64);
        let mut requests = BufReader::new(tokio::io::stdin()).lines();
        loop {
            tokio::select! {
                line = requests.next_line() => {
                    let Some(line) = line? else { return Ok(()) };
                    let request: Request = serde_json::from_str(&line)?;
                    let (keeper, network, replies) = (self.clone(), network.clone(), replies.clone());
                    tokio::task::spawn_local(async move {
                        let result = keeper.carry_out(&network, request.operation).await;
                        // Nobody is left to tell when the world is gone.
                        let _gone = replies.send(Reply { id: request.id, result }).await;
                    });
                }
                Some(reply) = outgoing.recv() => write_line(&mut output, &reply).await?,
            }
        }
    }

    async fn carry_out(&self, network: &Option<Network>, operation: Operation) -> Result<Answer, String> {
        match operation {
            Operation::Configure { link, addresses } => {
                let network = network.as_ref().ok_or("this machine has no network of its own")?;
                network
                    .configure(&link, &addresses)
                    .await
                    .map_err(|error| error.to_string())?;
                Ok(Answer::Done)
            }
            Operation::MountTmpfs { at, size_bytes } => {
                self.needs_mounts()?;
                mounts::tmpfs(&at, size_bytes).map(|()| Answer::Done)
            }
            Operation::Bind { from, at } => {
                self.needs_mounts()?;
                mounts::bind(&from, &at).map(|()| Answer::Done)
            }
            Operation::Start { name, launch, log } => self.start(name, &launch, &log).await,
            Operation::Ready { name, timeout_ms } => self.ready(&name, timeout_ms).await,
            Operation::Signal { name, signal } => {
                let process = self.process(&name)?;
                let signal = Signal::from_named_raw(signal).ok_or_else(|| format!("no signal {signal}"))?;
                rustix::process::kill_process(process.pid, signal)
                    .map_err(|error| format!("cannot signal {name}: {error}"))?;
                Ok(Answer::Done)
            }
            Operation::Wait { name, timeout_ms } => {
                let exit = self.process(&name)?.ended(timeout_ms).await;
                exit.map(|exit| Answer::Exited { exit })
                    .ok_or_else(|| format!("{name} is still running"))
            }
            Operation::Run { launch, timeout_ms } => run(&launch, timeout_ms).await,
            Operation::Connect { to, timeout_ms } => Ok(match connect(to, timeout_ms).await {
                Ok(_) => Answer::Reachable {
                    reachable: true,
                    reason: String::new(),
                },
                Err(reason) => Answer::Reachable {
                    reachable: false,
                    reason,
                },
            }),
            Operation::Listen { on } => {
                for address in on {
                    let listener = TcpListener::bind(address)
                        .await
                        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
                    tokio::task::spawn_local(echo(listener));
                }
                Ok(Answer::Done)
            }
            Operation::Hold { name, to, timeout_ms } => {
                let stream = connect(to, timeout_ms).await?;
                self.held
                    .borrow_mut()
                    .insert(name, Rc::new(tokio::sync::Mutex::new(stream)));
                Ok(Answer::Done)
            }
            Operation::Held { name, timeout_ms } => {
                let stream = self.held.borrow().get(&name).cloned();
                let stream = stream.ok_or_else(|| format!("no connection {name} is held"))?;
                let asked = round_trip(&stream);
                let within = Duration::from_millis(timeout_ms);
                Ok(match tokio::time::timeout(within, asked).await {
                    Ok(Ok(())) => Answer::Reachable {
                        reachable: true,
                        reason: String::new(),
                    },
                    Ok(Err(error)) => Answer::Reachable {
                        reachable: false,
                        reason: error.to_string(),
                    },
                    Err(_) => Answer::Reachable {
                        reachable: false,
                        reason: "no answer".to_owned(),
                    },
                })
            }
        }
    }

    fn needs_mounts(&self) -> Result<(), String> {
        if self.isolated {
            Ok(())
        } else {
            Err("this machine has no mounts of its own".to_owned())
        }
    }

    async fn start(&self, name: String, launch: &Launch, log: &Path) -> Result<Answer, String> {
        if self
            .processes
            .borrow()
            .get(&name)
            .is_some_and(|process| process.exit.borrow().is_none())
        {
            return Err(format!("{name} is running already"));
        }
        let log_failed = |error: io::Error| format!("cannot write the log {}: {error}", log.display());
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(log_failed)?;
        let mut child = command(launch)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file.try_clone().map_err(log_failed)?)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .ok_or("it ended at once")?;
        let (ready_sender, ready) = watch::channel(None);
        let (exit_sender, exit) = watch::channel(None);
        let stdout = child.stdout.take().ok_or("its output is not ours")?;
        tokio::task::spawn_local(follow(stdout, file, ready_sender));
        tokio::task::spawn_local(async move {
            let status = child.wait().await;
            let ended = match status {
                Ok(status) => Exit {
                    code: status.code(),
                    signal: status.signal(),
                },
                Err(_) => Exit {
                    code: None,
                    signal: None,
                },
            };
            exit_sender.send_replace(Some(ended));
        });
        self.processes
            .borrow_mut()
            .insert(name, Process { pid, ready, exit });
        Ok(Answer::Started {
            pid: pid.as_raw_nonzero().get().cast_unsigned(),
        })
    }

    async fn ready(&self, name: &str, timeout_ms: u64) -> Result<Answer, String> {
        let process = self.process(name)?;
        let mut ready = process.ready.clone();
        let said = async {
            match ready.wait_for(Option::is_some).await {
                Ok(line) => line.clone(),
                // Its output ended without the line.
                Err(_) => None,
            }
        };
        match tokio::time::timeout(Duration::from_millis(timeout_ms), said).await {
            Ok(Some(line)) => Ok(Answer::Line { line }),
            Ok(None) => {
                let exit = process.ended(5_000).await;
                Err(match exit {
                    Some(exit) => format!("{name} ended with {exit} before it was ready"),
                    None => format!("{name} closed its output before it was ready"),
                })
            }
            Err(_) => Err(format!("{name} was not ready within {timeout_ms} ms")),
        }
    }

    fn process(&self, name: &str) -> Result<Process, String> {
        self.processes
            .borrow()
            .get(name)
            .cloned()
            .ok_or_else(|| format!("no process {name}"))
    }

    fn kill_all(&self) {
        for process in self.processes.borrow().values() {
            // Gone already is what was wanted.
            let _gone = rustix::process::kill_process_group(process.pid, Signal::KILL);
        }
    }
}

impl Process {
    async fn ended(&self, timeout_ms: u64) -> Option<Exit> {
        let mut exit = self.exit.clone();
        let within = Duration::from_millis(timeout_ms);
        let waited = tokio::time::timeout(within, exit.wait_for(Option::is_some)).await;
        waited.ok().and_then(Result::ok).and_then(|exit| *exit)
    }
}

/// Through [`become_child`], so that nothing outlives the keeper.
fn command(launch: &Launch) -> Command {
    // The path rather than /proc/self/exe where possible: processes see it as their own executable.
    let own = std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| "/proc/self/exe".into());
    let mut command = Command::new(&own);
    command
        .arg(CHILD_ARGUMENT)
        .arg(launch.program.as_ref().unwrap_or(&own))
        .args(&launch.args);
    command.envs(&launch.env);
    command
}

async fn run(launch: &Launch, timeout_ms: u64) -> Result<Answer, String> {
    let mut child = command(launch)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start {:?}: {error}", launch.args))?;
    let stdout = child.stdout.take().ok_or("its output is not ours")?;
    let stderr = child.stderr.take().ok_or("its output is not ours")?;
    let everything = async {
        let (stdout, stderr) = tokio::join!(read_text(stdout), read_text(stderr));
        let status = child.wait().await?;
        io::Result::Ok(Answer::Output {
            exit: Exit {
                code: status.code(),
                signal: status.signal(),
            },
            stdout: stdout?,
            stderr: stderr?,
        })
    };
    match tokio::time::timeout(Duration::from_millis(timeout_ms), everything).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("cannot read the output of {:?}: {error}", launch.args)),
        Err(_) => Err(format!("{:?} did not end within {timeout_ms} ms", launch.args)),
    }
}

async fn read_text(from: impl tokio::io::AsyncRead + Unpin) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Copies a process's output to its log and catches its `ready` line.
async fn follow(
    output: tokio::process::ChildStdout,
    mut log: std::fs::File,
    ready: watch::Sender<Option<String>>,
) {
    use std::io::Write as _;
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let object: Option<serde_json::Value> = serde_json::from_str(&line).ok();
        if object.is_some_and(|object| object["ready"] == true) {
            ready.send_replace(Some(line.clone()));
        }
        // A log that cannot be written must not stop the process that writes it.
        let _full = writeln!(log, "{line}");
    }
}

async fn connect(to: SocketAddr, timeout_ms: u64) -> Result<TcpStream, String> {
    match tokio::time::timeout(Duration::from_millis(timeout_ms), TcpStream::connect(to)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {timeout_ms} ms")),
    }
}

async fn round_trip(stream: &tokio::sync::Mutex<TcpStream>) -> io::Result<()> {
    let mut stream = stream.lock().await;
    stream.write_all(b"?").await?;
    let mut byte = [0];
    stream.read_exact(&mut byte).await.map(|_| ())
}

async fn echo(listener: TcpListener) {
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(ECHO_CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let Ok((mut stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::task::spawn_local(async move {
            let (mut from, mut to) = stream.split();
            // A probe that goes away in the middle is what probes do.
            let _gone = tokio::io::copy(&mut from, &mut to).await;
            drop(slot);
        });
    }
}

async fn write_line(output: &mut tokio::io::Stdout, line: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    output.write_all(&text).await?;
    output.flush().await
}
