//! What a task in a container can and cannot do, tried in real containers: as root and as an ordinary user.
//!
//! Every container is made by a forked copy of this process, because the runtime belongs into a process with one thread.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

#[path = "containers/strangers.rs"]
mod strangers;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use flowyard_agent::runtime::spec::{ContainerSpec, LaunchSpec, Limits, Mount, Network, Root, Sandbox, User};
use flowyard_agent::runtime::{End, RuntimeError, Stages, Stdio, default_hidden, open};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Uid, fork, setgroups, setresgid, setresuid};

/// An ordinary user for tests that run as root; needs no entry in the user database.
const ORDINARY: u32 = 61_234;

/// What is asked of one container.
struct Case {
    launch: LaunchSpec,
    container: ContainerSpec,
    folder: tempfile::TempDir,
    ordinary: bool,
    /// Whether the host lets this process make user namespaces.
    namespaces: bool,
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    result: Result<End, (i32, String)>,
    stdout: String,
    stderr: String,
}

impl Case {
    fn shell(script: &str, ordinary: bool) -> Self {
        Self::command(&["sh", "-c", script], ordinary)
    }

    fn command(argv: &[&str], ordinary: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("an open folder");
        let attempt = folder.path().join("attempt");
        fs::create_dir(&attempt).expect("an attempt's folder");
        let (uid, gid) = match (ordinary, Uid::effective().is_root()) {
            (true, true) => (ORDINARY, ORDINARY),
            _ => (Uid::effective().as_raw(), Gid::effective().as_raw()),
        };
        chown(&attempt, Some(uid), Some(gid)).expect("an own folder");
        let container = ContainerSpec {
            root: Root::Host { hidden: default_hidden(None, &folder.path().join("agent")) },
            mounts: Vec::new(),
            network: Network::Host,
            devices: Vec::new(),
            user: User::itself(uid, gid),
            oci_runtime: None,
        };
        let launch = LaunchSpec {
            secret_env: Vec::new(),
            name: "1/test/0#1".into(),
            folder: attempt,
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: vec![("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())],
            workdir: "/tmp".into(),
            limits: Limits { cpu_milli: 1000, memory_bytes: 256 << 20, pids: 64, shm_bytes: 0, disk_bytes: 0 },
            sandbox: Sandbox::Process,
            timeout_ms: None,
            kill_grace_ms: 1000,
            stop_signal: Default::default(),
            notice_signal: None,
            log_limit_bytes: 0,
            lease_file: None,
        };
        Self { launch, container, folder, ordinary, namespaces: true }
    }

    fn run(mut self) -> Outcome {
        self.launch.sandbox = Sandbox::Container(Box::new(self.container.clone()));
        let result = self.launch.folder.join("result.json");
        // SAFETY: the child only makes a container and ends; glibc's allocator survives a fork from a process with threads.
        match unsafe { fork() }.expect("a fork") {
            ForkResult::Child => {
                let outcome = self.in_child().map_err(|error| match error {
                    RuntimeError::Command { code, message } => (code, message),
                    other => (-1, other.to_string()),
                });
                let written = fs::write(&result, serde_json::to_vec(&outcome).unwrap_or_default());
                // SAFETY: ends this copy of the test process without running anything of the original.
                unsafe { libc::_exit(i32::from(written.is_err())) }
            }
            ForkResult::Parent { child } => {
                waitpid(child, None).expect("the child's end");
            }
        }
        let text = |name: &str| fs::read_to_string(self.launch.folder.join(name)).unwrap_or_default();
        let outcome = Outcome {
            result: serde_json::from_str(&text("result.json")).expect("a result"),
            stdout: text("stdout"),
            stderr: text("stderr"),
        };
        assert!(!self.launch.folder.join("scratch").exists(), "scratch is left over: {outcome:?}");
        drop(self.folder);
        outcome
    }

    fn in_child(&self) -> Result<End, RuntimeError> {
        if self.ordinary && Uid::effective().is_root() {
            let (uid, gid) = (Uid::from_raw(ORDINARY), Gid::from_raw(ORDINARY));
            setgroups(&[])
                .and_then(|()| setresgid(gid, gid, gid))
                .and_then(|()| setresuid(uid, uid, uid))
                .expect("a user");
        }
        if !self.namespaces {
            // In a user namespace of its own a process may set the limits for everything below it.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).expect("a user namespace");
            fs::write("/proc/sys/user/max_user_namespaces", "0").expect("a limit");
        }
        let file = |name: &str| OwnedFd::from(File::create(self.launch.folder.join(name)).expect("a file"));
        let stdio = Stdio {
            stdin: OwnedFd::from(File::open("/dev/null").expect("/dev/null")),
            stdout: file("stdout"),
            stderr: file("stderr"),
        };
        let mut stages = Stages::new();
        let stage = stages.ready(&self.container)?;
        let mut runtime = open(&self.launch, &self.container, &stage, stdio)?;
        let end = runtime.create().and_then(|()| runtime.start()).and_then(|()| runtime.wait());
        runtime.delete()?;
        end
    }
}

/// Root, where the tests run as root, and an ordinary user.
fn users() -> Vec<bool> {
    if Uid::effective().is_root() {
        vec![false, true]
    } else {
        eprintln!("skipped: as root (the tests do not run as root)");
        vec![true]
    }
}

/// Runs a script as every user and expects it to succeed.
fn holds(script: &str) -> String {
    let mut output = String::new();
    for ordinary in users() {
        let outcome = Case::shell(script, ordinary).run();
        assert_eq!(outcome.result, Ok(End::Exited { code: 0 }), "ordinary user: {ordinary}; {outcome:?}");
        output = outcome.stdout;
    }
    output
}

/// Runs a script as every user and expects each of its lines to fail.
fn all_fail(lines: &[&str]) {
    let script: String =
        lines.iter().map(|line| format!("if ( {line} ) 2>/dev/null; then echo '{line}'; fi\n")).collect();
    for ordinary in users() {
        let outcome = Case::shell(&script, ordinary).run();
        assert_eq!(outcome.result, Ok(End::Exited { code: 0 }), "{outcome:?}");
        assert_eq!(outcome.stdout, "", "these succeeded, ordinary user: {ordinary}");
    }
}

fn python() -> bool {
    let found = Path::new("/usr/bin/python3").exists();
    if !found {
        eprintln!("skipped: no /usr/bin/python3");
    }
    found
}

/// A number from one line of `/proc/self/status`.
fn status_line<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of the status").trim()
}

#[test]
fn output_and_exit_code_come_back() {
    for ordinary in users() {
        let outcome = Case::shell("echo out; echo err >&2; exit 3", ordinary).run();
        assert_eq!(outcome.result, Ok(End::Exited { code: 3 }));
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    }
}

#[test]
fn the_task_is_the_user_it_was_started_for() {
    for ordinary in users() {
        let case = Case::shell("id -u; id -g; cat /proc/self/uid_map", ordinary);
        let (uid, gid) = (case.container.user.uid, case.container.user.gid);
        let outcome = case.run();
        assert!(outcome.stdout.starts_with(&format!("{uid}\n{gid}\n")), "{outcome:?}");
    }
}

#[test]
fn root_can_start_a_task_as_another_user_of_the_host() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let mut case = Case::shell(
        "id -u; touch \"$HOME/x\" /tmp/y && stat -c %u /tmp/y; cat /etc/passwd >/dev/null && echo reads",
        false,
    );
    case.container.user = User { uid: 0, gid: 0, host_uid: 70_001, host_gid: 70_001, range: 0 };
    let outcome = case.run();
    assert_eq!(outcome.stdout, "0\n0\nreads\n", "{outcome:?}");
}

#[test]
fn an_ordinary_user_cannot_start_a_task_as_somebody_else() {
    let mut case = Case::shell("id", true);
    case.container.user.host_uid = 4242;
    let (code, message) = case.run().result.expect_err("a refusal");
    assert_eq!(code, -1);
    assert!(message.contains("cannot start a container as user 4242"), "{message}");
}

#[test]
fn a_missing_command_is_127_and_names_the_path() {
    let (code, message) = Case::command(&["no-such-program"], true).run().result.expect_err("not found");
    assert_eq!(code, 127);
    assert!(message.starts_with("command `no-such-program` not found; PATH was /usr/local/sbin:"), "{message}");
}

#[test]
fn a_file_that_is_not_executable_is_126() {
    let (code, message) = Case::command(&["/etc/passwd"], true).run().result.expect_err("not executable");
    assert_eq!(code, 126);
    assert!(message.contains("`/etc/passwd` is not executable"), "{message}");
}

#[test]
fn signals_end_a_program_as_they_do_outside() {
    for (signal, number) in [("TERM", 15), ("ABRT", 6), ("KILL", 9), ("SEGV", 11)] {
        let outcome = Case::shell(&format!("kill -{signal} $$"), true).run();
        assert_eq!(outcome.result, Ok(End::Signalled { signal: number }));
    }
}

#[test]
fn what_a_program_leaves_running_ends_with_it() {
    let marker = format!("{}", std::process::id() + 700_000);
    let outcome = Case::shell(&format!("sleep {marker} & exit 0"), true).run();
    assert_eq!(outcome.result, Ok(End::Exited { code: 0 }));
    let alive = fs::read_dir("/proc").expect("procfs").flatten().any(|entry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == format!("sleep\0{marker}\0").into_bytes())
    });
    assert!(!alive, "the sleeping process survived its container");
}

#[test]
fn host_processes_cannot_be_seen() {
    let output = holds("ls /proc | grep -c '^[0-9]*$'");
    let count: u32 = output.trim().parse().expect("a number");
    assert!(count <= 6, "{count} processes are seen");
    all_fail(&["test -e /proc/100", "ls /proc/2/fd/../../../proc/100"]);
}

#[test]
fn there_are_own_namespaces_of_every_kind() {
    let output = holds("for n in pid mnt ipc uts user; do readlink /proc/self/ns/$n; done");
    for (line, kind) in output.lines().zip(["pid", "mnt", "ipc", "uts", "user"]) {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).expect("our namespace");
        assert_ne!(line, ours.to_string_lossy(), "the {kind} namespace is shared");
    }
}

#[test]
fn no_privilege_is_left_and_none_can_be_gained() {
    let status = holds("cat /proc/self/status");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(status_line(&status, set), "0000000000000000", "{set}");
    }
    assert_eq!(status_line(&status, "NoNewPrivs:"), "1");
    assert_eq!(status_line(&status, "Seccomp:"), "2");
    all_fail(&["chown 1:1 /tmp", "mount -t tmpfs none /mnt", "test \"$(su -c 'id -u' nobody)\" = 65534"]);
}

#[test]
fn secrets_of_the_host_cannot_be_read_or_uncovered() {
    all_fail(&[
        "cat /etc/shadow",
        "cat /etc/gshadow",
        "chmod 644 /etc/shadow",
        "ls /root",
        "cd /root",
        "umount /etc/shadow",
        "cat /etc/ssh/ssh_host_*_key",
        "cat /proc/kcore | head -c1 | grep -q .",
        "cat /proc/1/environ",
        "ls /proc/1/root/",
        "ls -A /sys/firmware | grep -q .",
        "ls -A /sys/fs/cgroup | grep -q .",
    ]);
}

#[test]
fn the_agent_folder_is_hidden_from_its_own_user_too() {
    for ordinary in users() {
        let mut case = Case::shell("", ordinary);
        // Not below /tmp, which a container has of its own anyway.
        let Ok(agent) = tempfile::tempdir_in("/var/tmp").or_else(|_| tempfile::tempdir_in("/opt")) else { continue };
        let agent = if ordinary { agent } else { tempfile::tempdir_in("/opt").expect("a folder") };
        fs::write(agent.path().join("key"), "secret").expect("a key");
        fs::set_permissions(agent.path(), fs::Permissions::from_mode(0o755)).expect("an open folder");
        case.launch.argv = vec!["sh".into(), "-c".into(), format!("cat {}/key", agent.path().display())];
        case.container.root = Root::Host { hidden: default_hidden(None, agent.path()) };
        let outcome = case.run();
        assert_eq!(outcome.result, Ok(End::Exited { code: 1 }), "{outcome:?}");
        assert_eq!(outcome.stdout, "");
    }
}

/// As `useradd` does with `/etc/shadow`.
#[test]
fn a_container_is_made_while_a_hidden_file_is_being_replaced() {
    let folder = tempfile::tempdir_in("/opt").or_else(|_| tempfile::tempdir_in("/var/tmp")).expect("a folder");
    let (file, next) = (folder.path().join("shadow"), folder.path().join("next"));
    fs::write(&file, "").expect("a file");
    let done = std::sync::Arc::new(());
    let replaces = {
        let (done, file) = (std::sync::Arc::downgrade(&done), file.clone());
        std::thread::spawn(move || {
            while done.strong_count() > 0 {
                fs::write(&next, "").and_then(|()| fs::rename(&next, &file)).expect("another file");
            }
        })
    };
    for _ in 0..40 {
        let mut case = Case::command(&["true"], false);
        case.container.root = Root::Host { hidden: vec![file.clone()] };
        let outcome = case.run();
        assert_eq!(outcome.result, Ok(End::Exited { code: 0 }), "{outcome:?}");
    }
    drop(done);
    replaces.join().expect("its end");
}

#[test]
fn the_home_of_the_user_is_shown_without_its_credentials() {
    let home = tempfile::tempdir_in("/opt").or_else(|_| tempfile::tempdir_in("/var/tmp")).expect("a home");
    let make = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    make("venv/bin/tool", "tool");
    make(".ssh/id_ed25519", "key");
    make(".aws/credentials", "key");
    make(".netrc", "key");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("an open folder");
    let mut case = Case::shell("", false);
    let script = "cat venv/bin/tool; cat .ssh/id_ed25519 .aws/credentials .netrc; echo x >new";
    case.launch.argv = vec!["sh".into(), "-c".into(), script.into()];
    case.launch.workdir = home.path().into();
    case.container.root = Root::Host { hidden: default_hidden(Some(home.path()), &home.path().join("agent")) };
    let outcome = case.run();
    assert_eq!(outcome.stdout, "tool", "{outcome:?}");
    assert!(!home.path().join("new").exists());
}

#[test]
fn the_host_cannot_be_written_to() {
    all_fail(&[
        "touch /etc/x",
        "touch /usr/x",
        "touch /x",
        "mkdir /srv/x",
        "echo 1 >/proc/sys/kernel/sysrq",
        "echo x >/proc/sys/kernel/core_pattern",
        "touch /sys/x",
        "touch /run/x",
    ]);
}

#[test]
fn tmp_home_and_shared_memory_are_private_and_writable() {
    let name = format!("flowyard-private-{}", std::process::id());
    let outside = std::env::temp_dir().join(&name);
    holds(&format!(
        "set -e; test -z \"$(ls -A /tmp)\"; echo 1 >/tmp/{name}; echo 1 >/var/tmp/b; echo 1 >/dev/shm/c; \
         test \"$HOME\" = /flowyard/home; echo 1 >$HOME/d; cat /tmp/{name} $HOME/d"
    ));
    assert!(!outside.exists());
}

#[test]
fn shared_memory_has_the_size_asked_for() {
    let mut case =
        Case::shell("df -k /dev/shm | tail -1 | awk '{print $2}'; head -c 9000000 /dev/zero >/dev/shm/x", true);
    case.launch.limits.shm_bytes = 8 << 20;
    let outcome = case.run();
    assert_eq!(outcome.stdout.trim(), "8192", "{outcome:?}");
    assert_eq!(outcome.result, Ok(End::Exited { code: 1 }), "more than its size was written");
}

#[test]
fn a_folder_closed_by_the_task_is_removed_all_the_same() {
    holds("mkdir -p /tmp/a/b && touch /tmp/a/b/c && chmod 0 /tmp/a/b /tmp/a");
}

#[test]
fn only_harmless_devices_exist() {
    let output = holds("cd /dev; for n in *; do test -c $n -o -b $n && echo $n; done; true");
    let allowed = ["full", "null", "ptmx", "random", "tty", "urandom", "zero", "stdin", "stdout", "stderr"];
    for name in output.lines() {
        assert!(allowed.contains(&name), "/dev/{name} exists");
    }
    all_fail(&[
        "test -e /dev/kmsg",
        "test -e /dev/mem",
        "test -e /dev/fuse",
        "test -e /dev/vda",
        "test -e /dev/sda",
        "mknod /tmp/d b 254 0",
        "mknod /dev/shm/d c 1 1",
    ]);
    holds("head -c1 /dev/urandom | wc -c && echo x >/dev/null && script -qc true /dev/null </dev/null");
}

#[test]
fn a_granted_device_is_there_and_can_be_opened() {
    if !Path::new("/dev/fuse").exists() || !Uid::effective().is_root() {
        eprintln!("skipped: needs root and /dev/fuse");
        return;
    }
    let mut case = Case::shell("test -c /dev/fuse && exec 3<>/dev/fuse", false);
    case.container.devices = vec![PathBuf::from("/dev/fuse")];
    let outcome = case.run();
    assert_eq!(outcome.result, Ok(End::Exited { code: 0 }), "{outcome:?}");
}

#[test]
fn forbidden_calls_fail_although_they_need_no_privilege() {
    all_fail(&["unshare -U true", "unshare -Ur true", "setarch -R true"]);
    if !python() {
        return;
    }
    // keyctl, add_key, userfaultfd: allowed to everybody without a filter; clone3 must look absent; getpid must work.
    let script = "import ctypes, errno; c = ctypes.CDLL(None, use_errno=True)\n\
        def call(n, *a):\n    r = c.syscall(n, *a); return errno.errorcode.get(ctypes.get_errno()) if r < 0 else 'ok'\n\
        print(call(250, 0, -3, 0), call(323, 0), call(435, 0, 0), call(39), call(9999))";
    for ordinary in users() {
        let outcome = Case::command(&["/usr/bin/python3", "-c", script], ordinary).run();
        if cfg!(target_arch = "x86_64") {
            assert_eq!(outcome.stdout, "EPERM EPERM ENOSYS ok ENOSYS\n", "{outcome:?}");
        }
    }
}

#[test]
fn ordinary_programs_run_under_the_filter() {
    if !python() {
        return;
    }
    let script = "import threading, subprocess, multiprocessing, socket, os, tempfile, mmap\n\
        t = threading.Thread(target=lambda: None); t.start(); t.join()\n\
        assert subprocess.check_output(['echo', 'hi']) == b'hi\\n'\n\
        l = multiprocessing.Lock(); p = multiprocessing.Process(target=l.acquire); p.start(); p.join()\n\
        socket.socketpair(); socket.socket(); tempfile.TemporaryFile().write(b'x'); mmap.mmap(-1, 4096)\n\
        print(os.cpu_count() > 0, open('/proc/meminfo').read() != '')";
    for ordinary in users() {
        let outcome = Case::command(&["/usr/bin/python3", "-c", script], ordinary).run();
        assert_eq!(outcome.stdout, "True True\n", "{outcome:?}");
    }
}

#[test]
fn set_user_id_programs_give_nothing() {
    let output = holds(
        "find /usr/bin -perm -4000 | head -1 >/dev/null; grep NoNewPrivs /proc/self/status; passwd -S root 2>&1 | grep -c 'root [LPN]' || true",
    );
    assert!(output.contains('1') && output.ends_with("0\n"), "{output}");
}

#[test]
fn without_network_there_is_only_a_working_loopback() {
    for ordinary in users() {
        let mut case = Case::shell(
            "grep -c : /proc/net/dev; grep 'lo:' /proc/net/dev | cut -d: -f1; cat /sys/class/net/lo/flags >/dev/null; true",
            ordinary,
        );
        case.container.network = Network::None;
        let outcome = case.run();
        assert_eq!(outcome.stdout.lines().map(str::trim).collect::<Vec<_>>(), ["1", "lo"], "{outcome:?}");
    }
    if python() {
        let script = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()); print('up')";
        let mut case = Case::command(&["/usr/bin/python3", "-c", script], true);
        case.container.network = Network::None;
        let outcome = case.run();
        assert_eq!(outcome.stdout, "up\n", "{outcome:?}");
    }
}

#[test]
fn mounts_are_read_only_or_writable_as_asked() {
    for ordinary in users() {
        let mut case = Case::shell("cat in/data/file && touch work/new && ! touch in/data/new 2>/dev/null", ordinary);
        let (input, work) = (case.launch.folder.join("input"), case.launch.folder.join("work"));
        for folder in [&input, &work] {
            fs::create_dir(folder).expect("a folder");
            chown(folder, Some(case.container.user.host_uid), Some(case.container.user.host_gid)).expect("an owner");
        }
        fs::write(input.join("file"), "data").expect("a file");
        let mount = |source: &Path, target: &str, read_only| Mount {
            source: source.into(),
            target: target.into(),
            read_only,
            mapped: false,
        };
        case.container.mounts = vec![mount(&work, "/flowyard/work", false), mount(&input, "/flowyard/in/data", true)];
        case.launch.workdir = "/flowyard".into();
        let folder = case.launch.folder.clone();
        let kept = tempfile::tempdir().expect("a folder");
        let outcome = case.run();
        assert_eq!(outcome.result, Ok(End::Exited { code: 0 }), "{outcome:?}");
        assert_eq!(outcome.stdout, "data");
        drop((folder, kept));
    }
}

/// A statically linked program that prints its words, shows files (`cat:PATH`) and makes them (`put:PATH`).
fn static_program(target: &Path) -> bool {
    const SOURCE: &str = r#"
        #include <fcntl.h>
        #include <stdio.h>
        #include <string.h>
        #include <unistd.h>
        int main(int count, char **words) {
            setvbuf(stdout, 0, _IONBF, 0);
            for (int i = 1; i < count; i++) {
                char text[4096];
                if (!strncmp(words[i], "cat:", 4)) {
                    int file = open(words[i] + 4, O_RDONLY);
                    long got = file < 0 ? -1 : read(file, text, sizeof text);
                    if (got < 0) puts("none"); else fwrite(text, 1, got, stdout);
                } else if (!strncmp(words[i], "put:", 4)) {
                    puts(open(words[i] + 4, O_WRONLY | O_CREAT, 0644) < 0 ? "cannot" : "put");
                } else puts(words[i]);
            }
            return 0;
        }"#;
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("program.c");
    fs::write(&source, SOURCE).expect("a source file");
    let built = std::process::Command::new("cc").arg("-static").arg("-o").arg(target).arg(&source).output();
    let built = built.is_ok_and(|output| output.status.success());
    if !built {
        eprintln!("skipped: no C compiler that links statically");
    }
    built
}

#[test]
fn an_image_runs_with_a_private_writable_layer() {
    for ordinary in users() {
        let image = tempfile::tempdir().expect("a folder");
        for folder in ["bin", "etc", "usr/share"] {
            fs::create_dir_all(image.path().join(folder)).expect("a folder");
        }
        if !static_program(&image.path().join("bin/words")) {
            return;
        }
        fs::write(image.path().join("etc/release"), "from the image\n").expect("a file");
        fs::set_permissions(image.path(), fs::Permissions::from_mode(0o755)).expect("an open folder");
        let words = [
            "words",
            "cat:/etc/release",
            "put:/tmp/x",
            "put:/flowyard/home/x",
            "cat:/etc/shadow",
            "put:/proc/sys/kernel/core_pattern",
        ];
        let mut case = Case::command(&words, ordinary);
        // As root the image belongs to root, as it would when the agent unpacked it; as an ordinary user to that user.
        let owner = case.container.user.host_uid;
        let mut open = vec![image.path().to_owned()];
        while let Some(path) = open.pop() {
            chown(&path, Some(owner), Some(owner)).expect("an owner");
            open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        case.launch.argv.push("put:/usr/share/new".into());
        case.container.root = Root::Tree { lower: image.path().into(), mapped: false };
        let outcome = case.run();
        assert_eq!(outcome.stdout, "from the image\nput\nput\nnone\ncannot\nput\n", "ordinary: {ordinary} {outcome:?}");
        assert!(!image.path().join("usr/share/new").exists(), "the image was changed");
        assert!(!image.path().join("flowyard").exists(), "the image was changed");
    }
}

#[test]
fn where_containers_cannot_be_had_both_remedies_are_named() {
    let mut case = Case::shell("true", true);
    case.namespaces = false;
    let (code, message) = case.run().result.expect_err("no container");
    assert_eq!(code, -1);
    assert!(message.starts_with("containers cannot be made here: make a user namespace: "), "{message}");
    assert!(message.contains("allow unprivileged user namespaces (sysctl"), "{message}");
    assert!(message.ends_with("or submit with --isolation process"), "{message}");
}

#[test]
fn the_first_process_shows_nothing_of_the_host() {
    let shown = Case::shell("cat /proc/1/comm; tr -d '\\0' < /proc/1/cmdline", false).run();
    if shown.result.is_ok() {
        assert_eq!(shown.stdout, "flowyard-init\nflowyard-init");
    }
}
