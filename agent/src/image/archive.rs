//! The parts of an image by name, whether they lie in a folder or in a tar file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Take};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use super::ImageError;

/// Largest part that is read into memory: an index, a manifest, a configuration.
const SMALL_PART_BYTES: u64 = 8 << 20;

/// Most parts of a tar file.
const PARTS_MAX: usize = 100_000;

/// Longest chain of links between parts: `docker save` once wrote repeated layers as links.
const LINKS_MAX: usize = 8;

/// An opened image.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    Folder(std::os::fd::OwnedFd),
    Tar(BTreeMap<PathBuf, Part>),
}

/// Where a part of a tar file is.
#[derive(Debug)]
enum Part {
    Bytes { offset: u64, length: u64 },
    Link(PathBuf),
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        let failed = |source| ImageError::io("open image", path, source);
        let meta = std::fs::metadata(path).map_err(failed)?;
        let parts = if meta.is_dir() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::empty());
            Parts::Folder(folder.map_err(|errno| failed(errno.into()))?)
        } else {
            Parts::Tar(index(path)?)
        };
        Ok(Self { path: path.to_owned(), parts })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.part(name).is_ok()
    }

    /// A part as a stream.
    pub(crate) fn part(&self, name: &str) -> Result<Take<File>, ImageError> {
        match &self.parts {
            Parts::Folder(folder) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let opened = openat2(folder, name, flags, Mode::empty(), ResolveFlags::BENEATH);
                let file = File::from(opened.map_err(|_| ImageError::Missing(name.to_owned()))?);
                let meta = file.metadata().map_err(|source| ImageError::io("look at", Path::new(name), source))?;
                if !meta.is_file() {
                    return Err(ImageError::malformed(name, "it is not a file"));
                }
                Ok(file.take(meta.len()))
            }
            Parts::Tar(parts) => {
                let (offset, length) = locate(parts, name)?;
                let failed = |source| ImageError::io("read image", &self.path, source);
                let mut file = File::open(&self.path).map_err(failed)?;
                file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                Ok(file.take(length))
            }
        }
    }

    /// A small part as a whole.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let part = self.part(name)?;
        if part.limit() > SMALL_PART_BYTES {
            return Err(ImageError::malformed(name, format!("it has {} bytes", part.limit())));
        }
        let mut bytes = Vec::new();
        part.take(SMALL_PART_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|source| ImageError::io("read part", Path::new(name), source))?;
        Ok(bytes)
    }
}

fn locate(parts: &BTreeMap<PathBuf, Part>, name: &str) -> Result<(u64, u64), ImageError> {
    let mut at = PathBuf::from(name);
    for _ in 0..LINKS_MAX {
        match parts.get(&at) {
            Some(Part::Bytes { offset, length }) => return Ok((*offset, *length)),
            Some(Part::Link(to)) => at = to.clone(),
            None => break,
        }
    }
    Err(ImageError::Missing(name.to_owned()))
}

/// Lists the parts of a tar file without reading them.
fn index(path: &Path) -> Result<BTreeMap<PathBuf, Part>, ImageError> {
    let file = File::open(path).map_err(|source| ImageError::io("open image", path, source))?;
    let unknown = |hint| ImageError::Unknown { path: path.to_owned(), hint };
    let mut magic = [0; 2];
    if (&file).read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b] {
        return Err(unknown("; this file is compressed with gzip: unpack it once with gunzip"));
    }
    (&file).rewind().map_err(|source| ImageError::io("read image", path, source))?;
    let mut parts = BTreeMap::new();
    let mut tar = tar::Archive::new(&file);
    for entry in tar.entries_with_seek().map_err(|_| unknown(""))? {
        let entry = entry.map_err(|_| unknown(""))?;
        let Some(name) = entry.path().ok().and_then(|name| normal(&name)) else { continue };
        let link = || entry.link_name().ok().flatten();
        let part = match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                Part::Bytes { offset: entry.raw_file_position(), length: entry.size() }
            }
            tar::EntryType::Symlink => {
                let to = link().and_then(|to| normal(&name.parent().unwrap_or(Path::new("")).join(to)));
                let Some(to) = to else { continue };
                Part::Link(to)
            }
            tar::EntryType::Link => {
                let Some(to) = link().and_then(|to| normal(&to)) else { continue };
                Part::Link(to)
            }
            _ => continue,
        };
        parts.insert(name, part);
        if parts.len() > PARTS_MAX {
            return Err(ImageError::TooLarge { limit: PARTS_MAX as u64, unit: "parts" });
        }
    }
    Ok(parts)
}

/// A part's path without `.` and `..`; `None` when it leads out of the archive.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir if clean.pop() => {}
            Component::ParentDir => return None,
            _ => {}
        }
    }
    Some(clean)
}
