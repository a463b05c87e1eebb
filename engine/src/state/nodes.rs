//! The cluster's identity and its members' address book.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::command::NodeInfo;
use crate::id::NodeId;

/// Who this cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Drawn by `cordon init`.
    pub id: uuid::Uuid,
    /// Of every identity.
    pub trust_domain: String,
}

/// The address book.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    /// The members.
    pub by_id: BTreeMap<NodeId, NodeInfo>,
    /// Former members: a raft id is never used again.
    pub removed: BTreeSet<NodeId>,
    /// Members that are about to be removed: nothing counts any more on what they hold.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leaving: BTreeSet<NodeId>,
}
