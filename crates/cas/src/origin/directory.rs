//! What can be done better when the origin is a directory on this machine.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use flowyard_model::Digest;

use super::Origin;
use crate::StoreError;
use crate::local::PinnedBlob;

impl Origin {
    /// Stores a local blob by linking it, where both lie on one file system. Says whether that worked.
    pub(crate) fn link_from(&self, blob: &PinnedBlob) -> Result<bool, StoreError> {
        let Some(path) = self.file_of(&blob.digest()) else { return Ok(false) };
        let io = |source| StoreError::io("write", &path, blob.digest().length, source);
        let folder = path.parent().expect("a blob lies in its fan-out folder");
        fs::create_dir_all(folder).map_err(io)?;
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
            let upper = folder.parent().expect("a fan-out folder lies in the folder of all blobs");
            sync_folder(folder).and_then(|()| sync_folder(upper)).map_err(io)?;
        }
        Ok(true)
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

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
