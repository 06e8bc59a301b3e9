//! System calls that no library here offers in the shape needed, and small steps made of several.
//!
//! Must not know what a container is.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::RuntimeError;

/// Attributes of a mount, as `mount_setattr` takes them.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A mount through which nothing can be written, no device opened, no privilege gained.
pub(crate) const SEALED: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// A path for the kernel.
pub(crate) fn c_path(path: &Path) -> Result<CString, RuntimeError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|source| RuntimeError::Path {
        what: "use path",
        path: path.to_owned(),
        source: source.into(),
    })
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A detached recursive copy of the mounts at `path`.
pub(crate) fn clone_tree(path: &Path) -> Result<OwnedFd, RuntimeError> {
    let c = c_path(path)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as u32;
    // SAFETY: `c` is a valid C string for the duration of the call.
    let fd = checked(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c.as_ptr(), flags) })
        .map_err(|source| RuntimeError::Path { what: "copy the mounts of", path: path.to_owned(), source })?;
    // SAFETY: the kernel has just given us this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sets attributes on a detached mount and everything below it.
pub(crate) fn seal_tree(tree: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    set_attributes(tree, set, 0)
}

fn set_attributes(tree: BorrowedFd<'_>, set: u64, userns_fd: u64) -> io::Result<()> {
    let attr = MountAttr { set, clear: 0, propagation: libc::MS_PRIVATE, userns_fd };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the empty path and `attr` live until the call returns; the size is that of `attr`.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Makes a detached mount and everything below it read-only, and lets the ids of a user namespace stand for those on its disk.
pub(crate) fn map_tree(tree: BorrowedFd<'_>, user_namespace: i32) -> io::Result<()> {
    set_attributes(tree, SEALED | libc::MOUNT_ATTR_IDMAP, user_namespace as u64)
}

/// Puts a detached mount at `target`.
pub(crate) fn attach_tree(tree: BorrowedFd<'_>, target: &Path) -> Result<(), RuntimeError> {
    let c = c_path(target)?;
    // SAFETY: both strings live until the call returns.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            c.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map_err(|source| RuntimeError::Path { what: "mount at", path: target.to_owned(), source })?;
    Ok(())
}

/// Binds `source` recursively at `target`, read-only and without devices or set-user-id.
pub(crate) fn bind_sealed(source: &Path, target: &Path) -> Result<(), RuntimeError> {
    use std::os::fd::AsFd;
    let tree = clone_tree(source)?;
    seal_tree(tree.as_fd(), SEALED).map_err(|error| RuntimeError::Path {
        what: "make read-only",
        path: source.to_owned(),
        source: error,
    })?;
    attach_tree(tree.as_fd(), target)
}

/// Mounts a file system the old way.
pub(crate) fn mount(kind: &CStr, target: &Path, flags: u64, options: &CStr) -> Result<(), RuntimeError> {
    let c = c_path(target)?;
    // SAFETY: all strings live until the call returns.
    let result = unsafe { libc::mount(kind.as_ptr(), c.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    checked(result.into()).map_err(|source| RuntimeError::Path {
        what: "mount at",
        path: target.to_owned(),
        source,
    })?;
    Ok(())
}

/// Moves this process into a mount namespace of its own.
pub(crate) fn own_mounts() -> Result<(), RuntimeError> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|source| RuntimeError::Step { what: "make a mount namespace", source: source.into() })
}

/// Cuts every mount of this namespace off from the mounts of other namespaces.
pub(crate) fn make_mounts_private() -> io::Result<()> {
    // SAFETY: only static strings and null pointers are passed.
    let result = unsafe {
        libc::mount(
            std::ptr::null(),
            c"/".as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        )
    };
    checked(result.into()).map(drop)
}

/// Lets, or forbids, other processes of the same user look into this one.
pub(crate) fn set_dumpable(dumpable: bool) {
    // SAFETY: PR_SET_DUMPABLE takes an integer and touches no memory of ours. It cannot fail for 0 and 1.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, u64::from(dumpable), 0, 0, 0) };
}

/// Writes a file of procfs in one write.
pub(crate) fn write_proc(path: &str, text: &str) -> Result<(), RuntimeError> {
    fs::write(path, text).map_err(|source| RuntimeError::Path { what: "write", path: path.into(), source })
}

/// Sends one message on a sequenced-packet socket.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &[u8]) -> io::Result<()> {
    loop {
        // SAFETY: pointer and length are those of `message`.
        let sent =
            unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL) };
        if sent >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Receives one message; `None` when the other side is closed, or, with `wait` false, when nothing is there yet.
pub(crate) fn receive(socket: BorrowedFd<'_>, wait: bool) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0_u8; MESSAGE_BYTES];
    let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
    loop {
        // SAFETY: pointer and length are those of `buffer`.
        let got = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
        if got > 0 {
            buffer.truncate(got as usize);
            return Ok(Some(buffer));
        }
        if got == 0 {
            return Ok(None);
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset => return Ok(None),
            _ => return Err(error),
        }
    }
}

/// The longest message between the processes that make a container.
pub(crate) const MESSAGE_BYTES: usize = 4096;

/// A connected pair of sequenced-packet sockets, closed on execution.
pub(crate) fn packet_pair() -> Result<(OwnedFd, OwnedFd), RuntimeError> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|source| RuntimeError::Step { what: "make a socket pair", source: source.into() })
}

/// Makes `root`, which must be a mount, the root of this mount namespace; what was there before is gone.
pub(crate) fn change_root(root: &Path) -> Result<(), RuntimeError> {
    let step = |what| move |source: nix::Error| RuntimeError::Step { what, source: source.into() };
    nix::unistd::chdir(root).map_err(step("enter the new root"))?;
    nix::unistd::pivot_root(".", ".").map_err(step("change the root"))?;
    // The old root lies on top of the new one now.
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH).map_err(step("leave the old root"))?;
    nix::unistd::chdir("/").map_err(step("enter the new root"))
}
