//! What every blob store owes its callers, whatever lies behind it.
//!
//! [`blob_store`] runs the whole suite on the stores that `make` gives; each call of `make` must give an empty store with an
//! origin of its own. Damage is done by the suite itself, on the disk: to the local blobs always, to the origin where it is a
//! directory (the suite then finds it under the path that `make` tells).

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flowyard_cas::{LiveBlobs, Manifest, RootLink, Store, StoreError, digest_bytes, pack_path};

/// A store under test and the folder it may use beside it.
pub struct Subject {
    /// The store, empty.
    pub store: Store,
    /// A second store on the same origin: another machine.
    pub elsewhere: Store,
    /// The directory of the origin, if it is one.
    pub origin_directory: Option<PathBuf>,
    /// An empty folder for files of the suite; removed with the subject.
    pub scratch: tempfile::TempDir,
}

/// Sizes around every limit the store has: nothing, small, hashed once, written in parts.
const LENGTHS: [usize; 6] = [0, 1, 4_097, 65_536, 65_537, 9_000_000];

/// Runs the whole suite. Panics at the first thing a store does not do.
pub async fn blob_store(make: impl Fn() -> Subject) {
    run("what was put is got elsewhere", &make, what_was_put_is_got_elsewhere).await;
    run("the same bytes are one blob", &make, the_same_bytes_are_one_blob).await;
    run("an absent blob is missing", &make, an_absent_blob_is_missing).await;
    run("ranges are exact", &make, ranges_are_exact).await;
    run("a damaged local blob is never served", &make, a_damaged_local_blob_is_never_served).await;
    run("a damaged origin is never served", &make, a_damaged_origin_is_never_served).await;
    run("an artifact comes back as it was", &make, an_artifact_comes_back_as_it_was).await;
    run("what is pinned stays", &make, what_is_pinned_stays).await;
    run("what is evicted comes back", &make, what_is_evicted_comes_back).await;
    run("many callers at once agree", &make, many_callers_at_once_agree).await;
    run("a sweep keeps what lives", &make, a_sweep_keeps_what_lives).await;
}

async fn run<F: Future<Output = ()>>(name: &str, make: &impl Fn() -> Subject, case: impl Fn(Subject) -> F) {
    // The name stands in a panic's backtrace only by the function; said here it is in the output of a failing run.
    announce(name);
    case(make()).await;
}

#[allow(clippy::print_stdout, reason = "shown by the test runner when a case fails")]
fn announce(name: &str) {
    println!("blob store: {name}");
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 % 253) as u8).collect()
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).expect("the blob to be damaged is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("the blob belongs to us");
    std::fs::write(path, bytes).expect("the blob can be damaged");
}

async fn what_was_put_is_got_elsewhere(subject: Subject) {
    for length in LENGTHS {
        let bytes = content(length);
        let digest = subject.store.put_bytes(bytes.clone()).await.unwrap();
        assert_eq!(digest, digest_bytes(&bytes));
        for store in [&subject.store, &subject.elsewhere] {
            assert_eq!(store.read(&digest).await.unwrap(), bytes, "{length} bytes");
            let blob = store.get(&digest).await.unwrap();
            assert_eq!(std::fs::read(blob.path()).unwrap(), bytes, "{length} bytes");
        }
        assert_eq!(subject.store.origin().get_bytes(&digest).await.unwrap(), bytes);
    }
}

async fn the_same_bytes_are_one_blob(subject: Subject) {
    let path = subject.scratch.path().join("file");
    std::fs::write(&path, content(70_000)).unwrap();
    let first = subject.store.put_file(&path, None).await.unwrap();
    let local_bytes = subject.store.local().total_bytes();
    assert_eq!(subject.store.put_bytes(content(70_000)).await.unwrap(), first);
    assert_eq!(subject.elsewhere.put_file(&path, Some(first)).await.unwrap(), first);
    assert_eq!(subject.store.local().total_bytes(), local_bytes);
    assert_eq!(subject.store.origin().total().await.unwrap(), (1, 70_000));
    let error = subject.store.put_file(&path, Some(digest_bytes(b"other"))).await.unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
}

async fn an_absent_blob_is_missing(subject: Subject) {
    let absent = digest_bytes(b"never stored");
    let error = subject.store.get(&absent).await.unwrap_err();
    assert!(error.is_missing() && error.to_string().contains(&absent.to_string()), "{error}");
    assert!(subject.store.read(&absent).await.unwrap_err().is_missing());
    assert!(subject.store.tree(&absent).await.unwrap_err().is_missing());
    assert_eq!(subject.store.origin().missing(&[absent]).await.unwrap(), [absent]);
    subject.store.origin().delete(&absent).await.unwrap();
}

async fn ranges_are_exact(subject: Subject) {
    let bytes = content(600_000);
    let digest = subject.store.put_bytes(bytes.clone()).await.unwrap();
    for range in [0..600_000_u64, 0..1, 262_143..262_145, 599_999..700_000, 600_000..600_001, 5..5] {
        let end = range.end.min(600_000) as usize;
        let expected = &bytes[(range.start as usize).min(end)..end];
        assert_eq!(subject.elsewhere.read_range(&digest, range).await.unwrap(), expected);
    }
}

async fn a_damaged_local_blob_is_never_served(subject: Subject) {
    for length in LENGTHS.into_iter().filter(|length| *length > 0) {
        let bytes = content(length);
        let digest = subject.store.put_bytes(bytes.clone()).await.unwrap();
        give_the_origin_a_file_of_its_own(&subject, &digest.to_string());
        damage(&subject.store.local().blob_path(&digest));
        let error = subject.store.local().get(&digest).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(&digest.to_string()), "{error}");
        assert_eq!(subject.store.read(&digest).await.unwrap(), bytes, "the origin's copy takes its place");
        give_the_origin_a_file_of_its_own(&subject, &digest.to_string());
        damage(&subject.store.local().blob_path(&digest));
        assert_eq!(subject.store.read_range(&digest, 0..u64::MAX).await.unwrap(), bytes);
    }
}

/// Where origin and local store share a file, damage to one would be damage to both.
fn give_the_origin_a_file_of_its_own(subject: &Subject, name: &str) {
    let Some(directory) = &subject.origin_directory else { return };
    let path = directory.join("v1/blobs").join(&name[..2]).join(name);
    let copy = subject.scratch.path().join("own");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::rename(&copy, &path).unwrap();
}

async fn a_damaged_origin_is_never_served(subject: Subject) {
    let Some(directory) = subject.origin_directory.clone() else { return };
    for length in LENGTHS.into_iter().filter(|length| *length > 0) {
        let digest = subject.store.put_bytes(content(length)).await.unwrap();
        let name = digest.to_string();
        damage(&directory.join("v1/blobs").join(&name[..2]).join(&name));
        let error = subject.elsewhere.get(&digest).await.unwrap_err();
        assert!(matches!(error.cause(), StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
        assert!(!subject.elsewhere.local().contains(&digest));
        subject.elsewhere.put_bytes(content(length)).await.expect("a damaged blob can be stored again");
        assert_eq!(subject.store.origin().get_bytes(&digest).await.unwrap(), content(length));
    }
}

async fn an_artifact_comes_back_as_it_was(subject: Subject) {
    let source = subject.scratch.path().join("source");
    std::fs::create_dir_all(source.join("model/empty")).unwrap();
    std::fs::write(source.join("model/weights"), content(100_000)).unwrap();
    std::fs::write(source.join("run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(source.join("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("model/weights", source.join("latest")).unwrap();
    let packed = pack_path(&source, RootLink::Refuse).unwrap();
    let artifact = subject.store.put_packed(&packed).await.unwrap();
    let copy = subject.scratch.path().join("copy");
    subject.elsewhere.checkout(&artifact.manifest, &copy).await.unwrap();
    let again = pack_path(&copy, RootLink::Refuse).unwrap();
    assert_eq!(again.manifest.digest(), artifact.manifest);
    std::fs::write(copy.join("model/weights"), "changed").unwrap();
    let tree = subject.elsewhere.tree(&artifact.manifest).await.unwrap();
    assert_eq!(pack_path(tree.path(), RootLink::Refuse).unwrap().manifest.digest(), artifact.manifest);
    let joined = Manifest::join(vec![("0".into(), Some(packed.manifest)), ("1".into(), None)]).unwrap();
    let joined = subject.store.put_manifest(&joined).await.unwrap();
    let tree = subject.elsewhere.tree(&joined.manifest).await.unwrap();
    assert_eq!(std::fs::read(tree.path().join("0/latest")).unwrap(), content(100_000));
}

async fn what_is_pinned_stays(subject: Subject) {
    let blob_digest = subject.store.put_bytes(content(10_000)).await.unwrap();
    let artifact = subject.store.put_manifest(&Manifest::file(blob_digest, false)).await.unwrap();
    let tree = subject.store.tree(&artifact.manifest).await.unwrap();
    subject.store.local().evict_to(0);
    assert_eq!(std::fs::read(tree.path()).unwrap(), content(10_000));
    assert!(subject.store.local().contains(&blob_digest));
    let blob = subject.store.get(&blob_digest).await.unwrap();
    drop(tree);
    subject.store.local().evict_to(0);
    assert_eq!(std::fs::read(blob.path()).unwrap(), content(10_000));
    assert!(!subject.store.local().contains(&artifact.manifest));
    drop(blob);
    subject.store.local().evict_to(0);
    assert_eq!(subject.store.local().total_bytes(), 0);
}

async fn what_is_evicted_comes_back(subject: Subject) {
    for length in LENGTHS {
        let digest = subject.store.put_bytes(content(length)).await.unwrap();
        subject.store.local().evict_to(0);
        assert!(!subject.store.local().contains(&digest));
        assert_eq!(subject.store.read(&digest).await.unwrap(), content(length));
    }
}

async fn many_callers_at_once_agree(subject: Subject) {
    let digest = subject.store.put_bytes(content(3_000_000)).await.unwrap();
    let callers: Vec<_> = (0..32).map(|_| tokio::spawn(get_and_evict(subject.elsewhere.clone(), digest))).collect();
    for caller in callers {
        caller.await.expect("no caller panics");
    }
    subject.elsewhere.local().evict_to(0);
    assert_eq!(subject.elsewhere.local().total_bytes(), 0);
}

async fn get_and_evict(store: Store, digest: flowyard_model::Digest) {
    for _ in 0..4 {
        let blob = store.get(&digest).await.unwrap();
        store.local().evict_to(0);
        assert_eq!(flowyard_cas::digest_file(blob.path()).unwrap(), digest);
        drop(blob);
        store.local().evict_to(0);
    }
}

async fn a_sweep_keeps_what_lives(subject: Subject) {
    const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
    let live_blob = subject.store.put_bytes(content(10)).await.unwrap();
    let dead_blob = subject.store.put_bytes(content(11)).await.unwrap();
    let artifact = subject.store.put_manifest(&Manifest::file(live_blob, false)).await.unwrap();
    let live = LiveBlobs { manifests: vec![artifact.manifest], blobs: Vec::new() };
    let origin = subject.store.origin();
    let now_ms = flowyard_clock::wall_ms();
    assert_eq!(origin.sweep(&live, WEEK_MS, now_ms).await.unwrap().deleted, 0, "everything is young");
    let swept = origin.sweep(&live, WEEK_MS, now_ms + 2 * WEEK_MS).await.unwrap();
    assert_eq!((swept.deleted, swept.deleted_bytes, swept.kept), (1, 11, 2));
    assert!(origin.contains(&live_blob).await.unwrap());
    assert!(!origin.contains(&dead_blob).await.unwrap());
}
