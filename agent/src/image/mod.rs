//! Local images: an OCI layout (a folder or a tar file) or what `docker save` writes, unpacked into a folder.
//!
//! Owns: reading the formats and applying layers. Must not: fetch anything, or know how the folder is run.
//!
//! An image is not trusted: no entry of a layer may write outside the target, by whatever path or link, and sizes are bounded.
//! Of an image's configuration only variables and the working directory are used; its entry point, command, user, volumes and
//! ports are not: a step says itself what it runs. Owners, devices, extended attributes and set-user-id bits are dropped.
//!
//! Invariant: the target either does not exist or holds the whole image, every layer checked against its digest.

mod archive;
mod error;
mod layer;
mod manifest;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::archive::Archive;
pub use self::error::ImageError;
use self::tree::Tree;

/// What of an image's configuration is used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Variables that a task gets where its step does not set them.
    pub env: Vec<(String, String)>,
    /// Working directory where the step has no code of its own.
    pub workdir: Option<PathBuf>,
}

/// How large an image may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// All files of all layers together, in bytes.
    pub bytes: u64,
    /// All entries of all layers together.
    pub entries: u64,
}

impl ImageLimits {
    /// Enough for the large images of machine learning, small enough to stop a bomb.
    pub const USUAL: Self = Self { bytes: 128 << 30, entries: 4_000_000 };
}

/// Unpacks the image at `source` into `target`, which must not exist. Its parent must.
pub fn unpack(source: &Path, target: &Path, limits: ImageLimits) -> Result<ImageConfig, ImageError> {
    let archive = Archive::open(source)?;
    let image = manifest::read(&archive)?;
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = target.with_file_name(name);
    let unpacked = unpack_layers(&archive, &image, &partial, limits)
        .and_then(|()| fs::rename(&partial, target).map_err(|source| ImageError::io("put in place", target, source)));
    if unpacked.is_err() {
        // What is left of a failed attempt helps nobody; if it cannot be removed, the first error says more.
        let _ = fs::remove_dir_all(&partial);
    }
    unpacked.map(|()| image.config)
}

fn unpack_layers(
    archive: &Archive,
    image: &manifest::Image,
    partial: &Path,
    limits: ImageLimits,
) -> Result<(), ImageError> {
    fs::create_dir(partial).map_err(|source| ImageError::io("make folder", partial, source))?;
    let tree = Tree::open(partial)?;
    let mut budget = layer::Budget::new(limits);
    for layer in &image.layers {
        layer::apply(archive, layer, &tree, &mut budget)?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
