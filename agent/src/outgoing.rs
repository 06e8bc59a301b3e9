//! Reports on their way from the reconciler to the link: the newest of each member, so however long there is no session, there are
//! never more than the agent has members.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowyard_model::{AttemptReport, MemberKey};
use tokio::sync::Notify;

/// The reports that wait; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outgoing {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<BTreeMap<MemberKey, AttemptReport>>,
    more: Notify,
}

impl Outgoing {
    /// Puts a report in the place of an earlier one of the same member; never in that of one of a later phase.
    pub(crate) fn put(&self, report: AttemptReport) {
        let mut waiting = self.lock();
        if waiting.get(&report.member).is_none_or(|there| there.phase <= report.phase) {
            waiting.insert(report.member, report);
        }
        drop(waiting);
        self.shared.more.notify_one();
    }

    /// Takes all that wait, once there are any.
    pub(crate) async fn take(&self) -> BTreeMap<MemberKey, AttemptReport> {
        loop {
            let all = std::mem::take(&mut *self.lock());
            if !all.is_empty() {
                return all;
            }
            self.shared.more.notified().await;
        }
    }

    /// Drops all that wait: whoever begins a session says everything anyway.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MemberKey, AttemptReport>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use flowyard_model::{AttemptNumber, Epoch, JobId, Phase, PhaseTimes, Rank, StepIndex, TaskIndex, TaskKey};

    use super::*;

    fn report(task: u32, phase: Phase) -> AttemptReport {
        let task = TaskKey { job: JobId(1), step: StepIndex(0), task: TaskIndex(task) };
        let member = MemberKey { task, attempt: AttemptNumber(1), rank: Rank(0), epoch: Epoch(0), replacement: 0 };
        AttemptReport {
            member,
            phase,
            times: PhaseTimes::NONE,
            end: None,
            checkpoint: None,
            stuck: None,
            saved_at: None,
        }
    }

    #[tokio::test]
    async fn the_newest_of_each_member_waits_and_an_end_is_never_taken_back() {
        let outgoing = Outgoing::default();
        for phase in [Phase::Accepted, Phase::Ended, Phase::Running] {
            outgoing.put(report(0, phase));
        }
        outgoing.put(report(1, Phase::Running));
        let phases: Vec<_> = outgoing.take().await.into_values().map(|report| report.phase).collect();
        assert_eq!(phases, [Phase::Ended, Phase::Running]);
        outgoing.put(report(2, Phase::Accepted));
        outgoing.clear();
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(20), outgoing.take()).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }
}
