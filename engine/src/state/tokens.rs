//! Join tokens: who may become an agent. The secret half is never here, only its hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, Digest};
use crate::time::Timestamp;

/// A join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The public half.
    pub id: String,
    /// SHA-256 of the secret half.
    pub hash: Digest,
    /// How many agents may join with it.
    pub uses: u32,
    /// Who joined with it, by the key that they proved: the same key again is the same agent.
    pub used_by: BTreeMap<Digest, AgentId>,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// What its agents are labelled with.
    pub labels: BTreeMap<String, String>,
    /// The id of its one agent.
    pub agent: Option<AgentId>,
    /// It was made useless.
    pub revoked: bool,
    /// The operator who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

impl Token {
    /// How many agents joined with it.
    pub fn used(&self) -> u32 {
        self.used_by.len() as u32
    }

    /// Why no further agent can join with it.
    pub fn problem(&self, now: Timestamp) -> Option<&'static str> {
        if self.revoked {
            Some("it was revoked")
        } else if now >= self.expires_at {
            Some("it has expired")
        } else if self.used() >= self.uses {
            Some("it was used as often as it may be")
        } else {
            None
        }
    }
}

/// All tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    by_id: BTreeMap<String, Token>,
    /// Derived.
    by_hash: BTreeMap<Digest, String>,
}

impl Tokens {
    /// By the public half.
    pub fn get(&self, id: &str) -> Option<&Token> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Token> {
        self.by_id.get_mut(id)
    }

    /// By the hash of the secret half.
    pub fn by_hash(&self, hash: &Digest) -> Option<&Token> {
        self.by_hash.get(hash).and_then(|id| self.by_id.get(id))
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.by_id.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn insert(&mut self, token: Token) {
        self.by_hash.insert(token.hash, token.id.clone());
        self.by_id.insert(token.id.clone(), token);
    }

    /// Drops the token that stopped working first, if any has.
    pub(crate) fn make_room(&mut self, now: Timestamp) {
        let oldest = self
            .by_id
            .values()
            .filter(|token| token.problem(now).is_some())
            .min_by_key(|token| (token.expires_at, token.created_at))
            .map(|token| (token.id.clone(), token.hash));
        if let Some((id, hash)) = oldest {
            self.by_id.remove(&id);
            self.by_hash.remove(&hash);
        }
    }
}
