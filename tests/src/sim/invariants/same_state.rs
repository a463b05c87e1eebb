//! Replicas at an equal index have equal states.

use std::collections::BTreeMap;

use engine::id::Digest;

use super::Check;

/// The hashes that were seen.
#[derive(Debug, Default)]
pub struct SameState {
    hashes: BTreeMap<u64, (u64, Digest)>,
}

impl SameState {
    /// A node's hash over its state at an index.
    pub fn hashed(&mut self, node: u64, index: u64, hash: Digest) -> Check {
        match self.hashes.get(&index) {
            None => {
                self.hashes.insert(index, (node, hash));
                Ok(())
            }
            Some((_, first)) if *first == hash => Ok(()),
            Some((other, _)) => Err((
                "same_state",
                format!("nodes {other} and {node} have different states at index {index}"),
            )),
        }
    }
}
