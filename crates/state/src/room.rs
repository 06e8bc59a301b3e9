//! What the live members of a node hold, and whether one more fits.

use std::sync::Arc;

use flowyard_model::{
    Declared, GpuIndex, GpuPortion, GpuRequest, Inventory, NodeId, Policy, Refusal, Resources, Seat, Used,
};
use imbl::OrdMap;

/// Nothing is held of a node with this many devices.
pub(crate) fn unused(gpus: usize) -> Used {
    Used {
        cpu_milli: 0,
        memory_bytes: 0,
        disk_bytes: 0,
        gpu_milli: vec![0; gpus],
        tokens: Default::default(),
        members: 0,
        declared: Vec::new(),
    }
}

/// Takes what one member needs, if there is room for it and the devices are what was asked for. Tokens that all nodes share are not asked
/// of one.
pub(crate) fn take(
    policy: &Policy,
    used: &mut Used,
    inventory: &Inventory,
    wanted: &Resources,
    seat: &Seat,
) -> Result<(), Refusal> {
    let request = matching_request(inventory, wanted, seat)?;
    let fits = |used: u64, wanted: u64, all: u64| used.checked_add(wanted).is_some_and(|sum| sum <= all);
    let tokens = wanted.tokens.iter().filter(|(name, _)| !policy.is_shared(name)).all(|(name, count)| {
        let (used, all) = (used.tokens.get(name), inventory.tokens.get(name));
        let value = |count: Option<&u32>| u64::from(count.copied().unwrap_or(0));
        fits(value(used), u64::from(*count), value(all))
    });
    let room = fits(used.cpu_milli, wanted.cpu_milli, inventory.cpu_milli)
        && fits(used.memory_bytes, wanted.memory_bytes, inventory.memory_bytes)
        && fits(used.disk_bytes, wanted.disk_bytes, inventory.disk_bytes);
    if !room || !tokens {
        return Err(Refusal::NoRoom);
    }
    let portion = request.map_or(GpuPortion::NONE, GpuRequest::portion);
    let device_free = |index: &GpuIndex| {
        let (at, share) = (index.0 as usize, portion.share_milli);
        let free = used.gpu_milli.get(at).is_some_and(|used| used.saturating_add(share) <= 1_000);
        inventory.gpus[at].healthy && free && has_memory(used, inventory, at, portion)
    };
    if !seat.gpus.iter().all(device_free) {
        return Err(Refusal::DeviceTaken);
    }
    add(used, wanted, &seat.gpus, portion);
    Ok(())
}

/// Whether a device has as much memory free as goes with a portion of it.
fn has_memory(used: &Used, inventory: &Inventory, device: usize, portion: GpuPortion) -> bool {
    if portion.memory_bytes == 0 && used.declared.is_empty() {
        // All hold as large a part of the memory as of the device.
        return true;
    }
    let all = inventory.gpus[device].memory_bytes;
    let wanted = match portion.memory_bytes {
        0 => u128::from(portion.share_milli) * u128::from(all),
        declared => u128::from(declared) * 1_000,
    };
    wanted <= used.free_memory(device, all)
}

/// The alternative that the seat names, if its devices satisfy it.
fn matching_request<'a>(
    inventory: &Inventory,
    wanted: &'a Resources,
    seat: &Seat,
) -> Result<Option<&'a GpuRequest>, Refusal> {
    if wanted.gpus.is_empty() {
        let plain = seat.gpus.is_empty() && seat.gpu_alternative == 0;
        return if plain { Ok(None) } else { Err(Refusal::Malformed) };
    }
    if seat.gpus.iter().any(|index| index.0 as usize >= inventory.gpus.len()) {
        return Err(Refusal::DeviceTaken);
    }
    let request = wanted.gpus.get(seat.gpu_alternative as usize).ok_or(Refusal::Malformed)?;
    if request.accepts_all(inventory, &seat.gpus) { Ok(Some(request)) } else { Err(Refusal::Malformed) }
}

/// Adds what a member holds, whether or not there is room.
pub(crate) fn add(used: &mut Used, wanted: &Resources, gpus: &[GpuIndex], portion: GpuPortion) {
    used.cpu_milli = used.cpu_milli.saturating_add(wanted.cpu_milli);
    used.memory_bytes = used.memory_bytes.saturating_add(wanted.memory_bytes);
    used.disk_bytes = used.disk_bytes.saturating_add(wanted.disk_bytes);
    used.members = used.members.saturating_add(1);
    for index in gpus {
        if let Some(held) = used.gpu_milli.get_mut(index.0 as usize) {
            *held = held.saturating_add(portion.share_milli);
        }
    }
    declare(used, gpus, portion, |held, more| held.saturating_add(more));
    for (name, count) in wanted.tokens.iter().filter(|(_, count)| **count > 0) {
        let held = used.tokens.entry(name.clone()).or_insert(0);
        *held = held.saturating_add(*count);
    }
}

/// Gives back what a member held.
pub(crate) fn give_back(used: &mut Used, wanted: &Resources, gpus: &[GpuIndex], portion: GpuPortion) {
    used.cpu_milli = used.cpu_milli.saturating_sub(wanted.cpu_milli);
    used.memory_bytes = used.memory_bytes.saturating_sub(wanted.memory_bytes);
    used.disk_bytes = used.disk_bytes.saturating_sub(wanted.disk_bytes);
    used.members = used.members.saturating_sub(1);
    for index in gpus {
        let held = &mut used.gpu_milli[index.0 as usize];
        *held = held.saturating_sub(portion.share_milli);
    }
    declare(used, gpus, portion, u64::saturating_sub);
    for (name, count) in wanted.tokens.iter().filter(|(_, count)| **count > 0) {
        let held = used.tokens.get_mut(name).expect("what is given back was taken");
        *held = held.saturating_sub(*count);
        if *held == 0 {
            used.tokens.remove(name);
        }
    }
}

/// Changes what is held of devices by those who declared their memory; kept only while anybody did.
fn declare(used: &mut Used, gpus: &[GpuIndex], portion: GpuPortion, by: impl Fn(u64, u64) -> u64) {
    if portion.memory_bytes == 0 || gpus.is_empty() {
        return;
    }
    used.declared.resize(used.gpu_milli.len(), Declared::default());
    for index in gpus {
        if let Some(held) = used.declared.get_mut(index.0 as usize) {
            change(held, Declared { share_milli: portion.share_milli, memory_bytes: portion.memory_bytes }, &by);
        }
    }
    forget_none(used);
}

fn change(held: &mut Declared, other: Declared, by: impl Fn(u64, u64) -> u64) {
    held.memory_bytes = by(held.memory_bytes, other.memory_bytes);
    let share = by(u64::from(held.share_milli), u64::from(other.share_milli));
    held.share_milli = u32::try_from(share).unwrap_or(u32::MAX);
}

fn forget_none(used: &mut Used) {
    if used.declared.iter().all(|held| *held == Declared::default()) {
        used.declared.clear();
    }
}

/// What another holds of devices by declaration, added or taken away.
fn declare_all(used: &mut Used, other: &Used, by: impl Fn(u64, u64) -> u64) {
    if other.declared.is_empty() {
        return;
    }
    used.declared.resize(used.gpu_milli.len(), Declared::default());
    for (held, other) in used.declared.iter_mut().zip(&other.declared) {
        change(held, *other, &by);
    }
    forget_none(used);
}

/// How much of each device a member placed by this alternative holds.
pub(crate) fn share(wanted: &Resources, alternative: u32) -> GpuPortion {
    wanted.gpus.get(alternative as usize).map_or(GpuPortion::NONE, GpuRequest::portion)
}

/// Holds this as well.
pub(crate) fn more(used: &mut Used, other: &Used) {
    used.cpu_milli = used.cpu_milli.saturating_add(other.cpu_milli);
    used.memory_bytes = used.memory_bytes.saturating_add(other.memory_bytes);
    used.disk_bytes = used.disk_bytes.saturating_add(other.disk_bytes);
    used.members = used.members.saturating_add(other.members);
    for (held, more) in used.gpu_milli.iter_mut().zip(&other.gpu_milli) {
        *held = held.saturating_add(*more);
    }
    declare_all(used, other, u64::saturating_add);
    for (name, count) in &other.tokens {
        let held = used.tokens.entry(name.clone()).or_insert(0);
        *held = held.saturating_add(*count);
    }
}

/// Holds this no more, which it held.
pub(crate) fn less(used: &mut Used, other: &Used) {
    used.cpu_milli = used.cpu_milli.saturating_sub(other.cpu_milli);
    used.memory_bytes = used.memory_bytes.saturating_sub(other.memory_bytes);
    used.disk_bytes = used.disk_bytes.saturating_sub(other.disk_bytes);
    used.members = used.members.saturating_sub(other.members);
    for (held, less) in used.gpu_milli.iter_mut().zip(&other.gpu_milli) {
        *held = held.saturating_sub(*less);
    }
    declare_all(used, other, u64::saturating_sub);
    for (name, count) in &other.tokens {
        let left = used.tokens.get(name).map_or(0, |held| held.saturating_sub(*count));
        match left {
            0 => drop(used.tokens.remove(name)),
            left => drop(used.tokens.insert(name.clone(), left)),
        }
    }
}

/// Changes an amount of a node with this many devices, which is kept only while there is one.
pub(crate) fn change_used(
    amounts: &mut OrdMap<NodeId, Arc<Used>>,
    node: NodeId,
    gpus: usize,
    change: impl FnOnce(&mut Used),
) {
    let mut used = amounts.get(&node).map_or_else(|| unused(gpus), |used| Used::clone(used));
    change(&mut used);
    match used.members {
        0 => drop(amounts.remove(&node)),
        _ => drop(amounts.insert(node, Arc::new(used))),
    }
}
