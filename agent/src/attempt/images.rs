//! Unpacked images of this node: each once, named by the digest of its manifest.

use std::path::{Path, PathBuf};

use flowyard_model::Digest;
use tokio::sync::Mutex;

use crate::image::{ImageConfig, ImageError, ImageLimits, unpack};

/// The folder of unpacked images. One image is unpacked at a time, so that no two attempts unpack the same.
#[derive(Debug)]
pub struct Images {
    folder: PathBuf,
    unpacking: Mutex<()>,
}

/// Why there is no unpacked image.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// What the user gave is no image that can be run.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The node could not do it.
    #[error("{0}")]
    Fault(String),
}

impl Images {
    /// Images in this folder.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder, unpacking: Mutex::new(()) }
    }

    /// The unpacked image of a packed one, which lies at `packed`.
    pub async fn unpacked(&self, packed: &Path, manifest: &Digest) -> Result<(PathBuf, ImageConfig), UnpackError> {
        let _alone = self.unpacking.lock().await;
        let (packed, folder, name) = (packed.to_owned(), self.folder.clone(), manifest.to_string());
        let done = tokio::task::spawn_blocking(move || unpacked(&packed, &folder, &name)).await;
        done.map_err(|panic| UnpackError::Fault(panic.to_string()))?
    }
}

/// The configuration is written last, so its presence says that the tree is whole.
fn unpacked(packed: &Path, folder: &Path, name: &str) -> Result<(PathBuf, ImageConfig), UnpackError> {
    let fault = |error: std::io::Error| UnpackError::Fault(format!("{}: {error}", folder.display()));
    let (tree, config) = (folder.join(name), folder.join(format!("{name}.json")));
    if let Ok(bytes) = std::fs::read(&config) {
        let read = serde_json::from_slice(&bytes).map_err(|error| UnpackError::Fault(error.to_string()))?;
        return Ok((tree, read));
    }
    std::fs::create_dir_all(folder).map_err(fault)?;
    if tree.exists() {
        std::fs::remove_dir_all(&tree).map_err(fault)?;
    }
    let read = unpack(packed, &tree, ImageLimits::USUAL)?;
    let bytes = serde_json::to_vec(&read).map_err(|error| UnpackError::Fault(error.to_string()))?;
    std::fs::write(&config, bytes).map_err(fault)?;
    Ok((tree, read))
}
