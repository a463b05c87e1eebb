//! A member starts without a log once. An emptied one has forgotten what it voted and acknowledged,
//! and under its old raft id it could help to undo what the cluster has committed.
//!
//! The right to begin empty is a file beside the configuration, outside the data folder: whoever makes the
//! member's folder puts it there, and the first start spends it.

use std::fs::File;
use std::path::{Path, PathBuf};

pub use certs::init::FIRST_START_FILE;

use super::error::{REPLACE, StorageError};
use super::wal::remembers_anything;

/// A data folder that may be used.
#[derive(Debug)]
pub struct FirstStart {
    file: PathBuf,
    unspent: bool,
}

/// Why a node does not start on its data folder.
#[derive(Debug, thiserror::Error)]
pub enum FirstStartError {
    /// No log, and the right to begin without one is spent.
    #[error(
        "{} holds no log, and this member has been started before (its first start removed {}): what it voted and acknowledged is forgotten, and under its old raft id it could undo what the cluster has committed\n  mend: if the folder was moved, say where with the key `data`; otherwise {REPLACE}",
        data.display(), file.display()
    )]
    Forgotten {
        /// The folder.
        data: PathBuf,
        /// What is not there.
        file: PathBuf,
    },
    /// The data folder cannot be looked into.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Disk trouble.
    #[error("cannot {what} {}: {source}\n  mend: the coordinator's user needs to remove that file once, from a folder that it may write to", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl FirstStart {
    /// Looks whether the node of this home may start on this folder of its log.
    pub fn check(home: &Path, log: &Path) -> Result<FirstStart, FirstStartError> {
        let file = home.join(FIRST_START_FILE);
        let unspent = file.try_exists().map_err(io("look for", &file))?;
        if !unspent && !remembers_anything(log)? {
            return Err(FirstStartError::Forgotten {
                data: log.to_owned(),
                file,
            });
        }
        Ok(FirstStart { file, unspent })
    }

    /// Spends the right, durably. To be called once the log is on the disk.
    pub fn spend(self) -> Result<(), FirstStartError> {
        if !self.unspent {
            return Ok(());
        }
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("remove", &self.file)(error));
            }
            _ => {}
        }
        let home = self.file.parent().unwrap_or(Path::new("."));
        File::open(home)
            .and_then(|folder| folder.sync_all())
            .map_err(io("make durable the removal of", &self.file))
    }
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FirstStartError {
    move |source| FirstStartError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_is_good_once() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("data/raft");
        std::fs::write(home.path().join(FIRST_START_FILE), "").unwrap();
        // A start that died before it wrote anything costs nothing.
        FirstStart::check(home.path(), &log).unwrap();
        let first = FirstStart::check(home.path(), &log).unwrap();
        std::fs::create_dir_all(&log).unwrap();
        // What lies there before the log does is no memory.
        for early in ["LOCK", "spare-0"] {
            std::fs::write(log.join(early), "").unwrap();
        }
        std::fs::create_dir(log.join("lost+found")).unwrap();
        let segment = log.join("0000000000000001.wal");
        std::fs::write(&segment, "x").unwrap();
        first.spend().unwrap();
        FirstStart::check(home.path(), &log).unwrap().spend().unwrap();

        std::fs::remove_file(&segment).unwrap();
        let error = FirstStart::check(home.path(), &log).unwrap_err();
        assert!(matches!(error, FirstStartError::Forgotten { .. }), "{error}");
        // A checkpoint without a log is told by the log, as damage.
        std::fs::write(log.join("checkpoint.redb"), "x").unwrap();
        FirstStart::check(home.path(), &log).unwrap();
        std::fs::remove_dir_all(home.path().join("data")).unwrap();
        let error = FirstStart::check(home.path(), &log).unwrap_err();
        assert!(matches!(error, FirstStartError::Forgotten { .. }), "{error}");
    }
}
