//! Item lists: a checked JSON list as a blob in which each item is found without reading the others.
//!
//! Layout: the magic `FYITEMS1`; every item as compact JSON followed by a line feed; where each item begins, and where the last
//! one ends, as 64-bit little-endian offsets from the start of the blob; the number of items, likewise. The index comes last, so
//! that a list of any length is written in one pass.
//!
//! Invariants: an item is one JSON value without a line feed; the same list gives the same blob; at most
//! [`limits::TASKS_PER_STEP`] items of at most [`ITEM_BYTES`] each.

mod scan;

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use flowyard_model::limits;

/// Bytes of one item as compact JSON.
pub const ITEM_BYTES: usize = 1024 * 1024;

const MAGIC: &[u8; 8] = b"FYITEMS1";
const WORD: u64 = 8;

/// Why something is not an item list. The message is for the user who wrote the list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ItemsError {
    /// The JSON value is not a list.
    #[error("it holds {found}, not a JSON list such as [1, 2, 3]")]
    NotAList {
        /// What it is, in words.
        found: &'static str,
    },
    /// It is not JSON.
    #[error("line {line}, column {column}: {problem}")]
    Syntax {
        /// From 1.
        line: u64,
        /// Byte in the line, from 1.
        column: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// More items than a step has tasks.
    #[error("the list has more than {most} items", most = limits::TASKS_PER_STEP)]
    TooMany,
    /// One item is larger than allowed.
    #[error(
        "item {index} of the list is larger than {ITEM_BYTES} bytes; put large values into a file and its name into the list"
    )]
    ItemTooLarge {
        /// Counted from 0.
        index: u32,
    },
    /// The list has no such item.
    #[error("the list has {count} items, there is no item {index}")]
    NoItem {
        /// The one asked for, from 0.
        index: u32,
        /// How many there are.
        count: u32,
    },
    /// The blob is not an item list at all.
    #[error("the blob is not an item list")]
    NotItems,
    /// Reading or writing failed.
    #[error("the list cannot be read or written")]
    Io(#[from] io::Error),
}

/// Writes an item list in one pass. It holds eight bytes per item in memory.
#[derive(Debug)]
pub struct ItemsWriter<W> {
    out: W,
    offsets: Vec<u64>,
    end: u64,
}

impl<W: Write> ItemsWriter<W> {
    /// A list without items so far.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn new(mut out: W) -> Result<Self, ItemsError> {
        out.write_all(MAGIC)?;
        Ok(Self { out, offsets: Vec::new(), end: MAGIC.len() as u64 })
    }

    /// Adds an item, which is compact JSON.
    ///
    /// # Errors
    /// There are too many, it is too large, or the output cannot be written.
    pub fn push(&mut self, item: &[u8]) -> Result<(), ItemsError> {
        debug_assert!(!item.contains(&b'\n'), "compact JSON has no line feed");
        let index = u32::try_from(self.offsets.len()).unwrap_or(u32::MAX);
        if index >= limits::TASKS_PER_STEP {
            return Err(ItemsError::TooMany);
        }
        if item.len() > ITEM_BYTES {
            return Err(ItemsError::ItemTooLarge { index });
        }
        self.out.write_all(item)?;
        self.out.write_all(b"\n")?;
        self.offsets.push(self.end);
        self.end += item.len() as u64 + 1;
        Ok(())
    }

    /// Writes the index. Returns the output and the number of items.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(mut self) -> Result<(W, u32), ItemsError> {
        for offset in self.offsets.iter().chain([&self.end]) {
            self.out.write_all(&offset.to_le_bytes())?;
        }
        let count = u32::try_from(self.offsets.len()).map_err(|_| ItemsError::TooMany)?;
        self.out.write_all(&u64::from(count).to_le_bytes())?;
        self.out.flush()?;
        Ok((self.out, count))
    }
}

/// The blob of a list whose items are compact JSON already.
///
/// # Errors
/// There are too many, or one is too large.
pub fn encode_items<'i>(items: impl Iterator<Item = &'i str>) -> Result<Vec<u8>, ItemsError> {
    let mut writer = ItemsWriter::new(Vec::new())?;
    for item in items {
        writer.push(item.as_bytes())?;
    }
    writer.finish().map(|(blob, _)| blob)
}

/// Checks that `reader` gives a JSON list, and writes it to `out` as an item list, one item in memory at a time. Returns the
/// output and the number of items; an empty list has none.
///
/// # Errors
/// What is wrong with the list, in words for the user; or reading or writing failed.
pub fn items_from_json<R: Read, W: Write>(reader: R, out: W) -> Result<(W, u32), ItemsError> {
    let mut writer = ItemsWriter::new(out)?;
    scan::items(io::BufReader::with_capacity(64 * 1024, reader), |item| writer.push(item))?;
    writer.finish()
}

/// Reads single items of a list.
#[derive(Debug)]
pub struct ItemsReader<S> {
    source: S,
    count: u32,
    index_start: u64,
}

impl<'b> ItemsReader<Cursor<&'b [u8]>> {
    /// A list in memory.
    ///
    /// # Errors
    /// [`ItemsError::NotItems`].
    pub fn from_bytes(blob: &'b [u8]) -> Result<Self, ItemsError> {
        Self::open(Cursor::new(blob))
    }
}

impl<S: Read + Seek> ItemsReader<S> {
    /// A list in a file or in memory. Reads its ends only.
    ///
    /// # Errors
    /// [`ItemsError::NotItems`], or the source cannot be read.
    pub fn open(mut source: S) -> Result<Self, ItemsError> {
        let length = source.seek(SeekFrom::End(0))?;
        if length < MAGIC.len() as u64 + 2 * WORD {
            return Err(ItemsError::NotItems);
        }
        let mut magic = [0; 8];
        source.seek(SeekFrom::Start(0))?;
        source.read_exact(&mut magic)?;
        let count = read_word(&mut source, length - WORD)?;
        let count = u32::try_from(count).ok().filter(|count| *count <= limits::TASKS_PER_STEP);
        let count = count.filter(|_| &magic == MAGIC).ok_or(ItemsError::NotItems)?;
        let index_bytes = (u64::from(count) + 2) * WORD;
        let index_start = length.checked_sub(index_bytes).ok_or(ItemsError::NotItems)?;
        if read_word(&mut source, length - 2 * WORD)? != index_start {
            return Err(ItemsError::NotItems);
        }
        Ok(Self { source, count, index_start })
    }

    /// How many items there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Item number `index`, from 0, as compact JSON.
    ///
    /// # Errors
    /// [`ItemsError::NoItem`], or the source cannot be read.
    pub fn item(&mut self, index: u32) -> Result<String, ItemsError> {
        if index >= self.count {
            return Err(ItemsError::NoItem { index, count: self.count });
        }
        let place = self.index_start + u64::from(index) * WORD;
        let start = read_word(&mut self.source, place)?;
        let end = read_word(&mut self.source, place + WORD)?;
        let length = end.checked_sub(start).and_then(|length| length.checked_sub(1)).ok_or(ItemsError::NotItems)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= ITEM_BYTES);
        let mut item = vec![0; length.filter(|_| end <= self.index_start).ok_or(ItemsError::NotItems)?];
        self.source.seek(SeekFrom::Start(start))?;
        self.source.read_exact(&mut item)?;
        String::from_utf8(item).map_err(|_| ItemsError::NotItems)
    }
}

fn read_word<S: Read + Seek>(source: &mut S, place: u64) -> Result<u64, ItemsError> {
    let mut word = [0; 8];
    source.seek(SeekFrom::Start(place))?;
    source.read_exact(&mut word)?;
    Ok(u64::from_le_bytes(word))
}

#[cfg(test)]
mod tests;
