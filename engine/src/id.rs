//! Names of things. All are parsed newtypes: a value of the type is a valid name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not a valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {rule}")]
pub struct InvalidId {
    /// What it should have been.
    pub what: &'static str,
    /// What was given.
    pub text: String,
    /// The grammar.
    pub rule: &'static str,
}

/// A run's id: a UUID (version 7, drawn by the node that took the request).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub uuid::Uuid);

/// A client's id of a request: the same id gives the same answer twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub uuid::Uuid);

/// An agent's id, `[a-z0-9-]{1,63}`. Never reused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentId(String);

/// A coordinator's raft id. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

/// One step on one host or one item. Encoded as a bare tuple: there are many of them in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(RunId, u16, u32)", into = "(RunId, u16, u32)")]
pub struct TaskKey {
    /// The run.
    pub run: RunId,
    /// The step's number in the manifest, `finally` counted on behind `steps`.
    pub step: u16,
    /// Index within the step's fan-out.
    pub item: u32,
}

/// One try of a task, fenced by the log index that assigned it. Encoded as a bare tuple.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(TaskKey, u32, u64)", into = "(TaskKey, u32, u64)")]
pub struct AttemptKey {
    /// The task.
    pub task: TaskKey,
    /// From 1.
    pub attempt: u32,
    /// The log index that assigned it: the fencing token.
    pub token: u64,
}

/// An approval request's id: counted by the cluster from 1, so that people can say and type it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApprovalId(pub u64);

/// One trigger of a playbook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(String, u16)", into = "(String, u16)")]
pub struct TriggerId {
    /// The playbook's name.
    pub playbook: String,
    /// The trigger's place in the list of the playbook, from 0. People count from 1.
    pub number: u16,
}

impl From<(String, u16)> for TriggerId {
    fn from((playbook, number): (String, u16)) -> TriggerId {
        TriggerId { playbook, number }
    }
}

impl From<TriggerId> for (String, u16) {
    fn from(id: TriggerId) -> (String, u16) {
        (id.playbook, id.number)
    }
}

/// As people write it: `PLAYBOOK/NUMBER`, counted from 1.
impl fmt::Display for TriggerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.playbook, u32::from(self.number) + 1)
    }
}

impl FromStr for TriggerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<TriggerId, InvalidId> {
        let parsed = text.rsplit_once('/').and_then(|(playbook, number)| {
            let number = number.parse::<u16>().ok()?.checked_sub(1)?;
            (!playbook.is_empty()).then(|| TriggerId {
                playbook: playbook.to_owned(),
                number,
            })
        });
        parsed.ok_or_else(|| InvalidId {
            what: "trigger",
            text: text.to_owned(),
            rule: "PLAYBOOK/NUMBER, such as ransomware-response/1",
        })
    }
}

/// A SHA-256. Encoded as bytes; as 64 hex digits where people read it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl From<(RunId, u16, u32)> for TaskKey {
    fn from((run, step, item): (RunId, u16, u32)) -> TaskKey {
        TaskKey { run, step, item }
    }
}

impl From<TaskKey> for (RunId, u16, u32) {
    fn from(key: TaskKey) -> (RunId, u16, u32) {
        (key.run, key.step, key.item)
    }
}

impl From<(TaskKey, u32, u64)> for AttemptKey {
    fn from((task, attempt, token): (TaskKey, u32, u64)) -> AttemptKey {
        AttemptKey { task, attempt, token }
    }
}

impl From<AttemptKey> for (TaskKey, u32, u64) {
    fn from(key: AttemptKey) -> (TaskKey, u32, u64) {
        (key.task, key.attempt, key.token)
    }
}

impl fmt::Debug for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.run, self.step, self.item)
    }
}

impl fmt::Debug for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}#{}@{}", self.task, self.attempt, self.token)
    }
}

macro_rules! uuid_id {
    ($name:ident, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                uuid::Uuid::try_parse(text)
                    .map($name)
                    .map_err(|_| InvalidId {
                        what: $what,
                        text: text.chars().take(80).collect(),
                        rule: "a UUID such as 01926b7e-3c1a-7c3e-8f21-0a1b2c3d4e5f",
                    })
            }
        }
    };
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ApprovalId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let number = text
            .parse()
            .ok()
            .filter(|&n: &u64| n > 0 && !text.starts_with('+'));
        number.map(ApprovalId).ok_or_else(|| InvalidId {
            what: "approval id",
            text: text.chars().take(80).collect(),
            rule: "a number from 1",
        })
    }
}

uuid_id!(RunId, "run id");
uuid_id!(RequestId, "request id");

impl AgentId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let valid = (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if valid {
            Ok(AgentId(text.to_owned()))
        } else {
            Err(InvalidId {
                what: "agent id",
                text: text.chars().take(80).collect(),
                rule: "1 to 63 of a-z, 0-9 and -",
            })
        }
    }
}

impl TryFrom<String> for AgentId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<AgentId> for String {
    fn from(id: AgentId) -> String {
        id.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..6]))
    }
}

impl FromStr for Digest {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map(|()| Digest(bytes))
            .map_err(|_| InvalidId {
                what: "SHA-256",
                text: text.chars().take(80).collect(),
                rule: "64 hex digits",
            })
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex::encode(self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a SHA-256: 32 bytes or 64 hex digits")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Digest, E> {
                bytes
                    .try_into()
                    .map(Digest)
                    .map_err(|_| E::invalid_length(bytes.len(), &self))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Visitor)
        } else {
            deserializer.deserialize_bytes(Visitor)
        }
    }
}
