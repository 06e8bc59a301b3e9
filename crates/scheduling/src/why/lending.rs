//! What is kept free for others, lent by one of them: what that would take.

use flowyard_model::QueuePath;
use flowyard_state::State;

use super::KeptFree;
use super::change::Change;

/// For each queue for which so much is kept that a task would have room with less of it: what it would have to lend, of each resource.
pub(crate) fn lent(state: &State, kept: &[KeptFree]) -> Vec<Vec<Change>> {
    let keepers = kept.first().into_iter().flat_map(|kept| &kept.keepers);
    keepers.filter_map(|(keeper, _)| kept.iter().map(|kept| lend(state, keeper, kept)).collect()).collect()
}

fn lend(state: &State, keeper: &QueuePath, kept: &KeptFree) -> Option<Change> {
    let (_, own) = kept.keepers.iter().find(|(queue, _)| queue == keeper)?;
    let from = state.queue(keeper)?.lend.get(kept.resource.column())?;
    let missing = kept.need.saturating_add(kept.kept).saturating_sub(kept.free);
    let change = || Change::Lend {
        queue: keeper.clone(),
        resource: kept.resource.clone(),
        from,
        to: from.saturating_add(missing),
    };
    (missing > 0 && missing <= *own).then(change)
}
