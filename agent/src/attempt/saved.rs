//! Whether a task has saved its work: it touches a file then, and the agent looks when that was.
//!
//! Told rarely: each report is an entry of the log, and nothing but the choice of who is evicted depends on it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use flowyard_model::TimeMs;

use super::WORK;

/// The file, in the working directory.
pub(super) const SAVED: &str = ".flowyard-saved";
/// Between two looks at it.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// What is saved more often is told no more often than this.
const TELL_MS: u64 = 60_000;

/// What is known of one attempt's saving.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// When it last did.
    pub(super) at: Option<TimeMs>,
    /// When that was last told, in boot time.
    told_ms: Option<u64>,
}

impl Saved {
    /// Looks into the attempt's folder.
    pub(super) fn look(&mut self, folder: &Path) {
        self.at = touched_at(&folder.join(WORK).join(SAVED)).or(self.at);
    }

    /// The same; whether there is something to be told now.
    pub(super) fn is_news(&mut self, folder: &Path, boot_ms: u64) -> bool {
        let before = self.at;
        if self.told_ms.is_some_and(|told| boot_ms.saturating_sub(told) < TELL_MS) {
            return false;
        }
        self.look(folder);
        let news = self.at != before;
        if news {
            self.told_ms = Some(boot_ms);
        }
        news
    }
}

/// When a file was last touched; not later than now, whatever time was written there.
fn touched_at(file: &Path) -> Option<TimeMs> {
    let looks = std::fs::symlink_metadata(file).ok().filter(std::fs::Metadata::is_file)?;
    let ms =
        u64::try_from(looks.mtime()).ok()?.saturating_mul(1_000).saturating_add(looks.mtime_nsec() as u64 / 1_000_000);
    Some(TimeMs(ms.min(flowyard_clock::wall_ms())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saving_is_told_at_once_and_then_at_most_once_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(WORK).join(SAVED);
        std::fs::create_dir(folder.path().join(WORK)).unwrap();
        let touch = |seconds: u64| {
            let file = std::fs::File::create(&file).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        let mut saved = Saved::default();
        assert!(!saved.is_news(folder.path(), 1_000), "it has saved nothing");
        touch(100);
        assert!(saved.is_news(folder.path(), 2_000));
        assert_eq!(saved.at, Some(TimeMs(100_000)));
        touch(200);
        assert!(!saved.is_news(folder.path(), 61_999));
        assert!(saved.is_news(folder.path(), 62_000));
        assert_eq!(saved.at, Some(TimeMs(200_000)));
        assert!(!saved.is_news(folder.path(), 999_999), "nothing was saved since");
        touch(300);
        saved.look(folder.path());
        assert_eq!(saved.at, Some(TimeMs(300_000)), "its end says it in any case");
    }

    #[test]
    fn no_time_in_the_future_and_no_link_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        let later = std::time::UNIX_EPOCH + Duration::from_secs(1 << 40);
        std::fs::File::create(&file).unwrap().set_modified(later).unwrap();
        assert!(touched_at(&file).unwrap() <= TimeMs(flowyard_clock::wall_ms()));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(touched_at(&link), None);
    }
}
