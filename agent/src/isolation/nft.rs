//! Running `nft`: documents in, listings out.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::ruleset::{Document, TABLE};
use crate::actions::ActionError;

/// Where nft is looked for before PATH: a user's PATH often lacks these.
const FOLDERS: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];

/// A transaction takes milliseconds; a host under pressure takes longer.
const WITHIN: Duration = Duration::from_secs(20);

/// The `nft` program of this host.
#[derive(Clone, Debug)]
pub struct Nft {
    program: PathBuf,
}

/// Why nft did not do it.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// Not installed.
    #[error("this host has no `nft` program (looked in {} and PATH): install nftables", FOLDERS.join(", "))]
    Missing,
    /// Not allowed to.
    #[error("nft may not change the firewall: run the agent as root, or give it CAP_NET_ADMIN ({0})")]
    Denied(String),
    /// The kernel or nft itself refused; nothing was changed.
    #[error("nft refused the rules, nothing was changed: {0}")]
    Refused(String),
    /// It could not be run.
    #[error("running {program}: {source}")]
    Io {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It may or may not have done it.
    #[error("nft did not answer within {WITHIN:?}")]
    Timeout,
    /// Not JSON.
    #[error("nft's listing cannot be read: {0}")]
    Listing(#[source] serde_json::Error),
}

impl Nft {
    /// Looks for the program.
    ///
    /// # Errors
    /// [`NftError::Missing`].
    pub fn find() -> Result<Self, NftError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        FOLDERS
            .iter()
            .map(PathBuf::from)
            .chain(std::env::split_paths(&path).filter(|folder| folder.is_absolute()))
            .map(|folder| folder.join("nft"))
            .find(|program| program.is_file())
            .map(|program| Nft { program })
            .ok_or(NftError::Missing)
    }

    /// Carries all of it out, or nothing.
    pub async fn apply(&self, document: &Document) -> Result<(), NftError> {
        self.run(&["-j", "-f", "-"], Some(document.to_json()))
            .await
            .map(drop)
    }

    /// Asks nft and the kernel whether they would take it.
    pub async fn check(&self, document: &Document) -> Result<(), NftError> {
        self.run(&["-c", "-j", "-f", "-"], Some(document.to_json()))
            .await
            .map(drop)
    }

    /// Our table of a family, or none.
    pub async fn list(&self, family: &str) -> Result<Option<Vec<Value>>, NftError> {
        let listing = match self.run(&["-j", "list", "table", family, TABLE], None).await {
            Err(NftError::Refused(text)) if text.contains("No such file") => return Ok(None),
            other => other?,
        };
        let mut listing: Value = serde_json::from_slice(&listing).map_err(NftError::Listing)?;
        match listing["nftables"].take() {
            Value::Array(objects) => Ok(Some(objects)),
            _ => Ok(Some(Vec::new())),
        }
    }

    async fn run(&self, arguments: &[&str], input: Option<Vec<u8>>) -> Result<Vec<u8>, NftError> {
        let io = |source| NftError::Io {
            program: self.program.clone(),
            source,
        };
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(io)?;
        let work = async {
            if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
                stdin.write_all(&input).await?;
            }
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(WITHIN, work)
            .await
            .map_err(|_| NftError::Timeout)?
            .map_err(io)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text: String = String::from_utf8_lossy(&output.stderr)
            .trim()
            .chars()
            .take(500)
            .collect();
        if text.contains("not permitted") || text.contains("Permission denied") {
            Err(NftError::Denied(text))
        } else {
            Err(NftError::Refused(text))
        }
    }
}

impl From<NftError> for ActionError {
    fn from(error: NftError) -> Self {
        let message = error.to_string();
        match error {
            NftError::Missing => ActionError::new("unsupported", message),
            NftError::Denied(_) => ActionError::new("denied", message),
            NftError::Refused(_) => ActionError::new("refused", message),
            NftError::Io { .. } | NftError::Listing(_) => ActionError::new("io", message),
            NftError::Timeout => ActionError::new("timeout", message).uncertain(),
        }
    }
}
