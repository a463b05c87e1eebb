//! Reads waiting for their index. All reads that come in between two rounds share one request to the leader;
//! a request that raft dropped (no leader yet, a lost message) is made again after some ticks.

use std::collections::VecDeque;

/// Requests to the leader at the same time; later reads wait for one of them to end.
const ROUNDS_MAX: usize = 8;

/// The caller's id of a read.
pub type ReadId = u64;

#[derive(Debug)]
struct Round {
    sequence: u64,
    ticks: u32,
    reads: Vec<(ReadId, u32)>,
}

/// Every read that has not been answered.
#[derive(Debug)]
pub(super) struct Reads {
    node: u64,
    /// Differs from one start of the node to the next, so that an answer to an old request is never taken for
    /// one to a new request.
    incarnation: u64,
    sequence: u64,
    waiting: Vec<(ReadId, u32)>,
    rounds: VecDeque<Round>,
    /// (index, read): applied state must reach the index.
    confirmed: Vec<(u64, ReadId)>,
    retry_ticks: u32,
    timeout_ticks: u32,
}

impl Reads {
    pub(super) fn new(node: u64, incarnation: u64, retry_ticks: u32, timeout_ticks: u32) -> Reads {
        Reads {
            node,
            incarnation,
            sequence: 0,
            waiting: Vec::new(),
            rounds: VecDeque::new(),
            confirmed: Vec::new(),
            retry_ticks,
            timeout_ticks,
        }
    }

    pub(super) fn add(&mut self, read: ReadId) {
        self.waiting.push((read, 0));
    }

    /// How many reads wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.confirmed.len() + self.rounds.iter().map(|r| r.reads.len()).sum::<usize>()
    }

    /// The context of a new request to the leader, if reads wait for one.
    pub(super) fn begin(&mut self) -> Option<Vec<u8>> {
        if self.waiting.is_empty() || self.rounds.len() >= ROUNDS_MAX {
            return None;
        }
        self.sequence += 1;
        self.rounds.push_back(Round {
            sequence: self.sequence,
            ticks: 0,
            reads: std::mem::take(&mut self.waiting),
        });
        Some(self.context(self.sequence))
    }

    /// The leader answered.
    pub(super) fn confirm(&mut self, context: &[u8], index: u64) {
        let Some(at) = self
            .rounds
            .iter()
            .position(|r| context == self.context(r.sequence))
        else {
            return;
        };
        let round = self.rounds.remove(at).expect("just found");
        self.confirmed
            .extend(round.reads.into_iter().map(|(read, _)| (index, read)));
    }

    /// Reads whose index has been applied.
    pub(super) fn take_finished(&mut self, applied: u64) -> Vec<(ReadId, u64)> {
        let mut finished = Vec::new();
        self.confirmed.retain(|&(index, read)| {
            if index <= applied {
                finished.push((read, applied));
            }
            index > applied
        });
        finished
    }

    /// Time passes: requests are made again, and reads that waited too long are given up.
    pub(super) fn tick(&mut self) -> Vec<ReadId> {
        let mut again = std::mem::take(&mut self.waiting);
        for round in &mut self.rounds {
            round.ticks += 1;
            if round.ticks >= self.retry_ticks {
                again.append(&mut round.reads);
            } else {
                for (_, age) in &mut round.reads {
                    *age += 1;
                }
            }
        }
        self.rounds.retain(|r| !r.reads.is_empty());
        let mut given_up = Vec::new();
        again.retain_mut(|(read, age)| {
            *age += 1;
            if *age > self.timeout_ticks {
                given_up.push(*read);
            }
            *age <= self.timeout_ticks
        });
        self.waiting = again;
        given_up
    }

    fn context(&self, sequence: u64) -> Vec<u8> {
        [self.node, self.incarnation, sequence]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_share_a_round_and_wait_for_their_index() {
        let mut reads = Reads::new(1, 1, 2, 10);
        reads.add(1);
        reads.add(2);
        let context = reads.begin().unwrap();
        assert_eq!(reads.begin(), None);
        reads.confirm(&context, 5);
        assert!(reads.take_finished(4).is_empty());
        assert_eq!(reads.take_finished(6), [(1, 6), (2, 6)]);
        assert_eq!(reads.len(), 0);
    }

    #[test]
    fn an_old_answer_is_not_taken_after_a_retry_and_reads_are_given_up() {
        let mut reads = Reads::new(1, 1, 2, 4);
        reads.add(1);
        let old = reads.begin().unwrap();
        assert!(reads.tick().is_empty());
        assert!(reads.tick().is_empty());
        reads.confirm(&old, 5);
        assert!(reads.take_finished(9).is_empty(), "the read moved to a new round");
        assert!(reads.begin().is_some());
        let given_up: Vec<_> = (0..10)
            .flat_map(|_| {
                let up = reads.tick();
                reads.begin();
                up
            })
            .collect();
        assert_eq!(given_up, [1]);
    }
}
