//! The container's description in the OCI runtime format, built from the launch spec and nothing else.
//!
//! Owns: which namespaces, mounts, devices and paths a container gets. Must not: touch the host beyond reading device numbers.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::RuntimeError;
use super::scratch::Scratch;
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

/// What a description is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// The attempt.
    pub(crate) launch: &'a LaunchSpec,
    /// The container.
    pub(crate) container: &'a ContainerSpec,
    /// Where its root lies, as its maker sees it.
    pub(crate) root: &'a Path,
    /// Its private folders.
    pub(crate) scratch: &'a Scratch,
    /// User and group in the stage that the process starts as.
    pub(crate) ids: (u32, u32),
}

/// The description for the linked-in library: the task's own user namespace and the system call filter are init's business.
pub(crate) fn describe(parts: &Parts<'_>) -> Result<Value, RuntimeError> {
    let Parts { launch, container, root, scratch, ids: (uid, gid) } = *parts;
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
            "namespaces": namespaces(&container.network),
            "cgroupsPath": "",
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "devices": devices(&container.devices)?,
            "rootfsPropagation": "private",
        },
    }))
}

/// The description for a runtime binary, which makes the user namespace and the filter itself.
pub(crate) fn describe_for_binary(parts: &Parts<'_>, seccomp: Value) -> Result<Value, RuntimeError> {
    let mut description = describe(parts)?;
    let (uid, gid) = parts.ids;
    let linux = &mut description["linux"];
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.push(json!({ "type": "user" }));
    }
    // A runtime binary prepares the container as the root of its user namespace, so there has to be one. Ids above the task's
    // own are not needed by a task that can become nobody else.
    let user = parts.container.user;
    let (uids, gids) = match user.range {
        0 => (json!([entry(0, 0, uid + 1)]), json!([entry(0, 0, gid + 1)])),
        _ => (json!([entry(0, 0, 1), entry(user.uid, uid, 1)]), json!([entry(0, 0, 1), entry(user.gid, gid, 1)])),
    };
    (linux["uidMappings"], linux["gidMappings"]) = (uids, gids);
    linux["seccomp"] = seccomp;
    plain_files(&mut description["mounts"]);
    if user.range > 0 {
        description["process"]["user"] = json!({ "uid": user.uid, "gid": user.gid, "umask": 0o022 });
    }
    Ok(description)
}

/// What holds below a mount too means nothing for a single file, and crun then takes the file for a folder.
fn plain_files(mounts: &mut Value) {
    for mount in mounts.as_array_mut().into_iter().flatten() {
        let is_file = mount["source"].as_str().is_some_and(|source| Path::new(source).is_file());
        if mount["type"] == "bind" && is_file {
            let options = mount["options"].as_array_mut().into_iter().flatten();
            let kept = options.filter(|option| !matches!(option.as_str(), Some("rnosuid" | "rnodev" | "rro")));
            let plain = kept.map(|option| if option == "rbind" { json!("bind") } else { option.clone() });
            mount["options"] = plain.collect();
        }
    }
}

fn entry(inside: u32, outside: u32, size: u32) -> Value {
    json!({ "containerID": inside, "hostID": outside, "size": size })
}

/// The task's variables, with a home if none was given.
pub(crate) fn environment(launch: &LaunchSpec) -> Vec<String> {
    let mut all: Vec<String> = launch.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !launch.env.iter().any(|(name, _)| name == "HOME") {
        all.push(format!("HOME={HOME}"));
    }
    all
}

fn namespaces(network: &Network) -> Value {
    let kinds: &[&str] = match network {
        Network::Host => &["pid", "mount", "ipc", "uts"],
        Network::None | Network::Private(_) => &["pid", "mount", "ipc", "uts", "network"],
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::spec::{Limits, Mount, Sandbox, User};

    fn launch() -> LaunchSpec {
        LaunchSpec {
            secret_env: Vec::new(),
            name: "17/train/3#2".into(),
            folder: "/attempts/1".into(),
            argv: vec!["python3".into(), "train.py".into()],
            env: vec![("PATH".into(), "/usr/bin".into())],
            workdir: "/flowyard/work".into(),
            limits: Limits { cpu_milli: 1000, memory_bytes: 1 << 30, pids: 100, shm_bytes: 0, disk_bytes: 0 },
            sandbox: Sandbox::Process,
            timeout_ms: None,
            kill_grace_ms: 0,
            stop_signal: Default::default(),
            notice_signal: None,
            log_limit_bytes: 0,
            lease_file: None,
        }
    }

    fn container() -> ContainerSpec {
        let mount = |source: &str, target: &str, read_only| Mount {
            source: source.into(),
            target: target.into(),
            read_only,
            mapped: false,
        };
        ContainerSpec {
            root: Root::Host { hidden: vec!["/etc/shadow".into()] },
            mounts: vec![mount("/a/work", "/flowyard/work", false), mount("/a/in", "/flowyard/in/x", true)],
            network: Network::None,
            devices: vec!["/dev/null".into()],
            user: User::itself(1000, 1000),
            oci_runtime: None,
        }
    }

    fn description(launch: &LaunchSpec, container: &ContainerSpec) -> Value {
        let (root, scratch) = (Path::new("/stage/root"), Scratch::of(launch));
        describe(&Parts { launch, container, root, scratch: &scratch, ids: (1000, 1000) }).expect("a description")
    }

    #[test]
    fn the_description_is_the_golden_one() {
        let golden: Value = serde_json::from_str(include_str!("testdata/host.json")).expect("the golden description");
        let found = description(&launch(), &container());
        assert_eq!(found, golden, "{found:#}");
    }

    #[test]
    fn the_library_understands_the_description() {
        let spec: libcontainer::oci_spec::runtime::Spec =
            serde_json::from_value(description(&launch(), &container())).expect("a specification");
        assert_eq!(spec.mounts().as_ref().map(Vec::len), Some(10));
    }

    #[test]
    fn shared_memory_follows_the_wish_then_the_memory_limit() {
        let size = |shm, memory| {
            let mut launch = launch();
            (launch.limits.shm_bytes, launch.limits.memory_bytes) = (shm, memory);
            description(&launch, &container())["mounts"][3]["options"][4].as_str().map(str::to_owned)
        };
        assert_eq!(size(4096, 1 << 30).as_deref(), Some("size=4096"));
        assert_eq!(size(0, 1 << 30).as_deref(), Some("size=536870912"));
        assert_eq!(size(0, 0).as_deref(), Some("size=67108864"));
    }

    #[test]
    fn a_file_that_is_no_device_cannot_be_granted() {
        let error = devices(&[PathBuf::from("/etc/passwd")]).expect_err("no device");
        assert_eq!(error.to_string(), "/etc/passwd is not a device");
    }
}
