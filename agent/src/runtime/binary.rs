//! Containers made by an OCI runtime binary, e.g. crun or runc: the way out where the linked-in library has a fault.
//!
//! The binary runs inside the stage, so it gets the same prepared root and sees no cgroups. The container's first process
//! becomes an orphan when the binary ends and is adopted by the shim, which is a subreaper.
//!
//! What differs from the linked-in library: the user's program is process 1 (so it must catch SIGTERM to be stopped by it), and
//! for an ordinary user it sees itself as root. Where the task has users of its own, root inside is who makes the container, so
//! the task is somebody else, and nothing needs to be mapped for it. A binary must be able to do without cgroups, as crun can;
//! runc 1.1 cannot.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::oci::{self, Parts};
use super::scratch::Scratch;
use super::spec::{ContainerSpec, LaunchSpec};
use super::stage::{self, Stage};
use super::{End, Runtime, RuntimeError, Stats, Stdio, maker, processes, seccomp, sys};

/// The container's name for the binary; each has a state folder of its own.
const ID: &str = "task";

/// A container of a runtime binary.
#[derive(Debug)]
pub(crate) struct Binary {
    binary: PathBuf,
    launch: LaunchSpec,
    container: ContainerSpec,
    stage: Rc<Stage>,
    stdio: Option<Stdio>,
    scratch: Scratch,
    /// Bundle and state, as seen from within the stage.
    folder: PathBuf,
    init: Option<Pid>,
    end: Option<End>,
    created: bool,
}

impl Binary {
    pub(crate) fn new(
        binary: &Path,
        launch: &LaunchSpec,
        container: &ContainerSpec,
        stage: Rc<Stage>,
        stdio: Stdio,
    ) -> Self {
        Self {
            binary: binary.to_owned(),
            launch: launch.clone(),
            container: container.clone(),
            stage,
            stdio: Some(stdio),
            scratch: Scratch::of(launch),
            folder: stage::state_folder().join(format!("b{}", std::process::id())),
            init: None,
            end: None,
            created: false,
        }
    }

    /// Does something inside the stage, in a process of its own.
    fn in_stage(&self, act: impl FnOnce() -> Result<String, RuntimeError>) -> Result<String, RuntimeError> {
        let (ours, theirs) = sys::packet_pair()?;
        // SAFETY: shims have one thread (module documentation), so the child may use the allocator.
        match unsafe { fork() }.map_err(|source| RuntimeError::Step { what: "fork", source: source.into() })? {
            ForkResult::Child => {
                drop(ours);
                maker::tell(&theirs, &self.stage.enter().and_then(|()| act()));
                // SAFETY: ends this process without running the shim's exit code.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let answer = maker::hear(&ours);
                while matches!(waitpid(child, None), Err(Errno::EINTR)) {}
                answer
            }
        }
    }

    /// Runs the binary inside the stage. Its own words go to a log file, because its output is the task's.
    fn call(&self, words: &[OsString], stdio: Option<&Stdio>) -> Result<(), RuntimeError> {
        let log = self.folder.join("log");
        let mut command = Command::new(&self.binary);
        command.env_clear().arg("--root").arg(self.folder.join("state")).arg("--log").arg(&log);
        if self.binary.file_name().is_some_and(|name| name == "crun") {
            command.arg("--cgroup-manager=disabled");
        }
        command.args(words).current_dir("/");
        if let Some(stdio) = stdio {
            let copy = |fd: &std::os::fd::OwnedFd| {
                fd.try_clone().map_err(|source| RuntimeError::Step { what: "copy a descriptor", source })
            };
            command.stdin(copy(&stdio.stdin)?).stdout(copy(&stdio.stdout)?).stderr(copy(&stdio.stderr)?);
        } else {
            let null = || File::options().read(true).write(true).open("/dev/null").map(std::process::Stdio::from);
            let null = || null().map_err(|source| RuntimeError::Step { what: "open /dev/null", source });
            command.stdin(null()?).stdout(null()?).stderr(null()?);
        }
        let status =
            command.status().map_err(|source| RuntimeError::Path { what: "run", path: self.binary.clone(), source })?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        Err(RuntimeError::Refused(said.trim().to_owned()))
    }

    /// Binaries say in words only that a program was not found.
    fn understand(&self, error: RuntimeError) -> RuntimeError {
        let RuntimeError::Refused(said) = error else { return error };
        let lower = said.to_lowercase();
        let about_program = lower.contains("executable") || lower.contains("exec:");
        let program = self.launch.argv.first().cloned().unwrap_or_default();
        if about_program && (lower.contains("not found") || lower.contains("no such file")) {
            return RuntimeError::Command { code: 127, message: format!("{program}: not found: {said}") };
        }
        if about_program && lower.contains("permission denied") {
            return RuntimeError::Command { code: 126, message: format!("{program}: not executable: {said}") };
        }
        RuntimeError::Refused(format!("{}: {said}", self.binary.display()))
    }

    fn bundle(&self) -> Result<String, RuntimeError> {
        let root = stage::root_folder();
        let user = self.container.user;
        let parts = Parts {
            launch: &self.launch,
            container: &self.container,
            root: &root,
            scratch: &self.scratch,
            ids: self.stage.ids_inside(user.host_uid, user.host_gid)?,
        };
        Ok(oci::describe_for_binary(&parts, seccomp::for_binary()?)?.to_string())
    }

    fn make(&self, description: &str, stdio: &Stdio) -> Result<String, RuntimeError> {
        let failed = |what, path: &Path, source| RuntimeError::Path { what, path: path.to_owned(), source };
        fs::create_dir(&self.folder).map_err(|source| failed("make folder", &self.folder, source))?;
        if let Some((lower, layer)) = self.scratch.layer(&self.container) {
            sys::own_mounts()?;
            layer.put_up(&lower, &stage::root_folder())?;
        }
        let config = self.folder.join("config.json");
        fs::write(&config, description).map_err(|source| failed("write", &config, source))?;
        let pid_file = self.folder.join("pid");
        let words: [OsString; 6] = [
            "create".into(),
            "--bundle".into(),
            self.folder.clone().into(),
            "--pid-file".into(),
            pid_file.clone().into(),
            ID.into(),
        ];
        self.call(&words, Some(stdio))?;
        fs::read_to_string(&pid_file).map_err(|source| failed("read", &pid_file, source))
    }

    fn collect(&mut self, wait: bool) -> Result<Option<End>, RuntimeError> {
        let Some(init) = self.init else { return Ok(None) };
        let flags = if wait { WaitPidFlag::empty() } else { WaitPidFlag::WNOHANG };
        while self.end.is_none() {
            match waitpid(init, Some(flags)) {
                Ok(WaitStatus::Exited(_, code)) => self.end = Some(End::Exited { code }),
                Ok(WaitStatus::Signaled(_, signal, _)) => self.end = Some(End::Signalled { signal: signal as i32 }),
                Ok(_) if !wait => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(source) => {
                    return Err(RuntimeError::Step { what: "wait for the container", source: source.into() });
                }
            }
        }
        Ok(self.end)
    }
}

impl Runtime for Binary {
    fn create(&mut self) -> Result<(), RuntimeError> {
        let Some(stdio) = self.stdio.take() else {
            return Err(RuntimeError::Refused("a container is created once".to_owned()));
        };
        // SAFETY: takes integers only.
        if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } != 0 {
            return Err(RuntimeError::last_os("become a subreaper"));
        }
        let description = self.bundle()?;
        self.scratch.make(&self.container)?;
        self.created = true;
        let made = self.in_stage(|| self.make(&description, &stdio));
        let pid = made.map_err(|error| self.understand(error))?;
        let pid = pid.trim().parse().map_err(|_| RuntimeError::Died(None))?;
        self.init = Some(Pid::from_raw(pid));
        Ok(())
    }

    fn start(&mut self) -> Result<(), RuntimeError> {
        if self.init.is_none() {
            return Err(RuntimeError::Refused("a container is started once, after it was created".to_owned()));
        }
        let started = self.in_stage(|| self.call(&["start".into(), ID.into()], None).map(|()| String::new()));
        started.map(drop).map_err(|error| self.understand(error))
    }

    fn init_pid(&self) -> Option<Pid> {
        self.init
    }

    fn kill(&mut self, signal: i32) -> Result<(), RuntimeError> {
        processes::signal(self.init.filter(|_| self.end.is_none()), signal)
    }

    fn kill_all(&mut self) -> Result<(), RuntimeError> {
        self.kill(libc::SIGKILL)
    }

    fn try_wait(&mut self) -> Result<Option<End>, RuntimeError> {
        self.collect(false)
    }

    fn wait(&mut self) -> Result<End, RuntimeError> {
        self.collect(true)?.ok_or(RuntimeError::Died(None))
    }

    fn stats(&mut self) -> Result<Stats, RuntimeError> {
        self.init.filter(|_| self.end.is_none()).map_or_else(|| Ok(Stats::default()), processes::stats)
    }

    fn delete(&mut self) -> Result<(), RuntimeError> {
        self.kill_all()?;
        self.collect(true)?;
        if self.created {
            self.created = false;
            self.in_stage(|| {
                // Nothing runs any more and there is no cgroup, so its state is all that the binary has kept.
                match fs::remove_dir_all(&self.folder) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        Err(RuntimeError::Path { what: "remove", path: self.folder.clone(), source })
                    }
                    _ => Ok(String::new()),
                }
            })?;
        }
        self.scratch.remove()
    }
}
