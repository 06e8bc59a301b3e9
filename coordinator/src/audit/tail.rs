//! The files as they grow: what is new since the last look, from one file to the next.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use super::{Audit, Entry, file_of, numbers};

/// Entries of one look.
const LOOK: usize = 10_000;

/// A reader of the files.
pub(super) struct Tail {
    folder: Arc<PathBuf>,
    number: u64,
    offset: u64,
}

impl Tail {
    /// From the oldest entry on.
    pub(super) fn of(audit: &Audit) -> Self {
        Self { folder: audit.folder.clone(), number: 0, offset: 0 }
    }

    /// What is new, of this time or later; at most so much that it fits into memory, and nothing only when there is nothing.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub(super) fn read(&mut self, since_ms: u64) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let from = self.number;
        for number in numbers(&self.folder).into_iter().filter(|number| *number >= from) {
            if number > self.number {
                (self.number, self.offset) = (number, 0);
            }
            match File::open(file_of(&self.folder, number)) {
                Ok(file) => self.read_file(file, since_ms, &mut entries)?,
                // It was removed just now, for being the oldest.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            if entries.len() >= LOOK {
                break;
            }
        }
        Ok(entries)
    }

    fn read_file(&mut self, mut file: File, since_ms: u64, entries: &mut Vec<Entry>) -> io::Result<()> {
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while entries.len() < LOOK {
            line.clear();
            let bytes = reader.read_until(b'\n', &mut line)?;
            // A line without an end is still being written, or was cut off for good; it is looked at again.
            if line.last() != Some(&b'\n') {
                break;
            }
            self.offset += bytes as u64;
            entries.extend(serde_json::from_slice::<Entry>(&line).ok().filter(|entry| entry.at_ms >= since_ms));
        }
        Ok(())
    }
}
