//! The unix socket in the launcher's folder, whose path may be longer than a socket address can hold.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

const SOCKET: &str = "launcher.sock";

/// The folder, held open, and a short path into it. An address holds 108 bytes, `/proc/self/fd/N` always fits.
fn short_path(folder: &Path) -> io::Result<(File, PathBuf)> {
    let directory = File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC).open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
    Ok((directory, path))
}

/// Listens in `folder`, in place of whoever did before; the caller holds the folder's lock.
pub(super) fn listen(folder: &Path) -> io::Result<UnixListener> {
    let (_directory, path) = short_path(folder)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to the launcher of `folder`.
pub(super) fn connect(folder: &Path) -> io::Result<UnixStream> {
    let (_directory, path) = short_path(folder)?;
    UnixStream::connect(path)
}
