use std::os::unix::fs::symlink;

use super::*;
use crate::hashing::digest_bytes;
use crate::manifest::printable;

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn paths(packed: &Packed) -> Vec<String> {
    packed.manifest.entries().iter().map(|entry| printable(&entry.path)).collect()
}

#[test]
fn a_folder_is_packed_with_files_folders_links_and_modes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, &[("a/one", "1"), ("b", "1"), ("run", "#!")]);
    fs::create_dir(root.join("empty")).unwrap();
    fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("../b", root.join("a/link")).unwrap();
    let packed = pack_path(root, RootLink::Refuse).unwrap();
    assert_eq!(paths(&packed), ["a", "a/link", "a/one", "b", "empty", "run"]);
    let run = packed.manifest.entry(b"run").unwrap();
    assert_eq!(run.kind, EntryKind::File { digest: digest_bytes(b"#!"), executable: true });
    assert_eq!(packed.summary(), Summary { files: 3, directories: 2, symlinks: 1, bytes: 4 });
    assert_eq!(packed.sources.len(), 2);
    for (digest, source) in &packed.sources {
        assert_eq!(crate::digest_file(source).unwrap(), *digest);
    }
}

#[test]
fn a_file_stays_a_file_and_a_link_typed_by_the_user_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("iris.csv", "5.1"), ("dir/x", "x")]);
    let packed = pack_path(&folder.path().join("iris.csv"), RootLink::Refuse).unwrap();
    assert_eq!(packed.manifest.root_file(), Some((digest_bytes(b"5.1"), false)));
    symlink("iris.csv", folder.path().join("file-link")).unwrap();
    symlink("dir", folder.path().join("dir-link")).unwrap();
    let followed = pack_path(&folder.path().join("file-link"), RootLink::Follow).unwrap();
    assert_eq!(followed.manifest, packed.manifest);
    let followed = pack_path(&folder.path().join("dir-link"), RootLink::Follow).unwrap();
    assert_eq!(paths(&followed), ["x"]);
    let error = pack_path(&folder.path().join("file-link"), RootLink::Refuse).unwrap_err();
    assert!(error.to_string().contains("is a symbolic link to `iris.csv`"), "{error}");
}

#[test]
fn what_cannot_be_stored_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let refused = |text: &str| {
        let error = pack_path(root, RootLink::Refuse).unwrap_err().to_string();
        assert!(error.contains(text), "`{error}` does not say `{text}`");
    };
    symlink("/etc/passwd", root.join("secret")).unwrap();
    refused("secret` is a symbolic link to `/etc/passwd`: the target is absolute");
    fs::remove_file(root.join("secret")).unwrap();
    symlink("../..", root.join("up")).unwrap();
    refused("up` is a symbolic link to `../..`: the target is outside");
    fs::remove_file(root.join("up")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(root.join("sock")).unwrap();
    refused("sock` is a socket");
    drop(socket);
    fs::remove_file(root.join("sock")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    refused("pipe` is a named pipe");
    let error = pack_path(&root.join("pipe"), RootLink::Follow).unwrap_err();
    assert!(error.to_string().contains("is a named pipe"), "{error}");
    let error = pack_path(Path::new("/dev/null"), RootLink::Follow).unwrap_err();
    assert!(error.to_string().contains("`/dev/null` is a device"), "{error}");
    let error = pack_path(&root.join("nothing"), RootLink::Follow).unwrap_err();
    assert!(error.to_string().contains("nothing` does not exist"), "{error}");
}

#[test]
fn an_unreadable_file_is_named_with_what_to_do() {
    let error = PackError::from_io(Path::new("out/x"), io::ErrorKind::PermissionDenied.into());
    assert!(error.to_string().starts_with("`out/x` may not be read; give read permission"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    write(folder.path(), &[("x", "1")]);
    fs::set_permissions(folder.path().join("x"), fs::Permissions::from_mode(0o000)).unwrap();
    let packed = as_ordinary_user(|| pack_path(folder.path(), RootLink::Refuse).map(|_| ()));
    assert!(matches!(packed, Err(PackError::Forbidden { .. })), "{packed:?}");
    let packed = as_ordinary_user(|| pack_code(folder.path(), CODE_LIMIT_BYTES).map(|_| ()));
    assert!(matches!(packed, Err(PackError::Forbidden { .. })), "{packed:?}");
}

/// Runs `work` on a thread that is not root, for root may read everything.
fn as_ordinary_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let run = || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_uid(nobody).unwrap();
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[test]
fn code_leaves_out_what_is_ignored_version_control_and_caches() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(
        root,
        &[
            (".gitignore", "*.log\n/data/\n!keep.log\n"),
            (".flowyardignore", "notes/\n"),
            (".hidden", "1"),
            (".git/config", "1"),
            ("__pycache__/x.pyc", "1"),
            ("src/__pycache__/y.pyc", "1"),
            ("src/main.py", "1"),
            ("src/.gitignore", "local.py\n"),
            ("src/local.py", "1"),
            ("a.log", "1"),
            ("keep.log", "1"),
            ("data/big", "1"),
            ("notes/n", "1"),
            ("node_modules/m/index.js", "1"),
        ],
    );
    let packed = pack_code(root, CODE_LIMIT_BYTES).unwrap();
    let expected = [".flowyardignore", ".gitignore", ".hidden", "keep.log", "src", "src/.gitignore", "src/main.py"];
    assert_eq!(paths(&packed), expected);
    fs::remove_dir_all(root.join(".git")).unwrap();
    assert_eq!(pack_code(root, CODE_LIMIT_BYTES).unwrap().manifest, packed.manifest, "it does not take a repository");
}

#[test]
fn ignore_files_above_the_code_count_only_inside_a_repository() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, &[(".gitignore", "*.ckpt\n"), ("code/a.py", "1"), ("code/m.ckpt", "1")]);
    assert_eq!(paths(&pack_code(&root.join("code"), CODE_LIMIT_BYTES).unwrap()), ["a.py", "m.ckpt"]);
    fs::create_dir(root.join(".git")).unwrap();
    assert_eq!(paths(&pack_code(&root.join("code"), CODE_LIMIT_BYTES).unwrap()), ["a.py"]);
}

#[test]
fn code_over_the_limit_is_refused_with_the_largest_files() {
    let folder = tempfile::tempdir().unwrap();
    let big = "x".repeat(100);
    write(folder.path(), &[("a", "1"), ("m/big", &big), ("small", "12")]);
    let error = pack_code(folder.path(), 102).unwrap_err().to_string();
    assert!(error.contains("103 bytes in 3 files, the limit is 102 bytes"), "{error}");
    assert!(error.contains("the largest: m/big (100 bytes), small (2 bytes), a (1 bytes)"), "{error}");
    assert!(pack_code(folder.path(), 103).is_ok());
    let error = pack_code(&folder.path().join("a"), 1).unwrap_err().to_string();
    assert!(error.contains("is not a folder"), "{error}");
}
