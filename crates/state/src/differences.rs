//! What differs between two states, found by what they do not share: cheap where one came from the other. For whoever follows
//! the state, for tests and for the simulation.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{AccountKey, Claim, JobId, MemberKey, NodeId, Phase, QueuePath, TaskKey};
use imbl::{ordmap, ordset};

use crate::indexes::{ReadyGroup, ready_step};
use crate::state::{State, StepKey};

/// What is otherwise in a state than in one before it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Differences {
    /// Jobs that differ, or a step of theirs, and those that came or went.
    pub jobs: BTreeSet<JobId>,
    /// Touched tasks that differ, came or went.
    pub tasks: BTreeSet<TaskKey>,
    /// Nodes that differ, came or went, of which anything else is wanted, or on which claims came or went.
    pub nodes: BTreeSet<NodeId>,
    /// Queues whose record differs, came or went.
    pub queues: BTreeSet<QueuePath>,
    /// Accounts that differ, came or went.
    pub accounts: BTreeSet<AccountKey>,
    /// Paths that carry something else.
    pub loads: BTreeSet<QueuePath>,
    /// Tasks whose claims differ, came or went.
    pub claims: BTreeSet<TaskKey>,
    /// Groups of ready steps of which another task is ready, or none any more, or of whose steps other ones may be placed.
    pub ready: BTreeSet<ReadyGroup>,
    /// Whether something else holds for all of the cluster.
    pub policy: bool,
    /// Whether placement is told another picture of what work asks for of devices.
    pub mix: bool,
    /// Whether a step became ready that was not.
    pub more_ready: bool,
}

impl State {
    /// How this state differs from one before it.
    pub fn differences(&self, before: &Self) -> Differences {
        let mut found = Differences::default();
        found.jobs.extend(before.jobs.diff(&self.jobs).map(|item| *key(item)));
        found.jobs.extend(self.stills.differ(&before.stills));
        for item in before.steps.diff(&self.steps) {
            let step = *key(item);
            found.jobs.insert(step.0);
            found.ready.extend([before, self].into_iter().filter_map(|state| state.group_of(step)));
        }
        found.queues.extend(before.queues.diff(&self.queues).map(|item| key(item).clone()));
        found.accounts.extend(before.accounts.diff(&self.accounts).map(|item| key(item).clone()));
        found.loads.extend(before.indexes.loads.diff(&self.indexes.loads).map(|item| key(item).clone()));
        for item in before.tasks.diff(&self.tasks) {
            let step: StepKey = *key(item);
            let tasks = |state: &Self| state.tasks.get(&step).cloned().unwrap_or_default();
            let (old, new) = (tasks(before), tasks(self));
            let at = |task: &_| TaskKey { job: step.0, step: step.1, task: *task };
            found.tasks.extend(old.diff(&new).map(|item| at(key(item))));
        }
        found.nodes.extend(before.nodes.diff(&self.nodes).map(|item| *key(item)));
        found.nodes.extend(before.indexes.live.diff(&self.indexes.live).map(|item| live_node(&item)));
        for item in before.claims.diff(&self.claims) {
            let key = *key(item);
            found.claims.insert(key);
            let (was, is) = (before.claim(&key), self.claim(&key));
            let promises = |claim: &Claim| (claim.is_reservation(), claim.members.clone());
            // One that waits for fewer, or for more, keeps of its nodes what it kept.
            if was.map(promises) != is.map(promises) {
                let claims = [was, is].into_iter().flatten();
                found.nodes.extend(claims.flat_map(|claim| &claim.members).map(|seat| seat.node));
            }
        }
        found.nodes.extend(before.indexes.awaited_on.diff(&self.indexes.awaited_on).map(|item| *key(item)));
        found.nodes.extend(before.indexes.reserved.diff(&self.indexes.reserved).map(|item| *key(item)));
        for key in &found.tasks {
            let Some(attempt) = self.task(*key).and_then(|task| task.attempts.last()) else { continue };
            let known = before.attempt(*key, attempt.number);
            let told = known.map(|attempt| (attempt.desired, attempt.generation()));
            let other = told != Some((attempt.desired, attempt.generation()));
            let was = |rank: usize| known.and_then(|attempt| attempt.members.get(rank)?.leaving);
            let live = attempt.members.iter().enumerate().filter(|(_, member)| member.phase != Phase::Ended);
            let wanted = live.filter(|(rank, member)| other || member.leaving != was(*rank));
            found.nodes.extend(wanted.map(|(_, member)| member.node));
        }
        for item in before.indexes.ready.diff(&self.indexes.ready) {
            found.more_ready |= matches!(item, ordset::DiffItem::Add(_));
            let (ordset::DiffItem::Add(step) | ordset::DiffItem::Remove(step)) = item;
            found.ready.insert(step.group());
        }
        let (was, is) = (&before.indexes.starting, &self.indexes.starting);
        found.nodes.extend(was.by_node.diff(&is.by_node).map(|item| *key(item)));
        for item in was.by_job.diff(&is.by_job) {
            let job = *key(item);
            let groups =
                |state: &Self| state.steps(job).filter_map(|(step, _)| state.group_of((job, step))).collect::<Vec<_>>();
            found.ready.extend([before, self].into_iter().flat_map(groups));
        }
        for item in before.indexes.beside.own.diff(&self.indexes.beside.own) {
            let (job, step, _) = *key(item);
            found.ready.extend([before, self].into_iter().filter_map(|state| state.group_of((job, step))));
        }
        found.policy = before.policy != self.policy;
        found.mix = !Arc::ptr_eq(&before.mix, &self.mix) && !before.mix.tells_as(&self.mix);
        found
    }

    /// The group of a step, if it is in one now.
    fn group_of(&self, key: StepKey) -> Option<ReadyGroup> {
        let step = ready_step(self.outline(key.0)?, key);
        self.indexes.ready.contains(&step).then(|| step.group())
    }
}

fn key<'a, K, V>(item: ordmap::DiffItem<'a, 'a, K, V>) -> &'a K {
    match item {
        ordmap::DiffItem::Add(key, _) | ordmap::DiffItem::Remove(key, _) => key,
        ordmap::DiffItem::Update { new: (key, _), .. } => key,
    }
}

fn live_node(item: &ordset::DiffItem<'_, '_, (NodeId, MemberKey)>) -> NodeId {
    let (ordset::DiffItem::Add((node, _)) | ordset::DiffItem::Remove((node, _))) = item;
    *node
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Command, Entry, Queue, Revision, StepIndex, Task, TaskIndex, TaskState, TimeMs};

    use super::*;
    use crate::apply;

    fn task(state: TaskState) -> Arc<Task> {
        Arc::new(Task { state, attempts: Vec::new(), spent: 0, unblamed: 0 })
    }

    #[test]
    fn what_changed_came_or_went_is_found_and_nothing_else() {
        let mut before = State::new();
        for step in 0..40 {
            let tasks = (0..40).map(|index| (TaskIndex(index), task(TaskState::Ready))).collect();
            before.tasks.insert((JobId(u64::from(step / 4)), StepIndex(step % 4)), tasks);
        }
        let mut now = before.clone();
        assert_eq!(now.differences(&before), Differences::default());
        let changed = now.tasks.get_mut(&(JobId(3), StepIndex(1))).expect("it is there");
        changed.insert(TaskIndex(7), task(TaskState::Active));
        changed.remove(&TaskIndex(9));
        now.tasks.remove(&(JobId(8), StepIndex(3)));
        let found = now.differences(&before);
        assert_eq!((found.jobs.len(), found.nodes.len(), found.more_ready), (0, 0, false));
        let of_three: Vec<_> = found.tasks.iter().filter(|key| key.job == JobId(3)).map(|key| key.task.0).collect();
        assert_eq!((of_three, found.tasks.len()), (vec![7, 9], 42));
    }

    #[test]
    fn an_entry_that_touches_a_queue_alone_makes_a_difference_there_alone() {
        let before = State::new();
        let mut now = before.clone();
        let queue = Queue::new("other".parse().expect("it is a path"));
        let queues = BTreeSet::from([queue.path.clone()]);
        for (index, command) in [(1, Command::Tick), (2, Command::PutQueue(queue.into()))] {
            apply(&mut now, Entry { index: Revision(index), time: TimeMs(1), command });
            let expected = if index == 1 { BTreeSet::new() } else { queues.clone() };
            assert_eq!(now.differences(&before), Differences { queues: expected, ..Differences::default() });
        }
    }
}
