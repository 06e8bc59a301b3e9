//! System calls for a child that shares our memory while we go on: the C library would write its `errno` into ours.

use std::ffi::c_char;

/// Makes a system call; a negative result is an error number.
///
/// # Safety
/// The arguments must be what the call `number` wants, and what they point to must live as long as it runs.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: i64, arguments: [usize; 5]) -> isize {
    let result: isize;
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: the kernel's calling convention; rcx and r11 are what it overwrites. The rest is the caller's duty.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") first, in("rsi") second, in("rdx") third, in("r10") fourth, in("r8") fifth,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a system call; a negative result is an error number.
///
/// # Safety
/// The arguments must be what the call `number` wants, and what they point to must live as long as it runs.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: i64, arguments: [usize; 5]) -> isize {
    let result: isize;
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: the kernel's calling convention. The rest is the caller's duty.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number as isize,
            inlateout("x0") first as isize => result,
            in("x1") second, in("x2") third, in("x3") fourth, in("x4") fifth,
            options(nostack),
        );
    }
    result
}

fn outcome(result: isize) -> Result<(), i32> {
    if result < 0 { Err(-result as i32) } else { Ok(()) }
}

/// Begins a session; cannot fail in a fresh child.
pub(super) fn setsid() {
    // SAFETY: takes nothing.
    unsafe { call(libc::SYS_setsid, [0; 5]) };
}

/// Writes `0`, which in a `cgroup.procs` file means the writer.
pub(super) fn write_zero(fd: i32) -> Result<(), i32> {
    // SAFETY: one byte of a static string.
    outcome(unsafe { call(libc::SYS_write, [fd as usize, c"0".as_ptr() as usize, 1, 0, 0]) })
}

/// Makes `to` mean what `from` does, also after exec.
pub(super) fn duplicate(from: i32, to: i32) -> Result<(), i32> {
    // SAFETY: plain values.
    outcome(unsafe { call(libc::SYS_dup3, [from as usize, to as usize, 0, 0, 0]) })
}

/// Sets the limit of open files.
pub(super) fn limit_files(limit: &libc::rlimit) -> Result<(), i32> {
    let resource = libc::RLIMIT_NOFILE as usize;
    // SAFETY: a live rlimit; no old value is asked for.
    outcome(unsafe { call(libc::SYS_prlimit64, [0, resource, &raw const *limit as usize, 0, 0]) })
}

/// Gives up any rights that an executed file could add.
pub(super) fn set_no_new_privs() -> Result<(), i32> {
    // SAFETY: plain values.
    outcome(unsafe { call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0]) })
}

/// Unblocks all signals.
pub(super) fn unblock_signals() {
    let none = 0_u64;
    // SAFETY: a live mask of the kernel's size; no old one is asked for.
    unsafe {
        call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, &raw const none as usize, 0, size_of::<u64>(), 0])
    };
}

/// Changes the working directory.
///
/// # Safety
/// `path` must be a C string.
pub(super) unsafe fn change_directory(path: *const c_char) -> Result<(), i32> {
    // SAFETY: the caller's duty.
    outcome(unsafe { call(libc::SYS_chdir, [path as usize, 0, 0, 0, 0]) })
}

/// Executes `program`; returns only the error number.
///
/// # Safety
/// `program` must be a C string, the others arrays of such ended by a null pointer.
pub(super) unsafe fn execute(program: *const c_char, argv: *const *const c_char, env: *const *const c_char) -> i32 {
    // SAFETY: the caller's duty.
    -(unsafe { call(libc::SYS_execve, [program as usize, argv as usize, env as usize, 0, 0]) }) as i32
}

/// Ends the calling process.
pub(super) fn exit(code: i32) -> ! {
    loop {
        // SAFETY: does not return.
        unsafe { call(libc::SYS_exit_group, [code as usize, 0, 0, 0, 0]) };
    }
}
