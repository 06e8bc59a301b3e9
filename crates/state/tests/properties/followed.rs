//! Whoever has a state, and is told how another one differs, knows that one: all that is not named is as before.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{Account, AccountKey, Claim, TaskIndex, TaskKey};
use flowyard_state::{ReadyGroup, State};

/// What can be placed of each group: the steps, and the tasks of each with the numbers of their attempts.
fn ready(state: &State) -> BTreeMap<ReadyGroup, Vec<String>> {
    let mut groups: BTreeMap<ReadyGroup, Vec<String>> = BTreeMap::new();
    for step in state.ready_steps() {
        let tasks: Vec<(TaskIndex, _)> = state.ready_tasks(step.job, step.step).collect();
        let active = state.step(step.job, step.step).unwrap().counts.active;
        groups.entry(step.group()).or_default().push(format!("{}/{}: {tasks:?}, {active}", step.job, step.step));
    }
    groups
}

/// Keys whose values are not the same.
fn differing<K: Ord + Clone, V: PartialEq>(before: &BTreeMap<K, V>, now: &BTreeMap<K, V>) -> BTreeSet<K> {
    let keys: BTreeSet<&K> = before.keys().chain(now.keys()).collect();
    keys.into_iter().filter(|key| before.get(key) != now.get(key)).cloned().collect()
}

/// All that differs is named.
pub(crate) fn nothing_is_missed(before: &State, now: &State) {
    let found = now.differences(before);
    let queues = |state: &State| state.queues().map(|queue| (queue.path.clone(), queue.clone())).collect();
    assert_eq!(found.queues, differing(&queues(before), &queues(now)));
    let accounts = |state: &State| state.accounts().map(|(key, it)| (key.clone(), it.clone())).collect();
    assert_eq!(found.accounts, differing::<AccountKey, Account>(&accounts(before), &accounts(now)));
    for queue in before.queues().chain(now.queues()) {
        let differs = before.load(&queue.path) != now.load(&queue.path);
        assert!(found.loads.contains(&queue.path) >= differs, "{}", queue.path);
    }
    let claims = |state: &State| state.claims().map(|(key, claim)| (*key, claim.clone())).collect();
    assert_eq!(found.claims, differing::<TaskKey, Claim>(&claims(before), &claims(now)));
    let promised = |state: &State, id| {
        let reserved = (state.reserved_on(id).cloned(), state.awaited_on(id).cloned());
        (state.claimed_on(id).cloned(), state.leaving_on(id).cloned(), reserved)
    };
    for (id, _) in before.nodes().chain(now.nodes()) {
        assert!(found.nodes.contains(&id) || promised(before, id) == promised(now, id), "node {id}");
    }
    assert_eq!(found.mix, !before.mix().tells_as(now.mix()));
    let missed: Vec<_> = differing(&ready(before), &ready(now)).difference(&found.ready).cloned().collect();
    assert!(missed.is_empty(), "{missed:?}");
}
