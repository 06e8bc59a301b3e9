//! What live members hold, counted for the queue of their job and for every queue above it, and for its owner.
//!
//! What a member holds follows from its record and the inventory that its node has now. An inventory is changed only while what
//! its members hold is given back and taken again, so that what was taken is given back exactly.

use flowyard_model::{ClusterVersion, Column, GpuClass, Held, Member, MemberKey, Queue, QueuePath, Resources, TaskKey};

use crate::indexes::Load;
use crate::ledger;
use crate::state::State;

/// What a member holds as long as it lives.
pub(crate) fn held_by(state: &State, task: TaskKey, member: &Member) -> Held {
    let (Some(spec), Some(node)) = (state.step_spec(task.job, task.step), state.node(member.node)) else {
        return Held::NONE;
    };
    Held::by_member(&spec.resources, member.gpu_alternative, &node.inventory, &member.gpus)
}

/// What a live member holds.
pub(crate) fn held_by_live(state: &State, key: MemberKey) -> Held {
    let attempt = state.attempt(key.task, key.attempt).expect("a live member has an attempt");
    held_by(state, key.task, &attempt.members[key.rank.0 as usize])
}

/// A task holds this as well; `leaves` if its attempt was evicted.
pub(crate) fn take(state: &mut State, key: TaskKey, held: &Held, leaves: bool) {
    let job = state.jobs.get(&key.job).expect("what holds something has a job that was touched");
    let for_good = !job.spec.steps[key.step.0 as usize].preemptible;
    state.indexes.load_changed(&job.spec.queue, |load, _| load.take(held, for_good, leaves));
    ledger::take(state, key.job, held);
}

/// A task holds this no more.
pub(crate) fn give_back(state: &mut State, key: TaskKey, held: &Held, leaves: bool) {
    let job = state.jobs.get(&key.job).expect("what holds something has a job that was touched");
    let for_good = !job.spec.steps[key.step.0 as usize].preemptible;
    state.indexes.load_changed(&job.spec.queue, |load, _| load.give_back(held, for_good, leaves));
    ledger::give_back(state, key.job, held);
}

/// What is said at submission of a step that must not be evicted, where nothing on the path of its queue keeps what it needs
/// from eviction; `None` if it may be.
pub(crate) fn not_kept(state: &State, queue: &QueuePath, wanted: &Resources) -> Option<String> {
    (0..wanted.gpus.len().max(1)).find_map(|alternative| {
        let need = Held::by_request(wanted, alternative as u32);
        let what = match state.uncovered(queue, &need)? {
            // Any model is asked for.
            Column::Gpu(GpuClass::Model(model)) if model.is_empty() => Column::GPUS.field(),
            column => column.field(),
        };
        Some(format!(
            "neither queue `{queue}` nor one above it keeps any {what} from eviction: name it in the `no_preempt` of one of \
             them, or leave `preemptible` out"
        ))
    })
}

/// What a bound of a queue is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure<'a> {
    /// Active tasks.
    Tasks,
    /// What is held of a resource.
    Limit(Column<'a>),
    /// What is held of a resource beyond what is promised of it.
    Borrow(Column<'a>),
    /// What is held of a resource by what must not be evicted.
    NoPreempt(Column<'a>),
}

/// When it is looked at what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Now.
    Now,
    /// Once whoever leaves has left, and claims are taken for which they do.
    Left,
    /// Once in addition all have ended that are waited for, and all claims are taken.
    Then,
}

impl When {
    fn tasks(self, load: &Load) -> u64 {
        let left = || load.active - load.leaving.tasks + load.claimed.tasks;
        u64::from(match self {
            Self::Now => load.active,
            Self::Left => left(),
            Self::Then => left() - load.awaited.tasks + load.reserved.tasks,
        })
    }

    pub(crate) fn held(self, load: &Load, column: Column<'_>) -> u64 {
        let now = load.held.get(column);
        let left = || now.wrapping_sub(load.leaving.held.get(column)).wrapping_add(load.claimed.held.get(column));
        match self {
            Self::Now => now,
            Self::Left => left(),
            Self::Then => {
                left().wrapping_sub(load.awaited.held.get(column)).wrapping_add(load.reserved.held.get(column))
            }
        }
    }

    fn held_for_good(self, load: &Load, column: Column<'_>) -> u64 {
        let now = load.held_for_good.get(column);
        let left = || now.wrapping_add(load.claimed.held_for_good.get(column));
        match self {
            Self::Now => now,
            Self::Left => left(),
            Self::Then => {
                let kept = left().wrapping_sub(load.awaited.held_for_good.get(column));
                kept.wrapping_add(load.reserved.held_for_good.get(column))
            }
        }
    }
}

/// A bound that keeps one more task from a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached<'a> {
    /// Whose bound it is: the queue itself, or one above it; `None` if there is no more of a token in the cluster.
    pub queue: Option<&'a Queue>,
    /// On what.
    pub measure: Measure<'a>,
    /// How much there is now.
    pub held: u64,
    /// How much more there would be.
    pub need: u64,
    /// How much there may be.
    pub most: u64,
}

impl State {
    /// The uppermost bound, of a queue and those above it, that keeps one more task from being active and holding this; none if
    /// it may. Of what the task does not need, a queue may hold more than it may; nothing is taken from it for that. What is
    /// claimed counts as held, and what leaves does not count where that is more.
    ///
    /// Before cluster version 2 a queue bounds its own tasks only.
    pub fn bound_reached<'a>(&'a self, queue: &QueuePath, need: &'a Held, preemptible: bool) -> Option<Reached<'a>> {
        self.bound_now(queue, need, preemptible).or_else(|| self.bound_then(queue, need, preemptible))
    }

    /// As [`State::bound_reached`], of what is held now.
    pub(crate) fn bound_now<'a>(&'a self, queue: &QueuePath, need: &'a Held, preemptible: bool) -> Option<Reached<'a>> {
        if self.version() < ClusterVersion::ACCESS {
            let queue = self.queues.get(queue)?;
            let (held, most) = (u64::from(self.load(&queue.path).own_active), u64::from(queue.max_active?));
            return (held >= most).then_some(Reached {
                queue: Some(queue),
                measure: Measure::Tasks,
                held,
                need: 1,
                most,
            });
        }
        self.bound_at(When::Now, queue, need, preemptible)
    }

    /// As [`State::bound_reached`], of what will be held once whoever leaves has left, and claims are taken.
    pub(crate) fn bound_then<'a>(
        &'a self,
        queue: &QueuePath,
        need: &'a Held,
        preemptible: bool,
    ) -> Option<Reached<'a>> {
        if self.claims.is_empty() && self.indexes.leaving.is_empty() {
            return None;
        }
        let left = self.bound_at(When::Left, queue, need, preemptible);
        left.or_else(|| self.bound_at(When::Then, queue, need, preemptible))
    }

    /// As [`State::bound_reached`], of what will be held once whoever leaves has left, and claims are taken for which they do.
    pub(crate) fn bound_left<'a>(
        &'a self,
        queue: &QueuePath,
        need: &'a Held,
        preemptible: bool,
    ) -> Option<Reached<'a>> {
        self.bound_at(When::Left, queue, need, preemptible)
    }

    /// As [`State::bound_reached`], of what will be held once all have ended that are waited for as well, and all claims are taken.
    pub(crate) fn bound_in_the_end<'a>(
        &'a self,
        queue: &QueuePath,
        need: &'a Held,
        preemptible: bool,
    ) -> Option<Reached<'a>> {
        self.bound_at(When::Then, queue, need, preemptible)
    }

    fn bound_at<'a>(&'a self, when: When, queue: &QueuePath, need: &'a Held, preemptible: bool) -> Option<Reached<'a>> {
        let above = self.shared_reached(when, need);
        above.or_else(|| queue.levels().find_map(|level| self.level_reached(when, level, need, preemptible))).or_else(
            || {
                let column = self.uncovered(queue, need).filter(|_| !preemptible)?;
                let (queue, measure) = (self.queues.get(queue)?, Measure::NoPreempt(column));
                Some(Reached { queue: Some(queue), measure, held: 0, need: need.get(column), most: 0 })
            },
        )
    }

    /// What is needed of a resource that no queue on the path keeps from eviction.
    fn uncovered<'a>(&self, queue: &QueuePath, need: &'a Held) -> Option<Column<'a>> {
        let kept = |column| {
            let named = |queue: &Queue| {
                let any = matches!(column, Column::Gpu(_)) && queue.no_preempt.get(Column::GPUS).is_some();
                any || queue.no_preempt.get(column).is_some()
            };
            queue.levels().any(|level| self.queues.get(level).is_some_and(|queue| named(queue)))
        };
        need.columns().find(|(column, amount)| *amount > 0 && !kept(*column)).map(|(column, _)| column)
    }

    fn level_reached(&self, when: When, level: &str, need: &Held, preemptible: bool) -> Option<Reached<'_>> {
        let queue = self.queues.get(level)?;
        let load = self.load_at(level);
        let reached = |measure, held: u64, need: u64, most: u64| {
            (held.saturating_add(need) > most).then_some(Reached { queue: Some(queue), measure, held, need, most })
        };
        let tasks = queue.max_active.and_then(|most| reached(Measure::Tasks, when.tasks(load), 1, most.into()));
        let needed = |(column, _): &(Column<'_>, u64)| need.get(*column) > 0;
        let mut limits = queue.limit.named().filter(needed);
        let mut borrows = queue.borrow.named().filter(needed);
        let mut kept = queue.no_preempt.named().filter(needed).filter(|_| !preemptible);
        tasks
            .or_else(|| {
                limits.find_map(|(column, most)| {
                    reached(Measure::Limit(column), when.held(load, column), need.get(column), most)
                })
            })
            .or_else(|| {
                borrows.find_map(|(column, most)| {
                    let most = most.saturating_add(queue.reserve.promised(column));
                    reached(Measure::Borrow(column), when.held(load, column), need.get(column), most)
                })
            })
            .or_else(|| {
                kept.find_map(|(column, most)| {
                    reached(Measure::NoPreempt(column), when.held_for_good(load, column), need.get(column), most)
                })
            })
    }
}
