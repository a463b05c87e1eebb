//! The write-ahead log: segments of frames. (docs/adr/0011-write-ahead-log.md)

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::checkpoint;
use super::error::{REPLACE, StorageError, io_error};
use super::log::{LogStore, Recovered};
use super::record::{self, HEADER_BYTES, Item, Parsed};
use super::segment::{FRAMES_AT, Segment, number_of, sync_folder};
use super::spare::Spares;
use super::types::{HardState, LogEntry};

/// A frame is closed, and synced, when it has grown beyond this.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// Whose log it is: another one's is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster's id.
    pub cluster: uuid::Uuid,
    /// The node's raft id.
    pub node: u64,
}

/// How a log is laid out.
#[derive(Clone, Copy, Debug)]
pub struct WalConfig {
    /// Of each segment. Twice that is taken on an idle node: the current one and a spare.
    pub segment_bytes: usize,
}

impl Default for WalConfig {
    fn default() -> WalConfig {
        WalConfig {
            segment_bytes: 16 << 20,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Wal {
    folder: PathBuf,
    owner: Owner,
    spares: Spares,
    current: Segment,
    /// Older segments with the greatest index that each needs to be kept for.
    closed: VecDeque<(PathBuf, u64)>,
    chain: u32,
    /// The frame being gathered, behind room for its header.
    frame: Vec<u8>,
    /// As written.
    end: End,
    /// As of the last frame that was closed.
    closed_end: End,
    /// The greatest index that the current segment has held.
    current_last: u64,
    recovered: Option<Recovered>,
    _lock: File,
}

#[derive(Clone, Copy, Debug, Default)]
struct End {
    index: u64,
    term: u64,
    hard_state: HardState,
}

impl Wal {
    /// Opens the log in `folder`, or makes one. Takes the folder for this process alone.
    pub fn open(folder: &Path, owner: Owner, config: WalConfig) -> Result<Wal, StorageError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(io_error("create", folder))?;
        let lock = lock(folder)?;
        let numbers = segments(folder)?;
        if numbers.is_empty() && folder.join(checkpoint::FILE_NAME).exists() {
            let first = folder.join(super::segment::file_name(1));
            return Err(corrupt(
                &first,
                0,
                "no file of the log is there, and the checkpoint is",
            ));
        }
        let mut replay = Replay::default();
        let mut closed = VecDeque::new();
        let mut current = None;
        let mut chain = None;
        for (at, &number) in numbers.iter().enumerate() {
            let is_last = at + 1 == numbers.len();
            let path = folder.join(super::segment::file_name(number));
            let (mut segment, bytes, starts) = Segment::open(&path, number, owner)?;
            if chain.is_some_and(|c| c != starts) || (at > 0 && numbers[at - 1] + 1 != number) {
                return Err(corrupt(
                    &path,
                    0,
                    "the segment before it is missing or lost its end",
                ));
            }
            chain = Some(read_segment(&mut segment, &bytes, starts, is_last, &mut replay)?);
            if is_last {
                current = Some(segment);
            } else {
                closed.push_back((path, replay.segment_last));
            }
            let last = if is_last {
                replay.segment_last
            } else {
                replay.log.last_index()
            };
            replay.segment_last = last;
        }
        let spares = Spares::start(folder, config.segment_bytes)?;
        let chain = chain.unwrap_or(0);
        let current = match current {
            Some(segment) => segment,
            None => {
                let (spare, size) = spares.take(0)?;
                Segment::publish(folder, &spare, 1, size, chain, owner)?
            }
        };
        let log = replay.log;
        let end = End {
            index: log.last_index(),
            term: log.term(log.last_index()).unwrap_or(0),
            hard_state: log.hard_state,
        };
        Ok(Wal {
            folder: folder.to_owned(),
            owner,
            spares,
            current,
            closed,
            chain,
            frame: vec![0; HEADER_BYTES],
            end,
            closed_end: end,
            current_last: replay.segment_last,
            recovered: Some(log),
            _lock: lock,
        })
    }

    /// Whether nothing was ever written.
    pub fn is_new(&self) -> bool {
        self.recovered
            .as_ref()
            .is_some_and(|r| *r == Recovered::default())
    }

    fn put(&mut self, item: &Item) -> Result<(), StorageError> {
        item.put(&mut self.frame);
        self.close_if_large()
    }

    fn close_if_large(&mut self) -> Result<(), StorageError> {
        if self.frame.len() > FRAME_BYTES_MAX {
            return self.sync();
        }
        Ok(())
    }

    /// Begins another segment. The frame that did not fit becomes its first, with the state before it in front.
    fn roll(&mut self) -> Result<(), StorageError> {
        let payload = self.frame.split_off(HEADER_BYTES);
        let before = self.closed_end;
        Item::Base(before.index, before.term).put(&mut self.frame);
        Item::HardState(before.hard_state).put(&mut self.frame);
        self.frame.extend_from_slice(&payload);
        let need = FRAMES_AT + record::frame_bytes(self.frame.len() - HEADER_BYTES);
        let (spare, size) = self.spares.take(need)?;
        let next = Segment::publish(
            &self.folder,
            &spare,
            self.current.number + 1,
            size,
            self.chain,
            self.owner,
        )?;
        let old = std::mem::replace(&mut self.current, next);
        self.closed.push_back((old.path, self.current_last));
        self.current_last = self.end.index;
        Ok(())
    }
}

impl LogStore for Wal {
    fn load(&mut self) -> Result<Recovered, StorageError> {
        Ok(self.recovered.take().expect("load is called once"))
    }

    fn append(&mut self, entries: &[LogEntry]) -> Result<(), StorageError> {
        for entry in entries {
            record::put_entry(entry, &mut self.frame);
            (self.end.index, self.end.term) = (entry.index, entry.term);
            self.current_last = self.current_last.max(entry.index);
            self.close_if_large()?;
        }
        Ok(())
    }

    fn set_hard_state(&mut self, hard_state: HardState) -> Result<(), StorageError> {
        self.end.hard_state = hard_state;
        self.put(&Item::HardState(hard_state))
    }

    fn reset(&mut self, index: u64, term: u64) -> Result<(), StorageError> {
        (self.end.index, self.end.term) = (index, term);
        self.put(&Item::Reset(index, term))?;
        self.sync()?;
        // What the older segments held is replaced.
        for (_, last) in &mut self.closed {
            *last = 0;
        }
        self.current_last = index;
        Ok(())
    }

    fn compact(&mut self, index: u64) -> Result<(), StorageError> {
        let mut removed = false;
        while let Some((path, _)) = self.closed.pop_front_if(|(_, last)| *last <= index) {
            std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
            removed = true;
        }
        if removed {
            sync_folder(&self.folder)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        if self.frame.len() == HEADER_BYTES {
            return Ok(());
        }
        let total = record::frame_bytes(self.frame.len() - HEADER_BYTES);
        if self.current.offset + total > self.current.size {
            self.roll()?;
        }
        let chain = record::seal(&mut self.frame, self.current.number, self.chain);
        self.current.write(&self.frame)?;
        self.current.sync()?;
        self.chain = chain;
        self.closed_end = self.end;
        self.frame.truncate(HEADER_BYTES);
        Ok(())
    }
}

#[derive(Default)]
struct Replay {
    log: Recovered,
    begun: bool,
    /// The log starts in the middle: what stands before the first segment was compacted.
    from_base: bool,
    segment_last: u64,
}

impl Replay {
    /// None: the item does not fit what was read before.
    fn take(&mut self, item: Item) -> Option<()> {
        match item {
            // Here the log was cut back into a segment that has been compacted since, so nothing up to that
            // segment's end is needed: the log starts with this entry as its base.
            Item::Entry(entry) if self.from_base && entry.index <= self.log.start_index => {
                self.log.entries.clear();
                self.log.start_index = entry.index;
                self.log.start_term = entry.term;
            }
            Item::Entry(entry) => {
                let keep = entry.index.checked_sub(self.log.start_index + 1)?;
                if keep > self.log.entries.len() as u64 {
                    return None;
                }
                self.segment_last = self.segment_last.max(entry.index);
                self.log.entries.truncate(keep as usize);
                self.log.entries.push(entry);
            }
            Item::HardState(hard_state) => self.log.hard_state = hard_state,
            Item::Reset(index, term) => {
                self.log.entries.clear();
                self.log.start_index = index;
                self.log.start_term = term;
                self.segment_last = index;
                self.from_base = false;
            }
            Item::Base(index, term) if self.begun => {
                let fits = self.log.last_index() == index && self.log.term(index) == Some(term);
                return fits.then_some(());
            }
            Item::Base(index, term) => {
                self.log.start_index = index;
                self.log.start_term = term;
                self.from_base = true;
            }
        }
        self.begun = true;
        Some(())
    }
}

/// Replays a segment. Gives the chain value behind its last frame.
fn read_segment(
    segment: &mut Segment,
    bytes: &[u8],
    mut chain: u32,
    is_last: bool,
    replay: &mut Replay,
) -> Result<u32, StorageError> {
    let mut at = FRAMES_AT;
    loop {
        let torn = match record::parse(bytes, at, segment.number, chain) {
            Parsed::Frame {
                payload,
                next,
                chain: after,
            } => {
                let items = Item::read_all(&Bytes::copy_from_slice(payload));
                let items = items.ok_or_else(|| corrupt(&segment.path, at, "a record of an unknown kind"))?;
                for item in items {
                    let fits = replay.take(item);
                    fits.ok_or_else(|| {
                        corrupt(&segment.path, at, "a record that does not fit those before it")
                    })?;
                }
                (at, chain) = (next, after);
                continue;
            }
            Parsed::End => false,
            Parsed::Torn => true,
            Parsed::Bad(what) => return Err(corrupt(&segment.path, at, what)),
        };
        if torn && !is_last {
            return Err(corrupt(
                &segment.path,
                at,
                "a record is torn, and another segment follows",
            ));
        }
        if record::find_header(bytes, at, segment.number).is_some() {
            return Err(corrupt(
                &segment.path,
                at,
                "a record is damaged, and a good one stands behind it",
            ));
        }
        if is_last {
            segment.cut(at, bytes)?;
        }
        return Ok(chain);
    }
}

fn corrupt(path: &Path, at: usize, what: &str) -> StorageError {
    StorageError::Corrupt {
        file: path.to_owned(),
        offset: at as u64,
        what: what.to_owned(),
        hint: REPLACE,
    }
}

/// Whether a node has ever kept anything in `folder`: a segment of its log, or a checkpoint. The lock and the spares
/// are made before the first segment, and remember nothing.
pub(super) fn remembers_anything(folder: &Path) -> Result<bool, StorageError> {
    match std::fs::exists(folder).map_err(io_error("look for", folder))? {
        true => Ok(!segments(folder)?.is_empty() || folder.join(checkpoint::FILE_NAME).exists()),
        false => Ok(false),
    }
}

fn segments(folder: &Path) -> Result<Vec<u64>, StorageError> {
    let mut numbers = Vec::new();
    for file in std::fs::read_dir(folder).map_err(io_error("list", folder))? {
        let file = file.map_err(io_error("list", folder))?;
        numbers.extend(number_of(&file.file_name().to_string_lossy()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn lock(folder: &Path) -> Result<File, StorageError> {
    let path = folder.join("LOCK");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked { path }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}
