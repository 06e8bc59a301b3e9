//! Packing a folder of code: what a step's working directory starts with.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use super::{PackError, Packed, Packer, RootLink};

/// The most bytes of code that are packed unless another limit is asked for.
pub const CODE_LIMIT_BYTES: u64 = 512 * 1024 * 1024;

/// Names never packed as code, files or folders: version control, and caches that tools write beside the code.
pub const SKIPPED_NAMES: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    ".jj",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
    "node_modules",
    ".DS_Store",
];

/// The name of our own ignore file, with the rules of `.gitignore`.
const IGNORE_FILE: &str = ".flowyardignore";
/// How many of the largest files an error names.
const LARGEST_NAMED: usize = 5;

/// Packs the folder `root` as code: without what `.gitignore` and `.flowyardignore` exclude (also where there is no
/// repository), and without [`SKIPPED_NAMES`]. Refuses over `limit_bytes` before anything is hashed.
pub fn pack_code(root: &Path, limit_bytes: u64) -> Result<Packed, PackError> {
    let looks = std::fs::metadata(root).map_err(|source| PackError::from_io(root, source))?;
    if !looks.is_dir() {
        return Err(PackError::NotAFolder { path: root.to_owned() });
    }
    let root = root.canonicalize().map_err(|source| PackError::from_io(root, source))?;
    let listed = list_code(&root)?;
    check_size(&root, &listed, limit_bytes)?;
    let mut packer = Packer::default();
    for (path, _) in &listed {
        let inside = path.strip_prefix(&root).expect("the walk stays below its root");
        packer.add(path, inside.as_os_str().as_bytes().to_vec(), RootLink::Refuse)?;
    }
    packer.finish(&root)
}

/// Every path to be packed with its bytes (0 for what is no file).
fn list_code(root: &Path) -> Result<Vec<(PathBuf, u64)>, PackError> {
    let mut listed = Vec::new();
    for found in walker(root).build() {
        let found = found.map_err(|source| walk_error(root, source))?;
        if found.depth() == 0 {
            continue;
        }
        let looks = found.metadata().map_err(|source| walk_error(root, source))?;
        let bytes = if looks.is_file() { looks.len() } else { 0 };
        listed.push((found.into_path(), bytes));
    }
    Ok(listed)
}

fn walker(root: &Path) -> WalkBuilder {
    // Ignore files above the root count only inside a repository; a stray one in a home folder says nothing about this code.
    let in_repository = root.ancestors().any(|folder| folder.join(".git").exists());
    let mut builder = WalkBuilder::new(root);
    builder
        .standard_filters(false)
        .git_ignore(true)
        .git_exclude(true)
        .require_git(false)
        .parents(in_repository)
        .follow_links(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .filter_entry(|entry| entry.depth() == 0 || !is_skipped(entry.file_name()));
    builder
}

fn is_skipped(name: &std::ffi::OsStr) -> bool {
    SKIPPED_NAMES.iter().any(|skipped| name == *skipped)
}

fn walk_error(root: &Path, source: ignore::Error) -> PackError {
    let place = place_of(&source).unwrap_or(root).to_owned();
    match source.io_error().map(std::io::Error::kind) {
        Some(kind) => PackError::from_io(&place, std::io::Error::new(kind, source)),
        None => PackError::Ignore { root: root.to_owned(), source },
    }
}

fn place_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => place_of(err),
        _ => None,
    }
}

fn check_size(root: &Path, listed: &[(PathBuf, u64)], limit_bytes: u64) -> Result<(), PackError> {
    let bytes = listed.iter().map(|(_, bytes)| bytes).sum();
    if bytes <= limit_bytes {
        return Ok(());
    }
    let mut largest: Vec<_> = listed.iter().filter(|(_, bytes)| *bytes > 0).collect();
    let files = largest.len() as u64;
    largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    largest.truncate(LARGEST_NAMED);
    let relative = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).to_owned();
    let largest = largest.into_iter().map(|(path, bytes)| (relative(path), *bytes)).collect();
    Err(PackError::TooLarge { root: root.to_owned(), bytes, files, limit_bytes, largest })
}
