//! Why an image could not be unpacked.

use std::io;
use std::path::{Path, PathBuf};

/// Why an image could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file operation failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file is none of the known formats.
    #[error("{} is not an image: expected an OCI layout (a folder or a tar file) or what docker save writes{hint}", path.display())]
    Unknown {
        /// The file or folder.
        path: PathBuf,
        /// What else could be said.
        hint: &'static str,
    },
    /// A part that another part names is missing.
    #[error("the image is incomplete: {0} is missing")]
    Missing(String),
    /// A part cannot be read.
    #[error("{name} of the image cannot be read: {reason}")]
    Malformed {
        /// Which part.
        name: String,
        /// Why.
        reason: String,
    },
    /// The image has no variant for this machine.
    #[error("the image has no variant for linux/{wanted}; it has {found}")]
    Platform {
        /// This machine's architecture, in the words of images.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// Content and digest differ.
    #[error("{name} of the image is damaged: its digest is {found}, expected {expected}")]
    Damaged {
        /// Which part.
        name: String,
        /// What the image says.
        expected: String,
        /// What was read.
        found: String,
    },
    /// An entry of a layer would leave the image.
    #[error("a layer of the image has an entry with the path {path:?}, which leads out of the image")]
    Escape {
        /// The entry's path.
        path: String,
    },
    /// The image is larger than allowed.
    #[error("the image is too large: more than {limit} {unit}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
}

impl ImageError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }

    pub(crate) fn malformed(name: &str, reason: impl ToString) -> Self {
        Self::Malformed { name: name.to_owned(), reason: reason.to_string() }
    }
}
