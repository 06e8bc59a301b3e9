//! Bytes on disk that are not any more what was written.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::dice::Dice;

/// Blobs damaged at a time.
const BLOBS: usize = 5;
/// Most bytes of the end of a log that are damaged.
const TAIL: u64 = 2_048;

/// Damages the end of the log in a coordinator's folder: the last bytes that are something are not any more.
pub(crate) fn log_tail(folder: &Path, seed: u64) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let log = files_below(&folder.join("log"));
    // Of several files of a journal the newest one has the end.
    let is_log = |name: &str| name == "db" || name == "log.redb" || name.ends_with(".journal");
    let named = |path: &&PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(is_log);
    let file = log.iter().rfind(named);
    let file = file.ok_or_else(|| format!("{} has no log", folder.display()))?;
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    let length = dice.within(1, TAIL).min(end);
    let damaged: Vec<u8> = match dice.roll(2) {
        0 => vec![0; length as usize],
        _ => bytes[(end - length) as usize..end as usize].iter().map(|byte| byte ^ 0x5a).collect(),
    };
    let file = OpenOptions::new().write(true).open(file).map_err(|error| error.to_string())?;
    file.write_all_at(&damaged, end - length).map_err(|error| error.to_string())
}

/// Changes a byte of some blobs below `part` of a folder.
pub(crate) fn blobs(folder: &Path, part: &str, seed: u64) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let mut files = files_below(&folder.join(part));
    files.retain(|path| is_blob(path));
    dice.shuffle(&mut files);
    for path in files.iter().take(BLOBS) {
        // One may have been removed meanwhile; its bytes were right then.
        let Ok(bytes) = std::fs::read(path) else { continue };
        let Some(at) = (!bytes.is_empty()).then(|| dice.roll(bytes.len() as u64)) else { continue };
        // Blobs may be read-only, which root does not mind.
        if let Ok(file) = OpenOptions::new().write(true).open(path) {
            let _ = file.write_all_at(&[bytes[at as usize] ^ 0x5a], at);
        }
    }
    Ok(())
}

/// Blobs are named by their digest.
fn is_blob(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() >= 32 && name.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-')
}

/// Every file below a folder, in order.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_that_is_something_is_damaged_and_the_begin_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/sled/db");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let written = [vec![7; 5_000], vec![0; 3_000]].concat();
        for seed in 0..8 {
            std::fs::write(&path, &written).unwrap();
            log_tail(folder.path(), seed).unwrap();
            let now = std::fs::read(&path).unwrap();
            assert_eq!((now.len(), &now[..5_000 - TAIL as usize]), (written.len(), &written[..5_000 - TAIL as usize]));
            assert_ne!(now[4_999], 7);
        }
    }

    #[test]
    fn one_byte_of_a_blob_is_changed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("origin/ab").join("ab".repeat(32));
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        std::fs::write(&blob, [1; 100]).unwrap();
        std::fs::write(folder.path().join("origin/lock"), [1; 100]).unwrap();
        blobs(folder.path(), "origin", 1).unwrap();
        let changed = |path: &Path| std::fs::read(path).unwrap().iter().filter(|byte| **byte != 1).count();
        assert_eq!((changed(&blob), changed(&folder.path().join("origin/lock"))), (1, 0));
    }
}
