//! Standard output and standard error that cannot be written to: no panic, and an exit code that tells.

use std::fs::File;
use std::process::{Command, Stdio};

fn cordon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cordon"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A pipe whose reader has gone.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_closed_standard_error_changes_no_exit_code() {
    for (arguments, code) in [
        (&["action", "describe", "no.such"][..], 3),
        (&["--config", "/nonexistent/config.toml", "status"], 7),
        (&["__agent", "run", "--config", "/nonexistent/agent.toml"], 3),
        (&["__coordinator", "--config", "/nonexistent/coordinator.toml"], 2),
    ] {
        let status = cordon(arguments).stderr(closed()).stdout(Stdio::null()).status();
        assert_eq!(status.unwrap().code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is_the_users() {
    for arguments in [&["action", "list"][..], &["completions", "bash"]] {
        let status = cordon(arguments).stdout(closed()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?}");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = cordon(arguments)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(8), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("cannot write the answer to standard output"),
            "{said}"
        );
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    let home = tempfile::tempdir().unwrap();
    let output = cordon(&["status"])
        .env("CORDON_CONFIG", "")
        .env("XDG_CONFIG_HOME", "")
        .env("HOME", home.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let path = home.path().join(".config/cordon/config.toml");
    assert!(said.contains(path.to_str().unwrap()), "{said}");
}
