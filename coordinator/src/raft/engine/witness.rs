//! A few bytes beside the log that remember how far it was acknowledged.
//!
//! An engine that finds the end of its own file unreadable may cut it off and open as if nothing had happened. The witness
//! notices: it is written after each barrier and before the acknowledgement, so a log that opens with less than its
//! witness has lost acknowledged entries or a vote. Beside redb it is not synced (it may lag behind after a power cut, which
//! costs only a check), except where it is lowered, which must reach the disk before the log shrinks. Beside sled, which opens
//! with less after some power cuts and says nothing, it is as durable as the log.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::EngineState;
use super::disk::Loaded;
use super::engine_error::DiskError;

const MAGIC: &[u8; 8] = b"FYWITN1\n";
/// magic, next index, vote term, crc32c.
const BYTES: usize = 8 + 8 + 8 + 4;

#[derive(Debug)]
pub(super) struct Witness {
    path: PathBuf,
    file: File,
    noted: Noted,
    synced: bool,
}

/// What was acknowledged: `next_index` is one more than the last entry, so 0 means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Noted {
    next_index: u64,
    vote_term: u64,
}

impl Witness {
    /// Opens it, or makes it; with `synced`, every note is on disk before it counts.
    pub(super) fn open(folder: &Path, synced: bool) -> Result<Self, DiskError> {
        let path = folder.join("witness");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(DiskError::io(&path))?;
        let mut bytes = [0; BYTES];
        // A short or foreign file says nothing: the first note after a crash may be missing, never wrong.
        let noted = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| Noted::decode(&bytes)).unwrap_or_default();
        if synced {
            flowyard_cas::sync_folder(folder).map_err(DiskError::io(folder))?;
        }
        Ok(Self { path, file, noted, synced })
    }

    /// Fails when the log remembers less than was acknowledged.
    pub(super) fn confirm(&self, loaded: &Loaded) -> Result<(), DiskError> {
        let next_index = loaded.last().map_or(0, |last| last.index + 1);
        let vote_term = loaded.vote.map_or(0, |vote| vote.term);
        if next_index < self.noted.next_index {
            return Err(DiskError::Damaged(format!(
                "{} entries were acknowledged, but the log ends after {next_index}",
                self.noted.next_index
            )));
        }
        if vote_term < self.noted.vote_term {
            return Err(DiskError::Damaged(format!(
                "a vote in term {} was acknowledged, but the log remembers term {vote_term}",
                self.noted.vote_term
            )));
        }
        Ok(())
    }

    /// Notes what is durable now.
    pub(super) fn note(&mut self, durable: &EngineState) -> Result<(), DiskError> {
        let noted = Noted::of(durable);
        if noted == self.noted {
            return Ok(());
        }
        self.put(noted)?;
        if self.synced { self.sync() } else { Ok(()) }
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(DiskError::io(&self.path))
    }

    /// Lowers the note to `end` entries ahead of a truncation, durably.
    pub(super) fn lower(&mut self, end: u64) -> Result<(), DiskError> {
        if end < self.noted.next_index {
            self.put(Noted { next_index: end, ..self.noted })?;
            self.sync()?;
        }
        Ok(())
    }

    fn put(&mut self, noted: Noted) -> Result<(), DiskError> {
        if noted != self.noted {
            self.file.write_all_at(&noted.encode(), 0).map_err(DiskError::io(&self.path))?;
            self.noted = noted;
        }
        Ok(())
    }
}

/// What these bytes note, written down again; for tests that hand over anything.
pub(in crate::raft) fn noted(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(Noted::decode(bytes.try_into().ok()?)?.encode().to_vec())
}

impl Noted {
    fn of(state: &EngineState) -> Self {
        Self {
            next_index: state.last.map_or(0, |last| last.index + 1),
            vote_term: state.vote.map_or(0, |vote| vote.term),
        }
    }

    fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.next_index.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.vote_term.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..24]);
        bytes[24..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let word = |at: usize| bytes[at..at + 8].try_into().ok().map(u64::from_le_bytes);
        let noted = Self { next_index: word(8)?, vote_term: word(16)? };
        (noted.encode() == *bytes).then_some(noted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ballot, LogPoint};
    use super::*;

    fn state(index: u64, term: u64) -> EngineState {
        EngineState {
            vote: Some(Ballot { term, candidate: 1, granted: true }),
            last: Some(LogPoint { term, index }),
            ..EngineState::default()
        }
    }

    fn loaded(index: u64, term: u64) -> Loaded {
        let state = state(index, term);
        Loaded {
            vote: state.vote,
            entries: state.last.map(|last| (last, 0)).into_iter().collect(),
            ..Loaded::default()
        }
    }

    #[test]
    fn a_log_or_vote_behind_its_witness_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Witness::open(folder.path(), true).unwrap().note(&state(9, 4)).unwrap();
        let witness = Witness::open(folder.path(), true).unwrap();
        witness.confirm(&loaded(9, 4)).unwrap();
        witness.confirm(&loaded(12, 5)).unwrap();
        assert!(witness.confirm(&loaded(8, 4)).is_err());
        assert!(witness.confirm(&loaded(9, 3)).is_err());
        assert!(witness.confirm(&Loaded::default()).is_err());
    }

    #[test]
    fn after_a_truncation_the_shorter_log_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let mut witness = Witness::open(folder.path(), true).unwrap();
        witness.note(&state(9, 4)).unwrap();
        witness.lower(5).unwrap();
        Witness::open(folder.path(), true).unwrap().confirm(&loaded(4, 4)).unwrap();
    }

    #[test]
    fn a_torn_witness_accuses_nobody() {
        let folder = tempfile::tempdir().unwrap();
        Witness::open(folder.path(), true).unwrap().note(&state(9, 4)).unwrap();
        let path = folder.path().join("witness");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[9] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        Witness::open(folder.path(), true).unwrap().confirm(&Loaded::default()).unwrap();
    }
}
