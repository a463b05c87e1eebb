//! The bytes of the log: frames in a segment, items in a frame.
//!
//! A frame is one group commit, so at most one of them is not durable at a crash:
//!
//! ```text
//! 0   magic        u32   never zero
//! 4   length       u32   of the payload
//! 8   segment      u64   the segment's number
//! 16  previous     u32   the header checksum of the frame before (chained across segments)
//! 20  payload crc  u32   CRC32C, seeded with `previous`
//! 24  zero         u32
//! 28  header crc   u32   CRC32C of the 28 bytes before
//! 32  payload, then the end mark of 8 bytes, then zeros to a multiple of 32
//! ```
//!
//! Headers are aligned so that none crosses a sector, and segments are zero before they are written. So a frame
//! that a crash tore has zeros where something should be: behind some byte, or in a whole sector. Anything else
//! that does not add up was written whole, may have been acknowledged, and is corruption.

use bytes::Bytes;

use super::types::{EntryKind, HardState, LogEntry};

/// Frames start at multiples of this.
pub(super) const ALIGN: usize = 32;
/// Length of a frame's header.
pub(super) const HEADER_BYTES: usize = 32;
const MAGIC: [u8; 4] = *b"CFRM";
const END: [u8; 8] = *b"CORD-END";
const SECTOR_BYTES: usize = 512;

/// What stands at an offset of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// A whole frame.
    Frame {
        payload: &'a [u8],
        next: usize,
        chain: u32,
    },
    /// Nothing was written here.
    End,
    /// A frame that was not written whole.
    Torn,
    /// Damage.
    Bad(&'static str),
}

/// Length of a frame with a payload of `payload` bytes.
pub(super) fn frame_bytes(payload: usize) -> usize {
    (HEADER_BYTES + payload + END.len()).next_multiple_of(ALIGN)
}

/// Turns a buffer that starts with [`HEADER_BYTES`] spare bytes and then holds the payload into a frame. Gives the
/// chain value for the next one.
pub(super) fn seal(buffer: &mut Vec<u8>, segment: u64, previous: u32) -> u32 {
    let payload = buffer.len() - HEADER_BYTES;
    let length = u32::try_from(payload).expect("frames are bounded");
    let crc = crc32c::crc32c_append(previous, &buffer[HEADER_BYTES..]);
    buffer.extend_from_slice(&END);
    buffer.resize(frame_bytes(payload), 0);
    buffer[0..4].copy_from_slice(&MAGIC);
    buffer[4..8].copy_from_slice(&length.to_le_bytes());
    buffer[8..16].copy_from_slice(&segment.to_le_bytes());
    buffer[16..20].copy_from_slice(&previous.to_le_bytes());
    buffer[20..24].copy_from_slice(&crc.to_le_bytes());
    buffer[24..28].fill(0);
    let chain = crc32c::crc32c(&buffer[..28]);
    buffer[28..32].copy_from_slice(&chain.to_le_bytes());
    chain
}

/// Reads what stands at `at` in the bytes of a whole segment.
pub(super) fn parse(bytes: &[u8], at: usize, segment: u64, previous: u32) -> Parsed<'_> {
    let rest = &bytes[at.min(bytes.len())..];
    let Some(header) = rest.first_chunk::<HEADER_BYTES>() else {
        return Parsed::End;
    };
    if header.iter().all(|b| *b == 0) {
        return Parsed::End;
    }
    if !is_header(header) {
        let nothing_behind = rest[HEADER_BYTES..].iter().all(|b| *b == 0);
        return if nothing_behind {
            Parsed::Torn
        } else {
            Parsed::Bad("a record's header does not match its checksum")
        };
    }
    if header[8..16] != segment.to_le_bytes() {
        return Parsed::Bad("a record of another segment");
    }
    if header[16..20] != previous.to_le_bytes() {
        return Parsed::Bad("a record that does not follow the one before it");
    }
    let length = u32_at(header, 4) as usize;
    let total = frame_bytes(length);
    if total > rest.len() {
        return Parsed::Bad("a record that is longer than its segment");
    }
    let payload = &rest[HEADER_BYTES..HEADER_BYTES + length];
    let end = &rest[HEADER_BYTES + length..HEADER_BYTES + length + END.len()];
    if end == END && crc32c::crc32c_append(previous, payload) == u32_at(header, 20) {
        return Parsed::Frame {
            payload,
            next: at + total,
            chain: u32_at(header, 28),
        };
    }
    if is_torn(bytes, at, at + HEADER_BYTES + length + END.len()) {
        Parsed::Torn
    } else {
        Parsed::Bad("a record's content does not match its checksum")
    }
}

/// The offset of a whole header behind `at`, if there is one.
pub(super) fn find_header(bytes: &[u8], at: usize, segment: u64) -> Option<usize> {
    let first = (at + 1).next_multiple_of(ALIGN);
    (first..bytes.len().saturating_sub(HEADER_BYTES - 1))
        .step_by(ALIGN)
        .find(|&at| {
            let header: &[u8; HEADER_BYTES] = bytes[at..].first_chunk().expect("within the bytes");
            header[..4] == MAGIC && header[8..16] == segment.to_le_bytes() && is_header(header)
        })
}

fn is_header(header: &[u8; HEADER_BYTES]) -> bool {
    header[..4] == MAGIC && crc32c::crc32c(&header[..28]) == u32_at(header, 28)
}

fn is_torn(bytes: &[u8], from: usize, to: usize) -> bool {
    let end = &bytes[to - END.len()..to];
    let written = END.iter().zip(end).take_while(|(a, b)| a == b).count();
    if written < END.len() && end[written..].iter().all(|b| *b == 0) {
        return true;
    }
    let mut start = from;
    while start < to {
        let stop = to.min((start / SECTOR_BYTES + 1) * SECTOR_BYTES);
        if bytes[start..stop].iter().all(|b| *b == 0) {
            return true;
        }
        start = stop;
    }
    false
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// One thing that a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Append; what is there from its index on is replaced.
    Entry(LogEntry),
    /// Replace the hard state.
    HardState(HardState),
    /// Forget every entry and start behind (index, term).
    Reset(u64, u64),
    /// At the start of a segment: where the log ended when it was begun.
    Base(u64, u64),
}

impl Item {
    /// Appends the item's bytes.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Item::Entry(entry) => put_entry(entry, out),
            Item::HardState(h) => {
                out.push(2);
                put_u64s(&[h.term, h.vote, h.commit], out);
            }
            Item::Reset(index, term) => {
                out.push(3);
                put_u64s(&[*index, *term], out);
            }
            Item::Base(index, term) => {
                out.push(4);
                put_u64s(&[*index, *term], out);
            }
        }
    }

    /// Every item of a payload; None if it is not one of ours.
    pub(super) fn read_all(payload: &Bytes) -> Option<Vec<Item>> {
        let mut items = Vec::new();
        let mut at = 0;
        while at < payload.len() {
            let tag = payload[at];
            at += 1;
            items.push(match tag {
                1 => {
                    let kind = match payload.get(at)? {
                        0 => EntryKind::Command,
                        1 => EntryKind::Membership,
                        _ => return None,
                    };
                    at += 1;
                    let [term, index] = take_u64s(payload, &mut at)?;
                    let [context, data] = take_u64s(payload, &mut at)?;
                    let context = take_bytes(payload, &mut at, context)?;
                    let data = take_bytes(payload, &mut at, data)?;
                    Item::Entry(LogEntry {
                        kind,
                        term,
                        index,
                        data,
                        context,
                    })
                }
                2 => {
                    let [term, vote, commit] = take_u64s(payload, &mut at)?;
                    Item::HardState(HardState { term, vote, commit })
                }
                3 => {
                    let [index, term] = take_u64s(payload, &mut at)?;
                    Item::Reset(index, term)
                }
                4 => {
                    let [index, term] = take_u64s(payload, &mut at)?;
                    Item::Base(index, term)
                }
                _ => return None,
            });
        }
        Some(items)
    }
}

/// Appends an entry's bytes.
pub(super) fn put_entry(entry: &LogEntry, out: &mut Vec<u8>) {
    out.push(1);
    out.push(match entry.kind {
        EntryKind::Command => 0,
        EntryKind::Membership => 1,
    });
    let lengths = [entry.context.len() as u64, entry.data.len() as u64];
    put_u64s(&[entry.term, entry.index], out);
    put_u64s(&lengths, out);
    out.extend_from_slice(&entry.context);
    out.extend_from_slice(&entry.data);
}

fn put_u64s(numbers: &[u64], out: &mut Vec<u8>) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn take_u64s<const N: usize>(bytes: &[u8], at: &mut usize) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = u64::from_le_bytes(*bytes.get(*at..)?.first_chunk()?);
        *at += 8;
    }
    Some(numbers)
}

fn take_bytes(bytes: &Bytes, at: &mut usize, length: u64) -> Option<Bytes> {
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    if end > bytes.len() {
        return None;
    }
    // Copied: a slice would keep the whole segment in memory.
    let taken = Bytes::copy_from_slice(&bytes[*at..end]);
    *at = end;
    Some(taken)
}
