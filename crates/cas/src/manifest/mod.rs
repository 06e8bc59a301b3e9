//! The list of paths that is an artifact.
//!
//! A manifest says which files, directories and symbolic links an artifact consists of, and which blob holds each file. It is
//! a blob itself, and the digest of its [encoding](Manifest::encode) names the artifact. Two trees with the same names,
//! contents and executable bits have the same manifest, whoever made them, when, and in which order.
//!
//! An artifact that is one file is a manifest whose only entry is a file with the empty path.
//!
//! Invariants, checked by [`Manifest::from_entries`] and by decoding: entries are in tree order without duplicates; every
//! entry's parent is listed, as a directory; no path is absolute, climbs (`..`) or is longer than the limits; a symbolic link
//! points inside the tree, even when other links are followed on the way.

mod encoding;
mod path;

use std::cmp::Ordering;

use flowyard_model::Digest;

pub use path::{MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES};

use crate::error::StoreError;
use crate::hashing::digest_bytes;

/// The most entries one manifest may have.
pub const MAX_ENTRIES: usize = 16 * 1024 * 1024;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// The blob with its bytes.
        digest: Digest,
        /// Whether its mode is 755 (otherwise 644).
        executable: bool,
    },
    /// A directory; its mode is 755.
    Directory,
    /// A symbolic link to this target, relative to the link's own directory.
    Symlink {
        /// The target as written, never absolute.
        target: Vec<u8>,
    },
}

/// One path of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names joined by `/`, relative to the artifact's root. Empty only for an artifact that is one file.
    pub path: Vec<u8>,
    /// What lies there.
    pub kind: EntryKind,
}

/// Why some entries, or some bytes, are not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The header is not that of a manifest.
    #[error("it does not start as a manifest does")]
    NotAManifest,
    /// The format is newer than this program.
    #[error("it has format version {0}, this program reads version {known}; upgrade this program", known = encoding::VERSION)]
    Version(u8),
    /// It uses something this version reserves.
    #[error("entry {0} uses a chunk list, which this program does not read; upgrade this program")]
    Chunked(usize),
    /// It ends in the middle.
    #[error("it is cut off after {0} bytes")]
    Truncated(usize),
    /// There is more after the last entry.
    #[error("{0} bytes follow its last entry")]
    Trailing(usize),
    /// A field has a value that the format does not know.
    #[error("entry {entry} has {value} as its {field}")]
    Field {
        /// Number of the entry.
        entry: usize,
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u8,
    },
    /// Too many entries.
    #[error("it has {0} entries, the limit is {MAX_ENTRIES}")]
    TooManyEntries(usize),
    /// A path is not allowed.
    #[error("`{path}` is not a path of an artifact: {problem}")]
    Path {
        /// The path, with strange bytes escaped.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two entries with one path, or entries out of order.
    #[error("`{0}` is listed twice or out of order")]
    Order(String),
    /// An entry without its directory.
    #[error("`{0}` lies in something that is not listed as a directory")]
    Orphan(String),
    /// A symbolic link that leads out of the tree.
    #[error("the symbolic link `{path}` points to `{target}`: {problem}")]
    Link {
        /// The link.
        path: String,
        /// Its target.
        target: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl ManifestError {
    /// Whether a newer program may have written it. Otherwise it is no manifest and never will be one: its name says what its bytes are.
    pub fn may_be_newer(&self) -> bool {
        matches!(self, Self::Version(_) | Self::Chunked(_))
    }
}

/// What a manifest amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Number of files.
    pub files: u64,
    /// Number of directories, the root not counted.
    pub directories: u64,
    /// Number of symbolic links.
    pub symlinks: u64,
    /// Bytes of all files, each path counted.
    pub bytes: u64,
}

/// The checked, ordered list of an artifact's paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    entries: Vec<Entry>,
}

impl Manifest {
    /// A manifest of these entries, which may come in any order.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        entries.sort_by(|left, right| tree_order(&left.path, &right.path));
        Self::from_ordered(entries)
    }

    /// An artifact that is one file.
    pub fn file(digest: Digest, executable: bool) -> Self {
        Self { entries: vec![Entry { path: Vec::new(), kind: EntryKind::File { digest, executable } }] }
    }

    /// A directory with one artifact under each name, made without reading any file. A name without a manifest is left out.
    pub fn join(parts: Vec<(String, Option<Manifest>)>) -> Result<Self, ManifestError> {
        let mut entries = Vec::new();
        for (name, part) in parts {
            let Some(part) = part else { continue };
            if name.contains('/') {
                return Err(ManifestError::Path { path: printable(name.as_bytes()), problem: "a name has no slash" });
            }
            part.nest_under(name.as_bytes(), &mut entries);
        }
        Self::from_entries(entries)
    }

    /// The entries in tree order: a directory, then everything in it, then its next sibling.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `path`, if there is one.
    pub fn entry(&self, path: &[u8]) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| tree_order(&entry.path, path)).ok()?;
        Some(&self.entries[at])
    }

    /// The file, when the artifact is one file.
    pub fn root_file(&self) -> Option<(Digest, bool)> {
        match self.entries.first() {
            Some(Entry { path, kind: EntryKind::File { digest, executable } }) if path.is_empty() => {
                Some((*digest, *executable))
            }
            _ => None,
        }
    }

    /// The blobs of all files, in tree order; a blob that is used twice comes twice.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        self.entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::File { digest, .. } => Some(*digest),
            _ => None,
        })
    }

    /// Counts and bytes.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for entry in &self.entries {
            match &entry.kind {
                EntryKind::File { digest, .. } => {
                    summary.files += 1;
                    summary.bytes = summary.bytes.saturating_add(digest.length);
                }
                EntryKind::Directory => summary.directories += 1,
                EntryKind::Symlink { .. } => summary.symlinks += 1,
            }
        }
        summary
    }

    /// The one encoding of this manifest: the bytes of its blob.
    pub fn encode(&self) -> Vec<u8> {
        encoding::encode(&self.entries)
    }

    /// Reads an encoding back. Any bytes may be given; only the encoding that [`Manifest::encode`] would write is accepted.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        Self::from_ordered(encoding::decode(bytes)?)
    }

    /// The blobs that the manifest of this digest lists. None if it is no manifest: whoever named it as one was wrong or lied, and
    /// must not stand in the way of others.
    ///
    /// # Errors
    /// When a newer program wrote it: what it lists is not known here.
    pub fn listed(digest: Digest, bytes: &[u8]) -> Result<Vec<Digest>, StoreError> {
        match Self::decode(bytes) {
            Ok(manifest) => Ok(manifest.blobs().collect()),
            Err(source) if source.may_be_newer() => Err(StoreError::Manifest { digest, source }),
            Err(error) => {
                tracing::warn!(%digest, %error, "what is named as an artifact is none, and lists nothing");
                Ok(Vec::new())
            }
        }
    }

    /// What names the artifact: the digest of the encoding.
    pub fn digest(&self) -> Digest {
        digest_bytes(&self.encode())
    }

    fn nest_under(self, name: &[u8], entries: &mut Vec<Entry>) {
        if self.root_file().is_none() {
            entries.push(Entry { path: name.to_vec(), kind: EntryKind::Directory });
        }
        for entry in self.entries {
            let mut path = Vec::with_capacity(name.len() + 1 + entry.path.len());
            path.extend_from_slice(name);
            if !entry.path.is_empty() {
                path.push(b'/');
                path.extend_from_slice(&entry.path);
            }
            entries.push(Entry { path, kind: entry.kind });
        }
    }

    /// Checks every invariant of the module in one pass.
    fn from_ordered(entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if entries.len() > MAX_ENTRIES {
            return Err(ManifestError::TooManyEntries(entries.len()));
        }
        let mut open_directories: Vec<&[u8]> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            if entry.path.is_empty() {
                check_root(&entries)?;
                continue;
            }
            path::check_path(&entry.path)?;
            let in_order = index == 0 || tree_order(&entries[index - 1].path, &entry.path) == Ordering::Less;
            if !in_order {
                return Err(ManifestError::Order(printable(&entry.path)));
            }
            let parent = parent_of(&entry.path);
            while open_directories.last().is_some_and(|open| *open != parent) {
                open_directories.pop();
            }
            if open_directories.is_empty() && !parent.is_empty() {
                return Err(ManifestError::Orphan(printable(&entry.path)));
            }
            match &entry.kind {
                EntryKind::Directory => open_directories.push(&entry.path),
                EntryKind::Symlink { target } => path::check_link(&entry.path, target)?,
                EntryKind::File { .. } => {}
            }
        }
        Ok(Self { entries })
    }
}

/// The empty path names the artifact itself, which then is one file and nothing else.
fn check_root(entries: &[Entry]) -> Result<(), ManifestError> {
    match (entries.len(), &entries[0].kind) {
        (1, EntryKind::File { .. }) => Ok(()),
        _ => Err(ManifestError::Path { path: String::new(), problem: "it is empty, and the artifact is not one file" }),
    }
}

/// The path of the directory that `path` lies in.
pub(crate) fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&[], |slash| &path[..slash])
}

/// Orders paths name by name, so that what lies in a directory follows it at once (`a`, `a/b`, `a-b`).
pub(crate) fn tree_order(left: &[u8], right: &[u8]) -> Ordering {
    // The slash counts as the smallest byte; NUL, the only smaller one, is in no path.
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    left.iter().map(key).cmp(right.iter().map(key))
}

/// A path as it may be shown on a terminal.
pub(crate) fn printable(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
