//! How long steps took, learned where attempts succeed; and when what runs will have ended, by what is known.
//!
//! Invariant: as many steps are remembered as may be, and of more those that were not learned from longest are forgotten.

use std::sync::Arc;

use flowyard_model::{
    Attempt, AttemptDesired, ClusterVersion, DurationKey, Durations, Job, JobId, Phase, StepIndex, StepSpec, TaskKey,
    TaskState, TimeMs, limits,
};

use crate::check::{Held, hold};
use crate::state::State;
use crate::surgery;

/// Of a hundred runs so many are over by when one is expected to be.
const PERCENT: u32 = 90;
/// When something was learned from last is told by the hour: so hardly any run moves it in the order in which things are forgotten.
const HOUR_MS: u64 = 3_600_000;

/// Why it is known how long something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// It is stopped then: its `timeout` and the time that it has to stop.
    Bound,
    /// It is `expected` to.
    Declared,
    /// So many earlier runs.
    Runs(u32),
}

/// A task succeeded: how long its last attempt ran is learned.
pub(crate) fn learn(state: &mut State, key: TaskKey) {
    if state.version() < ClusterVersion::ACCESS {
        return;
    }
    let (Some(job), Some(task)) = (state.job(key.job), state.task(key)) else { return };
    let (Some(attempt), Some(spec)) = (task.attempts.last(), job.spec.steps.get(key.step.0 as usize)) else { return };
    let now = state.time();
    let (key, ms) = (key_of(&job, spec), now.0.saturating_sub(began(attempt, now).0));
    remember(state, key, ms);
}

fn remember(state: &mut State, key: DurationKey, ms: u64) {
    let at = TimeMs(state.time().0 / HOUR_MS * HOUR_MS);
    let mut known = state.durations.get(&key).map_or_else(Durations::default, |known| Durations::clone(known));
    if known.counts.is_empty() || known.last_at != at {
        state.indexes.durations.remove(&(known.last_at, key.clone()));
        state.indexes.durations.insert((at, key.clone()));
    }
    known.learn(ms);
    known.last_at = at;
    state.durations.insert(key, Arc::new(known));
    if state.durations.len() > limits::DURATIONS
        && let Some((_, oldest)) = state.indexes.durations.remove_min()
    {
        state.durations.remove(&oldest);
    }
}

fn key_of(job: &Job, spec: &StepSpec) -> DurationKey {
    DurationKey { owner: job.owner.clone(), flow: job.spec.name.clone(), step: spec.name.clone() }
}

/// Since when an attempt runs: the last of its ranks that ever did, whoever has them now, or since it was placed.
fn began(attempt: &Attempt, now: TimeMs) -> TimeMs {
    believed(surgery::first_ran(attempt).flatten().max(), attempt, now)
}

/// Since when all its present members run that do: each has its declared bound for itself.
fn began_last(attempt: &Attempt, now: TimeMs) -> TimeMs {
    believed(attempt.members.iter().filter_map(|member| member.times.running).max(), attempt, now)
}

/// Agents' clocks are not believed where they say what cannot be.
fn believed(began: Option<TimeMs>, attempt: &Attempt, now: TimeMs) -> TimeMs {
    began.filter(|began| (attempt.placed_at..=now).contains(began)).unwrap_or(attempt.placed_at)
}

/// What is remembered is sound, of as many steps as may be, and of no time to come.
pub(crate) fn check(state: &State) -> Held {
    let place = || "durations".to_owned();
    let versioned = state.durations.is_empty() || state.version() >= ClusterVersion::ACCESS;
    hold(versioned, "durations are kept from their cluster version on", place)?;
    hold(state.durations.len() <= limits::DURATIONS, "only so many durations are kept", place)?;
    for (key, known) in &state.durations {
        let sound = known.is_sound() && known.last_at <= state.time();
        hold(sound, "a duration is counted as it is learned", || format!("{key:?}"))?;
    }
    Ok(())
}

impl State {
    /// How long a new attempt of a step takes at most, as far as that is known: what is declared as its bound goes before what is expected of
    /// it, and that before what was learned.
    pub fn lasts(&self, job: JobId, step: StepIndex) -> Option<(u64, Basis)> {
        let job = self.job(job)?;
        let spec = job.spec.steps.get(step.0 as usize)?;
        if let Some(timeout) = spec.timeout_ms {
            return Some((timeout.saturating_add(spec.kill_grace_ms), Basis::Bound));
        }
        if let Some(expected) = spec.expected_ms {
            return Some((expected, Basis::Declared));
        }
        let known = self.durations.get(&key_of(&job, spec))?;
        Some((known.within(PERCENT)?, Basis::Runs(known.runs())))
    }

    /// When the live attempt of a task has to have ended, by its declared bound and the time it has to stop; nothing if it need not. What
    /// fetching takes is not known, and counted once it runs.
    pub fn has_to_end_by(&self, key: TaskKey) -> Option<TimeMs> {
        let (at, basis) = self.ends_by(key)?;
        (basis == Basis::Bound).then_some(at)
    }

    /// When the live attempt of a task will have ended, as far as that is known, and why.
    pub fn ends_by(&self, key: TaskKey) -> Option<(TimeMs, Basis)> {
        let attempt = self.task(key).filter(|task| task.state == TaskState::Active)?.attempts.last()?;
        attempt.members.iter().find(|member| member.phase != Phase::Ended)?;
        if attempt.desired != AttemptDesired::Run {
            let spec = self.step_spec(key.job, key.step)?;
            return Some((self.time().after(spec.kill_grace_ms), Basis::Bound));
        }
        let (lasts, basis) = self.lasts(key.job, key.step)?;
        let began = if basis == Basis::Bound { began_last } else { began };
        Some((began(attempt, self.time()).after(lasts), basis))
    }

    /// How long steps took, by whose they are.
    pub fn durations(&self) -> impl Iterator<Item = (&DurationKey, &Durations)> {
        self.durations.iter().map(|(key, known)| (key, &**known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indexes::Indexes;

    #[test]
    fn of_more_steps_than_may_be_that_is_forgotten_which_was_not_learned_from_longest() {
        let mut state = State::new();
        let key = |at: usize| DurationKey {
            owner: format!("{at}"),
            flow: "f".parse().expect("it is a name"),
            step: "s".parse().expect("it is a name"),
        };
        (0..limits::DURATIONS).for_each(|at| remember(&mut state, key(at), 1));
        state.meta.time = TimeMs(HOUR_MS);
        remember(&mut state, key(0), 1);
        remember(&mut state, key(limits::DURATIONS), 1);
        assert_eq!(state.durations.len(), limits::DURATIONS);
        assert!(state.durations.contains_key(&key(0)) && !state.durations.contains_key(&key(1)));
        assert_eq!(state.indexes.durations, Indexes::rebuild(&state).durations);
    }
}
