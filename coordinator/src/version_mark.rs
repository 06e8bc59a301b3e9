//! The cluster version that a folder has been part of, in a file of its own: an older program is refused before it opens anything.
//!
//! The log itself says it too, but only once it is read, and whoever does not know the version can then only end the process. The file is
//! written soon after the version was raised, not with it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flowyard_model::ClusterVersion;

/// A folder of a cluster whose version this program does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path} is of a cluster at version {found}, and this program ({release}) knows versions up to {newest}: the cluster was upgraded; \
     start the release that was running here, or a newer one",
    path = folder.display(), release = env!("CARGO_PKG_VERSION"), newest = ClusterVersion::NEWEST
)]
pub struct NewerCluster {
    /// The folder.
    pub folder: PathBuf,
    /// The version of its cluster.
    pub found: ClusterVersion,
}

fn file(folder: &Path) -> PathBuf {
    folder.join("cluster-version")
}

/// Whether this program knows the version that the folder's cluster had when it was last written down.
///
/// # Errors
/// [`NewerCluster`] if not. What cannot be read says nothing, and is left to the log.
pub(crate) fn check(folder: &Path) -> Result<(), NewerCluster> {
    match read(folder) {
        Some(found) if found > ClusterVersion::NEWEST => Err(NewerCluster { folder: folder.to_owned(), found }),
        _ => Ok(()),
    }
}

fn read(folder: &Path) -> Option<ClusterVersion> {
    std::fs::read_to_string(file(folder)).ok()?.trim().parse().ok().map(ClusterVersion)
}

/// Writes down that the cluster has this version; one that is not higher changes nothing.
pub(crate) fn note(folder: &Path, version: ClusterVersion) {
    if read(folder).is_some_and(|known| known >= version) {
        return;
    }
    if let Err(error) = write(folder, version) {
        // It is tried again, and the log says it all the same.
        tracing::warn!(%error, "the cluster's version could not be written down");
    }
}

fn write(folder: &Path, version: ClusterVersion) -> io::Result<()> {
    let beside = folder.join("cluster-version.new");
    let mut written = File::create(&beside)?;
    writeln!(written, "{version}")?;
    written.sync_all()?;
    std::fs::rename(&beside, file(folder))?;
    flowyard_cas::sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_newer_cluster_is_refused_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(folder.path()), Ok(()), "nothing is written down yet");
        note(folder.path(), ClusterVersion::NEWEST);
        assert_eq!(check(folder.path()), Ok(()));
        let newer = ClusterVersion(ClusterVersion::NEWEST.0 + 1);
        note(folder.path(), newer);
        note(folder.path(), ClusterVersion(1));
        let refused = check(folder.path()).unwrap_err();
        assert_eq!(refused.found, newer, "it never goes back");
        let said = refused.to_string();
        assert!(said.contains("the cluster was upgraded") && said.contains(&format!("version {newer}")), "{said}");
    }

    #[test]
    fn a_mark_that_cannot_be_read_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(file(folder.path()), "tw").unwrap();
        assert_eq!(check(folder.path()), Ok(()));
        note(folder.path(), ClusterVersion(2));
        assert_eq!(read(folder.path()), Some(ClusterVersion(2)));
    }
}
