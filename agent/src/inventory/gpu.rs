//! GPUs: found by NVML, which is loaded at run time, and granted by device node, driver library and variable.
//!
//! An absent driver means zero GPUs and no error.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use flowyard_model::{Gpu, GpuLink, GpuPart, GpuPortion, GpuRequest};
use nvml_wrapper::enum_wrappers::device::{P2pCapabilitiesIndex, P2pStatus};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::fake::{FakeGpus, pretended};
use super::{instances, near};
use crate::runtime::{GpuAccess, GpuGrant, gpu_access};

/// How long the driver may take to answer; a hung one counts as absent.
const PROBE: Duration = Duration::from_secs(10);

/// What the driver calls the mode in which a GPU is divided.
const MIG_ENABLED: u32 = 1;

/// All GPUs: the real ones, then the pretended ones; last those that are parts of others. The parts that are pretended are of one
/// more device.
pub fn probe(fake: &FakeGpus, parts: &[String]) -> Vec<Gpu> {
    let mut gpus = real();
    // Numbers that no real one has: what is pretended is near to no real GPU.
    let next = |link: GpuLink| gpus.iter().filter_map(|gpu| gpu.group(link)).max().map_or(0, |last| last + 1);
    let first = GpuLink::ALL.map(next);
    gpus.extend(fake.devices(first));
    let whole = format!("fake-{}", fake.count());
    gpus.extend((0..).zip(parts).map(|(at, profile)| pretended_part(&whole, at, profile)));
    gpus.sort_by_key(|gpu| gpu.part.is_some());
    gpus
}

/// A pretended part of a pretended GPU; its memory is what its profile says, as `1g.10gb`.
fn pretended_part(whole: &str, at: u32, profile: &str) -> Gpu {
    let gigabytes =
        profile.rsplit('.').next().and_then(|size| size.strip_suffix("gb")).and_then(|size| size.parse().ok());
    Gpu {
        model: format!("fake MIG {profile}"),
        memory_bytes: gigabytes.unwrap_or(1_u64).clamp(1, 1 << 20) << 30,
        link_group: None,
        pcie_group: None,
        numa_node: None,
        part: Some(GpuPart { of: whole.to_owned(), instance: at + 1, compute: 0 }),
        ..pretended(&format!("{whole}-mig-{at}"))
    }
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
    let devices = (0..nvml.device_count()?).map(|at| nvml.device_by_index(at)).collect::<Result<Vec<_>, _>>()?;
    let bus_ids: Vec<_> = devices.iter().map(|device| device.pci_info().ok().map(|pci| pci.bus_id)).collect();
    let places = near::places(Path::new(near::SYS), &bus_ids);
    let linked = near::linked_groups(devices.len(), |one, other| are_linked(&devices[one], &devices[other]));
    let mut gpus = Vec::new();
    for (device, (place, link_group)) in devices.iter().zip(places.iter().zip(linked)) {
        let whole = Gpu {
            id: device.uuid()?,
            model: device.name()?,
            memory_bytes: device.memory_info()?.total,
            numa_node: place.numa_node,
            link_group,
            healthy: true,
            fake: false,
            part: None,
            pcie_group: place.pcie_group,
        };
        match device.mig_mode() {
            // One that is divided is not used as a whole, also if nothing is made of it yet.
            Ok(mode) if mode.current == MIG_ENABLED => gpus.extend(parts(device, &whole)),
            _ => gpus.push(whole),
        }
    }
    Ok(gpus)
}

/// Whether two GPUs reach each other by NVLink, directly or by a switch of such links, as the driver says it.
fn are_linked(one: &Device<'_>, other: &Device<'_>) -> bool {
    matches!(one.p2p_status(other, P2pCapabilitiesIndex::NvLink), Ok(P2pStatus::Ok))
}

/// The MIG instances that a GPU is divided into. No link is theirs.
fn parts(device: &Device<'_>, whole: &Gpu) -> Vec<Gpu> {
    let most = device.mig_device_count().unwrap_or(0);
    let part = |at: u32| {
        let instance = device.mig_device_by_index(at).ok()?;
        let (gpu, compute) = instances::numbers(&instance)?;
        Some(Gpu {
            id: instance.uuid().ok()?,
            model: part_name(&instance, &whole.model),
            memory_bytes: instance.memory_info().ok()?.total,
            part: Some(GpuPart { of: whole.id.clone(), instance: gpu, compute }),
            link_group: None,
            ..whole.clone()
        })
    };
    (0..most).filter_map(part).collect()
}

/// The name of an instance with its profile: drivers say it themselves (`NVIDIA H100 80GB HBM3 MIG 1g.10gb`), or it is put together.
fn part_name(instance: &Device<'_>, whole: &str) -> String {
    match (instance.name(), instance.attributes()) {
        (Ok(name), _) if name.contains(" MIG ") => name,
        (_, Ok(size)) => {
            let gigabytes = size.memory_size_mb.div_ceil(1_024);
            format!("{whole} MIG {}g.{gigabytes}gb", size.gpu_instance_slice_count)
        }
        _ => format!("{whole} MIG"),
    }
}

/// Variables by which frameworks find exactly the granted devices, and what is said of how much of each was asked for.
pub fn variables(gpus: &[Gpu], request: Option<&GpuRequest>) -> Vec<(String, String)> {
    let mut variables = visible(gpus);
    variables.extend(request.map_or_else(Vec::new, |request| share_variables(gpus, request.portion())));
    variables
}

fn visible(gpus: &[Gpu]) -> Vec<(String, String)> {
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

/// What a task is told of a share of its GPUs. Nobody holds it to that but itself, or an MPS daemon of the host where one serves it: the
/// driver's own words for the same are for that one.
fn share_variables(gpus: &[Gpu], portion: GpuPortion) -> Vec<(String, String)> {
    if gpus.is_empty() || portion.share_milli == 0 {
        return Vec::new();
    }
    let memory: Vec<u64> = gpus.iter().map(|gpu| portion.memory_of(gpu.memory_bytes)).collect();
    let bytes: Vec<String> = memory.iter().map(u64::to_string).collect();
    let share = format!("{}.{:03}", portion.share_milli / 1_000, portion.share_milli % 1_000);
    let mut told =
        vec![("FLOWYARD_GPU_SHARE".to_owned(), share), ("FLOWYARD_GPU_MEMORY_BYTES".to_owned(), bytes.join(","))];
    if portion.share_milli < 1_000 && gpus.iter().all(|gpu| !gpu.fake) {
        const MIB: u64 = 1 << 20;
        let limits = memory.iter().enumerate().map(|(at, bytes)| format!("{at}={}M", (bytes / MIB).max(1)));
        told.push(("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT".to_owned(), limits.collect::<Vec<_>>().join(",")));
        let percent = portion.share_milli.div_ceil(10).max(1);
        told.push(("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE".to_owned(), percent.to_string()));
    }
    told
}

/// What a container needs of the host for the granted GPUs.
pub fn access(gpus: &[Gpu]) -> GpuAccess {
    let grant = |gpu: &Gpu| {
        let whole = gpu.part.as_ref().map_or(&gpu.id, |part| &part.of);
        let part = gpu.part.as_ref().map(|part| (part.instance, part.compute));
        Some(GpuGrant { minor: minor_of(whole)?, part })
    };
    let grants: Vec<GpuGrant> = gpus.iter().filter(|gpu| !gpu.fake).filter_map(grant).collect();
    gpu_access(&grants)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_told_what_goes_with_its_share() {
        let fake = pretended("fake-0");
        let told = share_variables(std::slice::from_ref(&fake), GpuPortion { share_milli: 250, memory_bytes: 0 });
        let pairs: Vec<_> = told.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("FLOWYARD_GPU_SHARE", "0.250"), ("FLOWYARD_GPU_MEMORY_BYTES", "4294967296")]);
        let real = |id: &str| Gpu { fake: false, ..pretended(id) };
        let told =
            share_variables(&[real("GPU-a"), real("GPU-b")], GpuPortion { share_milli: 5, memory_bytes: 3 << 20 });
        let of = |name: &str| told.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(of("FLOWYARD_GPU_MEMORY_BYTES"), Some("3145728,3145728"));
        assert_eq!(of("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"), Some("0=3M,1=3M"));
        assert_eq!(of("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"), Some("1"));
        let whole = share_variables(&[real("GPU-a")], GpuPortion { share_milli: 1_000, memory_bytes: 0 });
        assert_eq!(whole.len(), 2, "a whole device has no limits: {whole:?}");
        assert_eq!(share_variables(&[], GpuPortion::NONE), []);
        assert_eq!(share_variables(&[fake], GpuPortion::NONE), []);
    }

    #[test]
    fn pretended_parts_are_of_a_device_that_is_not_offered_and_come_last() {
        let gpus: Vec<Gpu> = probe(&"1".parse().unwrap(), &["1g.10gb".to_owned(), "3g.40gb".to_owned()])
            .into_iter()
            .filter(|it| it.fake)
            .collect();
        let ids: Vec<_> = gpus.iter().map(|gpu| gpu.id.as_str()).collect();
        assert_eq!(ids, ["fake-0", "fake-1-mig-0", "fake-1-mig-1"]);
        assert_eq!((gpus[2].model.as_str(), gpus[2].memory_bytes), ("fake MIG 3g.40gb", 40 << 30));
        assert_eq!(gpus[1].part.as_ref().map(|part| part.of.as_str()), Some("fake-1"));
    }
}
