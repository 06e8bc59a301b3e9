//! A state in which a step waits for nothing, for whoever asks what would be if other tasks stood in its place.

use flowyard_model::{Changed, JobId, StepIndex, TaskIndex, TaskKey};

use crate::claims;
use crate::state::State;
use crate::step::edit_step;

impl State {
    /// A copy in which no task of a step waits to be placed. What is otherwise of it is as before: what runs, runs.
    ///
    /// It is for questions and for nothing else: no log leads to it, and [`check_all`](crate::check_all) would object.
    #[must_use]
    pub fn withdrawn(&self, job: JobId, step: StepIndex) -> Self {
        let mut copy = self.clone();
        let all = |task| TaskKey { job, step, task: TaskIndex(task) };
        let claims: Vec<_> = copy.claims.range(all(0)..=all(u32::MAX)).map(|(key, _)| *key).collect();
        claims.into_iter().for_each(|key| claims::fall(&mut copy, &mut Changed::nothing(), key));
        if copy.step(job, step).is_some() {
            edit_step(&mut copy, (job, step), |step| {
                let ready = step.ready.take();
                step.blocked.absorb(ready);
                step.counts.blocked += step.counts.ready;
                step.counts.ready = 0;
            });
        }
        copy
    }
}
