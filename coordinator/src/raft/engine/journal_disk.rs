//! The log in files of our own: each batch is appended with one write and one barrier, to a place that was written with zeros before, so
//! that the barrier has no metadata to bring along.
//!
//! A file that has grown to [`FILE_BYTES`] is followed by the next, whose first batch repeats vote and marks; so an older one is needed
//! for its entries only, and is removed once they are purged. Which value lies where is kept in memory.
//!
//! Invariants:
//! - A batch is begun only after the barrier of the one before: at the end of the newest file at most one is torn.
//! - What a torn batch left is cut off before anything is written after it, and after it is known that nothing acknowledged is missing.
//! - The purge mark is durable before a file is removed for it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Batch, LogDisk, Sweep, Visit};
use super::engine_error::DiskError;
use super::frame::{self, Kind};
use super::journal_file::{BODY_AT, Body, Head, Item, Read, SECTOR_BYTES, write_at};

/// A file that is longer is followed by the next. So small, since what is purged is given back by whole files.
const FILE_BYTES: u64 = 1024 * 1024;
/// Zeros are written ahead so many bytes at a time.
const AHEAD_BYTES: u64 = 512 * 1024;
/// Bytes read at once when many values are.
const READ_BYTES: usize = 256 * 1024;
/// Places looked up at once.
const PLACES: usize = 1_024;

type Key = (u64, u16);

/// See the module.
#[derive(Debug)]
pub(super) struct JournalDisk {
    folder: PathBuf,
    journal: Mutex<Journal>,
    /// What opening found, until it is settled.
    left: Mutex<Left>,
    barriers: AtomicU64,
}

/// What the last use left that is not part of the journal, or perhaps not on the disk yet.
#[derive(Debug, Default)]
struct Left {
    /// The last batch and where it lies in the newest file.
    last: Option<(u64, Vec<u8>)>,
    /// Files to be removed, the oldest first.
    files: Vec<PathBuf>,
}

#[derive(Debug)]
struct Journal {
    /// From the oldest to the one that is written.
    files: BTreeMap<u64, Numbered>,
    /// Where the values of entries lie.
    index: BTreeMap<Key, Place>,
    /// The values that exist once, by the byte of their kind.
    metas: BTreeMap<u8, Vec<u8>>,
    next_sequence: u64,
}

#[derive(Debug, Clone)]
struct Numbered {
    file: Arc<File>,
    path: PathBuf,
    salt: u64,
    /// Where the next batch goes.
    end: u64,
    /// Up to here there are zeros, or batches.
    length: u64,
    /// The highest entry that was ever put into it.
    last_index: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    file: u64,
    at: u64,
    length: u32,
}

impl JournalDisk {
    /// Opens the journal, or makes it. Nothing of it is changed before it is settled.
    pub(super) fn open(folder: &Path) -> Result<Self, DiskError> {
        let mut journal =
            Journal { files: BTreeMap::new(), index: BTreeMap::new(), metas: BTreeMap::new(), next_sequence: 1 };
        let Numbers { removed, numbers } = numbers(folder)?;
        let files = removed.into_iter().map(|number| file_path(folder, number)).collect();
        let mut left = Left { last: None, files };
        for (place, number) in numbers.iter().enumerate() {
            let path = file_path(folder, *number);
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(DiskError::io(&path))?;
            let newest = place + 1 == numbers.len();
            let read = Read::of(&path, &file)?;
            match read.filter(|read| read.count() > 0 || !newest) {
                Some(read) => {
                    let (begin, bytes) = read.last_written();
                    left.last = Some((begin, bytes.to_vec()));
                    journal.replay(*number, path, file, &read)?;
                }
                // The power went while it was being made; nothing of it was promised, or else the witness says so.
                None if newest => left.files.push(path),
                None => return Err(DiskError::Damaged(format!("{} has no head", path.display()))),
            }
        }
        let (folder, journal, barriers) = (folder.to_owned(), Mutex::new(journal), AtomicU64::new(0));
        Ok(Self { folder, journal, left: Mutex::new(left), barriers })
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn barrier(&self, file: &File, path: &Path) -> Result<(), DiskError> {
        self.barriers.fetch_add(1, Ordering::Relaxed);
        file.sync_data().map_err(DiskError::io(path))
    }

    /// Appends a batch, in the newest file or in the next; durably.
    fn append(&self, batch: &Batch) -> Result<(), DiskError> {
        let (current, sequence, carried) = {
            let journal = self.journal();
            let newest = journal.files.last_key_value().map(|(number, file)| (*number, file.clone()));
            let current = newest.filter(|(_, file)| file.end < FILE_BYTES);
            let carried = if current.is_some() { BTreeMap::new() } else { journal.metas.clone() };
            (current, journal.next_sequence, carried)
        };
        let words = Words::of(batch, carried);
        let (number, mut file) = match current {
            Some(current) => current,
            None => self.create(sequence)?,
        };
        let mut bytes = words.body.seal(sequence, file.salt);
        let (begin, end) = (file.end, file.end + bytes.len() as u64);
        if end > file.length {
            file.length = end.next_multiple_of(AHEAD_BYTES);
            bytes.resize((file.length - begin) as usize, 0);
        }
        write_at(&file.file, &bytes, begin).map_err(DiskError::io(&file.path))?;
        self.barrier(&file.file, &file.path)?;
        if begin == SECTOR_BYTES as u64 {
            flowyard_cas::sync_folder(&self.folder).map_err(DiskError::io(&self.folder))?;
        }
        file.end = end;
        self.journal().take_in(number, file, words, begin + BODY_AT as u64);
        Ok(())
    }

    /// Makes the next file. Its head is durable before its first batch is begun: a batch without a head is damage, and not what a
    /// power cut leaves.
    fn create(&self, sequence: u64) -> Result<(u64, Numbered), DiskError> {
        let number = self.journal().files.last_key_value().map_or(1, |(number, _)| number + 1);
        let path = file_path(&self.folder, number);
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(DiskError::io(&path))?;
        let salt = uuid::Uuid::new_v4().as_u64_pair().0;
        let head = Head { number, first_sequence: sequence, salt }.encode();
        write_at(&file, &head, 0).map_err(DiskError::io(&path))?;
        self.barrier(&file, &path)?;
        let (end, length) = (head.len() as u64, head.len() as u64);
        Ok((number, Numbered { file: Arc::new(file), path, salt, end, length, last_index: None }))
    }

    /// Forgets purged entries, and removes the files that have only such. True when there is nothing left of them.
    fn sweep(&self, sweep: Sweep) -> Result<bool, DiskError> {
        let mut journal = self.journal();
        for _ in 0..sweep.values_max {
            match journal.index.first_key_value() {
                Some(((index, _), _)) if *index <= sweep.upto => drop(journal.index.pop_first()),
                _ => break,
            }
        }
        let left = journal.index.first_key_value().is_some_and(|((index, _), _)| *index <= sweep.upto);
        // From the oldest on, so that no hole is left between two.
        while !left
            && journal.files.len() > 1
            && let Some(oldest) = journal.files.first_entry()
            && oldest.get().last_index.is_none_or(|last| last <= sweep.upto)
        {
            let Numbered { path, .. } = oldest.remove();
            std::fs::remove_file(&path).map_err(DiskError::io(&path))?;
        }
        Ok(!left)
    }
}

/// What a batch says, and where each value will lie.
struct Words {
    body: Body,
    truncate_from: Option<u64>,
    entries: Vec<(Key, usize, u32)>,
    metas: BTreeMap<u8, Vec<u8>>,
}

impl Words {
    fn of(batch: &Batch, mut metas: BTreeMap<u8, Vec<u8>>) -> Self {
        let (mut body, mut entries) = (Body::default(), Vec::new());
        if let Some(from) = batch.truncate_from {
            body.truncate(from);
        }
        for record in &batch.puts {
            for (chunk, value) in frame::entry_values(record) {
                let at = body.put(&frame::entry_key(record.point.index, chunk), &value);
                entries.push(((record.point.index, chunk), at, value.len() as u32));
            }
        }
        metas.extend(batch.vote.map(|ballot| (Kind::Vote as u8, frame::seal_ballot(ballot))));
        for (kind, point) in
            [(Kind::Committed, batch.committed), (Kind::Purged, batch.purged), (Kind::Start, batch.start)]
        {
            metas.extend(point.map(|point| (kind as u8, frame::seal_point(kind, point))));
        }
        for (kind, value) in &metas {
            body.put(&[*kind], value);
        }
        Self { body, truncate_from: batch.truncate_from, entries, metas }
    }
}

impl Journal {
    /// Takes in a file that was read.
    fn replay(&mut self, number: u64, path: PathBuf, file: File, read: &Read) -> Result<(), DiskError> {
        if read.head.number != number {
            return Err(DiskError::Damaged(format!("{} is file {} of the journal", path.display(), read.head.number)));
        }
        if self.files.is_empty() {
            self.next_sequence = read.head.first_sequence;
        } else if read.head.first_sequence != self.next_sequence {
            let (found, expected) = (read.head.first_sequence, self.next_sequence);
            return Err(DiskError::Damaged(format!("{} begins with batch {found}, not {expected}", path.display())));
        }
        let mut last_index = None;
        let mut wrong = None;
        read.visit(&path, &mut |item| match item {
            Item::Truncate(from) => drop(self.index.split_off(&(from, 0))),
            Item::Put { key: [kind], value, .. } => drop(self.metas.insert(*kind, value.to_vec())),
            Item::Put { key, value, at } => match frame::entry_key_parts(key) {
                Ok(key) => {
                    last_index = last_index.max(Some(key.0));
                    self.index.insert(key, Place { file: number, at, length: value.len() as u32 });
                }
                Err(error) => wrong = Some(error),
            },
        })?;
        self.next_sequence += read.count();
        let length = file.metadata().map_err(DiskError::io(&path))?.len();
        let (file, salt) = (Arc::new(file), read.head.salt);
        self.files.insert(number, Numbered { file, path, salt, end: read.end, length, last_index });
        wrong.map_or(Ok(()), Err)
    }

    /// Takes in a batch that was written.
    fn take_in(&mut self, number: u64, mut file: Numbered, words: Words, body_at: u64) {
        if let Some(from) = words.truncate_from {
            drop(self.index.split_off(&(from, 0)));
        }
        for (key, at, length) in words.entries {
            file.last_index = file.last_index.max(Some(key.0));
            self.index.insert(key, Place { file: number, at: body_at + at as u64, length });
        }
        self.metas.extend(words.metas);
        self.files.insert(number, file);
        self.next_sequence += 1;
    }

    /// Where the next values of a range lie.
    fn places(&self, range: Range<Key>) -> Vec<(Key, Place, Arc<File>)> {
        let found = self.index.range(range).take(PLACES);
        found.filter_map(|(key, place)| Some((*key, *place, self.files.get(&place.file)?.file.clone()))).collect()
    }
}

impl LogDisk for JournalDisk {
    /// Removes files that are none, cuts off what a torn batch left, and brings everything that was read to the disk: a process that
    /// was killed may not have, and what a failed barrier covered would never get there by itself, so the last batch is written once
    /// more.
    fn settle(&self) -> Result<(), DiskError> {
        let Left { last, files } = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        for path in files {
            std::fs::remove_file(&path).map_err(DiskError::io(&path))?;
        }
        let mut journal = self.journal();
        if let (Some(mut newest), Some((begin, bytes))) = (journal.files.last_entry(), last) {
            let Numbered { file, path, end, length, .. } = newest.get_mut();
            file.set_len(*end).map_err(DiskError::io(&*path))?;
            write_at(file, &bytes, begin).map_err(DiskError::io(&*path))?;
            *length = *end;
            self.barrier(file, path)?;
        }
        for path in [&*self.folder, self.folder.parent().unwrap_or(&self.folder)] {
            flowyard_cas::sync_folder(path).map_err(DiskError::io(path))?;
        }
        Ok(())
    }

    fn write(&self, batch: &Batch, durable: bool) -> Result<bool, DiskError> {
        if durable {
            self.append(batch)?;
        }
        batch.sweep.map_or(Ok(true), |sweep| self.sweep(sweep))
    }

    fn scan(&self, range: Range<u64>, visit: Visit<'_>) -> Result<(), DiskError> {
        let (mut from, to) = ((range.start, 0), (range.end, 0));
        while from < to {
            let places = self.journal().places(from..to);
            // Anew each time: what was read on beyond these may have been written only afterwards.
            let mut ahead = Ahead::default();
            let Some((last, ..)) = places.last() else { break };
            from = (last.0, last.1 + 1);
            for ((index, chunk), place, file) in places {
                let value = ahead.value(&file, place).map_err(DiskError::io(&self.folder))?;
                if visit(&frame::entry_key(index, chunk), value)? == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn meta(&self, kind: Kind) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.journal().metas.get(&(kind as u8)).cloned())
    }

    fn file_bytes(&self) -> u64 {
        self.journal().files.values().map(|file| file.length).sum()
    }

    fn barriers(&self) -> u64 {
        self.barriers.load(Ordering::Relaxed)
    }
}

/// Reads on beyond what is asked for: the values of a scan lie one after the other.
#[derive(Default)]
struct Ahead {
    file: Option<Arc<File>>,
    at: u64,
    bytes: Vec<u8>,
}

impl Ahead {
    fn value(&mut self, file: &Arc<File>, place: Place) -> Result<&[u8], std::io::Error> {
        let (length, same) = (place.length as usize, self.file.as_ref().is_some_and(|known| Arc::ptr_eq(known, file)));
        let inside = same && place.at >= self.at && place.at + length as u64 <= self.at + self.bytes.len() as u64;
        if !inside {
            (self.file, self.at) = (Some(file.clone()), place.at);
            self.bytes.resize(length.max(READ_BYTES), 0);
            let mut read = 0;
            while read < self.bytes.len() {
                match file.read_at(&mut self.bytes[read..], place.at + read as u64)? {
                    0 => break,
                    more => read += more,
                }
            }
            self.bytes.truncate(read);
        }
        let begin = (place.at - self.at) as usize;
        self.bytes.get(begin..begin + length).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }
}

fn file_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}.journal"))
}

/// Which files there are.
struct Numbers {
    /// What lies before a hole: it was removed, and a power cut brought it back.
    removed: Vec<u64>,
    /// The newest without a hole between them, from the oldest on.
    numbers: Vec<u64>,
}

fn numbers(folder: &Path) -> Result<Numbers, DiskError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DiskError::io(folder))? {
        let name = entry.map_err(DiskError::io(folder))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".journal")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let hole = numbers.windows(2).rposition(|two| two[1] != two[0] + 1);
    let newest = numbers.split_off(hole.map_or(0, |at| at + 1));
    Ok(Numbers { removed: numbers, numbers: newest })
}

#[cfg(test)]
mod tests {
    use super::super::disk::{Loaded, load};
    use super::super::{Ballot, LogPoint, Record};
    use super::*;

    /// Enough for several files.
    const ENTRIES: u64 = 40;
    const PAYLOAD_BYTES: usize = 100_000;

    fn point(index: u64) -> LogPoint {
        LogPoint { term: 2, index }
    }

    fn record(index: u64) -> Record {
        Record { point: point(index), payload: vec![index as u8; PAYLOAD_BYTES].into() }
    }

    fn opened(folder: &Path) -> Result<JournalDisk, DiskError> {
        let disk = JournalDisk::open(folder)?;
        disk.settle()?;
        Ok(disk)
    }

    fn filled(folder: &Path) -> JournalDisk {
        let disk = opened(folder).unwrap();
        let vote = Some(Ballot { term: 2, candidate: 1, granted: true });
        disk.write(&Batch { vote, start: Some(point(0)), ..Batch::default() }, true).unwrap();
        for index in 0..ENTRIES {
            disk.write(&Batch { puts: vec![record(index)], ..Batch::default() }, true).unwrap();
        }
        disk
    }

    fn reopened(folder: &Path) -> Result<Loaded, DiskError> {
        load(&opened(folder)?, usize::MAX)
    }

    fn files(folder: &Path) -> Vec<u64> {
        let Numbers { removed, numbers } = numbers(folder).unwrap();
        [removed, numbers].concat()
    }

    #[test]
    fn entries_come_back_from_several_files_and_purged_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let disk = filled(folder.path());
        let before = files(folder.path()).len();
        assert!(before >= 4, "{before} files");
        let loaded = reopened(folder.path()).unwrap();
        assert_eq!(loaded.tail, (0..ENTRIES).map(record).collect::<Vec<_>>());
        let purge = Batch { purged: Some(point(ENTRIES - 5)), ..Batch::default() };
        disk.write(&purge, true).unwrap();
        let sweep = Some(Sweep { upto: ENTRIES - 5, values_max: 7 });
        let mut rounds = 0;
        while !disk.write(&Batch { sweep, ..Batch::default() }, false).unwrap() {
            rounds += 1;
        }
        assert!(rounds > 2, "a sweep does a little at a time");
        assert!(files(folder.path()).len() < before - 2);
        let loaded = reopened(folder.path()).unwrap();
        assert_eq!(loaded.tail, (ENTRIES - 4..ENTRIES).map(record).collect::<Vec<_>>());
        assert_eq!(
            (loaded.vote.unwrap().term, loaded.purged),
            (2, Some(point(ENTRIES - 5))),
            "kept by the newer files"
        );
    }

    #[test]
    fn what_is_truncated_stays_away_and_another_history_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let disk = filled(folder.path());
        let other = Record { point: LogPoint { term: 2, index: 9 }, payload: "other".into() };
        disk.write(&Batch { truncate_from: Some(9), puts: vec![other.clone()], ..Batch::default() }, true).unwrap();
        let loaded = reopened(folder.path()).unwrap();
        assert_eq!(loaded.tail, (0..9).map(record).chain([other]).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_is_missing_between_others_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(folder.path()));
        std::fs::remove_file(file_path(folder.path(), 2)).unwrap();
        assert!(matches!(reopened(folder.path()), Err(DiskError::Damaged(_))));
    }

    #[test]
    fn the_end_of_an_older_file_is_not_taken_for_torn() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(folder.path()));
        let path = file_path(folder.path(), 2);
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let end = Read::of(&path, &file).unwrap().unwrap().end;
        write_at(&file, &[0; SECTOR_BYTES], end - SECTOR_BYTES as u64).unwrap();
        assert!(matches!(reopened(folder.path()), Err(DiskError::Damaged(_))));
    }

    #[test]
    fn after_a_torn_batch_the_journal_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(folder.path()));
        let newest = *files(folder.path()).last().unwrap();
        let file = OpenOptions::new().write(true).open(file_path(folder.path(), newest)).unwrap();
        let end = Read::of(folder.path(), &File::open(file_path(folder.path(), newest)).unwrap()).unwrap().unwrap().end;
        // All but its last sector reached the disk.
        let torn = Words::of(&Batch { puts: vec![record(ENTRIES)], ..Batch::default() }, BTreeMap::new());
        let salt = JournalDisk::open(folder.path()).unwrap().journal().files[&newest].salt;
        let bytes = torn.body.seal(ENTRIES + 2, salt);
        write_at(&file, &bytes[..bytes.len() - SECTOR_BYTES], end).unwrap();
        let disk = opened(folder.path()).unwrap();
        assert_eq!(load(&disk, usize::MAX).unwrap().last(), Some(point(ENTRIES - 1)));
        disk.write(&Batch { puts: vec![record(ENTRIES)], ..Batch::default() }, true).unwrap();
        assert_eq!(reopened(folder.path()).unwrap().tail, (0..=ENTRIES).map(record).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_was_being_made_is_as_if_it_never_was() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(folder.path()));
        let newest = *files(folder.path()).last().unwrap();
        let head = Head { number: newest + 1, first_sequence: ENTRIES + 2, salt: 5 }.encode();
        std::fs::write(file_path(folder.path(), newest + 1), head).unwrap();
        let disk = opened(folder.path()).unwrap();
        assert_eq!(files(folder.path()).last(), Some(&newest));
        disk.write(&Batch { puts: vec![record(ENTRIES)], ..Batch::default() }, true).unwrap();
        assert_eq!(reopened(folder.path()).unwrap().last(), Some(point(ENTRIES)));
    }

    #[test]
    fn a_purged_file_that_a_power_cut_brings_back_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let disk = filled(folder.path());
        let first = std::fs::read(file_path(folder.path(), 1)).unwrap();
        disk.write(&Batch { purged: Some(point(ENTRIES - 5)), ..Batch::default() }, true).unwrap();
        let sweep = Some(Sweep { upto: ENTRIES - 5, values_max: usize::MAX });
        disk.write(&Batch { sweep, ..Batch::default() }, false).unwrap();
        let left = files(folder.path());
        assert!(left[0] > 2, "{left:?}");
        std::fs::write(file_path(folder.path(), 1), first).unwrap();
        assert_eq!(reopened(folder.path()).unwrap().last(), Some(point(ENTRIES - 1)));
        assert_eq!(files(folder.path()), left);
    }
}
