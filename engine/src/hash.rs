//! A hash of texts that cannot run into each other: what people approve, and what a run is bound to.

use sha2::Digest as _;

use crate::id::Digest;

/// SHA-256 over numbers and texts, each text behind its length.
pub(crate) struct Bound(sha2::Sha256);

impl Bound {
    /// What is hashed, and in which form: no two forms give the same bytes.
    pub fn new(form: &str) -> Bound {
        let mut bound = Bound(sha2::Sha256::new());
        bound.text(form);
        bound
    }

    pub fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
