//! What can be done better when the origin is a directory on this machine.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, UNIX_EPOCH};

use flowyard_model::Digest;

use super::Origin;
use crate::StoreError;
use crate::folder::{make_folder, sync_folder};
use crate::local::PinnedBlob;

impl Origin {
    /// Stores a local blob by linking it, where both lie on one file system. Says whether that worked.
    pub(crate) fn link_from(&self, blob: &PinnedBlob) -> Result<bool, StoreError> {
        let Some(path) = self.file_of(&blob.digest()) else { return Ok(false) };
        let io = |source| StoreError::io("write", &path, blob.digest().length, source);
        let folder = path.parent().expect("a blob lies in its fan-out folder");
        self.make_fan_out(folder).map_err(io)?;
        if self.fsync {
            File::open(blob.path()).and_then(|file| file.sync_all()).map_err(io)?;
        }
        match fs::hard_link(blob.path(), &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_whole(&path, &blob.digest()) => {}
            // Another file system, too many links, links forbidden, or a damaged object in the way: the bytes are sent.
            Err(_) => return Ok(false),
        }
        make_young(&path);
        if self.fsync {
            sync_folder(folder).map_err(io)?;
        }
        Ok(true)
    }

    /// Makes a fan-out folder and sees to it that it and what it holds stay: a process that was killed may have given the names.
    /// Once for each folder is enough, since whatever this process adds, it syncs.
    pub(super) fn make_fan_out(&self, folder: &Path) -> io::Result<()> {
        if !self.fsync {
            return fs::create_dir_all(folder);
        }
        let settled = || self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if settled().contains(folder) {
            return Ok(());
        }
        make_folder(folder).and_then(|()| sync_folder(folder))?;
        settled().insert(folder.to_owned());
        Ok(())
    }

    /// Takes a blob whose bytes were found wrong out of the way, so that it counts as missing and can be stored again. It is
    /// kept under `v1/damaged` for whoever wants to look at it. Only in a directory: elsewhere the bytes may have been damaged
    /// on the way to us.
    pub(super) fn set_aside(&self, digest: &Digest) {
        let (Some(root), Some(path)) = (&self.directory, self.file_of(digest)) else { return };
        let aside = root.join("v1/damaged");
        let moved = fs::create_dir_all(&aside).and_then(|()| fs::rename(&path, aside.join(digest.to_string())));
        match moved {
            Ok(()) => tracing::error!(%digest, folder = %aside.display(), "a damaged blob was set aside"),
            Err(error) => tracing::error!(%digest, %error, "a damaged blob could not be set aside"),
        }
    }

    /// Removes what writes that were cut off left in the directory. The library writes `NAME#NUMBER` beside `NAME`.
    pub(super) fn remove_leftovers(&self, min_age_ms: u64, now_ms: u64) -> io::Result<()> {
        let Some(root) = &self.directory else { return Ok(()) };
        for folder in fs::read_dir(root.join(super::BLOBS))? {
            for file in fs::read_dir(folder?.path())? {
                let file = file?;
                if !file.file_name().to_string_lossy().contains('#') {
                    continue;
                }
                let modified = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                if now_ms.saturating_sub(modified.as_millis() as u64) >= min_age_ms {
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }
}

/// Sets the time of last writing to now, as if the blob had been written again. Says whether that worked.
pub(super) fn make_young(path: &Path) -> bool {
    let now = UNIX_EPOCH + Duration::from_millis(flowyard_clock::wall_ms());
    File::open(path).and_then(|file| file.set_modified(now)).is_ok()
}

fn is_whole(path: &Path, digest: &Digest) -> bool {
    fs::symlink_metadata(path).is_ok_and(|looks| looks.is_file() && looks.len() == digest.length)
}
