//! The network between nodes: datagrams that are lost, doubled, late, and cut by direction.

use std::collections::BTreeSet;

use super::rng::Rng;

/// Weather of the network at a moment.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// (from, to) pairs over which nothing passes. Agents are numbered from [`AGENT_BASE`].
    cut: BTreeSet<(u64, u64)>,
    /// Messages lost, in percent.
    pub drop_percent: u64,
    /// Messages that arrive twice, in percent.
    pub duplicate_percent: u64,
    /// The greatest delay, in microseconds.
    pub delay_us_max: u64,
}

/// An agent's number in the network.
pub const AGENT_BASE: u64 = 1_000;

impl Network {
    /// Fair weather.
    pub fn new() -> Network {
        Network {
            delay_us_max: 2_000,
            ..Network::default()
        }
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Whether something sent now arrives.
    pub fn is_open(&self, from: u64, to: u64) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Ends all that was wrong.
    pub fn heal(&mut self) {
        *self = Network::new();
    }

    /// Ends the partitions only.
    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// The delays at which copies of one message arrive; none: it is lost.
    pub fn deliveries(&self, rng: &mut Rng, from: u64, to: u64) -> Vec<u64> {
        if !self.is_open(from, to) || rng.percent(self.drop_percent) {
            return Vec::new();
        }
        let mut delays = vec![rng.between(50, self.delay_us_max.max(50))];
        if rng.percent(self.duplicate_percent) {
            delays.push(rng.between(50, self.delay_us_max.max(50) * 4));
        }
        delays
    }
}
