//! The `nft` program: where it is, and whether it works in the network namespace at hand.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where nft is: in PATH, or where distributions put it although a user's PATH often lacks that folder.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join("nft"))
        .find(|candidate| candidate.is_file())
}

/// Applies a table that does nothing, and takes it back. Only for a namespace of our own.
pub fn trial(nft: &Path) -> Result<(), String> {
    let rules = "table inet cordon_trial {
        set s { type ipv4_addr; flags timeout; }
        chain c { type filter hook output priority 0; policy accept; }
    }
    delete table inet cordon_trial
";
    feed(nft, &["-f", "-"], rules)
}

/// Checks rules without applying them (`nft -c`).
pub fn check(nft: &Path, rules: &str) -> Result<(), String> {
    feed(nft, &["-c", "-f", "-"], rules)
}

fn feed(nft: &Path, args: &[&str], rules: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot run {}: {error}", nft.display());
    let mut child = Command::new(nft)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "nft refused the rules: {}",
        text.lines().next().unwrap_or("no reason given")
    ))
}
