//! The bytes around every stored value: who it is, how long it is, and a checksum over both.
//!
//! The engines have checksums of their own, but they guard their pages, not our meaning: a value under the wrong key, or a
//! chunk of an older entry left behind, passes theirs. This frame catches it.

use bytes::Bytes;

use super::engine_error::DiskError;
use super::{Ballot, LogPoint, Record, VALUE_BYTES_MAX};

/// The only frame layout so far.
pub(super) const FRAME_VERSION: u8 = 1;
/// version, kind, chunk, chunks, index, term, length, crc32c; integers are little-endian.
const HEADER_BYTES: usize = 1 + 1 + 2 + 2 + 8 + 8 + 4 + 4;
const CRC_AT: usize = HEADER_BYTES - 4;

/// The key of an entry's chunk: kind, index, chunk, in the order of the log.
pub(super) const KEY_BYTES: usize = 11;

/// What a value is. The byte leads the key, so each kind is one contiguous range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Entry = b'e',
    Committed = b'C',
    Purged = b'P',
    Start = b'S',
    Vote = b'V',
}

pub(super) fn entry_key(index: u64, chunk: u16) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[0] = Kind::Entry as u8;
    key[1..9].copy_from_slice(&index.to_be_bytes());
    key[9..].copy_from_slice(&chunk.to_be_bytes());
    key
}

pub(super) fn entry_key_parts(key: &[u8]) -> Result<(u64, u16), DiskError> {
    let (Some((&kind, rest)), KEY_BYTES) = (key.split_first(), key.len()) else {
        return Err(DiskError::Damaged(format!("key of {} bytes", key.len())));
    };
    if kind != Kind::Entry as u8 {
        return Err(DiskError::Damaged(format!("key of unknown kind {kind}")));
    }
    Ok((u64_at(rest, 0, u64::from_be_bytes), u16::from_be_bytes([rest[8], rest[9]])))
}

pub(super) fn meta_key(kind: Kind) -> [u8; 1] {
    [kind as u8]
}

/// How many values an entry of `bytes` takes.
pub(super) fn chunk_count(bytes: usize) -> u16 {
    bytes.div_ceil(VALUE_BYTES_MAX).max(1) as u16
}

/// Cuts an entry into framed values.
pub(super) fn entry_values(record: &Record) -> impl Iterator<Item = (u16, Vec<u8>)> {
    let chunks = chunk_count(record.payload.len());
    (0..chunks).map(move |chunk| {
        let start = usize::from(chunk) * VALUE_BYTES_MAX;
        let end = record.payload.len().min(start + VALUE_BYTES_MAX);
        (chunk, seal(Kind::Entry, chunk, chunks, record.point, &record.payload[start..end]))
    })
}

fn seal(kind: Kind, chunk: u16, chunks: u16, point: LogPoint, payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + payload.len());
    value.push(FRAME_VERSION);
    value.push(kind as u8);
    value.extend_from_slice(&chunk.to_le_bytes());
    value.extend_from_slice(&chunks.to_le_bytes());
    value.extend_from_slice(&point.index.to_le_bytes());
    value.extend_from_slice(&point.term.to_le_bytes());
    value.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&value), payload);
    value.extend_from_slice(&checksum.to_le_bytes());
    value.extend_from_slice(payload);
    value
}

/// A value whose frame was checked.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    pub(super) chunk: u16,
    pub(super) chunks: u16,
    pub(super) point: LogPoint,
    pub(super) payload: &'a [u8],
}

pub(super) fn open(kind: Kind, value: &[u8]) -> Result<Opened<'_>, DiskError> {
    if value.len() < HEADER_BYTES {
        return Err(DiskError::Damaged(format!("value of {} bytes is shorter than its frame", value.len())));
    }
    if value[0] > FRAME_VERSION {
        return Err(DiskError::Newer { found: value[0].into(), supported: FRAME_VERSION.into() });
    }
    let (header, payload) = value.split_at(HEADER_BYTES);
    let stored = u32::from_le_bytes([header[CRC_AT], header[CRC_AT + 1], header[CRC_AT + 2], header[CRC_AT + 3]]);
    let length = u32::from_le_bytes([header[22], header[23], header[24], header[25]]) as usize;
    if crc32c::crc32c_append(crc32c::crc32c(&header[..CRC_AT]), payload) != stored || length != payload.len() {
        return Err(DiskError::Damaged("checksum of a value does not match".into()));
    }
    if header[0] != FRAME_VERSION || header[1] != kind as u8 {
        return Err(DiskError::Damaged(format!("value of kind {} where {} was expected", header[1], kind as u8)));
    }
    let point = LogPoint { index: u64_at(header, 6, u64::from_le_bytes), term: u64_at(header, 14, u64::from_le_bytes) };
    let (chunk, chunks) = (u16::from_le_bytes([header[2], header[3]]), u16::from_le_bytes([header[4], header[5]]));
    Ok(Opened { chunk, chunks, point, payload })
}

fn u64_at(bytes: &[u8], at: usize, read: fn([u8; 8]) -> u64) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    read(word)
}

pub(super) fn seal_point(kind: Kind, point: LogPoint) -> Vec<u8> {
    seal(kind, 0, 1, point, &[])
}

pub(super) fn open_point(kind: Kind, value: &[u8]) -> Result<LogPoint, DiskError> {
    open(kind, value).map(|opened| opened.point)
}

pub(super) fn seal_ballot(ballot: Ballot) -> Vec<u8> {
    let point = LogPoint { index: ballot.candidate, term: ballot.term };
    seal(Kind::Vote, 0, 1, point, &[u8::from(ballot.granted)])
}

pub(super) fn open_ballot(value: &[u8]) -> Result<Ballot, DiskError> {
    let opened = open(Kind::Vote, value)?;
    let &[granted @ 0..=1] = opened.payload else {
        return Err(DiskError::Damaged("vote of unknown form".into()));
    };
    Ok(Ballot { term: opened.point.term, candidate: opened.point.index, granted: granted == 1 })
}

/// Whether a value could stand in the log as entry 7, as its vote or as one of its marks.
pub(in crate::raft) fn is_framed(value: &[u8]) -> bool {
    let entry = Assembler::default().push(&entry_key(7, 0), value).is_ok();
    let marks = [Kind::Committed, Kind::Purged, Kind::Start];
    entry | open_ballot(value).is_ok() | marks.into_iter().any(|kind| open_point(kind, value).is_ok())
}

/// Puts the chunks of entries together again as they come in key order.
#[derive(Default)]
pub(super) struct Assembler {
    partial: Option<(LogPoint, u16, Vec<u8>)>,
}

impl Assembler {
    /// Takes the next value; returns the entry it completes.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Record>, DiskError> {
        let (index, chunk) = entry_key_parts(key)?;
        let opened = open(Kind::Entry, value)?;
        let next = self.partial.as_ref().map_or(0, |(_, next, _)| *next);
        let same = self.partial.as_ref().is_none_or(|(point, ..)| *point == opened.point);
        if opened.point.index != index || opened.chunk != chunk || chunk != next || !same || chunk >= opened.chunks {
            return Err(DiskError::Damaged(format!("chunk {chunk} of entry {index} is not in its place")));
        }
        if opened.chunks == 1 {
            return Ok(Some(Record { point: opened.point, payload: Bytes::copy_from_slice(opened.payload) }));
        }
        let (point, mut payload) = match self.partial.take() {
            Some((point, _, payload)) => (point, payload),
            None => (opened.point, Vec::with_capacity(usize::from(opened.chunks) * VALUE_BYTES_MAX)),
        };
        payload.extend_from_slice(opened.payload);
        if chunk + 1 == opened.chunks {
            return Ok(Some(Record { point, payload: payload.into() }));
        }
        self.partial = Some((point, chunk + 1, payload));
        Ok(None)
    }

    /// Fails when the last entry is incomplete.
    pub(super) fn finish(&self) -> Result<(), DiskError> {
        match &self.partial {
            None => Ok(()),
            Some((point, chunk, _)) => {
                Err(DiskError::Damaged(format!("entry {} ends after chunk {chunk}", point.index)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: u64, bytes: usize) -> Record {
        let payload: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        Record { point: LogPoint { term: 3, index }, payload: payload.into() }
    }

    #[test]
    fn an_entry_of_any_size_comes_back_from_its_chunks() {
        for bytes in [0, 1, VALUE_BYTES_MAX, VALUE_BYTES_MAX + 1, 5 * VALUE_BYTES_MAX] {
            let written = record(7, bytes);
            let mut assembler = Assembler::default();
            let mut back = None;
            for (chunk, value) in entry_values(&written) {
                assert!(value.len() <= VALUE_BYTES_MAX + HEADER_BYTES);
                assert!(back.is_none());
                back = assembler.push(&entry_key(7, chunk), &value).unwrap();
            }
            assembler.finish().unwrap();
            assert_eq!(back, Some(written));
        }
    }

    #[test]
    fn any_flipped_bit_of_a_value_is_noticed() {
        let (_, value) = entry_values(&record(7, 40)).next().unwrap();
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Assembler::default().push(&entry_key(7, 0), &damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_value_under_the_key_of_another_entry_is_damage() {
        let (_, value) = entry_values(&record(7, 40)).next().unwrap();
        assert!(Assembler::default().push(&entry_key(8, 0), &value).is_err());
    }

    #[test]
    fn an_entry_that_lacks_its_last_chunk_is_damage() {
        let written = record(7, 3 * VALUE_BYTES_MAX);
        let mut assembler = Assembler::default();
        for (chunk, value) in entry_values(&written).take(2) {
            assembler.push(&entry_key(7, chunk), &value).unwrap();
        }
        assert!(assembler.finish().is_err());
    }

    #[test]
    fn a_frame_of_a_newer_version_is_not_called_damage() {
        let (_, mut value) = entry_values(&record(7, 4)).next().unwrap();
        value[0] = FRAME_VERSION + 1;
        assert!(matches!(open(Kind::Entry, &value), Err(DiskError::Newer { found: 2, supported: 1 })));
    }
}
