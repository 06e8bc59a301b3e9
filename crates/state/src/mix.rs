//! What the work there is asks for of devices: counted by kind while it waits and runs, and looked at now and then.
//!
//! Placement is told a coarse picture of it. That is in the state, and not in a scheduler, since every scheduler has to
//! propose the same of a state; and it changes at few moments, since a scheduler sorts nodes anew whenever it does.
//!
//! Invariant: each kind counts what the tasks ask for that are ready or active.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{ClusterVersion, GpuRequest, Mix, StepSpec, TaskCounts};
use imbl::OrdMap;

use crate::check::{Held, hold};
use crate::state::State;

/// What tasks of a kind ask for, in thousandths of devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    waits: u128,
    runs: u128,
}

/// The counts of a step went from one value to another. What takes one of several alternatives counts as the first, which it
/// would rather have.
pub(crate) fn counts_changed(asked: &mut OrdMap<GpuRequest, Asked>, spec: &StepSpec, from: TaskCounts, to: TaskCounts) {
    let Some(request) = spec.resources.gpus.first() else { return };
    if (from.ready, from.active) == (to.ready, to.active) {
        return;
    }
    let each = u128::from(spec.size) * u128::from(request.count) * u128::from(request.share_milli);
    let moved = |sum: u128, from: u32, to: u32| sum + each * u128::from(to) - each * u128::from(from);
    let kind = request.kind();
    let before = asked.get(&kind).copied().unwrap_or_default();
    let (waits, runs) = (moved(before.waits, from.ready, to.ready), moved(before.runs, from.active, to.active));
    if (waits, runs) == (0, 0) {
        asked.remove(&kind);
    } else {
        asked.insert(kind, Asked { waits, runs });
    }
}

/// An entry is about to be applied that may be the first of a period: what was until now is taken in.
pub(crate) fn look(state: &mut State) {
    let nothing = state.indexes.asked.is_empty() && state.mix.kinds.is_empty();
    if nothing || state.version() < ClusterVersion::ACCESS || !state.mix.is_due(state.meta.time) {
        return;
    }
    let asked = asked(state);
    Arc::make_mut(&mut state.mix).look(state.meta.time, asked);
}

/// What each kind asks for. What waits of one counts as all that runs at most: a million tasks that wait do not make all
/// others rare.
fn asked(state: &State) -> BTreeMap<GpuRequest, u64> {
    let asked = &state.indexes.asked;
    let runs: u128 = asked.values().map(|of| of.runs).sum();
    let most = if runs == 0 { u128::MAX } else { runs };
    let sum = |of: &Asked| u64::try_from(of.runs.saturating_add(of.waits.min(most))).unwrap_or(u64::MAX);
    asked.iter().map(|(kind, of)| (kind.clone(), sum(of))).collect()
}

/// It is one that was looked at, of no time to come.
pub(crate) fn check(state: &State) -> Held {
    let place = || "mix".to_owned();
    let versioned = *state.mix == Mix::default() || state.version() >= ClusterVersion::ACCESS;
    hold(versioned, "a mix is kept from its cluster version on", place)?;
    let sound = state.mix.is_sound() && state.mix.at <= state.time();
    hold(sound, "a mix is as it is looked at", place)
}

impl State {
    /// What the work there is asks for of devices, and the picture of it by which placement chooses nodes.
    pub fn mix(&self) -> &Arc<Mix> {
        &self.mix
    }
}
