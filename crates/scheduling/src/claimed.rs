//! What is promised to waiting tasks, by whom it is accounted for.

use std::collections::BTreeMap;

use flowyard_model::{AccountKey, Held, Seat, StepSpec, TaskKey};
use flowyard_state::{ReadyGroup, State, StepKey, fingerprint};

/// All claims, summed up. There are few of them. Who waits for others to end is not accounted for by what it is promised: it holds
/// nothing of it yet, for however long that is.
#[derive(Debug, Default)]
pub(crate) struct Claimed {
    steps: BTreeMap<StepKey, u32>,
    accounts: BTreeMap<AccountKey, Portion>,
}

/// Tasks that have a claim, and what they will hold.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    pub(crate) tasks: u32,
    pub(crate) held: Held,
    /// Of this, what must not be evicted.
    pub(crate) held_for_good: Held,
}

impl Portion {
    /// All of another portion.
    pub(crate) fn add_all(&mut self, more: &Self) {
        self.tasks += more.tasks;
        self.held.add(&more.held);
        self.held_for_good.add(&more.held_for_good);
    }

    /// One task more, which holds or will hold these seats.
    pub(crate) fn add(&mut self, state: &State, spec: &StepSpec, members: &[Seat]) {
        self.tasks += 1;
        for seat in members {
            let Some(node) = state.node(seat.node) else { continue };
            let held = Held::by_member(&spec.resources, seat.gpu_alternative, &node.inventory, &seat.gpus);
            self.held.add(&held);
            if !spec.preemptible {
                self.held_for_good.add(&held);
            }
        }
    }
}

impl Claimed {
    pub(crate) fn of(state: &State) -> Self {
        let mut claimed = Self::default();
        for (key, claim) in state.claims() {
            let Some(job) = state.outline(key.job) else { continue };
            let Some(spec) = job.spec.steps.get(key.step.0 as usize) else { continue };
            *claimed.steps.entry((key.job, key.step)).or_insert(0) += 1;
            if claim.is_reservation() {
                continue;
            }
            let account = AccountKey { queue: job.spec.queue.clone(), owner: job.owner.to_owned() };
            claimed.accounts.entry(account).or_default().add(state, spec, &claim.members);
        }
        claimed
    }

    /// How many tasks of a step have a claim.
    pub(crate) fn of_step(&self, step: StepKey) -> u32 {
        self.steps.get(&step).copied().unwrap_or(0)
    }

    /// Whose they are.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &AccountKey> {
        self.accounts.keys()
    }

    /// What somebody has claimed.
    pub(crate) fn of_account(&self, key: &AccountKey) -> Option<&Portion> {
        self.accounts.get(key)
    }
}

/// The group in which a task waits when it has no claim.
pub(crate) fn group(state: &State, key: TaskKey) -> Option<ReadyGroup> {
    let job = state.outline(key.job)?;
    let spec = job.spec.steps.get(key.step.0 as usize)?;
    let priority = std::cmp::Reverse(i64::from(job.spec.priority) + i64::from(spec.priority));
    let (queue, owner) = (job.spec.queue.clone(), job.owner.to_owned());
    Some(ReadyGroup { queue, priority, owner, shape: fingerprint(spec, (key.job, key.step)) })
}
