//! Which paths and link targets a manifest may hold.

use super::{ManifestError, printable};

/// The longest path of an entry, in bytes.
pub const MAX_PATH_BYTES: usize = 4_095;
/// The longest single name, in bytes (what Linux file systems take).
pub const MAX_NAME_BYTES: usize = 255;
/// The deepest an entry may lie; a checkout holds one open folder per level.
pub const MAX_DEPTH: usize = 200;

/// Refuses a path that could not be made, or that would leave the tree.
pub(super) fn check_path(path: &[u8]) -> Result<(), ManifestError> {
    let refuse = |problem| Err(ManifestError::Path { path: printable(path), problem });
    if path.len() > MAX_PATH_BYTES {
        return refuse("it is longer than 4095 bytes");
    }
    if path.first() == Some(&b'/') {
        return refuse("it is absolute");
    }
    let mut depth = 0;
    for name in path.split(|byte| *byte == b'/') {
        depth += 1;
        match name {
            b"" => return refuse("it has an empty name in it"),
            b"." | b".." => return refuse("it has `.` or `..` in it"),
            _ if name.len() > MAX_NAME_BYTES => return refuse("it has a name longer than 255 bytes"),
            _ if name.contains(&0) => return refuse("it has a zero byte in it"),
            _ => {}
        }
    }
    if depth > MAX_DEPTH {
        return refuse("it is more than 200 levels deep");
    }
    Ok(())
}

/// Refuses a link whose target could lie outside the tree.
///
/// `..` is allowed only at the start of a target. The folders above a link are real folders, so leading `..` climb exactly
/// that many levels; the rest only descends, and a link met on the way obeys the same rule. So no chain of links gets out.
pub(super) fn check_link(path: &[u8], target: &[u8]) -> Result<(), ManifestError> {
    let refuse = |problem| Err(ManifestError::Link { path: printable(path), target: printable(target), problem });
    if target.is_empty() || target.len() > MAX_PATH_BYTES || target.contains(&0) {
        return refuse("that is not a target");
    }
    if target[0] == b'/' {
        return refuse("the target is absolute, and means something else on another machine");
    }
    let mut levels_above = path.iter().filter(|byte| **byte == b'/').count();
    let mut descending = false;
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if descending => return refuse("`..` may stand only at the start of a target"),
            b".." if levels_above == 0 => return refuse("the target is outside of the tree"),
            b".." => levels_above -= 1,
            _ => descending = true,
        }
    }
    Ok(())
}
