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

/// Device nodes and mounts for granted GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuAccess {
    /// For `ContainerSpec::devices`.
    pub devices: Vec<PathBuf>,
    /// For `ContainerSpec::mounts`, where the root is an image; image `host` shows the libraries anyway.
    pub mounts: Vec<Mount>,
}

/// What a container with these GPUs needs; `minors` are the driver's minor numbers. Empty without GPUs, and only what exists.
pub fn gpu_access(minors: &[u32]) -> GpuAccess {
    probe(Path::new("/"), minors)
}

fn probe(root: &Path, minors: &[u32]) -> GpuAccess {
    if minors.is_empty() {
        return GpuAccess::default();
    }
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let nodes = minors.iter().map(|minor| format!("/dev/nvidia{minor}")).chain(CONTROL.map(str::to_owned));
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
        let access = probe(root.path(), &[1]);
        assert_eq!(access.devices, [PathBuf::from("/dev/nvidia1"), PathBuf::from("/dev/nvidiactl")]);
        let targets: Vec<_> = access.mounts.iter().map(|mount| mount.target.as_path()).collect();
        assert_eq!(targets, [Path::new("/usr/bin/nvidia-smi"), Path::new("/usr/lib64/libcuda.so.1")]);
        assert_eq!(probe(root.path(), &[]), GpuAccess::default());
    }
}
