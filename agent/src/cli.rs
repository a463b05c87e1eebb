//! `cordon-agent`: run, enroll, journal, check.
//!
//! Exit codes: 0 done · 1 unexpected · 2 usage · 3 configuration · 4 identity · 5 journal · 6 enrolment
//! refused · 7 the cluster was not reached.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::tls::ClientTls;
use certs::{Identity, Role, Roots};
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::enroll::{self, EnrollError, Enrolment};
use crate::facts::Facts;
use crate::journal::{FileJournal, Journal, JournalError, dump};
use crate::renew::Renewal;
use crate::runner::Actions;
use crate::session::driver::{self, AgentError, Parts};
use crate::session::last::LastCoordinator;
use crate::session::machine::Settings;

const EXIT_UNEXPECTED: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_CONFIG: u8 = 3;
const EXIT_IDENTITY: u8 = 4;
const EXIT_JOURNAL: u8 = 5;
const EXIT_REFUSED: u8 = 6;
const EXIT_UNREACHED: u8 = 7;

/// Threads for what blocks: all slots of both lanes, the journal, and a walker beside each.
const BLOCKING_THREADS_MAX: usize = 16;

#[derive(Parser)]
#[command(name = "cordon-agent", version, about = "Cordon's agent on an endpoint")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the cluster until SIGTERM
    Run {
        /// agent.toml
        #[arg(long)]
        config: PathBuf,
    },
    /// Turn a join token into this host's identity; safe to repeat
    Enroll {
        /// agent.toml
        #[arg(long)]
        config: PathBuf,
        /// From `cordon enroll-token create`
        #[arg(long, env = "CORDON_ENROLL_TOKEN", hide_env_values = true)]
        token: String,
        /// SHA-256 of the coordinators' CA key, given with the token
        #[arg(long)]
        ca_sha256: String,
        /// host:port of a coordinator's enrolment listener
        #[arg(long)]
        endpoint: String,
        /// What the agent is to be called; this host's name by default
        #[arg(long)]
        hostname: Option<String>,
    },
    /// Print what this agent did; also while it runs
    Journal {
        /// agent.toml
        #[arg(long)]
        config: PathBuf,
        /// One JSON object per record
        #[arg(long)]
        json: bool,
    },
    /// Check the configuration, the identity and the files' owners and modes
    Check {
        /// agent.toml
        #[arg(long)]
        config: PathBuf,
    },
}

/// An error with its exit code.
struct Failed {
    code: u8,
    message: String,
}

impl Failed {
    fn new(code: u8, error: impl ToString) -> Failed {
        Failed {
            code,
            message: error.to_string(),
        }
    }
}

/// The whole program. `args` begins with the program's name.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, with the code 0.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    log_to_stderr();
    match command(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // Who closed it does not want to hear it.
            let _ = writeln!(std::io::stderr(), "cordon-agent: {}", failed.message);
            ExitCode::from(failed.code)
        }
    }
}

fn command(command: Command) -> Result<(), Failed> {
    let load = |path: &PathBuf| Config::load(path).map_err(|error| Failed::new(EXIT_CONFIG, error));
    match command {
        Command::Run { config } => run(load(&config)?),
        Command::Enroll {
            config,
            token,
            ca_sha256,
            endpoint,
            hostname,
        } => enroll(&load(&config)?, token, &ca_sha256, endpoint, hostname),
        Command::Journal { config, json } => {
            let folder = load(&config)?.journal_dir();
            dump::write(&folder, json, &mut std::io::stdout().lock())
                .map_err(|error| Failed::new(EXIT_JOURNAL, error))
        }
        Command::Check { config } => check(&load(&config)?),
    }
}

fn run(config: Config) -> Result<(), Failed> {
    let (identity, roots) = identity(&config)?;
    if config.coordinators.is_empty() {
        return Err(Failed::new(
            EXIT_CONFIG,
            "no coordinators: name them in agent.toml, coordinators = [\"host:7401\"]",
        ));
    }
    let journal =
        FileJournal::open(&config.journal_dir()).map_err(|error| Failed::new(EXIT_JOURNAL, error))?;
    let spiffe = identity.spiffe().clone();
    let tls = ClientTls::new(Some(identity.clone()), &roots, spiffe.trust_domain())
        .map_err(|error| Failed::new(EXIT_IDENTITY, error))?;
    let seed = rand::random();
    let parts = Parts {
        agent_id: spiffe.id().to_owned(),
        trust_domain: spiffe.trust_domain().to_owned(),
        endpoints: config.coordinators.clone(),
        tls,
        renewal: Some(Renewal::new(identity, Some(config.identity_dir()), seed)),
        policy: config.policy.clone(),
        isolation: config.isolation,
        state_dir: config.state_dir.clone(),
        last: LastCoordinator::in_folder(&config.state_dir),
        settings: Settings::new(config.coordinators.len()),
        journal: Journal::File(Box::new(journal)),
        executor: Arc::new(Actions),
        facts: Facts::Host,
        seed,
    };
    runtime()?.block_on(async move {
        let stop = CancellationToken::new();
        stop_on_signals(&stop)?;
        #[cfg(target_os = "linux")]
        restore_isolation(&parts).await;
        ready(spiffe.id())?;
        driver::run(parts, stop).await.map_err(|error| match error {
            AgentError::Journal(_) | AgentError::JournalThread(_) => Failed::new(EXIT_JOURNAL, error),
        })
    })
}

fn enroll(
    config: &Config,
    token: String,
    ca_sha256: &str,
    endpoint: String,
    hostname: Option<String>,
) -> Result<(), Failed> {
    let mut pin = [0; 32];
    hex::decode_to_slice(ca_sha256, &mut pin).map_err(|_| {
        Failed::new(
            EXIT_USAGE,
            "--ca-sha256 takes 64 hex digits, as `cordon enroll-token create` prints them",
        )
    })?;
    let hostname = hostname
        .or_else(|| sysinfo::System::host_name().ok())
        .unwrap_or_else(|| "agent".to_owned());
    let enrolment = Enrolment {
        token,
        ca_sha256: pin,
        endpoint,
        hostname,
    };
    let identity = runtime()?
        .block_on(enroll::enroll(config, &enrolment))
        .map_err(|error| {
            let code = match &error {
                EnrollError::Refused(_) | EnrollError::Answer(_) => EXIT_REFUSED,
                EnrollError::Connect(_) | EnrollError::NoAnswer(_) => EXIT_UNREACHED,
                EnrollError::Already { .. } | EnrollError::File(_) => EXIT_IDENTITY,
                EnrollError::Tls(_) | EnrollError::Key(_) => EXIT_UNEXPECTED,
            };
            Failed::new(code, error)
        })?;
    print_line(&serde_json::json!({"enrolled": true, "agent_id": identity.spiffe().id()}))
}

fn check(config: &Config) -> Result<(), Failed> {
    let (identity, _) = identity(config)?;
    match FileJournal::open(&config.journal_dir()) {
        // One that is in use has been checked by the agent that uses it.
        Ok(_) | Err(JournalError::InUse { .. }) => {}
        Err(error) => return Err(Failed::new(EXIT_JOURNAL, error)),
    }
    let left = identity
        .not_after()
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    print_line(&serde_json::json!({
        "ok": true,
        "agent": identity.spiffe().to_string(),
        "certificate_valid_for_s": left.as_secs(),
        "coordinators": config.coordinators,
        "isolation": format!("{:?}", config.isolation).to_lowercase(),
    }))
}

/// The identity and the coordinators' roots, with owners and modes checked.
fn identity(config: &Config) -> Result<(Identity, Roots), Failed> {
    let failed = |error: &dyn std::fmt::Display| Failed::new(EXIT_IDENTITY, error);
    let folder = config.identity_dir();
    if !folder.exists() {
        let message = format!(
            "this host is not enrolled: {} is missing. Run `cordon-agent enroll`",
            folder.display()
        );
        return Err(failed(&message));
    }
    certs::files::check_private_folder(&config.state_dir).map_err(|error| failed(&error))?;
    let identity = Identity::load(&folder).map_err(|error| failed(&error))?;
    if identity.spiffe().role() != Role::Agent {
        return Err(failed(&format!(
            "{} is no agent's identity: it is {}",
            folder.display(),
            identity.spiffe()
        )));
    }
    if identity.not_after() <= SystemTime::now() {
        let message = format!(
            "the certificate of {} has expired: remove {} and enroll this host anew",
            identity.spiffe(),
            folder.display()
        );
        return Err(failed(&message));
    }
    let roots = Roots::load(&config.roots_file()).map_err(|error| failed(&error))?;
    Ok((identity, roots))
}

/// One thread: an agent is idle almost always, and is to be small.
fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
        .map_err(|error| Failed::new(EXIT_UNEXPECTED, error))
}

/// Brings the firewall to what the agent remembers of it, before anyone can ask for something else.
#[cfg(target_os = "linux")]
async fn restore_isolation(parts: &Parts) {
    if parts.isolation != crate::actions::IsolationMode::Enforce {
        return;
    }
    match crate::isolation::restore(&parts.state_dir).await {
        Ok(restored) => tracing::debug!(?restored, "looked at the firewall"),
        // The agent is the way to mend it, so it goes on.
        Err(error) => tracing::error!(%error, "an isolation could not be restored"),
    }
}

fn stop_on_signals(stop: &CancellationToken) -> Result<(), Failed> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).map_err(|error| Failed::new(EXIT_UNEXPECTED, error))?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok(())
}

fn ready(agent_id: &str) -> Result<(), Failed> {
    print_line(&serde_json::json!({"ready": true, "agent": agent_id}))
}

fn print_line(value: &serde_json::Value) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")
        .and_then(|()| out.flush())
        .map_err(|error| Failed::new(EXIT_UNEXPECTED, error))
}

/// To stderr, at the level that `CORDON_LOG` names (info by default).
fn log_to_stderr() {
    let level = std::env::var("CORDON_LOG")
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(tracing::Level::INFO);
    // Fails when the process logs already, as in a test: then that stays.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // It would tell them on the stream that has just failed, and end the process there.
        .log_internal_errors(false)
        .try_init();
}
