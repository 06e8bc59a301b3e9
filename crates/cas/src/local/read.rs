//! Getting a blob: pinned and checked.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use flowyard_model::Digest;

use super::index::Key;
use super::pin::{Pin, PinnedBlob};
use super::stamp::{is_settled, stamp_of};
use super::{LocalStore, remove_any};
use crate::StoreError;
use crate::hashing::{digest_bytes, digest_open_file};

/// Blobs up to this size are hashed at every use; larger ones when their file changed since it was last found right, and once
/// per opening of the store.
pub(super) const ALWAYS_HASHED_BYTES: u64 = 64 * 1024;

/// What a look at a blob's file told. `inode` says which file was looked at.
enum Found {
    Right,
    Gone,
    Damaged { inode: u64 },
}

impl LocalStore {
    /// The blob, checked and pinned; `None` when it is not here. A damaged one is removed and reported, never returned.
    pub fn get(&self, digest: &Digest) -> Result<Option<PinnedBlob>, StoreError> {
        let key = Key::Blob(*digest);
        if !self.index().pin(key) {
            return Ok(None);
        }
        let pin = Pin::of_counted(self, key);
        let path = self.blob_path(digest);
        match self.check(digest, &path).map_err(|source| StoreError::io("read", &path, 0, source))? {
            Found::Right => Ok(Some(PinnedBlob::new(*digest, path, pin))),
            Found::Gone => {
                self.forget_absent(key, &path);
                Ok(None)
            }
            Found::Damaged { inode } => Err(self.discard_damaged(digest, &path, inode)),
        }
    }

    /// All bytes of a blob that fits into memory (a manifest, a list of items); they are hashed on the way.
    pub fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let key = Key::Blob(*digest);
        if !self.index().pin(key) {
            return Ok(None);
        }
        let _pin = Pin::of_counted(self, key);
        let path = self.blob_path(digest);
        let (bytes, inode) = match read_all(&path, digest.length) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget_absent(key, &path);
                return Ok(None);
            }
            Err(source) => return Err(StoreError::io("read", &path, 0, source)),
        };
        if digest_bytes(&bytes) != *digest {
            return Err(self.discard_damaged(digest, &path, inode));
        }
        Ok(Some(bytes))
    }

    fn check(&self, digest: &Digest, path: &Path) -> io::Result<Found> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
            Err(error) => return Err(error),
        };
        let looks = file.metadata()?;
        let damaged = Found::Damaged { inode: looks.ino() };
        if looks.len() != digest.length {
            return Ok(damaged);
        }
        let key = Key::Blob(*digest);
        let stamp = stamp_of(&looks);
        let large = digest.length > ALWAYS_HASHED_BYTES;
        if large && self.index().verified(key) == Some(stamp) {
            return Ok(Found::Right);
        }
        let now_ms = flowyard_clock::wall_ms();
        if digest_open_file(&mut file, digest.length)? != *digest {
            return Ok(damaged);
        }
        if large && is_settled(&looks, now_ms) {
            self.index().set_verified(key, stamp);
        }
        Ok(Found::Right)
    }

    /// Somebody else removed the file: believe the disk, not the index.
    fn forget_absent(&self, key: Key, path: &Path) {
        let mut index = self.index();
        if matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            index.remove(key);
        }
    }

    /// Takes a damaged blob out of the store, unless a good one took its place meanwhile.
    fn discard_damaged(&self, digest: &Digest, path: &Path, inode: u64) -> StoreError {
        let aside = self.temp_path();
        {
            let mut index = self.index();
            if fs::symlink_metadata(path).is_ok_and(|looks| looks.ino() == inode) && fs::rename(path, &aside).is_ok() {
                index.remove(Key::Blob(*digest));
            }
        }
        if let Err(error) = remove_any(&aside) {
            tracing::warn!(path = %aside.display(), %error, "a damaged blob could not be removed");
        }
        tracing::error!(%digest, path = %path.display(), "a damaged blob was taken out of the local store");
        StoreError::Damaged { digest: *digest, place: path.display().to_string() }
    }
}

fn read_all(path: &Path, length: u64) -> io::Result<(Vec<u8>, u64)> {
    let file = File::open(path)?;
    let inode = file.metadata()?.ino();
    let mut bytes = Vec::with_capacity(length.min(1 << 30) as usize);
    // One byte more than expected tells a file that has grown; more than that is not read.
    file.take(length.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes, inode))
}
