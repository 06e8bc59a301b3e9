//! A container attempt as the launcher sees it: a shim, its own child or found from an earlier launcher.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};

use super::protocol::Stopping;
use super::reactor::to_value;
use super::shim::{ShimReport, ShimTask};
use super::shim_record::ShimRecord;
use crate::cgroup::{Pool, Slot, rules_for};
use crate::runtime::spec::{ContainerSpec, ExitCause, ExitRecord, LaunchSpec};
use crate::runtime::{RuntimeError, Stages};

/// Longest report of a shim.
const REPORT_BYTES: usize = 64 * 1024;

/// A shim that lives.
#[derive(Debug)]
pub(super) struct ShimAttempt {
    pub(super) folder: PathBuf,
    pub(super) pid: u32,
    pub(super) started_at_ms: Option<u64>,
    slot: SlotOf,
    link: Link,
    ended: Option<ExitRecord>,
}

/// The cgroups of a shim's container.
#[derive(Debug)]
enum SlotOf {
    /// From our pool, or none.
    Ours(Option<Slot>),
    /// Made by an earlier launcher.
    Earlier(Option<String>),
}

/// How we hear of it.
#[derive(Debug)]
enum Link {
    /// Its reports; its end comes as SIGCHLD.
    Reports(OwnedFd),
    /// Only its end, by a descriptor of the process.
    Process(OwnedFd),
}

/// Prepares a container attempt up to the fork: the task for the shim, and what the launcher keeps.
pub(super) fn prepare(
    home: &Path,
    spec: Box<LaunchSpec>,
    container: Box<ContainerSpec>,
    stages: &mut Stages,
    pool: &mut Pool,
) -> Result<(ShimTask, ShimAttempt), ExitCause> {
    let stage = stages.ready(&container).map_err(RuntimeError::into_exit_cause)?;
    let (launcher, reports) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)
            .map_err(|error| failed(format!("cannot make a socket pair: {error}")))?;
    let rules = rules_for(&container.devices).map_err(|error| failed(format!("a granted device: {error}")))?;
    let mut limits = spec.limits;
    // The container's first process is ours, not the user's.
    limits.pids += u64::from(limits.pids > 0);
    let slot = pool.acquire(&limits).map_err(|error| failed(error.chain()))?;
    let slot = match slot {
        Some(mut slot) => match slot.restrict_devices(&rules) {
            Ok(_) => Some(slot),
            Err(error) => {
                pool.release(slot);
                return Err(failed(error.chain()));
            }
        },
        None => None,
    };
    let attempt = ShimAttempt {
        folder: spec.folder.clone(),
        pid: 0,
        started_at_ms: None,
        slot: SlotOf::Ours(slot),
        link: Link::Reports(reports),
        ended: None,
    };
    Ok((ShimTask { home: home.to_owned(), spec, container, stage, slot: None, launcher }, attempt))
}

fn failed(message: String) -> ExitCause {
    ExitCause::StartFailed { message }
}

impl ShimAttempt {
    /// Takes over a shim that an earlier launcher started.
    pub(super) fn adopt(record: ShimRecord) -> io::Result<Self> {
        // SAFETY: the call takes plain values.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, record.identity.pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        let process = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        Ok(Self {
            folder: record.folder,
            pid: record.identity.pid,
            started_at_ms: record.started_at_ms,
            slot: SlotOf::Earlier(record.slot),
            link: Link::Process(process),
            ended: None,
        })
    }

    /// What to watch.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match &self.link {
            Link::Reports(fd) | Link::Process(fd) => fd.as_fd(),
        }
    }

    /// Asks the shim to stop its container.
    pub(super) fn stop(&self, stopping: Stopping) {
        // SAFETY: signals a child we have not reaped, or a process whose identity was checked when it was adopted.
        unsafe {
            match to_value(stopping) {
                None => libc::kill(self.pid as i32, libc::SIGTERM),
                Some(value) => {
                    let value = libc::sigval { sival_ptr: value as *mut libc::c_void };
                    libc::sigqueue(self.pid as i32, libc::SIGTERM, value)
                }
            }
        };
    }

    /// What the link says: the pid and time of a start, if that is new; and whether the shim has ended (known only of one that
    /// is not our child).
    pub(super) fn hear(&mut self) -> (Option<(u32, u64)>, bool) {
        match &self.link {
            Link::Process(_) => (None, true),
            Link::Reports(_) => (self.take_reports(), false),
        }
    }

    fn take_reports(&mut self) -> Option<(u32, u64)> {
        let Link::Reports(fd) = &self.link else { return None };
        let mut started = None;
        let mut bytes = vec![0; REPORT_BYTES];
        while let Ok(count @ 1..) = recv(fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            match serde_json::from_slice(&bytes[..count]) {
                Ok(ShimReport::Started { pid, at_ms }) => {
                    self.started_at_ms = Some(at_ms);
                    started = Some((pid, at_ms));
                }
                Ok(ShimReport::Ended { record }) => self.ended = Some(record),
                // It was forked from us, so it speaks as we do.
                Err(_) => {}
            }
        }
        started
    }

    /// Closes everything after the shim has ended, and gives how its container did.
    pub(super) fn finish(mut self, home: &Path, pool: &mut Pool) -> (PathBuf, ExitRecord) {
        self.take_reports();
        let recorded = || super::record::read_exit(&self.folder).ok().flatten();
        let record = self.ended.take().or_else(recorded).unwrap_or_else(|| self.died());
        match self.slot {
            SlotOf::Ours(Some(slot)) => pool.release(slot),
            // What cannot be removed now is found by the next sweep.
            SlotOf::Earlier(Some(name)) => drop(pool.remove_left(&name)),
            SlotOf::Ours(None) | SlotOf::Earlier(None) => {}
        }
        ShimRecord::forget(home, self.pid);
        (self.folder, record)
    }

    /// The end of a container whose shim left no word: it was killed with its shim.
    fn died(&self) -> ExitRecord {
        let cause = match self.started_at_ms {
            Some(_) => ExitCause::Signalled { signal: libc::SIGKILL },
            None => failed("the process that was to make the container died".to_owned()),
        };
        ExitRecord { started_at_ms: self.started_at_ms, ..super::never_started(cause) }
    }

    /// The slot, for the shim after the fork, or for the pool when there was none.
    pub(super) fn into_slot(self) -> Option<Slot> {
        match self.slot {
            SlotOf::Ours(slot) => slot,
            SlotOf::Earlier(_) => None,
        }
    }
}
