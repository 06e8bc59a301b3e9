//! What may be starting at one time, of one job.
//!
//! How many tasks of each step there is room for is said before a round; that the steps of a job do not come to more together, after it.
//! What is left out then is left out because others of its job were placed, so that there is a next round, which knows of them.

use std::collections::BTreeMap;

use flowyard_model::{JobId, Placement, StepSpec, Throttle};
use flowyard_state::State;

/// How many tasks of a step may start now, as far as what is starting of its job goes.
pub(crate) fn tasks(state: &State, job: JobId, spec: &StepSpec) -> u32 {
    let Some(most) = state.policy().throttle.per_job else { return u32::MAX };
    match state.starting_of(job) {
        0 => (most / spec.size.max(1)).max(1),
        starting => most.saturating_sub(starting) / spec.size.max(1),
    }
}

/// The placements without those beyond what may be starting of a job.
pub(crate) fn kept(state: &State, mut placements: Vec<Placement>) -> Vec<Placement> {
    let Some(most) = state.policy().throttle.per_job else { return placements };
    let mut starting: BTreeMap<JobId, u32> = BTreeMap::new();
    placements.retain(|placement| {
        let job = placement.task.job;
        let there = starting.entry(job).or_insert_with(|| state.starting_of(job));
        let members = placement.members.len() as u32;
        let may = members <= Throttle::room(Some(most), *there);
        *there += if may { members } else { 0 };
        may
    });
    placements
}
