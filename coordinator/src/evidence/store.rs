//! The content-addressed store: `sha256/ab/<hex>` in an [`ObjectStore`], a folder by default.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use engine::id::Digest;
use futures::Stream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};

use super::EvidenceError;
use super::partial::Partials;
use crate::storage::{DiskLimits, free_percent};

/// How much is read from an object at a time.
pub const READ_BYTES: u64 = 1 << 20;

/// Objects by digest, and the partial files that become objects.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    folder: PathBuf,
    partials: Partials,
    limits: DiskLimits,
}

impl Store {
    /// Opens the store in a folder, which is made when it is missing.
    pub fn open(folder: &Path, limits: DiskLimits) -> Result<Store, EvidenceError> {
        let io = |what| move |source| EvidenceError::Io { what, source };
        std::fs::create_dir_all(folder).map_err(io("make the evidence folder"))?;
        let partials = Partials::open(&folder.join("partial"))?;
        // Synced: an object that was published is there after a power cut.
        let objects = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Store {
            objects: Arc::new(objects),
            folder: folder.to_owned(),
            partials,
            limits,
        })
    }

    /// Uploads under way.
    pub fn partials(&self) -> &Partials {
        &self.partials
    }

    /// The size of an object, if it is here.
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>, EvidenceError> {
        match self.objects.head(&object_path(digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a finished partial file an object. The partial file stays, so that an upload whose receipt
    /// was lost resumes at its end instead of at its beginning.
    pub async fn publish(&self, partial: &str, digest: &Digest) -> Result<(), EvidenceError> {
        let from = ObjectPath::from(format!("partial/{partial}"));
        // In a folder this is a hard link, made under another name and renamed: all or nothing, no bytes copied.
        self.objects.copy(&from, &object_path(digest)).await?;
        Ok(())
    }

    /// Takes a damaged object out of the way, so that it can be fetched again.
    pub async fn remove(&self, digest: &Digest) -> Result<(), EvidenceError> {
        self.objects.delete(&object_path(digest)).await?;
        Ok(())
    }

    /// An object's bytes from an offset, unverified, in pieces of at most [`READ_BYTES`].
    pub fn read(
        &self,
        digest: &Digest,
        offset: u64,
        size: u64,
    ) -> impl Stream<Item = Result<Bytes, EvidenceError>> + Send + 'static {
        let objects = self.objects.clone();
        let path = object_path(digest);
        futures::stream::try_unfold(offset, move |at| {
            let (objects, path) = (objects.clone(), path.clone());
            async move {
                if at >= size {
                    return Ok(None);
                }
                let data = objects.get_range(&path, at..size.min(at + READ_BYTES)).await?;
                let next = at + data.len() as u64;
                Ok(Some((data, next)))
            }
        })
    }

    /// Refuses when too little of the disk is free (R69).
    pub fn check_room(&self) -> Result<(), EvidenceError> {
        let free_percent = free_percent(&self.folder).map_err(|error| EvidenceError::Io {
            what: "ask how full the disk is",
            source: std::io::Error::other(error),
        })?;
        if !self.limits.has_room_for_evidence(free_percent) {
            return Err(EvidenceError::DiskLow {
                free_percent,
                limit_percent: self.limits.evidence_free_percent_min,
            });
        }
        Ok(())
    }
}

fn object_path(digest: &Digest) -> ObjectPath {
    let hex = digest.to_string();
    ObjectPath::from(format!("sha256/{}/{hex}", &hex[..2]))
}
