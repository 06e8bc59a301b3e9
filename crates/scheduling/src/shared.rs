//! Tokens that all nodes share: a bound on all queues together, and something of which queues may be promised a part.

use flowyard_model::{Column, Name, NodeId, TaskKey};
use flowyard_placement::{Held, ShapeIndex};

use crate::scheduler::{Known, replace};

/// What all nodes share is told as that of a node that is none.
const ALL_NODES: NodeId = NodeId(u64::MAX);

impl Known {
    /// How many there are of each, how many are free, and how many are promised.
    pub(crate) fn tell_shared(&mut self) {
        let policy = self.state.policy().clone();
        if policy.tokens.is_empty() {
            return;
        }
        let state = &self.ahead;
        let mut told = |count: &dyn Fn(&Name) -> u64| -> Held {
            self.words.tokens(policy.tokens.keys().map(|name| (name, count(name))))
        };
        let all = told(&|name| policy.tokens[name]);
        let free = told(&|name| state.shared_free(name));
        let (promised, awaited) = (told(&|name| state.shared_later(name).0), told(&|name| state.shared_later(name).1));
        let most = policy.tokens.iter().map(|(name, count)| (self.words.column(Column::Token(name)), *count));
        self.queues.set_most(most.collect());
        self.queues.set_later_of_all(&promised, &awaited);
        let before = replace(&mut self.capacity, ALL_NODES, &all);
        self.queues.change_capacity(&before, &all);
        let before = replace(&mut self.free, ALL_NODES, &free);
        self.queues.change_free(&before, &free);
    }

    /// Whether one of two tasks holds tokens that all nodes share and the other needs.
    pub(crate) fn shares_tokens(&self, one: TaskKey, other: TaskKey) -> bool {
        let spec = |key: TaskKey| self.ahead.step_spec(key.job, key.step);
        let Some((one, other)) = spec(one).zip(spec(other)) else { return false };
        let both = |name: &Name| self.ahead.shared(name).is_some() && other.resources.tokens.contains_key(name);
        one.resources.tokens.keys().any(both)
    }

    /// Whether a task of a shape needs at least half of what there is of a token that all nodes share: so much is seldom free at one time.
    pub(crate) fn asks_for_half_the_tokens(&self, shape: ShapeIndex) -> bool {
        let spec = self.shapes.get(shape).spec();
        let size = u64::from(spec.least_size());
        let is_half = |(name, count): (&Name, &u32)| {
            let asked = u64::from(*count).saturating_mul(size);
            asked > 1 && self.ahead.shared(name).is_some_and(|all| asked.saturating_mul(2) >= all)
        };
        spec.resources.tokens.iter().any(is_half)
    }
}
