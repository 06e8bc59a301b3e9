//! Each plan of a history made again, from the state it was based on, the plans that were under way, its seed and its bound.
//!
//! A scheduler remembers nothing that makes a difference, so one is kept for each placer and follows; where the result is another
//! one, a new scheduler is asked before the plan counts as different.

use std::collections::BTreeMap;

use flowyard_model::{Command, Entry, Plan, Revision, TimeMs};
use flowyard_placement::PLACER_VERSION;
use flowyard_scheduling::{Bound, Proposal, Scheduler};
use flowyard_state::{State, apply};

use crate::past::History;
use crate::replay::{ReplayError, replay};

/// Schedulers that are kept: one for each placer, of which the newest ones go on.
const KEPT: usize = 4;

/// What came of making plans again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Derived {
    /// Plans of the history.
    pub plans: u64,
    /// Made again, and the same.
    pub equal: u64,
    /// Made again, and not the same.
    pub different: Vec<OtherPlan>,
    /// Made by another version of the solver.
    pub other_version: u64,
    /// Made by a release, or below a cluster version, that does not note what a plan is made from.
    pub unnoted: u64,
    /// One of the plans that were under way when it was made never came into the log.
    pub without_predecessor: u64,
    /// Made from a state before the base.
    pub before_base: u64,
    /// Its round ended because its steps were used up; where that is depends on what was remembered.
    pub cut_off: u64,
}

/// A plan that is another one when it is made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherPlan {
    /// Its entry.
    pub index: Revision,
    /// Tasks that it places.
    pub placements: u64,
    /// Tasks that are placed now.
    pub placements_now: u64,
}

/// All plans that were made at one time.
struct Round<'h> {
    seed: u64,
    bound: Bound,
    /// The time it reckoned with, if it looked for whom to evict.
    at: Option<TimeMs>,
    under_way: Option<Vec<&'h Plan>>,
    parts: Vec<(Revision, u32, &'h Plan)>,
}

/// Makes each plan again, up to an index or the end.
///
/// # Errors
/// [`ReplayError`], as when the history is only applied.
pub fn derive(history: &History, until: Option<Revision>) -> Result<Derived, ReplayError> {
    let mut derived = Derived::default();
    let mut rounds = sorted(history, until, &mut derived);
    let mut schedulers: BTreeMap<u64, Scheduler> = BTreeMap::new();
    let mut look = |state: &State| {
        for round in rounds.remove(&state.revision()).unwrap_or_default() {
            again(state, &round, &mut schedulers, &mut derived);
        }
    };
    let last = replay(history, until, |state, _| look(state))?;
    look(&last.state);
    Ok(derived)
}

/// The rounds by the revision that they were based on.
fn sorted<'h>(
    history: &'h History,
    until: Option<Revision>,
    derived: &mut Derived,
) -> BTreeMap<Revision, Vec<Round<'h>>> {
    let until = until.unwrap_or(history.last);
    let mut numbered: BTreeMap<(u64, u64), Vec<(Revision, &Plan)>> = BTreeMap::new();
    for (index, plan) in plans(&history.entries) {
        if let Some(from) = &plan.made_from {
            numbered.entry((plan.seed, from.number)).or_default().push((index, plan));
        }
    }
    let mut rounds: BTreeMap<(Revision, u64, u64), Round<'h>> = BTreeMap::new();
    for (index, plan) in plans(&history.entries).filter(|(index, _)| *index <= until) {
        derived.plans += 1;
        match &plan.made_from {
            _ if plan.placer_version != PLACER_VERSION => derived.other_version += 1,
            None => derived.unnoted += 1,
            Some(_) if plan.based_on < history.base.revision() => derived.before_base += 1,
            Some(from) => {
                let begins = from.number.saturating_sub(u64::from(from.part));
                let round = rounds.entry((plan.based_on, plan.seed, begins)).or_insert_with(|| {
                    let named = from.under_way.iter().map(|number| nearest(&numbered, plan.seed, *number, index));
                    let bound = Bound { tasks: from.tasks, steps: plan.budget };
                    let (seed, at, under_way) = (plan.seed, plan.at, named.collect());
                    Round { seed, bound, at, under_way, parts: Vec::new() }
                });
                round.parts.push((index, from.part, plan));
            }
        }
    }
    let mut by_revision: BTreeMap<Revision, Vec<Round<'h>>> = BTreeMap::new();
    for ((based_on, ..), round) in rounds {
        by_revision.entry(based_on).or_default().push(round);
    }
    by_revision
}

fn plans(entries: &[Entry]) -> impl Iterator<Item = (Revision, &Plan)> {
    entries.iter().filter_map(|entry| match &entry.command {
        Command::CommitPlan(plan) => Some((entry.index, plan)),
        _ => None,
    })
}

/// The plan of that number. Two placers may have had one seed, if the first led while nothing happened: then the one whose entry is next.
fn nearest<'h>(
    numbered: &BTreeMap<(u64, u64), Vec<(Revision, &'h Plan)>>,
    seed: u64,
    number: u64,
    index: Revision,
) -> Option<&'h Plan> {
    let known = numbered.get(&(seed, number))?.iter();
    known.min_by_key(|(at, _)| at.0.abs_diff(index.0)).map(|(_, plan)| *plan)
}

fn again(state: &State, round: &Round<'_>, schedulers: &mut BTreeMap<u64, Scheduler>, derived: &mut Derived) {
    let Some(under_way) = &round.under_way else {
        derived.without_predecessor += round.parts.len() as u64;
        return;
    };
    let mut expected = state.clone();
    for plan in under_way {
        let index = Revision(expected.revision().0 + 1);
        let time = plan.at.map_or(expected.time(), |at| at.max(expected.time()));
        let entry = Entry { index, time, command: Command::CommitPlan((*plan).clone()) };
        apply(&mut expected, entry);
    }
    while schedulers.len() >= KEPT && !schedulers.contains_key(&round.seed) {
        schedulers.pop_first();
    }
    let following = schedulers.entry(round.seed).or_insert_with(|| Scheduler::new(round.seed));
    let made = |scheduler: &mut Scheduler| match round.at {
        Some(now) => scheduler.round(&expected, now, round.bound),
        None => scheduler.place(&expected, round.bound),
    };
    let followed = made(following);
    let anew = || made(&mut Scheduler::new(round.seed));
    let same = round.parts.iter().all(|(_, part, plan)| is_made_again(&followed, *part, plan));
    let made = if same { followed } else { anew() };
    for (index, part, plan) in &round.parts {
        let placed = made.plans.iter().map(|plan| plan.placements.len() as u64).sum::<u64>();
        if is_made_again(&made, *part, plan) {
            derived.equal += 1;
        } else if !made.complete && !made.counted_out && placed < round.bound.tasks {
            derived.cut_off += 1;
        } else {
            let placements_now = made.plans.get(*part as usize).map_or(0, |plan| plan.placements.len() as u64);
            let placements = plan.placements.len() as u64;
            derived.different.push(OtherPlan { index: *index, placements, placements_now });
        }
    }
}

/// Whether that part is the plan, but for what the placer adds to it.
fn is_made_again(made: &Proposal, part: u32, plan: &Plan) -> bool {
    made.plans.get(part as usize).is_some_and(|now| {
        let added = Plan {
            based_on: plan.based_on,
            accept_ms: plan.accept_ms,
            made_from: plan.made_from.clone(),
            ..now.clone()
        };
        added == *plan
    })
}
