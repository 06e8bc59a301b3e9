//! What is promised to waiting tasks, by whom it is accounted for.

use std::collections::BTreeMap;

use flowyard_model::{AccountKey, Held, TaskKey};
use flowyard_state::{ReadyGroup, State, StepKey};

/// All claims, summed up. There are few of them.
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

impl Claimed {
    pub(crate) fn of(state: &State) -> Self {
        let mut claimed = Self::default();
        for (key, claim) in state.claims() {
            let Some(job) = state.job(key.job) else { continue };
            let Some(spec) = job.spec.steps.get(key.step.0 as usize) else { continue };
            *claimed.steps.entry((key.job, key.step)).or_insert(0) += 1;
            let account = AccountKey { queue: job.spec.queue.clone(), owner: job.owner.clone() };
            let portion = claimed.accounts.entry(account).or_default();
            portion.tasks += 1;
            for seat in &claim.members {
                let Some(node) = state.node(seat.node) else { continue };
                let held = Held::by_member(&spec.resources, seat.gpu_alternative, &node.inventory, &seat.gpus);
                portion.held.add(&held);
                if !spec.preemptible {
                    portion.held_for_good.add(&held);
                }
            }
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
    let job = state.job(key.job)?;
    let spec = job.spec.steps.get(key.step.0 as usize)?;
    let priority = std::cmp::Reverse(i64::from(job.spec.priority) + i64::from(spec.priority));
    let (queue, owner) = (job.spec.queue.clone(), job.owner.clone());
    Some(ReadyGroup { queue, priority, owner, shape: spec.shape().fingerprint() })
}
