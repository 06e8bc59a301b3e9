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

use flowyard_model::Digest;
use serde::{Deserialize, Serialize};

/// How long an upload that no job names yet may be used by who made it.
const KEPT_MS: i64 = 3 * 3_600 * 1_000;
/// Uploads remembered.
const UPLOADS: usize = 1_000_000;
/// Length at which a file is followed by the next.
const FILE_BYTES: u64 = 64 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Uploads {
    /// When in boot time; negative where it was before this boot.
    at_ms: HashMap<(Digest, String), i64>,
    /// Nothing where it cannot be written.
    book: Option<Book>,
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
        let mut this = Self { at_ms: HashMap::new(), book: None };
        let path = folder.join("uploads");
        for path in [before(&path), path.clone()] {
            for line in lines(&path) {
                let age_ms = i64::try_from(wall_ms.saturating_sub(line.at_ms)).unwrap_or(i64::MAX);
                if age_ms < KEPT_MS {
                    this.note(&line.blobs, &line.by, now_ms - age_ms);
                }
            }
        }
        this.book = told(&path, Book::open(path.clone(), now_ms));
        this
    }

    /// Remembers who stored these blobs.
    pub(crate) fn add(&mut self, blobs: &[Digest], by: &str) {
        if blobs.is_empty() {
            return;
        }
        self.note(blobs, by, boot_ms());
        if let Some(book) = &mut self.book {
            let line = Line { at_ms: flowyard_clock::wall_ms(), by: by.to_owned(), blobs: blobs.to_vec() };
            let written = book.append(&line);
            if told(&book.path, written).is_none() {
                self.book = None;
            }
        }
    }

    /// Whether they stored it, and not too long ago.
    pub(crate) fn has(&self, blob: Digest, by: &str) -> bool {
        let at_ms = self.at_ms.get(&(blob, by.to_owned())).copied();
        at_ms.is_some_and(|at_ms| boot_ms() - at_ms < KEPT_MS)
    }

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

    #[test]
    fn who_stored_a_blob_is_known_after_a_restart_whatever_became_of_the_last_line() {
        let folder = tempfile::tempdir().unwrap();
        Uploads::open(folder.path()).add(&[blob("a"), blob("b")], "agent n1");
        let mut file = File::options().append(true).open(folder.path().join("uploads")).unwrap();
        file.write_all(b"{\"at_ms\":1").unwrap();
        Uploads::open(folder.path()).add(&[blob("c")], "agent n2");
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

    #[test]
    fn a_file_that_is_old_or_long_is_followed_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut uploads = Uploads::open(folder.path());
        for (text, make_long) in [("a", true), ("b", false), ("c", false)] {
            uploads.add(&[blob(text)], "me");
            let book = uploads.book.as_mut().unwrap();
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
