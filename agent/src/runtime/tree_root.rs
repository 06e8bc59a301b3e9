//! The root of a container that runs an unpacked image: the image below, a private writable layer above.
//!
//! Owns: mounting the overlay, or copying the image where the kernel or the disk's file system does not do overlays.
//! Must not: change the image; it is shared by every attempt that runs it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{RuntimeError, sys};

/// Folders of one container's writable layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// What the container writes.
    pub(crate) upper: PathBuf,
    /// The kernel's own.
    pub(crate) work: PathBuf,
    /// Whom it belongs to, if the task has a root of its own.
    pub(crate) owner: Option<(u32, u32)>,
}

/// Files of the host without which names cannot be looked up on the host's network.
const FROM_HOST: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

impl Layer {
    /// The writable layer below a container's scratch folder, for this owner.
    pub(crate) fn below(scratch: &Path, owner: Option<(u32, u32)>) -> Self {
        Self { upper: scratch.join("upper"), work: scratch.join("work"), owner }
    }

    /// Makes the layer, with the host's name service configuration in it.
    pub(crate) fn make(&self) -> Result<(), RuntimeError> {
        let failed = |source| RuntimeError::Path { what: "make the writable layer", path: self.upper.clone(), source };
        fs::create_dir_all(self.upper.join("etc")).map_err(failed)?;
        fs::create_dir_all(&self.work).map_err(failed)?;
        for path in FROM_HOST {
            // A host without the file, or with one that may not be read, has nothing to tell.
            if let Ok(text) = fs::read(path) {
                let copy = self.upper.join(path.trim_start_matches('/'));
                fs::write(&copy, text).and_then(|()| give(&copy, self.owner)).map_err(failed)?;
            }
        }
        [&self.upper, &self.upper.join("etc")].into_iter().try_for_each(|path| give(path, self.owner)).map_err(failed)
    }

    /// Puts the image at `root`, writable. Call it in a mount namespace of one's own.
    pub(crate) fn put_up(&self, lower: &Path, root: &Path) -> Result<(), RuntimeError> {
        let options = self.options(lower)?;
        match sys::mount(c"overlay", root, libc::MS_NOSUID | libc::MS_NODEV, &options) {
            Err(RuntimeError::Path { source, .. }) if overlay_is_refused(&source) => self.copy(lower, root),
            other => other,
        }
    }

    fn options(&self, lower: &Path) -> Result<CString, RuntimeError> {
        let mut text = Vec::from(*b"userxattr,lowerdir=");
        text.extend(escaped(lower));
        text.extend(b",upperdir=");
        text.extend(escaped(&self.upper));
        text.extend(b",workdir=");
        text.extend(escaped(&self.work));
        CString::new(text).map_err(|source| RuntimeError::Step { what: "describe the overlay", source: source.into() })
    }

    fn copy(&self, lower: &Path, root: &Path) -> Result<(), RuntimeError> {
        copy_tree(lower, &self.upper, self.owner).map_err(|source| RuntimeError::Path {
            what: "copy the image",
            path: lower.to_owned(),
            source,
        })?;
        let tree = sys::clone_tree(&self.upper)?;
        sys::attach_tree(std::os::fd::AsFd::as_fd(&tree), root)
    }
}

/// Answers by which kernels and file systems say that an overlay is not to be had: no privilege for it, no support.
fn overlay_is_refused(error: &io::Error) -> bool {
    let known = [Errno::EPERM, Errno::EINVAL, Errno::ENODEV, Errno::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|code| known.contains(&Errno::from_raw(code)))
}

/// A path as the overlay's options want it.
fn escaped(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b',' | b':' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text
}

/// Gives a file, or a link itself, to its owner, if it is to have one.
fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    owner.map_or(Ok(()), |(uid, gid)| lchown(path, Some(uid), Some(gid)))
}

/// Copies folders, files and links for an owner; what `to` has already stays.
fn copy_tree(from: &Path, to: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut open = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = open.pop() {
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            let there = fs::symlink_metadata(&target).is_ok();
            if kind.is_dir() {
                if !there {
                    fs::create_dir(&target)?;
                }
                fs::set_permissions(&target, fs::metadata(&source)?.permissions())?;
                open.push((source, target.clone()));
            } else if there {
                continue;
            } else if kind.is_symlink() {
                symlink(fs::read_link(&source)?, &target)?;
            } else if kind.is_file() {
                fs::copy(&source, &target)?;
            }
            if !there {
                give(&target, owner)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_everything_and_keeps_what_was_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("etc")).expect("a folder");
        fs::create_dir_all(to.join("etc")).expect("a folder");
        fs::write(from.join("etc/hosts"), "image").expect("a file");
        fs::write(to.join("etc/hosts"), "host").expect("a file");
        fs::write(from.join("etc/passwd"), "root").expect("a file");
        symlink("etc/passwd", from.join("link")).expect("a link");
        copy_tree(&from, &to, None).expect("a copy");
        assert_eq!(fs::read_to_string(to.join("etc/hosts")).expect("a file"), "host");
        assert_eq!(fs::read_to_string(to.join("link")).expect("a file"), "root");
    }

    #[test]
    fn separators_in_paths_are_escaped() {
        assert_eq!(escaped(Path::new(r"/a,b:c\d")), br"/a\,b\:c\\d".to_vec());
    }
}
