//! What must not be evicted: it is only allowed where queues keep what it needs from eviction.

use flowyard_model::{Column, Held, Queue, QueuePath, Resources};
use flowyard_state::State;

/// Whether all that a step asks for, by whatever alternative, is kept from eviction by its queue or one above it.
pub(crate) fn may_ever(state: &State, queue: &QueuePath, wanted: &Resources) -> bool {
    let levels: Vec<_> = state.queues().filter(|above| above.path.covers(queue)).collect();
    let is_kept = |column: Column<'_>| {
        let any = |of: &Queue| matches!(column, Column::Gpu(_)) && of.no_preempt.get(Column::GPUS).is_some();
        levels.iter().any(|level| level.no_preempt.get(column).is_some() || any(level))
    };
    let alternatives = 0..wanted.gpus.len().max(1) as u32;
    alternatives.map(|at| Held::by_request(wanted, at)).all(|need| {
        let mut asked = need.columns().filter(|(_, amount)| *amount > 0);
        asked.all(|(column, _)| is_kept(column))
    })
}
