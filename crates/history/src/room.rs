//! What is free on each node, for policies that are not ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{GpuIndex, GpuRequest, Inventory, Name, NodeId, Resources, Seat, StepSpec, Used};
use flowyard_state::State;

/// What is free on a node.
#[derive(Debug, Clone)]
pub(crate) struct Free {
    node: NodeId,
    incarnation: flowyard_model::Incarnation,
    inventory: Arc<Inventory>,
    cpu_milli: u64,
    memory_bytes: u64,
    disk_bytes: u64,
    /// Thousandths of each device; none of one that is not healthy.
    gpu_milli: Vec<u32>,
    tokens: BTreeMap<Name, u32>,
}

/// The nodes that take work.
#[derive(Debug, Clone)]
pub(crate) struct Room(pub Vec<Free>);

impl Room {
    pub(crate) fn of(state: &State) -> Self {
        let open = state.nodes().filter(|(_, node)| node.takes_work());
        Self(open.map(|(id, node)| Free::of(id, node.incarnation, &node.inventory, &node.used)).collect())
    }

    /// Seats all members of a task on the nodes that they fit best, and takes them; nothing if they do not all fit.
    pub(crate) fn seat(&mut self, spec: &StepSpec) -> Option<Vec<Seat>> {
        let alternatives = spec.resources.gpus.len().max(1);
        (0..alternatives).find_map(|alternative| self.seat_by(spec, alternative))
    }

    fn seat_by(&mut self, spec: &StepSpec, alternative: usize) -> Option<Vec<Seat>> {
        let request = spec.resources.gpus.get(alternative);
        let suits = |free: &Free| spec.allows(&free.inventory) && spec.connects(&free.inventory);
        let mut seats: Vec<(usize, Seat)> = Vec::new();
        for _ in 0..spec.size {
            // The least that is left over, so that large requests keep finding room.
            let fits = self.0.iter().enumerate().filter(|(_, free)| free.fits(&spec.resources, request) && suits(free));
            let best = fits.min_by_key(|(_, free)| (free.gpus_left(), std::cmp::Reverse(free.cpu_milli), free.node));
            let Some(at) = best.map(|(at, _)| at) else {
                seats.iter().for_each(|(at, seat)| self.0[*at].change(&spec.resources, seat, false));
                return None;
            };
            let seat = self.0[at].seat(request, alternative)?;
            self.0[at].change(&spec.resources, &seat, true);
            seats.push((at, seat));
        }
        Some(seats.into_iter().map(|(_, seat)| seat).collect())
    }

    /// Whether these seats are free.
    pub(crate) fn has(&self, spec: &StepSpec, seats: &[Seat]) -> bool {
        let mut copy: BTreeMap<NodeId, Free> = BTreeMap::new();
        seats.iter().all(|seat| {
            let Some(free) = self.at(seat.node) else { return false };
            let free = copy.entry(seat.node).or_insert_with(|| free.clone());
            let holds = free.holds(&spec.resources, seat);
            if holds {
                free.change(&spec.resources, seat, true);
            }
            holds
        })
    }

    /// Takes seats, or gives them back.
    pub(crate) fn change(&mut self, resources: &Resources, seats: &[Seat], taken: bool) {
        for seat in seats {
            if let Ok(at) = self.0.binary_search_by_key(&seat.node, |free| free.node) {
                self.0[at].change(resources, seat, taken);
            }
        }
    }

    fn at(&self, node: NodeId) -> Option<&Free> {
        self.0.binary_search_by_key(&node, |free| free.node).ok().map(|at| &self.0[at])
    }
}

impl Free {
    fn of(node: NodeId, incarnation: flowyard_model::Incarnation, all: &Arc<Inventory>, used: &Used) -> Self {
        let gpu = |(at, gpu): (usize, &flowyard_model::Gpu)| match gpu.healthy {
            true => 1_000_u32.saturating_sub(used.gpu_milli.get(at).copied().unwrap_or(0)),
            false => 0,
        };
        let token = |(name, count): (&Name, &u32)| {
            (name.clone(), count.saturating_sub(used.tokens.get(name).copied().unwrap_or(0)))
        };
        Self {
            node,
            incarnation,
            cpu_milli: all.cpu_milli.saturating_sub(used.cpu_milli),
            memory_bytes: all.memory_bytes.saturating_sub(used.memory_bytes),
            disk_bytes: all.disk_bytes.saturating_sub(used.disk_bytes),
            gpu_milli: all.gpus.iter().enumerate().map(gpu).collect(),
            tokens: all.tokens.iter().map(token).collect(),
            inventory: all.clone(),
        }
    }

    fn gpus_left(&self) -> u64 {
        self.gpu_milli.iter().map(|milli| u64::from(*milli)).sum()
    }

    fn fits(&self, wanted: &Resources, request: Option<&GpuRequest>) -> bool {
        let enough =
            |request: &GpuRequest| u64::from(request.count) * u64::from(request.share_milli) <= self.gpus_left();
        self.fits_plainly(wanted) && request.is_none_or(|request| enough(request) && self.devices(request).is_some())
    }

    fn fits_plainly(&self, wanted: &Resources) -> bool {
        let tokens = |(name, count): (&Name, &u32)| self.tokens.get(name).is_some_and(|free| free >= count);
        self.cpu_milli >= wanted.cpu_milli
            && self.memory_bytes >= wanted.memory_bytes
            && self.disk_bytes >= wanted.disk_bytes
            && wanted.tokens.iter().all(tokens)
    }

    /// Devices for a request, if there are enough.
    fn devices(&self, request: &GpuRequest) -> Option<Vec<GpuIndex>> {
        let near = request.near();
        let free = |(at, gpu): (usize, &flowyard_model::Gpu)| {
            (request.accepts(gpu) && self.gpu_milli[at] >= request.share_milli)
                .then_some((near.map_or(gpu.link_group, |link| gpu.group(link)), GpuIndex(at as u32)))
        };
        let mut found: Vec<_> = self.inventory.gpus.iter().enumerate().filter_map(free).collect();
        found.sort_unstable();
        let count = request.count as usize;
        let linked = |all: &&[(Option<u32>, GpuIndex)]| all[0].0 == all[count - 1].0 && all[0].0.is_some();
        let chosen = match near.is_some() {
            true => found.windows(count).find(linked)?,
            false => found.get(..count)?,
        };
        Some(chosen.iter().map(|(_, at)| *at).collect())
    }

    fn seat(&self, request: Option<&GpuRequest>, alternative: usize) -> Option<Seat> {
        let gpus = match request {
            Some(request) => self.devices(request)?,
            None => Vec::new(),
        };
        Some(Seat { node: self.node, incarnation: self.incarnation, gpus, gpu_alternative: alternative as u32 })
    }

    fn holds(&self, wanted: &Resources, seat: &Seat) -> bool {
        let share = share(wanted, seat);
        let free = |gpu: &GpuIndex| self.gpu_milli.get(gpu.0 as usize).is_some_and(|milli| *milli >= share);
        self.fits_plainly(wanted) && seat.gpus.iter().all(free)
    }

    fn change(&mut self, wanted: &Resources, seat: &Seat, taken: bool) {
        let plain = |free: &mut u64, amount: u64| {
            *free = if taken { free.saturating_sub(amount) } else { free.saturating_add(amount) };
        };
        plain(&mut self.cpu_milli, wanted.cpu_milli);
        plain(&mut self.memory_bytes, wanted.memory_bytes);
        plain(&mut self.disk_bytes, wanted.disk_bytes);
        let small = |free: &mut u32, amount: u32| {
            *free = if taken { free.saturating_sub(amount) } else { free.saturating_add(amount) };
        };
        for (name, count) in &wanted.tokens {
            small(self.tokens.entry(name.clone()).or_default(), *count);
        }
        let share = share(wanted, seat);
        for gpu in &seat.gpus {
            if let Some(free) = self.gpu_milli.get_mut(gpu.0 as usize) {
                small(free, share);
            }
        }
    }
}

fn share(wanted: &Resources, seat: &Seat) -> u32 {
    wanted.gpus.get(seat.gpu_alternative as usize).map_or(0, |request| request.share_milli)
}
