//! What a round comes to, in plans each of which is small enough for one entry of the log.

use flowyard_model::{ClaimWish, ClusterVersion, Placement, Plan, RepairWish, TaskKey, TimeMs, limits};
use flowyard_placement::{Bound, PLACER_VERSION};
use flowyard_state::State;

/// Seats in one plan, and attempts that are evicted, so that its entry keeps within the limit; see also
/// [`limits::PLACEMENTS_PER_PLAN`].
pub const SEATS_PER_PLAN: usize = 8_000;

/// Plans, filled one after the other.
#[derive(Debug)]
pub(crate) struct Plans {
    empty: Plan,
    plans: Vec<Plan>,
    /// Of the last of them.
    seats: usize,
}

impl Plans {
    pub(crate) fn new(state: &State, seed: u64, now: Option<TimeMs>, bound: Bound) -> Self {
        let empty = Plan {
            based_on: state.revision(),
            seed,
            budget: bound.steps,
            placer_version: PLACER_VERSION,
            placements: Vec::new(),
            accept_ms: None,
            claims: Vec::new(),
            drops: Vec::new(),
            at: now.filter(|_| state.version() >= ClusterVersion::ACCESS),
            made_from: None,
            repairs: Vec::new(),
        };
        Self { empty, plans: Vec::new(), seats: 0 }
    }

    /// A plan that has room for so many seats more.
    fn with_room(&mut self, seats: usize) -> &mut Plan {
        let is_full = |plan: &Plan| plan.placements.len() >= limits::PLACEMENTS_PER_PLAN;
        if self.plans.last().is_none_or(is_full) || self.seats + seats > SEATS_PER_PLAN {
            self.plans.push(self.empty.clone());
            self.seats = 0;
        }
        self.seats += seats;
        self.plans.last_mut().expect("one was just made")
    }

    pub(crate) fn drop(&mut self, drops: Vec<TaskKey>) {
        if !drops.is_empty() {
            self.with_room(0).drops = drops;
        }
    }

    pub(crate) fn repair(&mut self, wish: RepairWish) {
        self.with_room(wish.seats.len()).repairs.push(wish);
    }

    pub(crate) fn place(&mut self, placement: Placement) {
        self.with_room(placement.members.len()).placements.push(placement);
    }

    pub(crate) fn claim(&mut self, wish: ClaimWish) {
        self.with_room(wish.members.len() + wish.evictions.len() + wish.awaits.len()).claims.push(wish);
    }

    /// The plans, most urgent first.
    pub(crate) fn done(self) -> Vec<Plan> {
        self.plans
    }
}
