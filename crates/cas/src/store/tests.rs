use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::hashing::digest_bytes;
use crate::local::LocalOptions;
use crate::pack::{RootLink, pack_path};

struct Place {
    folder: tempfile::TempDir,
    store: Store,
}

/// A store in front of an origin that is a directory (`true`) or has a protocol of its own.
fn place(directory: bool) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let origin = match directory {
        true => Origin::in_directory(&folder.path().join("origin"), true).unwrap(),
        false => Origin::in_memory(),
    };
    let store = beside(&folder, "local", origin);
    Place { folder, store }
}

fn beside(folder: &tempfile::TempDir, name: &str, origin: Origin) -> Store {
    let local = LocalStore::open(&folder.path().join(name), LocalOptions::with_budget(u64::MAX)).unwrap();
    Store::new(local, origin)
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn what_one_machine_puts_another_gets() {
    for directory in [true, false] {
        let Place { folder, store } = place(directory);
        let other = beside(&folder, "other", store.origin().clone());
        for length in [0, 5, 100_000, 9_000_000] {
            let bytes: Vec<u8> = (0..length).map(|index| (index % 253) as u8).collect();
            let digest = store.put_bytes(bytes.clone()).await.unwrap();
            assert_eq!(fs::read(other.get(&digest).await.unwrap().path()).unwrap(), bytes);
            assert_eq!(other.read(&digest).await.unwrap(), bytes);
            let end = bytes.len().min(300);
            let range = other.read_range(&digest, 3..300).await.unwrap();
            assert_eq!(range, bytes[3.min(end)..end]);
        }
    }
}

#[tokio::test]
async fn on_one_file_system_a_blob_is_linked_and_not_copied() {
    let Place { folder, store } = place(true);
    let other = beside(&folder, "other", store.origin().clone());
    let digest = store.put_bytes(vec![7; 100_000]).await.unwrap();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let own = inode(store.get(&digest).await.unwrap().path());
    // Where the file system shares extents instead, the inodes differ and there is nothing to see here.
    if inode(&store.origin().file_of(&digest).unwrap()) == own {
        assert_eq!(inode(other.get(&digest).await.unwrap().path()), own);
    }
}

#[tokio::test]
async fn a_damaged_local_blob_is_fetched_again_and_a_damaged_origin_is_refused() {
    let Place { folder, store } = place(true);
    let digest = store.put_bytes(vec![7; 100_000]).await.unwrap();
    let in_origin = store.origin().file_of(&digest).unwrap();
    // Without a shared inode, so that only one of them is damaged.
    fs::copy(&in_origin, folder.path().join("copy")).unwrap();
    fs::rename(folder.path().join("copy"), &in_origin).unwrap();
    damage(store.get(&digest).await.unwrap().path());
    let blob = store.get(&digest).await.unwrap();
    assert_eq!(crate::digest_file(blob.path()).unwrap(), digest);
    drop(blob);
    damage(&in_origin);
    let other = beside(&folder, "other", store.origin().clone());
    let error = other.get(&digest).await.unwrap_err();
    assert!(matches!(error.cause(), StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(&digest.to_string()), "{error}");
    assert!(error.to_string().contains("origin"), "{error}");
    assert!(other.read(&digest).await.is_err());
    assert!(!other.local().contains(&digest));
    assert!(other.put_bytes(vec![7; 100_000]).await.is_ok(), "a damaged blob can be stored again");
    assert_eq!(store.origin().get_bytes(&digest).await.unwrap(), vec![7; 100_000]);
}

#[tokio::test]
async fn a_blob_that_nobody_has_is_missing() {
    for directory in [true, false] {
        let Place { folder: _folder, store } = place(directory);
        let error = store.get(&digest_bytes(b"never stored")).await.unwrap_err();
        assert!(error.is_missing(), "{error}");
    }
}

#[tokio::test]
async fn two_callers_of_one_blob_share_one_download() {
    let flights = InFlight::<u8, u8>::default();
    let started = AtomicUsize::new(0);
    let work = || {
        started.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::task::yield_now().await;
            Ok(7)
        }
    };
    let (first, second) = futures::join!(flights.share(1, work), flights.share(1, work));
    assert_eq!((first.unwrap(), second.unwrap()), (7, 7));
    assert_eq!(started.load(Ordering::Relaxed), 1);
    assert_eq!(flights.share(1, work).await.unwrap(), 7);
    assert_eq!(started.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn callers_share_a_failure_and_the_next_one_tries_again() {
    let flights = InFlight::<u8, u8>::default();
    let fails = || async {
        tokio::task::yield_now().await;
        Err(StoreError::Stopped { what: "a test".into() })
    };
    let (first, second) = futures::join!(flights.share(1, fails), flights.share(1, fails));
    assert!(matches!(first.unwrap_err().cause(), StoreError::Stopped { .. }));
    assert!(matches!(second.unwrap_err().cause(), StoreError::Stopped { .. }));
    assert_eq!(flights.share(1, || async { Ok(1) }).await.unwrap(), 1);
}

#[tokio::test]
async fn a_packed_folder_comes_back_the_same_elsewhere() {
    for directory in [true, false] {
        let Place { folder, store } = place(directory);
        let source = folder.path().join("source");
        fs::create_dir_all(source.join("a/b")).unwrap();
        fs::write(source.join("a/b/c"), vec![1; 70_000]).unwrap();
        fs::write(source.join("run"), "#!").unwrap();
        fs::set_permissions(source.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("a/b", source.join("l")).unwrap();
        let packed = pack_path(&source, RootLink::Refuse).unwrap();
        let stored = store.put_packed(&packed).await.unwrap();
        assert_eq!(stored.manifest, packed.manifest.digest());
        let other = beside(&folder, "other", store.origin().clone());
        let copy = folder.path().join("copy");
        other.checkout(&stored.manifest, &copy).await.unwrap();
        assert_eq!(pack_path(&copy, RootLink::Refuse).unwrap().manifest, packed.manifest);
        fs::write(copy.join("a/b/c"), "changed").unwrap();
        fs::write(copy.join("a/new"), "new").unwrap();
        let tree = other.tree(&stored.manifest).await.unwrap();
        assert_eq!(pack_path(tree.path(), RootLink::Refuse).unwrap().manifest, packed.manifest);
        let again = other.tree(&stored.manifest).await.unwrap();
        assert_eq!(again.path(), tree.path());
        let error = other.checkout(&stored.manifest, &copy).await.unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_changed_after_packing_is_refused() {
    let Place { folder, store } = place(true);
    let source = folder.path().join("source");
    fs::write(&source, "before").unwrap();
    let packed = pack_path(&source, RootLink::Follow).unwrap();
    fs::write(&source, "after!").unwrap();
    let error = store.put_packed(&packed).await.unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains("changed while they were stored"), "{error}");
}

#[tokio::test]
async fn an_artifact_that_is_one_file_checks_out_as_that_file() {
    let Place { folder, store } = place(true);
    let digest = store.put_bytes(&b"5.1,3.5"[..]).await.unwrap();
    let artifact = store.put_manifest(&Manifest::file(digest, false)).await.unwrap();
    let copy = folder.path().join("iris.csv");
    store.checkout(&artifact.manifest, &copy).await.unwrap();
    assert_eq!(fs::read(&copy).unwrap(), b"5.1,3.5");
    let tree = store.tree(&artifact.manifest).await.unwrap();
    assert_eq!(fs::read(tree.path()).unwrap(), b"5.1,3.5");
    let error = store.checkout(&artifact.manifest, &copy).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    let error = store.manifest(&digest).await.unwrap_err();
    assert!(error.to_string().contains("is not a manifest"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkout_whose_asker_went_away_stops_and_leaves_nothing() {
    const FILES: usize = 3_000;
    let Place { folder, store } = place(true);
    let (code, laid_out) = (folder.path().join("code"), folder.path().join("laid-out"));
    fs::create_dir(&code).unwrap();
    for number in 0..FILES {
        fs::write(code.join(number.to_string()), "same").unwrap();
    }
    let packed = pack_path(&code, RootLink::Refuse).unwrap();
    let manifest = store.put_packed(&packed).await.unwrap().manifest;
    let checkout = {
        let (store, laid_out) = (store.clone(), laid_out.clone());
        tokio::spawn(async move { store.checkout(&manifest, &laid_out).await.map(drop) })
    };
    let begun = || fs::read_dir(&laid_out).is_ok_and(|mut files| files.next().is_some());
    while !begun() {
        tokio::task::yield_now().await;
    }
    checkout.abort();
    assert!(checkout.await.unwrap_err().is_cancelled(), "it was over before it could be given up");
    for _ in 0..500 {
        if !laid_out.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} files are left", fs::read_dir(&laid_out).unwrap().count());
}
