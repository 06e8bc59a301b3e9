//! Mapped copies of mounts: a folder of the host as the first ids of a task's range see it, so that what belongs to root outside
//! belongs to the task's root inside, and to nobody else.
//!
//! Only root of the host may make one, so the shim does, and the maker, which is less, puts it in its place.
//!
//! Invariant: what is mapped is shared by attempts and is never writable: a file that a task made through a mapped mount would
//! belong to root outside.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::spec::{ContainerSpec, Root, User};
use super::stage::write_maps;
use super::{RuntimeError, sys};

/// A user namespace that nobody is in: the ids of a task's range, as the kernel takes them for mounts.
#[derive(Debug)]
pub(crate) struct IdMapping(OwnedFd);

impl IdMapping {
    /// The mapping of a task's range. Only root can make one.
    pub(crate) fn of(user: User) -> Result<Self, RuntimeError> {
        let (ours, theirs) = sys::packet_pair()?;
        let child = idle_in_a_new_user_namespace(&ours, &theirs)?;
        drop(theirs);
        let path = format!("/proc/{child}/ns/user");
        let maps = (user.range_map(user.host_uid), user.range_map(user.host_gid));
        let opened = write_maps(child, &maps.0, &maps.1, false).and_then(|()| {
            File::open(&path).map_err(|source| RuntimeError::Path { what: "open", path: path.into(), source })
        });
        // The child ends when its socket is closed.
        drop(ours);
        while matches!(waitpid(child, None), Err(Errno::EINTR)) {}
        Ok(Self(opened?.into()))
    }

    /// A detached read-only copy of the mounts at `path`, mapped.
    pub(crate) fn tree(&self, path: &Path) -> Result<OwnedFd, RuntimeError> {
        let tree = sys::clone_tree(path)?;
        let mapped = sys::map_tree(tree.as_fd(), self.0.as_raw_fd());
        mapped.map_err(|source| RuntimeError::Path { what: "map the owners of", path: path.to_owned(), source })?;
        Ok(tree)
    }
}

/// A mapped copy of something, and where the maker is to put it.
#[derive(Debug)]
pub(crate) struct Placed {
    tree: OwnedFd,
    at: PathBuf,
    is_folder: bool,
}

impl Placed {
    /// Puts it there. Call it from within the stage, in a mount namespace of one's own.
    pub(crate) fn put(&self) -> Result<(), RuntimeError> {
        let made = if self.is_folder { fs::create_dir(&self.at) } else { File::create(&self.at).map(drop) };
        made.map_err(|source| RuntimeError::Path { what: "make", path: self.at.clone(), source })?;
        sys::attach_tree(self.tree.as_fd(), &self.at)
    }

    /// Takes it away again, also if it was never put there; whoever has mounted it elsewhere keeps it.
    pub(crate) fn take_away(&self) {
        // Without a mount there, there is nothing to take away.
        let _ = nix::mount::umount2(&self.at, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// The container as its maker is to see it: what is mapped is found below `folder`, where the maker puts it.
///
/// What lies on a file system that cannot be mapped is left as it is, and belongs to nobody inside.
pub(crate) fn mapped(container: &ContainerSpec, folder: &Path) -> Result<(ContainerSpec, Vec<Placed>), RuntimeError> {
    let (mut seen, mut placed) = (container.clone(), Vec::new());
    let root = match &mut seen.root {
        Root::Tree { lower, mapped: true } => Some(lower),
        Root::Tree { .. } | Root::Host { .. } => None,
    };
    let mounts = seen.mounts.iter_mut().filter(|mount| mount.mapped && mount.read_only).map(|mount| &mut mount.source);
    let wanted: Vec<&mut PathBuf> = root.into_iter().chain(mounts).collect();
    if container.user.range == 0 || wanted.is_empty() {
        return Ok((seen, placed));
    }
    let mapping = IdMapping::of(container.user)?;
    for (index, path) in wanted.into_iter().enumerate() {
        if let Ok(tree) = mapping.tree(path) {
            let at = folder.join(format!("mapped-{index}"));
            placed.push(Placed { tree, at: at.clone(), is_folder: path.is_dir() });
            *path = at;
        }
    }
    Ok((seen, placed))
}

/// A child that stays in its user namespace until our end of the pair is closed.
///
/// It makes system calls only, so that processes with threads may have one too.
fn idle_in_a_new_user_namespace(ours: &OwnedFd, theirs: &OwnedFd) -> Result<Pid, RuntimeError> {
    // SAFETY: a fork: no stack, no pointers. The child reads into its own copy of a byte and ends.
    unsafe {
        let child = libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0);
        if child < 0 {
            return Err(RuntimeError::last_os("make a user namespace for mapped mounts"));
        }
        if child == 0 {
            let mut byte = 0_u8;
            libc::close(ours.as_raw_fd());
            libc::read(theirs.as_raw_fd(), (&raw mut byte).cast(), 1);
            libc::_exit(0);
        }
        Ok(Pid::from_raw(child as i32))
    }
}

/// Whether what lies in `folder` can be seen through a mapped mount, tried out.
pub fn can_map(folder: &Path) -> bool {
    let user = User { uid: 0, gid: 0, host_uid: PROBE_ID, host_gid: PROBE_ID, range: 1 };
    IdMapping::of(user).and_then(|mapping| mapping.tree(folder)).is_ok()
}

/// Any id will do to try it out.
const PROBE_ID: u32 = 65_536;
