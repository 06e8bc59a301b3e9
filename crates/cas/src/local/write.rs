//! Putting bytes into the store: written aside, hashed on the way, and given their name only when complete.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use flowyard_model::Digest;

use super::index::Key;
use super::pin::{Pin, PinnedBlob};
use super::read::ALWAYS_HASHED_BYTES;
use super::stamp::{BACKDATE_MS, is_settled, stamp_of};
use super::{LocalStore, stored_bytes};
use crate::StoreError;
use crate::copying::clone;
use crate::folder::{make_folder, sync_folder};
use crate::hashing::{BlobHasher, READ_BYTES, digest_bytes, digest_open_file};

/// A blob being written. Dropping it before [`BlobWriter::finish`] leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    store: LocalStore,
    temp: TempFile,
    hasher: BlobHasher,
    expected: Option<Digest>,
    /// How long the blob will be, as far as that is known.
    needed_bytes: u64,
    source: String,
}

/// A file in the temporary folder that goes away with this value unless it was renamed.
#[derive(Debug)]
struct TempFile {
    file: File,
    path: PathBuf,
    renamed: bool,
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.renamed {
            // What is left is swept when the store is opened next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl BlobWriter {
    /// Adds the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        let needed_bytes = self.needed_bytes.max(self.hasher.length());
        if self.expected.is_some_and(|expected| self.hasher.length() > expected.length) {
            return Err(self.mismatch());
        }
        self.temp.file.write_all(bytes).map_err(|source| StoreError::io("write", &self.temp.path, needed_bytes, source))
    }

    /// Gives the blob its name. Refused when a digest was announced and these are not its bytes.
    pub fn finish(self) -> Result<PinnedBlob, StoreError> {
        let digest = self.hasher.digest();
        if self.expected.is_some_and(|expected| expected != digest) {
            return Err(self.mismatch());
        }
        if digest.length > ALWAYS_HASHED_BYTES {
            let time = UNIX_EPOCH + Duration::from_millis(flowyard_clock::wall_ms().saturating_sub(BACKDATE_MS));
            let set = self.temp.file.set_modified(time);
            set.map_err(|source| StoreError::io("set the time of", &self.temp.path, 0, source))?;
        }
        self.store.publish(self.temp, digest)
    }

    fn mismatch(&self) -> StoreError {
        let expected = self.expected.expect("only an announced digest can be missed");
        StoreError::Mismatch { expected, found: self.hasher.digest(), place: self.source.clone() }
    }
}

impl LocalStore {
    /// Starts a blob whose bytes come piece by piece from `source` (said in errors). With `expected`, other bytes are refused.
    pub fn writer(&self, expected: Option<Digest>, source: impl Into<String>) -> Result<BlobWriter, StoreError> {
        let needed_bytes = expected.map_or(0, |digest| digest.length);
        let temp = self.temp_file(needed_bytes)?;
        Ok(BlobWriter {
            store: self.clone(),
            temp,
            hasher: BlobHasher::new(),
            expected,
            needed_bytes,
            source: source.into(),
        })
    }

    /// Keeps `bytes`. Storing what is here already costs a check.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<PinnedBlob, StoreError> {
        let digest = digest_bytes(bytes);
        if let Some(blob) = self.healthy(&digest)? {
            self.settle(blob.path())?;
            return Ok(blob);
        }
        self.making_room(digest.length, || {
            let mut writer = self.writer(Some(digest), "memory")?;
            writer.write(bytes)?;
            writer.finish()
        })
    }

    /// Keeps what the file at `path` holds. With `expected`, a file that holds something else is refused.
    ///
    /// The file is copied (sharing extents where the file system can), so it may be changed or removed afterwards; the blob is
    /// what was copied.
    pub fn put_file(&self, path: &Path, expected: Option<Digest>) -> Result<PinnedBlob, StoreError> {
        if let Some(digest) = expected
            && let Some(blob) = self.healthy(&digest)?
        {
            self.settle(blob.path())?;
            return Ok(blob);
        }
        let from = File::open(path).map_err(|source| StoreError::io("open", path, 0, source))?;
        let length = from.metadata().map_err(|source| StoreError::io("look at", path, 0, source))?.len();
        self.making_room(length, || self.copy_in(&from, length, path, expected))
    }

    fn copy_in(
        &self,
        mut from: &File,
        length: u64,
        path: &Path,
        expected: Option<Digest>,
    ) -> Result<PinnedBlob, StoreError> {
        let mut writer = self.writer(expected, path.display().to_string())?;
        writer.needed_bytes = length;
        if length > ALWAYS_HASHED_BYTES && clone(from, &writer.temp.file) {
            writer.hasher = hash_all(&writer.temp.file, path)?;
            return writer.finish();
        }
        from.rewind().map_err(|source| StoreError::io("read", path, 0, source))?;
        let mut buffer = vec![0; READ_BYTES.min(length as usize + 1)];
        loop {
            match from.read(&mut buffer).map_err(|source| StoreError::io("read", path, 0, source))? {
                0 => return writer.finish(),
                count => writer.write(&buffer[..count])?,
            }
        }
    }

    /// Takes in a blob that lies in a file nobody changes, without copying its bytes: shares its extents, else links it.
    /// `None` when neither is possible (another file system, another owner). Its bytes are checked first.
    pub(crate) fn link_in(&self, digest: &Digest, path: &Path) -> Result<Option<PinnedBlob>, StoreError> {
        let Some(mut temp) = self.linked_temp(path)? else { return Ok(None) };
        let found = digest_open_file(&mut temp.file, digest.length);
        let found = found.map_err(|source| StoreError::io("read", path, 0, source))?;
        if found != *digest {
            return Err(StoreError::Mismatch { expected: *digest, found, place: path.display().to_string() });
        }
        self.publish(temp, *digest).map(Some)
    }

    /// Does `put`, and when the disk is full does it once more after evicting what is not in use.
    fn making_room(
        &self,
        needed_bytes: u64,
        put: impl Fn() -> Result<PinnedBlob, StoreError>,
    ) -> Result<PinnedBlob, StoreError> {
        match put() {
            Err(error) if error.is_disk_full() && self.make_room(needed_bytes) => put(),
            other => other,
        }
    }

    /// The blob if it is here and right; a damaged one is gone afterwards and can be written anew.
    fn healthy(&self, digest: &Digest) -> Result<Option<PinnedBlob>, StoreError> {
        match self.get(digest) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            other => other,
        }
    }

    fn temp_file(&self, needed_bytes: u64) -> Result<TempFile, StoreError> {
        let path = self.temp_path();
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o444).open(&path);
        let file = made.map_err(|source| StoreError::io("write", &path, needed_bytes, source))?;
        Ok(TempFile { file, path, renamed: false })
    }

    /// Makes the name of a blob durable, where the store promises that. It may have been given by a put that was cut short.
    fn settle(&self, path: &Path) -> Result<(), StoreError> {
        if !self.shared.options.fsync {
            return Ok(());
        }
        let folder = path.parent().expect("a blob lies in its fan-out folder");
        let settled = make_folder(folder).and_then(|()| sync_folder(folder));
        settled.map_err(|source| StoreError::io("write", path, 0, source))
    }

    fn linked_temp(&self, path: &Path) -> Result<Option<TempFile>, StoreError> {
        let from = match File::open(path) {
            Ok(from) => from,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::io("open", path, 0, source)),
        };
        let temp = self.temp_file(0)?;
        if clone(&from, &temp.file) {
            return Ok(Some(temp));
        }
        drop(temp);
        let linked = self.temp_path();
        if fs::hard_link(path, &linked).is_err() {
            return Ok(None);
        }
        let temp = TempFile { file: from, path: linked, renamed: false };
        if temp.file.set_permissions(Permissions::from_mode(0o444)).is_err() {
            return Ok(None);
        }
        Ok(Some(temp))
    }

    /// Gives a complete, checked file its final name, unless the same blob got it first.
    fn publish(&self, mut temp: TempFile, digest: Digest) -> Result<PinnedBlob, StoreError> {
        let key = Key::Blob(digest);
        let path = self.blob_path(&digest);
        let io = |source| StoreError::io("write", &path, digest.length, source);
        if self.shared.options.fsync {
            temp.file.sync_data().map_err(io)?;
        }
        let looks = temp.file.metadata().map_err(io)?;
        if looks.permissions().mode() & 0o777 != 0o444 {
            // A narrow umask must not keep a container's user from its inputs.
            temp.file.set_permissions(Permissions::from_mode(0o444)).map_err(io)?;
        }
        let mut index = self.index();
        if !index.is_present(key) {
            rename_into_fan_out(&temp.path, &path).map_err(io)?;
            temp.renamed = true;
            index.insert(key, stored_bytes(&digest), Vec::new());
            if is_settled(&looks, flowyard_clock::wall_ms()) {
                index.set_verified(key, stamp_of(&looks));
            }
        }
        assert!(index.pin(key), "a blob that was just put in place is present");
        drop(index);
        let blob = PinnedBlob::new(digest, path.clone(), Pin::of_counted(self, key));
        self.settle(&path)?;
        self.evict_to_budget();
        Ok(blob)
    }
}

fn hash_all(mut file: &File, path: &Path) -> Result<BlobHasher, StoreError> {
    let mut hasher = BlobHasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer).map_err(|source| StoreError::io("read", path, 0, source))? {
            0 => return Ok(hasher),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn rename_into_fan_out(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(to.parent().expect("a blob lies in its fan-out folder"))?;
            fs::rename(from, to)
        }
        other => other,
    }
}
