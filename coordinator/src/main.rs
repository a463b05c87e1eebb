//! `cordon-coordinator`: a member of the coordinator cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinator::cli::main(std::env::args_os())
}
