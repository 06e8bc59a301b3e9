//! Reading a file or a folder of a user into a manifest.
//!
//! Packing hashes and copies nothing: it tells which blobs there are and in which files they lie, so that only those that the
//! other side misses are sent. A file that changes between packing and sending is noticed when its bytes are stored.
//!
//! Nothing but plain files, folders and links inside the tree is taken; everything else is refused by name, with what to do.
//! The tree must not be changed by others meanwhile (a task's processes are gone before its outputs are packed).

mod code;
mod error;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flowyard_model::Digest;

pub use code::{CODE_LIMIT_BYTES, SKIPPED_NAMES, pack_code};
pub use error::PackError;

use crate::hashing::digest_open_file;
use crate::manifest::{Entry, EntryKind, MAX_ENTRIES, Manifest, Summary};

/// What to do when the packed path itself is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootLink {
    /// Pack what it points to: for paths that the user of this machine typed.
    Follow,
    /// Refuse: for what a task left behind, whose links mean nothing (or harm) outside its container.
    Refuse,
}

/// A packed artifact: its manifest, and the files its blobs lie in.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The list of paths.
    pub manifest: Manifest,
    /// For each blob of the manifest one file that holds it.
    pub sources: BTreeMap<Digest, PathBuf>,
}

impl Packed {
    /// Files and bytes, to be shown to the user.
    pub fn summary(&self) -> Summary {
        self.manifest.summary()
    }
}

/// Packs the file or folder at `path`.
pub fn pack_path(path: &Path, root_link: RootLink) -> Result<Packed, PackError> {
    let mut looks = fs::symlink_metadata(path).map_err(|source| PackError::from_io(path, source))?;
    if looks.is_symlink() {
        if root_link == RootLink::Refuse {
            let target = fs::read_link(path).map_err(|source| PackError::from_io(path, source))?;
            return Err(PackError::RootLink { path: path.to_owned(), target });
        }
        looks = fs::metadata(path).map_err(|source| PackError::from_io(path, source))?;
    }
    let mut packer = Packer::default();
    if looks.is_dir() {
        // The slash makes the system follow a link at the root.
        packer.add_folder(&path.join(""))?;
    } else {
        packer.add(path, Vec::new(), root_link)?;
    }
    packer.finish(path)
}

/// Gathers entries and sources.
#[derive(Debug, Default)]
struct Packer {
    entries: Vec<Entry>,
    sources: BTreeMap<Digest, PathBuf>,
}

impl Packer {
    fn add_folder(&mut self, root: &Path) -> Result<(), PackError> {
        let mut folders = vec![(root.to_owned(), Vec::new())];
        while let Some((folder, prefix)) = folders.pop() {
            for child in fs::read_dir(&folder).map_err(|source| PackError::from_io(&folder, source))? {
                let child = child.map_err(|source| PackError::from_io(&folder, source))?;
                let name = child.file_name().into_vec();
                let path = if prefix.is_empty() { name } else { [&prefix[..], b"/", &name].concat() };
                let place = child.path();
                if self.add(&place, path.clone(), RootLink::Refuse)? {
                    folders.push((place, path));
                }
            }
        }
        Ok(())
    }

    /// Adds what lies at `place` under the manifest path `path`. Says whether it is a folder.
    fn add(&mut self, place: &Path, path: Vec<u8>, root_link: RootLink) -> Result<bool, PackError> {
        let looks = match root_link {
            RootLink::Follow => fs::metadata(place),
            RootLink::Refuse => fs::symlink_metadata(place),
        };
        let looks = looks.map_err(|source| PackError::from_io(place, source))?;
        let kind = if looks.is_dir() {
            EntryKind::Directory
        } else if looks.is_file() {
            self.add_file(place, root_link)?
        } else if looks.is_symlink() {
            let target = fs::read_link(place).map_err(|source| PackError::from_io(place, source))?;
            EntryKind::Symlink { target: target.as_os_str().as_bytes().to_vec() }
        } else {
            return Err(PackError::NotPlain { path: place.to_owned(), what: name_of_kind(looks.file_type()) });
        };
        let is_folder = kind == EntryKind::Directory;
        self.entries.push(Entry { path, kind });
        if self.entries.len() > MAX_ENTRIES {
            return Err(PackError::TooMany { path: place.to_owned() });
        }
        Ok(is_folder)
    }

    fn add_file(&mut self, place: &Path, root_link: RootLink) -> Result<EntryKind, PackError> {
        let unreadable = |source| PackError::from_io(place, source);
        let mut file = open_plain(place, root_link).map_err(unreadable)?;
        let looks = file.metadata().map_err(unreadable)?;
        if !looks.is_file() {
            return Err(PackError::NotPlain { path: place.to_owned(), what: name_of_kind(looks.file_type()) });
        }
        let digest = digest_open_file(&mut file, looks.len()).map_err(unreadable)?;
        let executable = looks.permissions().mode() & 0o100 != 0;
        self.sources.entry(digest).or_insert_with(|| place.to_owned());
        Ok(EntryKind::File { digest, executable })
    }

    fn finish(self, root: &Path) -> Result<Packed, PackError> {
        let manifest = Manifest::from_entries(self.entries).map_err(|source| PackError::from_manifest(root, source))?;
        Ok(Packed { manifest, sources: self.sources })
    }
}

/// Opens a file without waiting for the other end of a pipe that took its place.
fn open_plain(place: &Path, root_link: RootLink) -> io::Result<File> {
    let nofollow = if root_link == RootLink::Refuse { libc_flags::NOFOLLOW } else { 0 };
    OpenOptions::new().read(true).custom_flags(libc_flags::NONBLOCK | nofollow).open(place)
}

/// The flags of `open` that the standard library has no words for.
mod libc_flags {
    use rustix::fs::OFlags;

    pub(super) const NOFOLLOW: i32 = OFlags::NOFOLLOW.bits() as i32;
    pub(super) const NONBLOCK: i32 = OFlags::NONBLOCK.bits() as i32;
}

fn name_of_kind(kind: fs::FileType) -> &'static str {
    if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "neither file, folder nor link"
    }
}

#[cfg(test)]
mod tests;
