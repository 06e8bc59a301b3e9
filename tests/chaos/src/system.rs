//! What is asked of the machine under the suite: programs of the system, processes, waiting.

use std::process::{Command, Stdio};
use std::time::Duration;

/// How long anything may take before a run gives up; far above what it takes, since the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);
const LOOK: Duration = Duration::from_millis(20);

/// Runs a program of the system that must succeed.
pub(crate) fn succeed(program: &str, args: &[&str]) -> Result<(), String> {
    let out = Command::new(program).args(args).stdin(Stdio::null()).output();
    let out = out.map_err(|error| format!("{program}: {error}"))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

/// Waits until something holds; whether it came to that.
pub(crate) fn waited(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    flowyard_clock::patiently(patience, || {
        let holds = holds();
        if !holds {
            std::thread::sleep(LOOK);
        }
        holds.then_some(())
    })
    .is_some()
}

/// The processes that this one started and that are there.
pub(crate) fn children(of: u32) -> Vec<i32> {
    let of = i32::try_from(of).expect("process ids are small");
    every_process().filter(|(_, stat)| parent_in(stat) == Some(of)).map(|(pid, _)| pid).collect()
}

/// Every process of this machine with its `stat` line.
fn every_process() -> impl Iterator<Item = (i32, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, std::fs::read_to_string(entry.path().join("stat")).ok()?))
    })
}

/// The parent that a `stat` line names: the second word after the program's name.
fn parent_in(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Every process that descends from this one, with its command line. Orphans of a process namespace become children of its
/// first process, so nothing on a host escapes.
pub(crate) fn descendants(of: i32) -> Vec<(i32, String)> {
    let all: Vec<(i32, Option<i32>, String)> =
        every_process().map(|(pid, stat)| (pid, parent_in(&stat), stat)).collect();
    let mut found = vec![of];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(all.iter().filter(|(_, above, _)| *above == Some(parent)).map(|(pid, ..)| *pid));
        at += 1;
    }
    let words = |pid: &i32| {
        let stat = || all.iter().find(|(other, ..)| other == pid).map(|(_, _, stat)| stat.clone());
        command_line(*pid).or_else(stat).unwrap_or_default()
    };
    found[1..].iter().map(|pid| (*pid, words(pid))).collect()
}

/// The words of a process; a zombie has none.
fn command_line(pid: i32) -> Option<String> {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|words| !words.is_empty())?;
    Some(String::from_utf8_lossy(&words).replace('\0', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_whatever_a_program_is_called() {
        assert_eq!(parent_in("17 (a ) b) S 4 17 17 0 -1"), Some(4));
    }

    #[test]
    fn children_and_their_children_are_found() {
        let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(waited(PATIENCE, || descendants(own).iter().any(|(_, line)| line.starts_with("sleep 60"))));
        let grandchild = descendants(pid)[0].0;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(grandchild), nix::sys::signal::Signal::SIGKILL).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
