//! Who holds what, counted from what lives: for a cluster that keeps no accounts, as before version 2.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{AccountKey, Held, TaskKey};
use flowyard_state::State;

/// For each queue and owner how many tasks are active, and what they hold.
pub(crate) fn count(state: &State) -> BTreeMap<AccountKey, (u32, Held)> {
    let mut holders: BTreeMap<AccountKey, (u32, Held)> = BTreeMap::new();
    let mut tasks: BTreeSet<TaskKey> = BTreeSet::new();
    for (id, node) in state.nodes() {
        for (key, _, member) in state.live_members(id) {
            let Some(job) = state.outline(key.task.job) else { continue };
            let wanted = &job.spec.steps[key.task.step.0 as usize].resources;
            let held = Held::by_member(wanted, member.gpu_alternative, &node.inventory, &member.gpus);
            let account = AccountKey { queue: job.spec.queue.clone(), owner: job.owner.to_owned() };
            let holder = holders.entry(account).or_insert((0, Held::NONE));
            holder.0 += u32::from(tasks.insert(key.task));
            holder.1.add(&held);
        }
    }
    holders
}
