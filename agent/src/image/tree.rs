//! The folder an image is unpacked into. Every operation resolves its path with the folder as root, as the container will: a link
//! in one layer cannot lead a later entry out of it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, linkat, mkdirat, openat,
    openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::ImageError;

/// The bits of a mode that are kept: set-user-id means nothing in a container, and folders stay open to their owner.
const MODE_KEPT: u32 = 0o1777;

/// An image being unpacked.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
}

/// A place in the tree: an opened folder and a name in it.
struct Place {
    folder: OwnedFd,
    name: OsString,
}

impl Place {
    /// The place as a path that only this process understands, and that cannot be redirected.
    fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.folder.as_raw_fd().to_string()).join(&self.name)
    }

    fn kind(&self) -> Option<FileType> {
        let stat = statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    }

    fn clear(&self) -> io::Result<()> {
        match self.kind() {
            None => Ok(()),
            Some(FileType::Directory) => fs::remove_dir_all(self.path()),
            Some(_) => Ok(unlinkat(&self.folder, &self.name, AtFlags::empty())?),
        }
    }
}

impl Tree {
    pub(crate) fn open(folder: &Path) -> Result<Self, ImageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat2(CWD, folder, flags, Mode::empty(), ResolveFlags::empty());
        Ok(Self { root: root.map_err(|errno| ImageError::io("open folder", folder, errno.into()))? })
    }

    pub(crate) fn folder(&self, path: &Path, mode: u32) -> Result<(), ImageError> {
        self.at(path, |place| {
            if place.kind() != Some(FileType::Directory) {
                place.clear()?;
                mkdirat(&place.folder, &place.name, Mode::from_raw_mode(0o755))?;
            }
            let mode = Mode::from_raw_mode(mode & MODE_KEPT | 0o700);
            Ok(rustix::fs::chmodat(&place.folder, &place.name, mode, AtFlags::empty())?)
        })
    }

    /// A new file, in place of whatever is there.
    pub(crate) fn file(&self, path: &Path, mode: u32) -> Result<File, ImageError> {
        self.at(path, |place| {
            place.clear()?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(&place.folder, &place.name, flags, Mode::from_raw_mode(0o600))?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & MODE_KEPT))?;
            Ok(File::from(file))
        })
    }

    pub(crate) fn link(&self, path: &Path, to: &Path) -> Result<(), ImageError> {
        self.at(path, |place| {
            place.clear()?;
            Ok(symlinkat(to, &place.folder, &place.name)?)
        })
    }

    /// A second name of a file of the tree.
    pub(crate) fn hard_link(&self, path: &Path, to: &Path) -> Result<(), ImageError> {
        let source = self.place(to).map_err(|source| ImageError::io("find in the image", to, source))?;
        self.at(path, |place| {
            let same = |place: &Place| statat(&place.folder, &place.name, AtFlags::SYMLINK_NOFOLLOW).ok();
            if let (Some(from), Some(there)) = (same(&source), same(&place))
                && (from.st_dev, from.st_ino) == (there.st_dev, there.st_ino)
            {
                return Ok(());
            }
            place.clear()?;
            Ok(linkat(&source.folder, &source.name, &place.folder, &place.name, AtFlags::empty())?)
        })
    }

    /// Removes what a lower layer has there.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), ImageError> {
        self.at(path, |place| place.clear())
    }

    /// The names in a folder; none if it is not there.
    pub(crate) fn names(&self, path: &Path) -> Result<Vec<OsString>, ImageError> {
        let listed = self.place(path).and_then(|place| match place.kind() {
            Some(FileType::Directory) => fs::read_dir(place.path())?.map(|entry| Ok(entry?.file_name())).collect(),
            _ => Ok(Vec::new()),
        });
        listed.map_err(|source| ImageError::io("list", path, source))
    }

    /// Programs compare times of files, e.g. to see whether something compiled is still fresh.
    pub(crate) fn set_time(&self, path: &Path, seconds: i64) -> Result<(), ImageError> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
        };
        self.at(path, |place| Ok(utimensat(&place.folder, &place.name, &times, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    fn at<T>(&self, path: &Path, act: impl FnOnce(Place) -> io::Result<T>) -> Result<T, ImageError> {
        self.place(path).and_then(act).map_err(|source| ImageError::io("unpack", path, source))
    }

    /// Opens the folder of `path`, making it when it is missing. `path` has only plain names.
    fn place(&self, path: &Path) -> io::Result<Place> {
        let name = path.file_name().unwrap_or(OsStr::new(".")).to_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        let mut folder = self.open_folder(Path::new("."))?;
        match self.open_folder(parent) {
            Ok(found) => return Ok(Place { folder: found, name }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut at = PathBuf::new();
        for part in parent {
            at.push(part);
            folder = match self.open_folder(&at) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match mkdirat(&folder, part, Mode::from_raw_mode(0o755)) {
                        // A link that leads nowhere is there: what it names inside the image cannot be guessed.
                        Err(Errno::EXIST) => return Err(error),
                        made => made?,
                    }
                    self.open_folder(&at)?
                }
                other => other?,
            };
        }
        Ok(Place { folder, name })
    }

    fn open_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }
}
