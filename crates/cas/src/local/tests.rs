use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::hashing::digest_bytes;
use crate::manifest::{Entry, EntryKind};

const LARGE: usize = 200 * 1024;

fn open(folder: &Path, budget_bytes: u64) -> LocalStore {
    LocalStore::open(folder, LocalOptions::with_budget(budget_bytes)).unwrap()
}

fn damage(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

fn files_below(folder: &Path) -> usize {
    list(folder).unwrap().iter().map(|path| if path.is_dir() { files_below(path) } else { 1 }).sum()
}

#[test]
fn the_same_bytes_are_kept_once_and_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let first = store.put_bytes(b"hello").unwrap();
    let source = folder.path().join("source");
    fs::write(&source, b"hello").unwrap();
    let second = store.put_file(&source, None).unwrap();
    assert_eq!((first.digest(), first.path()), (second.digest(), second.path()));
    assert_eq!(fs::metadata(first.path()).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(files_below(&folder.path().join("v1")), 1);
    assert_eq!(store.total_bytes(), 4096);
    assert_eq!(store.read(&first.digest()).unwrap().unwrap(), b"hello");
}

#[test]
fn bytes_that_are_not_those_announced_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let source = folder.path().join("source");
    fs::write(&source, b"other").unwrap();
    let error = store.put_file(&source, Some(digest_bytes(b"hello"))).unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
    let mut writer = store.writer(Some(digest_bytes(b"hi")), "a test").unwrap();
    assert!(writer.write(b"much too long").is_err());
    drop(writer);
    assert_eq!(files_below(&folder.path().join("v1")), 0);
}

#[test]
fn a_damaged_blob_is_refused_removed_and_can_be_stored_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    for bytes in [vec![1; 100], vec![2; LARGE]] {
        let digest = store.put_bytes(&bytes).unwrap().digest();
        let path = store.blob_path(&digest);
        for at in [0, bytes.len() - 1] {
            assert!(store.get(&digest).unwrap().is_some());
            damage(&path, at);
            let error = store.get(&digest).unwrap_err();
            assert!(error.to_string().contains(&digest.to_string()), "{error}");
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            assert!(!path.exists());
            assert!(store.get(&digest).unwrap().is_none());
            store.put_bytes(&bytes).unwrap();
        }
        damage(&path, 5);
        assert!(store.read(&digest).is_err());
        store.put_bytes(&bytes).unwrap();
        damage(&path, 5);
        store.put_bytes(&bytes).unwrap();
        assert_eq!(store.read(&digest).unwrap().unwrap(), bytes);
    }
}

#[test]
fn a_blob_damaged_while_the_store_was_closed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let digest = store.put_bytes(&vec![3; LARGE]).unwrap().digest();
    let path = store.blob_path(&digest);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    drop(store);
    damage(&path, 9);
    fs::File::open(&path).unwrap().set_modified(modified).unwrap();
    let store = open(folder.path(), u64::MAX);
    assert!(matches!(store.get(&digest), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_large_blob_is_hashed_again_only_when_its_file_changed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let digest = store.put_bytes(&vec![4; LARGE]).unwrap().digest();
    let key = Key::Blob(digest);
    let before = store.index().verified(key);
    assert!(before.is_some(), "a blob that was hashed while it was written need not be read again");
    let file = fs::File::open(store.blob_path(&digest)).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(store.get(&digest).unwrap().is_some());
    assert_ne!(store.index().verified(key), before);
}

#[test]
fn a_file_that_somebody_removed_is_absent() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let digest = store.put_bytes(b"x").unwrap().digest();
    fs::remove_file(store.blob_path(&digest)).unwrap();
    assert!(store.contains(&digest));
    assert!(store.get(&digest).unwrap().is_none());
    assert!(!store.contains(&digest));
    assert_eq!(store.total_bytes(), 0);
}

#[test]
fn what_a_crash_left_half_written_is_swept_and_the_rest_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let digest = store.put_bytes(b"kept").unwrap().digest();
    let mut writer = store.writer(None, "a test").unwrap();
    writer.write(b"half").unwrap();
    std::mem::forget(writer.finish());
    fs::write(folder.path().join("v1/tmp/77"), b"half").unwrap();
    fs::create_dir_all(folder.path().join("v1/tmp/78/root/deep")).unwrap();
    fs::set_permissions(folder.path().join("v1/tmp/78/root"), fs::Permissions::from_mode(0o555)).unwrap();
    let error = LocalStore::open(folder.path(), LocalOptions::with_budget(0)).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    // The forgotten blob keeps its store alive, as a crash would not; a copy of the folder stands for the next start.
    let copy = tempfile::tempdir().unwrap();
    let copied =
        std::process::Command::new("cp").arg("-a").arg(folder.path().join("v1")).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let store = open(copy.path(), u64::MAX);
    assert_eq!(files_below(&copy.path().join("v1/tmp")), 0);
    assert_eq!(store.read(&digest).unwrap().unwrap(), b"kept");
    assert_eq!(store.total_bytes(), 2 * 4096);
}

#[test]
fn the_longest_unused_goes_first_and_pinned_blobs_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let blobs: Vec<_> = (0..6_u8).map(|number| store.put_bytes(&[number; 10]).unwrap()).collect();
    let digests: Vec<_> = blobs.iter().map(PinnedBlob::digest).collect();
    let kept = blobs[1].clone();
    drop(blobs);
    store.get(&digests[0]).unwrap();
    let evicted = store.evict_to(3 * 4096);
    assert_eq!((evicted.blobs, evicted.bytes), (3, 3 * 4096));
    let here: Vec<_> = digests.iter().map(|digest| store.contains(digest)).collect();
    assert_eq!(here, [true, true, false, false, false, true]);
    assert_eq!(store.evict_to(0).blobs, 2);
    assert!(kept.path().exists());
    drop(kept);
    assert_eq!(store.evict_to(0).blobs, 1);
    assert_eq!(store.total_bytes(), 0);
}

#[test]
fn a_full_disk_says_where_and_how_much_was_needed() {
    let error = StoreError::io("write", Path::new("/x/y"), 123, io::Error::from_raw_os_error(28));
    assert!(error.is_disk_full());
    let text = error.to_string();
    assert!(text.contains("/x/y") && text.contains("123 bytes"), "{text}");
}

fn small_tree(store: &LocalStore) -> (Manifest, HashMap<Digest, PinnedBlob>) {
    let blobs: Vec<_> = [&b"plain"[..], b"#!/bin/sh\n"].map(|bytes| store.put_bytes(bytes).unwrap()).into();
    let entry = |path: &[u8], kind| Entry { path: path.to_vec(), kind };
    let manifest = Manifest::from_entries(vec![
        entry(b"d", EntryKind::Directory),
        entry(b"d/plain", EntryKind::File { digest: blobs[0].digest(), executable: false }),
        entry(b"d/run", EntryKind::File { digest: blobs[1].digest(), executable: true }),
        entry(b"link", EntryKind::Symlink { target: b"d/plain".to_vec() }),
    ])
    .unwrap();
    let own = store.put_bytes(&manifest.encode()).unwrap();
    let all = blobs.into_iter().chain([own]).map(|blob| (blob.digest(), blob)).collect();
    (manifest, all)
}

#[test]
fn a_tree_shares_its_blobs_is_read_only_and_keeps_them_from_eviction() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let (manifest, blobs) = small_tree(&store);
    let tree = store.make_tree(&manifest, &blobs).unwrap();
    let again = store.make_tree(&manifest, &blobs).unwrap();
    assert_eq!(tree.path(), again.path());
    let mode = |path: &str| fs::metadata(tree.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("d"), mode("d/plain"), mode("d/run")), (0o555, 0o555, 0o444, 0o555));
    let plain = blobs[&digest_bytes(b"plain")].path().to_owned();
    assert_eq!(fs::metadata(tree.path().join("d/plain")).unwrap().ino(), fs::metadata(&plain).unwrap().ino());
    assert_eq!(fs::read(tree.path().join("link")).unwrap(), b"plain");
    drop((blobs, again));
    assert_eq!(store.evict_to(0), Evicted::default());
    assert!(plain.exists());
    drop(tree);
    let evicted = store.evict_to(0);
    assert_eq!((evicted.trees, evicted.blobs), (1, 3));
    assert_eq!(store.total_bytes(), 0);
    assert_eq!(files_below(&folder.path().join("v1")), 0);
}

#[test]
fn a_tree_is_used_again_after_a_restart_and_made_anew_when_it_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), u64::MAX);
    let (manifest, blobs) = small_tree(&store);
    let digest = manifest.digest();
    let path = store.make_tree(&manifest, &blobs).unwrap().path().to_owned();
    let total = store.total_bytes();
    drop((blobs, store));
    let store = open(folder.path(), u64::MAX);
    assert_eq!(store.total_bytes(), total);
    assert_eq!(store.evict_to(total - 1).trees, 1, "the tree goes before the blobs it keeps");
    let (_, blobs) = small_tree(&store);
    drop(store.make_tree(&manifest, &blobs).unwrap());
    assert!(store.tree(&digest, &manifest).unwrap().is_some());
    for change in [0, 1, 2] {
        match change {
            0 => damage(&path.join("d/run"), 0),
            1 => damage(&path.join("d/plain"), 0),
            _ => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
                fs::write(path.join("more"), b"").unwrap();
            }
        }
        assert!(store.tree(&digest, &manifest).unwrap().is_none(), "change {change} went unseen");
        assert!(!path.exists());
        store.get(&digest_bytes(b"plain")).err();
        let (_, blobs) = small_tree(&store);
        drop(store.make_tree(&manifest, &blobs).unwrap());
        assert!(store.tree(&digest, &manifest).unwrap().is_some());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Pin(u8),
    Unpin(u8),
    Evict(u64),
    Damage(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..8_u8).prop_map(Step::Put),
        (0..8_u8).prop_map(Step::Pin),
        (0..8_u8).prop_map(Step::Unpin),
        (0..8_u64).prop_map(|blocks| Step::Evict(blocks * 4096)),
        (0..8_u8).prop_map(Step::Damage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pinned_blobs_are_never_evicted_and_the_sizes_add_up(steps in proptest::collection::vec(any_step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), 5 * 4096);
        let content = |number: u8| vec![number; 5000 * (number as usize % 3)];
        let mut pins: HashMap<u8, PinnedBlob> = HashMap::new();
        for step in steps {
            match step {
                Step::Put(number) => drop(store.put_bytes(&content(number)).unwrap()),
                Step::Pin(number) => {
                    if let Some(blob) = store.get(&digest_bytes(&content(number))).unwrap() {
                        pins.insert(number, blob);
                    }
                }
                Step::Unpin(number) => drop(pins.remove(&number)),
                Step::Evict(target) => {
                    store.evict_to(target);
                }
                Step::Damage(number) => {
                    let digest = digest_bytes(&content(number));
                    let path = store.blob_path(&digest);
                    if number % 3 > 0 && path.exists() {
                        damage(&path, 7);
                        prop_assert!(store.get(&digest).is_err());
                        pins.remove(&number);
                    }
                }
            }
            for (number, blob) in &pins {
                prop_assert_eq!(fs::read(blob.path()).unwrap(), content(*number));
            }
            let on_disk = (0..8).map(|number| digest_bytes(&content(number)));
            let on_disk: std::collections::BTreeSet<_> = on_disk.filter(|digest| store.blob_path(digest).exists()).collect();
            let sum: u64 = on_disk.iter().map(stored_bytes).sum();
            prop_assert_eq!(store.total_bytes(), sum);
        }
        drop(pins);
        store.evict_to(0);
        prop_assert_eq!(store.total_bytes(), 0);
    }
}

#[test]
fn many_threads_may_use_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 6 * 4096);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..200_u32 {
                    let bytes = ((round * 7 + thread * 3) % 11).to_le_bytes();
                    let put = store.put_bytes(&bytes).unwrap();
                    assert_eq!(fs::read(put.path()).unwrap(), bytes);
                    let got = store.get(&put.digest()).unwrap().expect("a pinned blob is here");
                    drop(put);
                    assert_eq!(fs::read(got.path()).unwrap(), bytes);
                }
            });
        }
    });
    store.evict_to(0);
    assert_eq!(store.total_bytes(), 0);
    assert_eq!(files_below(&folder.path().join("v1")), 0);
}

/// A file system of its own with little room; unmounted at the end.
struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", folder.path(), "tmpfs", flags, Some(c"size=1m")).ok()?;
        Some(Self(folder))
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn on_a_full_disk_what_is_unused_makes_room_and_otherwise_the_error_says_what_was_needed() {
    let Some(disk) = TinyDisk::mount() else {
        return flowyard_skip::skip("mounting a small tmpfs is not allowed");
    };
    let store = open(disk.0.path(), u64::MAX);
    let content = |number: u8| vec![number; 300 * 1024];
    let pinned: Vec<_> = (0..2).map(|number| store.put_bytes(&content(number)).unwrap()).collect();
    store.put_bytes(&content(2)).unwrap();
    let third = store.put_bytes(&content(3)).unwrap();
    assert!(!store.contains(&digest_bytes(&content(2))), "the unpinned blob made room");
    let source = tempfile::NamedTempFile::new().unwrap();
    fs::write(source.path(), content(4)).unwrap();
    for error in [store.put_bytes(&content(4)).unwrap_err(), store.put_file(source.path(), None).unwrap_err()] {
        assert!(error.is_disk_full(), "{error}");
        let text = error.to_string();
        assert!(text.contains("no room left on the disk of") && text.contains("307200 bytes"), "{text}");
        assert!(text.contains(disk.0.path().to_str().unwrap()), "{text}");
    }
    for blob in pinned.iter().chain([&third]) {
        assert_eq!(crate::digest_file(blob.path()).unwrap(), blob.digest());
    }
    assert_eq!(files_below(&disk.0.path().join("v1/tmp")), 0, "the half-written blob was removed");
}
