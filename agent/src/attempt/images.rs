//! Unpacked images of this node: each once, named by the digest of its manifest.
//!
//! Owns the folder of images: what is unpacked into it and when it is removed again. Must not: know what an attempt does with one.
//!
//! Invariants: an image whose configuration is there is whole. One that a live attempt uses is not removed: an attempt of this
//! agent holds an [`ImageUse`], and one that was adopted has said in its folder what it runs on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use flowyard_model::Digest;
use tokio::sync::Mutex;

use super::launched;
use crate::image::{ImageConfig, ImageError, ImageLimits, unpack};
use crate::runtime::spec::{LaunchSpec, Root, Sandbox};

/// Most images kept that nobody uses.
const UNUSED_MAX: usize = 16;

/// Images that nobody uses go while less than this part of the disk is free.
const FREE_PART: u64 = 10;

/// Ending of the file beside an image that holds its configuration.
const CONFIG: &str = "json";

/// The images of one agent. One is unpacked at a time, so that no two attempts unpack the same.
#[derive(Debug)]
pub struct Images {
    folder: PathBuf,
    attempts: PathBuf,
    uses: Arc<Mutex<Uses>>,
}

/// Names of images with who holds them.
type Uses = BTreeMap<String, Weak<()>>;

/// Keeps an image from being removed.
#[derive(Debug)]
pub(super) struct ImageUse {
    _held: Arc<()>,
}

/// An image ready to run on.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// Its folder.
    pub tree: PathBuf,
    /// What of its configuration is used.
    pub config: ImageConfig,
    /// To be held as long as something runs on it.
    pub held: ImageUse,
}

/// Why there is no unpacked image.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// What the user gave is no image that can be run.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The node could not do it.
    #[error("{0}")]
    Fault(String),
}

impl Images {
    /// Images in this folder, used by attempts whose folders are in `attempts`.
    pub fn in_folder(folder: PathBuf, attempts: PathBuf) -> Self {
        Self { folder, attempts, uses: Arc::default() }
    }

    /// The unpacked image of a packed one, which lies at `packed`.
    ///
    /// Whoever asks may give up waiting; the unpacking goes on, and the next one waits for its end.
    pub(super) async fn unpacked(&self, packed: &Path, manifest: &Digest) -> Result<Unpacked, UnpackError> {
        let mut uses = Arc::clone(&self.uses).lock_owned().await;
        let (packed, name) = (packed.to_owned(), manifest.to_string());
        let shelf = Shelf { folder: self.folder.clone(), attempts: self.attempts.clone() };
        let done = tokio::task::spawn_blocking(move || {
            let (tree, config) = shelf.bring(&packed, &name, &mut uses)?;
            let held = uses.get(&name).and_then(Weak::upgrade).unwrap_or_default();
            uses.insert(name, Arc::downgrade(&held));
            Ok(Unpacked { tree, config, held: ImageUse { _held: held } })
        });
        done.await.map_err(|panic| UnpackError::Fault(panic.to_string()))?
    }
}

/// The folders, as the one who has the lock sees them.
struct Shelf {
    folder: PathBuf,
    attempts: PathBuf,
}

impl Shelf {
    /// Finds the image or unpacks it, after making room for it.
    fn bring(&self, packed: &Path, name: &str, uses: &mut Uses) -> Result<(PathBuf, ImageConfig), UnpackError> {
        let fault = |error: io::Error| UnpackError::Fault(format!("{}: {error}", self.folder.display()));
        let (tree, config) = (self.folder.join(name), self.config(name));
        if let Ok(bytes) = std::fs::read(&config) {
            let read = serde_json::from_slice(&bytes).map_err(|error| UnpackError::Fault(error.to_string()))?;
            touch(&config);
            return Ok((tree, read));
        }
        std::fs::create_dir_all(&self.folder).map_err(fault)?;
        self.tidy(uses).map_err(fault)?;
        let read = unpack(packed, &tree, ImageLimits::USUAL)?;
        let bytes = serde_json::to_vec(&read).map_err(|error| UnpackError::Fault(error.to_string()))?;
        // By rename, so that no configuration is ever half there.
        let beside = self.folder.join(format!("{name}.tmp"));
        std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, &config)).map_err(fault)?;
        Ok((tree, read))
    }

    fn config(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{CONFIG}"))
    }

    /// Removes what is not whole, and of what nobody uses the least recently used: too many of them, or all while the disk is
    /// nearly full.
    fn tidy(&self, uses: &mut Uses) -> io::Result<()> {
        let whole = self.whole()?;
        self.remove_torn(&whole)?;
        uses.retain(|_, held| held.strong_count() > 0);
        let adopted = self.adopted();
        let mut unused: Vec<_> = whole
            .into_iter()
            .filter(|(name, _)| !uses.contains_key(name) && !adopted.contains(&self.folder.join(name)))
            .collect();
        unused.sort_by_key(|(_, used)| *used);
        let mut left = unused.len();
        for (name, _) in unused {
            if left < UNUSED_MAX && !is_nearly_full(&self.folder) {
                break;
            }
            // Without its configuration it counts as torn, should we be stopped in between.
            std::fs::remove_file(self.config(&name))?;
            std::fs::remove_dir_all(self.folder.join(&name))?;
            left -= 1;
        }
        Ok(())
    }

    /// The names of all whole images, with when each was last asked for.
    fn whole(&self) -> io::Result<BTreeMap<String, SystemTime>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let file = entry.file_name();
            if let Some(name) = file.to_string_lossy().strip_suffix(&format!(".{CONFIG}")) {
                found.insert(name.to_owned(), entry.metadata()?.modified()?);
            }
        }
        Ok(found)
    }

    /// What an agent left that was stopped while it unpacked: nobody else unpacks while we have the lock.
    fn remove_torn(&self, whole: &BTreeMap<String, SystemTime>) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let file = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if !whole.contains_key(&file) {
                    std::fs::remove_dir_all(entry.path())?;
                }
            } else if !file.ends_with(&format!(".{CONFIG}")) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The images on which attempts run, whoever started them.
    fn adopted(&self) -> BTreeSet<PathBuf> {
        let folders = std::fs::read_dir(&self.attempts).into_iter().flatten().flatten();
        folders.filter_map(|entry| image_of(launched(&entry.path())?)).collect()
    }
}

fn image_of(launch: LaunchSpec) -> Option<PathBuf> {
    match launch.sandbox {
        Sandbox::Container(container) => match container.root {
            Root::Tree { lower, .. } => Some(lower),
            Root::Host { .. } => None,
        },
        Sandbox::Process => None,
    }
}

/// Notes that the image was asked for; without the note it may be removed a little early.
fn touch(config: &Path) {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let _ = rustix::fs::utimensat(rustix::fs::CWD, config, &times, rustix::fs::AtFlags::empty());
}

fn is_nearly_full(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|disk| disk.f_bavail < disk.f_blocks / FREE_PART)
}

#[cfg(test)]
mod tests;
