//! The bytes of what travels: entries in the log, envelopes and replies between coordinators.
//!
//! MessagePack with field names. An old reader skips a field that it does not know; a new reader fills
//! in, by `#[serde(default)]`, one that an old writer did not send. An unknown variant is an error: a
//! node that meets one in the log halts, for it cannot know what the others did with it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::command::{Entry, Envelope};
use crate::effect::Reply;

/// Bytes that are no such thing, or of a version that this build does not know.
#[derive(Debug, thiserror::Error)]
#[error("these bytes are no {what} that this build can read: {reason}")]
pub struct DecodeError {
    /// What was expected.
    pub what: &'static str,
    /// Why not.
    pub reason: String,
}

macro_rules! codec {
    ($name:ident, $what:literal) => {
        impl $name {
            /// The bytes, as they travel.
            pub fn encode(&self) -> Vec<u8> {
                to_bytes(self)
            }

            /// Reads what `encode` of this or an older version wrote.
            pub fn decode(bytes: &[u8]) -> Result<$name, DecodeError> {
                from_bytes(bytes, $what)
            }
        }
    };
}

codec!(Entry, "log entry");
codec!(Envelope, "envelope");
codec!(Reply, "reply");

/// Our types have string keys and no failing serializers, and memory does not fail to be written to.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("every type of ours can be encoded")
}

fn from_bytes<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, DecodeError> {
    rmp_serde::from_slice(bytes).map_err(|e| DecodeError {
        what,
        reason: e.to_string(),
    })
}
