//! Watches real GPUs: the driver's errors as it tells them, and now and then whether all are there and what it asks for.
//!
//! The driver's calls can block for ever, so all are made on a thread of its own, which nobody waits for. It ends when the agent's
//! other parts have let go of what is known.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use flowyard_model::{DeviceState, Gpu};
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;
use nvml_wrapper::struct_wrappers::event::EventData;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::{
    NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING,
};

use super::health::Health;
use super::xid;

/// How long one wait for the driver's events takes, in milliseconds.
const WAIT_MS: u32 = 1_000;
/// From one look at all devices to the next.
const LOOK: Duration = Duration::from_secs(10);

/// Begins to watch the real ones among these, if there are any.
pub(crate) fn begin(health: &Arc<Health>, gpus: &[Gpu]) {
    let whole = |gpu: &Gpu| gpu.part.as_ref().map_or_else(|| gpu.id.clone(), |part| part.of.clone());
    let real = gpus.iter().filter(|gpu| !gpu.fake);
    let watched: Vec<Watched> = real.map(|gpu| Watched { id: gpu.id.clone(), whole: whole(gpu) }).collect();
    if watched.is_empty() {
        return;
    }
    let health = Arc::downgrade(health);
    let spawned = std::thread::Builder::new().name("gpu-health".to_owned()).spawn(move || {
        if let Err(error) = watch(&health, &watched) {
            tracing::warn!(%error, "the health of GPUs is not watched");
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "the health of GPUs is not watched");
    }
}

/// A device, and the one that the driver tells events of: what befalls a whole befalls its parts.
struct Watched {
    id: String,
    whole: String,
}

fn watch(health: &Weak<Health>, watched: &[Watched]) -> Result<(), NvmlError> {
    let nvml = Nvml::init()?;
    let mut events = events(&nvml, watched);
    let mut looked = None;
    while let Some(health) = health.upgrade() {
        if looked.is_none_or(|at: Instant| flowyard_clock::elapsed(at) >= LOOK) {
            watched.iter().for_each(|it| look_at(&nvml, &health, it));
            looked = Some(flowyard_clock::monotonic());
        }
        let Some(set) = &events else {
            drop(health);
            std::thread::sleep(LOOK);
            continue;
        };
        match set.wait(WAIT_MS) {
            Ok(event) => on_event(&health, &event, watched),
            Err(NvmlError::Timeout) => {}
            // Which one is found by looking at all.
            Err(NvmlError::GpuLost) => {
                watched.iter().for_each(|it| look_at(&nvml, &health, it));
                std::thread::sleep(LOOK);
            }
            Err(error) => {
                tracing::warn!(%error, "the GPU driver tells no events any more");
                events = None;
            }
        }
    }
    Ok(())
}

/// The events of all devices that have any; `None` if the driver tells none.
fn events<'nvml>(nvml: &'nvml Nvml, watched: &[Watched]) -> Option<EventSet<'nvml>> {
    let wanted = EventTypes::CRITICAL_XID_ERROR | EventTypes::DOUBLE_BIT_ECC_ERROR;
    let mut set = nvml.create_event_set().ok()?;
    let wholes: BTreeSet<&String> = watched.iter().map(|it| &it.whole).collect();
    for id in wholes {
        let Ok(device) = nvml.device_by_uuid(id.as_str()) else { continue };
        let told = device.supported_event_types().unwrap_or(EventTypes::empty()) & wanted;
        if told.is_empty() {
            continue;
        }
        match device.register_events(told, set) {
            Ok(with) => set = with,
            // The set is gone with the error.
            Err(error) => {
                tracing::warn!(id, error = %error.error, "the driver tells no events of GPUs");
                return None;
            }
        }
    }
    Some(set)
}

fn on_event(health: &Health, event: &EventData<'_>, watched: &[Watched]) {
    let Ok(id) = event.device.uuid() else { return };
    let now_ms = flowyard_clock::wall_ms();
    let struck = |state: DeviceState, reason: &str| {
        let there = watched.iter().filter(|it| it.id == id || it.whole == id);
        there.for_each(|it| health.struck(&it.id, (state, reason), now_ms));
    };
    if event.event_type.contains(EventTypes::DOUBLE_BIT_ECC_ERROR) {
        struck(DeviceState::Degraded, "uncorrectable memory error");
    }
    if let Some(XidError::Value(number)) = event.event_data {
        match xid::meaning(number) {
            Some((state, reason)) => struck(state, &format!("XID {number}: {reason}")),
            None => tracing::info!(id, xid = number, "a GPU reports an error that says nothing of its health"),
        }
    }
}

/// Whether a device is still there, and what the driver asks to be done with it.
fn look_at(nvml: &Nvml, health: &Health, Watched { id, whole }: &Watched) {
    let now_ms = flowyard_clock::wall_ms();
    let gone = |error: &NvmlError| matches!(error, NvmlError::GpuLost | NvmlError::NotFound);
    let device = match nvml.device_by_uuid(id.as_str()) {
        Ok(device) => device,
        Err(error) if gone(&error) => return vanished(health, id, now_ms),
        Err(_) => return,
    };
    if device.uuid().is_err_and(|error| gone(&error)) {
        return vanished(health, id, now_ms);
    }
    let fields =
        [NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING].map(FieldId);
    let Ok(device) = nvml.device_by_uuid(whole.as_str()) else { return };
    let Ok(samples) = device.field_values_for(&fields) else { return };
    let values: Vec<Option<u64>> = samples.into_iter().map(|sample| number(sample.ok()?.value.ok()?)).collect();
    let value = |at: usize| values.get(at).copied().flatten().unwrap_or(0);
    if let Some(asked) = xid::recovery(value(0)) {
        return note(health, id, asked, now_ms);
    }
    if value(1) > 0 {
        return note(health, id, (DeviceState::Degraded, "a bad row of memory could not be put aside"), now_ms);
    }
    if value(2) > 0 || device.are_pages_pending_retired().unwrap_or(false) {
        let pending = "a bad row or page of memory is put aside at the next reset";
        note(health, id, (DeviceState::Healthy, pending), now_ms);
    }
}

/// What is seen at each look is told once.
fn note(health: &Health, id: &str, (state, reason): (DeviceState, &str), now_ms: u64) {
    if health.is_well(id) || state == DeviceState::Faulty && !health.is_faulty(id) {
        health.struck(id, (state, reason), now_ms);
    }
}

fn vanished(health: &Health, id: &str, now_ms: u64) {
    note(health, id, (DeviceState::Faulty, "the driver does not find it any more"), now_ms);
}

fn number(value: SampleValue) -> Option<u64> {
    match value {
        SampleValue::U32(value) => Some(value.into()),
        SampleValue::U64(value) => Some(value),
        SampleValue::I64(value) => u64::try_from(value).ok(),
        SampleValue::F64(_) => None,
    }
}
