//! Tokens that all nodes share, such as licences: how many there are is in the policy, and how many are held is the sum over all queues.
//!
//! Invariant: no placement and no claim lets more of them be held than there are. More may be held when the policy comes to say less:
//! nothing is stopped for that, and nothing more starts until enough has ended.

use flowyard_model::{Column, Held, Name, Policy, Rejection, StepSpec, TaskKey};

use crate::holding::{Measure, Reached, When};
use crate::indexes::Load;
use crate::state::State;

/// One task of a step asks for no more tokens than there are, of those that all nodes share.
pub(crate) fn known(state: &State, step: &StepSpec) -> Result<(), Rejection> {
    let size = u64::from(step.least_size());
    let asked = step.resources.tokens.iter().map(|(name, count)| (name, u64::from(*count).saturating_mul(size)));
    let too_many = asked.filter_map(|(name, asked)| Some((name, asked, state.shared(name)?)));
    let Some((name, asked, all)) = too_many.into_iter().find(|(_, asked, all)| asked > all) else { return Ok(()) };
    let path = format!("steps.{}.tokens.{name}", step.name);
    let message =
        format!("a task asks for {asked} of `{name}`, and the cluster has {all}; `fctl policy show` lists them");
    Err(Rejection::Invalid { path, message })
}

/// No token that is held would be a node's from now on: no node has it, and whoever holds it would be more than fits there.
pub(crate) fn may_go(state: &State, policy: &Policy) -> Result<(), Rejection> {
    let gone = state.policy.tokens.keys().filter(|name| !policy.tokens.contains_key(*name));
    let held = gone.map(|name| (name, state.shared_held(name))).find(|(_, held)| *held > 0);
    let Some((name, held)) = held else { return Ok(()) };
    let message = format!("{held} of `{name}` are held; say 0 of it for now, and leave it out once they have ended");
    Err(Rejection::Invalid { path: format!("tokens.{name}"), message })
}

/// Who is promised a token that all nodes share by one of two policies and not by the other.
pub(crate) fn of_others(state: &State, policy: &Policy) -> Vec<TaskKey> {
    let is_other = |name: &Name| state.policy.tokens.contains_key(name) != policy.tokens.contains_key(name);
    let asks = |key: &TaskKey| {
        let spec = state.step_spec(key.job, key.step);
        spec.is_some_and(|spec| spec.resources.tokens.keys().any(is_other))
    };
    state.claims.keys().copied().filter(asks).collect()
}

impl State {
    /// How many there are of a token that all nodes share; nothing if it is a node's.
    pub fn shared(&self, token: &Name) -> Option<u64> {
        self.policy.tokens.get(token).copied()
    }

    /// How many of a token are held in all queues.
    pub fn shared_held(&self, token: &Name) -> u64 {
        self.shared_at(When::Now, token)
    }

    /// How many of a token that all nodes share are neither held nor promised to anybody, now or later.
    pub fn shared_free(&self, token: &Name) -> u64 {
        let most = [When::Now, When::Left, When::Then].map(|when| self.shared_at(when, token)).into_iter().max();
        self.shared(token).unwrap_or(0).saturating_sub(most.unwrap_or(0))
    }

    /// How many of a token are promised to whom waits for others to end, and how many those hold.
    pub fn shared_later(&self, token: &Name) -> (u64, u64) {
        let column = Column::Token(token);
        self.tops().fold((0, 0), |(promised, awaited), load| {
            (promised + load.reserved.held.get(column), awaited + load.awaited.held.get(column))
        })
    }

    /// The bound that is met if somebody holds this as well, of what the cluster has.
    pub(crate) fn shared_reached<'a>(&'a self, when: When, need: &'a Held) -> Option<Reached<'a>> {
        need.tokens.iter().filter(|(_, need)| **need > 0).find_map(|(name, need)| {
            let (held, most) = (self.shared_at(when, name), self.shared(name)?);
            let measure = Measure::Limit(Column::Token(name));
            let reached = || Reached { queue: None, measure, held, need: *need, most };
            (held.saturating_add(*need) > most).then(reached)
        })
    }

    fn shared_at(&self, when: When, token: &Name) -> u64 {
        self.tops().map(|load| when.held(load, Column::Token(token))).sum()
    }

    /// What the queues carry that are below no other.
    fn tops(&self) -> impl Iterator<Item = &Load> {
        let top = self.indexes.loads.iter().filter(|(path, _)| !path.as_str().contains('/'));
        top.map(|(_, load)| &**load)
    }
}
