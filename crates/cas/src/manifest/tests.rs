use proptest::prelude::*;

use super::*;

fn file(path: &str, content: &[u8]) -> Entry {
    Entry { path: path.into(), kind: EntryKind::File { digest: digest_bytes(content), executable: false } }
}

fn directory(path: &str) -> Entry {
    Entry { path: path.into(), kind: EntryKind::Directory }
}

fn link(path: &str, target: &str) -> Entry {
    Entry { path: path.into(), kind: EntryKind::Symlink { target: target.into() } }
}

fn encode_unchecked(entries: Vec<Entry>) -> Vec<u8> {
    encoding::encode(&entries)
}

#[test]
fn a_directory_is_followed_by_its_contents() {
    let names = ["a-b", "a", "a/b", "a.txt", "a/b/c", "B"];
    let entries = names.iter().map(|name| directory(name)).collect();
    let manifest = Manifest::from_entries(entries).unwrap();
    let paths: Vec<_> = manifest.entries().iter().map(|entry| printable(&entry.path)).collect();
    assert_eq!(paths, ["B", "a", "a/b", "a/b/c", "a-b", "a.txt"]);
    assert_eq!(manifest.entry(b"a/b/c"), Some(&directory("a/b/c")));
    assert_eq!(manifest.entry(b"a/c"), None);
}

#[test]
fn the_encoding_never_changes() {
    let manifest = Manifest::from_entries(vec![
        directory("bin"),
        Entry { path: b"bin/run".to_vec(), kind: EntryKind::File { digest: digest_bytes(b"run"), executable: true } },
        link("run", "bin/run"),
        file("data.csv", b"1,2\n"),
    ])
    .unwrap();
    // If this fails, every stored artifact gets another name: write a new version instead.
    assert_eq!(manifest.digest().to_string(), "3eeddae30a73998e1f38954bff99e1ddcb3cf71c3794f60c489ef518c2b14c49-140");
}

#[test]
fn one_file_is_an_artifact_with_the_empty_path() {
    let manifest = Manifest::file(digest_bytes(b"x"), true);
    assert_eq!(manifest.root_file(), Some((digest_bytes(b"x"), true)));
    assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    let two = Manifest::from_entries(vec![file("", b"x"), file("a", b"y")]);
    assert!(matches!(two, Err(ManifestError::Path { .. })), "{two:?}");
    assert!(Manifest::from_entries(vec![directory("")]).is_err());
    assert!(Manifest::from_entries(vec![link("", "a")]).is_err());
    assert_eq!(Manifest::default().root_file(), None);
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    for path in ["/a", "..", "a/..", "a/../b", ".", "a//b", "a/", "a\0b", &"x".repeat(256), &["d"; 201].join("/")] {
        let made = Manifest::from_entries(vec![directory("a"), file(path, b"")]);
        assert!(matches!(made, Err(ManifestError::Path { .. })), "{path:?}: {made:?}");
        let read = Manifest::decode(&encode_unchecked(vec![file(path, b"")]));
        assert!(matches!(read, Err(ManifestError::Path { .. })), "{path:?}: {read:?}");
    }
}

#[test]
fn links_that_leave_the_tree_are_refused() {
    let tree = |target: &str| Manifest::from_entries(vec![directory("a"), directory("a/b"), link("a/b/l", target)]);
    for target in ["x", "../x", "../../x", "./x//y", "../b", "../.."] {
        assert!(tree(target).is_ok(), "{target} was refused");
    }
    for target in ["", "/etc/passwd", "../../..", "../../../x", "x/../y", "../b/../../../x"] {
        assert!(matches!(tree(target), Err(ManifestError::Link { .. })), "{target} was taken");
    }
}

#[test]
fn nothing_lies_below_a_file_or_a_link_or_nowhere() {
    for parent in [file("a", b""), link("a", "b")] {
        let made = Manifest::from_entries(vec![parent, file("a/x", b"")]);
        assert_eq!(made, Err(ManifestError::Orphan("a/x".into())));
    }
    let made = Manifest::from_entries(vec![directory("a"), directory("a/b"), file("c/x", b"")]);
    assert_eq!(made, Err(ManifestError::Orphan("c/x".into())));
    let made = Manifest::from_entries(vec![directory("a"), file("a/b/c", b"")]);
    assert_eq!(made, Err(ManifestError::Orphan("a/b/c".into())));
}

#[test]
fn duplicates_and_disorder_are_refused() {
    let twice = Manifest::from_entries(vec![file("a", b"1"), file("a", b"2")]);
    assert_eq!(twice, Err(ManifestError::Order("a".into())));
    let read = Manifest::decode(&encode_unchecked(vec![file("b", b""), file("a", b"")]));
    assert_eq!(read, Err(ManifestError::Order("a".into())));
}

#[test]
fn other_bytes_are_refused_with_the_reason() {
    let bytes = Manifest::from_entries(vec![directory("d"), file("f", b"1"), link("l", "f")]).unwrap().encode();
    for length in 0..bytes.len() {
        let read = Manifest::decode(&bytes[..length]);
        assert!(matches!(read, Err(ManifestError::Truncated(_) | ManifestError::NotAManifest)), "{length}: {read:?}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Manifest::decode(&longer), Err(ManifestError::Trailing(1)));
    let mut newer = bytes.clone();
    newer[7] = 2;
    assert_eq!(Manifest::decode(&newer), Err(ManifestError::Version(2)));
    let mut mode = bytes;
    mode[13] = 0;
    assert_eq!(Manifest::decode(&mode), Err(ManifestError::Field { entry: 0, field: "mode", value: 0 }));
}

#[test]
fn a_huge_count_allocates_nothing() {
    let mut bytes = encode_unchecked(Vec::new());
    bytes[8..12].copy_from_slice(&(MAX_ENTRIES as u32).to_le_bytes());
    assert_eq!(Manifest::decode(&bytes), Err(ManifestError::Truncated(12)));
    bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Manifest::decode(&bytes), Err(ManifestError::TooManyEntries(u32::MAX as usize)));
}

#[test]
fn a_join_nests_each_artifact_under_its_name() {
    let tree = Manifest::from_entries(vec![directory("d"), file("d/f", b"1"), link("l", "d/f")]).unwrap();
    let joined = Manifest::join(vec![
        ("10".into(), Some(tree.clone())),
        ("0".into(), Some(Manifest::file(digest_bytes(b"zero"), false))),
        ("2".into(), None),
        ("3".into(), Some(Manifest::default())),
    ])
    .unwrap();
    let paths: Vec<_> = joined.entries().iter().map(|entry| printable(&entry.path)).collect();
    assert_eq!(paths, ["0", "10", "10/d", "10/d/f", "10/l", "3"]);
    assert_eq!(joined.summary(), Summary { files: 2, directories: 3, symlinks: 1, bytes: 5 });
    for name in ["", "..", "a/b"] {
        assert!(Manifest::join(vec![(name.into(), Some(tree.clone()))]).is_err(), "{name:?}");
    }
    assert!(Manifest::join(vec![("a".into(), Some(tree.clone())), ("a".into(), Some(tree))]).is_err());
}

/// Trees as a nested structure, so that every generated one is well-formed.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>, bool),
    Link(String),
    Directory(std::collections::BTreeMap<String, Node>),
}

fn any_tree() -> impl Strategy<Value = std::collections::BTreeMap<String, Node>> {
    let name = "[a-c.-]{1,3}".prop_filter("dots are no names", |name| name != "." && name != "..");
    let leaf = prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..4), any::<bool>()).prop_map(|(bytes, flag)| Node::File(bytes, flag)),
        "[a-c]{1,3}".prop_map(Node::Link),
    ];
    let node = leaf.prop_recursive(4, 24, 4, {
        let name = name.clone();
        move |inner| proptest::collection::btree_map(name.clone(), inner, 0..4).prop_map(Node::Directory)
    });
    proptest::collection::btree_map(name, node, 0..6)
}

fn flatten(prefix: &str, tree: &std::collections::BTreeMap<String, Node>, entries: &mut Vec<Entry>) {
    for (name, node) in tree {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let kind = match node {
            Node::File(bytes, executable) => EntryKind::File { digest: digest_bytes(bytes), executable: *executable },
            Node::Link(target) => EntryKind::Symlink { target: target.clone().into_bytes() },
            Node::Directory(_) => EntryKind::Directory,
        };
        entries.push(Entry { path: path.clone().into_bytes(), kind });
        if let Node::Directory(inner) = node {
            flatten(&path, inner, entries);
        }
    }
}

proptest! {
    #[test]
    fn every_tree_is_read_back_and_its_order_of_making_does_not_matter(tree in any_tree(), seed in any::<u64>()) {
        let mut entries = Vec::new();
        flatten("", &tree, &mut entries);
        let manifest = Manifest::from_entries(entries.clone()).unwrap();
        let bytes = manifest.encode();
        prop_assert_eq!(&Manifest::decode(&bytes).unwrap(), &manifest);
        let turn = seed as usize % entries.len().max(1);
        entries.rotate_left(turn);
        entries.reverse();
        prop_assert_eq!(Manifest::from_entries(entries).unwrap().encode(), bytes);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), with_header: bool) {
        let mut input = if with_header { b"fyardmf\x01".to_vec() } else { Vec::new() };
        input.extend(bytes);
        if let Ok(manifest) = Manifest::decode(&input) {
            prop_assert_eq!(manifest.encode(), input);
        }
    }

    #[test]
    fn a_damaged_encoding_never_panics(tree in any_tree(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut entries = Vec::new();
        flatten("", &tree, &mut entries);
        let mut bytes = Manifest::from_entries(entries).unwrap().encode();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }
}
