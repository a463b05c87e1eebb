//! Asking a person before something grave. Where nobody can be asked, `--confirm` is the answer.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::{
    error::{CliError, Result},
    exit_codes,
    output::clean,
};

/// Whether somebody sits there.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on standard error, and gives what was typed.
///
/// # Errors
/// When the terminal is gone.
pub fn ask(question: &str) -> Result<String> {
    let question: Vec<String> = question.split('\n').map(clean).collect();
    let mut answer = String::new();
    let mut terminal = io::stderr();
    terminal
        .write_all(question.join("\n").as_bytes())
        .and_then(|()| terminal.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| CliError::new(exit_codes::INTERNAL, format!("cannot ask: {error}")))?;
    Ok(answer.trim().to_owned())
}
