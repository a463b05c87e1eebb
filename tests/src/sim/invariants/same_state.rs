//! Replicas at an equal index have equal states.

use std::collections::BTreeMap;

use engine::id::Digest;

/// The hashes that were seen.
#[derive(Debug, Default)]
pub struct SameState {
    hashes: BTreeMap<u64, (u64, Digest)>,
}

impl SameState {
    /// A node's hash over its state at an index. True: no node was seen there before.
    pub fn hashed(&mut self, node: u64, index: u64, hash: Digest) -> Result<bool, (&'static str, String)> {
        match self.hashes.get(&index) {
            None => {
                self.hashes.insert(index, (node, hash));
                Ok(true)
            }
            Some((_, first)) if *first == hash => Ok(false),
            Some((other, _)) => Err((
                "same_state",
                format!("nodes {other} and {node} have different states at index {index}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_state_at_an_index_is_told() {
        let mut seen = SameState::default();
        assert_eq!(seen.hashed(1, 5, Digest([1; 32])), Ok(true));
        assert_eq!(seen.hashed(2, 5, Digest([1; 32])), Ok(false));
        assert_eq!(seen.hashed(2, 6, Digest([2; 32])), Ok(true));
        assert!(seen.hashed(3, 5, Digest([2; 32])).is_err());
    }
}
