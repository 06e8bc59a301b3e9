//! Who holds what, counted from what lives: for a cluster that keeps no accounts, as before version 2, and of what they do not say.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{AccountKey, Held, StepSpec, TaskKey};
use flowyard_state::State;

/// For each queue and owner how many tasks are active, and what they hold.
pub(crate) fn count(state: &State) -> BTreeMap<AccountKey, (u32, Held)> {
    count_where(state, |_| true)
}

/// The same of what must not be evicted.
pub(crate) fn count_for_good(state: &State) -> BTreeMap<AccountKey, (u32, Held)> {
    count_where(state, |spec| !spec.preemptible)
}

fn count_where(state: &State, counts: impl Fn(&StepSpec) -> bool) -> BTreeMap<AccountKey, (u32, Held)> {
    let mut holders: BTreeMap<AccountKey, (u32, Held)> = BTreeMap::new();
    let mut tasks: BTreeSet<TaskKey> = BTreeSet::new();
    for (id, node) in state.nodes() {
        for (key, _, member) in state.live_members(id) {
            let Some(job) = state.outline(key.task.job) else { continue };
            let Some(spec) = job.spec.steps.get(key.task.step.0 as usize).filter(|spec| counts(spec)) else { continue };
            let wanted = &spec.resources;
            let held = Held::by_member(wanted, member.gpu_alternative, &node.inventory, &member.gpus);
            let account = AccountKey { queue: job.spec.queue.clone(), owner: job.owner.to_owned() };
            let holder = holders.entry(account).or_insert((0, Held::NONE));
            holder.0 += u32::from(tasks.insert(key.task));
            holder.1.add(&held);
        }
    }
    holders
}
