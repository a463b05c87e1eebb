//! What this agent remembers of its isolation, across crashes and reboots.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ruleset::Spec;

/// In the agent's state folder.
const FILE: &str = "isolation.json";

/// The form of the file.
const VERSION: u32 = 1;

/// An isolation that was put in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    version: u32,
    /// What it lets through.
    pub spec: Spec,
    /// Of the boot that it was put in place in: rules do not survive a reboot.
    pub boot_id: String,
    /// Milliseconds since 1970.
    pub lease_until_ms: u64,
    /// A connection to a coordinator succeeded through the rules.
    pub confirmed: bool,
    /// The tables as nft listed them right after, one object a line: see [`super::observed`].
    pub baseline: Vec<String>,
}

impl Saved {
    /// A record of this version.
    pub fn new(
        spec: Spec,
        lease_until_ms: u64,
        confirmed: bool,
        baseline: Vec<String>,
    ) -> std::io::Result<Self> {
        Ok(Saved {
            version: VERSION,
            spec,
            boot_id: boot_id()?,
            lease_until_ms,
            confirmed,
            baseline,
        })
    }

    /// What is remembered, if anything.
    ///
    /// # Errors
    /// The file cannot be read, or is not ours.
    pub fn load(state_dir: &Path) -> std::io::Result<Option<Self>> {
        let bytes = match std::fs::read(state_dir.join(FILE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let saved: Saved = serde_json::from_slice(&bytes)
            .map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?;
        if saved.version != VERSION {
            let message = format!("{FILE} has version {}, this agent knows {VERSION}", saved.version);
            return Err(std::io::Error::new(ErrorKind::InvalidData, message));
        }
        Ok(Some(saved))
    }

    /// Remembers this instead of what was remembered before; on disk when it returns.
    pub fn save(&self, state_dir: &Path) -> std::io::Result<()> {
        let new = state_dir.join(format!("{FILE}.new"));
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        std::fs::rename(&new, state_dir.join(FILE))?;
        File::open(state_dir)?.sync_all()
    }

    /// Forgets.
    pub fn forget(state_dir: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(state_dir.join(FILE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => File::open(state_dir)?.sync_all(),
        }
    }
}

/// The kernel's name of this boot.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_a_foreign_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Saved::load(folder.path()).expect("reads"), None);
        let spec = Spec {
            coordinators: BTreeSet::new(),
            resolvers: BTreeSet::new(),
            links: BTreeSet::new(),
        };
        let saved = Saved::new(spec, 7, true, vec!["a".to_owned()]).expect("made");
        saved.save(folder.path()).expect("saved");
        assert_eq!(Saved::load(folder.path()).expect("reads"), Some(saved));
        Saved::forget(folder.path()).expect("forgets");
        Saved::forget(folder.path()).expect("forgets twice");
        std::fs::write(folder.path().join(FILE), b"{}").expect("written");
        assert!(Saved::load(folder.path()).is_err());
    }
}
