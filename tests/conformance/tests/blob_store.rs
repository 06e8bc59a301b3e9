//! Our store passes the suite, in front of both kinds of origin.

use std::path::{Path, PathBuf};

use flowyard_cas::{LocalOptions, LocalStore, Origin, Store};
use flowyard_conformance::blob_store::{Subject, blob_store};

fn local(scratch: &Path, name: &str) -> LocalStore {
    LocalStore::open(&scratch.join(name), LocalOptions::with_budget(u64::MAX)).unwrap()
}

fn subject(scratch: tempfile::TempDir, origin: Origin, origin_directory: Option<PathBuf>) -> Subject {
    let store = Store::new(local(scratch.path(), "here"), origin.clone());
    let elsewhere = Store::new(local(scratch.path(), "elsewhere"), origin);
    Subject { store, elsewhere, origin_directory, scratch }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_on_the_same_file_system() {
    let make = || {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("origin");
        let origin = Origin::in_directory(&directory, true).unwrap();
        subject(scratch, origin, Some(directory))
    };
    blob_store(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store() {
    blob_store(|| subject(tempfile::tempdir().unwrap(), Origin::in_memory(), None)).await;
}
