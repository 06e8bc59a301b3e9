//! A command beside a running attempt: joins its cgroups and, for a container, its namespaces, gives up what the attempt's own
//! processes do not have, and runs the command.
//!
//! It is a process of its own, freshly executed and with one thread, because a process with threads cannot enter a user
//! namespace. The part that stays outside waits for the command; the part that enters is never visible to the attempt before it
//! is as weak as the attempt's own processes.
//!
//! Invariant: nothing of the command runs unless `no_new_privs` is set and, in a container, all capabilities are gone and the
//! filter is installed.

use std::fs;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork};
use serde::{Deserialize, Serialize};

use super::spec::{LaunchSpec, Sandbox, User};
use super::{RuntimeError, init, linked, seccomp, sys};

/// Our own exit code when the attempt could not be joined; the command's own codes are passed on.
const NOT_JOINED: i32 = 119;

/// Namespaces of a container, and what they are called under `/proc/PID/ns`.
const NAMESPACES: [(&str, CloneFlags); 6] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
];

/// What to run, and beside what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// A process of the attempt.
    pub pid: u32,
    /// When that process started, as `/proc/PID/stat` has it: the number alone could be another's by now.
    pub start_ticks: u64,
    /// Files to write ourselves into, so that the attempt's limits hold for the command too.
    pub cgroups: Vec<PathBuf>,
    /// Whether standard input is the command's controlling terminal.
    pub terminal: bool,
    /// The attempt's own specification with the command in the place of its own.
    pub launch: LaunchSpec,
}

/// The role's whole life. The order's file is removed once it is read.
pub fn main(order: &Path) -> ! {
    // A process of the container must not be able to look into this one.
    sys::set_dumpable(false);
    let code = match read(order).and_then(|order| run(&order)) {
        Ok(code) => code,
        Err(error) => {
            // Standard error is the user's; there is nobody else to tell.
            let _ =
                io::Write::write_all(&mut io::stderr(), format!("the attempt cannot be joined: {error}\n").as_bytes());
            NOT_JOINED
        }
    };
    std::process::exit(code)
}

fn read(path: &Path) -> Result<Order, RuntimeError> {
    let failed = |source| RuntimeError::Path { what: "read the order", path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))
}

fn run(order: &Order) -> Result<i32, RuntimeError> {
    let program = linked::program(&order.launch)?;
    let filter = seccomp::Filter::shipped()?;
    let target = pidfd(order)?;
    for file in &order.cgroups {
        fs::write(file, "0").map_err(|source| RuntimeError::Path {
            what: "enter the attempt's cgroup",
            path: file.clone(),
            source,
        })?;
    }
    // The cgroup may have been given to another attempt since the order was written: then its process is not the same any more.
    is_same(order)?;
    let container = match &order.launch.sandbox {
        Sandbox::Process => None,
        Sandbox::Container(container) => Some(container.user),
    };
    if let Some(user) = container {
        enter(order.pid, target, user)?;
        init::drop_held_capabilities()?;
    }
    settle()?;
    std::env::set_current_dir(&order.launch.workdir).map_err(|source| RuntimeError::Path {
        what: "enter the working directory",
        path: order.launch.workdir.clone(),
        source,
    })?;
    let waited = block_signals();
    // SAFETY: this process has one thread (module documentation), so the child may use the allocator.
    match unsafe { fork() }.map_err(|source| RuntimeError::Step { what: "fork", source: source.into() })? {
        ForkResult::Child => become_command(&program, container.map(|_| &filter), order.terminal),
        ForkResult::Parent { child } => {
            leave_stdio()?;
            Ok(tend(child, &waited))
        }
    }
}

/// Takes hold of the attempt's process.
fn pidfd(order: &Order) -> Result<OwnedFd, RuntimeError> {
    // SAFETY: takes integers; the descriptor it returns is new and nobody else's.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, order.pid, 0) };
    if fd < 0 {
        return Err(RuntimeError::last_os("take hold of the attempt's process"));
    }
    is_same(order)?;
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn is_same(order: &Order) -> Result<(), RuntimeError> {
    match start_ticks(order.pid) {
        Some(ticks) if ticks == order.start_ticks => Ok(()),
        _ => Err(RuntimeError::Refused("it has just ended".to_owned())),
    }
}

/// When a process started, in clock ticks since boot.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses that may contain anything; the start is field 22.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Enters every namespace of the process that is not our own, and becomes the task's user there.
fn enter(pid: u32, target: OwnedFd, user: User) -> Result<(), RuntimeError> {
    let step = |what| move |source: nix::Error| RuntimeError::Step { what, source: source.into() };
    let privileged = Uid::effective().is_root();
    if privileged {
        // Afterwards it may be forbidden, and the groups of the agent are not the task's.
        nix::unistd::setgroups(&[]).map_err(step("give up supplementary groups"))?;
    }
    let mut flags = CloneFlags::empty();
    for (name, flag) in NAMESPACES {
        let (own, theirs) = (format!("/proc/self/ns/{name}"), format!("/proc/{pid}/ns/{name}"));
        let read = |path: &String| {
            fs::read_link(path).map_err(|source| RuntimeError::Path { what: "look at", path: path.into(), source })
        };
        if read(&own)? != read(&theirs)? {
            flags |= flag;
        }
    }
    if !flags.contains(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID) {
        return Err(RuntimeError::Refused("its process is not in a container".to_owned()));
    }
    setns(target, flags).map_err(step("enter the container"))?;
    init::bound_capabilities()?;
    nix::unistd::setresgid(Gid::from(user.gid), Gid::from(user.gid), Gid::from(user.gid))
        .map_err(step("become the group"))?;
    nix::unistd::setresuid(Uid::from(user.uid), Uid::from(user.uid), Uid::from(user.uid))
        .map_err(step("become the user"))?;
    // A change of user may have set it.
    sys::set_dumpable(false);
    Ok(())
}

/// What holds for every command: no new privileges, no core files, the usual mask, nothing inherited but the standard streams.
fn settle() -> Result<(), RuntimeError> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain values, and a pointer to a live one. The descriptors from 3 on are closed only when a program is executed.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(RuntimeError::last_os("forbid new privileges"));
        }
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        if libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
            return Err(RuntimeError::last_os("close descriptors"));
        }
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    Ok(())
}

/// The signals that the waiting part waits for, blocked from here on.
fn block_signals() -> libc::sigset_t {
    // SAFETY: the set is initialised by `sigemptyset` before it is used.
    unsafe {
        let mut waited = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut waited);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
            libc::sigaddset(&mut waited, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &waited, std::ptr::null_mut());
        waited
    }
}

/// In the child: the last steps, and the command.
fn become_command(program: &init::Program, filter: Option<&seccomp::Filter>, terminal: bool) -> ! {
    let said = match restrict(filter, terminal) {
        Ok(()) => {
            let (code, message) = program.explain(&program.execute());
            (code, message)
        }
        Err(error) => (NOT_JOINED, format!("the attempt cannot be joined: {error}")),
    };
    // Standard error is the user's; there is nobody else to tell.
    let _ = io::Write::write_all(&mut io::stderr(), format!("{}\n", said.1).as_bytes());
    // SAFETY: ends this process without running the parent's exit code.
    unsafe { libc::_exit(said.0) }
}

fn restrict(filter: Option<&seccomp::Filter>, terminal: bool) -> Result<(), RuntimeError> {
    // SAFETY: plain values; the sets and actions are initialised before they are used.
    unsafe {
        libc::setsid();
        if terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
            return Err(RuntimeError::last_os("take the terminal"));
        }
        // Whoever waits for the command must not leave it behind.
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) != 0 {
            return Err(RuntimeError::last_os("tie the command to its client"));
        }
        let mut default_action = std::mem::zeroed::<libc::sigaction>();
        default_action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(libc::SIGPIPE, &default_action, std::ptr::null_mut());
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
    filter.map_or(Ok(()), seccomp::Filter::install)
}

/// The command alone decides when its output ends.
fn leave_stdio() -> Result<(), RuntimeError> {
    let failed = |source: io::Error| RuntimeError::Step { what: "leave the standard streams", source };
    let null = fs::File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    nix::unistd::dup2_stdin(null.as_fd()).map_err(|error| failed(error.into()))?;
    nix::unistd::dup2_stdout(null.as_fd()).map_err(|error| failed(error.into()))?;
    nix::unistd::dup2_stderr(null.as_fd()).map_err(|error| failed(error.into()))
}

/// Waits for the command; a signal to us ends it, with everything in its session's first group. Gives its exit code.
fn tend(command: Pid, waited: &libc::sigset_t) -> i32 {
    loop {
        // SAFETY: the set is initialised; no information about the signal is asked for.
        let signal = unsafe { libc::sigwaitinfo(waited, std::ptr::null_mut()) };
        if signal == libc::SIGCHLD {
            let mut status = 0;
            // SAFETY: `status` is a valid place for the answer.
            if unsafe { libc::waitpid(command.as_raw(), &mut status, libc::WNOHANG) } == command.as_raw() {
                return init::shell_code(status);
            }
        } else if signal > 0 {
            // SAFETY: the command is not collected yet, so its number is still its own; its group has the same number.
            unsafe {
                libc::kill(-command.as_raw(), libc::SIGKILL);
                libc::kill(command.as_raw(), libc::SIGKILL);
            }
        }
    }
}
