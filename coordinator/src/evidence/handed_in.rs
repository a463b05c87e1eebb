//! A file that an operator hands in, from its first byte to its custody record.

use bytes::Bytes;
use engine::Command;
use engine::command::HandedIn;
use engine::id::Digest;

use super::partial::{Partial, partial_name};
use super::{Evidence, EvidenceError};

/// A file under way. It is not resumed: one that breaks off is sent again from its beginning.
pub struct Handing {
    evidence: Evidence,
    partial: Partial,
    size_bytes_max: u64,
}

/// A file that is whole and hashed, and not yet evidence: what is in it can be looked at first.
pub struct Handed {
    evidence: Evidence,
    partial: Partial,
    /// Its name.
    pub sha256: Digest,
    /// Its size.
    pub size_bytes: u64,
}

impl Evidence {
    /// Takes a file up, of at most so many bytes, if the disk has room.
    pub async fn begin_handing_in(&self, size_bytes_max: u64) -> Result<Handing, EvidenceError> {
        self.inner.store.check_room()?;
        let drawn = uuid::Uuid::now_v7().to_string();
        let name = partial_name(&["handed-in", &drawn]);
        Ok(Handing {
            evidence: self.clone(),
            partial: self.inner.store.partials().open_partial(&name).await?,
            size_bytes_max: size_bytes_max.min(self.inner.size_bytes_max),
        })
    }
}

impl Handing {
    /// Takes some more.
    pub async fn append(&mut self, data: Bytes) -> Result<(), EvidenceError> {
        self.partial.append(data, self.size_bytes_max).await
    }

    /// Makes it durable here, and hashes it.
    pub async fn finish(mut self) -> Result<Handed, EvidenceError> {
        let sha256 = self.partial.finish().await?;
        Ok(Handed {
            size_bytes: self.partial.size_bytes(),
            evidence: self.evidence,
            partial: self.partial,
            sha256,
        })
    }

    /// Forgets it.
    pub async fn give_up(self) -> Result<(), EvidenceError> {
        let partials = self.evidence.inner.store.partials();
        partials.remove(self.partial.name()).await
    }
}

impl Handed {
    /// Its first bytes, at most so many.
    pub async fn beginning(&self, bytes_max: u64) -> Result<Vec<u8>, EvidenceError> {
        self.partial.beginning(bytes_max).await
    }

    /// Makes it evidence: on another node too, with its custody record. How many hold it. `record` gets its nodes here.
    pub async fn keep(self, record: HandedIn) -> Result<u32, EvidenceError> {
        let store = &self.evidence.inner.store;
        store.publish(self.partial.name(), &self.sha256).await?;
        let nodes = self.evidence.make_copy(&self.sha256, self.size_bytes).await?;
        let copies = nodes.len() as u32;
        let record = HandedIn { nodes, ..record };
        self.evidence
            .record_custody(Command::HandedIn(Box::new(record)))
            .await?;
        store.partials().remove(self.partial.name()).await?;
        Ok(copies)
    }

    /// Forgets it.
    pub async fn give_up(self) -> Result<(), EvidenceError> {
        let partials = self.evidence.inner.store.partials();
        partials.remove(self.partial.name()).await
    }
}
