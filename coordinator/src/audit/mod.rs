//! Who did what, from where, and what came of it: every call that changes something or is about secrets, and every one that was refused.
//!
//! Each coordinator writes down what it answers itself, in files of one JSON object per line that are bounded together; the leader
//! reads those of all. An entry is in the file before the answer is sent, and on the disk a second later.
//!
//! Reading order: [`Entry`], [`Audit`] (writing), `calls` (which calls), `tail` (reading a file as it grows), `reading` (for people).

mod calls;
mod reading;
mod tail;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use calls::entry_of;
pub(crate) use reading::{of_all, of_this};

/// Bytes after which a file is followed by the next.
const FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Files that are kept.
const FILES: u64 = 8;
/// How long an entry may be only in the system's memory.
const SYNC: Duration = Duration::from_secs(1);
/// Bytes of one text in an entry.
const TEXT_BYTES: usize = 1_024;
/// Refusals of strangers that are written down per second; the others are counted.
const STRANGERS_PER_SECOND: u32 = 10;

/// One thing that somebody did, or tried to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// When it was answered, wall clock.
    pub at_ms: u64,
    /// Who asked.
    pub caller: String,
    /// As what.
    pub role: String,
    /// From where.
    pub address: String,
    /// What for: the name of the call.
    pub action: String,
    /// About what; empty if the call says it all, or was refused before it was read.
    pub object: String,
    /// `ok`, or why not.
    pub result: String,
}

/// The files of one coordinator; cheap to clone.
#[derive(Clone)]
pub(crate) struct Audit {
    folder: Arc<PathBuf>,
    writing: Arc<Mutex<Writing>>,
    grown: Arc<watch::Sender<u64>>,
}

struct Writing {
    number: u64,
    file: File,
    bytes: u64,
    dirty: bool,
    /// Strangers that were refused in this second: since when, how many were written down, how many were not.
    strangers: (u64, u32, u64),
}

/// The file of this number.
fn file_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.jsonl"))
}

/// The numbers of the files that there are, ascending.
fn numbers(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_suffix(".jsonl")?.parse::<u64>().ok();
    let mut numbers: Vec<u64> = entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    numbers.sort_unstable();
    numbers
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = File::options().append(true).create(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    if bytes > 0 {
        // What a crash cut off must not be joined with what comes.
        file.write_all(b"\n")?;
    }
    Ok((file, bytes + u64::from(bytes > 0)))
}

fn shortened(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= TEXT_BYTES) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

impl Audit {
    /// The files in `audit` of the coordinator's folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let folder = folder.join("audit");
        std::fs::create_dir_all(&folder)?;
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let number = numbers(&folder).last().copied().unwrap_or(1);
        let (file, bytes) = open(&file_of(&folder, number))?;
        let writing = Writing { number, file, bytes, dirty: false, strangers: (0, 0, 0) };
        Ok(Self { folder: Arc::new(folder), writing: Arc::new(Mutex::new(writing)), grown: Arc::default() })
    }

    /// Writes an entry down.
    pub(crate) fn write(&self, entry: Entry) {
        let mut writing = self.lock();
        if let Err(error) = self.append(&mut writing, entry) {
            tracing::error!(%error, folder = %self.folder.display(), "what was done could not be written down");
        }
        drop(writing);
        self.grown.send_modify(|count| *count += 1);
    }

    /// Writes down that a stranger was refused, unless many are: whoever knocks often must not push out what others did.
    pub(crate) fn write_stranger(&self, entry: Entry) {
        let second = entry.at_ms / 1_000;
        let mut writing = self.lock();
        let (since, written, more) = writing.strangers;
        if since != second {
            writing.strangers = (second, 1, 0);
        } else if written < STRANGERS_PER_SECOND {
            writing.strangers.1 += 1;
        } else {
            writing.strangers.2 += 1;
            return;
        }
        drop(writing);
        if more > 0 {
            let object = format!("{more} more refusals in one second");
            self.write(Entry { object, address: String::new(), ..entry.clone() });
        }
        self.write(entry);
    }

    fn append(&self, writing: &mut Writing, entry: Entry) -> io::Result<()> {
        let (object, result) = (shortened(&entry.object), shortened(&entry.result));
        let (caller, address) = (shortened(&entry.caller), shortened(&entry.address));
        let mut line = serde_json::to_vec(&Entry { object, result, caller, address, ..entry })?;
        line.push(b'\n');
        if writing.bytes + line.len() as u64 > FILE_BYTES {
            writing.file.sync_data()?;
            writing.number += 1;
            (writing.file, writing.bytes) = open(&file_of(&self.folder, writing.number))?;
            for old in numbers(&self.folder).into_iter().filter(|old| old + FILES <= writing.number) {
                std::fs::remove_file(file_of(&self.folder, old))?;
            }
        }
        writing.file.write_all(&line)?;
        writing.bytes += line.len() as u64;
        writing.dirty = true;
        Ok(())
    }

    /// Brings what was written to the disk again and again, until dropped.
    pub(crate) async fn keep(self) {
        loop {
            tokio::time::sleep(SYNC).await;
            let synced = {
                let mut writing = self.lock();
                std::mem::take(&mut writing.dirty).then(|| writing.file.try_clone())
            };
            let Some(file) = synced else { continue };
            let synced = tokio::task::spawn_blocking(move || file.and_then(|file| file.sync_data())).await;
            if let Ok(Err(error)) = synced {
                tracing::error!(%error, "what was done could not be brought to the disk");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::tail::Tail;
    use super::*;

    fn entry(at_ms: u64, object: &str) -> Entry {
        Entry {
            at_ms,
            caller: "ann".to_owned(),
            role: "operator".to_owned(),
            address: "10.0.0.1:1".to_owned(),
            action: "Cancel".to_owned(),
            object: object.to_owned(),
            result: "ok".to_owned(),
        }
    }

    fn objects(entries: Vec<Entry>) -> Vec<String> {
        entries.into_iter().map(|entry| entry.object).collect()
    }

    #[test]
    fn what_was_written_is_read_after_a_crash_cut_off_the_last_line() {
        let folder = tempfile::tempdir().unwrap();
        Audit::open(folder.path()).unwrap().write(entry(1, "job 1"));
        let path = file_of(&folder.path().join("audit"), 1);
        let mut cut = std::fs::read(&path).unwrap();
        cut.extend_from_slice(br#"{"at_ms":2,"caller":"an"#);
        std::fs::write(&path, cut).unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.write(entry(3, "job 3"));
        let mut tail = Tail::of(&audit);
        assert_eq!(objects(tail.read(0).unwrap()), ["job 1", "job 3"]);
        audit.write(entry(4, "job 4"));
        assert_eq!(objects(tail.read(0).unwrap()), ["job 4"], "a reader goes on where it was");
        assert_eq!(objects(Tail::of(&audit).read(4).unwrap()), ["job 4"], "from a time on");
        let mode = std::fs::metadata(&path).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    }

    #[test]
    fn files_are_bounded_together_and_readers_follow_from_one_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        let mut tail = Tail::of(&audit);
        let long = "x".repeat(2_000);
        let (mut read, each) = (0, FILE_BYTES / 1_200);
        for number in 0..each * 2 {
            audit.write(entry(number, &long));
            if number % 1_000 == 0 {
                read += tail.read(0).unwrap().len() as u64;
            }
        }
        read += tail.read(0).unwrap().len() as u64;
        assert_eq!(read, each * 2);
        for number in 2..FILES + 4 {
            let mut writing = audit.lock();
            writing.bytes = FILE_BYTES;
            audit.append(&mut writing, entry(number, "next")).unwrap();
        }
        assert!(numbers(&audit.folder).len() as u64 <= FILES);
    }

    #[test]
    fn many_refusals_of_strangers_do_not_push_out_what_others_did() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        for _ in 0..1_000 {
            audit.write_stranger(entry(5_000, "guess"));
        }
        audit.write_stranger(entry(6_000, "later"));
        let read = objects(Tail::of(&audit).read(0).unwrap());
        assert_eq!(read.len(), STRANGERS_PER_SECOND as usize + 2, "{read:?}");
        assert_eq!(read[STRANGERS_PER_SECOND as usize], "990 more refusals in one second");
    }
}
