//! Who waits for others to end may have a right to have some of them leave, by now or all along: those whose eviction is not due yet are
//! what it waits for until then. So it keeps its reservation as long as it finds nobody to evict, and gives it up for the claim once it does.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{AttemptNumber, TaskKey};
use flowyard_placement::{GroupFacts, GroupKey, ShapeIndex};

use crate::claimed;
use crate::scheduler::Known;

/// Tasks that have a reservation, by the groups in which they would wait without one, the oldest first.
pub(crate) type Again = BTreeMap<GroupKey, Vec<(TaskKey, AttemptNumber)>>;

impl Known {
    /// Who has a reservation, and was not placed by it in this round.
    pub(crate) fn wait_again(&mut self) -> Again {
        let mut again = Again::new();
        for (task, claim) in self.ahead.claims().filter(|(_, claim)| claim.is_reservation()) {
            let Some((group, shape)) = claimed::group(&self.ahead, *task).zip(self.reserved.get(task).copied()) else {
                continue;
            };
            let Some(queue) = self.tree.number(group.queue.as_str()) else { continue };
            let key = GroupKey { queue, priority: group.priority.0, user: self.words.user(&group.owner), shape };
            again.entry(key).or_default().push((*task, claim.attempt));
        }
        again
    }

    /// They wait beside what waits. Nobody takes it back: the queues are put back as they were.
    pub(crate) fn tell_again(&mut self, again: &Again) {
        let is_elastic = |key: &&GroupKey| self.shapes.get(key.shape).spec().placing.min_size.is_some();
        let mut alone: BTreeSet<ShapeIndex> = again.keys().filter(is_elastic).map(|key| key.shape).collect();
        if !alone.is_empty() {
            let waiting: BTreeSet<ShapeIndex> = self.by_key.keys().map(|key| key.shape).collect();
            alone.retain(|shape| !waiting.contains(shape));
        }
        // Of a gang of no fixed size the least is promised, as it is reserved; where others are alike they have said what they ask for now.
        for shape in alone {
            self.resize(shape, self.shapes.get(shape).spec().least_size());
        }
        for (key, tasks) in again {
            let (first, needs) = (tasks[0].0, self.shapes.get(key.shape).needs.clone());
            let facts =
                GroupFacts { oldest: (first.job.0, first.step.0), count: tasks.len() as u32, more: false, needs };
            self.queues.put_before(*key, &facts);
        }
    }

    /// So many tasks of each group, those first that have a reservation; of the others those after so many whose turn it was before.
    pub(crate) fn claimants(
        &self,
        (turns, again): (&BTreeMap<GroupKey, usize>, &Again),
        wanted: &BTreeMap<GroupKey, usize>,
    ) -> BTreeMap<GroupKey, std::vec::IntoIter<(TaskKey, AttemptNumber)>> {
        let of_key = |(key, count): (&GroupKey, &usize)| {
            let mut tasks: Vec<_> = again.get(key).into_iter().flatten().copied().take(*count).collect();
            let more = BTreeMap::from([(*key, count - tasks.len())]);
            if self.by_key.contains_key(key) {
                tasks.extend(self.next_tasks(turns, &more).into_values().flatten());
            }
            (*key, tasks.into_iter())
        };
        wanted.iter().map(of_key).collect()
    }
}
