//! The network between nodes: datagrams that are lost, doubled, late, and cut by direction.

use std::collections::BTreeMap;

use super::rng::Rng;
use super::tally::{Happened, Tally};

/// Weather of the network at a moment.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// (from, to) pairs over which nothing passes. Agents are numbered from [`AGENT_BASE`].
    /// A pair may be cut by several faults at once: their number.
    cut: BTreeMap<(u64, u64), u32>,
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
        *self.cut.entry((from, to)).or_default() += 1;
    }

    /// Whether something sent now arrives.
    pub fn is_open(&self, from: u64, to: u64) -> bool {
        !self.cut.contains_key(&(from, to))
    }

    /// Ends all that was wrong.
    pub fn heal(&mut self) {
        *self = Network::new();
    }

    /// Takes one cut of a direction back.
    pub fn mend(&mut self, from: u64, to: u64) {
        if let Some(cuts) = self.cut.get_mut(&(from, to)) {
            *cuts -= 1;
            if *cuts == 0 {
                self.cut.remove(&(from, to));
            }
        }
    }

    /// The delays at which copies of one message arrive; none: it is lost.
    pub fn deliveries(&self, rng: &mut Rng, tally: &mut Tally, from: u64, to: u64) -> Vec<u64> {
        if !self.is_open(from, to) {
            tally.note(if self.is_open(to, from) {
                Happened::CutOneWay
            } else {
                Happened::CutBothWays
            });
            return Vec::new();
        }
        if rng.percent(self.drop_percent) {
            tally.note(Happened::Drop);
            return Vec::new();
        }
        let mut delays = vec![rng.between(50, self.delay_us_max.max(50))];
        if rng.percent(self.duplicate_percent) {
            tally.note(Happened::Duplicate);
            delays.push(rng.between(50, self.delay_us_max.max(50) * 4));
        }
        delays
    }
}
