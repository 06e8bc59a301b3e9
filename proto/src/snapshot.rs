//! A snapshot as bytes: a header, then records one by one, then an end mark, so that neither side holds all of it in memory.
//!
//! Layout: `FLOWSNAP`, format and cluster version (4 bytes each, little endian); then per record its length and a checksum
//! (4 bytes each), and its message; a length of 0 ends it. Each checksum also covers everything before it, so a record that is
//! damaged, missing, added or out of place is noticed before it is used, and so is an end that was cut off.

use std::borrow::Borrow;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};

use flowyard_model::{ClusterVersion, Record};
use prost::Message;

use crate::decode::{DecodeError, Decoded, Problem};
use crate::peer;

/// The format of snapshots that this build writes and reads.
pub const SNAPSHOT_FORMAT: u32 = 1;
/// Most bytes of one record: far more than the limits of the model let one grow to.
pub const RECORD_BYTES: usize = 256 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"FLOWSNAP";

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The medium failed.
    #[error("cannot read or write a snapshot")]
    Io(#[from] std::io::Error),
    /// It does not begin as a snapshot does.
    #[error("this is not a snapshot")]
    NotASnapshot,
    /// A newer release wrote it: nothing is wrong with it, and nothing of it may be used.
    #[error(
        "written by a newer release of Flowyard (format {format}, cluster version {version}); this one reads format {SNAPSHOT_FORMAT} and cluster versions up to {newest}",
        newest = ClusterVersion::NEWEST
    )]
    Newer {
        /// Its format.
        format: u32,
        /// Its cluster version.
        version: ClusterVersion,
    },
    /// Its bytes are not what was written.
    #[error("record {record} of the snapshot is damaged")]
    Damaged {
        /// Which, counted from 0.
        record: u64,
    },
    /// It ends before its end mark.
    #[error("the snapshot was cut off after {records} records")]
    Cut {
        /// Whole records before the cut.
        records: u64,
    },
    /// The bytes are what was written, but they are no record.
    #[error("record {record} of the snapshot cannot be read")]
    Record {
        /// Which, counted from 0.
        record: u64,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A record larger than [`RECORD_BYTES`].
    #[error("a record of {bytes} bytes is larger than any can be")]
    RecordTooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// One record alone. Equal records have equal bytes.
pub fn encode_record(record: &Record) -> Vec<u8> {
    peer::Record::from(record).encode_to_vec()
}

/// Reads what [`encode_record`] wrote.
///
/// # Errors
/// [`Problem::UnknownRecord`] when a newer release wrote it; anything else is damage.
pub fn decode_record(bytes: &[u8]) -> Decoded<Record> {
    peer::Record::decode(bytes).map_err(Problem::Malformed)?.try_into()
}

/// Writes a snapshot; `version` is that of the state it was taken from. Tells the number of records.
///
/// # Errors
/// When the medium fails, or a record is larger than [`RECORD_BYTES`].
pub fn write_records<R: Borrow<Record>>(
    version: ClusterVersion,
    records: impl IntoIterator<Item = R>,
    out: impl Write,
) -> Result<u64, SnapshotError> {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    let header = header(SNAPSHOT_FORMAT, version);
    out.write_all(&header)?;
    let mut checksum = crc32c::crc32c(&header);
    let (mut message, mut count) = (Vec::new(), 0);
    for record in records {
        message.clear();
        let record = peer::Record::from(record.borrow());
        let bytes = record.encoded_len();
        if bytes > RECORD_BYTES {
            return Err(SnapshotError::RecordTooLarge { bytes });
        }
        record.encode_raw(&mut message);
        checksum = frame(&mut out, checksum, &message)?;
        count += 1;
    }
    frame(&mut out, checksum, &[])?;
    out.flush()?;
    Ok(count)
}

fn header(format: u32, version: ClusterVersion) -> [u8; 16] {
    let mut header = [0; 16];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&format.to_le_bytes());
    header[12..].copy_from_slice(&version.0.to_le_bytes());
    header
}

/// Writes one message and tells the checksum up to and with it. The end mark is a message of no bytes.
fn frame(out: &mut impl Write, checksum: u32, message: &[u8]) -> std::io::Result<u32> {
    let length = (message.len() as u32).to_le_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c_append(checksum, &length), message);
    out.write_all(&length)?;
    out.write_all(&checksum.to_le_bytes())?;
    out.write_all(message)?;
    Ok(checksum)
}

/// Begins to read a snapshot. It is read ahead, so what follows it in `input` cannot be read afterwards.
///
/// # Errors
/// When the medium fails, this is no snapshot, or a newer release wrote it.
pub fn read_records<R: Read>(input: R) -> Result<Records<R>, SnapshotError> {
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let mut start = [0; 16];
    input.read_exact(&mut start).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => SnapshotError::NotASnapshot,
        _ => SnapshotError::Io(error),
    })?;
    let [.., f0, f1, f2, f3, v0, v1, v2, v3] = start;
    let format = u32::from_le_bytes([f0, f1, f2, f3]);
    let version = ClusterVersion(u32::from_le_bytes([v0, v1, v2, v3]));
    if start[..8] != MAGIC || format == 0 {
        return Err(SnapshotError::NotASnapshot);
    }
    if format > SNAPSHOT_FORMAT || version > ClusterVersion::NEWEST {
        return Err(SnapshotError::Newer { format, version });
    }
    Ok(Records { input, version, checksum: crc32c::crc32c(&start), count: 0, done: false })
}

/// The records of a snapshot in the order they were written. After an error, or the end, there are no more.
pub struct Records<R> {
    input: BufReader<R>,
    version: ClusterVersion,
    checksum: u32,
    count: u64,
    done: bool,
}

impl<R: Read> Records<R> {
    /// The cluster version of the state it was taken from.
    pub fn version(&self) -> ClusterVersion {
        self.version
    }

    fn read(&mut self) -> Result<Option<Record>, SnapshotError> {
        let length = self.word()?;
        let expected = u32::from_le_bytes(self.word()?);
        let bytes = u32::from_le_bytes(length) as usize;
        if bytes > RECORD_BYTES {
            return Err(SnapshotError::Damaged { record: self.count });
        }
        // Grows with what is there, so a damaged length takes no memory.
        let mut message = Vec::new();
        (&mut self.input).take(bytes as u64).read_to_end(&mut message)?;
        if message.len() < bytes {
            return Err(SnapshotError::Cut { records: self.count });
        }
        self.checksum = crc32c::crc32c_append(crc32c::crc32c_append(self.checksum, &length), &message);
        if self.checksum != expected {
            return Err(SnapshotError::Damaged { record: self.count });
        }
        if bytes == 0 {
            return Ok(None);
        }
        let record = decode_record(&message).map_err(|error| self.unreadable(error))?;
        self.count += 1;
        Ok(Some(record))
    }

    fn word(&mut self) -> Result<[u8; 4], SnapshotError> {
        let mut word = [0; 4];
        match self.input.read_exact(&mut word) {
            Ok(()) => Ok(word),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(SnapshotError::Cut { records: self.count }),
            Err(error) => Err(error.into()),
        }
    }

    fn unreadable(&self, source: DecodeError) -> SnapshotError {
        if source.problem.is_newer() {
            SnapshotError::Newer { format: SNAPSHOT_FORMAT, version: self.version }
        } else {
            SnapshotError::Record { record: self.count, source }
        }
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<Record, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.read().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}
