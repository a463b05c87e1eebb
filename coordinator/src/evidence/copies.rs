//! Copies on other nodes: made before a receipt, found again when one is lost.

use std::time::Duration;

use engine::id::{Digest, NodeId};

use super::partial::partial_name;
use super::{Evidence, EvidenceError};

/// How often a node looks for copies that it should hold and does not.
const REPAIR_EVERY: Duration = Duration::from_secs(60);
/// How many missing copies one look mends, so that a replaced disk is filled gently.
const REPAIRS_MAX: usize = 64;

impl Evidence {
    /// Puts one more copy of an object of this node on another node, and gives who holds it now, this
    /// node first. In a cluster of one that is this node alone.
    pub async fn make_copy(&self, digest: &Digest, size_bytes: u64) -> Result<Vec<NodeId>, EvidenceError> {
        let inner = &self.inner;
        let others = inner.peers.others();
        if others.is_empty() {
            return Ok(vec![inner.node]);
        }
        let mut problems = Vec::new();
        for node in others {
            let held = match inner.peers.stat_blob(node, digest).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => {
                    let data = inner.store.read(digest, 0, size_bytes);
                    inner.peers.put_blob(node, digest, size_bytes, data).await
                }
                Err(error) => Err(error),
            };
            match held {
                Ok(()) => return Ok(vec![inner.node, node]),
                Err(error) => problems.push(format!("node {}: {error}", node.0)),
            }
        }
        Err(EvidenceError::NoSecondCopy(problems.join("; ")))
    }

    /// Fetches an object of the right hash from whichever of these nodes has it.
    pub async fn fetch(&self, digest: &Digest, holders: &[NodeId]) -> Result<(), EvidenceError> {
        let inner = &self.inner;
        inner.store.check_room()?;
        for node in holders.iter().filter(|node| **node != inner.node) {
            match self.fetch_from(digest, *node).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::info!(%digest, node = node.0, %error, "could not fetch evidence from a node");
                }
            }
        }
        Err(EvidenceError::Unreachable(*digest))
    }

    async fn fetch_from(&self, digest: &Digest, node: NodeId) -> Result<(), EvidenceError> {
        use futures::TryStreamExt;
        let inner = &self.inner;
        let name = partial_name(&["fetch", &digest.to_string()]);
        let mut partial = inner.store.partials().open_partial(&name).await?;
        let offset = partial.size_bytes();
        let damaged = |problem: String| EvidenceError::Damaged {
            digest: *digest,
            node: node.0.to_string(),
            problem,
        };
        let mut data = std::pin::pin!(
            inner
                .peers
                .get_blob(node, digest, offset)
                .await
                .map_err(|error| damaged(error.to_string()))?
        );
        while let Some(chunk) = data
            .try_next()
            .await
            .map_err(|error| damaged(error.to_string()))?
        {
            partial.append(chunk, inner.size_bytes_max).await?;
        }
        let found = partial.finish().await?;
        if found == *digest {
            inner.store.publish(&name, digest).await?;
        }
        inner.store.partials().remove(&name).await?;
        match found == *digest {
            true => Ok(()),
            false => Err(damaged(format!("its content hashes to {found}"))),
        }
    }

    /// Looks, for ever, for copies that this node should hold by the record and does not.
    pub async fn keep_copies(self) {
        let mut every = tokio::time::interval(REPAIR_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            if let Err(error) = self.inner.store.partials().sweep().await {
                tracing::warn!(%error, "cannot sweep partial uploads");
            }
            if let Err(error) = self.repair().await {
                tracing::warn!(%error, "evidence that this node should hold is missing and could not be fetched");
            }
        }
    }

    async fn repair(&self) -> Result<(), EvidenceError> {
        let inner = &self.inner;
        let mine: Vec<(Digest, Vec<NodeId>)> = inner.control.local(|state| {
            state
                .evidence()
                .filter(|record| record.nodes.contains(&inner.node))
                .map(|record| (record.sha256, record.nodes.clone()))
                .collect()
        });
        let mut repaired = 0;
        for (digest, holders) in mine {
            if inner.store.size(&digest).await?.is_none() {
                self.fetch(&digest, &holders).await?;
                tracing::info!(%digest, "fetched evidence that was missing on this node");
                repaired += 1;
            }
            if repaired == REPAIRS_MAX {
                break;
            }
        }
        Ok(())
    }
}
