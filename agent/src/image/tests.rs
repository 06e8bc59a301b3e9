//! Images built by hand, well-formed and hostile.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{ImageConfig, ImageError, ImageLimits, unpack};

/// One entry of a layer.
enum Entry<'a> {
    Folder(&'a str),
    File(&'a str, &'a str),
    Link(&'a str, &'a str),
    HardLink(&'a str, &'a str),
    Device(&'a str),
}
use Entry::{Device, File, Folder, HardLink, Link};

/// A tar file with paths exactly as given, however hostile.
fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let (kind, path, text, to) = match entry {
            Folder(path) => (tar::EntryType::Directory, path, "", ""),
            File(path, text) => (tar::EntryType::Regular, path, *text, ""),
            Link(path, to) => (tar::EntryType::Symlink, path, "", *to),
            HardLink(path, to) => (tar::EntryType::Link, path, "", *to),
            Device(path) => (tar::EntryType::Char, path, "", ""),
        };
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if matches!(entry, Folder(_)) { 0o755 } else { 0o4644 });
        header.set_mtime(1_000_000_000);
        header.set_size(text.len() as u64);
        let raw = header.as_gnu_mut().expect("a GNU header");
        raw.name[..path.len()].copy_from_slice(path.as_bytes());
        raw.linkname[..to.len()].copy_from_slice(to.as_bytes());
        header.set_cksum();
        tar.append(&header, text.as_bytes()).expect("an entry");
    }
    tar.into_inner().expect("a layer")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compressed bytes");
    encoder.finish().expect("compressed bytes")
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Env": ["PATH=/bin", "MODE=a=b"], "WorkingDir": "/work", "Entrypoint": ["/ignored"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string()
    .into_bytes()
}

/// An OCI layout with one file, and where in the folder it is.
pub(crate) fn sample(text: &str) -> (TempDir, PathBuf) {
    let image = Image::layout(&[layer(&[File("file", text)])], <[u8]>::to_vec);
    let source = image.source();
    (image.folder, source)
}

/// An image in a folder of its own, and the place to unpack it to.
struct Image {
    folder: TempDir,
}

impl Image {
    /// An OCI layout; `compress` is applied to each layer.
    fn layout(layers: &[Vec<u8>], compress: fn(&[u8]) -> Vec<u8>) -> Self {
        let image = Self { folder: tempfile::tempdir().expect("a folder") };
        let blobs = image.source().join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("a folder");
        let put = |bytes: &[u8]| {
            fs::write(blobs.join(sha256(bytes)), bytes).expect("a blob");
            serde_json::json!({ "mediaType": "x", "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len() })
        };
        let listed: Vec<_> = layers.iter().map(|layer| put(&compress(layer))).collect();
        let manifest = serde_json::json!({ "schemaVersion": 2, "config": put(&config(layers)), "layers": listed });
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [put(manifest.to_string().as_bytes())] });
        fs::write(image.source().join("index.json"), index.to_string()).expect("an index");
        fs::write(image.source().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a mark");
        image
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    fn unpack(&self) -> Result<ImageConfig, ImageError> {
        unpack(&self.source(), &self.target(), ImageLimits { bytes: 1 << 20, entries: 100 })
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.target().join(path)).ok()
    }
}

fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// Unpacks layers that try to write a file beside the target, and expects that they do not.
fn stays_inside(layers: &[Vec<u8>]) -> Result<ImageConfig, ImageError> {
    let image = Image::layout(layers, plain);
    let result = image.unpack();
    assert!(!image.folder.path().join("out").exists(), "an entry got out");
    assert!(!Path::new("/out-of-image").exists(), "an entry got out");
    result
}

#[test]
fn layers_of_every_compression_are_applied_in_order() {
    let lower = layer(&[Folder("etc"), File("etc/a", "lower"), File("etc/b", "lower"), Link("lib", "usr/lib")]);
    let upper = layer(&[File("etc/a", "upper"), Folder("usr/lib"), File("lib/c", "through the link")]);
    for compress in [plain, gzip, |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("compressed bytes")] {
        let image = Image::layout(&[lower.clone(), upper.clone()], compress);
        let config = image.unpack().expect("an image");
        assert_eq!(config.env, [("PATH".into(), "/bin".into()), ("MODE".into(), "a=b".into())]);
        assert_eq!(config.workdir, Some("/work".into()));
        assert_eq!(image.text("etc/a").as_deref(), Some("upper"));
        assert_eq!(image.text("etc/b").as_deref(), Some("lower"));
        assert_eq!(image.text("usr/lib/c").as_deref(), Some("through the link"));
    }
}

#[test]
fn modes_and_times_are_kept_but_not_set_user_id() {
    use std::os::unix::fs::MetadataExt;
    let image = Image::layout(&[layer(&[File("tool", "x")])], plain);
    image.unpack().expect("an image");
    let meta = fs::metadata(image.target().join("tool")).expect("a file");
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o644, 1_000_000_000));
}

#[test]
fn marks_hide_what_lower_layers_have_and_nothing_of_their_own() {
    let lower = layer(&[
        Folder("d"),
        File("d/a", "1"),
        File("d/b", "1"),
        Folder("o/deep"),
        File("o/deep/x", "1"),
        File("o/y", "1"),
    ]);
    let upper = layer(&[File("d/.wh.a", ""), File("o/new", "2"), File("o/.wh..wh..opq", ""), File("o/deep/z", "2")]);
    let image = Image::layout(&[lower, upper], plain);
    image.unpack().expect("an image");
    let there: Vec<bool> =
        ["d/a", "d/b", "o/deep/x", "o/y", "o/new", "o/deep/z"].iter().map(|path| image.text(path).is_some()).collect();
    assert_eq!(there, [false, true, false, false, true, true]);
}

#[test]
fn a_file_takes_the_place_of_a_folder_and_the_other_way_round() {
    let lower = layer(&[Folder("a"), File("a/x", "1"), File("b", "1")]);
    let image = Image::layout(&[lower, layer(&[File("a", "2"), Folder("b"), File("b/x", "2")])], plain);
    image.unpack().expect("an image");
    assert_eq!((image.text("a").as_deref(), image.text("b/x").as_deref()), (Some("2"), Some("2")));
}

#[test]
fn paths_that_climb_out_are_refused() {
    for path in ["../out", "a/../../out", "/../out"] {
        assert!(matches!(stays_inside(&[layer(&[File(path, "x")])]), Err(ImageError::Escape { .. })), "{path}");
    }
    let marks = layer(&[File("a/.wh...", "x")]);
    assert!(matches!(stays_inside(&[marks]), Err(ImageError::Escape { .. })));
    let hard = layer(&[HardLink("x", "../../etc/passwd")]);
    assert!(matches!(stays_inside(&[hard]), Err(ImageError::Escape { .. })));
}

#[test]
fn absolute_paths_and_links_mean_the_image_s_own_root() {
    let image = Image::layout(&[layer(&[File("/etc/x", "1"), Link("abs", "/etc"), File("abs/y", "2")])], plain);
    image.unpack().expect("an image");
    assert_eq!((image.text("etc/x").as_deref(), image.text("etc/y").as_deref()), (Some("1"), Some("2")));
}

#[test]
fn links_do_not_lead_later_entries_out() {
    let climbing = layer(&[Link("up", "../.."), File("up/out", "x")]);
    stays_inside(&[climbing]).expect("inside its own root a link is harmless");
    let file = layer(&[Link("evil", "../out"), File("evil", "x")]);
    stays_inside(&[file]).expect("the link is replaced, not followed");
    let later = [layer(&[Link("etc", "/")]), layer(&[File("etc/out-of-image", "x")])];
    stays_inside(&later).expect("an image");
    let hard = layer(&[Link("passwd", "/etc/passwd"), HardLink("mine", "passwd"), File("mine", "x")]);
    stays_inside(&[hard]).expect("an image");
    assert!(fs::read_to_string("/etc/passwd").expect("the host's file").contains("root"));
}

#[test]
fn hard_links_share_a_file() {
    let image = Image::layout(&[layer(&[File("a", "1"), HardLink("b", "a"), HardLink("a", "a")])], plain);
    image.unpack().expect("an image");
    assert_eq!((image.text("a").as_deref(), image.text("b").as_deref()), (Some("1"), Some("1")));
}

#[test]
fn devices_are_left_out() {
    let image = Image::layout(&[layer(&[Device("dev/mem"), File("x", "1")])], plain);
    image.unpack().expect("an image");
    assert!(!image.target().join("dev/mem").exists());
}

#[test]
fn limits_stop_a_bomb_and_nothing_is_left() {
    let many: Vec<Entry<'_>> = (0..101).map(|_| File("x", "")).collect();
    let large = "x".repeat((1 << 20) + 1);
    for (bomb, words) in
        [(layer(&many), "more than 100 entries"), (layer(&[File("x", &large)]), "more than 1048576 bytes")]
    {
        let image = Image::layout(&[bomb], gzip);
        let message = image.unpack().expect_err("too large").to_string();
        assert!(message.ends_with(words), "{message}");
        let left: Vec<_> = fs::read_dir(image.folder.path()).expect("a folder").flatten().collect();
        assert_eq!(left.len(), 1, "only the image itself is left: {left:?}");
    }
}

#[test]
fn damage_is_noticed() {
    let image = Image::layout(&[layer(&[File("x", "content")])], plain);
    for entry in fs::read_dir(image.source().join("blobs/sha256")).expect("blobs").flatten() {
        let mut bytes = fs::read(entry.path()).expect("a blob");
        if let Some(at) = bytes.windows(7).position(|window| window == b"content") {
            bytes[at] = b'C';
            fs::write(entry.path(), bytes).expect("a blob");
        }
    }
    assert!(matches!(image.unpack(), Err(ImageError::Damaged { .. })));
    assert!(!image.target().exists());
}

#[test]
fn a_missing_layer_and_a_foreign_platform_are_named() {
    let image = Image::layout(&[layer(&[File("x", "1")])], gzip);
    for entry in fs::read_dir(image.source().join("blobs/sha256")).expect("blobs").flatten() {
        if fs::read(entry.path()).expect("a blob").starts_with(&[0x1f, 0x8b]) {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
    assert!(matches!(image.unpack(), Err(ImageError::Missing(_))));
    let index = serde_json::json!({ "manifests": [
        { "digest": "sha256:00", "platform": { "os": "linux", "architecture": "s390x" } },
        { "digest": "sha256:01", "platform": { "os": "windows", "architecture": "amd64" } },
    ] });
    fs::write(image.source().join("index.json"), index.to_string()).expect("an index");
    let message = image.unpack().expect_err("no variant").to_string();
    assert!(message.ends_with("it has linux/s390x, windows/amd64"), "{message}");
}

/// The tar file of an image's folder.
fn packed(folder: &Path, target: &Path) {
    let mut tar = tar::Builder::new(fs::File::create(target).expect("a file"));
    tar.append_dir_all(".", folder).expect("entries");
    tar.finish().expect("a tar file");
}

#[test]
fn a_layout_in_a_tar_file_is_read_too() {
    let image = Image::layout(&[layer(&[File("x", "1")])], gzip);
    let tar = image.folder.path().join("image.tar");
    packed(&image.source(), &tar);
    unpack(&tar, &image.target(), ImageLimits::USUAL).expect("an image");
    assert_eq!(image.text("x").as_deref(), Some("1"));
}

#[test]
fn what_docker_save_writes_is_read() {
    let image = Image { folder: tempfile::tempdir().expect("a folder") };
    let layers = [layer(&[File("x", "1")]), layer(&[File("y", "2")])];
    fs::create_dir_all(image.source().join("b")).expect("a folder");
    fs::create_dir_all(image.source().join("a")).expect("a folder");
    fs::write(image.source().join("config.json"), config(&layers)).expect("a file");
    fs::write(image.source().join("a/layer.tar"), &layers[0]).expect("a file");
    fs::write(image.source().join("real.tar"), &layers[1]).expect("a file");
    std::os::unix::fs::symlink("../real.tar", image.source().join("b/layer.tar")).expect("a link");
    let manifest = serde_json::json!([{ "Config": "config.json", "Layers": ["a/layer.tar", "b/layer.tar"] }]);
    fs::write(image.source().join("manifest.json"), manifest.to_string()).expect("a file");
    let tar = image.folder.path().join("saved.tar");
    let mut builder = tar::Builder::new(fs::File::create(&tar).expect("a file"));
    builder.follow_symlinks(false);
    builder.append_dir_all("", image.source()).expect("entries");
    builder.finish().expect("a tar file");
    unpack(&tar, &image.target(), ImageLimits::USUAL).expect("an image");
    assert_eq!((image.text("x").as_deref(), image.text("y").as_deref()), (Some("1"), Some("2")));
}

#[test]
fn other_files_are_not_images_and_a_compressed_one_is_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    for (bytes, words) in [(b"hello".to_vec(), "is not an image"), (gzip(b"x"), "gunzip")] {
        fs::write(&file, bytes).expect("a file");
        let error = unpack(&file, &folder.path().join("t"), ImageLimits::USUAL).expect_err("no image");
        assert!(error.to_string().contains(words), "{error}");
    }
}
