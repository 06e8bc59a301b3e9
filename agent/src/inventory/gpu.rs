//! GPUs: found by NVML, which is loaded at run time, and granted by device node, driver library and variable.
//!
//! An absent driver means zero GPUs and no error.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use flowyard_model::Gpu;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::runtime::{GpuAccess, gpu_access};

/// How long the driver may take to answer; a hung one counts as absent.
const PROBE: Duration = Duration::from_secs(10);

/// Memory of a pretended GPU.
const FAKE_MEMORY_BYTES: u64 = 16 << 30;

/// All GPUs: the real ones, then the pretended ones.
pub fn probe(fake: u32) -> Vec<Gpu> {
    let mut gpus = real();
    gpus.extend((0..fake).map(|index| Gpu {
        id: format!("fake-{index}"),
        model: "fake".to_owned(),
        memory_bytes: FAKE_MEMORY_BYTES,
        numa_node: None,
        link_group: Some(0),
        healthy: true,
        fake: true,
    }));
    gpus
}

/// The driver's call can block, so it is made on its own thread with a deadline.
fn real() -> Vec<Gpu> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let spawned = std::thread::Builder::new().name("nvml".to_owned()).spawn(move || {
        let _ = sender.send(ask_driver());
    });
    if spawned.is_err() {
        return Vec::new();
    }
    match receiver.recv_timeout(PROBE) {
        Ok(Ok(gpus)) => gpus,
        Ok(Err(NvmlError::LibloadingError(_) | NvmlError::DriverNotLoaded | NvmlError::LibraryNotFound)) => Vec::new(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the GPU driver is there but does not answer; no GPU is offered");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!("the GPU driver did not answer in time; no GPU is offered");
            Vec::new()
        }
    }
}

fn ask_driver() -> Result<Vec<Gpu>, NvmlError> {
    let nvml = Nvml::init()?;
    (0..nvml.device_count()?)
        .map(|index| {
            let device = nvml.device_by_index(index)?;
            Ok(Gpu {
                id: device.uuid()?,
                model: device.name()?,
                memory_bytes: device.memory_info()?.total,
                numa_node: device.pci_info().ok().and_then(|pci| numa_node(&pci.bus_id)),
                link_group: None,
                healthy: true,
                fake: false,
            })
        })
        .collect()
}

/// NUMA node of a PCI device, as the kernel tells it; -1 there means none.
fn numa_node(bus_id: &str) -> Option<u32> {
    // NVML writes the domain with eight digits, the kernel with four.
    let short = bus_id.to_lowercase();
    let short =
        short.strip_prefix("0000").filter(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit())).unwrap_or(&short);
    let path = Path::new("/sys/bus/pci/devices").join(short).join("numa_node");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Variables by which frameworks find exactly the granted devices.
pub fn variables(gpus: &[Gpu]) -> Vec<(String, String)> {
    let ids: Vec<_> = gpus.iter().filter(|gpu| !gpu.fake).map(|gpu| gpu.id.as_str()).collect();
    match (gpus.is_empty(), ids.is_empty()) {
        (true, _) => vec![("CUDA_VISIBLE_DEVICES".to_owned(), String::new())],
        (false, true) => vec![("FLOWYARD_FAKE_GPUS".to_owned(), gpus.len().to_string())],
        (false, false) => vec![
            ("CUDA_VISIBLE_DEVICES".to_owned(), ids.join(",")),
            ("CUDA_DEVICE_ORDER".to_owned(), "PCI_BUS_ID".to_owned()),
        ],
    }
}

/// What a container needs of the host for the granted GPUs.
pub fn access(gpus: &[Gpu]) -> GpuAccess {
    let minors: Vec<u32> = gpus.iter().filter(|gpu| !gpu.fake).filter_map(|gpu| minor_of(&gpu.id)).collect();
    gpu_access(&minors)
}

/// The driver's minor number of a GPU, which it tells beside its UUID.
fn minor_of(uuid: &str) -> Option<u32> {
    for entry in std::fs::read_dir("/proc/driver/nvidia/gpus").ok()?.flatten() {
        let information = std::fs::read_to_string(entry.path().join("information")).unwrap_or_default();
        let field = |name: &str| {
            let rest = information.lines().find_map(|line| line.strip_prefix(name));
            rest.map(|rest| rest.trim_start_matches(':').trim().to_owned())
        };
        if field("GPU UUID").as_deref() == Some(uuid) {
            return field("Device Minor")?.parse().ok();
        }
    }
    None
}
