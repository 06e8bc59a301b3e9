//! What a placement adds never takes a queue, with all below it, beyond what it may hold. (A bound that is lowered below what is
//! held stops nothing; then nothing is added.)

use std::collections::BTreeSet;

use flowyard_model::{ClusterVersion, Command, GpuClass, Queue, TaskKey};
use flowyard_state::State;

use super::{Checker, Seen, require};

pub(super) struct NoQueueIsTakenOverItsBounds;

impl Checker for NoQueueIsTakenOverItsBounds {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let is_plan = matches!(seen.entry.command, Command::CommitPlan(_));
        if !is_plan || seen.state.version() < ClusterVersion::ACCESS {
            return Ok(());
        }
        for queue in seen.state.queues() {
            let (before, after) = (held(seen.before, queue), held(seen.state, queue));
            let most = most(queue);
            let kept = (0..3).all(|at| after[at] <= before[at] || most[at].is_none_or(|most| after[at] <= most));
            require(kept, || format!("queue {}: {before:?} became {after:?}, and {most:?} is the most", queue.path))?;
        }
        Ok(())
    }
}

/// Active tasks, CPUs and devices of a queue and all below it.
fn held(state: &State, queue: &Queue) -> [u64; 3] {
    let (mut tasks, mut cpu, mut gpus) = (BTreeSet::<TaskKey>::new(), 0, 0);
    for (id, _) in state.nodes() {
        for (key, _, member) in state.live_members(id) {
            let Some(job) = state.job(key.task.job).filter(|job| queue.path.covers(&job.spec.queue)) else { continue };
            let wanted = &job.spec.steps[key.task.step.0 as usize].resources;
            let share = wanted.gpus.get(member.gpu_alternative as usize).map_or(0, |request| request.share_milli);
            tasks.insert(key.task);
            cpu += wanted.cpu_milli;
            gpus += u64::from(share) * member.gpus.len() as u64;
        }
    }
    [tasks.len() as u64, cpu, gpus]
}

fn most(queue: &Queue) -> [Option<u64>; 3] {
    let gpus = |amounts: &flowyard_model::QueueAmounts| amounts.gpu_milli.get(&GpuClass::Any).copied();
    let borrowed = |limit: Option<u64>, borrow: Option<u64>, reserve: Option<u64>| {
        let most = borrow.map(|borrow| borrow + reserve.unwrap_or(0));
        limit.into_iter().chain(most).min()
    };
    let (limit, borrow, reserve) = (&queue.limit, &queue.borrow, &queue.reserve);
    [
        queue.max_active.map(u64::from),
        borrowed(limit.cpu_milli, borrow.cpu_milli, reserve.cpu_milli),
        borrowed(gpus(limit), gpus(borrow), gpus(reserve)),
    ]
}
