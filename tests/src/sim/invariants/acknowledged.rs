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
    /// The greatest index whose reply reached whoever asked.
    acknowledged: u64,
    reads: BTreeMap<(u64, u64), u64>,
}

impl Acknowledged {
    /// A node applied an entry.
    pub fn applied(&mut self, node: u64, index: u64, fingerprint: u64) -> Check {
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
