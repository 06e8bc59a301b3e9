//! What lies in files: manifests, lists of items, logs of tasks, records of attempts, images.

use std::path::Path;

use flowyard_agent::image::{ImageLimits, unpack};
use flowyard_agent::launcher::{EXIT_RECORD, read_exit};
use flowyard_cas::items::{ItemsReader, encode_items, items_from_json};
use flowyard_cas::{Digest, Entry, EntryKind, Manifest};
use flowyard_logs::{Frames, MAGIC, frame_head, tail_lines};
use sha2::Digest as _;

use super::{Target, quick, texts};

pub(super) const TARGETS: &[Target] = &[
    quick("manifest", manifest, manifests),
    quick("items", items, item_lists),
    quick("items-json", items_json, || texts(&["[1, {\"a\": [null, 2.5e3, \"\\u00e9\"]}, \"x\"]", "[]", " [ [[]] ] "])),
    quick("log-spool", spool, spools),
    Target { name: "exit-record", run: exit_record, corpus: exit_records, inputs: 300 },
    Target { name: "image-archive", run: image_archive, corpus: archives, inputs: 200 },
    Target { name: "image-layer", run: image_layer, corpus: layers, inputs: 200 },
    Target { name: "image-manifest", run: image_manifest, corpus: image_manifests, inputs: 200 },
];

fn manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::decode(bytes) else { return false };
    assert_eq!(manifest.encode(), bytes, "a manifest has one encoding");
    let _ = (manifest.summary(), manifest.blobs().count(), manifest.root_file());
    true
}

fn manifests() -> Vec<Vec<u8>> {
    let digest: Digest = flowyard_cas::digest_bytes(b"content");
    let entry = |path: &str, kind| Entry { path: path.as_bytes().to_vec(), kind };
    let entries = vec![
        entry("folder", EntryKind::Directory),
        entry("folder/file", EntryKind::File { digest, executable: true }),
        entry("link", EntryKind::Symlink { target: b"folder/file".to_vec() }),
    ];
    let many = Manifest::from_entries(entries).expect("it is valid");
    vec![many.encode(), Manifest::file(digest, false).encode()]
}

fn items(bytes: &[u8]) -> bool {
    let Ok(mut reader) = ItemsReader::from_bytes(bytes) else { return false };
    let count = reader.count();
    (0..count.min(50)).all(|index| reader.item(index).is_ok()) && reader.item(count).is_err()
}

fn item_lists() -> Vec<Vec<u8>> {
    vec![encode_items(["1", "{\"a\":2}", "\"x\""].into_iter()).expect("they are valid")]
}

fn items_json(bytes: &[u8]) -> bool {
    let Ok((written, count)) = items_from_json(bytes, Vec::new()) else { return false };
    let mut reader = ItemsReader::from_bytes(&written).expect("what was written can be read");
    assert_eq!(reader.count(), count);
    (0..count).for_each(|index| drop(reader.item(index).expect("an item is there")));
    true
}

fn spool(bytes: &[u8]) -> bool {
    let read = Frames::new(bytes).all(|frame| frame.is_ok());
    let lines = tail_lines(bytes, 10).is_ok();
    assert!(read || !lines, "lines of a log that cannot be read");
    read
}

fn spools() -> Vec<Vec<u8>> {
    let mut spool = MAGIC.to_vec();
    for (at, note, line) in [(1, false, "one\ntw"), (2, true, "a note\n"), (3, false, "o\n")] {
        spool.extend_from_slice(&frame_head(at, line.len() as u32, note));
        spool.extend_from_slice(line.as_bytes());
    }
    vec![spool]
}

fn exit_record(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(EXIT_RECORD), bytes).expect("a file");
    read_exit(folder.path()).is_ok()
}

fn exit_records() -> Vec<Vec<u8>> {
    texts(&[
        "{\"cause\":{\"kind\":\"exited\",\"code\":3},\"started_at_ms\":5,\"ended_at_ms\":9,\"peak_memory_bytes\":10,\"cpu_us\":4}",
    ])
}

const LIMITS: ImageLimits = ImageLimits { bytes: 1 << 20, entries: 100 };

/// Unpacks; nothing may have been written beside the target.
fn unpacks(folder: &Path, source: &Path) -> bool {
    let outside = folder.join("outside");
    std::fs::create_dir(&outside).expect("a folder");
    let unpacked = unpack(source, &folder.join("target"), LIMITS).is_ok();
    assert_eq!(std::fs::read_dir(&outside).expect("it is there").count(), 0, "it wrote outside its target");
    assert!(unpacked || !folder.join("target").exists(), "half an image is in place");
    unpacked
}

fn image_archive(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("image.tar");
    std::fs::write(&source, bytes).expect("a file");
    unpacks(folder.path(), &source)
}

fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files of an OCI layout with that one layer.
fn layout(layer: &[u8]) -> Vec<(String, Vec<u8>)> {
    let config = format!("{{\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{}\"]}}}}", sha256(layer));
    let listed = |bytes: &[u8]| {
        format!("{{\"mediaType\":\"x\",\"digest\":\"sha256:{}\",\"size\":{}}}", sha256(bytes), bytes.len())
    };
    let manifest =
        format!("{{\"schemaVersion\":2,\"config\":{},\"layers\":[{}]}}", listed(config.as_bytes()), listed(layer));
    let index = format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", listed(manifest.as_bytes()));
    let blob = |bytes: &[u8]| (format!("blobs/sha256/{}", sha256(bytes)), bytes.to_vec());
    vec![
        ("oci-layout".into(), b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec()),
        ("index.json".into(), index.into_bytes()),
        blob(manifest.as_bytes()),
        blob(config.as_bytes()),
        blob(layer),
    ]
}

fn put(folder: &Path, files: &[(String, Vec<u8>)]) {
    std::fs::create_dir_all(folder.join("blobs/sha256")).expect("a folder");
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).expect("a file"));
}

fn image_layer(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("image");
    put(&source, &layout(bytes));
    unpacks(folder.path(), &source)
}

/// The bytes are the index; the rest of the image is whole.
fn image_manifest(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("image");
    let mut files = layout(&layers()[0]);
    files[1].1 = bytes.to_vec();
    put(&source, &files);
    unpacks(folder.path(), &source)
}

fn image_manifests() -> Vec<Vec<u8>> {
    vec![layout(&layers()[0])[1].1.clone()]
}

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).expect("it fits memory");
    }
    archive.into_inner().expect("it fits memory")
}

fn layers() -> Vec<Vec<u8>> {
    let mut archive = tar::Builder::new(tar(&[("file".into(), b"text".to_vec()), ("gone/.wh.x".into(), Vec::new())]));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "link", "../outside").expect("it fits memory");
    vec![tar(&[("file".into(), b"text".to_vec())]), archive.into_inner().expect("it fits memory")]
}

fn archives() -> Vec<Vec<u8>> {
    vec![tar(&layout(&layers()[0]))]
}
