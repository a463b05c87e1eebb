//! Membership, one step at a time: a learner, caught up, a voter. A leader hands over before it removes
//! itself.

use bytes::Bytes;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

use crate::storage::ConfState;

/// A learner may be promoted when it lacks at most this many entries.
pub const CAUGHT_UP_ENTRIES: u64 = 1_000;
/// More members than this make every commit slower and nothing safer.
pub const MEMBERS_MAX: usize = 9;

/// One change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a member that only listens. Its id must never have been a member's before.
    AddLearner(u64),
    /// Gives a learner that has caught up a vote.
    Promote(u64),
    /// Takes a member out.
    Remove(u64),
}

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// One at a time.
    #[error("another membership change is not finished yet: wait for it and try again")]
    Pending,
    /// It is one already.
    #[error("node {0} is a member already")]
    Member(u64),
    /// It is none.
    #[error("node {0} is not a member")]
    NotMember(u64),
    /// Only learners are promoted.
    #[error("node {0} is not a learner: add it as one first")]
    NotLearner(u64),
    /// Not yet.
    #[error("node {id} lacks {lacks} entries of the log: wait until it has caught up")]
    Behind {
        /// Which.
        id: u64,
        /// How many.
        lacks: u64,
    },
    /// The leader must hand over first.
    #[error("node {0} leads: transfer leadership to another voter first")]
    Leads(u64),
    /// A cluster without voters is lost for good.
    #[error("node {0} is the last voter")]
    LastVoter(u64),
    /// Too many.
    #[error("a cluster has at most {MEMBERS_MAX} members")]
    TooMany,
    /// Ids are numbers from 1.
    #[error("0 is no node id")]
    Zero,
}

impl Change {
    /// Checks the change against the members as the leader knows them. `lacks`: how many entries the node
    /// concerned lacks of the leader's log.
    pub(super) fn check(
        self,
        conf: &ConfState,
        leader: u64,
        lacks: impl Fn(u64) -> u64,
    ) -> Result<(), ChangeRefused> {
        match self {
            Change::AddLearner(0) => Err(ChangeRefused::Zero),
            Change::AddLearner(id) if conf.contains(id) => Err(ChangeRefused::Member(id)),
            Change::AddLearner(_) if conf.voters.len() + conf.learners.len() >= MEMBERS_MAX => {
                Err(ChangeRefused::TooMany)
            }
            Change::AddLearner(_) => Ok(()),
            Change::Promote(id) if !conf.learners.contains(&id) => Err(if conf.contains(id) {
                ChangeRefused::Member(id)
            } else {
                ChangeRefused::NotLearner(id)
            }),
            Change::Promote(id) => match lacks(id) {
                lacks if lacks > CAUGHT_UP_ENTRIES => Err(ChangeRefused::Behind { id, lacks }),
                _ => Ok(()),
            },
            Change::Remove(id) if !conf.contains(id) => Err(ChangeRefused::NotMember(id)),
            Change::Remove(id) if conf.voters == [id] => Err(ChangeRefused::LastVoter(id)),
            Change::Remove(id) if id == leader => Err(ChangeRefused::Leads(id)),
            Change::Remove(_) => Ok(()),
        }
    }

    /// Our encoding, in the entry's context: one byte for the kind, the id in little endian.
    pub(super) fn encode(self) -> Bytes {
        let (kind, id) = match self {
            Change::AddLearner(id) => (1u8, id),
            Change::Promote(id) => (2, id),
            Change::Remove(id) => (3, id),
        };
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.into()
    }

    /// The inverse of [`Change::encode`].
    pub(super) fn decode(bytes: &[u8]) -> Option<Change> {
        let (kind, id) = bytes.split_first()?;
        let id = u64::from_le_bytes(id.try_into().ok()?);
        match kind {
            1 => Some(Change::AddLearner(id)),
            2 => Some(Change::Promote(id)),
            3 => Some(Change::Remove(id)),
            _ => None,
        }
    }

    /// Raft's type: always a simple change, never a joint one.
    pub(super) fn to_raft(self) -> ConfChangeV2 {
        let (kind, id) = match self {
            Change::AddLearner(id) => (ConfChangeType::AddLearnerNode, id),
            Change::Promote(id) => (ConfChangeType::AddNode, id),
            Change::Remove(id) => (ConfChangeType::RemoveNode, id),
        };
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = id;
        let mut change = ConfChangeV2::default();
        change.set_changes(vec![single].into());
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_survive_their_encoding_and_nothing_else_does() {
        for change in [
            Change::AddLearner(7),
            Change::Promote(u64::MAX),
            Change::Remove(1),
        ] {
            assert_eq!(Change::decode(&change.encode()), Some(change));
        }
        for bytes in [
            &b""[..],
            b"\x01",
            b"\x04\0\0\0\0\0\0\0\0",
            b"\x01\0\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(Change::decode(bytes), None);
        }
    }

    #[test]
    fn refusals() {
        let conf = ConfState {
            voters: vec![1, 2],
            learners: vec![3],
        };
        let check = |change: Change| change.check(&conf, 1, |_| 2_000);
        assert_eq!(check(Change::AddLearner(3)), Err(ChangeRefused::Member(3)));
        assert_eq!(check(Change::AddLearner(4)), Ok(()));
        assert_eq!(check(Change::Promote(2)), Err(ChangeRefused::Member(2)));
        assert_eq!(check(Change::Promote(9)), Err(ChangeRefused::NotLearner(9)));
        assert_eq!(
            check(Change::Promote(3)),
            Err(ChangeRefused::Behind { id: 3, lacks: 2_000 })
        );
        assert_eq!(check(Change::Remove(1)), Err(ChangeRefused::Leads(1)));
        assert_eq!(check(Change::Remove(9)), Err(ChangeRefused::NotMember(9)));
        assert_eq!(check(Change::Remove(2)), Ok(()));
        let alone = ConfState {
            voters: vec![1],
            learners: vec![],
        };
        assert_eq!(
            Change::Remove(1).check(&alone, 1, |_| 0),
            Err(ChangeRefused::LastVoter(1))
        );
    }
}
