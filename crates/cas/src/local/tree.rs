//! Read-only trees that tasks share: made once per manifest, their files linked to the blobs.
//!
//! A file of mode 644 is a hard link to its blob. An executable one is a copy, because the mode belongs to the file and not
//! to the name. Folders are 555 and files 444 or 555, so only root can change one, and only by not looking: bind it read-only.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flowyard_model::Digest;

use super::index::Key;
use super::pin::{Pin, PinnedBlob, PinnedTree};
use super::stamp::{Stamp, StampBuilder};
use super::{BLOCK_BYTES, LocalStore, remove_any, stored_bytes};
use crate::StoreError;
use crate::checkout::{Placing, checkout};
use crate::hashing::digest_open_file;
use crate::manifest::{EntryKind, Manifest};

/// The name of the checked-out file or folder inside a tree's folder.
const ROOT: &str = "root";

impl LocalStore {
    /// The tree of a manifest if it is here, pinned. It is used again when nothing in it was touched since it was made, or
    /// when all its bytes are still right; otherwise it is taken away.
    pub fn tree(&self, digest: &Digest, manifest: &Manifest) -> Result<Option<PinnedTree>, StoreError> {
        let key = Key::Tree(*digest);
        if !self.index().pin(key) {
            return Ok(None);
        }
        let pin = Pin::of_counted(self, key);
        let path = self.tree_path(digest).join(ROOT);
        let stamp = stamp_tree(manifest, &path);
        let known = self.index().verified(key);
        if stamp.is_some() && known == stamp {
            return Ok(Some(PinnedTree::new(*digest, path, pin)));
        }
        if let Some(stamp) = stamp
            && tree_is_right(manifest, &path)
        {
            self.index().set_verified(key, stamp);
            return Ok(Some(PinnedTree::new(*digest, path, pin)));
        }
        self.discard_tree(digest);
        Ok(None)
    }

    /// Makes the tree of a manifest from its blobs (the manifest's own among them), or uses the one made meanwhile.
    pub(crate) fn make_tree(
        &self,
        manifest: &Manifest,
        blobs: &HashMap<Digest, PinnedBlob>,
    ) -> Result<PinnedTree, StoreError> {
        let digest = manifest.digest();
        let temp = self.temp_path();
        fs::create_dir(&temp).map_err(|source| StoreError::io("make the folder", &temp, 0, source))?;
        let find = |digest: &Digest| blobs.get(digest).map(|blob| blob.path().to_owned());
        let made = checkout(manifest, &temp.join(ROOT), Placing::Share, &find);
        let published = made.and_then(|()| self.publish_tree(digest, manifest, &temp));
        if let Err(error) = remove_any(&temp) {
            tracing::warn!(path = %temp.display(), %error, "a half-made tree could not be removed; it goes at the next start");
        }
        self.evict_to_budget();
        published
    }

    fn publish_tree(&self, digest: Digest, manifest: &Manifest, temp: &Path) -> Result<PinnedTree, StoreError> {
        let key = Key::Tree(digest);
        let path = self.tree_path(&digest);
        let stamp = stamp_tree(manifest, &temp.join(ROOT));
        let mut index = self.index();
        if !index.is_present(key) {
            fs::rename(temp, &path).map_err(|source| StoreError::io("write", &path, 0, source))?;
            let (own_bytes, holds) = cost(digest, manifest);
            index.insert(key, own_bytes, holds);
            if let Some(stamp) = stamp {
                index.set_verified(key, stamp);
            }
        }
        assert!(index.pin(key), "a tree that was just put in place is present");
        drop(index);
        Ok(PinnedTree::new(digest, path.join(ROOT), Pin::of_counted(self, key)))
    }

    /// Takes a tree with wrong bytes out of sight. It is removed only when the store is opened next: somebody may have it mounted.
    fn discard_tree(&self, digest: &Digest) {
        let path = self.tree_path(digest);
        let aside = self.temp_path();
        let mut index = self.index();
        match fs::rename(&path, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(path = %path.display(), %error, "a damaged tree could not be taken away");
            }
            _ => index.remove(Key::Tree(*digest)),
        }
        tracing::error!(path = %path.display(), "a shared tree was changed; it is made anew");
    }
}

/// What a tree takes by itself, and the blobs it keeps: eviction of a blob would free nothing while a tree links it.
pub(super) fn cost(digest: Digest, manifest: &Manifest) -> (u64, Vec<Digest>) {
    let mut own_bytes = BLOCK_BYTES;
    let mut holds = HashSet::from([digest]);
    for entry in manifest.entries() {
        match &entry.kind {
            EntryKind::File { digest, executable } => {
                own_bytes += if *executable { stored_bytes(digest) } else { 0 };
                holds.insert(*digest);
            }
            EntryKind::Directory => own_bytes += BLOCK_BYTES,
            EntryKind::Symlink { .. } => {}
        }
    }
    (own_bytes, holds.into_iter().collect())
}

fn place_of(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(path)) }
}

/// What every entry looks like now; `None` when one is missing or is something else.
fn stamp_tree(manifest: &Manifest, root: &Path) -> Option<Stamp> {
    let mut builder = StampBuilder::default();
    if manifest.root_file().is_none() {
        builder.add(&fs::symlink_metadata(root).ok()?);
    }
    for entry in manifest.entries() {
        let looks = fs::symlink_metadata(place_of(root, &entry.path)).ok()?;
        let same_kind = match &entry.kind {
            EntryKind::File { digest, .. } => looks.is_file() && looks.len() == digest.length,
            EntryKind::Directory => looks.is_dir(),
            EntryKind::Symlink { .. } => looks.is_symlink(),
        };
        if !same_kind {
            return None;
        }
        builder.add(&looks);
    }
    Some(builder.stamp())
}

/// Whether every file hashes to its digest, every link points where it should, and nothing else lies in the tree.
fn tree_is_right(manifest: &Manifest, root: &Path) -> bool {
    let right = manifest.entries().iter().all(|entry| {
        let path = place_of(root, &entry.path);
        match &entry.kind {
            EntryKind::File { digest, .. } => File::open(&path)
                .and_then(|mut file| digest_open_file(&mut file, digest.length))
                .is_ok_and(|found| found == *digest),
            EntryKind::Directory => true,
            EntryKind::Symlink { target } => {
                fs::read_link(&path).is_ok_and(|found| found.as_os_str().as_bytes() == target)
            }
        }
    });
    right && count_entries(root).is_ok_and(|count| count == manifest.entries().len())
}

fn count_entries(root: &Path) -> io::Result<usize> {
    if !fs::symlink_metadata(root)?.is_dir() {
        return Ok(1);
    }
    let mut count = 0;
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            count += 1;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(count)
}
