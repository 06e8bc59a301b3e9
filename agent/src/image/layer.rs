//! Applying one layer: entries, and the marks that hide what lower layers have.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::archive::Archive;
use super::manifest::{self, Layer};
use super::tree::Tree;
use super::{ImageError, ImageLimits};

/// A name with this beginning hides the rest of the name in lower layers.
const WHITEOUT: &[u8] = b".wh.";

/// This name hides everything that lower layers have in its folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Longest path of an entry.
const PATH_BYTES_MAX: usize = 4096;

/// Reads a layer and hashes what it reads.
struct Hashing<R> {
    source: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// What may still be unpacked.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: ImageLimits,
    left: ImageLimits,
}

impl Budget {
    pub(crate) fn new(limits: ImageLimits) -> Self {
        Self { limits, left: limits }
    }

    /// Takes one entry of this size.
    fn take(&mut self, bytes: u64) -> Result<(), ImageError> {
        let too_many = ImageError::TooLarge { limit: self.limits.entries, unit: "entries" };
        let too_large = ImageError::TooLarge { limit: self.limits.bytes, unit: "bytes" };
        self.left.entries = self.left.entries.checked_sub(1).ok_or(too_many)?;
        self.left.bytes = self.left.bytes.checked_sub(bytes).ok_or(too_large)?;
        Ok(())
    }
}

/// Applies a layer; takes what it uses off the budget.
pub(crate) fn apply(archive: &Archive, layer: &Layer, tree: &Tree, budget: &mut Budget) -> Result<(), ImageError> {
    let malformed = |error: io::Error| ImageError::malformed(&layer.part, error);
    let compressed = BufReader::with_capacity(1 << 20, archive.part(&layer.part)?);
    let mut hashing = Hashing { source: decompressed(compressed).map_err(malformed)?, hasher: Sha256::new() };
    let mut applied = Applied { tree, made: BTreeSet::new() };
    let mut tar = tar::Archive::new(&mut hashing);
    for entry in tar.entries().map_err(malformed)? {
        let mut entry = entry.map_err(malformed)?;
        budget.take(entry.size())?;
        applied.entry(&mut entry, &layer.part)?;
    }
    // The end marks of a tar file are part of what is hashed.
    io::copy(&mut hashing, &mut io::sink()).map_err(malformed)?;
    manifest::check(&layer.part, &layer.diff_id, hashing.hasher.finalize().as_slice())
}

/// Told by its first bytes: what media types say is often wrong.
fn decompressed<'a>(mut source: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let start = source.fill_buf()?;
    if start.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(source)))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(source)?))
    } else {
        Ok(Box::new(source))
    }
}

/// A layer while it is applied.
struct Applied<'a> {
    tree: &'a Tree,
    /// What this layer has made: marks hide only what lower layers have.
    made: BTreeSet<PathBuf>,
}

impl Applied<'_> {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, part: &str) -> Result<(), ImageError> {
        let malformed = |error: io::Error| ImageError::malformed(part, error);
        let path = inside(&entry.path_bytes())?;
        let name = path.file_name().unwrap_or_default().as_bytes().to_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        if name == OPAQUE {
            return self.hide_all(parent);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.hide(&parent.join(inside(hidden)?));
        }
        let mode = entry.header().mode().map_err(malformed)?;
        match entry.header().entry_type() {
            tar::EntryType::Directory => self.tree.folder(&path, mode)?,
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let mut file = self.tree.file(&path, mode)?;
                io::copy(entry, &mut file).map_err(|source| ImageError::io("unpack", &path, source))?;
                drop(file);
                let seconds = entry.header().mtime().unwrap_or(0);
                self.tree.set_time(&path, i64::try_from(seconds).unwrap_or(0))?;
            }
            tar::EntryType::Symlink => {
                let to = entry.link_name_bytes().unwrap_or_default();
                self.tree.link(&path, Path::new(OsStr::from_bytes(&to)))?;
            }
            tar::EntryType::Link => {
                let to = entry.link_name_bytes().unwrap_or_default();
                self.tree.hard_link(&path, &inside(&to)?)?;
            }
            // Devices and pipes: a container gets its devices from elsewhere.
            _ => return Ok(()),
        }
        self.made.insert(path);
        Ok(())
    }

    fn hide(&self, path: &Path) -> Result<(), ImageError> {
        if self.is_made(path) { Ok(()) } else { self.tree.remove(path) }
    }

    fn hide_all(&self, folder: &Path) -> Result<(), ImageError> {
        for name in self.tree.names(folder)? {
            self.hide(&folder.join(name))?;
        }
        Ok(())
    }

    /// Whether this layer made the path or something below it.
    fn is_made(&self, path: &Path) -> bool {
        self.made.range(path.to_owned()..).next().is_some_and(|next| next.starts_with(path))
    }
}

/// An entry's path below the root of the image; refuses one that leads out of it.
fn inside(bytes: &[u8]) -> Result<PathBuf, ImageError> {
    let escape = || ImageError::Escape { path: String::from_utf8_lossy(bytes).chars().take(200).collect() };
    if bytes.len() > PATH_BYTES_MAX || bytes.contains(&0) {
        return Err(escape());
    }
    let mut clean = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(escape()),
        }
    }
    Ok(clean)
}
