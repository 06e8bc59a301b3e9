//! A state in which a step waits for nothing, for whoever asks what would be if other tasks stood in its place.

use flowyard_model::{Changed, JobId, StepIndex, TaskIndex, TaskKey};

use crate::claims;
use crate::state::{State, StepKey};
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

    /// A copy that knows of earlier runs, and of what work asks for, what another state knows: what is only supposed to have run
    /// teaches nothing.
    ///
    /// It is for questions and for nothing else, as [`State::withdrawn`].
    #[must_use]
    pub fn as_learned_in(mut self, other: &Self) -> Self {
        self.durations = other.durations.clone();
        self.indexes.durations = other.indexes.durations.clone();
        self.mix = other.mix.clone();
        self
    }

    /// Counts what lives of one step as of another, too: what waits of it may stand in another job.
    ///
    /// It is for questions and for nothing else, as [`State::withdrawn`].
    pub fn count_as(&mut self, from: StepKey, to: StepKey) {
        for (node, count) in self.own_of(from) {
            self.indexes.beside.own.insert((to.0, to.1, node), count);
        }
    }
}
