use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::local::{LocalOptions, LocalStore};
use crate::manifest::Manifest;
use crate::store::Store;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

fn origins() -> (tempfile::TempDir, [Origin; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Origin::in_directory(&folder.path().join("origin"), false).unwrap();
    (folder, [directory, Origin::in_memory()])
}

#[tokio::test]
async fn the_layout_never_changes() {
    let (folder, [directory, _]) = origins();
    directory.put_bytes(Bytes::from_static(b"hi")).await.unwrap();
    let name = digest_bytes(b"hi").to_string();
    let path = folder.path().join("origin/v1/blobs").join(&name[..2]).join(&name);
    assert_eq!(std::fs::read(path).unwrap(), b"hi");
}

#[tokio::test]
async fn an_upload_in_pieces_gets_its_name_only_when_it_is_right() {
    let (_folder, origins) = origins();
    for origin in origins {
        for length in [10, 20_000_000] {
            let bytes = Bytes::from(vec![5; length]);
            let digest = digest_bytes(&bytes);
            let mut wrong = origin.upload(digest, "a client");
            wrong.write(bytes.slice(1..)).await.unwrap();
            wrong.write(Bytes::from_static(b"x")).await.unwrap();
            let error = wrong.finish().await.unwrap_err();
            assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
            assert!(!origin.contains(&digest).await.unwrap());
            let mut cut_off = origin.upload(digest, "a client");
            cut_off.write(bytes.slice(..length - 1)).await.unwrap();
            drop(cut_off);
            assert!(!origin.contains(&digest).await.unwrap());
            let mut long = origin.upload(digest, "a client");
            long.write(bytes.clone()).await.unwrap();
            assert!(long.write(Bytes::from_static(b"x")).await.is_err());
            long.abort().await;
            let mut right = origin.upload(digest, "a client");
            for at in (0..length).step_by(3_000_000) {
                right.write(bytes.slice(at..length.min(at + 3_000_000))).await.unwrap();
            }
            right.finish().await.unwrap();
            assert_eq!(origin.get_bytes(&digest).await.unwrap(), bytes);
        }
        assert_eq!(origin.total().await.unwrap(), (2, 20_000_010));
    }
}

#[tokio::test]
async fn ranges_are_cut_at_the_end_of_the_blob() {
    let (_folder, origins) = origins();
    for origin in origins {
        let digest = origin.put_bytes(Bytes::from_static(b"0123456789")).await.unwrap();
        for (range, expected) in [(0..10, "0123456789"), (2..5, "234"), (8..99, "89"), (10..20, ""), (5..5, "")] {
            let pieces: Vec<Bytes> = origin.get_range(&digest, range).await.unwrap().try_collect().await.unwrap();
            assert_eq!(pieces.concat(), expected.as_bytes());
        }
        let absent = origin.get_range(&digest_bytes(b"absent"), 0..0).await;
        assert!(absent.is_err_and(|error| error.is_missing()));
    }
}

#[tokio::test]
async fn a_damaged_object_is_never_read_to_a_good_end() {
    let (folder, [origin, _]) = origins();
    let digest = origin.put_bytes(Bytes::from(vec![1; 600_000])).await.unwrap();
    let path = origin.file_of(&digest).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[300_000] = 2;
    std::fs::write(&path, &bytes).unwrap();
    let error = origin.get_bytes(&digest).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    assert!(!origin.contains(&digest).await.unwrap(), "it was set aside, so that it can be stored again");
    assert_eq!(std::fs::read(folder.path().join("origin/v1/damaged").join(digest.to_string())).unwrap(), bytes);
    std::fs::write(&path, &bytes[1..]).unwrap();
    assert!(origin.get_bytes(&digest).await.is_err());
    assert!(!origin.contains(&digest).await.unwrap(), "a cut-off object counts as absent, so it is written again");
}

#[tokio::test]
async fn a_sweep_keeps_what_live_manifests_name_and_what_is_young() {
    let (_folder, origins) = origins();
    for origin in origins {
        let live_file = origin.put_bytes(Bytes::from_static(b"live")).await.unwrap();
        let dead_file = origin.put_bytes(Bytes::from_static(b"dead")).await.unwrap();
        let log = origin.put_bytes(Bytes::from_static(b"log")).await.unwrap();
        let manifest = origin.put_bytes(Manifest::file(live_file, false).encode().into()).await.unwrap();
        // A manifest that is also a file of another artifact still keeps what it names.
        let outer = origin.put_bytes(Manifest::file(manifest, false).encode().into()).await.unwrap();
        let live = LiveBlobs { manifests: vec![outer, manifest, manifest], blobs: vec![log] };
        let now_ms = flowyard_clock::wall_ms();
        let young = origin.sweep(&live, 0, now_ms).await.unwrap();
        assert_eq!((young.deleted, young.kept), (0, 5));
        let swept = origin.sweep(&live, DAY_MS, now_ms + 2 * DAY_MS).await.unwrap();
        assert_eq!(swept, Swept { deleted: 1, deleted_bytes: 4, kept: 4, lost_manifests: 0 });
        assert!(!origin.contains(&dead_file).await.unwrap());
        assert!(origin.contains(&live_file).await.unwrap());
        let lost = LiveBlobs { manifests: vec![digest_bytes(b"lost")], ..live };
        let swept = origin.sweep(&lost, DAY_MS, now_ms + 2 * DAY_MS).await.unwrap();
        assert_eq!((swept.lost_manifests, swept.deleted), (1, 3));
    }
}

#[tokio::test]
async fn a_sweep_removes_what_cut_off_writes_left_behind() {
    let (_folder, [origin, _]) = origins();
    let digest = origin.put_bytes(Bytes::from_static(b"whole")).await.unwrap();
    let path = origin.file_of(&digest).unwrap();
    let left = path.with_file_name(format!("{digest}#1"));
    std::fs::write(&left, b"who").unwrap();
    let live = LiveBlobs { blobs: vec![digest], ..LiveBlobs::default() };
    let now_ms = flowyard_clock::wall_ms();
    origin.sweep(&live, 0, now_ms).await.unwrap();
    assert!(left.exists(), "somebody may still be writing it");
    origin.sweep(&live, 0, now_ms + DAY_MS).await.unwrap();
    assert!(!left.exists() && path.exists());
}

#[tokio::test]
async fn nothing_is_swept_when_a_live_manifest_cannot_be_read() {
    let (_folder, origins) = origins();
    for origin in origins {
        // Written by a newer program: what it names is not known here.
        let newer = origin.put_bytes(Bytes::from_static(b"fyardmf\x63")).await.unwrap();
        let live = LiveBlobs { manifests: vec![newer], ..LiveBlobs::default() };
        let other = origin.put_bytes(Bytes::from_static(b"other")).await.unwrap();
        let error = origin.sweep(&live, DAY_MS, flowyard_clock::wall_ms() + 2 * DAY_MS).await.unwrap_err();
        assert!(matches!(error, StoreError::Manifest { .. }), "{error}");
        assert!(origin.contains(&other).await.unwrap());
    }
}

#[tokio::test]
async fn what_is_said_to_be_an_artifact_and_is_none_keeps_itself_and_stands_in_nobodys_way() {
    let (_folder, origins) = origins();
    for origin in origins {
        let lie = origin.put_bytes(Bytes::from_static(b"no manifest")).await.unwrap();
        let live = LiveBlobs { manifests: vec![lie], ..LiveBlobs::default() };
        let other = origin.put_bytes(Bytes::from_static(b"other")).await.unwrap();
        origin.sweep(&live, DAY_MS, flowyard_clock::wall_ms() + 2 * DAY_MS).await.unwrap();
        assert!(origin.contains(&lie).await.unwrap() && !origin.contains(&other).await.unwrap());
    }
}

#[tokio::test]
async fn an_old_blob_that_somebody_asks_for_is_made_young_or_uploaded_again() {
    let (_folder, [directory, _]) = origins();
    let digest = directory.put_bytes(Bytes::from_static(b"old")).await.unwrap();
    let path = directory.file_of(&digest).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
    std::fs::File::open(&path).unwrap().set_modified(old).unwrap();
    let absent = digest_bytes(b"absent");
    assert_eq!(directory.missing(&[digest, absent]).await.unwrap(), [absent]);
    let swept = directory.sweep(&LiveBlobs::default(), 0, flowyard_clock::wall_ms()).await.unwrap();
    assert_eq!((swept.deleted, swept.kept), (0, 1));
    // The same files seen as an object store that knows no times but its own.
    let files = LocalFileSystem::new_with_prefix(_folder.path().join("origin")).unwrap();
    let objects = Origin::in_objects(Arc::new(files));
    assert_eq!(objects.missing(&[digest]).await.unwrap(), []);
    std::fs::File::open(&path).unwrap().set_modified(old).unwrap();
    assert_eq!(objects.missing(&[digest]).await.unwrap(), [digest]);
}

#[tokio::test]
async fn a_link_from_the_local_store_is_young_and_read_only() {
    let (folder, [origin, _]) = origins();
    let local = LocalStore::open(&folder.path().join("local"), LocalOptions::with_budget(u64::MAX)).unwrap();
    let store = Store::new(local, origin.clone());
    let digest = store.put_bytes(vec![1; 100_000]).await.unwrap();
    let looks = std::fs::metadata(origin.file_of(&digest).unwrap()).unwrap();
    assert_eq!(looks.permissions().mode() & 0o777, 0o444);
    let swept = origin.sweep(&LiveBlobs::default(), 0, flowyard_clock::wall_ms()).await.unwrap();
    assert_eq!(swept.deleted, 0);
}

#[test]
fn a_full_disk_is_found_below_the_errors_of_the_library() {
    let inner = io::Error::from_raw_os_error(28);
    let generic = object_store::Error::Generic { store: "directory", source: Box::new(inner) };
    assert_eq!(full_disk(&generic), Some(io::ErrorKind::StorageFull));
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::in_directory(folder.path(), false).unwrap();
    let error = origin.error("write", &Key::from("v1/blobs/x"), 77, generic);
    assert!(error.is_disk_full() && error.to_string().contains("77 bytes"), "{error}");
}
