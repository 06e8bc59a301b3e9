use std::os::unix::fs::symlink;

use super::*;
use crate::hashing::digest_bytes;

fn manifest(entries: &[(&str, EntryKind)]) -> Manifest {
    let entry = |(path, kind): &(&str, EntryKind)| Entry { path: path.as_bytes().to_vec(), kind: kind.clone() };
    Manifest::from_entries(entries.iter().map(entry).collect()).unwrap()
}

fn file(bytes: &[u8]) -> EntryKind {
    EntryKind::File { digest: digest_bytes(bytes), executable: false }
}

/// A folder with one blob file, and what finds it.
fn blobs(folder: &Path, bytes: &[u8]) -> impl Fn(&Digest) -> Option<PathBuf> + use<> {
    let path = folder.join("blob");
    fs::write(&path, bytes).unwrap();
    let known = digest_bytes(bytes);
    move |digest: &Digest| (*digest == known).then(|| path.clone())
}

#[test]
fn links_that_lie_in_the_way_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let find = blobs(folder.path(), b"payload");
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let tree = manifest(&[("d", EntryKind::Directory), ("d/f", file(b"payload"))]);
    let destination = folder.path().join("destination");
    symlink(&outside, &destination).unwrap();
    assert!(matches!(checkout(&tree, &destination, Placing::Copy, &find), Err(StoreError::Exists { .. })));
    let single = Manifest::file(digest_bytes(b"payload"), false);
    let dangling = folder.path().join("dangling");
    symlink(outside.join("made"), &dangling).unwrap();
    for placing in [Placing::Copy, Placing::Share] {
        assert!(matches!(checkout(&single, &dangling, placing, &find), Err(StoreError::Exists { .. })));
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_link_planted_while_the_tree_is_written_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let find = blobs(folder.path(), b"payload");
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let destination = folder.path().join("destination");
    let tree = manifest(&[("a", file(b"payload")), ("d", EntryKind::Directory), ("d/f", file(b"payload"))]);
    // Asked for the first file, the finder plants a link where the folder is to be made next.
    let plant = |digest: &Digest| {
        let _ = symlink(&outside, destination.join("d"));
        find(digest)
    };
    let error = checkout(&tree, &destination, Placing::Copy, &plant).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!destination.exists(), "a checkout that failed is removed");
}

#[test]
fn an_empty_folder_is_filled_and_a_full_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let find = blobs(folder.path(), b"payload");
    let destination = folder.path().join("destination");
    fs::create_dir(&destination).unwrap();
    let tree = manifest(&[("f", file(b"payload"))]);
    checkout(&tree, &destination, Placing::Copy, &find).unwrap();
    assert_eq!(fs::read(destination.join("f")).unwrap(), b"payload");
    let error = checkout(&tree, &destination, Placing::Copy, &find).unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    assert!(destination.join("f").exists(), "what was there before is not removed");
}

#[test]
fn a_blob_that_is_cut_off_or_absent_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let find = blobs(folder.path(), b"payload");
    let tree = manifest(&[("f", file(b"payload"))]);
    fs::write(folder.path().join("blob"), b"pay").unwrap();
    let error = checkout(&tree, &folder.path().join("one"), Placing::Copy, &find).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let error = checkout(&tree, &folder.path().join("two"), Placing::Copy, &|_| None).unwrap_err();
    assert!(error.is_missing(), "{error}");
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    let find = blobs(folder.path(), b"payload");
    let run = EntryKind::File { digest: digest_bytes(b"payload"), executable: true };
    let tree = manifest(&[("d", EntryKind::Directory), ("d/run", run), ("f", file(b"payload"))]);
    for (placing, modes) in
        [(Placing::Copy, [0o755, 0o755, 0o755, 0o644]), (Placing::Share, [0o555, 0o555, 0o555, 0o644])]
    {
        let destination = folder.path().join(format!("{placing:?}"));
        checkout(&tree, &destination, placing, &find).unwrap();
        let mode = |path| fs::metadata(destination.join(path)).unwrap().permissions().mode() & 0o777;
        // A shared file has the mode of its blob, which here is that of the test's own file.
        assert_eq!(["", "d", "d/run", "f"].map(mode), modes, "{placing:?}");
    }
}
