//! The container floor: `crun run` on a prepared bundle whose root is made of the host's folders, as `image = "host"` is.
//!
//! Debian's crun refuses a machine that mounts both cgroup hierarchies, so it runs in a mount namespace of its own from
//! which the unified one is unmounted: this program starts itself again there by unshare. Nothing outside is changed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::figures::sample;
use crate::program::{find, is_root, succeeds};
use crate::workspace::Workspace;

/// The argument by which this program knows that it runs in the prepared namespace.
pub(super) const INSIDE: &str = "crun-inside";

const ALONE: usize = 200;
const AT_ONCE: usize = 4;
const EACH_AT_ONCE: usize = 100;

/// What crun does on this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    /// One at a time, the whole of `crun run`, in milliseconds.
    pub(super) p50_ms: f64,
    /// Four at once, per second.
    pub(super) per_second: f64,
}

/// Prints p50 and rate of crun, one at a time and four at once; `None`, with the reason printed, when crun cannot run here.
pub(super) fn floor(workspace: &Workspace) -> Result<Option<Floor>, String> {
    let (Some(_), Some(unshare), true) = (find("crun"), find("unshare"), is_root()) else {
        println!("crun run: not measured; it needs crun, unshare and root");
        return Ok(None);
    };
    let bundle = Bundle::prepare(&workspace.metadata()?.target_directory)?;
    let own = std::env::current_exe().map_err(|error| format!("no own path: {error}"))?;
    let script = "umount --lazy /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"";
    let mut command = Command::new(unshare);
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(own).args(["bench", INSIDE]);
    // crun copies descriptors it inherits; the terminal is enough.
    let output = command.arg(&bundle.folder).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("unshare: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (lines, figures) = text.trim_end().rsplit_once('\n').ok_or_else(|| format!("crun: {}", text.trim()))?;
    println!("{lines}");
    let mut figures = figures.split(' ').map(str::parse::<f64>);
    match (figures.next(), figures.next()) {
        (Some(Ok(p50_ms)), Some(Ok(per_second))) => Ok(Some(Floor { p50_ms, per_second })),
        _ => Err(format!("crun could not be measured: {text}")),
    }
}

/// What runs in the mount namespace: the measurement itself.
pub(super) fn inside(arguments: &[String]) -> Result<(), String> {
    let folder = arguments.first().map(PathBuf::from).ok_or("the bundle is missing")?;
    let run = |thread: usize, repetition: usize| run_once(&folder, thread, repetition);
    sample(1, 10, run)?;
    let alone = sample(1, ALONE, run)?;
    alone.print("crun run, one at a time");
    let at_once = sample(AT_ONCE, EACH_AT_ONCE, run)?;
    at_once.print("crun run, four at once");
    // For the program that started this one.
    println!("{} {}", alone.p50().as_secs_f64() * 1_000.0, at_once.per_second());
    Ok(())
}

fn run_once(folder: &Path, thread: usize, repetition: usize) -> Result<(), String> {
    let name = format!("flowyard-bench-{}-{thread}-{repetition}", std::process::id());
    let mut command = Command::new("crun");
    command.arg("--root").arg(folder.join("state")).args(["run", "--bundle"]).arg(folder).arg(name);
    succeeds(command.stdin(Stdio::null()).stdout(Stdio::null()))
}

/// A bundle folder: `config.json`, an empty root with the mount points, and crun's own state. Removed when dropped.
struct Bundle {
    folder: PathBuf,
}

impl Bundle {
    fn prepare(target: &Path) -> Result<Self, String> {
        let folder = target.join(format!("bench-crun-{}", std::process::id()));
        let binds: Vec<&str> = ["/bin", "/etc", "/lib", "/lib64", "/opt", "/sbin", "/usr"]
            .into_iter()
            .filter(|path| Path::new(path).is_dir())
            .collect();
        for point in binds.iter().copied().chain(["/proc", "/dev", "/tmp"]) {
            let inside = folder.join("rootfs").join(&point[1..]);
            std::fs::create_dir_all(&inside).map_err(|error| format!("{}: {error}", inside.display()))?;
        }
        let bundle = Self { folder };
        let config = bundle.folder.join("config.json");
        std::fs::write(&config, spec(&binds).to_string()).map_err(|error| format!("{}: {error}", config.display()))?;
        Ok(bundle)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// A container like ours: own pid, mount, ipc and uts namespaces, limits on cpu, memory and processes, no capabilities.
fn spec(binds: &[&str]) -> Value {
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]}),
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]}),
    ];
    let options = ["rbind", "ro", "nosuid", "nodev"];
    mounts.extend(binds.iter().map(|path| json!({"destination": path, "source": path, "options": options})));
    let namespaces: Vec<Value> = ["pid", "mount", "ipc", "uts"].map(|kind| json!({"type": kind})).to_vec();
    let resources = json!({
        "memory": {"limit": 256 << 20},
        "cpu": {"quota": 100_000, "period": 100_000},
        "pids": {"limit": 1024},
    });
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/",
            "env": ["PATH=/usr/bin:/bin"], "noNewPrivileges": true, "capabilities": {},
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "bench",
        "mounts": mounts,
        "linux": {"namespaces": namespaces, "resources": resources},
    })
}
