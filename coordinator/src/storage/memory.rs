//! A log in memory that can crash: for tests and for the simulation.

use std::path::PathBuf;

use bytes::Bytes;

use super::error::{REPLACE, StorageError};
use super::log::{LogStore, Recovered};
use super::record::{self, HEADER_BYTES, Item, Parsed};
use super::types::{HardState, LogEntry};

/// Where a torn record is said to stand: in the first segment, behind nothing.
const SEGMENT: u64 = 1;

#[derive(Clone, Debug)]
enum Write {
    Append(Vec<LogEntry>),
    HardState(HardState),
    Reset(u64, u64),
}

impl Write {
    fn items(self) -> Vec<Item> {
        match self {
            Write::Append(entries) => entries.into_iter().map(Item::Entry).collect(),
            Write::HardState(hard_state) => vec![Item::HardState(hard_state)],
            Write::Reset(index, term) => vec![Item::Reset(index, term)],
        }
    }

    fn of(item: Item) -> Option<Write> {
        match item {
            Item::Entry(entry) => Some(Write::Append(vec![entry])),
            Item::HardState(hard_state) => Some(Write::HardState(hard_state)),
            Item::Reset(index, term) => Some(Write::Reset(index, term)),
            // Only a segment has one.
            Item::Base(..) => None,
        }
    }
}

/// A log that keeps what was synced apart from what was only written.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    durable: Recovered,
    written: Vec<Write>,
}

impl MemoryLog {
    /// An empty one.
    pub fn new() -> MemoryLog {
        MemoryLog::default()
    }

    /// Loses what was not synced, but for the first `kept` writes.
    pub fn crash(&mut self, kept: usize) {
        let lost = self.written.split_off(kept.min(self.written.len()));
        drop(lost);
        self.flush();
    }

    /// Loses what was not synced, but for the first `kept` writes and what arrived of the next one: `tear` gets
    /// its bytes as the real log writes them, and makes zero what never arrived. It is then read as the real log
    /// reads its tail. True: it was torn, and is cut off.
    pub fn crash_torn(&mut self, kept: usize, tear: impl FnOnce(&mut [u8])) -> Result<bool, StorageError> {
        let next = self.written.get(kept).cloned();
        self.crash(kept);
        let Some(next) = next else { return Ok(false) };
        let mut bytes = vec![0; HEADER_BYTES];
        for item in next.items() {
            item.put(&mut bytes);
        }
        record::seal(&mut bytes, SEGMENT, 0);
        tear(&mut bytes);
        let corrupt = |what: &str| StorageError::Corrupt {
            file: PathBuf::from("memory"),
            offset: 0,
            what: what.to_owned(),
            hint: REPLACE,
        };
        match record::parse(&bytes, 0, SEGMENT, 0) {
            Parsed::End | Parsed::Torn => Ok(true),
            Parsed::Bad(what) => Err(corrupt(what)),
            Parsed::Frame { payload, .. } => {
                let items = Item::read_all(&Bytes::copy_from_slice(payload));
                let items = items.ok_or_else(|| corrupt("a record of an unknown kind"))?;
                self.written.extend(items.into_iter().filter_map(Write::of));
                self.flush();
                Ok(false)
            }
        }
    }

    /// How many writes wait for a sync.
    pub fn unsynced(&self) -> usize {
        self.written.len()
    }

    fn flush(&mut self) {
        for write in self.written.drain(..) {
            match write {
                Write::Append(entries) => {
                    let Some(first) = entries.first() else { continue };
                    let keep = (first.index - self.durable.start_index - 1) as usize;
                    assert!(
                        keep <= self.durable.entries.len(),
                        "gap before entry {}",
                        first.index
                    );
                    self.durable.entries.truncate(keep);
                    self.durable.entries.extend(entries);
                }
                Write::HardState(hard_state) => self.durable.hard_state = hard_state,
                Write::Reset(index, term) => {
                    self.durable.entries.clear();
                    self.durable.start_index = index;
                    self.durable.start_term = term;
                }
            }
        }
    }
}

impl LogStore for MemoryLog {
    fn load(&mut self) -> Result<Recovered, StorageError> {
        Ok(self.durable.clone())
    }

    fn append(&mut self, entries: &[LogEntry]) -> Result<(), StorageError> {
        self.written.push(Write::Append(entries.to_vec()));
        Ok(())
    }

    fn set_hard_state(&mut self, hard_state: HardState) -> Result<(), StorageError> {
        self.written.push(Write::HardState(hard_state));
        Ok(())
    }

    fn reset(&mut self, index: u64, term: u64) -> Result<(), StorageError> {
        self.written.push(Write::Reset(index, term));
        Ok(())
    }

    fn compact(&mut self, index: u64) -> Result<(), StorageError> {
        let durable = &mut self.durable;
        let Some(term) = durable.term(index) else {
            return Ok(());
        };
        durable.entries.drain(..(index - durable.start_index) as usize);
        durable.start_index = index;
        durable.start_term = term;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::EntryKind;
    use super::*;

    fn written() -> MemoryLog {
        let mut log = MemoryLog::new();
        let entry = |index| LogEntry {
            kind: EntryKind::Command,
            term: 1,
            index,
            data: Bytes::from_static(&[7; 700]),
            context: Bytes::new(),
        };
        log.append(&[entry(1)]).expect("memory");
        log.sync().expect("memory");
        log.append(&[entry(2), entry(3)]).expect("memory");
        log
    }

    fn last(mut log: MemoryLog) -> u64 {
        log.load().expect("memory").last_index()
    }

    #[test]
    fn a_record_that_arrived_whole_is_kept() {
        let mut log = written();
        assert!(!log.crash_torn(0, |_| {}).expect("it is whole"));
        assert_eq!(last(log), 3);
    }

    #[test]
    fn a_record_that_is_torn_is_cut_off_wherever_it_tore() {
        let bytes = record::frame_bytes(2 * (700 + 34));
        let end = HEADER_BYTES + 2 * (700 + 34) + 8;
        for arrived in 0..bytes {
            let mut log = written();
            let torn = log.crash_torn(0, |bytes| bytes[arrived..].fill(0)).expect("torn");
            assert_eq!(torn, arrived < end, "{arrived} of {bytes} bytes arrived");
            assert_eq!(last(log), if torn { 1 } else { 3 });
        }
        for sector in 0..bytes.div_ceil(512) {
            let mut log = written();
            let lost = sector * 512..bytes.min((sector + 1) * 512);
            let torn = log.crash_torn(0, |bytes| bytes[lost].fill(0)).expect("torn");
            assert!(torn, "sector {sector} never arrived");
            assert_eq!(last(log), 1);
        }
    }

    #[test]
    fn what_is_damaged_in_another_way_is_refused() {
        let mut log = written();
        let damaged = log.crash_torn(0, |bytes| bytes[100] ^= 1);
        assert!(
            matches!(damaged, Err(StorageError::Corrupt { .. })),
            "{damaged:?}"
        );
    }
}
