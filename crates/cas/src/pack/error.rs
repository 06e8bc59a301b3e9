//! Why something cannot be packed: what a user reads.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::ManifestError;

/// Why a path cannot be packed. Each message names the path and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// There is nothing at the path.
    #[error("`{}` does not exist; check the spelling, or whether it was written at all", path.display())]
    Absent {
        /// The path given.
        path: PathBuf,
    },
    /// A socket, device or pipe.
    #[error("`{}` is {what}; only files, folders and links can be stored: remove it, or leave it out", path.display())]
    NotPlain {
        /// Where it lies.
        path: PathBuf,
        /// What it is, in words.
        what: &'static str,
    },
    /// It may not be read.
    #[error("`{}` may not be read; give read permission on it (and on the folders above), or leave it out", path.display())]
    Forbidden {
        /// Where it lies.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be read for another reason.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// Where it lies.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The packed path itself is a link.
    #[error("`{}` is a symbolic link to `{}`; write the file or folder itself there", path.display(), target.display())]
    RootLink {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: PathBuf,
    },
    /// A link that leads out of the tree.
    #[error("`{}` is a symbolic link to `{target}`: {problem}; copy what it points to into `{}`, or leave the link out", path.display(), root.display())]
    LinkOut {
        /// The link.
        path: PathBuf,
        /// Its target.
        target: String,
        /// Why it is refused.
        problem: &'static str,
        /// The packed folder.
        root: PathBuf,
    },
    /// The code is not a folder.
    #[error("`{}` is not a folder; `code` names the folder that becomes the working directory", path.display())]
    NotAFolder {
        /// The path given.
        path: PathBuf,
    },
    /// The code is larger than allowed.
    #[error(
        "the code in `{}` is {bytes} bytes in {files} files, the limit is {limit_bytes} bytes; leave out what is not code with a \
         .flowyardignore file (same rules as .gitignore), or pass it as an input. the largest: {}",
        root.display(), listed(largest)
    )]
    TooLarge {
        /// The packed folder.
        root: PathBuf,
        /// Bytes of all files.
        bytes: u64,
        /// Number of files.
        files: u64,
        /// What is allowed.
        limit_bytes: u64,
        /// The largest files, relative to the root, with their bytes; largest first.
        largest: Vec<(PathBuf, u64)>,
    },
    /// More paths than a manifest holds.
    #[error("there are too many files: `{}` is one more than an artifact can list; pack them into an archive", path.display())]
    TooMany {
        /// The path that was one too many.
        path: PathBuf,
    },
    /// An ignore file could not be understood.
    #[error("the folder `{}` cannot be walked", root.display())]
    Ignore {
        /// The packed folder.
        root: PathBuf,
        /// What the walker said.
        source: ignore::Error,
    },
    /// The names do not make a manifest.
    #[error("`{}` cannot be stored as an artifact", root.display())]
    Manifest {
        /// The packed path.
        root: PathBuf,
        /// Why not.
        source: ManifestError,
    },
}

impl PackError {
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Absent { path },
            io::ErrorKind::PermissionDenied => Self::Forbidden { path, source },
            _ => Self::Unreadable { path, source },
        }
    }

    pub(super) fn from_manifest(root: &Path, source: ManifestError) -> Self {
        let root = root.to_owned();
        match source {
            ManifestError::Link { path, target, problem } => {
                Self::LinkOut { path: root.join(path), target, problem, root }
            }
            source => Self::Manifest { root, source },
        }
    }
}

fn listed(largest: &[(PathBuf, u64)]) -> String {
    let mut text = String::new();
    for (index, (path, bytes)) in largest.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{} ({bytes} bytes)", path.display());
    }
    text
}
