//! Copying one open file into another, and removing folders whatever their modes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Makes `to`, a new empty file, hold what `from` holds: by sharing extents where the file system can (reflink), otherwise by
/// a copy inside the kernel. Returns the number of bytes.
pub(crate) fn clone_or_copy(from: &mut File, to: &mut File) -> io::Result<u64> {
    if clone(from, to) {
        return Ok(to.metadata()?.len());
    }
    // The standard library uses copy_file_range between files, and falls back to reading and writing by itself.
    io::copy(from, to)
}

/// Whether `to` now shares all extents of `from`.
pub(crate) fn clone(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

/// Removes a file or a folder with all in it, also when folders in it are read-only. What is not there is no error.
pub(crate) fn remove_any(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).or_else(|error| {
            if error.kind() != io::ErrorKind::PermissionDenied {
                return Err(error);
            }
            make_folders_writable(path)?;
            fs::remove_dir_all(path)
        }),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make_folders_writable(folder: &Path) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}
