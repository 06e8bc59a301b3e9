//! The past of a cluster, read from a backup with its log or from a folder of backups.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flowyard_coordinator::backup::{BackupError, PastRead, Summary, read_past};
use flowyard_history::{Contradiction, History, Past};

use super::backup::unusable;
use crate::failure::Failure;
use crate::output;

/// How a backup begins, whatever its format.
const BEGINNING: &[u8] = b"FYBACK";

/// What was read.
pub(super) struct PastOf {
    pub history: History,
    /// The newest backup.
    pub summary: Summary,
}

/// Whether this is a backup, or a folder of them, rather than something else.
pub(super) fn is_recorded(path: &Path) -> Result<bool, Failure> {
    if path.is_dir() {
        return Ok(true);
    }
    let mut beginning = Vec::new();
    let file = File::open(path).map_err(Failure::local(path.display()))?;
    file.take(BEGINNING.len() as u64).read_to_end(&mut beginning).map_err(Failure::local(path.display()))?;
    Ok(beginning == BEGINNING)
}

/// Reads a backup, or all that are in a folder.
pub(super) fn read(path: &Path) -> Result<PastOf, Failure> {
    let files = if path.is_dir() { backups(path)? } else { vec![path.to_owned()] };
    let (mut past, mut newest) = (Past::new(), None::<Summary>);
    for file in &files {
        let read = one(file)?;
        if let Some(known) = newest.as_ref().filter(|known| known.head.cluster != read.summary.head.cluster) {
            let (one, other) = (&known.head.cluster, &read.summary.head.cluster);
            return Err(Failure::Usage(format!("{}: of cluster {other}, and others are of {one}", file.display())));
        }
        if read.missing > 0 {
            output::warning(format!(
                "{}: {} sealed segments of the log are not in it; make it with --log",
                file.display(),
                read.missing
            ));
        }
        let contradiction = |error: Contradiction| Failure::Usage(format!("{}: {error}", file.display()));
        for (first, last, entries) in read.stretches {
            past.add_stretch(first, last, entries).map_err(contradiction)?;
        }
        past.add_snapshot(read.state).map_err(contradiction)?;
        if newest.as_ref().is_none_or(|known| known.head.revision < read.summary.head.revision) {
            newest = Some(read.summary);
        }
    }
    let summary = newest.ok_or_else(|| Failure::Usage(format!("{}: there is no backup in it", path.display())))?;
    let history = past.history().map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    Ok(PastOf { history, summary })
}

fn one(file: &Path) -> Result<PastRead, Failure> {
    let opened = File::open(file).map_err(Failure::local(file.display()))?;
    read_past(opened).map_err(|error: BackupError| unusable(&file.display().to_string(), &error))
}

/// The backups of a folder, by name; other files are passed over.
fn backups(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = || Failure::local(folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        if path.is_file() && is_recorded(&path)? {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
