//! A segment as bytes: entries of the log as they are kept, compressed. The digest of the blob is its checksum.
//!
//! Layout: `FYLOGSG` and the version of the layout (1 byte), then a zstd stream of the entries; each is index, term (8 bytes
//! each, little endian), length (4 bytes) and payload.

use std::io::{self, Read};

use crate::raft::engine::{ENTRY_BYTES_MAX, LogPoint, Record};

const MAGIC: [u8; 7] = *b"FYLOGSG";
const VERSION: u8 = b'1';
/// What an entry's frame adds to its payload.
const FRAME_BYTES: usize = 20;
/// Bytes of all entries that are read from one: many times what is ever sealed, and less than a machine has, since a file of a stranger may
/// say anything.
const WHOLE_BYTES: usize = 1 << 30;
/// What a payload may be longer than the longest command.
const OVERHEAD_BYTES: usize = 1024;
const ZSTD_LEVEL: i32 = 3;

/// A segment that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    /// The medium failed, or the stream is cut.
    #[error("a segment of the log cannot be read")]
    Io(#[from] io::Error),
    /// It does not begin as a segment does.
    #[error("this is no segment of the log")]
    NotASegment,
    /// A newer release wrote it.
    #[error("a segment of layout {0} was written by a newer release")]
    Newer(u8),
    /// Its entries do not follow each other.
    #[error("a segment of the log has {found} in the place of {expected}")]
    Gap {
        /// The index that should have come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// An entry larger than any can be.
    #[error("a segment of the log has an entry of {0} bytes")]
    TooLarge(u32),
}

/// Writes entries down. Equal entries have equal bytes.
///
/// # Errors
/// When the compressor fails.
pub(crate) fn encode(records: &[Record]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(records.iter().map(|record| record.payload.len() + FRAME_BYTES).sum());
    for Record { point, payload } in records {
        plain.extend(point.index.to_le_bytes());
        plain.extend(point.term.to_le_bytes());
        plain.extend((payload.len() as u32).to_le_bytes());
        plain.extend(&payload[..]);
    }
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
    bytes.extend(zstd::encode_all(&plain[..], ZSTD_LEVEL)?);
    Ok(bytes)
}

/// Reads what [`encode`] wrote; entries follow each other without a hole.
///
/// # Errors
/// [`SegmentError`].
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Record>, SegmentError> {
    let Some((head, packed)) = bytes.split_at_checked(MAGIC.len() + 1) else { return Err(SegmentError::NotASegment) };
    match head.split_at(MAGIC.len()) {
        (magic, [VERSION]) if magic == MAGIC => {}
        (magic, [newer]) if magic == MAGIC => return Err(SegmentError::Newer(newer.wrapping_sub(b'0'))),
        _ => return Err(SegmentError::NotASegment),
    }
    let mut input = zstd::Decoder::new(packed)?;
    let (mut records, mut whole) = (Vec::<Record>::new(), 0);
    while let Some(index) = next_index(&mut input)? {
        if let Some(last) = records.last().map(|last| last.point.index)
            && last.checked_add(1) != Some(index)
        {
            return Err(SegmentError::Gap { expected: last.saturating_add(1), found: index });
        }
        let (mut term, mut length) = ([0; 8], [0; 4]);
        input.read_exact(&mut term)?;
        input.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length as usize > ENTRY_BYTES_MAX + OVERHEAD_BYTES {
            return Err(SegmentError::TooLarge(length));
        }
        whole += length as usize + FRAME_BYTES;
        if whole > WHOLE_BYTES {
            return Err(SegmentError::TooLarge(u32::try_from(whole).unwrap_or(u32::MAX)));
        }
        let mut payload = vec![0; length as usize];
        input.read_exact(&mut payload)?;
        let point = LogPoint { term: u64::from_le_bytes(term), index };
        records.push(Record { point, payload: payload.into() });
    }
    Ok(records)
}

/// The index of the next entry; `None` at the end.
fn next_index(input: &mut impl Read) -> io::Result<Option<u64>> {
    let mut bytes = [0; 8];
    let mut have = 0;
    while have < bytes.len() {
        match input.read(&mut bytes[have..])? {
            0 if have == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => have += more,
        }
    }
    Ok(Some(u64::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(range: std::ops::Range<u64>) -> Vec<Record> {
        let record = |index: u64| Record {
            point: LogPoint { term: index / 10, index },
            payload: vec![index as u8; (index % 50) as usize].into(),
        };
        range.map(record).collect()
    }

    #[test]
    fn entries_come_back_as_they_were_and_equal_ones_have_equal_bytes() {
        let bytes = encode(&records(7..300)).unwrap();
        assert_eq!(decode(&bytes).unwrap(), records(7..300));
        assert_eq!(bytes, encode(&records(7..300)).unwrap());
        assert_eq!(decode(&encode(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn what_is_no_whole_segment_is_refused() {
        let bytes = encode(&records(1..50)).unwrap();
        assert!(matches!(decode(b"FYLOG"), Err(SegmentError::NotASegment)));
        assert!(decode(&bytes[..bytes.len() - 5]).is_err());
        let mut newer = bytes.clone();
        newer[7] = b'2';
        assert!(matches!(decode(&newer), Err(SegmentError::Newer(2))));
        let holed: Vec<_> = records(1..5).into_iter().chain(records(9..12)).collect();
        assert!(matches!(decode(&encode(&holed).unwrap()), Err(SegmentError::Gap { expected: 5, found: 9 })));
    }
}
