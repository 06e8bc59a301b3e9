//! The private folders of one container on the host's disk: made before it, removed after it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::RuntimeError;
use super::spec::{ContainerSpec, LaunchSpec, Root};
use super::tree_root::Layer;

/// Private folders of one container.
#[derive(Debug, Clone)]
pub(crate) struct Scratch {
    /// Where they all lie.
    pub(crate) folder: PathBuf,
    /// Becomes `/tmp` and `/var/tmp`.
    pub(crate) tmp: PathBuf,
    /// Becomes the home.
    pub(crate) home: PathBuf,
}

impl Scratch {
    /// The folders of an attempt.
    pub(crate) fn of(launch: &LaunchSpec) -> Self {
        let folder = launch.folder.join("scratch");
        Self { tmp: folder.join("tmp"), home: folder.join("home"), folder }
    }

    /// The image of a container and its writable layer, if it has one.
    pub(crate) fn layer(&self, container: &ContainerSpec) -> Option<(PathBuf, Layer)> {
        match &container.root {
            Root::Host { .. } => None,
            Root::Tree { lower, .. } => {
                // A runtime binary makes the container as the host's root, to whom its layer then belongs.
                let owner = container.user.root().filter(|_| container.oci_runtime.is_none());
                Some((lower.clone(), Layer::below(&self.folder, owner)))
            }
        }
    }

    /// Makes the folders.
    pub(crate) fn make(&self, container: &ContainerSpec) -> Result<(), RuntimeError> {
        make_folder(&self.folder, 0o755)?;
        for path in [&self.tmp, &self.home] {
            make_folder(path, 0o700)?;
            if nix::unistd::geteuid().is_root() {
                let (uid, gid) = (container.user.host_uid, container.user.host_gid);
                chown(path, Some(uid), Some(gid)).map_err(|source| failed("give away", path, source))?;
            }
        }
        match self.layer(container) {
            Some((_, layer)) => layer.make(),
            None => Ok(()),
        }
    }

    /// Removes them with all that the task left there, also folders that it has closed to itself. Idempotent.
    pub(crate) fn remove(&self) -> Result<(), RuntimeError> {
        let removed = match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_folders(&self.folder);
                fs::remove_dir_all(&self.folder)
            }
            other => other,
        };
        match removed {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", &self.folder, source)),
            _ => Ok(()),
        }
    }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), RuntimeError> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(failed("make folder", path, source)),
        _ => Ok(()),
    }
}

fn open_folders(folder: &Path) {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        // A folder that cannot be opened makes the removal fail, which says which one.
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> RuntimeError {
    RuntimeError::Path { what, path: path.to_owned(), source }
}
