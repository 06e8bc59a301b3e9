//! The bytes of a manifest, version 1. All numbers are little-endian.
//!
//! ```text
//! header   7 bytes "fyardmf", 1 byte version
//! count    4 bytes, number of entries
//! entry    1 byte kind (1 file, 2 directory, 3 symbolic link)
//!          1 byte mode (0 = 644, 1 = 755; a directory has 1, a link has 0)
//!          2 bytes length of the path, the path
//!   file   32 bytes BLAKE3, 8 bytes length, 1 byte chunk list (0 = none; others are reserved)
//!   link   2 bytes length of the target, the target
//! ```
//!
//! There is one encoding of each manifest: decoding refuses whatever encoding would not have written. Nothing is allocated on
//! the word of a length field alone.

use flowyard_model::Digest;

use super::{Entry, EntryKind, MAX_ENTRIES, ManifestError};

/// The format version that is written and read.
pub(super) const VERSION: u8 = 1;
const MAGIC: &[u8; 7] = b"fyardmf";
const KIND_FILE: u8 = 1;
const KIND_DIRECTORY: u8 = 2;
const KIND_SYMLINK: u8 = 3;
/// The bytes of the shortest entry, a directory with a name of one byte.
const MIN_ENTRY_BYTES: usize = 5;

pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + entries.iter().map(|entry| entry.path.len() + 46).sum::<usize>());
    bytes.extend_from_slice(MAGIC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for entry in entries {
        let (kind, mode) = match &entry.kind {
            EntryKind::File { executable, .. } => (KIND_FILE, u8::from(*executable)),
            EntryKind::Directory => (KIND_DIRECTORY, 1),
            EntryKind::Symlink { .. } => (KIND_SYMLINK, 0),
        };
        bytes.extend_from_slice(&[kind, mode]);
        put_short(&mut bytes, &entry.path);
        match &entry.kind {
            EntryKind::File { digest, .. } => {
                bytes.extend_from_slice(&digest.hash);
                bytes.extend_from_slice(&digest.length.to_le_bytes());
                bytes.push(0);
            }
            EntryKind::Directory => {}
            EntryKind::Symlink { target } => put_short(&mut bytes, target),
        }
    }
    bytes
}

fn put_short(bytes: &mut Vec<u8>, text: &[u8]) {
    // Paths and targets are checked to be shorter than 4 KiB before they get into a manifest.
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text);
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Entry>, ManifestError> {
    if bytes.len() < 8 || &bytes[..7] != MAGIC {
        return Err(ManifestError::NotAManifest);
    }
    if bytes[7] != VERSION {
        return Err(ManifestError::Version(bytes[7]));
    }
    let mut cursor = Cursor { bytes, at: 8 };
    let count = u32::from_le_bytes(cursor.array()?) as usize;
    if count > MAX_ENTRIES {
        return Err(ManifestError::TooManyEntries(count));
    }
    let mut entries = Vec::with_capacity(count.min(bytes.len() / MIN_ENTRY_BYTES));
    for index in 0..count {
        entries.push(cursor.entry(index)?);
    }
    match bytes.len() - cursor.at {
        0 => Ok(entries),
        rest => Err(ManifestError::Trailing(rest)),
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ManifestError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or(ManifestError::Truncated(self.bytes.len()))?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ManifestError> {
        Ok(self.take(N)?.try_into().expect("take gives as many bytes as were asked for"))
    }

    fn short(&mut self) -> Result<Vec<u8>, ManifestError> {
        let length = u16::from_le_bytes(self.array()?);
        Ok(self.take(length as usize)?.to_vec())
    }

    fn entry(&mut self, index: usize) -> Result<Entry, ManifestError> {
        let [kind, mode] = self.array()?;
        let path = self.short()?;
        let kind = match (kind, mode) {
            (KIND_FILE, 0 | 1) => self.file(index, mode == 1)?,
            (KIND_DIRECTORY, 1) => EntryKind::Directory,
            (KIND_SYMLINK, 0) => EntryKind::Symlink { target: self.short()? },
            (KIND_FILE | KIND_DIRECTORY | KIND_SYMLINK, _) => {
                return Err(ManifestError::Field { entry: index, field: "mode", value: mode });
            }
            _ => return Err(ManifestError::Field { entry: index, field: "kind", value: kind }),
        };
        Ok(Entry { path, kind })
    }

    fn file(&mut self, index: usize, executable: bool) -> Result<EntryKind, ManifestError> {
        let hash = self.array()?;
        let length = u64::from_le_bytes(self.array()?);
        match self.array()? {
            [0] => Ok(EntryKind::File { digest: Digest { hash, length }, executable }),
            [_] => Err(ManifestError::Chunked(index)),
        }
    }
}
