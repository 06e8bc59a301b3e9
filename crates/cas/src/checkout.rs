//! Writing a manifest back to a folder.
//!
//! Every name is made relative to an open folder, exclusively and without following links, so nothing is written outside the
//! destination whatever lies there or is put there meanwhile.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flowyard_model::Digest;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::StoreError;
use crate::copying::{clone_or_copy, remove_any};
use crate::manifest::{Entry, EntryKind, Manifest, parent_of};

/// How the files of a checkout get their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// Each file is a copy of its own, to be changed at will; modes are 644 and 755.
    Copy,
    /// Files are shared with the blobs and read-only; modes are 444 and 555, also of folders.
    Share,
}

impl Placing {
    fn file_mode(self, executable: bool) -> u32 {
        match (self, executable) {
            (Self::Copy, false) => 0o644,
            (Self::Copy, true) => 0o755,
            (Self::Share, false) => 0o444,
            (Self::Share, true) => 0o555,
        }
    }

    fn folder_mode(self) -> u32 {
        match self {
            Self::Copy => 0o755,
            Self::Share => 0o555,
        }
    }
}

/// Writes `manifest` to `destination`, which must not exist or be an empty folder; its parent must exist. An artifact that is
/// one file becomes the file `destination`.
///
/// `blob` says where the (verified, pinned) file of a blob lies. After an error, what was written is removed, except a folder
/// that was there before.
pub fn checkout(
    manifest: &Manifest,
    destination: &Path,
    placing: Placing,
    blob: &dyn Fn(&Digest) -> Option<PathBuf>,
) -> Result<(), StoreError> {
    let writer = TreeWriter { destination, placing, blob };
    if let Some((digest, executable)) = manifest.root_file() {
        let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = File::open(parent).map_err(|source| StoreError::io("open", parent, 0, source))?;
        let name = destination.file_name().ok_or_else(|| StoreError::Exists { path: destination.to_owned() })?;
        return writer.place_file(folder.as_fd(), name, destination, digest, executable);
    }
    let made = claim_folder(destination)?;
    let written = writer.write_entries(manifest.entries());
    if written.is_err() && made {
        // The error that is returned tells more than a failure to clean up would.
        let _ = remove_any(destination);
    }
    written
}

/// Makes the destination, or takes an empty one. Says whether it was made.
fn claim_folder(destination: &Path) -> Result<bool, StoreError> {
    match fs::create_dir(destination) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(StoreError::io("make the folder", destination, 0, source)),
    }
    let is_folder = fs::symlink_metadata(destination).is_ok_and(|found| found.is_dir());
    let empty = is_folder && fs::read_dir(destination).is_ok_and(|mut entries| entries.next().is_none());
    if empty { Ok(false) } else { Err(StoreError::Exists { path: destination.to_owned() }) }
}

struct TreeWriter<'a> {
    destination: &'a Path,
    placing: Placing,
    blob: &'a dyn Fn(&Digest) -> Option<PathBuf>,
}

/// A folder that is being filled, and its path in the manifest.
struct OpenFolder<'a> {
    path: &'a [u8],
    folder: OwnedFd,
}

impl TreeWriter<'_> {
    fn write_entries(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let root = open_folder(CWD, self.destination.as_os_str());
        let root = root.map_err(|source| StoreError::io("open", self.destination, 0, source))?;
        let mut open = vec![OpenFolder { path: b"", folder: root }];
        for entry in entries {
            let parent = parent_of(&entry.path);
            while open.last().is_some_and(|top| top.path != parent) {
                self.close(open.pop())?;
            }
            let top = open.last().expect("a manifest lists the directory of each entry before it");
            let name = OsStr::from_bytes(&entry.path[if parent.is_empty() { 0 } else { parent.len() + 1 }..]);
            let place = self.destination.join(OsStr::from_bytes(&entry.path));
            match &entry.kind {
                EntryKind::File { digest, executable } => {
                    self.place_file(top.folder.as_fd(), name, &place, *digest, *executable)?;
                }
                EntryKind::Symlink { target } => {
                    rustix::fs::symlinkat(OsStr::from_bytes(target), &top.folder, name)
                        .map_err(|error| taken_or("make the link", &place, error))?;
                }
                EntryKind::Directory => {
                    rustix::fs::mkdirat(&top.folder, name, Mode::from_raw_mode(0o755))
                        .map_err(|error| taken_or("make the folder", &place, error))?;
                    let folder = open_folder(top.folder.as_fd(), name);
                    let folder = folder.map_err(|source| StoreError::io("open", &place, 0, source))?;
                    open.push(OpenFolder { path: &entry.path, folder });
                }
            }
        }
        while let Some(top) = open.pop() {
            self.close(Some(top))?;
        }
        Ok(())
    }

    /// Gives a folder its final mode, now that everything in it is written.
    fn close(&self, folder: Option<OpenFolder<'_>>) -> Result<(), StoreError> {
        let Some(OpenFolder { folder, .. }) = folder else { return Ok(()) };
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(self.placing.folder_mode()))
            .map_err(|error| StoreError::io("set the mode of", self.destination, 0, error.into()))
    }

    fn place_file(
        &self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        place: &Path,
        digest: Digest,
        executable: bool,
    ) -> Result<(), StoreError> {
        let missing = || StoreError::Missing { digest, place: "the blobs at hand".into() };
        let blob = (self.blob)(&digest).ok_or_else(missing)?;
        if self.placing == Placing::Share && !executable {
            match rustix::fs::linkat(CWD, &blob, folder, name, AtFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::EXIST) => return Err(StoreError::Exists { path: place.to_owned() }),
                // Another file system, too many links, or links forbidden: a copy does as well.
                Err(_) => {}
            }
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600));
        let mut to = File::from(made.map_err(|error| taken_or("write", place, error))?);
        let write = |source| StoreError::io("write", place, digest.length, source);
        let mut from = File::open(&blob).map_err(|source| StoreError::io("open", &blob, 0, source))?;
        if clone_or_copy(&mut from, &mut to).map_err(write)? != digest.length {
            return Err(StoreError::Damaged { digest, place: blob.display().to_string() });
        }
        to.set_permissions(Permissions::from_mode(self.placing.file_mode(executable))).map_err(write)
    }
}

fn open_folder(at: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

fn taken_or(action: &'static str, place: &Path, error: rustix::io::Errno) -> StoreError {
    match error {
        rustix::io::Errno::EXIST => StoreError::Exists { path: place.to_owned() },
        error => StoreError::io(action, place, 0, error.into()),
    }
}

#[cfg(test)]
mod tests;
