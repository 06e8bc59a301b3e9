//! Work that is not wide finds room by itself, since something that is as large ends now and then; but not among smaller work that never
//! ends: whatever falls free, that takes. What waits for long while smaller work is placed is passed over, and room is kept for it as for
//! what is wide.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{StepSpec, TaskKey, TimeMs};
use flowyard_placement::{QueueIndex, ShapeIndex};

use flowyard_state::ReadyStep;

use crate::scheduler::Known;

/// It has to have waited for so long when smaller work is placed: longer than most of what runs takes where work is small, and a
/// short time beside a wait without end.
pub(crate) const PASSED_OVER_MS: u64 = 300_000;
/// Members that run are looked at for it, in the order of their nodes: a bound of what a round looks at. Where smaller work never ends, there
/// is some of it among so many.
const MEMBERS_LOOKED_AT: usize = 50_000;

/// The size of what was placed of late: of each resource by amount, when last.
#[derive(Debug, Default)]
struct Placed {
    devices: BTreeMap<u64, TimeMs>,
    cpu: BTreeMap<u64, TimeMs>,
    memory: BTreeMap<u64, TimeMs>,
}

impl Placed {
    fn add(&mut self, spec: &StepSpec, alternative: u32, at: TimeMs) {
        let last = |of: &mut BTreeMap<u64, TimeMs>, amount: u64| {
            let last = of.entry(amount).or_insert(at);
            *last = at.max(*last);
        };
        last(&mut self.cpu, spec.resources.cpu_milli);
        last(&mut self.memory, spec.resources.memory_bytes);
        if let Some(request) = spec.resources.gpus.get(alternative as usize) {
            last(&mut self.devices, u64::from(request.count) * u64::from(request.share_milli));
        }
    }

    /// Whether something smaller than a member of a step was placed at that time or later: with fewer devices, or if it needs none with
    /// fewer CPUs or less memory.
    fn passed(&self, spec: &StepSpec, since: TimeMs) -> bool {
        let is_less = |of: &BTreeMap<u64, TimeMs>, amount: u64| of.range(..amount).any(|(_, last)| *last >= since);
        let devices = spec.resources.gpus.iter().map(|it| u64::from(it.count) * u64::from(it.share_milli)).min();
        match devices {
            Some(devices) => is_less(&self.devices, devices),
            None => is_less(&self.cpu, spec.resources.cpu_milli) || is_less(&self.memory, spec.resources.memory_bytes),
        }
    }
}

impl Known {
    /// Since when the first task of a step waits, as far as is known: since its job was submitted, or it was last tried.
    fn waits_since(&self, ready: &ReadyStep) -> Option<TimeMs> {
        let submitted = self.state.outline(ready.job)?.submitted_at;
        let (task, _) = self.state.ready_tasks(ready.job, ready.step).next()?;
        let tried = self.state.task(TaskKey { job: ready.job, step: ready.step, task });
        let last = tried.and_then(|task| Some(task.attempts.last()?.placed_at));
        Some(last.map_or(submitted, |last| last.max(submitted)))
    }

    /// Of what waits, what was passed over: of which something has waited for long, and smaller work was placed even then.
    pub(crate) fn passed_over(
        &self,
        of: BTreeSet<(QueueIndex, ShapeIndex)>,
        now: TimeMs,
    ) -> BTreeSet<(QueueIndex, ShapeIndex)> {
        let mut since: BTreeMap<(QueueIndex, ShapeIndex), TimeMs> = BTreeMap::new();
        for (key, group) in self.by_key.iter().filter(|(key, _)| of.contains(&(key.queue, key.shape))) {
            let oldest = self.state.ready_in(group).next().and_then(|ready| self.waits_since(ready));
            let long = oldest.map(|since| since.after(PASSED_OVER_MS)).filter(|long| *long <= now);
            if let Some(long) = long {
                let first = since.entry((key.queue, key.shape)).or_insert(long);
                *first = long.min(*first);
            }
        }
        if since.is_empty() {
            return BTreeSet::new();
        }
        let mut placed = Placed::default();
        let members = self.state.nodes().flat_map(|(id, _)| self.state.live_members(id));
        for (key, attempt, member) in members.take(MEMBERS_LOOKED_AT) {
            if let Some(spec) = self.state.step_spec(key.task.job, key.task.step) {
                placed.add(spec, member.gpu_alternative, attempt.placed_at);
            }
        }
        let passed =
            since.into_iter().filter(|((_, shape), long)| placed.passed(self.shapes.get(*shape).spec(), *long));
        passed.map(|(pair, _)| pair).collect()
    }
}
