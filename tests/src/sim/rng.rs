//! The one source of chance of a world.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// Seeded, portable, the same on every machine.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The world of this seed.
    pub fn new(seed: u64) -> Rng {
        Rng(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// From `low` to `high`, both possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.any() % (high - low + 1)
    }

    /// True `percent` times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.any() % 100 < percent
    }

    /// One of `0..len`.
    pub fn below(&mut self, len: usize) -> usize {
        (self.any() % len as u64) as usize
    }

    /// A UUID of version 7's shape.
    pub fn uuid(&mut self, now_ms: u64) -> uuid::Uuid {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.any().to_be_bytes());
        random[8..].copy_from_slice(&(self.any() as u16).to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid()
    }
}
