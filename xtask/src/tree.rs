//! A copy of the repository in which a few words are changed, to build what is not in it.

use std::path::{Path, PathBuf};

use crate::workspace::Workspace;

/// What is otherwise in the copy: words that must be in a file exactly once, and what is there instead.
pub(crate) struct Change {
    pub(crate) file: &'static str,
    pub(crate) find: &'static str,
    pub(crate) put: &'static str,
}

/// The line of the workspace's manifest that says the version of all its packages.
pub(crate) const VERSION_LINE: &str = concat!("\nversion = \"", env!("CARGO_PKG_VERSION"), "\"\n");

impl Change {
    /// The text with it.
    pub(crate) fn made(&self, text: &str) -> Result<String, String> {
        match text.matches(self.find).count() {
            1 => Ok(text.replace(self.find, self.put)),
            count => Err(format!("{}: this is there {count} times, not once: {}", self.file, self.find)),
        }
    }
}

/// Every file of the repository as it is now, with these changes; what is in the copy already keeps its time, so that it is not built
/// again.
pub(crate) fn copy_tree(workspace: &Workspace, copy: &Path, changes: &[Change]) -> Result<(), String> {
    for file in workspace.files()? {
        let (from, to): (PathBuf, PathBuf) = (workspace.root.join(&file), copy.join(&file));
        let mut bytes = std::fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        for change in changes.iter().filter(|change| Path::new(change.file) == Path::new(&file)) {
            bytes = change.made(&read(&from)?)?.into_bytes();
        }
        if std::fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        let folder = to.parent().ok_or("a file lies in a folder")?;
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        std::fs::write(&to, bytes).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    Ok(())
}

/// A file as text.
pub(crate) fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// Replaces a file.
pub(crate) fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_changed_only_where_they_are_there_once() {
        let change = Change { file: "a", find: "NEWEST = 2", put: "NEWEST = 3" };
        assert_eq!(change.made("const NEWEST = 2;").unwrap(), "const NEWEST = 3;");
        assert!(change.made("const NEWEST = 4;").unwrap_err().contains("0 times"));
        assert!(change.made("NEWEST = 2 NEWEST = 2").is_err());
    }
}
