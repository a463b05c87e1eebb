//! Nothing above observe is handed out by a node without its lease. Judged here from the outside: by what really
//! reached the node, not by what the node believes.

use std::collections::BTreeMap;

use super::Check;

/// When each node last had word from whom.
#[derive(Debug, Default)]
pub struct Lease {
    from_leader: BTreeMap<u64, u64>,
    from_peer: BTreeMap<(u64, u64), u64>,
}

impl Lease {
    /// A message of a node that led when it sent it (or of any node, to one that leads) arrived.
    pub fn heard(&mut self, node: u64, from: u64, from_leader: bool, now_us: u64) {
        if from_leader {
            self.from_leader.insert(node, now_us);
        }
        self.from_peer.insert((node, from), now_us);
    }

    /// A node died: what it heard before counts no more.
    pub fn forget(&mut self, node: u64) {
        self.from_leader.remove(&node);
        self.from_peer.retain(|(to, _), _| *to != node);
    }

    /// A node handed out something above observe.
    pub fn handed_out(&self, node: u64, leads: bool, voters: &[u64], now_us: u64, lease_us: u64) -> Check {
        let fresh = |at: Option<&u64>| at.is_some_and(|at| now_us.saturating_sub(*at) <= lease_us);
        let held = if leads {
            let heard = voters
                .iter()
                .filter(|&&v| v == node || fresh(self.from_peer.get(&(node, v))))
                .count();
            heard > voters.len() / 2
        } else {
            fresh(self.from_leader.get(&node))
        };
        if held {
            return Ok(());
        }
        let role = if leads { "leads" } else { "follows" };
        Err((
            "lease",
            format!("node {node}, which {role}, handed out work above observe without a lease"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE_US: u64 = 100;

    #[test]
    fn a_follower_needs_word_from_a_leader() {
        let mut seen = Lease::default();
        let at = |seen: &Lease, now| seen.handed_out(1, false, &[1, 2, 3], now, LEASE_US).is_ok();
        seen.heard(1, 3, false, 1_000);
        assert!(!at(&seen, 1_000), "that was no leader");
        seen.heard(1, 2, true, 1_000);
        assert!(at(&seen, 1_100));
        assert!(!at(&seen, 1_101));
        seen.forget(1);
        assert!(!at(&seen, 1_000), "it started anew");
    }

    #[test]
    fn a_leader_needs_word_from_a_majority() {
        let mut seen = Lease::default();
        let voters = [1, 2, 3, 4, 5];
        let at = |seen: &Lease, now| seen.handed_out(1, true, &voters, now, LEASE_US).is_ok();
        seen.heard(1, 2, false, 1_000);
        assert!(!at(&seen, 1_050));
        seen.heard(1, 3, false, 1_050);
        assert!(at(&seen, 1_100));
        assert!(!at(&seen, 1_101));
    }
}
