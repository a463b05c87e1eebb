//! One suite for every log, and what only a log on a disk can get wrong.

use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::record::frame_bytes;
use super::segment::FRAMES_AT;
use super::*;

const OWNER: Owner = Owner {
    cluster: uuid::Uuid::from_u128(7),
    node: 3,
};
const SMALL: WalConfig = WalConfig { segment_bytes: 4096 };

fn entry(index: u64, term: u64) -> LogEntry {
    LogEntry {
        kind: if index.is_multiple_of(7) {
            EntryKind::Membership
        } else {
            EntryKind::Command
        },
        term,
        index,
        data: Bytes::from(vec![index as u8 | 1; (index % 40) as usize]),
        context: Bytes::from(vec![term as u8 | 1; (index % 3) as usize]),
    }
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<LogEntry> {
    range.map(|i| entry(i, term)).collect()
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState {
        term,
        vote: 2,
        commit,
    }
}

/// Makes a log, and makes it again from what was durable.
trait Suite {
    type Log: LogStore;
    fn open(&mut self) -> Self::Log;
    fn crash(&mut self, log: Self::Log) -> Self::Log;
}

fn run(mut suite: impl Suite) {
    let mut log = suite.open();
    assert_eq!(log.load().unwrap(), Recovered::default());

    log.append(&entries(1..=10, 1)).unwrap();
    log.set_hard_state(hard_state(1, 4)).unwrap();
    log.sync().unwrap();
    log.append(&entries(11..=12, 1)).unwrap();
    let mut log = suite.crash(log);
    let recovered = log.load().unwrap();
    assert_eq!(
        recovered.entries,
        entries(1..=10, 1),
        "what was not synced may be lost, nothing else"
    );
    assert_eq!(recovered.hard_state, hard_state(1, 4));

    log.append(&entries(6..=8, 2)).unwrap();
    log.sync().unwrap();
    let mut log = suite.crash(log);
    let recovered = log.load().unwrap();
    assert_eq!(
        recovered.last_index(),
        8,
        "an append replaces what stands behind it"
    );
    assert_eq!((recovered.term(5), recovered.term(6)), (Some(1), Some(2)));

    for first in (9..=200).step_by(4) {
        log.append(&entries(first..=first + 3, 3)).unwrap();
        log.set_hard_state(hard_state(3, first)).unwrap();
        log.sync().unwrap();
    }
    log.compact(150).unwrap();
    log.sync().unwrap();
    let mut log = suite.crash(log);
    let recovered = log.load().unwrap();
    assert!(
        recovered.start_index > 8 && recovered.start_index <= 150,
        "{}",
        recovered.start_index
    );
    assert_eq!(recovered.term(recovered.start_index), Some(3));
    assert_eq!(recovered.last_index(), 200);
    let all = entries(recovered.start_index + 1..=200, 3);
    assert_eq!(recovered.entries, all);

    log.reset(1_000, 9).unwrap();
    log.append(&entries(1_001..=1_003, 9)).unwrap();
    log.set_hard_state(hard_state(9, 1_000)).unwrap();
    log.sync().unwrap();
    log.compact(1_000).unwrap();
    let mut log = suite.crash(log);
    let recovered = log.load().unwrap();
    assert_eq!((recovered.start_index, recovered.start_term), (1_000, 9));
    assert_eq!(recovered.entries, entries(1_001..=1_003, 9));
    assert_eq!(recovered.hard_state, hard_state(9, 1_000));
}

struct InMemory;

impl Suite for InMemory {
    type Log = MemoryLog;

    fn open(&mut self) -> MemoryLog {
        MemoryLog::new()
    }

    fn crash(&mut self, mut log: MemoryLog) -> MemoryLog {
        log.crash(0);
        log
    }
}

struct OnDisk(tempfile::TempDir);

impl Suite for OnDisk {
    type Log = Wal;

    fn open(&mut self) -> Wal {
        Wal::open(self.0.path(), OWNER, SMALL).unwrap()
    }

    fn crash(&mut self, log: Wal) -> Wal {
        drop(log);
        self.open()
    }
}

#[test]
fn a_log_in_memory_conforms() {
    run(InMemory);
}

#[test]
fn a_log_on_disk_conforms() {
    run(OnDisk(tempfile::tempdir().unwrap()));
}

#[test]
fn a_frame_larger_than_a_segment_gets_one_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Wal::open(folder.path(), OWNER, SMALL).unwrap();
    log.load().unwrap();
    log.append(&entries(1..=600, 1)).unwrap();
    log.sync().unwrap();
    log.append(&entries(601..=602, 1)).unwrap();
    log.sync().unwrap();
    drop(log);
    let mut log = Wal::open(folder.path(), OWNER, SMALL).unwrap();
    assert_eq!(log.load().unwrap().entries, entries(1..=602, 1));
}

#[test]
fn the_folder_is_one_nodes_and_one_processes() {
    let folder = tempfile::tempdir().unwrap();
    let log = Wal::open(folder.path(), OWNER, SMALL).unwrap();
    let error = Wal::open(folder.path(), OWNER, SMALL).err().unwrap();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    drop(log);
    let other = Owner {
        cluster: uuid::Uuid::from_u128(8),
        node: 3,
    };
    let error = Wal::open(folder.path(), other, SMALL).err().unwrap();
    assert!(matches!(error, StorageError::OtherOwner { .. }), "{error}");
}

/// A log of `frames` group commits, each of three entries; its file, and where each frame ends.
fn written(folder: &Path, frames: u64) -> (std::path::PathBuf, Vec<usize>) {
    let mut log = Wal::open(folder, OWNER, WalConfig { segment_bytes: 8192 }).unwrap();
    log.load().unwrap();
    let mut ends = Vec::new();
    let mut at = FRAMES_AT;
    for frame in 0..frames {
        let mut bytes = 0;
        for entry in entries(frame * 3 + 1..=frame * 3 + 3, 1) {
            log.append(std::slice::from_ref(&entry)).unwrap();
            bytes += 2 + 32 + entry.data.len() + entry.context.len();
        }
        log.sync().unwrap();
        at += frame_bytes(bytes);
        ends.push(at);
    }
    (folder.join(segment::file_name(1)), ends)
}

fn reopen(folder: &Path) -> Result<Recovered, StorageError> {
    Wal::open(folder, OWNER, WalConfig { segment_bytes: 8192 })?.load()
}

#[test]
fn a_last_record_that_is_torn_at_any_byte_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let (file, ends) = written(folder.path(), 8);
    let whole = std::fs::read(&file).unwrap();
    // The frame ends with up to 31 zeros of padding: a tear in there loses nothing.
    for torn_at in ends[6]..ends[7] {
        let mut bytes = whole.clone();
        bytes[torn_at..].fill(0);
        std::fs::write(&file, &bytes).unwrap();
        let recovered = reopen(folder.path()).unwrap_or_else(|e| panic!("torn at {torn_at}: {e}"));
        let whole_frame = bytes == whole;
        assert_eq!(
            recovered.last_index(),
            if whole_frame { 24 } else { 21 },
            "torn at {torn_at}"
        );
        let again = reopen(folder.path()).unwrap();
        assert_eq!(again, recovered, "the cut is durable");
    }
}

#[test]
fn a_flipped_bit_is_never_a_silent_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (file, ends) = written(folder.path(), 8);
    let whole = std::fs::read(&file).unwrap();
    let all = entries(1..=24, 1);
    for at in 0..ends[7] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&file, &bytes).unwrap();
        match reopen(folder.path()) {
            Err(
                StorageError::Corrupt { .. } | StorageError::OtherOwner { .. } | StorageError::Version { .. },
            ) => {}
            // Padding holds nothing.
            Ok(recovered) => assert_eq!(recovered.entries, all, "flipped at {at}"),
            Err(error) => panic!("flipped at {at}: {error}"),
        }
    }
}

#[test]
fn a_file_that_was_cut_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = written(folder.path(), 3);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let error = reopen(folder.path()).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
}

#[test]
fn a_log_that_is_gone_is_no_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = written(folder.path(), 3);
    CheckpointStore::open(folder.path(), OWNER).unwrap();
    std::fs::remove_file(&file).unwrap();
    // The refusal must not make the log that the next start would take for one.
    for _ in 0..2 {
        let error = reopen(folder.path()).unwrap_err();
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is overwritten with whatever: every acknowledged entry is there, or the log is refused; only
    /// the last frame may go, and only if it could be a torn one.
    #[test]
    fn an_overwritten_stretch_loses_at_most_the_last_record(
        start in FRAMES_AT..3000usize,
        garbage in proptest::collection::vec(any::<u8>(), 1..200),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = written(folder.path(), 8);
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[start..start + garbage.len()].copy_from_slice(&garbage);
        std::fs::write(&file, &bytes).unwrap();
        if let Ok(recovered) = reopen(folder.path()) {
            prop_assert!(recovered.last_index() >= 21);
            prop_assert_eq!(&recovered.entries[..21], &entries(1..=21, 1)[..]);
        }
    }

    /// Random appends, truncations, resets, compactions and reopenings: the disk agrees with memory.
    #[test]
    fn the_disk_agrees_with_memory(steps in proptest::collection::vec((0u8..6, 1u64..30), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Wal::open(folder.path(), OWNER, SMALL).unwrap();
        disk.load().unwrap();
        let mut memory = MemoryLog::new();
        let mut term = 1;
        let mut compacted = 0;
        for (what, amount) in steps {
            let known = memory.load().unwrap();
            let last = known.last_index();
            match what {
                0 | 1 => {
                    let new = entries(last + 1..=last + amount, term);
                    disk.append(&new).unwrap();
                    memory.append(&new).unwrap();
                }
                2 => {
                    term += 1;
                    let first = (last + 1).saturating_sub(amount).max(known.start_index + 1).max(compacted + 1);
                    let new = entries(first..=first + 2, term);
                    disk.append(&new).unwrap();
                    memory.append(&new).unwrap();
                }
                3 => {
                    compacted = compacted.max(last.saturating_sub(amount));
                    disk.compact(compacted).unwrap();
                }
                4 if amount > 25 => {
                    term += 1;
                    compacted = last + 5;
                    disk.reset(last + 5, term).unwrap();
                    memory.reset(last + 5, term).unwrap();
                }
                _ => {
                    drop(disk);
                    disk = Wal::open(folder.path(), OWNER, SMALL).unwrap();
                    let recovered = disk.load().unwrap();
                    prop_assert_eq!(recovered.last_index(), last);
                    prop_assert_eq!(recovered.hard_state, known.hard_state);
                    let from = recovered.start_index.max(known.start_index);
                    for index in from..=last {
                        prop_assert_eq!(recovered.term(index), known.term(index), "term of {}", index);
                    }
                }
            }
            let state = hard_state(term, compacted);
            disk.set_hard_state(state).unwrap();
            memory.set_hard_state(state).unwrap();
            disk.sync().unwrap();
            memory.sync().unwrap();
        }
    }
}
