//! The system call filter of tasks in containers.
//!
//! Owns: turning the shipped profile (`seccomp.json`) into a program for the kernel, and installing it. It is installed by the
//! container's own init just before the user's program is executed: the container library skips a profile silently unless it is
//! linked with a C library that is not wanted here.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::RuntimeError;

/// The profile as shipped.
const PROFILE: &str = include_str!("seccomp.json");

/// `BPF_LD | BPF_W | BPF_ABS`: load a word of what the kernel tells about the call.
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_IF_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`.
const JUMP_IF_GREATER: u16 = 0x25;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// Where the kernel puts the number of the call.
const NUMBER_OFFSET: u32 = 0;

#[derive(Debug, Deserialize)]
struct Profile {
    denied: Vec<String>,
    denied_if: BTreeMap<String, Vec<Vec<Test>>>,
    absent: Vec<String>,
    newest: String,
}

impl Profile {
    fn shipped() -> Result<Self, RuntimeError> {
        serde_json::from_str(PROFILE).map_err(|error| RuntimeError::Refused(format!("system call profile: {error}")))
    }
}

/// A test on one argument; exactly one of `has_bit`, `is` and `is_not` is set.
#[derive(Debug, Deserialize)]
struct Test {
    argument: u8,
    has_bit: Option<u64>,
    is: Option<u64>,
    is_not: Option<u64>,
}

/// A compiled filter.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    program: BpfProgram,
}

impl Filter {
    /// The profile that ships with the agent.
    pub(crate) fn shipped() -> Result<Self, RuntimeError> {
        let profile: Profile = serde_json::from_str(PROFILE)
            .map_err(|error| RuntimeError::Refused(format!("system call profile: {error}")))?;
        Self::compile(&profile).map_err(|error| RuntimeError::Refused(format!("system call profile: {error}")))
    }

    fn compile(profile: &Profile) -> Result<Self, seccompiler::Error> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for name in &profile.denied {
            if let Some(number) = number_of(name) {
                rules.insert(number, Vec::new());
            }
        }
        for (name, any_of) in &profile.denied_if {
            let Some(number) = number_of(name) else { continue };
            rules.insert(number, any_of.iter().map(|all_of| rule(all_of)).collect::<Result<_, _>>()?);
        }
        let filter = SeccompFilter::new(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(libc::EPERM as u32),
            TargetArch::try_from(std::env::consts::ARCH).map_err(seccompiler::Error::from)?,
        )?;
        let mut program = absent_calls(profile);
        program.extend(BpfProgram::try_from(filter)?);
        Ok(Self { program })
    }

    /// Installs the filter in the calling thread, for good. `no_new_privs` must be set.
    pub(crate) fn install(&self) -> Result<(), RuntimeError> {
        seccompiler::apply_filter(&self.program)
            .map_err(|error| RuntimeError::Refused(format!("install the system call filter: {error}")))
    }
}

/// The beginning of the program: calls that are answered as if the kernel did not have them.
fn absent_calls(profile: &Profile) -> BpfProgram {
    let absent = SeccompAction::Errno(libc::ENOSYS as u32).into();
    let mut program = vec![sock_filter { code: LOAD, jt: 0, jf: 0, k: NUMBER_OFFSET }];
    let mut answer_when = |code: u16, number: i64| {
        program.push(sock_filter { code, jt: 0, jf: 1, k: number as u32 });
        program.push(sock_filter { code: RETURN, jt: 0, jf: 0, k: absent });
    };
    if let Some(newest) = number_of(&profile.newest) {
        answer_when(JUMP_IF_GREATER, newest);
    }
    for number in profile.absent.iter().filter_map(|name| number_of(name)) {
        answer_when(JUMP_IF_EQUAL, number);
    }
    program
}

/// The profile in the words of the OCI format, for a runtime binary. What is newer than the profile cannot be said there.
pub(crate) fn for_binary() -> Result<Value, RuntimeError> {
    let profile = Profile::shipped()?;
    let refuse =
        |names: &[String], errno: i32| json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno });
    let mut calls = vec![refuse(&profile.denied, libc::EPERM), refuse(&profile.absent, libc::ENOSYS)];
    for (name, any_of) in &profile.denied_if {
        for all_of in any_of {
            let mut call = refuse(std::slice::from_ref(name), libc::EPERM);
            call["args"] = all_of.iter().map(Test::for_binary).collect();
            calls.push(call);
        }
    }
    Ok(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls }))
}

impl Test {
    fn for_binary(&self) -> Value {
        let (operator, value, second) = match (self.has_bit, self.is, self.is_not) {
            (Some(bit), _, _) => ("SCMP_CMP_MASKED_EQ", bit, bit),
            (None, Some(value), _) => ("SCMP_CMP_EQ", value, 0),
            (None, None, value) => ("SCMP_CMP_NE", value.unwrap_or(0), 0),
        };
        json!({ "index": self.argument, "value": value, "valueTwo": second, "op": operator })
    }
}

fn rule(all_of: &[Test]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = all_of.iter().map(|test| {
        let (operator, value) = match (test.has_bit, test.is, test.is_not) {
            (Some(bit), None, None) => (SeccompCmpOp::MaskedEq(bit), bit),
            (None, Some(value), None) => (SeccompCmpOp::Eq, value),
            (None, None, Some(value)) => (SeccompCmpOp::Ne, value),
            _ => return Err(seccompiler::BackendError::EmptyRule),
        };
        SeccompCondition::new(test.argument, SeccompCmpArgLen::Dword, operator, value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// The numbers of the calls that the profile names; `None` for a call that this architecture does not have.
fn number_of(name: &str) -> Option<i64> {
    let number = match name {
        "acct" => libc::SYS_acct,
        "add_key" => libc::SYS_add_key,
        "bpf" => libc::SYS_bpf,
        "chroot" => libc::SYS_chroot,
        "clock_adjtime" => libc::SYS_clock_adjtime,
        "clock_settime" => libc::SYS_clock_settime,
        "clone" => libc::SYS_clone,
        "clone3" => libc::SYS_clone3,
        "delete_module" => libc::SYS_delete_module,
        "fanotify_init" => libc::SYS_fanotify_init,
        "finit_module" => libc::SYS_finit_module,
        "fsconfig" => libc::SYS_fsconfig,
        "fsmount" => libc::SYS_fsmount,
        "fsopen" => libc::SYS_fsopen,
        "fspick" => libc::SYS_fspick,
        "init_module" => libc::SYS_init_module,
        "io_uring_enter" => libc::SYS_io_uring_enter,
        "io_uring_register" => libc::SYS_io_uring_register,
        "io_uring_setup" => libc::SYS_io_uring_setup,
        "ioctl" => libc::SYS_ioctl,
        #[cfg(target_arch = "x86_64")]
        "ioperm" => libc::SYS_ioperm,
        #[cfg(target_arch = "x86_64")]
        "iopl" => libc::SYS_iopl,
        "kexec_file_load" => libc::SYS_kexec_file_load,
        "kexec_load" => libc::SYS_kexec_load,
        "keyctl" => libc::SYS_keyctl,
        "lookup_dcookie" => libc::SYS_lookup_dcookie,
        "migrate_pages" => libc::SYS_migrate_pages,
        "mount" => libc::SYS_mount,
        "mount_setattr" => libc::SYS_mount_setattr,
        "move_mount" => libc::SYS_move_mount,
        "move_pages" => libc::SYS_move_pages,
        "mseal" => libc::SYS_mseal,
        "nfsservctl" => libc::SYS_nfsservctl,
        "open_by_handle_at" => libc::SYS_open_by_handle_at,
        "open_tree" => libc::SYS_open_tree,
        "perf_event_open" => libc::SYS_perf_event_open,
        "personality" => libc::SYS_personality,
        "pivot_root" => libc::SYS_pivot_root,
        "quotactl" => libc::SYS_quotactl,
        "quotactl_fd" => libc::SYS_quotactl_fd,
        "reboot" => libc::SYS_reboot,
        "request_key" => libc::SYS_request_key,
        "setdomainname" => libc::SYS_setdomainname,
        "sethostname" => libc::SYS_sethostname,
        "setns" => libc::SYS_setns,
        "settimeofday" => libc::SYS_settimeofday,
        "socket" => libc::SYS_socket,
        "swapoff" => libc::SYS_swapoff,
        "swapon" => libc::SYS_swapon,
        "syslog" => libc::SYS_syslog,
        "umount2" => libc::SYS_umount2,
        "unshare" => libc::SYS_unshare,
        #[cfg(target_arch = "x86_64")]
        "uselib" => libc::SYS_uselib,
        "userfaultfd" => libc::SYS_userfaultfd,
        "vhangup" => libc::SYS_vhangup,
        _ => return None,
    };
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers to a call, by running its program as the kernel would.
    fn answer(filter: &Filter, number: i64, arguments: [u64; 6]) -> u32 {
        let arch: u32 = if cfg!(target_arch = "aarch64") { 0xC000_00B7 } else { 0xC000_003E };
        let mut data = [0_u8; 64];
        data[0..4].copy_from_slice(&(number as u32).to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        for (index, argument) in arguments.iter().enumerate() {
            data[16 + index * 8..24 + index * 8].copy_from_slice(&argument.to_ne_bytes());
        }
        let (mut at, mut accumulator) = (0_usize, 0_u32);
        loop {
            let step = &filter.program[at];
            let branch = |holds: bool| 1 + usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                LOAD => {
                    let from = step.k as usize;
                    accumulator = u32::from_ne_bytes(data[from..from + 4].try_into().expect("four bytes"));
                    at += 1;
                }
                JUMP_IF_EQUAL => at += branch(accumulator == step.k),
                JUMP_IF_GREATER => at += branch(accumulator > step.k),
                0x35 => at += branch(accumulator >= step.k),
                0x05 => at += 1 + step.k as usize,
                0x54 => {
                    accumulator &= step.k;
                    at += 1;
                }
                RETURN => return step.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn words(answer: u32) -> &'static str {
        match answer {
            0x7fff_0000 => "allowed",
            0x0005_0001 => "EPERM",
            0x0005_0026 => "ENOSYS",
            _ => "other",
        }
    }

    #[test]
    fn every_name_in_the_profile_is_known() {
        let profile = Profile::shipped().expect("a profile");
        let names = profile.denied.iter().chain(profile.denied_if.keys()).chain(&profile.absent);
        for name in names.chain([&profile.newest]) {
            let only_x86 = ["iopl", "ioperm", "uselib"].contains(&name.as_str());
            assert!(number_of(name).is_some() || (only_x86 && !cfg!(target_arch = "x86_64")), "{name}");
        }
    }

    /// The golden table: every call with plain arguments that is not allowed. A change of the profile changes this list.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn these_calls_and_no_others_are_refused() {
        let filter = Filter::shipped().expect("a filter");
        let refused = |kind: &str| -> Vec<i64> {
            (0..480).filter(|number| words(answer(&filter, *number, [0; 6])) == kind).collect()
        };
        let denied = [
            103, 134, 153, 155, 161, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173, 175, 176, 179, 180, 212,
            227, 246, 248, 249, 250, 256, 279, 298, 300, 304, 305, 308, 313, 320, 321, 323, 428, 429, 430, 431, 432,
            433, 442, 443,
        ];
        assert_eq!(refused("EPERM"), denied);
        let absent: Vec<i64> = [425, 426, 427, 435].into_iter().chain(463..480).collect();
        assert_eq!(refused("ENOSYS"), absent);
        assert_eq!(refused("other"), Vec::<i64>::new());
    }

    #[test]
    fn arguments_decide_where_the_profile_says_so() {
        let filter = Filter::shipped().expect("a filter");
        let ask = |number, first, second| words(answer(&filter, number, [first, second, 0, 0, 0, 0]));
        let thread = (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_THREAD) as u64;
        assert_eq!(ask(libc::SYS_clone, thread, 0), "allowed");
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWPID, libc::CLONE_NEWNET, libc::CLONE_NEWUTS]
        {
            assert_eq!(ask(libc::SYS_clone, flag as u64 | 17, 0), "EPERM");
            assert_eq!(ask(libc::SYS_unshare, flag as u64, 0), "EPERM");
        }
        assert_eq!(ask(libc::SYS_unshare, libc::CLONE_FILES as u64, 0), "allowed");
        assert_eq!(ask(libc::SYS_personality, 0xffff_ffff, 0), "allowed");
        assert_eq!(ask(libc::SYS_personality, 0x0004_0000, 0), "EPERM");
        assert_eq!(ask(libc::SYS_socket, libc::AF_INET as u64, 0), "allowed");
        assert_eq!(ask(libc::SYS_socket, libc::AF_ALG as u64, 0), "EPERM");
        assert_eq!(ask(libc::SYS_ioctl, 0, libc::TIOCSTI), "EPERM");
        // The upper half of an argument that the kernel does not look at must not hide anything.
        assert_eq!(ask(libc::SYS_ioctl, 0, libc::TIOCSTI | (1 << 40)), "EPERM");
        assert_eq!(ask(libc::SYS_clone, (1 << 40) | libc::CLONE_NEWUSER as u64, 0), "EPERM");
    }
}
