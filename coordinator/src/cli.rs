//! `cordon-coordinator`: arguments, logging, signals, exit codes.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | stopped as asked, or the configuration is good |
//! | 2 | the arguments or the configuration are wrong |
//! | 3 | the data folder is refused: of another cluster or node, damaged, in use |
//! | 4 | a port is in use, or an address cannot be listened on |
//! | 5 | the identity is refused: missing, somebody else's, expired, or its keys are readable by others |
//! | 70 | an internal error: the log says which |

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::app::{self, App, Listeners, StartError};
use crate::config::Config;

/// Wrong arguments or configuration.
pub const EXIT_USAGE: u8 = 2;
/// The data folder is refused.
pub const EXIT_DATA: u8 = 3;
/// A port is in use.
pub const EXIT_PORT: u8 = 4;
/// The identity is refused.
pub const EXIT_IDENTITY: u8 = 5;
/// An internal error.
pub const EXIT_INTERNAL: u8 = 70;

/// A member of a Cordon coordinator cluster.
#[derive(Debug, Parser)]
#[command(name = "cordon-coordinator", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Verb>,
    /// The configuration.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/cordon/coordinator.toml",
        global = true
    )]
    config: PathBuf,
    /// What to log, on stderr, such as `info` or `coordinator=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        env = "CORDON_LOG",
        default_value = "info",
        global = true
    )]
    log: String,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Verb {
    /// Runs the node; what happens without a command too.
    Run,
    /// Checks the configuration and the identity, and starts nothing.
    Check,
}

/// Runs the program; the first argument is its name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors, and go to stdout.
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            if error.print().is_err() {
                return ExitCode::from(EXIT_INTERNAL);
            }
            return ExitCode::from(code);
        }
    };
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    match arguments.command.unwrap_or(Verb::Run) {
        Verb::Check => match good(&config) {
            Ok(()) => {
                let told = writeln!(
                    std::io::stdout(),
                    "{} is good: node {} (raft id {}) of cluster {}",
                    arguments.config.display(),
                    config.name,
                    config.node.0,
                    config.cluster
                );
                match told {
                    Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                        fail(EXIT_INTERNAL, &error)
                    }
                    _ => ExitCode::SUCCESS,
                }
            }
            Err(error) => fail(error.exit_code(), &error),
        },
        Verb::Run => {
            if let Err(error) = start_logging(&arguments.log) {
                return fail(EXIT_USAGE, &error);
            }
            run(config)
        }
    }
}

/// Whether everything that the configuration names is there and can be used.
fn good(config: &Config) -> Result<(), StartError> {
    crate::identity::Credentials::load(config)?;
    crate::connect::Connections::load(&config.home, &config.connections)?;
    Ok(())
}

fn run(config: Config) -> ExitCode {
    let runtime = match app::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(EXIT_INTERNAL, &error),
    };
    let outcome = runtime.block_on(async {
        let stop = app::stop_signal().map_err(StartError::Internal)?;
        let listeners = Listeners::bind(&config).await?;
        let app = App::start(config, listeners).await?;
        // A node serves whether or not somebody waits for the word.
        let _ = writeln!(std::io::stdout(), "{}", app.ready_line());
        app.run(stop).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.exit_code(), &error),
    }
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    // Who closed it does not want to hear it.
    let _ = writeln!(std::io::stderr(), "cordon-coordinator: {error}");
    ExitCode::from(code)
}

fn start_logging(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        format!("--log {filter:?}: {error}\n  mend: give a level such as info, or module=level pairs")
    })?;
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // It would tell them on the stream that has just failed, and end the process there.
        .log_internal_errors(false)
        .try_init();
    // Whoever calls this as a library may log in its own way already.
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
    Ok(())
}
