//! `cordon-agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = agent::child::run_if_child() {
        return code;
    }
    agent::cli::main(std::env::args_os())
}
