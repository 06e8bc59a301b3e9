//! The launcher: a small process of its own that forks what runs, and outlives the agent.
//!
//! Owns the life of every attempt on this node from its start to its exit record: process attempts it runs itself, a container
//! gets a shim. Limits in time (timeout, stop with grace, lease) are held here, so they hold with the agent dead.
//! It must not start a thread, know a network, or decide anything: it does what [`protocol::Request`] says.
//!
//! Files in its folder: `launcher.sock`, `launcher.lock` (held while it lives), `launcher.log`, `cgroups` (where its cgroups are),
//! `shims/PID.json` (which shims live: the next launcher takes them over), `processes` (what no cgroup holds). In an attempt's
//! folder, which must exist: `stdout.log`, `stderr.log` (once there is output), `exit.json`.
//!
//! Invariants: one launcher per folder. An attempt is started at most once: a folder with an exit record is never run again. What
//! is neither in the launcher's list nor has an exit record does not run: it was lost with an earlier launcher, or this one was never
//! asked for it, or it could not write the record and keeps it.

mod agent_link;
mod attempt;
mod client;
mod command;
mod deadlines;
mod detach;
pub mod ending;
mod event_loop;
mod identity;
mod memory_look;
mod process;
pub mod protocol;
mod raw;
mod reactor;
mod reap;
mod record;
mod roster;
mod shim;
mod shim_attempt;
mod shim_record;
mod socket;
mod spawn;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use std::fs::File;
use std::io;
use std::path::Path;

pub use client::{ClientError, LauncherClient, StartCommand};
pub use record::{EXIT_RECORD, RecordError, read_exit};

use self::event_loop::Leave;
use crate::cgroup::{CgroupError, Pool};
use crate::runtime::spec::{ExitCause, ExitRecord};

/// Why a launcher could not begin or go on.
#[derive(Debug, thiserror::Error)]
enum LauncherError {
    #[error("cannot {action}: {source}")]
    Io { action: &'static str, source: io::Error },
    #[error("{source}: {}", source.source)]
    Cgroup {
        #[from]
        source: CgroupError,
    },
}

fn doing(action: &'static str) -> impl FnOnce(io::Error) -> LauncherError {
    move |source| LauncherError::Io { action, source }
}

/// The record of an attempt of which nothing ran.
fn never_started(cause: ExitCause) -> ExitRecord {
    let ended_at_ms = flowyard_clock::wall_ms();
    ExitRecord { cause, started_at_ms: None, ended_at_ms, peak_memory_bytes: 0, cpu_us: 0 }
}

/// Becomes the launcher of `folder`, an absolute path. The calling process must have one thread; it exits as soon as a launcher
/// serves the folder, with 0, or with 1 and the reason on standard error.
pub fn main(folder: &Path) -> ! {
    let ready = match detach::detach() {
        Ok(ready) => ready,
        Err(error) => {
            // Standard error is all there is at this point; without it nobody listens.
            let _ = io::Write::write_all(&mut io::stderr(), format!("cannot detach: {error}\n").as_bytes());
            std::process::exit(1)
        }
    };
    let code = match serve(folder, ready) {
        Ok(code) => code,
        Err(error) => {
            // Standard error is the launcher's log by now.
            let _ = io::Write::write_all(&mut io::stderr(), format!("{error}\n").as_bytes());
            1
        }
    };
    std::process::exit(code)
}

fn serve(folder: &Path, ready: detach::Ready) -> Result<i32, LauncherError> {
    let (launcher, lock) = match prepare(folder, &ready) {
        Ok(Some(prepared)) => {
            ready.tell(Ok(()));
            prepared
        }
        Ok(None) => {
            // Another launcher has the folder, which is all that was wanted.
            ready.tell(Ok(()));
            return Ok(0);
        }
        Err(error) => {
            ready.tell(Err(&error.to_string()));
            return Err(error);
        }
    };
    let left = launcher.run().map_err(doing("go on"));
    if let (Ok(Leave::Done), Some(home)) = (&left, folder.parent()) {
        // Nothing runs, and who comes next waits for the lock.
        crate::network::take_down(home);
    }
    drop(lock);
    match left? {
        Leave::Done => Ok(0),
        Leave::AsShim(task) => Ok(shim::run(*task)),
    }
}

/// The folder's lock, or nothing if a launcher answers there. One that has the lock and does not answer is beginning or ending;
/// neither takes long.
fn lock_unless_served(folder: &Path) -> io::Result<Option<File>> {
    const TRIES: usize = 500;
    for _ in 0..TRIES {
        if let Some(lock) = detach::lock(folder)? {
            return Ok(Some(lock));
        }
        if socket::connect(folder).is_ok() {
            return Ok(None);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(io::ErrorKind::TimedOut.into())
}

type Prepared = (event_loop::Launcher, File);

fn prepare(folder: &Path, ready: &detach::Ready) -> Result<Option<Prepared>, LauncherError> {
    std::fs::create_dir_all(folder).map_err(doing("make the launcher's folder"))?;
    let log = File::options().create(true).append(true).open(folder.join("launcher.log"));
    let log = log.map_err(doing("open the launcher's log"))?;
    ready.close_all_else(&log).map_err(doing("close inherited files"))?;
    let Some(lock) = lock_unless_served(folder).map_err(doing("lock the launcher's folder"))? else { return Ok(None) };
    let files = detach::settle().map_err(doing("settle"))?;
    shim_record::ShimRecord::prepare(folder).map_err(doing("make a folder"))?;
    let shims = shim_record::ShimRecord::living(folder);
    let in_use = |name: &str| shims.iter().any(|shim| shim.slot.as_deref() == Some(name));
    let pool = Pool::open(folder, &in_use)?;
    let listener = socket::listen(folder).map_err(doing("listen"))?;
    let mut launcher = event_loop::Launcher::new(folder, listener, pool, files).map_err(doing("begin"))?;
    launcher.adopt(shims);
    Ok(Some((launcher, lock)))
}
