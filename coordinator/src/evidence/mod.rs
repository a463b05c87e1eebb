//! Evidence: bytes named by their SHA-256, held by two nodes before they are acknowledged.
//!
//! An agent's upload goes to a partial file (`partial`), is hashed on the way, becomes an object of the
//! content-addressed store (`store`), is copied to one more node (`copies`), and only then gets its
//! custody record in the log and its receipt (`upload`). Reading (`read`) verifies while it streams.
//! What an operator hands in (`handed_in`) goes the same way.
//! What an agent sends never becomes a path: partial files are named by hashes, objects by digests.

pub mod copies;
pub mod handed_in;
pub mod partial;
pub mod read;
pub mod store;
pub mod upload;

use std::sync::Arc;

use engine::id::{Digest, NodeId};
use engine::{Actor, Command, Envelope, Refusal, Reply};

use crate::api::peers::client::PeerClients;
use crate::control::{Control, QueryError, SubmitError};
use store::Store;

/// This node's evidence, and the way to the others'.
#[derive(Clone)]
pub struct Evidence {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    store: Store,
    control: Control,
    peers: PeerClients,
    size_bytes_max: u64,
}

impl Evidence {
    /// Over an opened store.
    pub fn new(
        node: NodeId,
        store: Store,
        control: Control,
        peers: PeerClients,
        size_bytes_max: u64,
    ) -> Evidence {
        Evidence {
            inner: Arc::new(Inner {
                node,
                store,
                control,
                peers,
                size_bytes_max,
            }),
        }
    }

    /// Commits who holds what; a record that is there already gains holders.
    async fn record_custody(&self, command: Command) -> Result<(), EvidenceError> {
        let envelope = Envelope {
            request: None,
            actor: Actor::Node(self.inner.node),
            command,
        };
        match self.inner.control.submit(envelope).await?.1 {
            Reply::Refused(refusal) => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    /// This node's objects.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }
}

/// Why a piece of evidence was not taken or given.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The attempt named is not assigned to the agent that names it.
    #[error("that attempt is not assigned to this agent")]
    NotAssigned,
    /// The task's action does not collect.
    #[error("the action {0} collects nothing")]
    NotCollecting(String),
    /// The upload's id is outside its grammar.
    #[error("{0:?} is no upload id: 1 to 63 of a-z, 0-9 and -")]
    UploadId(String),
    /// The upload does not go on where this node stands.
    #[error("the upload goes on at byte {have}, not at {asked}")]
    Offset {
        /// What this node has.
        have: u64,
        /// What the agent began with.
        asked: u64,
    },
    /// More bytes than the task, or this cluster, allows.
    #[error("more than the {limit} bytes that are allowed")]
    TooLarge {
        /// The bound that was hit.
        limit: u64,
    },
    /// What arrived is not what was read on the host.
    #[error("{what} of the received content is {found}, the host read {expected}")]
    Mismatch {
        /// Size or hash.
        what: &'static str,
        /// Of what arrived.
        found: String,
        /// As the host says.
        expected: String,
    },
    /// The same upload came again on another stream, which goes on with it.
    #[error("the same upload was taken up by another stream")]
    TakenOver,
    /// The disk is too full (R69).
    #[error(
        "only {free_percent} % of this node's disk is free, and evidence is refused below {limit_percent} %"
    )]
    DiskLow {
        /// What is free.
        free_percent: u64,
        /// The bound.
        limit_percent: u64,
    },
    /// No other node took a copy.
    #[error("no second node could take a copy: {0}")]
    NoSecondCopy(String),
    /// No record of it.
    #[error("there is no evidence {0}")]
    NotFound(Digest),
    /// There is a record, but no node that answers holds it.
    #[error("no node that can be reached holds {0}")]
    Unreachable(Digest),
    /// What is on a disk is not what its name says.
    #[error("the copy of {digest} on node {node} is damaged: {problem}")]
    Damaged {
        /// Its name.
        digest: Digest,
        /// Where.
        node: String,
        /// How.
        problem: String,
    },
    /// The custody record was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The custody record could not be committed.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The state could not be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The disk failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The object store failed.
    #[error("the evidence store failed: {0}")]
    Store(#[from] object_store::Error),
}

/// Runs file work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, EvidenceError> {
    let done = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    done.map_err(|source| EvidenceError::Io { what, source })
}
