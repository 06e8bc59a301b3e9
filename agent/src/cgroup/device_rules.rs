//! The device nodes a container may open, as rules of the v1 controller.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

/// Making nodes is harmless without opening them; null, zero, full, random, urandom, tty, and terminals of one's own.
const ALWAYS: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// The rules for a container that was granted `devices`.
pub fn rules_for(devices: &[PathBuf]) -> io::Result<Vec<String>> {
    let mut rules: Vec<String> = ALWAYS.map(str::to_owned).into();
    for device in devices {
        let metadata = std::fs::metadata(device)?;
        let kind = match metadata.file_type() {
            kind if kind.is_char_device() => 'c',
            kind if kind.is_block_device() => 'b',
            _ => continue,
        };
        let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
        rules.push(format!("{kind} {major}:{minor} rwm"));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_granted_node_gets_its_own_rule_and_a_folder_none() {
        let rules = rules_for(&["/dev/zero".into(), "/tmp".into()]).expect("rules");
        assert_eq!(rules.len(), ALWAYS.len() + 1);
        assert_eq!(rules.last().expect("a rule"), "c 1:5 rwm");
        assert!(rules_for(&["/no/such/device".into()]).is_err());
    }
}
