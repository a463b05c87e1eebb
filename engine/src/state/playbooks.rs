//! Published playbooks: texts under a name and a version, which never change once they are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::command::{Actor, Publish};
use crate::effect::Reply;
use crate::error::Refusal;
use crate::id::Digest;
use crate::limits::{MESSAGE_BYTES_MAX, PLAYBOOK_BYTES_MAX, PUBLISHED_BYTES_MAX, PUBLISHED_MAX};
use crate::state::enrolment::within;
use crate::state::{State, Turn};
use crate::time::Timestamp;

/// One version of a playbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Of the playbook.
    pub name: String,
    /// The author's number; each is greater than those before.
    pub version: u32,
    /// As it was handed in.
    pub text: Arc<str>,
    /// SHA-256 of the manifest that it compiled to.
    pub manifest_hash: Digest,
    /// What the author said of the change; may be empty.
    pub note: String,
    /// The operator.
    pub published_by: String,
    /// When.
    pub published_at: Timestamp,
}

/// All published playbooks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Playbooks {
    by_name: BTreeMap<String, BTreeMap<u32, Published>>,
    /// Derived: how many there are, and the bytes of their texts.
    count: usize,
    bytes: usize,
}

impl Playbooks {
    /// One version; None: the newest.
    pub fn get(&self, name: &str, version: Option<u32>) -> Option<&Published> {
        let versions = self.by_name.get(name)?;
        match version {
            Some(version) => versions.get(&version),
            None => versions.last_key_value().map(|(_, published)| published),
        }
    }

    /// The versions of a playbook, the oldest first.
    pub fn versions(&self, name: &str) -> impl DoubleEndedIterator<Item = &Published> {
        self.by_name.get(name).into_iter().flat_map(BTreeMap::values)
    }

    /// The newest version of each, by name.
    pub fn newest(&self) -> impl Iterator<Item = &Published> {
        self.by_name
            .values()
            .filter_map(|versions| versions.last_key_value().map(|(_, published)| published))
    }

    /// All, by name and version.
    pub fn iter(&self) -> impl Iterator<Item = &Published> {
        self.by_name.values().flat_map(BTreeMap::values)
    }

    pub(crate) fn insert(&mut self, published: Published) {
        self.count += 1;
        self.bytes += published.text.len();
        self.by_name
            .entry(published.name.clone())
            .or_default()
            .insert(published.version, published);
    }
}

impl State {
    pub(super) fn publish(&mut self, publish: &Publish, turn: &mut Turn<'_>) -> Result<Reply, Refusal> {
        within("bytes of the playbook", publish.text.len(), PLAYBOOK_BYTES_MAX)?;
        within("bytes of the note", publish.note.len(), MESSAGE_BYTES_MAX)?;
        let (name, version) = (publish.name.as_str(), publish.version);
        if let Some(there) = self.playbooks.get(name, Some(version)) {
            if there.text != publish.text {
                return Err(Refusal::State(format!(
                    "{name} version {version} is published already, with another text: give the new one a greater number"
                )));
            }
            // The answer may have been lost. Or it was published before there were triggers, and is armed now.
            let is_newest = self
                .playbooks
                .get(name, None)
                .is_some_and(|newest| newest.version == version);
            let is_armed = self.triggers.iter().any(|trigger| trigger.id.playbook == name);
            if is_newest && !is_armed {
                self.arm(publish, turn)?;
            }
            return Ok(Reply::Done);
        }
        if let Some(newest) = self.playbooks.get(name, None)
            && newest.version > version
        {
            return Err(Refusal::State(format!(
                "{name} is at version {} already: a new one has a greater number",
                newest.version
            )));
        }
        within("published playbooks", self.playbooks.count + 1, PUBLISHED_MAX)?;
        within(
            "bytes of all published playbooks",
            self.playbooks.bytes + publish.text.len(),
            PUBLISHED_BYTES_MAX,
        )?;
        self.arm(publish, turn)?;
        let published_by = match turn.actor {
            Actor::Operator(id) => id.clone(),
            other => other.to_string(),
        };
        self.playbooks.insert(Published {
            name: name.to_owned(),
            version,
            text: publish.text.clone(),
            manifest_hash: publish.manifest_hash,
            note: publish.note.clone(),
            published_by,
            published_at: self.now,
        });
        let detail = json!({"version": version, "manifest": publish.manifest_hash, "note": publish.note});
        self.record(turn, "playbook.publish", name.to_owned(), &detail);
        Ok(Reply::Done)
    }
}
