//! The files by which an attempt's folder tells what happened to it.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::runtime::spec::ExitRecord;

/// Name of the exit record.
pub const EXIT_RECORD: &str = "exit.json";

/// Why a folder's record is of no use.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is not a record", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was expected.
        source: serde_json::Error,
    },
}

/// How the attempt in `folder` ended; `None` if it has not.
pub fn read_exit(folder: &Path) -> Result<Option<ExitRecord>, RecordError> {
    read(folder.join(EXIT_RECORD))
}

/// Writes how the attempt in `folder` ended.
pub(crate) fn write_exit(folder: &Path, record: &ExitRecord) -> io::Result<()> {
    write(&folder.join(EXIT_RECORD), record)
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(path: PathBuf) -> Result<Option<T>, RecordError> {
    match std::fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(source) => Err(RecordError::Unreadable { path, source }),
        },
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RecordError::Read { path, source }),
    }
}

/// Writes by rename, so that nobody ever reads half a record. No fsync: records survive our death, not a power cut.
pub(crate) fn write(path: &Path, record: &impl Serialize) -> io::Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, serde_json::to_vec(record)?)?;
    std::fs::rename(part, path)
}
