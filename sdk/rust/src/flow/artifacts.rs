//! Where the paths and lists of a flow go when it is submitted.

use std::error::Error;
use std::path::Path;

use flowyard_model::Digest;

/// Stores what a flow names, and says under which digest. Called once per distinct path.
pub trait Artifacts {
    /// A file or folder of the user: an input or an image. Returns the digest of its manifest.
    ///
    /// # Errors
    /// Why it cannot be stored, in words for the user.
    fn path(&mut self, path: &Path) -> Result<Digest, ArtifactError>;

    /// A folder of code, with what ignore files exclude left out. Returns the digest of its manifest.
    ///
    /// # Errors
    /// Why it cannot be stored, in words for the user.
    fn code(&mut self, folder: &Path) -> Result<Digest, ArtifactError>;

    /// An encoded item list. Returns the digest of the blob.
    ///
    /// # Errors
    /// Why it cannot be stored, in words for the user.
    fn items(&mut self, blob: Vec<u8>) -> Result<Digest, ArtifactError>;
}

/// Why something cannot be stored; its text, with the texts of its sources, is for the user.
pub type ArtifactError = Box<dyn Error + Send + Sync>;
