//! The files of one release, and what they lead to.
//!
//! `log`: entries, each with its length before it (4 bytes, little endian); the first has index 1. `snapshot`: as replicas write
//! it. `digest`: BLAKE3 over the records of the state, each with its length before it, as hexadecimal digits.
//! `descriptors.bin`: the wire contract.

use std::path::{Path, PathBuf};

use flowyard_model::{Command, Entry, Record, Revision, TimeMs};
use flowyard_proto::{DecodeError, EncodeError, SnapshotError};
use flowyard_state::{RecordError, State};

/// Why a release's files do not lead anywhere.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A file is missing or unreadable.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log ends within an entry.
    #[error("the log ends within entry {index}")]
    Cut {
        /// Which.
        index: u64,
    },
    /// An entry is not understood any more.
    #[error("entry {index} of the log")]
    Entry {
        /// Which.
        index: u64,
        /// Why.
        source: DecodeError,
    },
    /// An entry cannot be written.
    #[error("an entry of the script")]
    Unwritten(#[from] EncodeError),
    /// The snapshot is not understood any more.
    #[error("the snapshot")]
    Snapshot(#[from] SnapshotError),
    /// The snapshot's records do not make a state any more.
    #[error("the records of the snapshot")]
    Records(#[from] RecordError),
}

/// Folder of a release, or of all of them.
pub fn folder(version: Option<&str>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(version.unwrap_or_default())
}

/// The releases that have a folder, in order of their names.
///
/// # Errors
/// When the folder of all cannot be read.
pub fn all() -> Result<Vec<PathBuf>, ReleaseError> {
    let root = folder(None);
    let named = |source| ReleaseError::File { path: root.clone(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&root).map_err(named)? {
        let path = entry.map_err(named)?.path();
        if path.join("log").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Writes the files of a release.
///
/// # Errors
/// When an entry cannot be encoded, or a file not written.
pub fn write(folder: &Path, entries: &[(TimeMs, Command)]) -> Result<(), ReleaseError> {
    let mut log = Vec::new();
    for (time, command) in entries {
        delimited(&mut log, &flowyard_proto::encode_entry(*time, command)?);
    }
    let state = replay(entries.iter().cloned());
    let mut snapshot = Vec::new();
    flowyard_proto::write_records(state.version(), state.records(), &mut snapshot)?;
    let digest = format!("{}\n", digest(state.records()));
    std::fs::create_dir_all(folder).map_err(|source| ReleaseError::File { path: folder.to_owned(), source })?;
    let files: [(&str, &[u8]); 4] = [
        ("log", &log),
        ("snapshot", &snapshot),
        ("digest", digest.as_bytes()),
        ("descriptors.bin", flowyard_proto::DESCRIPTORS),
    ];
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|source| ReleaseError::File { path, source })?;
    }
    Ok(())
}

/// One file of a release.
///
/// # Errors
/// When it cannot be read.
pub fn file(folder: &Path, name: &str) -> Result<Vec<u8>, ReleaseError> {
    let path = folder.join(name);
    std::fs::read(&path).map_err(|source| ReleaseError::File { path, source })
}

/// The entries of a release's log.
///
/// # Errors
/// When the log cannot be read, is cut off, or has an entry that is not understood.
pub fn log(folder: &Path) -> Result<Vec<(TimeMs, Command)>, ReleaseError> {
    let bytes = file(folder, "log")?;
    let (mut rest, mut entries) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let index = entries.len() as u64 + 1;
        let cut = ReleaseError::Cut { index };
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return Err(cut) };
        let Some((entry, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
            return Err(cut);
        };
        rest = after;
        let decoded = flowyard_proto::decode_entry(entry);
        entries.push(decoded.map_err(|source| ReleaseError::Entry { index, source })?);
    }
    Ok(entries)
}

/// The state of a release's snapshot.
///
/// # Errors
/// When the snapshot cannot be read or makes no state.
pub fn snapshot(folder: &Path) -> Result<State, ReleaseError> {
    let bytes = file(folder, "snapshot")?;
    let records: Vec<Record> = flowyard_proto::read_records(bytes.as_slice())?.collect::<Result<_, _>>()?;
    Ok(State::from_records(records)?)
}

/// The state that entries lead to, from nothing.
pub fn replay(entries: impl IntoIterator<Item = (TimeMs, Command)>) -> State {
    let mut state = State::new();
    for (index, (time, command)) in (1..).map(Revision).zip(entries) {
        flowyard_state::apply(&mut state, Entry { index, time, command });
    }
    state
}

/// The digest of a state, as hexadecimal digits.
pub fn digest(records: impl Iterator<Item = Record>) -> String {
    let mut bytes = Vec::new();
    let mut hasher = blake3::Hasher::new();
    for record in records {
        bytes.clear();
        delimited(&mut bytes, &flowyard_proto::encode_record(&record));
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}

fn delimited(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("entries and records have limits far below");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}
