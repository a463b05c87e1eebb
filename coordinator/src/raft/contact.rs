//! Who was heard of when, in ticks: the lease rests on it.

use std::collections::BTreeMap;

/// The last tick at which each peer of the present term was heard of.
#[derive(Debug, Default)]
pub(super) struct Contact {
    now: u64,
    term: u64,
    heard: BTreeMap<u64, u64>,
}

impl Contact {
    pub(super) fn tick(&mut self) {
        self.now += 1;
    }

    /// A peer said something in `term`. What was heard in an older term counts no more.
    pub(super) fn hear(&mut self, peer: u64, term: u64) {
        if term > self.term {
            self.term = term;
            self.heard.clear();
        }
        if term == self.term {
            self.heard.insert(peer, self.now);
        }
    }

    /// How many ticks ago the leader was heard of.
    pub(super) fn age(&self, leader: u64, term: u64) -> Option<u64> {
        (term == self.term).then_some(())?;
        self.heard.get(&leader).map(|at| self.now - at)
    }

    /// How many ticks ago a majority of `voters` (with `me`) was last heard of, all within that time.
    pub(super) fn quorum_age(&self, me: u64, voters: &[u64], term: u64) -> Option<u64> {
        let mut ages: Vec<u64> = voters
            .iter()
            .filter_map(|&v| if v == me { Some(0) } else { self.age(v, term) })
            .collect();
        ages.sort_unstable();
        ages.get(voters.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_as_old_as_its_oldest_member() {
        let mut contact = Contact::default();
        contact.hear(2, 5);
        contact.tick();
        contact.hear(3, 5);
        contact.tick();
        assert_eq!(contact.quorum_age(1, &[1, 2, 3], 5), Some(1));
        assert_eq!(contact.quorum_age(1, &[1, 2, 3, 4, 5], 5), Some(2));
        assert_eq!(contact.quorum_age(1, &[1], 5), Some(0));
        assert_eq!(contact.quorum_age(1, &[1, 4, 5], 5), None);
        assert_eq!(contact.age(2, 5), Some(2));
        contact.hear(2, 6);
        assert_eq!(contact.age(3, 5), None, "another term");
    }
}
