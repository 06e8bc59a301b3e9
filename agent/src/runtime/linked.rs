//! Containers made by the linked-in container library.
//!
//! The shim forks a maker, which enters the stage, lets the library make the container with its init as a child of the shim, and
//! ends when the program is started. So the shim itself keeps its namespaces, its folder and its way to the cgroups, and nothing
//! that the library does to its own process matters later.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::maker::{self, Order};
use super::mapped::mapped;
use super::oci::{self, Parts};
use super::report::Report;
use super::scratch::Scratch;
use super::spec::{ContainerSpec, LaunchSpec, Network};
use super::stage::Stage;
use super::{End, Runtime, RuntimeError, Stats, Stdio, init, processes, sys};

/// A container of the linked-in library.
#[derive(Debug)]
pub(crate) struct Linked {
    launch: LaunchSpec,
    container: ContainerSpec,
    stage: Rc<Stage>,
    stdio: Option<Stdio>,
    scratch: Scratch,
    /// The maker's process and the way to it, until the program is started.
    maker: Option<(Pid, OwnedFd)>,
    /// What init reports.
    reports: Option<OwnedFd>,
    init: Option<Pid>,
    /// Init's own wait status, once it has been collected.
    collected: Option<WaitStatus>,
    end: Option<End>,
}

impl Linked {
    pub(crate) fn new(launch: &LaunchSpec, container: &ContainerSpec, stage: Rc<Stage>, stdio: Stdio) -> Self {
        Self {
            launch: launch.clone(),
            container: container.clone(),
            stage,
            stdio: Some(stdio),
            scratch: Scratch::of(launch),
            maker: None,
            reports: None,
            init: None,
            collected: None,
            end: None,
        }
    }

    fn order(&self, uid: u32, gid: u32) -> Result<Order, RuntimeError> {
        let root = super::stage::root_folder();
        let id = format!("c{}", std::process::id());
        let (container, placed) = mapped(&self.container, &super::stage::state_folder().join(&id))?;
        let description = oci::describe(&Parts {
            launch: &self.launch,
            container: &container,
            root: &root,
            scratch: &self.scratch,
            ids: (uid, gid),
        })?;
        Ok(Order {
            id,
            description,
            user: self.container.user,
            own_network: self.container.network != Network::Host,
            placed,
            image: self.scratch.layer(&container),
            program: Rc::new(program(&self.launch)?),
        })
    }

    /// Collects dead children: the maker, the library's own helper process, and in the end init.
    fn collect(&mut self, wait_for: Option<Pid>) -> Result<(), RuntimeError> {
        loop {
            let flags = if wait_for.is_some() { WaitPidFlag::empty() } else { WaitPidFlag::WNOHANG };
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) => return Ok(()),
                Ok(status) => {
                    if status.pid() == self.init && self.init.is_some() {
                        self.collected = Some(status);
                    }
                    if status.pid() == wait_for {
                        return Ok(());
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return Ok(()),
                Err(source) => {
                    return Err(RuntimeError::Step { what: "wait for the container", source: source.into() });
                }
            }
        }
    }

    /// Reads what init had to say in the end; without a word it was killed.
    fn settle(&mut self) -> Result<Option<End>, RuntimeError> {
        let Some(status) = self.collected else { return Ok(None) };
        if self.end.is_none() {
            let mut end = match status {
                WaitStatus::Signaled(_, signal, _) => End::Signalled { signal: signal as i32 },
                WaitStatus::Exited(_, code) => End::Exited { code },
                _ => return Ok(None),
            };
            while let Some(report) = self.report(false)? {
                if let Report::Ended { status } = report {
                    end = end_of(status);
                }
            }
            self.end = Some(end);
        }
        Ok(self.end)
    }

    fn report(&self, wait: bool) -> Result<Option<Report>, RuntimeError> {
        let Some(reports) = &self.reports else { return Ok(None) };
        Report::receive(reports.as_fd(), wait)
            .map_err(|source| RuntimeError::Step { what: "hear from the container", source })
    }
}

/// What a raw wait status says.
fn end_of(status: i32) -> End {
    if libc::WIFEXITED(status) {
        End::Exited { code: libc::WEXITSTATUS(status) }
    } else {
        End::Signalled { signal: libc::WTERMSIG(status) }
    }
}

impl Runtime for Linked {
    fn create(&mut self) -> Result<(), RuntimeError> {
        let Some(stdio) = self.stdio.take() else {
            return Err(RuntimeError::Refused("a container is created once".to_owned()));
        };
        let user = self.container.user;
        let (uid, gid) = self.stage.ids_inside(user.host_uid, user.host_gid)?;
        self.scratch.make(&self.container)?;
        let order = self.order(uid, gid)?;
        let (ours, theirs) = sys::packet_pair()?;
        let (reports, init_side) = sys::packet_pair()?;
        // SAFETY: shims have one thread (module documentation), so the child may use the allocator.
        match unsafe { fork() }.map_err(|source| RuntimeError::Step { what: "fork", source: source.into() })? {
            ForkResult::Child => {
                drop((ours, reports));
                maker::run(&order, &self.stage, stdio, &theirs, init_side)
            }
            ForkResult::Parent { child } => {
                drop((theirs, init_side, stdio));
                let answer = maker::hear(&ours);
                self.maker = Some((child, ours));
                self.reports = Some(reports);
                let pid = answer?.parse().map_err(|_| RuntimeError::Died(None))?;
                self.init = Some(Pid::from_raw(pid));
                Ok(())
            }
        }
    }

    fn start(&mut self) -> Result<(), RuntimeError> {
        let Some((maker, socket)) = self.maker.take() else {
            return Err(RuntimeError::Refused("a container is started once, after it was created".to_owned()));
        };
        sys::send(socket.as_fd(), b"start")
            .map_err(|source| RuntimeError::Step { what: "tell the maker to start", source })?;
        let told = maker::hear(&socket);
        drop(socket);
        self.collect(Some(maker))?;
        told?;
        match self.report(true)? {
            Some(Report::Started | Report::Ended { .. }) => Ok(()),
            Some(Report::CommandFailed { code, message }) => Err(RuntimeError::Command { code, message }),
            Some(Report::SandboxFailed(text)) => Err(RuntimeError::Refused(text)),
            None => Err(RuntimeError::Died(None)),
        }
    }

    fn init_pid(&self) -> Option<Pid> {
        self.init
    }

    fn kill(&mut self, signal: i32) -> Result<(), RuntimeError> {
        if signal == libc::SIGKILL {
            return self.kill_all();
        }
        processes::signal(self.init.filter(|_| self.collected.is_none()), signal)
    }

    fn kill_all(&mut self) -> Result<(), RuntimeError> {
        processes::signal(self.init.filter(|_| self.collected.is_none()), libc::SIGKILL)
    }

    fn try_wait(&mut self) -> Result<Option<End>, RuntimeError> {
        if self.collected.is_none() {
            self.collect(None)?;
        }
        self.settle()
    }

    fn wait(&mut self) -> Result<End, RuntimeError> {
        let Some(init) = self.init else { return Err(RuntimeError::Died(None)) };
        if self.collected.is_none() {
            self.collect(Some(init))?;
        }
        self.settle()?.ok_or(RuntimeError::Died(None))
    }

    fn stats(&mut self) -> Result<Stats, RuntimeError> {
        match self.init.filter(|_| self.collected.is_none()) {
            Some(init) => processes::stats(init),
            None => Ok(Stats::default()),
        }
    }

    fn delete(&mut self) -> Result<(), RuntimeError> {
        self.kill_all()?;
        if let Some((maker, socket)) = self.maker.take() {
            // The maker ends when its socket is closed, and takes the container's state with it.
            drop(socket);
            self.collect(Some(maker))?;
        }
        if let (Some(init), None) = (self.init, self.collected) {
            self.collect(Some(init))?;
        }
        self.collect(None)?;
        self.scratch.remove()
    }
}

/// The program and where to look for it, as a shell would.
pub(crate) fn program(launch: &LaunchSpec) -> Result<init::Program, RuntimeError> {
    let c = |text: &str| CString::new(text).map_err(|_| RuntimeError::Spec(format!("{text:?} contains a zero byte")));
    let Some(name) = launch.argv.first() else {
        return Err(RuntimeError::Spec("there is no command".to_owned()));
    };
    let path =
        launch.env.iter().find(|(key, _)| key == "PATH").map_or("/usr/local/bin:/usr/bin:/bin", |(_, path)| path);
    let (candidates, searched) = if name.contains('/') {
        (vec![c(name)?], format!("the working directory was {}", launch.workdir.display()))
    } else {
        let folders = path.split(':').filter(|folder| !folder.is_empty());
        let all: Result<Vec<_>, _> = folders.map(|folder| c(&format!("{folder}/{name}"))).collect();
        (all?, format!("PATH was {path}"))
    };
    let argv: Result<Vec<_>, _> = launch.argv.iter().map(|argument| c(argument)).collect();
    let env: Result<Vec<_>, _> = oci::environment(launch).iter().map(|variable| c(variable)).collect();
    let (mut env, unread) = (env?, |error: std::io::Error| RuntimeError::Spec(error.to_string()));
    for variable in launch.secret_variables().map_err(unread)? {
        let secret = CString::new(variable);
        env.push(secret.map_err(|_| RuntimeError::Spec("a secret variable contains a zero byte".to_owned()))?);
    }
    Ok(init::Program { candidates, argv: argv?, env, name: name.clone(), searched })
}
