//! One line of all work, by age: first come, first served, with or without EASY backfill.
//!
//! Queues, weights and people make no difference here, but bounds hold: apply refuses what is beyond one, and that holds the line up as
//! want of room does.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{
    JobId, Phase, Placement, Plan, Resources, Revision, Seat, StepIndex, StepSpec, TaskKey, TimeMs, limits,
};
use flowyard_state::State;

use crate::policy::Place;
use crate::room::Room;

/// Steps behind the first that are looked at for one that may go before it.
const LOOKED_BEHIND: usize = 200;

/// The line.
pub(crate) struct Line {
    backfill: bool,
    steps: BTreeSet<Place>,
}

/// What is kept for the first of the line.
struct Kept {
    /// When it can start, as far as is declared; never, if somebody who is before it declared nothing.
    at: TimeMs,
    /// What is free then, without what is kept.
    free: Room,
}

impl Line {
    pub(crate) fn new(backfill: bool) -> Self {
        Self { backfill, steps: BTreeSet::new() }
    }

    /// A step has, or has not, a task that can start.
    pub(crate) fn ready(&mut self, job: JobId, step: StepIndex, ready: bool) {
        match ready {
            true => self.steps.insert((job, step)),
            false => self.steps.remove(&(job, step)),
        };
    }

    pub(crate) fn forget(&mut self, job: JobId) {
        let of_job = (job, StepIndex(0))..=(job, StepIndex(u32::MAX));
        let gone: Vec<Place> = self.steps.range(of_job).copied().collect();
        self.steps.retain(|place| !gone.contains(place));
    }

    /// What may be placed now, and whether that is all.
    pub(crate) fn round(&mut self, state: &State) -> (Vec<Plan>, bool) {
        let mut room = Room::of(state);
        let mut kept: Option<Kept> = None;
        let mut placements = Vec::new();
        let (mut behind, mut too_large) = (0, BTreeSet::new());
        for (job, step) in self.steps.iter().copied() {
            let Some(spec) = state.step_spec(job, step) else { continue };
            if kept.is_some() {
                behind += 1;
                if behind > LOOKED_BEHIND {
                    break;
                }
                if too_large.contains(&(&spec.resources, spec.size, spec.timeout_ms)) {
                    continue;
                }
            }
            for (task, attempt) in state.ready_tasks(job, step).take(placeable(state, (job, step))) {
                if placements.len() >= limits::PLACEMENTS_PER_PLAN {
                    return (plans(state, placements), false);
                }
                let seats = match &mut kept {
                    None => room.seat(spec),
                    Some(kept) => kept.before(state.time(), spec, &mut room),
                };
                if let Some(members) = seats {
                    placements.push(Placement { task: TaskKey { job, step, task }, attempt, members });
                    continue;
                }
                if kept.is_none() {
                    if !self.backfill {
                        return (plans(state, placements), true);
                    }
                    kept = Some(Kept::of(state, spec, &room, &placements));
                }
                too_large.insert((&spec.resources, spec.size, spec.timeout_ms));
                break;
            }
        }
        (plans(state, placements), true)
    }
}

/// How many tasks of a step may be placed.
fn placeable(state: &State, (job, step): Place) -> usize {
    let active = state.step(job, step).map_or(0, |step| step.counts.active);
    let most = state.step_spec(job, step).and_then(|spec| spec.max_parallel);
    most.map_or(usize::MAX, |most| most.saturating_sub(active) as usize)
}

fn plans(state: &State, placements: Vec<Placement>) -> Vec<Plan> {
    if placements.is_empty() {
        return Vec::new();
    }
    vec![Plan {
        based_on: Revision(state.revision().0),
        seed: 0,
        budget: 0,
        placer_version: 0,
        placements,
        accept_ms: None,
        claims: Vec::new(),
        drops: Vec::new(),
        at: None,
        made_from: None,
        repairs: Vec::new(),
    }]
}

impl Kept {
    /// The first time at which what runs now, and is placed now, will have made room for a task.
    fn of(state: &State, first: &StepSpec, room: &Room, placed: &[Placement]) -> Self {
        let mut ends: BTreeMap<TimeMs, Vec<(&Resources, Vec<Seat>)>> = BTreeMap::new();
        for (node, _) in state.nodes() {
            for (key, attempt, member) in state.live_members(node).filter(|(.., member)| member.phase != Phase::Ended) {
                let Some(spec) = state.step_spec(key.task.job, key.task.step) else { continue };
                let seat = Seat {
                    node,
                    incarnation: member.incarnation,
                    gpus: member.gpus.clone(),
                    gpu_alternative: member.gpu_alternative,
                };
                ends.entry(bound(attempt.placed_at, spec)).or_default().push((&spec.resources, vec![seat]));
            }
        }
        for Placement { task, members, .. } in placed {
            if let Some(spec) = state.step_spec(task.job, task.step) {
                ends.entry(bound(state.time(), spec)).or_default().push((&spec.resources, members.clone()));
            }
        }
        let mut free = room.clone();
        for (at, ended) in ends.into_iter().filter(|(at, _)| *at != NEVER) {
            ended.iter().for_each(|(resources, seats)| free.change(resources, seats, false));
            if free.seat(first).is_some() {
                return Self { at: at.max(state.time()), free };
            }
        }
        Self { at: NEVER, free }
    }

    /// Seats for one behind the first, if that does not make the first wait longer.
    fn before(&mut self, now: TimeMs, spec: &StepSpec, room: &mut Room) -> Option<Vec<Seat>> {
        let seats = room.seat(spec)?;
        if bound(now, spec) <= self.at {
            return Some(seats);
        }
        if self.free.has(spec, &seats) {
            self.free.change(&spec.resources, &seats, true);
            return Some(seats);
        }
        room.change(&spec.resources, &seats, false);
        None
    }
}

const NEVER: TimeMs = TimeMs(u64::MAX);

/// When a task that starts then has ended for certain.
fn bound(from: TimeMs, spec: &StepSpec) -> TimeMs {
    spec.timeout_ms.map_or(NEVER, |bound| from.after(bound).after(spec.kill_grace_ms))
}
