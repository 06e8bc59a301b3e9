//! Users of the host that stand for the users of one attempt and of nobody else.
//!
//! A **user range** is 65,536 ids in a row, of users and of groups. An attempt's user 0 is the first of its range, and so on: what is
//! root inside is nobody outside, and two attempts are no more to each other than two strangers. The ranges are cut from a **span**
//! that the operator chose, or from ids that no distribution gives to anybody.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use crate::numbers::Numbers;
use crate::runtime::spec::{LaunchSpec, Sandbox, User};

/// Ids of a range. Programs expect those below, and 65,534 to be `nobody`.
const RANGE_IDS: u32 = 65_536;

/// Who a task is inside, on the host's own system: a user that owns nothing.
const NOBODY: u32 = 65_534;

/// Ids from which ranges are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    first: u32,
    last: u32,
}

/// What is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no range of ids such as 1879048192-2147352575: from 65536 on, at most 4294901759, and at least 65536 ids, as each \
     task gets so many"
)]
pub struct NoSpan(String);

impl Span {
    /// Between the ids of systemd's containers and those of its foreign files: systemd's list of ids calls them unused, and tools that
    /// fill /etc/subuid stay far below.
    pub const USUAL: Self = Self { first: 0x7000_0000, last: 0x7ffd_ffff };

    fn ranges(self) -> u32 {
        ((u64::from(self.last) - u64::from(self.first) + 1) / u64::from(RANGE_IDS)) as u32
    }

    fn overlaps(self, first: u64, last: u64) -> bool {
        first <= u64::from(self.last) && u64::from(self.first) <= last
    }

    /// The first and the last id of it.
    pub fn ends(self) -> (u32, u32) {
        (self.first, self.last)
    }

    /// Why this machine should not give these ids to tasks.
    ///
    /// # Errors
    /// Who has some of them already.
    pub fn unused(self) -> Result<(), SpanTaken> {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        for path in ["/etc/passwd", "/etc/group"] {
            if let Some(name) = named(&text(path), self) {
                return Err(SpanTaken { span: self, path, name });
            }
        }
        for path in ["/etc/subuid", "/etc/subgid"] {
            if let Some(name) = delegated(&text(path), self) {
                return Err(SpanTaken { span: self, path, name });
            }
        }
        for path in ["/proc/self/uid_map", "/proc/self/gid_map"] {
            if !is_mapped(&text(path), self) {
                return Err(SpanTaken { span: self, path, name: "another user namespace".to_owned() });
            }
        }
        Ok(())
    }
}

/// A span of which somebody has ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("agent.users: of the ids {span}, {path} gives some to `{name}`; choose others")]
pub struct SpanTaken {
    span: Span,
    path: &'static str,
    name: String,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for Span {
    type Err = NoSpan;

    fn from_str(text: &str) -> Result<Self, NoSpan> {
        let ends = text.split_once('-').and_then(|(first, last)| {
            Some(Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
        });
        // The last ids mean "nobody in particular" to the kernel; the first belong to the machine.
        let fits = |span: &Self| {
            (RANGE_IDS..=u32::MAX - RANGE_IDS).contains(&span.first)
                && (span.first..=u32::MAX - RANGE_IDS).contains(&span.last)
                && span.ranges() > 0
        };
        ends.filter(fits).ok_or_else(|| NoSpan(text.to_owned()))
    }
}

/// Whom a file like /etc/passwd gives an id of the span.
fn named(text: &str, span: Span) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        span.overlaps(id, id).then(|| name.to_owned())
    })
}

/// Whom a file like /etc/subuid gives ids of the span.
fn delegated(text: &str, span: Span) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (first, count): (u64, u64) = (fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?);
        (count > 0 && span.overlaps(first, first + count - 1)).then(|| name.to_owned())
    })
}

/// Whether this process' user namespace has all ids of the span.
fn is_mapped(map: &str, span: Span) -> bool {
    map.lines().any(|line| {
        let words: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [first, _, count] = words[..] else { return false };
        first <= u64::from(span.first) && u64::from(span.last) < first + count
    })
}

/// The ranges of one agent.
#[derive(Debug)]
pub(crate) struct UserRanges {
    span: Span,
    numbers: Mutex<Numbers>,
}

impl UserRanges {
    /// All ranges of the span, for the agent whose things lie in `home`.
    pub(crate) fn of(span: Span, home: &Path) -> Self {
        Self { span, numbers: Mutex::new(Numbers::new(span.ranges(), home)) }
    }

    /// Who the task of the attempt in `folder` is; `None` if all ranges are taken. On an image it is root, whom all files of the
    /// image belong to.
    pub(crate) fn give(&self, folder: &Path, root_inside: bool) -> Option<User> {
        let number = self.numbers().take(folder)?;
        let id = if root_inside { 0 } else { NOBODY };
        let host = self.span.first + number * RANGE_IDS + id;
        Some(User { uid: id, gid: id, host_uid: host, host_gid: host, range: RANGE_IDS })
    }

    /// Learns whom an attempt was started for that an earlier agent started.
    pub(crate) fn hold(&self, launch: &LaunchSpec) {
        let Sandbox::Container(container) = &launch.sandbox else { return };
        let user = container.user;
        let first = user.host_uid.checked_sub(user.uid).and_then(|first| first.checked_sub(self.span.first));
        if let Some(offset) = first.filter(|offset| user.range > 0 && offset / RANGE_IDS < self.span.ranges()) {
            self.numbers().hold(offset / RANGE_IDS, &launch.folder);
        }
    }

    fn numbers(&self) -> std::sync::MutexGuard<'_, Numbers> {
        // A panic cannot leave them half changed.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Span {
        text.parse().expect("a span")
    }

    #[test]
    fn spans_that_hold_no_range_or_ids_of_the_machine_are_refused() {
        assert_eq!(span("100000-231071").ranges(), 2);
        assert_eq!(Span::USUAL.to_string(), "1879048192-2147352575");
        assert_eq!(span(&Span::USUAL.to_string()), Span::USUAL);
        for text in ["", "100000", "0-65535", "100000-100001", "200000-100000", "4294901760-4294967295", "a-b"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_that_somebody_has_are_found() {
        let ours = span("100000-231071");
        assert_eq!(named("root:x:0:0::/:\nann:x:150000:9::/:\n", ours).as_deref(), Some("ann"));
        assert_eq!(named("root:x:0:0::/:\ngroup:x:99999:\n", ours), None);
        assert_eq!(delegated("bob:231071:65536\n", ours).as_deref(), Some("bob"));
        assert_eq!(delegated("bob:34464:65536\ncarl:231072:65536\n", ours), None);
        assert!(is_mapped("0 0 4294967295\n", ours) && !is_mapped("0 100000 65536\n", ours));
    }

    #[test]
    fn attempts_never_share_a_range_also_with_those_of_an_earlier_agent() {
        let home = tempfile::tempdir().expect("a folder");
        let ranges = UserRanges::of(span("100000-231071"), home.path());
        let folder = |name: &str| {
            let folder = home.path().join(name);
            std::fs::create_dir_all(&folder).expect("made");
            folder
        };
        let first = ranges.give(&folder("a"), false).expect("a range");
        assert_eq!((first.uid, first.range), (NOBODY, RANGE_IDS));
        let after_restart = UserRanges::of(span("100000-231071"), home.path());
        after_restart.hold(&launch(&folder("a"), first));
        let second = after_restart.give(&folder("b"), true).expect("a range");
        assert_eq!(second.uid, 0);
        assert!(second.host_uid.abs_diff(first.host_uid - first.uid) >= RANGE_IDS, "{first:?} {second:?}");
        assert!(after_restart.give(&folder("c"), true).is_none());
    }

    fn launch(folder: &Path, user: User) -> LaunchSpec {
        let launch = serde_json::json!({
            "name": "", "folder": folder, "argv": [], "env": [], "workdir": "/", "kill_grace_ms": 0, "log_limit_bytes": 0,
            "limits": { "cpu_milli": 0, "memory_bytes": 0, "pids": 0, "shm_bytes": 0, "disk_bytes": 0 },
            "sandbox": { "container": {
                "root": { "host": { "hidden": [] } }, "mounts": [], "network": "host", "devices": [], "user": user,
            } },
        });
        serde_json::from_value(launch).expect("a launch")
    }
}
