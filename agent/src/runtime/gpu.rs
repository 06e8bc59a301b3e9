//! What a container needs from the host beside the device of a granted NVIDIA GPU: control devices, driver libraries, tools.
//!
//! Owns: the probed list. Must not: load the driver, or decide who gets which GPU.

use std::fs;
use std::path::{Path, PathBuf};

use super::spec::Mount;

/// Control devices, without which no GPU can be used. They grant nothing by themselves: every GPU has a device of its own.
const CONTROL: [&str; 3] = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"];

/// Beginnings of the names of libraries that belong to the driver, not to an image.
const LIBRARIES: [&str; 9] = [
    "libcuda.so",
    "libcudadebugger.so",
    "libnvidia-ml.so",
    "libnvidia-ptxjitcompiler.so",
    "libnvidia-nvvm.so",
    "libnvidia-cfg.so",
    "libnvidia-gpucomp.so",
    "libnvidia-opencl.so",
    "libnvcuvid.so",
];

/// The driver's programs.
const PROGRAMS: [&str; 3] = ["/usr/bin/nvidia-smi", "/usr/bin/nvidia-debugdump", "/usr/bin/nvidia-cuda-mps-control"];

/// Where distributions put the libraries.
const LIBRARY_FOLDERS: [&str; 5] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/nvidia/lib64", "/usr/lib"];

/// A granted GPU, as the driver counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuGrant {
    /// Minor number of the device, or of the one that it is a part of.
    pub minor: u32,
    /// Of a MIG device: the numbers of its GPU instance and of its compute instance.
    pub part: Option<(u32, u32)>,
}

/// Device nodes and mounts for granted GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuAccess {
    /// For `ContainerSpec::devices`.
    pub devices: Vec<PathBuf>,
    /// For `ContainerSpec::mounts`, where the root is an image; image `host` shows the libraries anyway.
    pub mounts: Vec<Mount>,
}

/// What a container with these GPUs needs. Empty without GPUs, and only what exists.
pub fn gpu_access(grants: &[GpuGrant]) -> GpuAccess {
    probe(Path::new("/"), grants)
}

/// The device nodes of the capabilities that a part of a GPU is opened by. Whoever has the node of the whole, and not these, opens no part
/// of it (<https://docs.nvidia.com/datacenter/tesla/mig-user-guide/device-nodes-and-capabilities.html>).
fn capabilities(root: &Path, grant: &GpuGrant) -> Vec<String> {
    let Some((instance, compute)) = grant.part else { return Vec::new() };
    let folder = root.join(format!("proc/driver/nvidia/capabilities/gpu{}/mig/gi{instance}", grant.minor));
    let files = [folder.join("access"), folder.join(format!("ci{compute}/access"))];
    let minor = |file: &PathBuf| {
        let text = fs::read_to_string(file).ok()?;
        let number: u32 = text.lines().find_map(|line| line.strip_prefix("DeviceFileMinor:"))?.trim().parse().ok()?;
        Some(format!("/dev/nvidia-caps/nvidia-cap{number}"))
    };
    files.iter().filter_map(minor).collect()
}

fn probe(root: &Path, grants: &[GpuGrant]) -> GpuAccess {
    if grants.is_empty() {
        return GpuAccess::default();
    }
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let mut minors: Vec<u32> = grants.iter().map(|grant| grant.minor).collect();
    minors.sort_unstable();
    minors.dedup();
    let nodes = minors.iter().map(|minor| format!("/dev/nvidia{minor}")).chain(CONTROL.map(str::to_owned));
    let nodes = nodes.chain(grants.iter().flat_map(|grant| capabilities(root, grant)));
    let devices = nodes.filter(|node| below(node).exists()).map(PathBuf::from).collect();
    let programs = PROGRAMS.iter().filter(|program| below(program).exists()).map(|program| PathBuf::from(*program));
    let mut sources: Vec<PathBuf> = programs.collect();
    for folder in LIBRARY_FOLDERS {
        let names = fs::read_dir(below(folder)).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let mut found: Vec<PathBuf> = names
            .filter(|name| LIBRARIES.iter().any(|library| name.to_string_lossy().starts_with(library)))
            .map(|name| Path::new(folder).join(name))
            .collect();
        found.sort();
        sources.extend(found);
    }
    let mount = |path: PathBuf| Mount { source: path.clone(), target: path, read_only: true, mapped: false };
    GpuAccess { devices, mounts: sources.into_iter().map(mount).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_granted_and_existing_parts_are_listed() {
        let root = tempfile::tempdir().expect("a folder");
        for path in [
            "dev/nvidia0",
            "dev/nvidia1",
            "dev/nvidiactl",
            "usr/bin/nvidia-smi",
            "usr/lib64/libcuda.so.1",
            "usr/lib64/libc.so.6",
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, "").expect("a file");
        }
        let whole = |minor| GpuGrant { minor, part: None };
        let access = probe(root.path(), &[whole(1)]);
        assert_eq!(access.devices, [PathBuf::from("/dev/nvidia1"), PathBuf::from("/dev/nvidiactl")]);
        let targets: Vec<_> = access.mounts.iter().map(|mount| mount.target.as_path()).collect();
        assert_eq!(targets, [Path::new("/usr/bin/nvidia-smi"), Path::new("/usr/lib64/libcuda.so.1")]);
        assert_eq!(probe(root.path(), &[]), GpuAccess::default());
    }

    #[test]
    fn a_part_of_a_gpu_is_opened_by_its_own_capabilities_and_no_others() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        for node in
            ["nvidia0", "nvidiactl", "nvidia-caps/nvidia-cap30", "nvidia-caps/nvidia-cap31", "nvidia-caps/nvidia-cap39"]
        {
            write(&format!("dev/{node}"), "");
        }
        let mig = "proc/driver/nvidia/capabilities/gpu0/mig";
        write(&format!("{mig}/gi3/access"), "DeviceFileMinor: 30\nDeviceFileMode: 292\nDeviceFileModify: 1\n");
        write(&format!("{mig}/gi3/ci0/access"), "DeviceFileMinor: 31\nDeviceFileMode: 292\n");
        write(&format!("{mig}/gi4/access"), "DeviceFileMinor: 39\n");
        let access = probe(root.path(), &[GpuGrant { minor: 0, part: Some((3, 0)) }]);
        let devices: Vec<_> = access.devices.iter().map(|path| path.to_str().expect("a text")).collect();
        let caps = ["/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31"];
        assert_eq!(devices, ["/dev/nvidia0", "/dev/nvidiactl", caps[0], caps[1]]);
    }
}
