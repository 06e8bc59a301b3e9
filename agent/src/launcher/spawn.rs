//! Starting a user's process from the launcher, as cheaply as the kernel allows.
//!
//! The child shares our memory until it executes the program (`CLONE_VM`), so no page table is copied; and we do not wait for
//! that (no `CLONE_VFORK`): on a busy machine a child that has entered its cpu cgroup may wait milliseconds for its turn, and
//! all other attempts with it. So a failure is known when the child has ended; it leaves word in the memory it shares.
//!
//! Invariant: between clone and exec the child makes raw system calls only. It does not allocate, lock, unwind or touch
//! thread-local storage, and it reads nothing but its own [`Cradle`], which stays where it is until the child has left it.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::command::Command;
use super::raw;

const STACK_BYTES: usize = 32 * 1024;
/// With more children on the way than this, those that have arrived are looked for.
const MANY: usize = 64;
/// Stacks kept for the next children.
const MAX_SPARE: usize = 64;

/// What the child got stuck at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    EnterCgroup = 1,
    Redirect,
    Restrict,
    EnterWorkdir,
    Execute,
}

/// Why a child never became the user's program.
#[derive(Debug)]
pub(crate) struct Stuck {
    pub(crate) step: Step,
    pub(crate) errno: i32,
    pub(crate) command: Command,
}

/// Where a child's standard streams go and what it joins.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) stdin: RawFd,
    pub(crate) stdout: RawFd,
    pub(crate) stderr: RawFd,
    /// `cgroup.procs` files.
    pub(crate) enter: Vec<RawFd>,
}

/// Spawns children and remembers which may still be in our memory.
#[derive(Debug)]
pub(crate) struct Spawner {
    /// The limit of open files as it was before we raised our own: what a program expects to find.
    files: libc::rlimit,
    on_the_way: HashMap<u32, Box<Cradle>>,
    spare: Vec<Stack>,
}

/// All that one child reads and writes of our memory.
#[derive(Debug)]
struct Cradle {
    stack: Stack,
    command: Command,
    surroundings: Surroundings,
    files: libc::rlimit,
    /// Zeroed by the kernel when the child leaves our memory, by exec or by exit.
    inside: AtomicU32,
    /// What it got stuck at: the step in the upper half, the error number in the lower; 0 for nothing.
    stuck: AtomicU64,
}

#[derive(Debug)]
struct Stack(*mut c_void);

impl Stack {
    fn new() -> io::Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK);
        // SAFETY: a fresh private mapping; no existing memory is touched.
        match unsafe { libc::mmap(null_mut(), STACK_BYTES, protection, flags, -1, 0) } {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            stack => Ok(Self(stack)),
        }
    }

    fn top(&self) -> *mut c_void {
        // SAFETY: the end of the mapping.
        unsafe { self.0.byte_add(STACK_BYTES) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: this mapping is ours, and its cradle was given up only after its child had left.
        unsafe { libc::munmap(self.0, STACK_BYTES) };
    }
}

impl Spawner {
    /// A spawner whose children get `files` as the limit of open files.
    pub(crate) fn new(files: libc::rlimit) -> Self {
        Self { files, on_the_way: HashMap::new(), spare: Vec::new() }
    }

    /// Starts a child that will run `command`; gives its process id, which becomes its session and its process group. Must be
    /// followed by [`Spawner::stuck`] when it was reaped.
    pub(crate) fn spawn(&mut self, command: Command, surroundings: Surroundings) -> io::Result<u32> {
        if self.on_the_way.len() > MANY {
            self.forget_arrived();
        }
        let stack = self.spare.pop().map_or_else(Stack::new, Ok)?;
        let (inside, stuck) = (AtomicU32::new(1), AtomicU64::new(0));
        let cradle = Box::new(Cradle { stack, command, surroundings, files: self.files, inside, stuck });
        let flags = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
        let word = cradle.inside.as_ptr();
        // SAFETY: the stack is this child's own and grows down from its top; the cradle stays in place on the heap, and is
        // neither moved out of nor dropped before the child has left: it ended, or the kernel has zeroed `inside`.
        let pid = unsafe {
            let argument = (&raw const *cradle).cast_mut().cast();
            libc::clone(run_child, cradle.stack.top(), flags, argument, null_mut::<c_int>(), null_mut::<c_void>(), word)
        };
        if pid < 0 {
            let error = io::Error::last_os_error();
            self.reuse(*cradle);
            return Err(error);
        }
        self.on_the_way.insert(pid as u32, cradle);
        Ok(pid as u32)
    }

    /// Why the child `pid`, which was reaped, never ran its program, if it did not.
    pub(crate) fn stuck(&mut self, pid: u32) -> Option<Stuck> {
        let cradle = *self.on_the_way.remove(&pid)?;
        let word = cradle.stuck.load(Ordering::Acquire);
        let command = self.reuse(cradle);
        let step = match word >> 32 {
            0 => return None,
            1 => Step::EnterCgroup,
            2 => Step::Redirect,
            3 => Step::Restrict,
            4 => Step::EnterWorkdir,
            _ => Step::Execute,
        };
        Some(Stuck { step, errno: word as u32 as i32, command })
    }

    fn forget_arrived(&mut self) {
        let arrived =
            |cradle: &Cradle| cradle.inside.load(Ordering::Acquire) == 0 && cradle.stuck.load(Ordering::Acquire) == 0;
        let pids: Vec<u32> =
            self.on_the_way.iter().filter(|(_, cradle)| arrived(cradle)).map(|(pid, _)| *pid).collect();
        for pid in pids {
            self.stuck(pid);
        }
    }

    /// Keeps the stack of a child that has left.
    fn reuse(&mut self, cradle: Cradle) -> Command {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(cradle.stack);
        }
        cradle.command
    }
}

extern "C" fn run_child(cradle: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes its cradle, which outlives our stay in this memory; it is only read, but for the atomics.
    let cradle = unsafe { &*cradle.cast::<Cradle>() };
    let (step, errno) = become_the_users(cradle);
    cradle.stuck.store((step as u64) << 32 | u64::from(errno as u32), Ordering::Release);
    raw::exit(127)
}

/// Does not return if the program runs.
fn become_the_users(cradle: &Cradle) -> (Step, i32) {
    let around = &cradle.surroundings;
    raw::setsid();
    for (from, to) in [(around.stdin, 0), (around.stdout, 1), (around.stderr, 2)] {
        if let Err(errno) = raw::duplicate(from, to) {
            return (Step::Redirect, errno);
        }
    }
    if let Err(errno) = raw::limit_files(&cradle.files).and_then(|()| raw::set_no_new_privs()) {
        return (Step::Restrict, errno);
    }
    for fd in &around.enter {
        if let Err(errno) = raw::write_zero(*fd) {
            return (Step::EnterCgroup, errno);
        }
    }
    // SAFETY: C strings of the cradle.
    if let Err(errno) = unsafe { raw::change_directory(cradle.command.workdir.as_ptr()) } {
        return (Step::EnterWorkdir, errno);
    }
    raw::unblock_signals();
    (Step::Execute, execute(&cradle.command))
}

/// Tries the candidates; a file that may not be executed does not hide a later one that may, but is remembered.
fn execute(command: &Command) -> i32 {
    let mut denied = 0;
    let mut candidate = command.candidates.as_ptr();
    // SAFETY: the arrays end with a null pointer and live in the cradle.
    unsafe {
        while !(*candidate).is_null() {
            match raw::execute(*candidate, command.argv.as_ptr(), command.env.as_ptr()) {
                libc::EACCES => denied = libc::EACCES,
                libc::ENOENT | libc::ENOTDIR => {}
                errno => return errno,
            }
            candidate = candidate.add(1);
        }
    }
    if denied == 0 { libc::ENOENT } else { denied }
}
