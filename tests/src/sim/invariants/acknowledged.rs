//! Nothing acknowledged is lost: what was applied at an index on one node is what every node ever applies there,
//! no index is left out, and a read never sees less than what was acknowledged before it was asked.

use std::collections::BTreeMap;

use super::Check;

const NAME: &str = "acknowledged";

/// What was ever applied, and by whom up to where.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Index to the fingerprint of the entry that was applied there first.
    log: BTreeMap<u64, u64>,
    /// Up to where each node has applied.
    applied_to: BTreeMap<u64, u64>,
    /// The greatest index whose reply reached whoever asked.
    acknowledged: u64,
    reads: BTreeMap<(u64, u64), u64>,
}

impl Acknowledged {
    /// A node's state is that of `index`: it starts from a checkpoint, or installed a snapshot.
    pub fn starts(&mut self, node: u64, index: u64) {
        self.applied_to.insert(node, index);
    }

    /// Up to where a node has applied.
    pub fn applied_to(&self, node: u64) -> u64 {
        self.applied_to.get(&node).copied().unwrap_or(0)
    }

    /// A node went over an entry; `in_state`: what it holds, if anything, was applied.
    pub fn applied(&mut self, node: u64, index: u64, fingerprint: u64, in_state: bool) -> Check {
        let before = self.applied_to.insert(node, index).unwrap_or(0);
        if index != before + 1 || !in_state {
            return Err((
                NAME,
                format!("node {node} left entry {index} out, behind {before}"),
            ));
        }
        match self.log.insert(index, fingerprint) {
            Some(first) if first != fingerprint => Err((
                NAME,
                format!("node {node} applied another entry at {index} than was applied there before"),
            )),
            _ => Ok(()),
        }
    }

    /// A reply reached whoever asked.
    pub fn acknowledge(&mut self, index: u64) {
        self.acknowledged = self.acknowledged.max(index);
    }

    /// A linearizable read was asked of a node.
    pub fn read_asked(&mut self, node: u64, read: u64) {
        self.reads.insert((node, read), self.acknowledged);
    }

    /// It was answered from the state at `index`.
    pub fn read_answered(&mut self, node: u64, read: u64, index: u64) -> Check {
        match self.reads.remove(&(node, read)) {
            Some(least) if index < least => Err((
                NAME,
                format!(
                    "a read on node {node} saw index {index}, but {least} was acknowledged before it was asked"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The greatest index that was acknowledged. A world comes to rest only when every node has applied it.
    pub fn greatest(&self) -> u64 {
        self.acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_entry_at_an_index_is_told() {
        let mut seen = Acknowledged::default();
        seen.starts(1, 4);
        seen.starts(2, 4);
        assert_eq!(seen.applied(1, 5, 77, true), Ok(()));
        assert!(seen.applied(2, 5, 78, true).is_err());
    }

    #[test]
    fn an_entry_that_is_left_out_is_told() {
        let mut seen = Acknowledged::default();
        seen.starts(1, 4);
        assert!(seen.applied(1, 6, 77, true).is_err(), "5 was skipped");
        seen.starts(1, 4);
        assert!(
            seen.applied(1, 5, 77, false).is_err(),
            "5 did not reach the state"
        );
        // A snapshot may jump.
        seen.starts(1, 9);
        assert_eq!(seen.applied(1, 10, 77, true), Ok(()));
    }

    #[test]
    fn a_stale_read_is_told() {
        let mut seen = Acknowledged::default();
        seen.acknowledge(8);
        seen.read_asked(1, 1);
        seen.read_asked(1, 2);
        seen.acknowledge(9);
        assert_eq!(seen.read_answered(1, 1, 8), Ok(()));
        assert!(seen.read_answered(1, 2, 7).is_err());
    }
}
