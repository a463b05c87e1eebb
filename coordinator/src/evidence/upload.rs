//! An agent's upload, from its first byte to its receipt.

use bytes::Bytes;
use engine::command::Custody;
use engine::id::{AgentId, Digest, NodeId};
use engine::{Assignment, Command, Timestamp};

use super::partial::{Partial, partial_name};
use super::{Evidence, EvidenceError};
use crate::attempt::NamedAttempt;

/// What the first message of an upload says.
#[derive(Clone, Debug)]
pub struct UploadHeader {
    /// Which attempt collects.
    pub attempt: NamedAttempt,
    /// The agent's name for this upload.
    pub upload_id: String,
    /// Where it goes on.
    pub offset_bytes: u64,
    /// The path on the host, as the host's bytes.
    pub path: Vec<u8>,
    /// What the agent expects at most.
    pub size_bytes_max: u64,
}

/// What the last message of an upload says.
#[derive(Clone, Debug)]
pub struct UploadTrailer {
    /// Of the whole content, as read on the host.
    pub sha256: Digest,
    /// Of the whole content.
    pub size_bytes: u64,
    /// By the host's clock.
    pub read_at: Timestamp,
    /// The file changed while it was read.
    pub changed_during_read: bool,
}

/// What the agent gets: from now on the cluster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its name.
    pub sha256: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// Who holds it.
    pub nodes: Vec<NodeId>,
}

/// An upload under way.
pub struct Upload {
    evidence: Evidence,
    agent: AgentId,
    header: UploadHeader,
    assignment: Assignment,
    partial: Partial,
    size_bytes_max: u64,
}

impl Evidence {
    /// How much of an upload this node holds.
    pub async fn upload_offset(
        &self,
        agent: &AgentId,
        attempt: &NamedAttempt,
        upload_id: &str,
    ) -> Result<u64, EvidenceError> {
        self.assignment(agent, attempt).await?;
        self.inner
            .store
            .partials()
            .size(&upload_name(agent, upload_id)?)
            .await
    }

    /// Takes an upload up, if the agent may make it (R21) and the disk has room (R69).
    pub async fn begin_upload(&self, agent: AgentId, header: UploadHeader) -> Result<Upload, EvidenceError> {
        let name = upload_name(&agent, &header.upload_id)?;
        let assignment = self.assignment(&agent, &header.attempt).await?;
        self.inner.store.check_room()?;
        let partial = self.inner.store.partials().open_partial(&name).await?;
        if partial.size_bytes() != header.offset_bytes {
            return Err(EvidenceError::Offset {
                have: partial.size_bytes(),
                asked: header.offset_bytes,
            });
        }
        let allowed = allowed_bytes(&assignment).unwrap_or(u64::MAX);
        let size_bytes_max = self
            .inner
            .size_bytes_max
            .min(allowed)
            .min(match header.size_bytes_max {
                0 => u64::MAX,
                wished => wished,
            });
        Ok(Upload {
            evidence: self.clone(),
            agent,
            header,
            assignment,
            partial,
            size_bytes_max,
        })
    }

    /// The attempt, if it is this agent's and collects.
    async fn assignment(&self, agent: &AgentId, attempt: &NamedAttempt) -> Result<Assignment, EvidenceError> {
        let control = &self.inner.control;
        let find = |state: &engine::State| attempt.assignment_of(state, agent);
        let found = match control.local(find) {
            Some(found) => Some(found),
            // This node may be behind the one that handed the attempt out.
            None => control.query(find).await?,
        };
        let found = found.ok_or(EvidenceError::NotAssigned)?;
        if found.impact != catalogue::Impact::Collect {
            return Err(EvidenceError::NotCollecting(found.action));
        }
        Ok(found)
    }
}

impl Upload {
    /// Takes some more.
    pub async fn append(&mut self, data: Bytes) -> Result<(), EvidenceError> {
        self.partial.append(data, self.size_bytes_max).await
    }

    /// Checks the whole, copies it to another node, commits its custody record.
    pub async fn complete(mut self, trailer: UploadTrailer) -> Result<Receipt, EvidenceError> {
        let store = &self.evidence.inner.store;
        let digest = self.partial.finish().await?;
        let size_bytes = self.partial.size_bytes();
        let mismatch = if size_bytes != trailer.size_bytes {
            Some(("the size", size_bytes.to_string(), trailer.size_bytes.to_string()))
        } else if digest != trailer.sha256 {
            Some(("the SHA-256", digest.to_string(), trailer.sha256.to_string()))
        } else {
            None
        };
        if let Some((what, found, expected)) = mismatch {
            // Nothing of it can be trusted: the next try begins at 0.
            store.partials().remove(self.partial.name()).await?;
            return Err(EvidenceError::Mismatch {
                what,
                found,
                expected,
            });
        }
        // An upload that comes back for its receipt only is an object already.
        if !self.partial.is_sealed() {
            store.publish(self.partial.name(), &digest).await?;
        }
        let nodes = self.evidence.make_copy(&digest, size_bytes).await?;
        self.commit(&trailer, nodes.clone()).await?;
        store.partials().remove(self.partial.name()).await?;
        Ok(Receipt {
            sha256: digest,
            size_bytes,
            nodes,
        })
    }

    async fn commit(&self, trailer: &UploadTrailer, nodes: Vec<NodeId>) -> Result<(), EvidenceError> {
        let custody = Custody {
            sha256: trailer.sha256,
            size_bytes: trailer.size_bytes,
            agent: self.agent.clone(),
            path: self.header.path.clone(),
            task: self.assignment.key.task,
            collected_at: trailer.read_at,
            changed_during_read: trailer.changed_during_read,
            nodes,
        };
        self.evidence
            .record_custody(Command::Custody(Box::new(custody)))
            .await
    }
}

/// What the task's own parameters allow.
fn allowed_bytes(assignment: &Assignment) -> Option<u64> {
    let parameters: serde_json::Value = serde_json::from_str(&assignment.parameters).ok()?;
    catalogue::parse_size(parameters.get("max_bytes")?).ok()
}

/// The partial file of an upload, named by a hash over the agent and its word.
fn upload_name(agent: &AgentId, upload_id: &str) -> Result<String, EvidenceError> {
    // Upload ids and agent ids have the same grammar.
    match upload_id.parse::<AgentId>() {
        Ok(_) => Ok(partial_name(&["upload", agent.as_str(), upload_id])),
        Err(_) => Err(EvidenceError::UploadId(upload_id.chars().take(80).collect())),
    }
}
