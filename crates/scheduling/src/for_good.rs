//! What must not be evicted: it is only allowed where queues keep what it needs from eviction.

use flowyard_model::{Column, GpuClass, Held, Queue, QueuePath, Resources};
use flowyard_state::State;

use crate::why::Resource;

/// Whether all that a step asks for, by whatever alternative, is kept from eviction by its queue or one above it.
pub(crate) fn may_ever(state: &State, queue: &QueuePath, wanted: &Resources) -> bool {
    let alternatives = 0..wanted.gpus.len().max(1) as u32;
    alternatives.map(|at| Held::by_request(wanted, at)).all(|need| uncovered(state, queue, &need).is_none())
}

/// The first of what is needed of which neither the queue nor one above it keeps anything from eviction, and how much of it is needed.
pub(crate) fn uncovered(state: &State, queue: &QueuePath, need: &Held) -> Option<(Resource, u64)> {
    let levels: Vec<_> = state.queues().filter(|above| above.path.covers(queue)).collect();
    let is_kept = |column: Column<'_>| {
        let any = |of: &Queue| matches!(column, Column::Gpu(_)) && of.no_preempt.get(Column::GPUS).is_some();
        levels.iter().any(|level| level.no_preempt.get(column).is_some() || any(level))
    };
    let (column, amount) = need.columns().find(|(column, amount)| *amount > 0 && !is_kept(*column))?;
    Some(match column {
        // Devices of whatever model.
        Column::Gpu(GpuClass::Model(model)) if model.is_empty() => (Resource::of(Column::GPUS), amount),
        column => (Resource::of(column), amount),
    })
}
