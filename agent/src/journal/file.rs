//! The journal's file.
//!
//! `<folder>/journal-<16 hex digits>.log`: the magic number, then frames. A frame is
//! `length: u32 LE | crc32c(length and payload): u32 LE | payload`, its payload a JSON array of records. What
//! is made durable together is one frame, so a crash can tear the last frame only: it is cut off. A bad frame
//! with a good one behind it is damage, and the journal is refused rather than half believed.
//!
//! Outcomes that the cluster holds are kept until the machine forgets them (at most 1,024 of them or 8 MiB by
//! default), so that repeats are answered. When more than half of a file of 4 MiB is forgotten, what is left
//! is written to the next file, which then takes the old one's place: the folder stays below about 30 MiB.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::actions::AttemptKey;
use crate::session::event::{Intent, Outcome, Recovered, RecoveredAttempt};

use super::record::Record;

const MAGIC: &[u8; 8] = b"CORDONJ1";
const FRAME_HEAD_BYTES: usize = 8;
/// No frame is longer; a batch of the greatest outcomes stays below.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Files smaller than this are not worth compacting.
const COMPACT_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("cannot {doing} the journal {}: {source}", path.display())]
    Io {
        /// `open`, `read`, `write`, ...
        doing: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A frame in the middle is bad.
    #[error(
        "the journal {} is damaged at byte {offset}: {problem}. It says which actions were done and cannot be \
         guessed at. Keep a copy for the investigation, then move the file away and enroll this host anew",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where the bad frame begins.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// Another agent works on it.
    #[error("another agent runs with the journal {}: stop it first", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}

/// A journal in a folder, held by this process alone.
#[derive(Debug)]
pub struct FileJournal {
    folder: PathBuf,
    path: PathBuf,
    number: u64,
    file: File,
    end: u64,
    floor: u64,
    attempts: BTreeMap<AttemptKey, Attempt>,
    next_order: u64,
    live_bytes: u64,
    compact_bytes_min: u64,
    _lock: File,
}

/// What is known of an attempt without reading the file.
#[derive(Clone, Debug, Default)]
struct Attempt {
    order: u64,
    /// More than one would be a broken promise; counted so that it cannot be hidden by compaction.
    intents: u32,
    intent: Option<Intent>,
    /// Where the frame with its outcome begins.
    outcome_at: Option<u64>,
    acknowledged: bool,
    bytes: u64,
}

impl FileJournal {
    /// Opens or makes the journal; cuts a torn end off.
    ///
    /// # Errors
    /// When it is damaged, in use, or the disk refuses.
    pub fn open(folder: &Path) -> Result<FileJournal, JournalError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { doing, path, source }
        };
        certs::files::make_private_folder(folder)
            .map_err(|error| io("make", folder)(io::Error::other(error.to_string())))?;
        let lock = private().open(folder.join("lock")).map_err(io("lock", folder))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            JournalError::InUse {
                path: folder.to_owned(),
            }
        })?;
        let numbers = numbers(folder)?;
        let number = numbers.last().copied().unwrap_or(1);
        let path = path_of(folder, number);
        let mut file = private().open(&path).map_err(io("open", &path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read", &path))?;
        if bytes.len() < MAGIC.len() {
            // Made and not filled in, or torn while it was.
            file.set_len(0).map_err(io("cut", &path))?;
            file.write_all_at(MAGIC, 0)
                .and_then(|()| file.sync_all())
                .map_err(io("begin", &path))?;
            sync_folder(folder).map_err(io("begin", folder))?;
            bytes = MAGIC.to_vec();
        }
        let mut journal = FileJournal {
            folder: folder.to_owned(),
            path: path.clone(),
            number,
            file,
            end: 0,
            floor: 0,
            attempts: BTreeMap::new(),
            next_order: 0,
            live_bytes: 0,
            compact_bytes_min: COMPACT_BYTES_MIN,
            _lock: lock,
        };
        let (frames, good) = frames(&bytes, &path)?;
        for (offset, size, records) in frames {
            journal.take_in(offset, size, &records);
        }
        if good < bytes.len() as u64 {
            tracing::warn!(at_byte = good, "the journal's last write was torn: cut off");
            journal
                .file
                .set_len(good)
                .and_then(|()| journal.file.sync_all())
                .map_err(io("cut", &path))?;
        }
        journal.end = good;
        // Older files are what a compaction had replaced when it was cut short.
        for old in numbers.iter().filter(|old| **old != number) {
            let old = path_of(folder, *old);
            fs::remove_file(&old).map_err(io("remove", &old))?;
        }
        Ok(journal)
    }

    /// Makes the records durable in one frame.
    ///
    /// # Errors
    /// When the disk fails; a failed fsync is not tried again.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let frame = encode(records).map_err(|source| self.io("write", source))?;
        let offset = self.end;
        self.file
            .write_all_at(&frame, offset)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| self.io("write", source))?;
        self.end += frame.len() as u64;
        self.take_in(offset, frame.len() as u64, records);
        if self.end > self.compact_bytes_min && self.end > 2 * self.live_bytes {
            self.compact()?;
        }
        Ok(())
    }

    /// The outcome of an attempt.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn recall(&mut self, key: &AttemptKey) -> Result<Option<Outcome>, JournalError> {
        let Some(offset) = self.attempts.get(key).and_then(|attempt| attempt.outcome_at) else {
            return Ok(None);
        };
        let mut head = [0; FRAME_HEAD_BYTES];
        self.file
            .read_exact_at(&mut head, offset)
            .map_err(|source| self.io("read", source))?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut frame = vec![0; FRAME_HEAD_BYTES + length.min(FRAME_BYTES_MAX)];
        self.file
            .read_exact_at(&mut frame, offset)
            .map_err(|source| self.io("read", source))?;
        let records = decode(&frame).ok_or_else(|| JournalError::Damaged {
            path: self.path.clone(),
            offset,
            problem: "a frame that was good is not any more".to_owned(),
        })?;
        let of_key = |record: &&Record| matches!(record, Record::Outcome { key: found, .. } if AttemptKey::from(found) == *key);
        Ok(records.1.iter().rfind(of_key).and_then(Record::to_outcome))
    }

    /// What a machine starts from.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn recovered(&mut self) -> Result<Recovered, JournalError> {
        let mut ordered: Vec<(AttemptKey, Attempt)> = self
            .attempts
            .iter()
            .map(|(key, attempt)| (key.clone(), attempt.clone()))
            .collect();
        ordered.sort_by_key(|(_, attempt)| attempt.order);
        let mut records = Vec::with_capacity(ordered.len());
        for (key, attempt) in ordered {
            let outcome = self.recall(&key)?;
            records.push(RecoveredAttempt {
                key,
                intent: attempt.intent,
                outcome,
                acknowledged: attempt.acknowledged,
            });
        }
        Ok(Recovered {
            floor: self.floor,
            records,
        })
    }

    fn take_in(&mut self, offset: u64, size: u64, records: &[Record]) {
        let share = size / records.len().max(1) as u64;
        for record in records {
            match record {
                Record::Intent {
                    key,
                    action,
                    impact,
                    at_ms,
                } => {
                    let key = AttemptKey::from(key);
                    let intent = Intent {
                        key: key.clone(),
                        action: action.clone(),
                        impact: *impact,
                        at_ms: *at_ms,
                    };
                    let attempt = self.attempt(key, share);
                    attempt.intents += 1;
                    attempt.intent = Some(intent);
                }
                Record::Outcome { key, .. } => {
                    self.attempt(key.into(), share).outcome_at = Some(offset);
                }
                Record::Acknowledged { key } => {
                    let key = AttemptKey::from(key);
                    if let Some(attempt) = self.attempts.get_mut(&key) {
                        attempt.acknowledged = true;
                    }
                }
                Record::Forget { keys, floor } => {
                    for key in keys {
                        if let Some(attempt) = self.attempts.remove(&key.into()) {
                            self.live_bytes = self.live_bytes.saturating_sub(attempt.bytes);
                        }
                    }
                    self.floor = self.floor.max(*floor);
                }
            }
        }
    }

    fn attempt(&mut self, key: AttemptKey, bytes: u64) -> &mut Attempt {
        self.live_bytes += bytes;
        let next = &mut self.next_order;
        let attempt = self.attempts.entry(key).or_insert_with(|| {
            *next += 1;
            Attempt {
                order: *next,
                ..Attempt::default()
            }
        });
        attempt.bytes += bytes;
        attempt
    }

    /// Writes what is not forgotten to the next file, and goes on there.
    fn compact(&mut self) -> Result<(), JournalError> {
        let number = self.number + 1;
        let path = path_of(&self.folder, number);
        let fresh = path.with_extension("new");
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { doing, path, source }
        };
        if let Err(error) = fs::remove_file(&fresh)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(io("remove", &fresh)(error));
        }
        let file = private().open(&fresh).map_err(io("make", &fresh))?;
        let mut writer = io::BufWriter::new(&file);
        writer.write_all(MAGIC).map_err(io("write", &fresh))?;
        let mut end = MAGIC.len() as u64;
        let mut taken = Vec::new();
        let mut put = |records: Vec<Record>, writer: &mut io::BufWriter<&File>| -> io::Result<()> {
            let frame = encode(&records)?;
            writer.write_all(&frame)?;
            taken.push((end, frame.len() as u64, records));
            end += frame.len() as u64;
            Ok(())
        };
        put(
            vec![Record::Forget {
                keys: Vec::new(),
                floor: self.floor,
            }],
            &mut writer,
        )
        .map_err(io("write", &fresh))?;
        let mut ordered: Vec<(AttemptKey, Attempt)> = self
            .attempts
            .iter()
            .map(|(key, attempt)| (key.clone(), attempt.clone()))
            .collect();
        ordered.sort_by_key(|(_, attempt)| attempt.order);
        for (key, attempt) in ordered {
            let mut records = Vec::new();
            if let Some(intent) = &attempt.intent {
                records.extend((0..attempt.intents).map(|_| Record::intent(intent)));
            }
            records.extend(self.recall(&key)?.map(|outcome| Record::outcome(&key, &outcome)));
            if attempt.acknowledged {
                records.push(Record::Acknowledged { key: (&key).into() });
            }
            put(records, &mut writer).map_err(io("write", &fresh))?;
        }
        writer.flush().map_err(io("write", &fresh))?;
        drop(writer);
        file.sync_all().map_err(io("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(io("publish", &path))?;
        sync_folder(&self.folder).map_err(io("publish", &self.folder))?;
        fs::remove_file(&self.path).map_err(io("remove", &self.path))?;
        (self.attempts, self.live_bytes) = (BTreeMap::new(), 0);
        for (offset, size, records) in &taken {
            self.take_in(*offset, *size, records);
        }
        (self.file, self.path, self.number, self.end) = (file, path, number, end);
        Ok(())
    }

    fn io(&self, doing: &'static str, source: io::Error) -> JournalError {
        JournalError::Io {
            doing,
            path: self.path.clone(),
            source,
        }
    }
}

/// Every record of the journal in this folder, without holding it: an end that is being written is left out.
///
/// # Errors
/// When it is damaged or cannot be read.
pub fn read_records(folder: &Path) -> Result<Vec<Record>, JournalError> {
    loop {
        let Some(number) = numbers(folder)?.last().copied() else {
            return Ok(Vec::new());
        };
        let path = path_of(folder, number);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            // Compacted meanwhile: the next file has taken its place.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                return Err(JournalError::Io {
                    doing: "read",
                    path,
                    source,
                });
            }
        };
        if bytes.len() < MAGIC.len() {
            return Ok(Vec::new());
        }
        let (frames, _) = frames(&bytes, &path)?;
        return Ok(frames.into_iter().flat_map(|(_, _, records)| records).collect());
    }
}

/// Frames as (offset, size, records), and where the good part ends.
type Frames = (Vec<(u64, u64, Vec<Record>)>, u64);

fn frames(bytes: &[u8], path: &Path) -> Result<Frames, JournalError> {
    let damaged = |offset: usize, problem: &str| JournalError::Damaged {
        path: path.to_owned(),
        offset: offset as u64,
        problem: problem.to_owned(),
    };
    if &bytes[..MAGIC.len()] != MAGIC {
        return Err(damaged(0, "it does not begin as a journal of this version"));
    }
    let mut frames = Vec::new();
    let mut offset = MAGIC.len();
    while offset < bytes.len() {
        let Some((size, records)) = decode(&bytes[offset..]) else {
            let behind = offset + 1..bytes.len().saturating_sub(FRAME_HEAD_BYTES);
            for later in behind {
                if decode(&bytes[later..]).is_some() {
                    return Err(damaged(offset, "a frame is bad, and good ones follow it"));
                }
            }
            break;
        };
        frames.push((offset as u64, size as u64, records));
        offset += size;
    }
    Ok((frames, offset as u64))
}

fn encode(records: &[Record]) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; FRAME_HEAD_BYTES];
    serde_json::to_writer(&mut frame, records)?;
    let length = frame.len() - FRAME_HEAD_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other("more at once than a frame takes"));
    }
    let length = (length as u32).to_le_bytes();
    frame[..4].copy_from_slice(&length);
    let sum = crc32c::crc32c_append(crc32c::crc32c(&length), &frame[FRAME_HEAD_BYTES..]);
    frame[4..8].copy_from_slice(&sum.to_le_bytes());
    Ok(frame)
}

/// The frame at the beginning of these bytes: its size and records.
fn decode(bytes: &[u8]) -> Option<(usize, Vec<Record>)> {
    let head: &[u8; FRAME_HEAD_BYTES] = bytes.get(..FRAME_HEAD_BYTES)?.try_into().ok()?;
    let length = [head[0], head[1], head[2], head[3]];
    let sum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let size = FRAME_HEAD_BYTES + u32::from_le_bytes(length) as usize;
    if !(FRAME_HEAD_BYTES + 2..=FRAME_HEAD_BYTES + FRAME_BYTES_MAX).contains(&size) {
        return None;
    }
    let payload = bytes.get(FRAME_HEAD_BYTES..size)?;
    if crc32c::crc32c_append(crc32c::crc32c(&length), payload) != sum {
        return None;
    }
    Some((size, serde_json::from_slice(payload).ok()?))
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("journal-{number:016x}.log"))
}

fn numbers(folder: &Path) -> Result<Vec<u64>, JournalError> {
    let io = |source| JournalError::Io {
        doing: "look for",
        path: folder.to_owned(),
        source,
    };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let digits = name
            .to_str()
            .and_then(|name| name.strip_prefix("journal-")?.strip_suffix(".log"));
        numbers.extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::Status;
    use catalogue::Impact;

    fn key(n: u32) -> AttemptKey {
        AttemptKey {
            run_id: "run".into(),
            step: "step".into(),
            item: n,
            attempt: 1,
            token: u64::from(n) + 10,
        }
    }

    fn intent(n: u32) -> Record {
        Record::intent(&Intent {
            key: key(n),
            action: "host.isolate".into(),
            impact: Impact::Contain,
            at_ms: 1,
        })
    }

    fn outcome(n: u32, output: &str) -> Record {
        let outcome = Outcome {
            status: Status::Succeeded,
            output_json: output.to_owned(),
            error: None,
            started_at_ms: 1,
            ended_at_ms: 2,
        };
        Record::outcome(&key(n), &outcome)
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("journal");
        (root, folder)
    }

    fn only_file(folder: &Path) -> PathBuf {
        path_of(folder, numbers(folder).unwrap()[0])
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let (_root, folder) = folder();
        let mut journal = FileJournal::open(&folder).unwrap();
        assert!(matches!(
            FileJournal::open(&folder),
            Err(JournalError::InUse { .. })
        ));
        journal.append(&[intent(1), intent(2)]).unwrap();
        journal
            .append(&[
                outcome(1, r#"{"a":1}"#),
                Record::Acknowledged {
                    key: (&key(1)).into(),
                },
            ])
            .unwrap();
        drop(journal);
        let mut journal = FileJournal::open(&folder).unwrap();
        let recovered = journal.recovered().unwrap();
        assert_eq!(recovered.records.len(), 2);
        assert!(recovered.records[0].acknowledged && recovered.records[0].outcome.is_some());
        assert!(recovered.records[1].intent.is_some() && recovered.records[1].outcome.is_none());
        assert_eq!(
            journal.recall(&key(1)).unwrap().unwrap().output_json,
            r#"{"a":1}"#
        );
    }

    #[test]
    fn cut_anywhere_it_holds_a_prefix() {
        let (_root, folder) = folder();
        let mut journal = FileJournal::open(&folder).unwrap();
        for n in 0..4 {
            journal.append(&[intent(n)]).unwrap();
            journal.append(&[outcome(n, "{}")]).unwrap();
        }
        drop(journal);
        let path = only_file(&folder);
        let whole = fs::read(&path).unwrap();
        let all = read_records(&folder).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            drop(FileJournal::open(&folder).unwrap());
            let kept = read_records(&folder).unwrap();
            assert_eq!(kept, all[..kept.len()]);
        }
    }

    #[test]
    fn a_flipped_byte_is_refused_or_was_in_the_last_frame() {
        let (_root, folder) = folder();
        let mut journal = FileJournal::open(&folder).unwrap();
        for n in 0..4 {
            journal.append(&[intent(n)]).unwrap();
        }
        drop(journal);
        let path = only_file(&folder);
        let whole = fs::read(&path).unwrap();
        let all = read_records(&folder).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            fs::write(&path, &bytes).unwrap();
            match FileJournal::open(&folder) {
                Err(JournalError::Damaged { .. }) => {}
                Err(error) => panic!("{error}"),
                Ok(_) => assert_eq!(read_records(&folder).unwrap(), all[..3], "byte {at}"),
            }
        }
    }

    #[test]
    fn compaction_keeps_what_is_not_forgotten() {
        let (_root, folder) = folder();
        let mut journal = FileJournal::open(&folder).unwrap();
        journal.compact_bytes_min = 4_096;
        let big = format!(r#"{{"text":"{}"}}"#, "x".repeat(500));
        for n in 0..100 {
            journal.append(&[intent(n)]).unwrap();
            journal
                .append(&[
                    outcome(n, &big),
                    Record::Acknowledged {
                        key: (&key(n)).into(),
                    },
                ])
                .unwrap();
            if n >= 5 {
                let keys = vec![(&key(n - 5)).into()];
                journal
                    .append(&[Record::Forget {
                        keys,
                        floor: u64::from(n - 5) + 10,
                    }])
                    .unwrap();
            }
        }
        assert!(journal.end < 20_000, "{} bytes", journal.end);
        drop(journal);
        let mut journal = FileJournal::open(&folder).unwrap();
        let recovered = journal.recovered().unwrap();
        assert_eq!(recovered.floor, 94 + 10);
        let items: Vec<u32> = recovered.records.iter().map(|record| record.key.item).collect();
        assert_eq!(items, [95, 96, 97, 98, 99]);
        assert!(
            recovered
                .records
                .iter()
                .all(|r| r.acknowledged && r.outcome.is_some() && r.intent.is_some())
        );
        assert_eq!(numbers(&folder).unwrap().len(), 1);
    }
}
