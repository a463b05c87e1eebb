//! A segment: one file of the log, zero-filled ahead, with its owner in its header.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::{REPLACE, StorageError, io_error};
use super::wal::Owner;

/// Where the first frame stands.
pub(super) const FRAMES_AT: usize = 512;
const MAGIC: &[u8; 8] = b"CORDWAL\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) size: usize,
    /// Where the next frame goes.
    pub(super) offset: usize,
    file: File,
}

/// A segment's file name.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.wal")
}

/// The number in a segment's file name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 16)
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Makes a zero-filled file and makes the zeros durable: later, only data is written into blocks that exist, so
/// that an fdatasync is one write and a full disk is met here, before anything was promised.
pub(super) fn make_spare(path: &Path, size: usize) -> Result<(), StorageError> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(io_error("create", path))?;
    let mut left = size;
    while left > 0 {
        let part = left.min(ZEROS.len());
        file.write_all(&ZEROS[..part]).map_err(io_error("fill", path))?;
        left -= part;
    }
    file.sync_all().map_err(io_error("sync", path))
}

impl Segment {
    /// Makes a spare file segment `number`: header first, durable, then the name.
    pub(super) fn publish(
        folder: &Path,
        spare: &Path,
        number: u64,
        size: usize,
        chain: u32,
        owner: Owner,
    ) -> Result<Segment, StorageError> {
        let path = folder.join(file_name(number));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(spare)
            .map_err(io_error("open", spare))?;
        let mut header = [0; HEADER_BYTES];
        header[0..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&chain.to_le_bytes());
        header[16..24].copy_from_slice(&number.to_le_bytes());
        header[24..40].copy_from_slice(owner.cluster.as_bytes());
        header[40..48].copy_from_slice(&owner.node.to_le_bytes());
        header[48..56].copy_from_slice(&(size as u64).to_le_bytes());
        let crc = crc32c::crc32c(&header[..60]);
        header[60..64].copy_from_slice(&crc.to_le_bytes());
        file.write_all_at(&header, 0).map_err(io_error("write", spare))?;
        file.sync_data().map_err(io_error("sync", spare))?;
        std::fs::rename(spare, &path).map_err(io_error("publish", &path))?;
        sync_folder(folder)?;
        Ok(Segment {
            number,
            path,
            size,
            offset: FRAMES_AT,
            file,
        })
    }

    /// Reads a whole segment. Gives it, its bytes, and the chain value that it starts with.
    pub(super) fn open(
        path: &Path,
        number: u64,
        owner: Owner,
    ) -> Result<(Segment, Vec<u8>, u32), StorageError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(io_error("open", path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io_error("read", path))?;
        let corrupt = |what: &str| StorageError::Corrupt {
            file: path.to_owned(),
            offset: 0,
            what: what.to_owned(),
            hint: REPLACE,
        };
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(corrupt("the file is too short to be a segment"));
        };
        let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        if &header[0..8] != MAGIC || crc32c::crc32c(&header[..60]) != u32_at(60) {
            return Err(corrupt("the segment's header does not match its checksum"));
        }
        if u32_at(8) != VERSION {
            return Err(StorageError::Version {
                path: path.to_owned(),
                found: u32_at(8),
                supported: VERSION,
            });
        }
        let found_cluster = uuid::Uuid::from_slice(&header[24..40]).expect("sixteen bytes");
        let found_node = u64_at(40);
        if (found_cluster, found_node) != (owner.cluster, owner.node) {
            return Err(StorageError::OtherOwner {
                path: path.parent().unwrap_or(path).to_owned(),
                found_cluster,
                found_node,
                cluster: owner.cluster,
                node: owner.node,
            });
        }
        if u64_at(16) != number {
            return Err(corrupt("the segment was renamed"));
        }
        if u64_at(48) != bytes.len() as u64 {
            return Err(corrupt(
                "the file does not have the length that it was made with: something other than a crash cut it",
            ));
        }
        let chain = u32_at(12);
        let segment = Segment {
            number,
            path: path.to_owned(),
            size: bytes.len(),
            offset: FRAMES_AT,
            file,
        };
        Ok((segment, bytes, chain))
    }

    /// Writes a frame behind the last one. Not durable.
    pub(super) fn write(&mut self, frame: &[u8]) -> Result<(), StorageError> {
        self.file
            .write_all_at(frame, self.offset as u64)
            .map_err(io_error("write", &self.path))?;
        self.offset += frame.len();
        Ok(())
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(io_error("sync", &self.path))
    }

    /// Zeroes everything from `offset` on that is not zero, durably.
    pub(super) fn cut(&mut self, offset: usize, bytes: &[u8]) -> Result<(), StorageError> {
        self.offset = offset;
        let Some(dirty) = bytes[offset.min(bytes.len())..].iter().rposition(|b| *b != 0) else {
            return Ok(());
        };
        self.file
            .write_all_at(&vec![0; dirty + 1], offset as u64)
            .map_err(io_error("cut", &self.path))?;
        self.sync()
    }
}

/// Makes names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(io_error("sync", folder))
}
