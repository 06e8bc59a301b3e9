//! Stages: what containers share, made once and not per container.
//!
//! A stage is a user namespace with a mount namespace in it, held by descriptors only: no process lives there. In it lie the
//! host's folders, as sources of mounts, and the root that containers of one kind get (see `host_root`). The host's control
//! groups are not there, so that the container library finds none to make or to clean up: pooled cgroups are the launcher's
//! business, and a container inherits them. (With a cgroup in sight the library would, after a failed start, kill everything in
//! the cgroup of its caller.)
//!
//! Every container is made from within a stage: a mistake in making one never has more rights than the stage's user namespace.
//!
//! Invariant: a stage is never changed after it was built; what it was built from is in its key.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork};

use super::spec::{ContainerSpec, Root};
use super::title::Title;
use super::{RuntimeError, host_root, seccomp, sys};

/// Where a stage keeps its own files, as seen from within.
const GROUND: &str = "/.flowyard-stage";

/// Where a stage is put together, before it becomes the root of its namespace. Every host has this folder.
const SITE: &str = "/tmp";

/// Most stages kept at once; the oldest is dropped. A node with more kinds of root than this builds some of them again.
const STAGES_MAX: usize = 16;

/// The stages of one launcher.
#[derive(Debug, Default)]
pub struct Stages {
    kept: Vec<Rc<Stage>>,
}

impl Stages {
    /// No stage yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The stage for a container; built when it is not there or when what it hides has changed on the host.
    ///
    /// Call it in the launcher, before the shim is forked.
    pub fn ready(&mut self, container: &ContainerSpec) -> Result<Rc<Stage>, RuntimeError> {
        let key = Key::of(&container.root);
        if let Some(stage) = self.kept.iter().find(|stage| stage.key == key) {
            return Ok(Rc::clone(stage));
        }
        // A stage that shows what ought to be hidden now must not be used again.
        self.kept.retain(|stage| !stage.key.same_wish(&key));
        if self.kept.len() >= STAGES_MAX {
            self.kept.remove(0);
        }
        let stage = Rc::new(Stage::build(key)?);
        self.kept.push(Rc::clone(&stage));
        Ok(stage)
    }
}

/// Device and inode number of a file.
type FileId = (u64, u64);

/// What a stage was built from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    /// The hidden host paths with what was there; `None` for images, which share one stage.
    hidden: Option<Vec<(PathBuf, Option<FileId>)>>,
}

impl Key {
    fn of(root: &Root) -> Self {
        let identity = |path: &PathBuf| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        match root {
            Root::Host { hidden } => {
                Self { hidden: Some(hidden.iter().map(|path| (path.clone(), identity(path))).collect()) }
            }
            Root::Tree { .. } => Self { hidden: None },
        }
    }

    /// Whether both ask for the same paths to be hidden, whatever is there.
    fn same_wish(&self, other: &Self) -> bool {
        let paths = |key: &Self| key.hidden.as_ref().map(|list| list.iter().map(|entry| entry.0.clone()).collect());
        let (mine, theirs): (Option<Vec<PathBuf>>, Option<Vec<PathBuf>>) = (paths(self), paths(other));
        mine == theirs
    }
}

/// A prepared user and mount namespace.
#[derive(Debug)]
pub struct Stage {
    key: Key,
    user_namespace: OwnedFd,
    mount_namespace: OwnedFd,
    ids: IdMap,
    seccomp: Rc<seccomp::Filter>,
    title: Option<Title>,
}

/// The ids known in a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
enum IdMap {
    /// All ids of the host, each as itself.
    Identity {
        /// For `uid_map`.
        uids: String,
        /// For `gid_map`.
        gids: String,
    },
    /// Only the launcher's own, as root: all that an ordinary user may have.
    Single {
        /// The launcher's user on the host.
        uid: u32,
        /// The launcher's group on the host.
        gid: u32,
    },
}

impl IdMap {
    fn of_this_process() -> Result<Self, RuntimeError> {
        let (uid, gid) = (Uid::effective(), Gid::effective());
        if !uid.is_root() {
            return Ok(Self::Single { uid: uid.as_raw(), gid: gid.as_raw() });
        }
        Ok(Self::Identity { uids: identity_of("/proc/self/uid_map")?, gids: identity_of("/proc/self/gid_map")? })
    }

    fn write(&self, pid: Pid) -> Result<(), RuntimeError> {
        match self {
            Self::Identity { uids, gids } => write_maps(pid, uids, gids, true),
            Self::Single { uid, gid } => write_maps(pid, &format!("0 {uid} 1"), &format!("0 {gid} 1"), false),
        }
    }
}

/// Writes the id maps of a process that has just made a user namespace.
pub(crate) fn write_maps(pid: Pid, uids: &str, gids: &str, may_set_groups: bool) -> Result<(), RuntimeError> {
    if !may_set_groups {
        sys::write_proc(&format!("/proc/{pid}/setgroups"), "deny")?;
    }
    sys::write_proc(&format!("/proc/{pid}/uid_map"), uids)?;
    sys::write_proc(&format!("/proc/{pid}/gid_map"), gids)
}

/// A map of every id this process knows to itself.
///
/// The first id gets a line of its own: the container library takes a single line of full length for the host's own user
/// namespace, and would then try to make device nodes, which no other user namespace may.
fn identity_of(path: &str) -> Result<String, RuntimeError> {
    let text =
        fs::read_to_string(path).map_err(|source| RuntimeError::Path { what: "read", path: path.into(), source })?;
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(|word| word.parse::<u32>().unwrap_or(0));
        let (first, _, count) = (words.next().unwrap_or(0), words.next(), words.next().unwrap_or(0));
        if count > 1 {
            lines.push(format!("{first} {first} 1"));
            lines.push(format!("{} {} {}", first + 1, first + 1, count - 1));
        } else {
            lines.push(format!("{first} {first} {count}"));
        }
    }
    Ok(lines.join("\n"))
}

impl Stage {
    fn build(key: Key) -> Result<Self, RuntimeError> {
        let ids = IdMap::of_this_process()?;
        let seccomp = Rc::new(seccomp::Filter::shipped()?);
        let title = Title::of_this_process();
        let (ours, theirs) = sys::packet_pair()?;
        // SAFETY: this process has one thread (module documentation), so the child may use the allocator.
        match unsafe { fork() }.map_err(|source| RuntimeError::Step { what: "fork", source: source.into() })? {
            ForkResult::Child => {
                drop(ours);
                let answer = match lay_out(&key, &theirs) {
                    Ok(()) => Vec::from(*b"+"),
                    Err(error) => format!("-{error}").into_bytes(),
                };
                let _ = sys::send(theirs.as_fd(), &answer[..answer.len().min(sys::MESSAGE_BYTES)]);
                // The namespaces must stay until the parent has opened them.
                let _ = sys::receive(theirs.as_fd(), true);
                // SAFETY: ends this process without running the parent's exit code.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let namespaces = adopt(child, &ours, &ids);
                drop(ours);
                let _ = waitpid(child, None);
                let (user_namespace, mount_namespace) = namespaces?;
                Ok(Self { key, user_namespace, mount_namespace, ids, seccomp, title })
            }
        }
    }

    /// Moves the calling process into the stage. It is root there.
    pub(crate) fn enter(&self) -> Result<(), RuntimeError> {
        let step = |what| move |source: nix::Error| RuntimeError::Step { what, source: source.into() };
        setns(&self.user_namespace, CloneFlags::CLONE_NEWUSER).map_err(step("enter the stage's user namespace"))?;
        setns(&self.mount_namespace, CloneFlags::CLONE_NEWNS).map_err(step("enter the stage's mount namespace"))?;
        if matches!(self.ids, IdMap::Identity { .. }) {
            nix::unistd::setgroups(&[]).map_err(step("give up supplementary groups"))?;
        }
        Ok(())
    }

    /// The user and group, as the stage numbers them, behind a host's user and group.
    pub(crate) fn ids_inside(&self, host_uid: u32, host_gid: u32) -> Result<(u32, u32), RuntimeError> {
        match self.ids {
            IdMap::Identity { .. } => Ok((host_uid, host_gid)),
            IdMap::Single { uid, gid } if (uid, gid) == (host_uid, host_gid) => Ok((0, 0)),
            IdMap::Single { uid, gid } => Err(RuntimeError::Spec(format!(
                "the agent runs as user {uid}, group {gid} and cannot start a container as user {host_uid}, group {host_gid}"
            ))),
        }
    }

    /// Gives the user namespace that the task has made its ids. Call it from within the stage.
    pub(crate) fn map_task(&self, pid: Pid, user: super::spec::User) -> Result<(), RuntimeError> {
        let (uid, gid) = self.ids_inside(user.host_uid, user.host_gid)?;
        match &self.ids {
            IdMap::Identity { .. } if user.range > 0 => {
                write_maps(pid, &user.range_map(uid), &user.range_map(gid), false)
            }
            IdMap::Identity { uids, gids } if (user.uid, user.gid) == (user.host_uid, user.host_gid) => {
                write_maps(pid, uids, gids, true)
            }
            _ => write_maps(pid, &format!("{} {uid} 1", user.uid), &format!("{} {gid} 1", user.gid), false),
        }
    }

    /// The system call filter of tasks, compiled once.
    pub(crate) fn seccomp(&self) -> &Rc<seccomp::Filter> {
        &self.seccomp
    }

    /// Where the launcher, and what is forked from it, has its command line.
    pub(crate) fn title(&self) -> Option<Title> {
        self.title
    }
}

/// The root that containers of this stage get, as seen from within.
pub(crate) fn root_folder() -> PathBuf {
    Path::new(GROUND).join("root")
}

/// What containers with an image get as `/sys`, as seen from within.
pub(crate) fn sys_folder() -> PathBuf {
    Path::new(GROUND).join("sys")
}

/// Where the container library keeps what it must keep in files, as seen from within.
pub(crate) fn state_folder() -> PathBuf {
    Path::new(GROUND).join("state")
}

/// In the child: makes the namespaces, asks the parent for the ids, lays out the files.
fn lay_out(key: &Key, parent: &OwnedFd) -> Result<(), RuntimeError> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|source| RuntimeError::Unavailable { what: "make a user namespace", source: source.into() })?;
    // Otherwise an ordinary user's parent may not write our id maps.
    sys::set_dumpable(true);
    sys::send(parent.as_fd(), b"?").map_err(|source| RuntimeError::Step { what: "ask for ids", source })?;
    sys::receive(parent.as_fd(), true).map_err(|source| RuntimeError::Step { what: "wait for ids", source })?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    sys::make_mounts_private()
        .map_err(|source| RuntimeError::Unavailable { what: "make mounts private in a user namespace", source })?;
    put_up(key)
}

/// Puts the stage together and moves into it.
fn put_up(key: &Key) -> Result<(), RuntimeError> {
    let site = Path::new(SITE);
    let host = host_root::TopLevel::of_host()?;
    sys::mount(c"tmpfs", site, libc::MS_NOSUID | libc::MS_NODEV, c"mode=755")?;
    let ground = site.join(GROUND.trim_start_matches('/'));
    let root = ground.join("root");
    // The container library tells by this folder what kind of cgroups there are. An empty one means none.
    for folder in [site.join("sys/fs/cgroup"), root.clone(), ground.join("state")] {
        fs::create_dir_all(&folder).map_err(|source| RuntimeError::Path {
            what: "make folder",
            path: folder,
            source,
        })?;
    }
    match &key.hidden {
        Some(hidden) => host_root::lay_out(&host, &ground, &root, hidden.iter().map(|entry| entry.0.as_path()))?,
        None => host_root::lay_out_sys(&ground)?,
    }
    host.attach_all(site)?;
    sys::change_root(site)
}

/// In the parent: gives the child its ids, then takes hold of its namespaces.
fn adopt(child: Pid, socket: &OwnedFd, ids: &IdMap) -> Result<(OwnedFd, OwnedFd), RuntimeError> {
    let hear = || match sys::receive(socket.as_fd(), true) {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(RuntimeError::Died(None)),
        Err(source) => Err(RuntimeError::Step { what: "hear from the stage", source }),
    };
    let mut message = hear()?;
    if message == b"?" {
        ids.write(child).map_err(|error| match error {
            RuntimeError::Path { source, .. } => {
                RuntimeError::Unavailable { what: "map ids into a user namespace", source }
            }
            other => other,
        })?;
        sys::send(socket.as_fd(), b"!").map_err(|source| RuntimeError::Step { what: "tell the stage", source })?;
        message = hear()?;
    }
    match message.split_first() {
        Some((b'+', _)) => {}
        Some((b'-', text)) => return Err(RuntimeError::Refused(String::from_utf8_lossy(text).into_owned())),
        _ => return Err(RuntimeError::Died(None)),
    }
    let open = |kind: &str| -> Result<OwnedFd, RuntimeError> {
        let path = format!("/proc/{child}/ns/{kind}");
        let file = fs::File::open(&path);
        file.map(OwnedFd::from).map_err(|source: io::Error| RuntimeError::Path {
            what: "open",
            path: path.into(),
            source,
        })
    };
    Ok((open("user")?, open("mnt")?))
}
