//! The root of `image = "host"`: a fresh tmpfs with the host's top-level folders bound read-only, and secrets made unreadable.
//!
//! Owns: what of the host a task may see. Must not: know processes or who the task is.
//!
//! Invariant: nothing bound here can be written through, opens a device or grants set-user-id rights; mounts that the host makes
//! later are not seen (they would come without those restrictions).

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::{RuntimeError, sys};

/// Top-level folders that a container has of its own, or has no use for.
const NOT_SHOWN: [&str; 8] = ["proc", "sys", "dev", "tmp", "run", "boot", "lost+found", "flowyard"];

/// Empty folders in the root that later mounts go onto.
const MADE: [&str; 6] = ["proc", "sys", "dev", "tmp", "run", "flowyard"];

/// Parts of `/sys` that programs compute with. The rest (firmware, control groups, kernel internals) tells about, or lets poke
/// at, the machine.
const SYS_SHOWN: [&str; 7] = ["block", "bus", "class", "dev", "devices", "kernel/mm", "module"];

/// Covered even so: energy counters leak what other processes compute.
const SYS_HIDDEN: &str = "sys/devices/virtual/powercap";

/// Secrets below a home that are hidden also from the home's own user: a task is code from anywhere.
const HOME_SECRETS: [&str; 14] = [
    ".ssh",
    ".aws",
    ".azure",
    ".gnupg",
    ".kube",
    ".docker",
    ".config/gcloud",
    ".config/gh",
    ".config/rclone",
    ".cargo/credentials.toml",
    ".netrc",
    ".git-credentials",
    ".pypirc",
    ".bash_history",
];

/// Host files that nobody's task may read.
const HOST_SECRETS: [&str; 9] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/security/opasswd",
    "/var/lib/private",
];

/// What a node hides from tasks with image `host` unless its operator says otherwise.
///
/// `own_home` is the home of the user whose tasks run: it stays visible (read-only), because a virtual environment may lie in
/// it, but for the places where tools keep credentials. All other homes, root's among them, are hidden.
pub fn default_hidden(own_home: Option<&Path>, agent_folder: &Path) -> Vec<PathBuf> {
    let mut hidden: Vec<PathBuf> = HOST_SECRETS.iter().map(PathBuf::from).collect();
    hidden.push(agent_folder.to_owned());
    hidden.extend(entries(Path::new("/etc/ssh")).into_iter().filter(|path| {
        path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("ssh_host_") && !name.ends_with(".pub")
        })
    }));
    let own = own_home.and_then(|home| fs::canonicalize(home).ok());
    let homes = entries(Path::new("/home")).into_iter().chain([PathBuf::from("/root")]);
    hidden.extend(homes.filter(|home| !own.as_ref().is_some_and(|own| own.starts_with(home))));
    if let Some(own) = own {
        hidden.extend(HOME_SECRETS.iter().map(|secret| own.join(secret)));
    }
    hidden
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    found
}

/// The host's top-level folders and links.
pub(crate) struct TopLevel {
    folders: Vec<(PathBuf, OwnedFd)>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl TopLevel {
    /// Takes hold of them, so that they stay reachable whatever is mounted over them.
    pub(crate) fn of_host() -> Result<Self, RuntimeError> {
        let mut all = Self { folders: Vec::new(), links: Vec::new() };
        for path in entries(Path::new("/")) {
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if meta.is_symlink() {
                let to = fs::read_link(&path).map_err(failed("read link", &path))?;
                all.links.push((relative(&path), to));
            } else if meta.is_dir() && path != Path::new("/sys") {
                let tree = sys::clone_tree(&path)?;
                all.folders.push((relative(&path), tree));
            }
        }
        Ok(all)
    }

    /// Puts all of them below `site`, as they are on the host.
    pub(crate) fn attach_all(&self, site: &Path) -> Result<(), RuntimeError> {
        for (name, tree) in &self.folders {
            let target = site.join(name);
            make_folder(&target)?;
            sys::attach_tree(tree.as_fd(), &target)?;
        }
        self.copy_links(site)
    }

    fn copy_links(&self, root: &Path) -> Result<(), RuntimeError> {
        for (name, to) in &self.links {
            let target = root.join(name);
            symlink(to, &target).map_err(failed("make link", &target))?;
        }
        Ok(())
    }
}

/// Lays out the root in `root`. `ground` is a folder beside it for what hidden paths are covered with.
pub(crate) fn lay_out<'a>(
    host: &TopLevel,
    ground: &Path,
    root: &Path,
    hidden: impl Iterator<Item = &'a Path>,
) -> Result<(), RuntimeError> {
    for (name, _) in &host.folders {
        if !NOT_SHOWN.iter().any(|skipped| name == Path::new(skipped)) {
            let target = root.join(name);
            make_folder(&target)?;
            sys::bind_sealed(&Path::new("/").join(name), &target)?;
        }
    }
    host.copy_links(root)?;
    for name in MADE {
        make_folder(&root.join(name))?;
    }
    show_sys(root)?;
    show_resolver(root)?;
    let covers = Covers::make(ground)?;
    covers.hide_with_empty(&root.join(SYS_HIDDEN))?;
    for path in hidden {
        covers.hide(root, path)?;
    }
    Ok(())
}

/// What containers with an image get of `/sys`, in `ground`.
pub(crate) fn lay_out_sys(ground: &Path) -> Result<(), RuntimeError> {
    show_sys(ground)?;
    Covers::make(ground)?.hide_with_empty(&ground.join(SYS_HIDDEN))
}

/// `/sys` in parts: as a whole it could not be had without the control groups mounted in it.
fn show_sys(root: &Path) -> Result<(), RuntimeError> {
    for part in SYS_SHOWN {
        let source = Path::new("/sys").join(part);
        if source.is_dir() {
            let target = root.join("sys").join(part);
            fs::create_dir_all(&target).map_err(failed("make folder", &target))?;
            sys::bind_sealed(&source, &target)?;
        }
    }
    let cgroups = root.join("sys/fs/cgroup");
    fs::create_dir_all(&cgroups).map_err(failed("make folder", &cgroups))
}

fn relative(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RuntimeError + use<> {
    let path = path.to_owned();
    move |source| RuntimeError::Path { what, path, source }
}

/// The name service's configuration often lies below `/run`, which containers do not share with the host.
fn show_resolver(root: &Path) -> Result<(), RuntimeError> {
    let Ok(real) = fs::canonicalize("/etc/resolv.conf") else { return Ok(()) };
    let Ok(below_run) = real.strip_prefix("/run") else { return Ok(()) };
    let target = root.join("run").join(below_run);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(failed("make folder", parent))?;
    }
    make_file(&target, 0o644)?;
    sys::bind_sealed(&real, &target)
}

/// How often a path that changes meanwhile is covered again before that is an error.
const HIDE_TRIES: u32 = 20;

/// What hidden paths are covered with.
struct Covers {
    /// A folder nobody may enter.
    closed_folder: PathBuf,
    /// A file nobody may read.
    closed_file: PathBuf,
    /// An empty folder.
    empty_folder: PathBuf,
}

impl Covers {
    fn make(ground: &Path) -> Result<Self, RuntimeError> {
        let covers = Self {
            closed_folder: ground.join("closed.d"),
            closed_file: ground.join("closed"),
            empty_folder: ground.join("empty.d"),
        };
        make_folder(&covers.empty_folder)?;
        make_file(&covers.closed_file, 0o0)?;
        let closed = &covers.closed_folder;
        fs::DirBuilder::new().mode(0o0).create(closed).map_err(failed("make folder", closed))?;
        Ok(covers)
    }

    /// Covers `path` of the host, as seen in the root, with something nobody may read.
    fn hide(&self, root: &Path, path: &Path) -> Result<(), RuntimeError> {
        // Nothing is mounted on a file that is replaced on the host at this very moment, as `useradd` does with `/etc/shadow`.
        for _ in 1..HIDE_TRIES {
            if self.cover(root, path).is_ok() {
                return Ok(());
            }
        }
        self.cover(root, path)
    }

    fn cover(&self, root: &Path, path: &Path) -> Result<(), RuntimeError> {
        // What counts is where a path leads to: `/etc/shadow` may be a link into a store.
        let real = match fs::canonicalize(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            real => real.map_err(failed("look at", path))?,
        };
        let target = root.join(relative(&real));
        let Ok(meta) = fs::symlink_metadata(&target) else { return Ok(()) };
        let cover = if meta.is_dir() { &self.closed_folder } else { &self.closed_file };
        sys::bind_sealed(cover, &target)
    }

    fn hide_with_empty(&self, target: &Path) -> Result<(), RuntimeError> {
        if target.is_dir() { sys::bind_sealed(&self.empty_folder, target) } else { Ok(()) }
    }
}

fn make_folder(path: &Path) -> Result<(), RuntimeError> {
    fs::DirBuilder::new().mode(0o755).create(path).map_err(failed("make folder", path))
}

fn make_file(path: &Path, mode: u32) -> Result<(), RuntimeError> {
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    made.map(drop).map_err(failed("make file", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/security.md");

    #[test]
    fn what_is_hidden_is_what_the_page_about_security_says() {
        let hidden = default_hidden(None, Path::new("/srv/agent"));
        assert!(hidden.contains(&PathBuf::from("/root")) && hidden.contains(&PathBuf::from("/srv/agent")));
        assert!(HOST_SECRETS.iter().all(|secret| hidden.contains(&PathBuf::from(secret))));
        let listed: Vec<&str> = PAGE.split('`').skip(1).step_by(2).collect();
        // A copy has a dash at its end; the page speaks of copies, and of what lies in a folder without the folder.
        let names = HOST_SECRETS.iter().map(|secret| secret.trim_end_matches('-')).chain(HOME_SECRETS);
        for name in names.chain(["/tmp", "/run", "/boot"]) {
            let said = listed.iter().any(|word| name == *word || name.ends_with(&format!("/{word}")));
            assert!(said, "docs/security.md does not name {name}");
        }
    }
}
