//! Snapshots on disk: written beside, verified, then made current by one atomic pointer.
//!
//! A file is `magic, head length, head, zstd stream of the machine, BLAKE3 of all before`. The pointer `current` names the one
//! that counts; everything else in the folder is left over from a crash and removed. Until the pointer is renamed into place
//! nothing of a new snapshot matters, so a half-written or half-received one cannot survive.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use flowyard_telemetry::Distribution;
use flowyard_telemetry::distribution::LONG;

use super::entry_record::{RecordError, decode_head, encode_head};
use super::types::SnapshotMeta;

/// The last byte but one is the version of the layout.
const MAGIC: &[u8; 8] = b"FYSNAP1\n";
const VERSION_AT: usize = 6;
const HASH_BYTES: u64 = blake3::OUT_LEN as u64;
const HEAD_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Speed over size: a snapshot is written while the replica works.
const ZSTD_LEVEL: i32 = 1;
const POINTER: &str = "current";
/// Bytes that wait for the disk at most while a snapshot is written: the log's barriers wait behind them.
const UNSYNCED_BYTES: usize = 1024 * 1024;

/// A snapshot that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// The bytes are not those that were written.
    #[error("snapshot {path} is damaged: {what}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Written by a newer version of this program.
    #[error("snapshot {path} has layout {found}, newer than 1, the newest this version reads", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The layout found.
        found: u8,
    },
    /// Its head cannot be understood.
    #[error("snapshot {path}", path = path.display())]
    Head {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RecordError,
    },
    /// The machine could not become what it says.
    #[error("the machine cannot be restored from snapshot {path}", path = path.display())]
    Restore {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError + use<> {
    let path = path.to_owned();
    move |source| SnapshotError::Io { path, source }
}

/// An open snapshot; it stays readable when the file is replaced meanwhile.
#[derive(Debug, Clone)]
pub(super) struct SnapshotFile {
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
}

/// The folder of snapshots.
#[derive(Debug)]
pub(super) struct SnapshotFolder {
    folder: PathBuf,
    /// Held while the pointer moves, so that it never moves back.
    current: Mutex<Option<(SnapshotMeta, SnapshotFile)>>,
    /// How long each took to write.
    written: Distribution,
}

impl SnapshotFolder {
    pub(super) fn open(folder: &Path) -> Result<Self, SnapshotError> {
        flowyard_cas::make_folder(folder).map_err(io_at(folder))?;
        // A process that was killed may have moved the pointer without syncing it, and the log is purged behind it.
        flowyard_cas::sync_folder(folder).map_err(io_at(folder))?;
        let pointer = folder.join(POINTER);
        let current = match std::fs::read_to_string(&pointer) {
            Ok(name) if name.contains('/') => {
                return Err(SnapshotError::Damaged { path: pointer, what: "it points out of its folder" });
            }
            Ok(name) => {
                let file = SnapshotFile::open(&folder.join(name.trim_end()))?;
                Some((file.verified_meta()?, file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_at(&pointer)(error)),
        };
        let opened = Self { folder: folder.to_owned(), current: Mutex::new(current), written: Distribution::new(LONG) };
        opened.remove_others(&["snapshot-", "current.new", "incoming-"])?;
        Ok(opened)
    }

    pub(super) fn current(&self) -> Option<(SnapshotMeta, SnapshotFile)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes a new snapshot and makes it current, unless a newer one is.
    pub(super) fn write(
        &self,
        meta: &SnapshotMeta,
        encode: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<SnapshotFile, SnapshotError> {
        let path = self.incoming_path(&file_name(meta));
        let start = flowyard_clock::monotonic();
        write_file(&path, meta, encode).map_err(io_at(&path))?;
        self.written.observe_since(start);
        self.adopt(meta, &path)
    }

    /// How long each that was made here took to write.
    pub(super) fn written(&self) -> &Distribution {
        &self.written
    }

    /// Where a file of that name is written until it is adopted.
    pub(super) fn incoming_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("incoming-{name}"))
    }

    /// Makes a complete, synced file of this folder the current one.
    pub(super) fn adopt(&self, meta: &SnapshotMeta, incoming: &Path) -> Result<SnapshotFile, SnapshotError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((held, file)) = current.as_ref().filter(|(held, _)| held.last_log_id > meta.last_log_id) {
            tracing::info!(held = %held, offered = %meta, "a newer snapshot is current already");
            std::fs::remove_file(incoming).map_err(io_at(incoming))?;
            return Ok(file.clone());
        }
        let path = self.folder.join(file_name(meta));
        std::fs::rename(incoming, &path).map_err(io_at(&path))?;
        self.sync()?;
        self.point_at(&path)?;
        let file = SnapshotFile::open(&path)?;
        *current = Some((meta.clone(), file.clone()));
        drop(current);
        // An `incoming-` file may be in the making by another task; those of a crash went when the folder was opened.
        self.remove_others(&["snapshot-"])?;
        Ok(file)
    }

    fn point_at(&self, path: &Path) -> Result<(), SnapshotError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (beside, pointer) = (self.folder.join("current.new"), self.folder.join(POINTER));
        let mut file = File::create(&beside).map_err(io_at(&beside))?;
        writeln!(file, "{name}").and_then(|()| file.sync_all()).map_err(io_at(&beside))?;
        std::fs::rename(&beside, &pointer).map_err(io_at(&pointer))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), SnapshotError> {
        flowyard_cas::sync_folder(&self.folder).map_err(io_at(&self.folder))
    }

    fn remove_others(&self, kinds: &[&str]) -> Result<(), SnapshotError> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = current.as_ref().and_then(|(_, file)| file.path.file_name());
        for entry in std::fs::read_dir(&self.folder).map_err(io_at(&self.folder))? {
            let name = entry.map_err(io_at(&self.folder))?.file_name();
            let ours = kinds.iter().any(|kind| name.to_string_lossy().starts_with(kind));
            if ours && Some(name.as_os_str()) != keep {
                let path = self.folder.join(name);
                std::fs::remove_file(&path).map_err(io_at(&path))?;
            }
        }
        Ok(())
    }
}

fn file_name(meta: &SnapshotMeta) -> String {
    match &meta.last_log_id {
        Some(last) => format!("snapshot-{}-{}", last.index(), last.committed_leader_id().term),
        None => "snapshot-empty".to_owned(),
    }
}

fn write_file(
    path: &Path,
    meta: &SnapshotMeta,
    encode: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let file = Paced { file: File::create(path)?, unsynced: 0 };
    let mut out = Hashing { to: BufWriter::with_capacity(256 * 1024, file), hasher: blake3::Hasher::new() };
    let head = encode_head(meta);
    out.write_all(MAGIC)?;
    out.write_all(&(head.len() as u32).to_le_bytes())?;
    out.write_all(&head)?;
    let mut packed = zstd::Encoder::new(out, ZSTD_LEVEL)?;
    encode(&mut packed)?;
    let Hashing { mut to, hasher } = packed.finish()?;
    to.write_all(hasher.finalize().as_bytes())?;
    to.into_inner().map_err(io::IntoInnerError::into_error)?.file.sync_all()
}

/// A file that is brought to the disk piece by piece.
struct Paced {
    file: File,
    unsynced: usize,
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= UNSYNCED_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Hashing<W> {
    to: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl SnapshotFile {
    pub(super) fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = File::open(path).map_err(io_at(path))?;
        let bytes = file.metadata().map_err(io_at(path))?.len();
        Ok(Self { path: path.to_owned(), file: Arc::new(file), bytes })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A part of the file as it is.
    pub(super) fn read_chunk(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut chunk = vec![0; length];
        self.file.read_exact_at(&mut chunk, offset)?;
        Ok(chunk)
    }

    fn section(&self, from: u64, to: u64) -> Section {
        Section { file: self.file.clone(), at: from, end: to }
    }

    /// Reads the whole file, compares its hash, then reads its head.
    pub(super) fn verified_meta(&self) -> Result<SnapshotMeta, SnapshotError> {
        let damaged = |what| SnapshotError::Damaged { path: self.path.clone(), what };
        let hashed = self.bytes.checked_sub(HASH_BYTES).ok_or(damaged("it is too short"))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(self.section(0, hashed)).map_err(io_at(&self.path))?;
        let mut stored = [0; blake3::OUT_LEN];
        self.section(hashed, self.bytes).read_exact(&mut stored).map_err(io_at(&self.path))?;
        if hasher.finalize() != stored {
            return Err(damaged("its hash does not match"));
        }
        let (head, _) = self.head()?;
        decode_head(&head).map_err(|source| SnapshotError::Head { path: self.path.clone(), source })
    }

    /// The head, and where the machine's bytes start.
    fn head(&self) -> Result<(Vec<u8>, u64), SnapshotError> {
        let damaged = |what| SnapshotError::Damaged { path: self.path.clone(), what };
        let mut start = [0; MAGIC.len() + 4];
        self.file.read_exact_at(&mut start, 0).map_err(io_at(&self.path))?;
        let (magic, length) = start.split_at(MAGIC.len());
        if magic[..VERSION_AT] != MAGIC[..VERSION_AT] {
            return Err(damaged("it is no snapshot"));
        }
        if magic != MAGIC {
            return Err(SnapshotError::Newer { path: self.path.clone(), found: magic[VERSION_AT].wrapping_sub(b'0') });
        }
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        if length > HEAD_BYTES_MAX {
            return Err(damaged("its head is too long"));
        }
        let mut head = vec![0; length as usize];
        self.file.read_exact_at(&mut head, start.len() as u64).map_err(io_at(&self.path))?;
        Ok((head, start.len() as u64 + u64::from(length)))
    }

    /// Hands the machine's bytes to `restore`. The file was verified before.
    pub(super) fn restore(
        &self,
        restore: impl FnOnce(&mut dyn Read) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<(), SnapshotError> {
        let (_, from) = self.head()?;
        let packed = BufReader::with_capacity(256 * 1024, self.section(from, self.bytes - HASH_BYTES));
        let mut unpacked = zstd::Decoder::with_buffer(packed).map_err(io_at(&self.path))?;
        restore(&mut unpacked).map_err(|source| SnapshotError::Restore { path: self.path.clone(), source })
    }
}

/// A part of a file, read without moving a position that others share.
struct Section {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = (self.end - self.at).min(buffer.len() as u64) as usize;
        let read = self.file.read_at(&mut buffer[..left], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::LogPoint;
    use super::super::types::{StoredMembership, log_id};
    use super::*;

    fn meta(index: u64) -> SnapshotMeta {
        let last = log_id(LogPoint { term: 2, index });
        SnapshotMeta { last_log_id: Some(last), last_membership: StoredMembership::default() }
    }

    fn write(folder: &SnapshotFolder, index: u64, content: &str) -> SnapshotFile {
        folder.write(&meta(index), |out| out.write_all(content.as_bytes())).unwrap()
    }

    fn content(file: &SnapshotFile) -> String {
        let mut text = String::new();
        file.restore(|input| input.read_to_string(&mut text).map(drop).map_err(Into::into)).unwrap();
        text
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_snapshot_is_current_after_reopening_and_alone() {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = SnapshotFolder::open(folder.path()).unwrap();
        assert!(snapshots.current().is_none());
        let first = write(&snapshots, 5, "five");
        write(&snapshots, 9, "nine");
        assert_eq!(content(&first), "five", "an open snapshot outlives its replacement");
        std::fs::write(folder.path().join("snapshot-4-1"), "left over").unwrap();
        let (held, file) = SnapshotFolder::open(folder.path()).unwrap().current().unwrap();
        assert_eq!((held, content(&file)), (meta(9), "nine".to_owned()));
        assert_eq!(names(folder.path()), ["current", "snapshot-9-2"]);
    }

    #[test]
    fn an_older_snapshot_does_not_replace_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = SnapshotFolder::open(folder.path()).unwrap();
        write(&snapshots, 9, "nine");
        assert_eq!(content(&write(&snapshots, 5, "five")), "nine");
        assert_eq!(snapshots.current().unwrap().0, meta(9));
    }

    #[test]
    fn a_crash_while_writing_leaves_the_old_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = SnapshotFolder::open(folder.path()).unwrap();
        write(&snapshots, 5, "five");
        let failed = snapshots.write(&meta(9), |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("crash"))
        });
        assert!(matches!(failed, Err(SnapshotError::Io { .. })));
        assert_eq!(SnapshotFolder::open(folder.path()).unwrap().current().unwrap().0, meta(5));
    }

    #[test]
    fn any_damaged_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(&SnapshotFolder::open(folder.path()).unwrap(), 5, "five").path;
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            assert!(SnapshotFolder::open(folder.path()).is_err(), "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(SnapshotFolder::open(folder.path()).is_err());
    }

    #[test]
    fn a_newer_layout_is_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(&SnapshotFolder::open(folder.path()).unwrap(), 5, "five").path;
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[VERSION_AT] = b'2';
        let hashed = bytes.len() - blake3::OUT_LEN;
        let hash = blake3::hash(&bytes[..hashed]);
        bytes[hashed..].copy_from_slice(hash.as_bytes());
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(SnapshotFolder::open(folder.path()), Err(SnapshotError::Newer { found: 2, .. })));
    }
}
