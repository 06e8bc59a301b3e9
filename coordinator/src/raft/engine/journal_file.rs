//! One file of the journal: a head, then batches one after the other, each whole or not there.
//!
//! ```text
//! file:  head (512 bytes), batch, batch, ..., zeros
//! head:  magic, number of the file, sequence of its first batch, salt, crc32c
//! batch: magic, sequence, salt, length of the body, crc32c of all, body, zeros up to the next 512 bytes
//! body:  items: 'p' key value | 't' first index that is truncated
//! ```
//!
//! A batch begins at a multiple of a sector, so that a torn one takes nothing along that was acknowledged. The salt is drawn for each
//! file: no payload can look like a batch of it. Integers are little-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::engine_error::DiskError;

/// What is never torn.
pub(super) const SECTOR_BYTES: usize = 512;
const FILE_MAGIC: &[u8; 8] = b"FYJRNL1\n";
/// The byte of the magic that is the layout's number.
const VERSION_AT: usize = 6;
const BATCH_MAGIC: &[u8; 4] = b"FYB1";
/// magic, sequence, salt, length, crc32c.
const BATCH_HEAD_BYTES: usize = 4 + 8 + 8 + 4 + 4;
const BATCH_CRC_AT: usize = BATCH_HEAD_BYTES - 4;
const FILE_HEAD_BYTES: usize = 8 + 8 + 8 + 8 + 4;

/// Who a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u64,
    pub(super) first_sequence: u64,
    pub(super) salt: u64,
}

impl Head {
    /// The head as a whole sector.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SECTOR_BYTES);
        bytes.extend_from_slice(FILE_MAGIC);
        for word in [self.number, self.first_sequence, self.salt] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.resize(SECTOR_BYTES, 0);
        bytes
    }

    /// `None` where there is none, or a torn one.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, DiskError> {
        let Some(head) = bytes.get(..FILE_HEAD_BYTES) else { return Ok(None) };
        let (said, checksum) = head.split_at(FILE_HEAD_BYTES - 4);
        if crc32c::crc32c(said).to_le_bytes() != checksum {
            return Ok(None);
        }
        if said[VERSION_AT] > FILE_MAGIC[VERSION_AT] && said[..VERSION_AT] == FILE_MAGIC[..VERSION_AT] {
            return Err(DiskError::Newer { found: (said[VERSION_AT] - b'0').into(), supported: 1 });
        }
        if said[..8] != *FILE_MAGIC {
            return Err(DiskError::Damaged("a file of the journal that begins otherwise".to_owned()));
        }
        Ok(Some(Self { number: word(said, 8), first_sequence: word(said, 16), salt: word(said, 24) }))
    }
}

/// The words of a change, as they are put into a batch.
#[derive(Debug, Default)]
pub(super) struct Body {
    bytes: Vec<u8>,
}

impl Body {
    /// Truncates all from this index on.
    pub(super) fn truncate(&mut self, from: u64) {
        self.bytes.push(b't');
        self.bytes.extend_from_slice(&from.to_le_bytes());
    }

    /// Puts a value; where it will lie in the body.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> usize {
        self.bytes.push(b'p');
        self.bytes.push(key.len() as u8);
        self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(key);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        at
    }

    /// The batch, as whole sectors.
    pub(super) fn seal(&self, sequence: u64, salt: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BATCH_HEAD_BYTES + self.bytes.len() + SECTOR_BYTES);
        bytes.extend_from_slice(BATCH_MAGIC);
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&salt.to_le_bytes());
        bytes.extend_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), &self.bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&self.bytes);
        bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES), 0);
        bytes
    }
}

/// Where the body of a batch begins, counted from the batch.
pub(super) const BODY_AT: usize = BATCH_HEAD_BYTES;

/// One item of a batch that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// Everything from this index on is gone.
    Truncate(u64),
    /// A value, and where it lies in its file.
    Put { key: &'a [u8], value: &'a [u8], at: u64 },
}

/// A file read back, as far as it is whole.
pub(super) struct Read {
    pub(super) head: Head,
    bytes: Vec<u8>,
    /// Where each whole batch begins and how long its body is.
    batches: Vec<(usize, usize)>,
    /// Where the next batch goes.
    pub(super) end: u64,
}

impl Read {
    /// Reads a file; `None` if it was being made when the power went.
    pub(super) fn of(path: &Path, file: &File) -> Result<Option<Self>, DiskError> {
        let length = file.metadata().map_err(DiskError::io(path))?.len();
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0).map_err(DiskError::io(path))?;
        let Some(head) = Head::decode(&bytes)? else {
            let begun = (0..bytes.len()).step_by(SECTOR_BYTES).any(|at| bytes[at..].starts_with(BATCH_MAGIC));
            let lost = bytes.len() > SECTOR_BYTES && begun;
            return if lost { Err(damaged(path, "it has batches and no head")) } else { Ok(None) };
        };
        let mut read = Self { head, bytes, batches: Vec::new(), end: SECTOR_BYTES as u64 };
        read.find_batches(path)?;
        Ok(Some(read))
    }

    /// The last batch and where it lies; with the head before it where it is the only one.
    pub(super) fn last_written(&self) -> (u64, &[u8]) {
        let begin = match &self.batches[..] {
            [.., _, (last, _)] => *last,
            _ => 0,
        };
        (begin as u64, &self.bytes[begin..(self.end as usize).min(self.bytes.len())])
    }

    /// How many batches there are.
    pub(super) fn count(&self) -> u64 {
        self.batches.len() as u64
    }

    fn find_batches(&mut self, path: &Path) -> Result<(), DiskError> {
        let mut at = SECTOR_BYTES;
        while let Some(length) = self.batch(at, self.head.first_sequence + self.count()) {
            self.batches.push((at, length));
            at += (BATCH_HEAD_BYTES + length).next_multiple_of(SECTOR_BYTES);
        }
        self.end = at as u64;
        // Only the last batch can be torn: each was on the disk before the next was begun.
        let expected = self.head.first_sequence + self.count();
        let later = (at..self.bytes.len()).step_by(SECTOR_BYTES).find(|at| self.follows(*at, expected));
        match later {
            Some(later) => Err(damaged(path, &format!("there is a hole at byte {at}, and a batch at byte {later}"))),
            None => Ok(()),
        }
    }

    /// Whether a batch begins here that comes after the expected one.
    fn follows(&self, at: usize, expected: u64) -> bool {
        let Some(head) = self.bytes.get(at..at + BATCH_HEAD_BYTES) else { return false };
        head.starts_with(BATCH_MAGIC)
            && word(head, 12) == self.head.salt
            && word(head, 4) > expected
            && self.batch(at, word(head, 4)).is_some()
    }

    /// The length of the body of the whole batch that begins here.
    fn batch(&self, at: usize, sequence: u64) -> Option<usize> {
        let head = self.bytes.get(at..at + BATCH_HEAD_BYTES)?;
        let length = u32::from_le_bytes([head[20], head[21], head[22], head[23]]) as usize;
        let ours = head.starts_with(BATCH_MAGIC) && word(head, 4) == sequence && word(head, 12) == self.head.salt;
        if !ours {
            return None;
        }
        let body = self.bytes.get(at + BATCH_HEAD_BYTES..at + BATCH_HEAD_BYTES + length)?;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&head[..BATCH_CRC_AT]), body);
        (checksum.to_le_bytes() == head[BATCH_CRC_AT..]).then_some(length)
    }

    /// Visits everything that was written, in order.
    pub(super) fn visit(&self, path: &Path, visit: &mut dyn FnMut(Item<'_>)) -> Result<(), DiskError> {
        for (at, length) in &self.batches {
            let body = at + BATCH_HEAD_BYTES;
            let mut next = body;
            while next < body + length {
                let (item, after) =
                    self.item(next, body + length).ok_or_else(|| damaged(path, "an item of no kind"))?;
                visit(item);
                next = after;
            }
        }
        Ok(())
    }

    fn item(&self, at: usize, end: usize) -> Option<(Item<'_>, usize)> {
        let bytes = self.bytes.get(..end)?;
        match bytes.get(at)? {
            b't' => Some((Item::Truncate(word(bytes.get(at..at + 9)?, 1)), at + 9)),
            b'p' => {
                let key_bytes = usize::from(*bytes.get(at + 1)?);
                let length = u32::from_le_bytes(bytes.get(at + 2..at + 6)?.try_into().ok()?) as usize;
                let (key, value) = (at + 6, at + 6 + key_bytes);
                let put = Item::Put {
                    key: bytes.get(key..value)?,
                    value: bytes.get(value..value.checked_add(length)?)?,
                    at: value as u64,
                };
                Some((put, value + length))
            }
            _ => None,
        }
    }
}

fn damaged(path: &Path, what: &str) -> DiskError {
    DiskError::Damaged(format!("{}: {what}", path.display()))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Writes at a place; what is cut short is an error.
pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(bytes, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Body {
        let mut body = Body::default();
        body.put(b"k", text.as_bytes());
        body
    }

    /// A file with a head and these batches, and where each begins.
    fn file(texts: &[&str]) -> (tempfile::NamedTempFile, Vec<u64>) {
        let named = tempfile::NamedTempFile::new().unwrap();
        let (mut bytes, mut begins) = (Head { number: 3, first_sequence: 7, salt: 9 }.encode(), Vec::new());
        for (sequence, text) in (7..).zip(texts) {
            begins.push(bytes.len() as u64);
            bytes.extend(body(text).seal(sequence, 9));
        }
        bytes.extend([0; 4 * SECTOR_BYTES]);
        write_at(named.as_file(), &bytes, 0).unwrap();
        (named, begins)
    }

    fn texts(named: &tempfile::NamedTempFile) -> Result<Vec<String>, DiskError> {
        let read = Read::of(named.path(), named.as_file())?.expect("it has a head");
        let mut texts = Vec::new();
        read.visit(named.path(), &mut |item| {
            let Item::Put { key: b"k", value, at } = item else { panic!("{item:?}") };
            assert_eq!(&read.bytes[at as usize..][..value.len()], value);
            texts.push(String::from_utf8(value.to_vec()).unwrap());
        })?;
        Ok(texts)
    }

    #[test]
    fn batches_come_back_in_order_and_a_torn_last_one_is_not_there() {
        let long = "x".repeat(3 * SECTOR_BYTES);
        let (named, begins) = file(&["one", &long, "three", &long]);
        assert_eq!(texts(&named).unwrap(), ["one", &long, "three", &long]);
        write_at(named.as_file(), &[0; SECTOR_BYTES], begins[3] + SECTOR_BYTES as u64).unwrap();
        assert_eq!(texts(&named).unwrap(), ["one", &long, "three"]);
    }

    #[test]
    fn a_batch_that_is_lost_between_others_is_damage() {
        let (named, begins) = file(&["one", "two", "three"]);
        write_at(named.as_file(), &[0; SECTOR_BYTES], begins[1]).unwrap();
        assert!(matches!(texts(&named), Err(DiskError::Damaged(what)) if what.contains("hole")));
    }

    #[test]
    fn a_payload_that_looks_like_a_batch_is_none() {
        // As who knows all but the salt would write it, so that it begins at a sector once the batch around it is torn.
        let inner = String::from_utf8(vec![b'x'; 2 * SECTOR_BYTES]).unwrap();
        let (named, begins) = file(&["one", &inner]);
        write_at(named.as_file(), &body("forged").seal(9, 8), begins[1] + SECTOR_BYTES as u64).unwrap();
        assert_eq!(texts(&named).unwrap(), ["one"]);
    }

    #[test]
    fn a_file_without_its_head_was_being_made_or_is_damaged() {
        let (named, begins) = file(&["one"]);
        write_at(named.as_file(), &[0; SECTOR_BYTES], 0).unwrap();
        assert!(matches!(Read::of(named.path(), named.as_file()), Err(DiskError::Damaged(_))));
        write_at(named.as_file(), &[0; SECTOR_BYTES], begins[0]).unwrap();
        assert!(Read::of(named.path(), named.as_file()).unwrap().is_none());
    }
}
