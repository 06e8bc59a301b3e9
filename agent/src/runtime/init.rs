//! The container's first process: the last steps before the user's program, and what stays as its parent.
//!
//! It runs inside the container, called by the container library when everything else is done. It gives up what is left of
//! rights, installs the system call filter, starts the user's program as its child, passes signals on, collects orphans and tells
//! the shim how the program ended. Without it the program would be process 1, for which the kernel ignores SIGTERM, SIGABRT and
//! every other signal that the program does not catch.
//!
//! Invariant: nothing of the user runs unless `no_new_privs` is set, all capabilities are gone and the filter is installed.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::sched::{CloneFlags, unshare};

use super::{RuntimeError, report::Report, seccomp, sys, title::Title};

/// The descriptor on which this process reports to the shim once it has closed everything else.
const REPORT_FD: i32 = 3;

/// Size of the stack on which the child runs until it has executed the program.
const CHILD_STACK_BYTES: usize = 64 << 10;

/// What a task sees as process 1.
const TITLE: &CStr = c"flowyard-init";

/// Highest number of a signal.
const SIGNAL_MAX: i32 = 64;

/// What is to be run, in the shape in which the kernel wants it.
#[derive(Debug)]
pub(crate) struct Program {
    /// Files to try, in order.
    pub(crate) candidates: Vec<CString>,
    /// Program and arguments.
    pub(crate) argv: Vec<CString>,
    /// `NAME=value`.
    pub(crate) env: Vec<CString>,
    /// How the user calls it.
    pub(crate) name: String,
    /// Where it is looked for, in words.
    pub(crate) searched: String,
}

/// The container library's hook for the last steps.
#[derive(Debug, Clone)]
pub(crate) struct Init {
    pub(crate) program: Rc<Program>,
    pub(crate) filter: Rc<seccomp::Filter>,
    pub(crate) title: Option<Title>,
    pub(crate) reports: Rc<OwnedFd>,
}

impl Executor for Init {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        match self.run() {
            Ok(status) => std::process::exit(status),
            Err(error) => {
                let _ = Report::SandboxFailed(error.to_string()).send(self.reports.as_fd());
                Err(ExecutorError::Other(error.to_string()))
            }
        }
    }

    /// Nothing to say before the program is looked for, which happens as the user and with the filter on.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// The last call before the maker is told that the container is ready. The task's own user namespace is made here, so that
    /// the maker can write its id maps before it says "start".
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        unshare(CloneFlags::CLONE_NEWUSER)
            .map_err(|error| ExecutorSetEnvsError::Other(format!("make the task's user namespace: {error}")))?;
        // The maker may be an ordinary user, who may write maps only of processes that he may look into.
        sys::set_dumpable(true);
        Ok(())
    }
}

impl Init {
    fn run(&self) -> Result<i32, RuntimeError> {
        demand_no_new_privileges()?;
        drop_capabilities()?;
        sys::set_dumpable(false);
        die_with_parent()?;
        if let Some(title) = self.title {
            title.replace(TITLE);
        }
        let reports = keep_only(&self.reports)?;
        block_signals();
        self.filter.install()?;
        let child = match spawn(&self.program) {
            Ok(child) => child,
            Err(error) => {
                let (code, message) = self.program.explain(&error);
                let _ = Report::CommandFailed { code, message }.send(reports.as_fd());
                return Ok(code);
            }
        };
        let _ = Report::Started.send(reports.as_fd());
        let status = tend(child);
        let _ = Report::Ended { status }.send(reports.as_fd());
        Ok(shell_code(status))
    }
}

impl Program {
    /// Becomes the program; returns only when it cannot be executed, with what the kernel said.
    pub(crate) fn execute(&self) -> io::Error {
        let (argv, env) = (pointers(&self.argv), pointers(&self.env));
        let mut why = libc::ENOENT;
        for candidate in &self.candidates {
            // SAFETY: the strings live in `self`, and the arrays end with null pointers.
            unsafe { libc::execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr()) };
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) | None => {}
                Some(libc::EACCES) => why = libc::EACCES,
                Some(other) => return io::Error::from_raw_os_error(other),
            }
        }
        io::Error::from_raw_os_error(why)
    }

    /// The exit code and the words for a program that could not be executed.
    pub(crate) fn explain(&self, error: &io::Error) -> (i32, String) {
        let Self { name, searched, .. } = self;
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => (127, format!("command `{name}` not found; {searched}")),
            Some(libc::EACCES) => (126, format!("command `{name}` is not executable; {searched}")),
            _ => (126, format!("command `{name}` cannot be executed: {error}; {searched}")),
        }
    }
}

/// A wait status as shells turn it into an exit code.
pub(crate) fn shell_code(status: i32) -> i32 {
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

/// The container library sets the flag and ignores whether that worked.
fn demand_no_new_privileges() -> Result<(), RuntimeError> {
    // SAFETY: takes and touches no memory.
    match unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) } {
        1 => Ok(()),
        _ => Err(RuntimeError::Refused("no_new_privs is not set; refusing to run the task".to_owned())),
    }
}

/// A new user namespace comes with every capability in it. The task keeps none, and cannot get any back.
pub(crate) fn drop_capabilities() -> Result<(), RuntimeError> {
    bound_capabilities()?;
    drop_held_capabilities()
}

/// That none can be got back. It takes a capability itself, so it comes before a change of user, which loses it.
pub(crate) fn bound_capabilities() -> Result<(), RuntimeError> {
    for capability in 0..64 {
        // SAFETY: takes integers only. Fails with EINVAL beyond the last capability that the kernel knows.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 {
                break;
            }
            return Err(RuntimeError::Step { what: "drop capabilities", source: error });
        }
    }
    Ok(())
}

/// Gives up what is held now.
pub(crate) fn drop_held_capabilities() -> Result<(), RuntimeError> {
    // Version 3 of the call: 64 bits of each set, in two halves; all zero.
    let header: [u32; 2] = [0x2008_0522, 0];
    let sets = [0_u32; 6];
    // SAFETY: header and sets have the size that version 3 asks for and live until the call returns.
    if unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) } != 0 {
        return Err(RuntimeError::last_os("drop capabilities"));
    }
    Ok(())
}

/// A container without its shim would be nobody's: nothing would record its end.
fn die_with_parent() -> Result<(), RuntimeError> {
    // SAFETY: takes integers only.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } != 0 {
        return Err(RuntimeError::last_os("tie the container to its shim"));
    }
    Ok(())
}

/// Closes everything but standard input, output, error and the way to the shim.
fn keep_only(reports: &OwnedFd) -> Result<OwnedFd, RuntimeError> {
    // SAFETY: descriptor 3 is replaced; whatever the container library kept there is not used any more. The rest is closed
    // below by number, and every Rust owner of those numbers is in this process and never dropped: it ends with `exit`.
    unsafe {
        if reports.as_raw_fd() != REPORT_FD && libc::dup2(reports.as_raw_fd(), REPORT_FD) < 0 {
            return Err(RuntimeError::last_os("keep the way to the shim"));
        }
        libc::fcntl(REPORT_FD, libc::F_SETFD, libc::FD_CLOEXEC);
        if libc::syscall(libc::SYS_close_range, REPORT_FD + 1, u32::MAX, 0) != 0 {
            return Err(RuntimeError::last_os("close descriptors"));
        }
        Ok(OwnedFd::from_raw_fd(REPORT_FD))
    }
}

/// Signals are waited for, not caught.
fn block_signals() {
    // SAFETY: the set is initialised by `sigfillset` before it is used.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
}

/// What the child needs; it shares our memory until it has executed the program.
struct ChildView {
    candidates: Vec<*const libc::c_char>,
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    error: i32,
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Starts the program. The child borrows our memory until it has executed it, which is much cheaper than a copy.
fn spawn(program: &Program) -> io::Result<i32> {
    let mut view = ChildView {
        candidates: pointers(&program.candidates),
        argv: pointers(&program.argv),
        env: pointers(&program.env),
        error: 0,
    };
    let mut stack = vec![0_u128; CHILD_STACK_BYTES / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack grows down from one past its last element, which is aligned for any type; with CLONE_VFORK we sleep
    // until the child has executed a program or ended, so stack and view outlive its use of them.
    let child = unsafe {
        libc::clone(become_program, stack.as_mut_ptr().add(stack.len()).cast(), flags, (&raw mut view).cast())
    };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if view.error != 0 {
        // SAFETY: waits for the child we have just made; no status is asked for.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        return Err(io::Error::from_raw_os_error(view.error));
    }
    Ok(child)
}

/// The child's first and last function. Only system calls: it shares memory with its sleeping parent.
extern "C" fn become_program(view: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn` passes a valid view and sleeps until we are done; the arrays end with null pointers.
    unsafe {
        let view = &mut *view.cast::<ChildView>();
        libc::setpgid(0, 0);
        let mut default_action = std::mem::zeroed::<libc::sigaction>();
        default_action.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=SIGNAL_MAX {
            libc::sigaction(signal, &default_action, std::ptr::null_mut());
        }
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        let mut why = libc::ENOENT;
        for candidate in view.candidates.iter().take_while(|candidate| !candidate.is_null()) {
            libc::execve(*candidate, view.argv.as_ptr(), view.env.as_ptr());
            // As shells do: a file that may not be executed counts only if no later folder has a better one.
            match *libc::__errno_location() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => why = libc::EACCES,
                other => {
                    why = other;
                    break;
                }
            }
        }
        // Set only now: after a successful execution the parent must find zero.
        view.error = why;
        libc::_exit(127)
    }
}

/// Passes signals to the program's group and collects dead processes until the program itself has ended.
fn tend(child: i32) -> i32 {
    drop_stdio();
    // SAFETY: the set is initialised before use.
    let all = unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut all);
        all
    };
    loop {
        // SAFETY: `all` is initialised; no information about the signal is asked for.
        let signal = unsafe { libc::sigwaitinfo(&all, std::ptr::null_mut()) };
        if signal == libc::SIGCHLD {
            if let Some(status) = collect(child) {
                return status;
            }
        } else if signal > 0 {
            // SAFETY: sends a signal to the group of our child, which is not collected yet, so the number is still its own.
            unsafe { libc::kill(-child, signal) };
        }
    }
}

/// Collects every dead process; the status of `child` if it is among them.
fn collect(child: i32) -> Option<i32> {
    let mut ended = None;
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the answer.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        if pid <= 0 {
            return ended;
        }
        if pid == child {
            ended = Some(status);
        }
    }
}

/// The program alone decides when its output ends.
fn drop_stdio() {
    // SAFETY: replaces descriptors 0 to 2 of this process, which prints nothing from here on.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        if null >= 0 {
            for descriptor in 0..=2 {
                libc::dup2(null, descriptor);
            }
            libc::close(null);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_could_gain_rights_is_not_started() {
        // A thread of its own: the flag is a thread's, and is never taken back.
        let asked = std::thread::spawn(|| {
            // SAFETY: takes integers only.
            let set = unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) } == 1;
            let before = demand_no_new_privileges().is_ok();
            // SAFETY: takes integers only; it holds for this thread.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            (set, before, demand_no_new_privileges().is_ok())
        });
        let (set, before, after) = asked.join().expect("an answer");
        assert_eq!(before, set, "without the flag it is refused");
        assert!(after);
    }
}
