//! The maker: a short-lived child of the shim that enters the stage and has the library make one container.
//!
//! The container's init becomes a child of the shim, not of the maker. The maker stays only until the program is to be started,
//! because only from within the stage can the task be given its ids and its loopback device.

use std::error::Error;
use std::fs;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcgroups::common::CgroupConfig;
use libcontainer::notify_socket::{NOTIFY_FILE, NotifyListener, NotifySocket};
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::channel;
use libcontainer::process::init::container_init_process;
use libcontainer::syscall::syscall::SyscallType;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;

use super::mapped::Placed;
use super::spec::User;
use super::stage::{self, Stage};
use super::tree_root::Layer;
use super::{RuntimeError, Stdio, init, sys};

/// What the maker is to make.
pub(crate) struct Order {
    /// Unique among the containers of the stage that are being made.
    pub(crate) id: String,
    /// In the OCI format.
    pub(crate) description: serde_json::Value,
    /// Who the task is.
    pub(crate) user: User,
    /// Whether it has a network namespace of its own.
    pub(crate) own_network: bool,
    /// What is to be there before anything is mounted from it.
    pub(crate) placed: Vec<Placed>,
    /// The image and the writable layer over it; `None` for the stage's own root.
    pub(crate) image: Option<(PathBuf, Layer)>,
    /// What to run.
    pub(crate) program: Rc<init::Program>,
}

/// Waits for the maker's answer.
pub(crate) fn hear(socket: &OwnedFd) -> Result<String, RuntimeError> {
    let message = sys::receive(socket.as_fd(), true)
        .map_err(|source| RuntimeError::Step { what: "hear from the maker", source })?
        .ok_or(RuntimeError::Died(None))?;
    match message.split_first() {
        Some((b'+', text)) => Ok(String::from_utf8_lossy(text).into_owned()),
        Some((_, text)) => Err(RuntimeError::Refused(String::from_utf8_lossy(text).into_owned())),
        None => Err(RuntimeError::Died(None)),
    }
}

/// Tells what came of it.
pub(crate) fn tell(socket: &OwnedFd, answer: &Result<String, RuntimeError>) {
    let mut message = match answer {
        Ok(text) => format!("+{text}"),
        Err(error) => format!("-{error}"),
    }
    .into_bytes();
    message.truncate(sys::MESSAGE_BYTES);
    // The shim may be gone; then nobody is to be told.
    let _ = sys::send(socket.as_fd(), &message);
}

/// The maker's whole life.
pub(crate) fn run(order: &Order, stage: &Stage, stdio: Stdio, shim: &OwnedFd, reports: OwnedFd) -> ! {
    let folder = stage::state_folder().join(&order.id);
    let made = make(order, stage, stdio, &folder, reports);
    tell(shim, &made.as_ref().map(Pid::to_string).map_err(|error| RuntimeError::Refused(error.to_string())));
    if let Ok(pid) = made
        && matches!(sys::receive(shim.as_fd(), true), Ok(Some(_)))
    {
        tell(shim, &start(order, stage, &folder, pid).map(|()| String::new()));
    }
    // Nothing may be mounted in what is removed.
    order.placed.iter().for_each(Placed::take_away);
    let _ = fs::remove_dir_all(&folder);
    // SAFETY: ends this process without running the shim's exit code.
    unsafe { libc::_exit(0) }
}

fn make(order: &Order, stage: &Stage, stdio: Stdio, folder: &Path, reports: OwnedFd) -> Result<Pid, RuntimeError> {
    let spec: Spec = serde_json::from_value(order.description.clone())
        .map_err(|error| RuntimeError::Refused(format!("describe the container: {error}")))?;
    stage.enter()?;
    // From here on a process of the container must not be able to look into this one.
    sys::set_dumpable(false);
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    fs::create_dir(folder).map_err(|source| path_error("make folder", folder, source))?;
    if order.image.is_some() || !order.placed.is_empty() {
        sys::own_mounts()?;
    }
    order.placed.iter().try_for_each(Placed::put)?;
    if let Some((lower, layer)) = &order.image {
        layer.put_up(lower, &stage::root_folder())?;
    }
    let task = init::Init {
        program: Rc::clone(&order.program),
        filter: Rc::clone(stage.seccomp()),
        title: stage.title(),
        reports: Rc::new(reports),
    };
    let pid = fork_init(&arguments(spec, folder, stdio, task)?)?;
    if order.own_network {
        raise_loopback(pid)?;
    }
    Ok(pid)
}

/// What the library's init part is told.
fn arguments(spec: Spec, folder: &Path, stdio: Stdio, task: init::Init) -> Result<ContainerArgs, RuntimeError> {
    let notify_listener = NotifyListener::new(&folder.join(NOTIFY_FILE))
        .map_err(|error| RuntimeError::Refused(format!("make the container: {}", chain(&error))))?;
    Ok(ContainerArgs {
        container_type: ContainerType::InitContainer,
        syscall: SyscallType::default(),
        spec: Rc::new(spec),
        rootfs: stage::root_folder(),
        console_socket: None,
        notify_listener,
        preserve_fds: 0,
        container: None,
        user_ns_config: None,
        cgroup_config: CgroupConfig {
            cgroup_path: PathBuf::new(),
            systemd_cgroup: false,
            container_name: String::new(),
        },
        detached: true,
        executor: Box::new(task),
        no_pivot: false,
        stdin: Some(stdio.stdin.into_raw_fd()),
        stdout: Some(stdio.stdout.into_raw_fd()),
        stderr: Some(stdio.stderr.into_raw_fd()),
        as_sibling: true,
        pid_file: None,
    })
}

/// Forks the container's init as a child of the shim, and waits until the library has made everything up to the start.
///
/// This takes the place of the library's own two outer processes. They would make cgroups, which are the launcher's business, and
/// for that read the table of mounts once per kind of cgroup: more than all the rest of making a container costs.
fn fork_init(args: &ContainerArgs) -> Result<Pid, RuntimeError> {
    let refused = |error: &dyn Error| RuntimeError::Refused(format!("make the container: {}", chain(error)));
    let (mut to_maker, mut from_init) = channel::main_channel().map_err(|error| refused(&error))?;
    let (_to_init, mut from_maker) = channel::init_channel().map_err(|error| refused(&error))?;
    unshare(CloneFlags::CLONE_NEWPID)
        .map_err(|source| RuntimeError::Step { what: "make a process namespace", source: source.into() })?;
    // SAFETY: a fork that also makes the child a sibling: no stack, no pointers. The maker has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT | libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        let failed = container_init_process(args, &mut to_maker, &mut from_maker);
        if let Err(error) = failed {
            let _ = to_maker.exec_failed(chain(&error));
        }
        // SAFETY: ends this process without running the shim's exit code.
        unsafe { libc::_exit(1) }
    }
    if pid < 0 {
        return Err(RuntimeError::last_os("fork the container's init"));
    }
    // Our copy of init's side, so that we notice when init is gone.
    to_maker.close().map_err(|error| refused(&error))?;
    from_init.wait_for_init_ready().map_err(|error| refused(&error))?;
    Ok(Pid::from_raw(pid as i32))
}

fn start(order: &Order, stage: &Stage, folder: &Path, pid: Pid) -> Result<(), RuntimeError> {
    stage.map_task(pid, order.user)?;
    NotifySocket::new(folder.join(NOTIFY_FILE))
        .notify_container_start()
        .map_err(|error| RuntimeError::Refused(format!("start the container: {}", chain(&error))))
}

/// A new network namespace has a loopback device, but switched off.
fn raise_loopback(init: Pid) -> Result<(), RuntimeError> {
    let path = PathBuf::from(format!("/proc/{init}/ns/net"));
    let namespace = fs::File::open(&path).map_err(|source| path_error("open", &path, source))?;
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .map_err(|source| RuntimeError::Step { what: "enter the task's network", source: source.into() })?;
    // SAFETY: `request` is a valid interface request with a terminated name, and lives until the call returns.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut request = std::mem::zeroed::<libc::ifreq>();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        if socket < 0 || libc::ioctl(socket, libc::SIOCSIFFLAGS, &request) != 0 {
            return Err(RuntimeError::last_os("switch on the task's loopback device"));
        }
    }
    Ok(())
}

fn path_error(what: &'static str, path: &Path, source: std::io::Error) -> RuntimeError {
    RuntimeError::Path { what, path: path.to_owned(), source }
}

/// An error with everything that caused it: the library's own words are short.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}
