//! What there is in a state, in numbers.

use flowyard_model::{ClusterVersion, Epoch, Health, JobOutcome, QueuePath, Revision, Scheduling, TaskCounts, TimeMs};
use flowyard_state::State;

/// What there is in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Its revision.
    pub revision: Revision,
    /// Its time.
    pub time: TimeMs,
    /// What apply may do.
    pub version: ClusterVersion,
    /// Which history it is of.
    pub epoch: Epoch,
    /// Jobs that have not ended.
    pub active: u64,
    /// Remembered jobs that succeeded, failed, and were cancelled.
    pub ended: [u64; 3],
    /// Tasks of remembered jobs, by where they stand.
    pub tasks: [(&'static str, u64); 8],
    /// Nodes that are heard from, silent, and down.
    pub nodes: [u64; 3],
    /// Nodes that take no new work.
    pub closed: u64,
    /// The queues, by path.
    pub queues: Vec<QueueLoad>,
}

/// What is in a queue and below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLoad {
    /// Which.
    pub path: QueuePath,
    /// Jobs that have not ended.
    pub jobs: u64,
    /// Tasks with a live attempt.
    pub active: u64,
}

impl Overview {
    /// Of a state.
    pub fn of(state: &State) -> Self {
        let (mut active, mut ended) = (0, [0; 3]);
        let mut counts = [0_u64; 8];
        for (id, job) in state.outlines() {
            match job.ended.map(|end| end.outcome) {
                None => active += 1,
                Some(JobOutcome::Succeeded) => ended[0] += 1,
                Some(JobOutcome::Failed) => ended[1] += 1,
                Some(JobOutcome::Cancelled) => ended[2] += 1,
            }
            for (_, step) in state.steps(id) {
                let TaskCounts { blocked, ready, waiting, active, succeeded, failed, cancelled, skipped } = step.counts;
                let here = [blocked, ready, waiting, active, succeeded, failed, cancelled, skipped];
                counts.iter_mut().zip(here).for_each(|(sum, count)| *sum += u64::from(count));
            }
        }
        let words = ["blocked", "ready", "waiting", "active", "succeeded", "failed", "cancelled", "skipped"];
        let mut tasks = words.map(|word| (word, 0));
        tasks.iter_mut().zip(counts).for_each(|((_, count), sum)| *count = sum);
        let count = |health| state.nodes().filter(|(_, node)| node.health == health).count() as u64;
        let queue = |path: &QueuePath| {
            let load = state.load(path);
            QueueLoad { path: path.clone(), jobs: load.jobs, active: load.active.into() }
        };
        Self {
            revision: state.revision(),
            time: state.time(),
            version: state.version(),
            epoch: state.epoch(),
            active,
            ended,
            tasks,
            nodes: [Health::Up, Health::Suspect, Health::Down].map(count),
            closed: state.nodes().filter(|(_, node)| node.scheduling == Scheduling::Drained).count() as u64,
            queues: state.queues().map(|it| queue(&it.path)).collect(),
        }
    }
}
