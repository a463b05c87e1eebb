//! Token buckets by source address: how often an address may be refused before it is not heard.

use std::collections::HashMap;
use std::net::IpAddr;

use engine::Timestamp;
use parking_lot::Mutex;

/// Refusals that an address may collect at once.
pub const BURST: u64 = 10;
/// One refusal is forgiven after this long.
pub const REFILL_MS: u64 = 6_000;
/// Addresses remembered; beyond it the whole book is thinned of those that are forgiven.
const ADDRESSES_MAX: usize = 65_536;

/// Who was refused how often lately. Charged for refusals only, so that a fleet behind one address
/// enrols at full speed, while guesses do not.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Per address, the time at which its last refusal will be forgiven.
    until: Mutex<HashMap<IpAddr, u64>>,
}

impl Refusals {
    /// Whether an address is heard.
    pub fn is_heard(&self, addr: IpAddr, now: Timestamp) -> bool {
        let until = self.until.lock().get(&key(addr)).copied().unwrap_or(0);
        until.saturating_sub(now.0) < BURST * REFILL_MS
    }

    /// Charges an address for a refusal.
    pub fn charge(&self, addr: IpAddr, now: Timestamp) {
        let mut book = self.until.lock();
        if book.len() >= ADDRESSES_MAX {
            book.retain(|_, until| *until > now.0);
        }
        let until = book.entry(key(addr)).or_insert(0);
        *until = (*until).max(now.0) + REFILL_MS;
    }
}

/// An IPv6 host commands a whole /64.
fn key(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_heard_again_when_a_refusal_is_forgiven() {
        let refusals = Refusals::default();
        let addr: IpAddr = "2001:db8::1".parse().unwrap();
        let start = Timestamp(1_000_000);
        for _ in 0..BURST {
            assert!(refusals.is_heard(addr, start));
            refusals.charge(addr, start);
        }
        assert!(!refusals.is_heard(addr, start));
        assert!(
            !refusals.is_heard("2001:db8::2".parse().unwrap(), start),
            "the same /64"
        );
        assert!(refusals.is_heard("2001:db8:1::1".parse().unwrap(), start));
        assert!(refusals.is_heard(addr, start.plus_ms(REFILL_MS)));
    }
}
