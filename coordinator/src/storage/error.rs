//! Everything that can go wrong on the disk. All of it ends the process.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the log or of the checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A system call failed.
    #[error("cannot {operation} {}: {source}{}", path.display(), hint_of(source))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something that had been written safely can no longer be read.
    #[error("{} is damaged at byte {offset}: {what}. To go on, {hint}", file.display())]
    Corrupt {
        /// Where.
        file: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: String,
        /// How to go on.
        hint: &'static str,
    },
    /// The folder belongs to another member.
    #[error(
        "{} belongs to node {found_node} of cluster {found_cluster}, but this is node {node} of cluster \
         {cluster}: point `data` at this node's own folder (a new member's is empty). If that one is lost, {REPLACE}",
        path.display()
    )]
    OtherOwner {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found_cluster: uuid::Uuid,
        /// Whose it is.
        found_node: u64,
        /// Who asks.
        cluster: uuid::Uuid,
        /// Who asks.
        node: u64,
    },
    /// Another process works on the folder.
    #[error(
        "{} is in use by another process: is a cordon-coordinator with this configuration already running?",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error("{} has format version {found}, this build reads version {supported}: upgrade this node", path.display())]
    Version {
        /// What.
        path: PathBuf,
        /// In the file.
        found: u32,
        /// By this build.
        supported: u32,
    },
    /// The checkpoint's database failed.
    #[error("the checkpoint {} cannot be {operation}: {message}. To go on, {hint}", path.display())]
    Checkpoint {
        /// The database.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What it said.
        message: String,
        /// How to go on.
        hint: &'static str,
    },
}

/// What to do with a node whose disk lost something: its copy is lost, the cluster's is not.
pub const REPLACE: &str = "replace this member by a new one (docs/operations.md): `cordon cluster remove RAFT_ID` if \
     `cordon cluster status` lists it, `cordon coordinator issue DIR --replace NAME` where the CAs are kept, the folder \
     that it makes put in the place of this one and started, then `cordon cluster add`";

/// Wraps an IO error with what was tried on what.
pub(super) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::Io {
        operation,
        path,
        source,
    }
}

fn hint_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ". The disk is full: free some space and start this node again; nothing that was acknowledged is lost"
        }
        io::ErrorKind::PermissionDenied => {
            ". The data folder must belong to the user that runs cordon-coordinator"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            ". `data` must name a folder, or a path where one can be made"
        }
        io::ErrorKind::ReadOnlyFilesystem => ". The file system is mounted read-only",
        _ => "",
    }
}
