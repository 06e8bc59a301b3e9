//! The embedded cluster of an ordinary user, freshly added: containers without privileges, and limits that are watched where
//! the kernel does not hold them.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{Ran, Yard, is_root};

/// One change of the machine's users at a time.
static USERS: Mutex<()> = Mutex::new(());
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A user of this machine with a yard of its own, removed with it.
struct Guest {
    yard: Yard,
    name: String,
    ids: (u32, u32),
}

fn succeed(program: &str, args: &[&str]) -> Result<String, String> {
    let out = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim().replace('\n', " "))),
    }
}

impl Guest {
    /// A new user, or why there can be none.
    fn added() -> Result<Self, String> {
        if !is_root() {
            return Err("only root may add a user".to_owned());
        }
        let name = format!("fy-e2e-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let _alone = USERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        succeed("useradd", &["-m", &name])?;
        let id = |flag| succeed("id", &[flag, &name])?.parse::<u32>().map_err(|error| error.to_string());
        let ids = (id("-u")?, id("-g")?);
        let mut yard = Yard::new();
        let program = yard.folder().join("fctl");
        fs::copy(common::program(), &program).map_err(|error| error.to_string())?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        yard.run_with(&program);
        for path in ["", "work", "config"] {
            chown(yard.folder().join(path), Some(ids.0), Some(ids.1)).unwrap();
        }
        let guest = Self { yard, name, ids };
        let mut may = guest.as_user(Command::new("unshare"));
        match may.args(["--user", "--mount", "true"]).output() {
            Ok(out) if out.status.success() => Ok(guest),
            _ => Err("ordinary users may not make user namespaces here".to_owned()),
        }
    }

    fn as_user(&self, mut command: Command) -> Command {
        command.uid(self.ids.0).gid(self.ids.1);
        command.env("HOME", format!("/home/{}", self.name)).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.yard.start_command(self.as_user(self.yard.command(args))).wait()
    }

    fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code(), 0, "{args:?}: {ran:#?}");
        ran.stdout
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        for (pid, _) in self.yard.processes() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _alone = USERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = succeed("userdel", &["-r", "-f", &self.name]) {
            assert!(error.contains("mail spool"), "the user {} is left: {error}", self.name);
        }
    }
}

#[test]
fn a_container_runs_at_once_and_the_limits_are_said_once() {
    let guest = match Guest::added() {
        Ok(guest) => guest,
        Err(reason) => return flowyard_skip::skip(&reason),
    };
    let look = "id -u; ps ax 2>/dev/null | wc -l; test ! -r /etc/shadow && echo hidden; ls /home";
    let first = guest.run(&["submit", "--local", "--follow", "--", "sh", "-c", look]);
    assert_eq!(first.code(), 0, "{first:#?}");
    assert!(first.stdout.contains("hidden"), "{first:#?}");
    assert!(first.stdout.starts_with(&format!("{}\n", guest.ids.0)), "the task runs as the user: {first:#?}");
    let nodes = guest.ok(&["nodes", "--local", "-o", "json"]);
    if !nodes.contains("memory by cgroup") {
        first.says(&["limits of tasks here:", "memory watched", "(said once)"]);
    }
    let second = guest.run(&["submit", "--local", "--", "true"]);
    assert_eq!(second.code(), 0, "{second:#?}");
    assert!(!second.stderr.contains("(said once)"), "{second:#?}");
    guest.yard.nothing_is_left();
}

#[test]
fn the_iris_flow_finds_its_best_model() {
    let guest = match Guest::added() {
        Ok(guest) => guest,
        Err(reason) => return flowyard_skip::skip(&reason),
    };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/iris");
    for entry in fs::read_dir(examples).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        guest.yard.write(entry.file_name().to_str().unwrap(), fs::read(entry.path()).unwrap());
    }
    let ran = guest.run(&["submit", "--local", "flow.toml", "-P", "folds=2"]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    assert!(guest.ok(&["artifact", "cat", "1/pick", "best", "--local"]).contains("confusion"));
    guest.yard.nothing_is_left();
}

#[test]
fn a_task_above_its_memory_is_ended_as_out_of_memory() {
    let guest = match Guest::added() {
        Ok(guest) => guest,
        Err(reason) => return flowyard_skip::skip(&reason),
    };
    let program = "import time; x = bytearray(400 << 20); time.sleep(1000)";
    for isolation in ["container", "process"] {
        let flags =
            ["submit", "--local", "--isolation", isolation, "--memory", "64MiB", "--", "python3", "-c", program];
        let ran = guest.run(&flags);
        assert_eq!(ran.code(), 128 + 9, "{isolation}: {ran:#?}");
        ran.says(&["reason: oom, blame: user", "limit of 64MiB"]);
    }
    guest.yard.nothing_is_left();
}

#[test]
fn an_output_that_cannot_be_read_fails_its_task_and_names_it() {
    let guest = match Guest::added() {
        Ok(guest) => guest,
        Err(reason) => return flowyard_skip::skip(&reason),
    };
    for isolation in ["process", "container"] {
        let script = "mkdir o; echo x > o/secret; chmod 000 o/secret";
        let ran =
            guest.run(&["submit", "--local", "--isolation", isolation, "--output", "o=o", "--", "sh", "-c", script]);
        assert_eq!(ran.code(), 114, "{isolation}: {ran:#?}");
        ran.says(&["output `o`", "o/secret", "ermission denied", "reason: output, blame: user"]);
    }
    guest.yard.nothing_is_left();
}

#[test]
fn a_killed_agent_finds_its_tasks_again() {
    let guest = match Guest::added() {
        Ok(guest) => guest,
        Err(reason) => return flowyard_skip::skip(&reason),
    };
    let dev = || {
        let mut dev = guest.yard.start_command(guest.as_user(guest.yard.command(&["dev"])));
        dev.wait_until("its cluster to be up", |dev| dev.stderr().contains(" is up; endpoint"));
        dev
    };
    let first = dev();
    let script = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; sleep 0.02; done; exit 6";
    guest.ok(&["submit", "--", "sh", "-c", script]);
    common::until("it to run", || guest.run(&["logs", "1"]).stdout.contains("line 3"));
    first.kill();
    let second = dev();
    assert_eq!(guest.run(&["wait", "1"]).code(), 6);
    assert!(guest.ok(&["logs", "1"]).lines().eq((1..=200).map(|at| format!("line {at}"))), "a line is missing");
    assert!(!guest.ok(&["show", "1", "-o", "json"]).contains("\"attempt\":2"));
    assert_eq!(second.interrupt().code(), 0);
    guest.yard.nothing_is_left();
}

#[test]
fn a_home_is_closed_to_other_users() {
    let guest = match Guest::added() {
        Ok(guest) => guest,
        Err(reason) => return flowyard_skip::skip(&reason),
    };
    let dev = guest.yard.start_command(guest.as_user(guest.yard.command(&["dev"])));
    let socket = guest.yard.home().join("api.sock");
    common::until("the cluster", || socket.exists() && guest.run(&["jobs"]).code() == 0);
    let mode = fs::metadata(guest.yard.home()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let mut other = guest.yard.command(&["jobs", "--endpoint", &format!("unix://{}", socket.display())]);
    other.uid(65_534).gid(65_534);
    let other = guest.yard.start_command(other).wait();
    assert_ne!(other.code(), 0, "{other:#?}");
    assert_eq!(other.stdout, "", "{other:#?}");
    dev.interrupt();
    guest.yard.nothing_is_left();
}
