//! Who stored which blob lately: what somebody stored, they may name in a job or a report.
//!
//! Kept in memory, and in a file of the coordinator's folder, so that one that is restarted while outputs are being stored still
//! knows whose they are. Not synced: it must survive the process. After a power cut some tasks may run again.
//!
//! The file is a line of JSON for each call; once it is old or long it becomes the file before, and another is begun. Whatever the file
//! before the last said is too old then, or too much.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowyard_model::Digest;
use serde::{Deserialize, Serialize};

/// How long an upload that no job names yet may be used by who made it.
const KEPT_MS: i64 = 3 * 3_600 * 1_000;
/// Uploads remembered.
const UPLOADS: usize = 1_000_000;
/// Length at which a file is followed by the next.
const FILE_BYTES: u64 = 64 << 20;

/// See the module; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    known: Arc<Mutex<Known>>,
    /// Nothing where it cannot be written.
    book: Arc<tokio::sync::Mutex<Option<Book>>>,
}

#[derive(Debug, Default)]
struct Known {
    /// When in boot time; negative where it was before this boot.
    at_ms: HashMap<(Digest, String), i64>,
}

/// What was stored by one call.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// Wall time.
    at_ms: u64,
    by: String,
    blobs: Vec<Digest>,
}

impl Uploads {
    /// What is still known of earlier lives in this folder.
    pub(crate) fn open(folder: &Path) -> Self {
        let (now_ms, wall_ms) = (boot_ms(), flowyard_clock::wall_ms());
        let mut known = Known::default();
        let path = folder.join("uploads");
        for path in [before(&path), path.clone()] {
            for line in lines(&path) {
                let age_ms = i64::try_from(wall_ms.saturating_sub(line.at_ms)).unwrap_or(i64::MAX);
                if age_ms < KEPT_MS {
                    known.note(&line.blobs, &line.by, now_ms - age_ms);
                }
            }
        }
        let book = told(&path, Book::open(path.clone(), now_ms));
        Self { known: Arc::new(Mutex::new(known)), book: Arc::new(tokio::sync::Mutex::new(book)) }
    }

    /// Remembers who stored these blobs. They may be asked for at once, however slowly the disk takes it.
    pub(crate) async fn add(&self, blobs: &[Digest], by: &str) {
        if blobs.is_empty() {
            return;
        }
        locked(&self.known).note(blobs, by, boot_ms());
        let line = Line { at_ms: flowyard_clock::wall_ms(), by: by.to_owned(), blobs: blobs.to_vec() };
        let book = self.book.clone();
        // One at a time, so that a disk that is stuck holds one thread and no more; to its end, also where the caller goes away.
        let written = tokio::spawn(async move {
            let mut book = book.lock_owned().await;
            tokio::task::spawn_blocking(move || write(&mut book, &line)).await
        });
        if let Err(error) = written.await.and_then(|written| written) {
            tracing::warn!(%error, "who stored a blob was not written down");
        }
    }

    /// Whether they stored it, and not too long ago.
    pub(crate) fn has(&self, blob: Digest, by: &str) -> bool {
        let at_ms = locked(&self.known).at_ms.get(&(blob, by.to_owned())).copied();
        at_ms.is_some_and(|at_ms| boot_ms() - at_ms < KEPT_MS)
    }
}

impl Known {
    fn note(&mut self, blobs: &[Digest], by: &str, at_ms: i64) {
        let (now_ms, mut age_ms) = (boot_ms(), KEPT_MS);
        // The oldest go first: what is being stored now is named soon.
        while self.at_ms.len() + blobs.len() > UPLOADS && age_ms > 0 {
            self.at_ms.retain(|_, at_ms| now_ms - *at_ms < age_ms);
            age_ms /= 2;
        }
        self.at_ms.extend(blobs.iter().map(|blob| ((*blob, by.to_owned()), at_ms)));
    }
}

/// A file that cannot be written is given up.
fn write(open: &mut Option<Book>, line: &Line) {
    if let Some(book) = open {
        let written = book.append(line);
        if told(&book.path, written).is_none() {
            *open = None;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file that is written.
#[derive(Debug)]
struct Book {
    path: PathBuf,
    file: File,
    bytes: u64,
    begun_ms: i64,
}

impl Book {
    fn open(path: PathBuf, now_ms: i64) -> io::Result<Self> {
        let mut file = File::options().create(true).read(true).append(true).open(&path)?;
        let mut bytes = file.metadata()?.len();
        if bytes > 0 {
            // The last line of a process that was killed may lack its end.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                bytes += 1;
            }
        }
        Ok(Self { path, file, bytes, begun_ms: now_ms })
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let now_ms = boot_ms();
        if self.bytes > FILE_BYTES || (self.bytes > 0 && now_ms - self.begun_ms > KEPT_MS) {
            std::fs::rename(&self.path, before(&self.path))?;
            *self = Self::open(self.path.clone(), now_ms)?;
        }
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.bytes += bytes.len() as u64;
        self.file.write_all(&bytes)
    }
}

fn before(path: &Path) -> PathBuf {
    path.with_extension("before")
}

/// The lines of a file; what is none is passed over.
fn lines(path: &Path) -> impl Iterator<Item = Line> + use<> {
    let file = File::open(path).ok().map(BufReader::new);
    let lines = file.into_iter().flat_map(|file| file.split(b'\n').map_while(Result::ok));
    lines.filter_map(|line| serde_json::from_slice(&line).ok())
}

/// What was done, if it was; otherwise people are told.
fn told<T>(path: &Path, done: io::Result<T>) -> Option<T> {
    let failed = |error: &io::Error| {
        tracing::warn!(path = %path.display(), %error, "who stores a blob is remembered in memory only");
    };
    done.inspect_err(failed).ok()
}

fn boot_ms() -> i64 {
    i64::try_from(flowyard_clock::boot_ms()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str) -> Digest {
        flowyard_cas::digest_bytes(text.as_bytes())
    }

    #[tokio::test]
    async fn who_stored_a_blob_is_known_after_a_restart_whatever_became_of_the_last_line() {
        let folder = tempfile::tempdir().unwrap();
        Uploads::open(folder.path()).add(&[blob("a"), blob("b")], "agent n1").await;
        let mut file = File::options().append(true).open(folder.path().join("uploads")).unwrap();
        file.write_all(b"{\"at_ms\":1").unwrap();
        Uploads::open(folder.path()).add(&[blob("c")], "agent n2").await;
        let again = Uploads::open(folder.path());
        assert!(again.has(blob("a"), "agent n1") && again.has(blob("b"), "agent n1"));
        assert!(again.has(blob("c"), "agent n2") && !again.has(blob("c"), "agent n1"));
    }

    #[test]
    fn what_was_stored_too_long_ago_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let at_ms = |age: i64| flowyard_clock::wall_ms() - age.unsigned_abs();
        let line = |age, blob| Line { at_ms: at_ms(age), by: "agent n1".to_owned(), blobs: vec![blob] };
        let mut book = Book::open(folder.path().join("uploads"), boot_ms()).unwrap();
        book.append(&line(KEPT_MS + 1_000, blob("old"))).unwrap();
        book.append(&line(KEPT_MS - 60_000, blob("new"))).unwrap();
        let uploads = Uploads::open(folder.path());
        assert!(uploads.has(blob("new"), "agent n1") && !uploads.has(blob("old"), "agent n1"));
    }

    /// The disk is slow: a line is being written for as long as the test likes.
    #[tokio::test]
    async fn a_disk_that_takes_nothing_makes_nobody_wait_for_what_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path());
        let (book, other) = (uploads.book.clone(), uploads.clone());
        let stuck = book.lock().await;
        let adding = tokio::spawn(async move { other.add(&[blob("a")], "me").await });
        while !uploads.has(blob("a"), "me") {
            tokio::task::yield_now().await;
        }
        assert!(!adding.is_finished(), "the call is answered once it is written");
        drop(stuck);
        adding.await.unwrap();
        assert!(Uploads::open(folder.path()).has(blob("a"), "me"));
    }

    #[tokio::test]
    async fn a_file_that_is_old_or_long_is_followed_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path());
        for (text, make_long) in [("a", true), ("b", false), ("c", false)] {
            uploads.add(&[blob(text)], "me").await;
            let mut book = uploads.book.lock().await;
            let book = book.as_mut().unwrap();
            match make_long {
                true => book.bytes = FILE_BYTES + 1,
                false => book.begun_ms -= KEPT_MS + 1,
            }
        }
        let again = Uploads::open(folder.path());
        let known = ["a", "b", "c"].map(|text| again.has(blob(text), "me"));
        assert_eq!(known, [false, true, true], "two files are kept");
    }
}
