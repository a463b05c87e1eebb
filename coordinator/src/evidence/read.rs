//! Reading evidence back through any node, verified while it streams.

use bytes::Bytes;
use engine::id::{Digest, NodeId};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest as _, Sha256};

use super::{Evidence, EvidenceError};

/// An object's content: its size, then its bytes. The stream ends with an error when the whole does
/// not hash to its name; what came before the error must then not be used.
pub struct Content {
    /// Of the whole.
    pub size_bytes: u64,
    /// From the offset asked for.
    pub data: BoxStream<'static, Result<Bytes, EvidenceError>>,
}

/// One node's copy, read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyCheck {
    /// Where.
    pub node: NodeId,
    /// It is there.
    pub present: bool,
    /// It hashes to its name.
    pub verified: bool,
    /// What is wrong, if anything.
    pub problem: Option<String>,
}

impl Evidence {
    /// The content of recorded evidence, from this node's copy or another's.
    pub async fn read(&self, digest: Digest, offset: u64) -> Result<Content, EvidenceError> {
        let inner = &self.inner;
        let (size_bytes, holders) = self.holders(&digest).await?;
        if inner.store.size(&digest).await? == Some(size_bytes) {
            let data = inner.store.read(&digest, 0, size_bytes).boxed();
            return Ok(Content {
                size_bytes,
                data: verified(digest, inner.node, offset, data),
            });
        }
        for node in holders.into_iter().filter(|node| *node != inner.node) {
            match inner.peers.get_blob(node, &digest, 0).await {
                Ok(data) => {
                    let data = data.map_err(move |error| EvidenceError::Damaged {
                        digest,
                        node: node.0.to_string(),
                        problem: error.to_string(),
                    });
                    return Ok(Content {
                        size_bytes,
                        data: verified(digest, node, offset, data.boxed()),
                    });
                }
                Err(error) => {
                    tracing::info!(%digest, node = node.0, %error, "could not read evidence from a node");
                }
            }
        }
        Err(EvidenceError::Unreachable(digest))
    }

    /// Reads every copy again.
    pub async fn verify(&self, digest: Digest) -> Result<Vec<CopyCheck>, EvidenceError> {
        let inner = &self.inner;
        let (size_bytes, holders) = self.holders(&digest).await?;
        let mut checks = Vec::new();
        for node in holders {
            let data = if node == inner.node {
                match inner.store.size(&digest).await? {
                    Some(found) if found == size_bytes => {
                        Ok(inner.store.read(&digest, 0, size_bytes).boxed())
                    }
                    Some(found) => Err((true, format!("it has {found} bytes, not {size_bytes}"))),
                    None => Err((false, "it is not there".to_owned())),
                }
            } else {
                match inner.peers.stat_blob(node, &digest).await {
                    Ok(None) => Err((false, "it is not there".to_owned())),
                    Err(error) => Err((false, error.to_string())),
                    Ok(Some(_)) => match inner.peers.get_blob(node, &digest, 0).await {
                        Err(error) => Err((true, error.to_string())),
                        Ok(data) => Ok(data
                            .map_err(move |error| EvidenceError::Damaged {
                                digest,
                                node: node.0.to_string(),
                                problem: error.to_string(),
                            })
                            .boxed()),
                    },
                }
            };
            let (present, problem) = match data {
                Err((present, problem)) => (present, Some(problem)),
                Ok(data) => {
                    let mut data = verified(digest, node, u64::MAX, data);
                    let read = async {
                        while data.try_next().await?.is_some() {}
                        Ok::<_, EvidenceError>(())
                    };
                    (true, read.await.err().map(|error| error.to_string()))
                }
            };
            checks.push(CopyCheck {
                node,
                present,
                verified: problem.is_none(),
                problem,
            });
        }
        Ok(checks)
    }

    /// The size and the holders by the record that are members still, linearizably.
    async fn holders(&self, digest: &Digest) -> Result<(u64, Vec<NodeId>), EvidenceError> {
        let found = self
            .inner
            .control
            .query(|state| {
                let mut size = None;
                let mut nodes = Vec::new();
                for (_, size_bytes, holders) in state.held().filter(|(sha256, ..)| *sha256 == digest) {
                    size = Some(size_bytes);
                    nodes.extend(holders.iter().filter(|node| state.node(**node).is_some()));
                }
                size.map(|size| (size, nodes))
            })
            .await?;
        let (size, mut nodes) = found.ok_or(EvidenceError::NotFound(*digest))?;
        nodes.sort_unstable();
        nodes.dedup();
        Ok((size, nodes))
    }
}

/// Passes on what lies behind `offset`, hashes everything, and fails at the end unless it is right.
fn verified(
    digest: Digest,
    node: NodeId,
    offset: u64,
    data: BoxStream<'static, Result<Bytes, EvidenceError>>,
) -> BoxStream<'static, Result<Bytes, EvidenceError>> {
    let start = (data, Sha256::new(), 0u64);
    futures::stream::try_unfold(Some(start), move |state| async move {
        let Some((mut data, mut hasher, mut at)) = state else {
            return Ok(None);
        };
        while let Some(chunk) = data.try_next().await? {
            hasher.update(&chunk);
            let begin = at;
            at += chunk.len() as u64;
            if at > offset {
                let skip = offset.saturating_sub(begin) as usize;
                return Ok(Some((chunk.slice(skip..), Some((data, hasher, at)))));
            }
        }
        let found = Digest(hasher.finalize().into());
        if found == digest {
            return Ok(None);
        }
        Err(EvidenceError::Damaged {
            digest,
            node: node.0.to_string(),
            problem: format!("its content hashes to {found}"),
        })
    })
    .boxed()
}
