//! Fetching an artifact into a file or folder that does not exist yet. Blobs are checked against their digests before
//! anything of them is put in place.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use flowyard_cas::{Manifest, Placing, checkout};
use flowyard_model::{Digest, JobId};
use flowyard_sdk::client::Client;

use crate::failure::Failure;

/// Refuses a destination that is there, also as a dangling link.
///
/// # Errors
/// When it exists.
pub(crate) fn must_not_exist(destination: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(destination) {
        Ok(_) => Err(Failure::Usage(format!("{} exists; name another path with --to", destination.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::local(destination.display())(error)),
    }
}

/// Writes the artifact to `destination`.
///
/// # Errors
/// When a blob cannot be had, or something is there or cannot be written.
pub(crate) async fn fetch(
    client: &mut Client,
    job: JobId,
    manifest: &Manifest,
    destination: &Path,
) -> Result<(), Failure> {
    let blobs = Blobs::beside(destination)?;
    for digest in manifest.blobs().collect::<BTreeSet<_>>() {
        let path = blobs.path(&digest);
        let mut sink = BufWriter::new(File::create(&path).map_err(Failure::local(path.display()))?);
        client.download(job, digest, &mut sink).await?;
        sink.flush().map_err(Failure::local(path.display()))?;
    }
    place(manifest, destination, &blobs)
}

fn place(manifest: &Manifest, destination: &Path, blobs: &Blobs) -> Result<(), Failure> {
    must_not_exist(destination)?;
    let written = checkout(manifest, destination, Placing::Copy, &|digest| Some(blobs.path(digest)));
    written.map_err(|error| Failure::Local { path: destination.display().to_string(), source: io::Error::other(error) })
}

/// A private folder beside the destination, so that blobs can become files there without being copied. Gone with its value.
struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    fn beside(destination: &Path) -> Result<Self, Failure> {
        let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = parent.join(format!(".fctl-get-{}", std::process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(Failure::local(folder.display()))?;
        Ok(Self { folder })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        // What is left is in a folder whose name says whose it is.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_overwritten_and_the_blobs_leave_nothing() {
        let home = tempfile::tempdir().unwrap();
        let destination = home.path().join("model");
        let digest = flowyard_cas::digest_bytes(b"weights");
        let manifest = Manifest::file(digest, true);
        let blobs = Blobs::beside(&destination).unwrap();
        fs::write(blobs.path(&digest), b"weights").unwrap();
        place(&manifest, &destination, &blobs).unwrap();
        assert_eq!(fs::read(&destination).unwrap(), b"weights");
        assert!(place(&manifest, &destination, &blobs).unwrap_err().to_string().contains("exists"));
        drop(blobs);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_dangling_link_counts_as_there() {
        let home = tempfile::tempdir().unwrap();
        let link = home.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(must_not_exist(&link).is_err());
    }
}
