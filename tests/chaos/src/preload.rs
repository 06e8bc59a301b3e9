//! A wall clock that is wrong and a disk that is slow, for what runs on one host: a small library in C that is preloaded there and
//! reads two numbers from a file. It is built here, by the C compiler that Rust links with; where there is none, these faults are
//! left out. It stands in for Debian's libfaketime, which cannot slow a disk down, shares memory among hosts whose process ids are
//! equal, and would be one more thing to install.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::system::succeed;

/// The built library, and the folder of the files that it reads.
#[derive(Debug)]
pub(crate) struct Preload {
    library: PathBuf,
    folder: PathBuf,
}

impl Preload {
    /// Builds it.
    pub(crate) fn build(folder: &Path) -> Result<Self, String> {
        let (source, library) = (folder.join("preload.c"), folder.join("preload.so"));
        std::fs::write(&source, include_str!("preload.c")).map_err(|error| error.to_string())?;
        let [source, out] = [&source, &library].map(|path| path.display().to_string());
        succeed("cc", &["-O2", "-shared", "-fPIC", "-Wall", "-Werror", "-o", &out, &source])?;
        Ok(Self { library, folder: folder.to_owned() })
    }

    fn file(&self, host: &str) -> PathBuf {
        self.folder.join(format!("{host}.faults"))
    }

    /// Sets what a command of a host sees. The file must exist before it starts.
    pub(crate) fn apply(&self, host: &str, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FLOWYARD_CHAOS_FAULTS", self.file(host));
    }

    /// From now on the clock of a host is so far from ours, and its barriers take so much longer.
    pub(crate) fn set(&self, host: &str, offset_ms: i64, sync_ms: i64) -> std::io::Result<()> {
        use std::os::unix::fs::FileExt;
        let path = self.file(host);
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        // One write into pages that are mapped elsewhere: both numbers are aligned.
        file.write_all_at(&[offset_ms.to_ne_bytes(), sync_ms.to_ne_bytes()].concat(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preloaded_program_sees_another_hour_and_ours_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let preload = match Preload::build(folder.path()) {
            Ok(preload) => preload,
            Err(reason) => return flowyard_skip::skip(&format!("no C compiler: {reason}")),
        };
        preload.set("a", 3_600_500, 0).unwrap();
        let seconds = |preloaded: bool| {
            let mut date = Command::new("date");
            date.arg("+%s");
            if preloaded {
                preload.apply("a", &mut date);
            }
            String::from_utf8(date.output().unwrap().stdout).unwrap().trim().parse::<i64>().unwrap()
        };
        let ahead = seconds(true) - seconds(false);
        assert!((3_595..=3_601).contains(&ahead), "{ahead}");
    }
}
