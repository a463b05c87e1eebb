//! The checkpoint: the state as of an index, in a redb database behind the log. (docs/adr/0012-state-store.md)
//!
//! Metadata and every chunk of a checkpoint are written in one transaction with immediate durability. The one
//! before is kept, so that a peer that is fetching it can finish.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use sha2::Digest as _;

use super::error::{REPLACE, StorageError};
use super::types::{Checkpoint, CheckpointMeta, ConfState};
use super::wal::Owner;

/// In the folder of the log, and made after it.
pub(super) const FILE_NAME: &str = "checkpoint.redb";
/// The state is stored and sent in pieces of this size.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Checkpoints are written and read whole: a cache would only hold memory.
const CACHE_BYTES: usize = 4 << 20;

const OWNER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("owner");
const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");
const CHUNKS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("chunks");

/// The checkpoints of a node. Cheap to clone.
#[derive(Clone)]
pub struct CheckpointStore {
    path: PathBuf,
    database: Arc<Database>,
}

impl CheckpointStore {
    /// Opens the database in `folder` (which exists and is locked), or makes one.
    pub fn open(folder: &Path, owner: Owner) -> Result<CheckpointStore, StorageError> {
        let path = folder.join(FILE_NAME);
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&path)
            .map_err(|e| error(&path, "opened", &e))?;
        let store = CheckpointStore {
            path,
            database: Arc::new(database),
        };
        store.check_owner(owner)?;
        Ok(store)
    }

    /// The newest checkpoint, verified.
    pub fn load(&self) -> Result<Option<Checkpoint>, StorageError> {
        self.newest()?.map(|meta| self.read(meta)).transpose()
    }

    /// The oldest checkpoint that is of this index or a later one, verified.
    pub fn load_from(&self, index: u64) -> Result<Option<Checkpoint>, StorageError> {
        let read = || -> Result<Option<(u64, Vec<u8>)>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = transaction.open_table(CHECKPOINTS)?;
            let first = table.range(index..)?.next().transpose()?;
            Ok(first.map(|(index, bytes)| (index.value(), bytes.value().to_vec())))
        };
        match read().map_err(|e| error(&self.path, "read", &e))? {
            Some((index, bytes)) => Ok(Some(self.read(self.decode(index, &bytes)?)?)),
            None => Ok(None),
        }
    }

    fn read(&self, meta: CheckpointMeta) -> Result<Checkpoint, StorageError> {
        let mut state = Vec::with_capacity(usize::try_from(meta.size_bytes).unwrap_or(0));
        while (state.len() as u64) < meta.size_bytes {
            match self.chunk(meta.index, state.len() as u64)? {
                Some(chunk) if !chunk.is_empty() => state.extend_from_slice(&chunk),
                _ => return Err(self.damaged("a piece of it is missing")),
            }
        }
        let sha256: [u8; 32] = sha2::Sha256::digest(&state).into();
        if sha256 != meta.sha256 {
            return Err(self.damaged("its content does not match its hash"));
        }
        Ok(Checkpoint {
            meta,
            state: state.into(),
        })
    }

    /// Makes a checkpoint durable. One that is not newer than the newest is left out.
    pub fn put(&self, checkpoint: &Checkpoint) -> Result<(), StorageError> {
        let meta = &checkpoint.meta;
        let newest = self.newest()?;
        if newest.as_ref().is_some_and(|n| n.index >= meta.index) {
            return Ok(());
        }
        let keep_from = newest.map_or(0, |n| n.index);
        self.write(checkpoint, keep_from)
            .map_err(|e| error(&self.path, "written", &*e))
    }

    /// The piece of checkpoint `index` that starts at `offset_bytes`; None if the checkpoint is not here any more.
    pub fn chunk(&self, index: u64, offset_bytes: u64) -> Result<Option<Bytes>, StorageError> {
        let read = || -> Result<Option<Bytes>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let chunks = transaction.open_table(CHUNKS)?;
            let number = offset_bytes / CHUNK_BYTES as u64;
            let within = (offset_bytes % CHUNK_BYTES as u64) as usize;
            let chunk = chunks.get((index, number))?;
            Ok(chunk.and_then(|c| c.value().get(within..).map(Bytes::copy_from_slice)))
        };
        read().map_err(|e| error(&self.path, "read", &e))
    }

    /// What checkpoint `index` is; None if it is not here any more.
    pub fn meta(&self, index: u64) -> Result<Option<CheckpointMeta>, StorageError> {
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = transaction.open_table(CHECKPOINTS)?;
            Ok(table.get(index)?.map(|bytes| bytes.value().to_vec()))
        };
        let bytes = read().map_err(|e| error(&self.path, "read", &e))?;
        bytes.map(|bytes| self.decode(index, &bytes)).transpose()
    }

    fn newest(&self) -> Result<Option<CheckpointMeta>, StorageError> {
        let read = || -> Result<Option<(u64, Vec<u8>)>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = transaction.open_table(CHECKPOINTS)?;
            Ok(table
                .last()?
                .map(|(index, bytes)| (index.value(), bytes.value().to_vec())))
        };
        let newest = read().map_err(|e| error(&self.path, "read", &e))?;
        newest
            .map(|(index, bytes)| self.decode(index, &bytes))
            .transpose()
    }

    fn write(&self, checkpoint: &Checkpoint, keep_from: u64) -> Result<(), Box<redb::Error>> {
        let write = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            {
                let mut metas = transaction.open_table(CHECKPOINTS)?;
                let mut chunks = transaction.open_table(CHUNKS)?;
                metas.retain(|index, _| index >= keep_from)?;
                chunks.retain(|(index, _), _| index >= keep_from)?;
                let index = checkpoint.meta.index;
                metas.insert(index, encode(&checkpoint.meta).as_slice())?;
                for (number, chunk) in checkpoint.state.chunks(CHUNK_BYTES).enumerate() {
                    chunks.insert((index, number as u64), chunk)?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(Box::new)
    }

    fn check_owner(&self, owner: Owner) -> Result<(), StorageError> {
        let mut mine = owner.cluster.as_bytes().to_vec();
        mine.extend_from_slice(&owner.node.to_le_bytes());
        let claim = || -> Result<Vec<u8>, redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            let found = {
                let mut table = transaction.open_table(OWNER)?;
                transaction.open_table(CHECKPOINTS)?;
                transaction.open_table(CHUNKS)?;
                let found = table.get("owner")?.map(|bytes| bytes.value().to_vec());
                match found {
                    Some(found) => found,
                    None => {
                        table.insert("owner", mine.as_slice())?;
                        mine.clone()
                    }
                }
            };
            transaction.commit()?;
            Ok(found)
        };
        let found = claim().map_err(|e| error(&self.path, "opened", &e))?;
        if found == mine {
            return Ok(());
        }
        let (Some(cluster), Some(node)) = (found.first_chunk::<16>(), found.last_chunk::<8>()) else {
            return Err(self.damaged("its owner cannot be read"));
        };
        Err(StorageError::OtherOwner {
            path: self.path.parent().unwrap_or(&self.path).to_owned(),
            found_cluster: uuid::Uuid::from_bytes(*cluster),
            found_node: u64::from_le_bytes(*node),
            cluster: owner.cluster,
            node: owner.node,
        })
    }

    fn decode(&self, index: u64, bytes: &[u8]) -> Result<CheckpointMeta, StorageError> {
        decode(index, bytes).ok_or_else(|| self.damaged("its description cannot be read"))
    }

    fn damaged(&self, message: &str) -> StorageError {
        error(&self.path, "read", &message)
    }
}

/// term, size, number of voters, sha256, voters, learners; numbers in little endian.
fn encode(meta: &CheckpointMeta) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [meta.term, meta.size_bytes, meta.conf.voters.len() as u64] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&meta.sha256);
    for id in meta.conf.voters.iter().chain(&meta.conf.learners) {
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn decode(index: u64, bytes: &[u8]) -> Option<CheckpointMeta> {
    let (numbers, rest) = bytes.split_at_checked(24)?;
    let (sha256, ids) = rest.split_first_chunk::<32>()?;
    let read = |bytes: &[u8]| -> Vec<u64> {
        let numbers = bytes.chunks_exact(8);
        numbers
            .map(|n| u64::from_le_bytes(n.try_into().expect("eight bytes")))
            .collect()
    };
    let numbers = read(numbers);
    let ids = read(ids);
    let (voters, learners) = ids.split_at_checked(usize::try_from(numbers[2]).ok()?)?;
    Some(CheckpointMeta {
        index,
        term: numbers[0],
        conf: ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
        },
        size_bytes: numbers[1],
        sha256: *sha256,
    })
}

fn error(path: &Path, operation: &'static str, error: &dyn std::fmt::Display) -> StorageError {
    StorageError::Checkpoint {
        path: path.to_owned(),
        operation,
        message: error.to_string(),
        hint: REPLACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner {
        cluster: uuid::Uuid::from_u128(7),
        node: 3,
    };

    fn checkpoint(index: u64, size: usize) -> Checkpoint {
        let conf = ConfState {
            voters: vec![1, 2, 3],
            learners: vec![9],
        };
        let state: Vec<u8> = (0..size).map(|i| (i as u64 * index) as u8).collect();
        Checkpoint::new(index, 2, conf, state.into())
    }

    #[test]
    fn the_newest_is_loaded_and_the_one_before_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(folder.path(), OWNER).unwrap();
        assert_eq!(store.load().unwrap(), None);
        for index in [10, 20, 30] {
            store.put(&checkpoint(index, 2 * CHUNK_BYTES + 5)).unwrap();
        }
        store.put(&checkpoint(25, 5)).unwrap();
        drop(store);
        let store = CheckpointStore::open(folder.path(), OWNER).unwrap();
        assert_eq!(store.load().unwrap(), Some(checkpoint(30, 2 * CHUNK_BYTES + 5)));
        assert_eq!(
            store.meta(20).unwrap(),
            Some(checkpoint(20, 2 * CHUNK_BYTES + 5).meta)
        );
        assert_eq!(
            store
                .chunk(20, 2 * CHUNK_BYTES as u64 + 2)
                .unwrap()
                .unwrap()
                .len(),
            3
        );
        for (from, index) in [(0, 20), (20, 20), (21, 30), (30, 30)] {
            let found = store.load_from(from).unwrap();
            assert_eq!(found, Some(checkpoint(index, 2 * CHUNK_BYTES + 5)));
        }
        assert_eq!(store.load_from(31).unwrap(), None);
        assert_eq!(store.meta(10).unwrap(), None);
        assert_eq!(store.meta(25).unwrap(), None);
    }

    #[test]
    fn another_node_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(CheckpointStore::open(folder.path(), OWNER).unwrap());
        let other = Owner { node: 4, ..OWNER };
        let error = CheckpointStore::open(folder.path(), other).err().unwrap();
        assert!(
            matches!(
                error,
                StorageError::OtherOwner {
                    found_node: 3,
                    node: 4,
                    ..
                }
            ),
            "{error}"
        );
    }
}
