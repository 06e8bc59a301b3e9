//! The container's description in the OCI runtime format, built from the launch spec and nothing else.
//!
//! Owns: which namespaces, mounts, devices and paths a container gets. Must not: touch the host beyond reading device numbers.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::RuntimeError;
use super::spec::{ContainerSpec, LaunchSpec, Network, Root};

/// The home of a task; private and writable. The user's own home, where it is visible, is read-only.
pub const HOME: &str = "/flowyard/home";

/// `/dev/shm` where the node sets no memory limit.
const SHM_BYTES_MIN: u64 = 64 << 20;

/// Files of procfs that tell about the machine or let poke at it; covered.
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
];

/// Parts of procfs that stay readable only.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Private folders of one container on the host's disk.
#[derive(Debug, Clone)]
pub(crate) struct Scratch {
    /// Where they all lie.
    pub(crate) folder: PathBuf,
    /// Becomes `/tmp` and `/var/tmp`.
    pub(crate) tmp: PathBuf,
    /// Becomes the home.
    pub(crate) home: PathBuf,
}

/// How ids and the filter are dealt with, which differs between the linked-in library and a runtime binary.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ids {
    /// The maker is in a user namespace already and the task makes its own; the process starts as these ids.
    FromStage {
        /// User in the stage.
        uid: u32,
        /// Group in the stage.
        gid: u32,
    },
}

/// The description of a container whose root lies at `root`.
pub(crate) fn describe(
    launch: &LaunchSpec,
    container: &ContainerSpec,
    root: &Path,
    scratch: &Scratch,
    ids: Ids,
) -> Result<Value, RuntimeError> {
    let Ids::FromStage { uid, gid } = ids;
    Ok(json!({
        "ociVersion": "1.0.2",
        "root": { "path": root, "readonly": matches!(container.root, Root::Host { .. }) },
        "hostname": "flowyard",
        "process": {
            "terminal": false,
            "user": { "uid": uid, "gid": gid, "umask": 0o022 },
            "args": launch.argv,
            "env": environment(launch),
            "cwd": launch.workdir,
            "capabilities": { "bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": [] },
            "noNewPrivileges": true,
        },
        "mounts": mounts(launch, container, scratch),
        "linux": {
            "namespaces": namespaces(container.network),
            "cgroupsPath": "",
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "devices": devices(&container.devices)?,
            "rootfsPropagation": "private",
        },
    }))
}

/// The task's variables, with a home if none was given.
pub(crate) fn environment(launch: &LaunchSpec) -> Vec<String> {
    let mut all: Vec<String> = launch.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !launch.env.iter().any(|(name, _)| name == "HOME") {
        all.push(format!("HOME={HOME}"));
    }
    all
}

fn namespaces(network: Network) -> Value {
    let kinds: &[&str] = match network {
        Network::Host => &["pid", "mount", "ipc", "uts"],
        Network::None => &["pid", "mount", "ipc", "uts", "network"],
    };
    kinds.iter().map(|kind| json!({ "type": kind })).collect()
}

fn mounts(launch: &LaunchSpec, container: &ContainerSpec, scratch: &Scratch) -> Vec<Value> {
    let limits = &launch.limits;
    let shm = if limits.shm_bytes > 0 { limits.shm_bytes } else { (limits.memory_bytes / 2).max(SHM_BYTES_MIN) };
    let mut all = vec![
        fresh("proc", "/proc", &["nosuid", "noexec", "nodev"]),
        fresh("tmpfs", "/dev", &["nosuid", "noexec", "strictatime", "mode=755", "size=1m"]),
        fresh("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        fresh("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", &format!("size={shm}")]),
        fresh("tmpfs", "/flowyard", &["nosuid", "nodev", "mode=755", "size=1m"]),
        bind(&scratch.tmp, Path::new("/tmp"), false),
        bind(&scratch.tmp, Path::new("/var/tmp"), false),
        bind(&scratch.home, Path::new(HOME), false),
    ];
    if matches!(container.root, Root::Tree { .. }) {
        all.push(bind(&super::stage::sys_folder(), Path::new("/sys"), true));
    }
    all.extend(container.mounts.iter().map(|mount| bind(&mount.source, &mount.target, mount.read_only)));
    all
}

fn fresh(kind: &str, target: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": kind, "options": options })
}

fn bind(source: &Path, target: &Path, read_only: bool) -> Value {
    let mut options = vec!["rbind", "nosuid", "nodev", "rnosuid", "rnodev"];
    if read_only {
        options.extend(["ro", "rro"]);
    }
    json!({ "destination": target, "type": "bind", "source": source, "options": options })
}

/// The granted device nodes; the harmless standard ones are added by every runtime.
fn devices(paths: &[PathBuf]) -> Result<Vec<Value>, RuntimeError> {
    paths.iter().map(|path| device(path)).collect()
}

fn device(path: &Path) -> Result<Value, RuntimeError> {
    let meta = fs::metadata(path).map_err(|source| RuntimeError::Path {
        what: "look at device",
        path: path.to_owned(),
        source,
    })?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Err(RuntimeError::Spec(format!("{} is not a device", path.display()))),
    };
    let number = meta.rdev();
    Ok(json!({
        "path": path,
        "type": kind,
        "major": libc::major(number),
        "minor": libc::minor(number),
        "fileMode": meta.mode() & 0o777,
    }))
}
