//! What must always hold of gangs that lost members.

use flowyard_model::{Attempt, AttemptDesired, AttemptOutcome, ClusterVersion, Phase, Rank, Task, TaskKey};

use crate::check::{Held, hold};
use crate::state::State;

/// Each rank of a gang that is to run lives once, is done, or is open; and whoever had it before has ended.
pub(crate) fn check(state: &State, key: TaskKey, task: &Task) -> Held {
    let place = || format!("task {key:?}");
    let spec = state.step_spec(key.job, key.step);
    for attempt in &task.attempts {
        let takes = spec.is_some_and(|spec| spec.takes(attempt.members.len()));
        hold(takes, "an attempt has a member for each rank", place)?;
        hold(!attempt.is_vacant(Rank(0)), "a gang has its first member", place)?;
        let few = attempt.members.len() - attempt.surgery.as_ref().map_or(0, |surgery| surgery.vacant.len());
        let enough = spec.is_some_and(|spec| few >= spec.least_size() as usize);
        hold(enough, "a gang goes on with as many as it needs", place)?;
        check_open(attempt, &place)?;
        check_replaced(attempt, &place)?;
        let newer = attempt.surgery.is_some() || attempt.members.iter().any(|member| member.leaving.is_some());
        let versioned = !newer || state.version() >= ClusterVersion::ACCESS;
        hold(versioned, "gangs lose members from their cluster version on", place)?;
    }
    let last = task.attempts.len().saturating_sub(1);
    let past = task.attempts.iter().take(last).all(|attempt| attempt.repair().is_none());
    hold(past, "only a live attempt is repaired", place)
}

fn check_open(attempt: &Attempt, place: &impl Fn() -> String) -> Held {
    let live = attempt.members.iter().any(|member| member.phase != Phase::Ended);
    let runs = live && attempt.desired == AttemptDesired::Run;
    if let Some(repair) = attempt.repair() {
        hold(!repair.open.is_empty(), "what is repaired has an open rank", place)?;
        hold(runs, "only what is to run is repaired", place)?;
        let inside = repair.open.keys().all(|rank| (rank.0 as usize) < attempt.members.len());
        hold(inside, "an open rank is one of the gang's", place)?;
    }
    let open = |rank: u32| attempt.repair().is_some_and(|repair| repair.open.contains_key(&Rank(rank)));
    for (rank, member) in (0..).zip(&attempt.members) {
        let lost = member.end.as_ref().is_some_and(|end| end.outcome != AttemptOutcome::Succeeded);
        let gone = attempt.is_vacant(Rank(rank));
        hold(!gone || (lost && !open(rank)), "a vacant rank is nobody's", place)?;
        hold(
            !runs || lost == (open(rank) || gone),
            "a gang that is to run has somebody for each rank that is not open",
            place,
        )?;
    }
    Ok(())
}

fn check_replaced(attempt: &Attempt, place: &impl Fn() -> String) -> Held {
    let replaced = attempt.surgery.as_ref().map_or(&[][..], |surgery| &surgery.replaced);
    for (rank, member) in (0..).zip(&attempt.members) {
        let before = replaced.iter().filter(|it| it.rank == Rank(rank)).map(|it| it.member.replacement);
        let counted = before.eq(0..member.replacement);
        hold(counted, "who has a rank follows those that had it", place)?;
    }
    hold(replaced.iter().all(|it| it.member.phase == Phase::Ended), "whoever was replaced has ended", place)?;
    let vacant = attempt.surgery.as_ref().map_or(0, |surgery| surgery.vacant.len());
    let (generation, most) = (attempt.generation() as usize, replaced.len() + vacant);
    hold((most == 0) == (generation == 0), "a generation is begun by those who come or go", place)?;
    hold(generation <= most, "a generation is begun by those who come or go", place)
}
