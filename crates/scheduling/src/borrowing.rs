//! What a queue holds that others are promised and do not use now: its work runs there until those want it back.

use std::collections::BTreeSet;

use flowyard_model::{Column, GpuClass, Queue, QueuePath, TaskKey, TimeMs};
use flowyard_state::State;

use crate::why::Resource;

/// What a queue has borrowed of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Borrowed {
    /// Of what.
    pub resource: Resource,
    /// How much it holds beyond what it is promised.
    pub beyond: u64,
    /// Who is promised more than they hold, and how much more: that may be wanted back. Of queues below each other the uppermost.
    pub lenders: Vec<(QueuePath, u64)>,
}

impl Borrowed {
    /// How much of it may be wanted back.
    pub fn wanted(&self) -> u64 {
        self.lenders.iter().map(|(_, unused)| *unused).fold(0, u64::saturating_add).min(self.beyond)
    }
}

/// What a queue, with all that is below it, has borrowed of others; nothing of resources of which all that is promised is held by
/// whom it is promised to.
pub fn borrowed(state: &State, queue: &QueuePath) -> Vec<Borrowed> {
    let load = state.load(queue);
    let any = GpuClass::Any;
    let gpus = (load.held.get(Column::GPUS) > 0).then_some(Column::Gpu(&any));
    let columns = load.held.columns().filter(|(_, held)| *held > 0).map(|(column, _)| column).chain(gpus);
    columns.filter_map(|column| of_column(state, queue, column)).collect()
}

fn of_column(state: &State, queue: &QueuePath, column: Column<'_>) -> Option<Borrowed> {
    let lenders: Vec<_> = state.queues().filter_map(|lender| lent_by(state, queue, lender, column)).collect();
    let beyond = lenders.iter().map(|(_, _, beyond)| *beyond).max()?;
    let is_uppermost = |path: &QueuePath| !lenders.iter().any(|(above, ..)| *above != path && above.covers(path));
    let uppermost = lenders.iter().filter(|(path, ..)| is_uppermost(path));
    let lenders = uppermost.map(|(path, unused, _)| ((*path).clone(), *unused)).collect();
    Some(Borrowed { resource: Resource::of(column), beyond, lenders })
}

/// Whether a queue holds what another is promised: that holds less than it is promised, and the first, as every queue above it up to where
/// their ways part, more. How much less, and how much more.
fn lent_by<'a>(
    state: &State,
    queue: &QueuePath,
    lender: &'a Queue,
    column: Column<'_>,
) -> Option<(&'a QueuePath, u64, u64)> {
    if lender.path.covers(queue) || queue.covers(&lender.path) {
        return None;
    }
    let held = |path: &QueuePath| state.load(path).held.get(column);
    let unused = lender.reserve.promised(column).checked_sub(held(&lender.path)).filter(|unused| *unused > 0)?;
    let apart = queue.levels().filter_map(|level| level.parse::<QueuePath>().ok());
    let beyond = apart.filter(|level| !level.covers(&lender.path)).map(|level| {
        let promised = state.queue(&level).map_or(0, |queue| queue.reserve.promised(column));
        held(&level).checked_sub(promised).filter(|beyond| *beyond > 0)
    });
    let beyond = beyond.collect::<Option<Vec<u64>>>()?.into_iter().min()?;
    Some((&lender.path, unused, beyond))
}

/// From when on the first attempt of a queue and of those below it may be asked to leave for whoever lent what it holds; never if `None`.
pub fn first_return(state: &State, queue: &QueuePath) -> Option<TimeMs> {
    let live = state.nodes().flat_map(|(id, _)| state.live_members(id).map(|(key, ..)| key.task));
    let tasks: BTreeSet<TaskKey> = live.collect();
    let own = |task: &TaskKey| state.outline(task.job).is_some_and(|job| queue.covers(&job.spec.queue));
    tasks.into_iter().filter(own).filter_map(|task| state.evictable_at(task)).min()
}
