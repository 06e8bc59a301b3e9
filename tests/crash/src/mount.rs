//! A [`Medium`] as a file system that any program can use, by FUSE.
//!
//! Nothing is cached on the way: every read, write and sync of a program is one call here, so that the medium knows what was
//! synced and what was not.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

use crate::medium::{Content, Medium, Refused};

const NO_CACHE: Duration = Duration::ZERO;
/// What a free disk says it has, in blocks.
const BLOCKS: u64 = 1 << 20;
const BLOCK_BYTES: u32 = 4096;

/// A mounted medium; dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    medium: Arc<Mutex<Medium>>,
    at: PathBuf,
    _session: BackgroundSession,
}

/// Whether this machine lets us mount, and if not why.
pub fn missing() -> Option<String> {
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if let Err(error) = device {
        return Some(format!("/dev/fuse cannot be opened: {error}"));
    }
    let folder = tempfile::tempdir().ok()?;
    Mounted::at(folder.path()).err().map(|error| format!("a file system cannot be mounted: {error}"))
}

/// Lets this thread, and what it starts, see mounts that nobody else sees: they are gone with it, however it ends.
pub(crate) fn keep_mounts_to_this_thread() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let nothing = None::<&str>;
    nix::mount::mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
}

impl Mounted {
    /// Mounts an empty medium on a folder.
    pub fn at(folder: &Path) -> io::Result<Self> {
        let medium = Arc::new(Mutex::new(Medium::default()));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("flowyard-crash".into())];
        let session = fuser::spawn_mount(Door { medium: medium.clone(), lists: Mutex::default() }, folder, &config)?;
        Ok(Self { medium, at: folder.to_owned(), _session: session })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// The medium, which programs wait for while it is held.
    pub fn medium(&self) -> MutexGuard<'_, Medium> {
        lock(&self.medium)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name in a folder: what it stands for, and what kind of thing that is.
type Listed = (OsString, u64, FileType);

/// Answers the kernel's calls.
struct Door {
    medium: Arc<Mutex<Medium>>,
    /// What an open folder held when it was opened.
    lists: Mutex<BTreeMap<u64, Vec<Listed>>>,
}

impl Door {
    fn medium(&self) -> MutexGuard<'_, Medium> {
        lock(&self.medium)
    }

    fn entry(&self, made: Result<u64, Refused>, reply: ReplyEntry) {
        let medium = self.medium();
        match made.and_then(|number| attributes(&medium, number)) {
            Ok(attributes) => reply.entry(&NO_CACHE, &attributes, Generation(0)),
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn synced(&self, number: u64) -> Result<(), Refused> {
        let delay_ms = self.medium().faults.sync_delay_ms;
        if delay_ms > 0 {
            std::thread::sleep(Duration::from_millis(delay_ms));
        }
        self.medium().sync(number)
    }
}

fn errno(refused: Refused) -> Errno {
    match refused {
        Refused::Absent => Errno::ENOENT,
        Refused::Exists => Errno::EEXIST,
        Refused::WrongKind => Errno::EISDIR,
        Refused::NotEmpty => Errno::ENOTEMPTY,
        Refused::Full => Errno::ENOSPC,
        Refused::Broken => Errno::EIO,
    }
}

fn settle(done: Result<(), Refused>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(refused) => reply.error(errno(refused)),
    }
}

fn attributes(medium: &Medium, number: u64) -> Result<FileAttr, Refused> {
    let node = medium.node(number)?;
    let time = UNIX_EPOCH + Duration::from_millis(node.modified_ms);
    let kind = if node.is_folder() { FileType::Directory } else { FileType::RegularFile };
    Ok(FileAttr {
        ino: INodeNo(number),
        size: node.length(),
        blocks: node.length().div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: node.mode,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    })
}

fn since_epoch_ms(time: TimeOrNow) -> u64 {
    match time {
        TimeOrNow::Now => flowyard_clock::wall_ms(),
        TimeOrNow::SpecificTime(time) => time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
    }
}

impl Filesystem for Door {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.medium().find(parent.0, name);
        self.entry(found, reply);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.medium(), number.0) {
            Ok(attributes) => reply.attr(&NO_CACHE, &attributes),
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut medium = self.medium();
        let set = size.map_or(Ok(()), |size| medium.set_length(number.0, size)).and_then(|()| {
            let node = medium.node_mut(number.0)?;
            node.mode = mode.map_or(node.mode, |mode| (mode & 0o7777) as u16);
            node.modified_ms = modified.map_or(node.modified_ms, since_epoch_ms);
            attributes(&medium, number.0)
        });
        match set {
            Ok(attributes) => reply.attr(&NO_CACHE, &attributes),
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let made = self.medium().create(parent.0, name, (mode & 0o7777) as u16, true);
        self.entry(made, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        settle(self.medium().remove(parent.0, name, false), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        settle(self.medium().remove(parent.0, name, true), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        settle(self.medium().rename((parent.0, name), (to.0, new_name)), reply);
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.medium().link(number.0, parent.0, name);
        self.entry(linked.map(|()| number.0), reply);
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.medium().node(number.0) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        let mut medium = self.medium();
        let made = medium.create(parent.0, name, (mode & !umask & 0o7777) as u16, false);
        match made.and_then(|number| attributes(&medium, number)) {
            Ok(attributes) => {
                let direct = FopenFlags::FOPEN_DIRECT_IO;
                reply.created(&NO_CACHE, &attributes, Generation(0), FileHandle(0), direct);
            }
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.medium().node(number.0).map(|node| &node.content) {
            Ok(Content::File { live, .. }) => {
                let from = live.len().min(offset as usize);
                let to = live.len().min(from + size as usize);
                reply.data(&live[from..to]);
            }
            Ok(Content::Folder { .. }) => reply.error(Errno::EISDIR),
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.medium().write(number.0, offset, bytes) {
            Ok(()) => reply.written(bytes.len() as u32),
            Err(refused) => reply.error(errno(refused)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        settle(self.synced(number.0), reply);
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        settle(self.synced(number.0), reply);
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let medium = self.medium();
        let kind = |number: u64| match medium.node(number) {
            Ok(node) if node.is_folder() => FileType::Directory,
            _ => FileType::RegularFile,
        };
        match medium.names(number.0) {
            Err(refused) => reply.error(errno(refused)),
            Ok(names) => {
                let list = names.iter().map(|(name, number)| (name.clone(), *number, kind(*number))).collect();
                let mut lists = lock(&self.lists);
                let handle = lists.last_key_value().map_or(1, |(handle, _)| handle + 1);
                lists.insert(handle, list);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let lists = lock(&self.lists);
        let list = lists.get(&handle.0).map_or(&[][..], Vec::as_slice);
        for (at, (name, number, kind)) in list.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*number), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        lock(&self.lists).remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCK_BYTES, 255, BLOCK_BYTES);
    }
}
