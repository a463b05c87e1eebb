//! Copies on other nodes: made before a receipt, found again when one is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use engine::Command;
use engine::command::{Custody, HandedIn};
use engine::id::{Digest, NodeId};

use super::partial::partial_name;
use super::{Evidence, EvidenceError};

/// How often a node looks whether the members are still the same.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it looks for missing copies while they are.
const REPAIR_EVERY: Duration = Duration::from_secs(60);
/// How many missing copies one look mends, so that a replaced disk is filled gently.
const REPAIRS_MAX: usize = 64;

impl Evidence {
    /// Puts one more copy of an object of this node on another node, and gives who holds it now, this
    /// node first. In a cluster of one that is this node alone.
    pub async fn make_copy(&self, digest: &Digest, size_bytes: u64) -> Result<Vec<NodeId>, EvidenceError> {
        let inner = &self.inner;
        let mut others = inner.peers.others();
        // Whoever is about to be removed is the last choice.
        inner
            .control
            .local(|state| others.sort_by_key(|node| !state.stays(*node)));
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
        let problems = problems.join("; ");
        tracing::warn!(%digest, problems, "evidence waits for a second copy: no other node takes it");
        Err(EvidenceError::NoSecondCopy(problems))
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

    /// Looks, for ever, for copies that the records promise and that are not there: every minute, and whenever a
    /// member has come or gone.
    pub async fn keep_copies(self) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut members = BTreeSet::new();
        let mut looked: Option<Instant> = None;
        loop {
            every.tick().await;
            let now = self.members();
            if now == members && looked.is_some_and(|at| at.elapsed() < REPAIR_EVERY) {
                continue;
            }
            members = now;
            looked = Some(Instant::now());
            if let Err(error) = self.inner.store.partials().sweep().await {
                tracing::warn!(%error, "cannot sweep partial uploads");
            }
            self.repair(&members).await;
        }
    }

    fn members(&self) -> BTreeSet<NodeId> {
        self.inner.control.local(|state| {
            state
                .nodes()
                .map(|node| node.node)
                .filter(|node| state.stays(*node))
                .collect()
        })
    }

    /// Fetches what this node should hold, and copies what only this one of the members holds. What fails is told
    /// and tried again at the next look; it keeps nothing else from being mended.
    async fn repair(&self, members: &BTreeSet<NodeId>) {
        let mut mended = 0;
        for (digest, holders) in self.held_here() {
            if mended == REPAIRS_MAX {
                tracing::info!(
                    mended,
                    "more copies of evidence are missing; they follow at the next look"
                );
                break;
            }
            match self.repair_one(&digest, &holders, members).await {
                Ok(false) => {}
                Ok(true) => mended += 1,
                Err(error) => {
                    tracing::warn!(%digest, %error, "a copy of evidence is missing and could not be made");
                }
            }
        }
    }

    /// What this node should hold, with everyone who should by the same records.
    fn held_here(&self) -> BTreeMap<Digest, BTreeSet<NodeId>> {
        let mine: Vec<(Digest, Vec<NodeId>)> = self.inner.control.local(|state| {
            let mine = state
                .held()
                .filter(|(.., nodes)| nodes.contains(&self.inner.node));
            mine.map(|(sha256, _, nodes)| (*sha256, nodes.to_vec())).collect()
        });
        let mut held: BTreeMap<Digest, BTreeSet<NodeId>> = BTreeMap::new();
        for (digest, nodes) in mine {
            held.entry(digest).or_default().extend(nodes);
        }
        held
    }

    /// Whether anything had to be done for this object.
    async fn repair_one(
        &self,
        digest: &Digest,
        holders: &BTreeSet<NodeId>,
        members: &BTreeSet<NodeId>,
    ) -> Result<bool, EvidenceError> {
        let inner = &self.inner;
        let mut mended = false;
        let size_bytes = match inner.store.size(digest).await? {
            Some(size_bytes) => size_bytes,
            None => {
                let holders: Vec<_> = holders.iter().copied().collect();
                self.fetch(digest, &holders).await?;
                tracing::info!(%digest, "fetched evidence that was missing on this node");
                mended = true;
                inner
                    .store
                    .size(digest)
                    .await?
                    .ok_or(EvidenceError::Unreachable(*digest))?
            }
        };
        let alone = holders.intersection(members).eq([&inner.node]);
        if !alone || members.len() < 2 {
            return Ok(mended);
        }
        let nodes = self.make_copy(digest, size_bytes).await?;
        let (collected, handed_in) = inner.control.local(|state| {
            let handed_in = state.handed_in().filter(|record| record.sha256 == *digest);
            let handed_in: Vec<HandedIn> = handed_in.cloned().collect();
            let collected: Vec<Custody> = state.custody(digest).cloned().collect();
            (collected, handed_in)
        });
        for record in collected {
            let nodes = nodes.clone();
            let custody = Custody { nodes, ..record };
            self.record_custody(Command::Custody(Box::new(custody))).await?;
        }
        for record in handed_in {
            let nodes = nodes.clone();
            let handed_in = HandedIn { nodes, ..record };
            self.record_custody(Command::HandedIn(Box::new(handed_in)))
                .await?;
        }
        tracing::info!(%digest, ?nodes, "copied evidence whose other holder is no member any more");
        Ok(true)
    }
}
