//! `cordon`, the operator's command.
//!
//! | module | noun |
//! |---|---|
//! | `args` | the command line |
//! | `commands` | one file per noun of it |
//! | `client` | the operators' API, through whichever coordinator answers |
//! | `config` | contexts: a cluster and an identity to meet it with |
//! | `demo` | a whole deployment on one computer, and a response through it |
//! | `output` | tables and JSON; untrusted text escaped |
//! | `shape` | the JSON shapes, stable |
//! | `error`, `exit_codes` | what happened, why, how to mend it, and the code for scripts |
//!
//! What is deliberately absent: any state of its own but the configuration file, any trust that the
//! configuration does not name, and every decision: the cluster makes those.

mod args;
mod client;
mod commands;
mod config;
pub mod demo;
mod error;
mod exit_codes;
mod output;
mod shape;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;

/// Runs the command line of this process and says how it ended.
pub fn main() -> ExitCode {
    if let Some(code) = hidden() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(problem) => {
            // clap prints help to standard output and problems to standard error; when even that fails, the
            // exit code still tells.
            let _ = problem.print();
            return ExitCode::from(if problem.use_stderr() {
                exit_codes::USAGE
            } else {
                exit_codes::OK
            });
        }
    };
    match commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::tell(&error);
            ExitCode::from(error.exit_code)
        }
    }
}

/// The other programs that this executable is, under hidden first arguments: an agent's throw-away
/// children, the helpers of the demo's world, and the agent and the coordinator themselves. None: it is none of
/// them. Any executable that makes a world asks this first: some of them need that no thread has been started.
pub fn hidden() -> Option<ExitCode> {
    if let Some(code) = demo::world::helper_main().or_else(agent::child::run_if_child) {
        return Some(code);
    }
    // The hidden word stands where a program's name does, so the rest reads as that program's own.
    let mut arguments = std::env::args_os().skip(1).peekable();
    match arguments.peek()?.to_str()? {
        "__agent" => Some(agent::cli::main(arguments)),
        "__coordinator" => Some(coordinator::cli::main(arguments)),
        _ => None,
    }
}
