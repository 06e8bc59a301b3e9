//! How much of what was free of GPUs was of no use to the work there was, over a run.
//!
//! The same kinds of work are the measure from the beginning to the end, and of all runs that are compared: those of all jobs
//! of the workload, each as common as it has tasks.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{FanOut, GpuRequest, JobSpec, NodeId, TimeMs};
use flowyard_scheduling::{Fragments, Gauge};
use flowyard_state::State;

/// How often it is looked.
const EVERY_MS: u64 = 600_000;

/// What was free of GPUs, in thousandths of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fragmented {
    /// Free, on average over the run.
    pub free_milli: u64,
    /// Of that, what was of no use, averaged over the kinds of work.
    pub useless_milli: u64,
    /// Free at the end.
    pub free_at_end_milli: u64,
    /// Of that, what was of no use.
    pub useless_at_end_milli: u64,
}

/// Kinds of work with GPUs, and how many tasks are of each.
pub(crate) type Kinds = BTreeMap<GpuRequest, u64>;

/// The kinds of these jobs. Of a step of which it is not known how many tasks it has one counts.
pub(crate) fn kinds<'a>(jobs: impl Iterator<Item = &'a JobSpec>) -> Kinds {
    let mut kinds = Kinds::new();
    for step in jobs.flat_map(|job| &job.steps) {
        let tasks = match &step.fan_out {
            FanOut::Range { count, .. } => u64::from(*count),
            FanOut::Items(list) => u64::from(list.count),
            FanOut::Single | FanOut::Output { .. } | FanOut::Each { .. } => 1,
        };
        if let Some(request) = step.resources.gpus.first() {
            *kinds.entry(request.kind()).or_default() += tasks * u64::from(step.size);
        }
    }
    kinds
}

/// A run that is looked at every few minutes.
#[derive(Debug)]
pub(crate) struct Look {
    /// None where nobody asks for any.
    gauge: Option<Gauge>,
    looks: u64,
    free: u128,
    useless: u128,
}

impl Look {
    pub(crate) fn new(state: &State, kinds: &Kinds) -> Self {
        let gauge = || Gauge::new(kinds.iter().map(|(request, tasks)| (request, *tasks)));
        let mut this = Self { gauge: (!kinds.is_empty()).then(gauge), looks: 0, free: 0, useless: 0 };
        this.nodes(state, &state.nodes().map(|(id, _)| id).collect());
        this
    }

    /// Nodes are otherwise.
    pub(crate) fn nodes(&mut self, state: &State, nodes: &BTreeSet<NodeId>) {
        if let Some(gauge) = &mut self.gauge {
            gauge.look(state, nodes);
        }
    }

    /// It was as it is from one time to another.
    pub(crate) fn passed(&mut self, from: TimeMs, to: TimeMs) {
        let looks = (to.0 / EVERY_MS).saturating_sub(from.0 / EVERY_MS);
        if let Some(gauge) = self.gauge.as_ref().filter(|_| looks > 0) {
            let Fragments { free_milli, useless_milli } = gauge.fragments();
            self.looks += looks;
            self.free += u128::from(free_milli) * u128::from(looks);
            self.useless += u128::from(useless_milli) * u128::from(looks);
        }
    }

    /// What came of it, with what there is at the end; nothing if nobody asked for GPUs.
    pub(crate) fn finish(&self) -> Option<Fragmented> {
        let end = self.gauge.as_ref()?.fragments();
        let mean = |sum: u128, end: u64| sum.checked_div(u128::from(self.looks)).map_or(end, |mean| mean as u64);
        Some(Fragmented {
            free_milli: mean(self.free, end.free_milli),
            useless_milli: mean(self.useless, end.useless_milli),
            free_at_end_milli: end.free_milli,
            useless_at_end_milli: end.useless_milli,
        })
    }
}
