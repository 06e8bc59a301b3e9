//! What queues hold, and what they may, each computed in another way than the state does it.

use std::collections::BTreeMap;

use flowyard_model::{AccountKey, ClusterVersion, Column, Command, GpuClass, Held, Queue, QueuePath};
use flowyard_state::State;

/// Amounts by the words of their columns.
pub(crate) type Sums = BTreeMap<String, u64>;

fn held_sums(held: &Held) -> Sums {
    let named = held.columns().filter(|(_, amount)| *amount > 0);
    named.map(|(column, amount)| (column.to_string(), amount)).collect()
}

/// What each path holds, by what runs on the nodes.
fn live_sums(state: &State) -> BTreeMap<String, Sums> {
    let mut all: BTreeMap<String, Sums> = BTreeMap::new();
    for (key, sums) in by_owner(state) {
        let parts: Vec<&str> = key.queue.as_str().split('/').collect();
        for depth in 1..=parts.len() {
            let all = all.entry(parts[..depth].join("/")).or_default();
            sums.iter().for_each(|(column, amount)| *all.entry(column.clone()).or_default() += amount);
        }
    }
    all
}

/// What each owner holds in each queue, by what runs on the nodes.
pub(crate) fn by_owner(state: &State) -> BTreeMap<AccountKey, Sums> {
    let mut all: BTreeMap<AccountKey, Sums> = BTreeMap::new();
    for (id, node) in state.nodes() {
        for (key, _, member) in state.live_members(id) {
            let job = state.job(key.task.job).unwrap();
            let wanted = &job.spec.steps[key.task.step.0 as usize].resources;
            let account = AccountKey { queue: job.spec.queue.clone(), owner: job.owner.clone() };
            let sums = all.entry(account).or_default();
            let mut more = |column: String, amount: u64| *sums.entry(column).or_default() += amount;
            more("cpu".to_owned(), wanted.cpu_milli);
            more("memory".to_owned(), wanted.memory_bytes);
            for gpu in &member.gpus {
                let model = node.inventory.gpus[gpu.0 as usize].model.to_lowercase();
                more(format!("gpu {model}"), u64::from(wanted.gpus[0].share_milli));
            }
            for (name, count) in &wanted.tokens {
                more(format!("token {name}"), u64::from(*count));
            }
        }
    }
    // And what is kept for ranks that are open.
    for (_, key) in state.repairs() {
        let job = state.job(key.job).unwrap();
        let account = AccountKey { queue: job.spec.queue.clone(), owner: job.owner.clone() };
        let sums = all.entry(account).or_default();
        let repair = state.task(key).unwrap().attempts.last().unwrap().repair().unwrap();
        for (column, amount) in repair.open.values().flat_map(held_sums) {
            *sums.entry(column).or_default() += amount;
        }
    }
    all
}

/// Each path of the tree carries what lives in it and below it.
pub(crate) fn holds_what_lives(state: &State) {
    let live = live_sums(state);
    for (path, sums) in &live {
        let path: QueuePath = path.parse().unwrap();
        assert_eq!(held_sums(&state.load(&path).held), *sums, "{path}");
    }
    for queue in state.queues().filter(|queue| !live.contains_key(queue.path.as_str())) {
        assert_eq!(state.load(&queue.path).held, Held::NONE, "{}", queue.path);
    }
}

/// What a plan let a queue hold more of, it may hold.
pub(crate) fn nothing_was_raised_over_a_bound(before: &State, now: &State, command: &Command) {
    let Command::CommitPlan(_) = command else { return };
    if now.version() < ClusterVersion::ACCESS {
        return;
    }
    for (token, all) in &now.policy().tokens {
        let held = |state: &State| {
            live_sums(state).iter().filter(|(path, _)| !path.contains('/')).map(|(_, it)| of(it, token)).sum::<u64>()
        };
        let (old, new) = (held(before), held(now));
        assert!(new <= old || new <= *all, "{new} of {token} are held, and there are {all}");
    }
    for queue in now.queues() {
        let (old, new) = (before.load(&queue.path), now.load(&queue.path));
        let most = queue.max_active.unwrap_or(u32::MAX);
        assert!(new.active <= old.active || new.active <= most, "{} has {} active", queue.path, new.active);
        for (column, most) in bounds(queue) {
            let (old, new) = (old.held.get(column), new.held.get(column));
            assert!(new <= old || new <= most, "{} holds {new} of {column}, at most {most}", queue.path);
        }
    }
}

fn of(sums: &Sums, token: &flowyard_model::Name) -> u64 {
    sums.get(&format!("token {token}")).copied().unwrap_or(0)
}

/// The most that a queue may hold: its limit, and what it may borrow beyond its reserve.
fn bounds(queue: &Queue) -> Vec<(Column<'_>, u64)> {
    let reserved = |column: Column<'_>| match column {
        Column::Gpu(GpuClass::Any) => queue.reserve.gpu_milli.values().sum(),
        column => queue.reserve.get(column).unwrap_or(0),
    };
    let borrow = queue.borrow.named().map(|(column, most)| (column, most + reserved(column)));
    queue.limit.named().chain(borrow).collect()
}
