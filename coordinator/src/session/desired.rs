//! What one agent should run, computed from the view; pure, and the same in the simulator.
//!
//! Invariant: everything told is a function of the view and of what was told before, so a lost session loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_cas::LiveBlobs;
use flowyard_model::{
    Attempt, AttemptDesired, Desired, DesiredMember, Digest, FanOut, Fence, Image, Input, Item, Job, JobId, Member,
    MemberKey, Name, NodeId, Phase, ResolvedInput, StepContext, StepIndex, Task, TaskIndex, TaskKey, TaskOutcome,
    TaskState, Term,
};
use flowyard_state::View;

/// What one session has told its agent.
#[derive(Debug)]
pub struct Told {
    node: NodeId,
    sequence: u64,
    /// Whether each member was said to run, or to stop.
    members: BTreeMap<MemberKey, AttemptDesired>,
    steps: BTreeSet<(JobId, StepIndex)>,
}

impl Told {
    /// A session in which nothing was told yet.
    pub fn nothing(node: NodeId) -> Self {
        Self { node, sequence: 0, members: BTreeMap::new(), steps: BTreeSet::new() }
    }

    /// What is to be told now: everything the first time, afterwards the difference, `None` if there is none.
    pub fn next(&mut self, view: &View, term: Term) -> Option<Desired> {
        let all = self.sequence == 0;
        let fence = Fence { term, revision: view.revision() };
        let mut desired =
            Desired { fence, sequence: self.sequence + 1, all, steps: vec![], run: vec![], stop: vec![], gone: vec![] };
        let mut now = BTreeMap::new();
        for (key, attempt, member) in view.live_members(self.node) {
            now.insert(key, attempt.desired);
            if self.members.get(&key) == Some(&attempt.desired) {
                continue;
            }
            match attempt.desired {
                AttemptDesired::Run => {
                    self.add_step(view, key.task, &mut desired);
                    desired.run.extend(desired_member(view, key, member));
                }
                AttemptDesired::Stop | AttemptDesired::Preempt | AttemptDesired::GiveUp => desired.stop.push(key),
            }
        }
        desired.gone = self.members.keys().filter(|key| !now.contains_key(key)).copied().collect();
        // A context goes with the first member that needs it; the agent drops it with the last.
        let used: BTreeSet<_> = now.keys().map(|key| (key.task.job, key.task.step)).collect();
        self.steps.retain(|step| used.contains(step));
        self.members = now;
        let nothing = desired.run.is_empty() && desired.stop.is_empty() && desired.gone.is_empty();
        if nothing && !all {
            return None;
        }
        self.sequence += 1;
        Some(desired)
    }

    fn add_step(&mut self, view: &View, task: TaskKey, desired: &mut Desired) {
        if self.steps.insert((task.job, task.step)) {
            desired.steps.extend(step_context(view, task.job, task.step).map(Arc::new));
        }
    }
}

/// The context of one step.
pub fn step_context(view: &View, job_id: JobId, step: StepIndex) -> Option<StepContext> {
    let job = view.job(job_id)?;
    let spec = job.spec.steps.get(step.0 as usize)?.clone();
    let lists = job.spec.steps.iter().filter_map(|other| match &other.fan_out {
        FanOut::Output { step: source, output } if *source == step => Some(output.clone()),
        _ => None,
    });
    Some(StepContext {
        job: job_id,
        step,
        job_name: job.spec.name.clone(),
        lists: lists.collect(),
        params: job.spec.params.clone(),
        owner: job.owner.clone(),
        spec,
    })
}

fn desired_member(view: &View, key: MemberKey, member: &Member) -> Option<DesiredMember> {
    let job = view.job(key.task.job)?;
    let spec = job.spec.steps.get(key.task.step.0 as usize)?;
    let inputs = spec.inputs.iter().filter_map(|(name, input)| {
        let resolved = match input {
            Input::Stored { manifest } => Some(ResolvedInput::Artifact(*manifest)),
            Input::Output { step, output } => from_step(view, job, key.task, *step, output),
        };
        Some((name.clone(), resolved?))
    });
    Some(DesiredMember {
        key,
        gpus: member.gpus.clone(),
        inputs: inputs.collect(),
        item: item(view, job, key.task),
        known: member.phase,
    })
}

/// What the live allocations of a node name: code, image, inputs, items.
pub fn allocated(view: &View, node: NodeId) -> LiveBlobs {
    let mut named = LiveBlobs::default();
    for (key, _, member) in view.live_members(node) {
        let spec = view.step_spec(key.task.job, key.task.step);
        if let Some(spec) = spec {
            named.manifests.extend(spec.code);
            if let Image::Stored { manifest, .. } = &spec.image {
                named.manifests.push(*manifest);
            }
        }
        let Some(desired) = desired_member(view, key, member) else { continue };
        for input in desired.inputs.into_values() {
            match input {
                ResolvedInput::Artifact(manifest) => named.manifests.push(manifest),
                ResolvedInput::Join { entries, .. } => {
                    named.manifests.extend(entries.into_iter().map(|(_, manifest)| manifest));
                }
            }
        }
        if let Some(Item::Listed { items, .. }) = desired.item {
            named.blobs.push(items);
        }
    }
    named
}

/// What a step wrote, as another one reads it. `None` when its only task did not succeed: the input is then absent.
fn from_step(view: &View, job: &Job, reader: TaskKey, source: StepIndex, output: &Name) -> Option<ResolvedInput> {
    let spec = job.spec.steps.get(source.0 as usize)?;
    let of = |task| artifact(view, TaskKey { job: reader.job, step: source, task }, output);
    let each = matches!(job.spec.steps[reader.step.0 as usize].fan_out, FanOut::Each { step } if step == source);
    if each {
        return of(reader.task).map(ResolvedInput::Artifact);
    }
    if spec.fan_out == FanOut::Single {
        return of(TaskIndex(0)).map(ResolvedInput::Artifact);
    }
    let count = view.step(reader.job, source)?.count.unwrap_or(0);
    let entries = (0..count).map(TaskIndex).filter_map(|task| Some((task, of(task)?)));
    Some(ResolvedInput::Join { count, entries: entries.collect() })
}

/// The artifact that a task that succeeded wrote under a name.
fn artifact(view: &View, key: TaskKey, output: &Name) -> Option<Digest> {
    let end = success(view.task(key)?)?.end.as_ref()?;
    Some(end.outputs.get(output)?.manifest)
}

/// The first member of the attempt that made a task succeed.
pub fn success(task: &Task) -> Option<&Member> {
    if task.state != TaskState::Done(TaskOutcome::Succeeded) {
        return None;
    }
    task.attempts
        .last()
        .and_then(|attempt: &Attempt| attempt.members.first())
        .filter(|member| member.phase == Phase::Ended)
}

/// The item of a task, following `each` to where it comes from.
fn item(view: &View, job: &Job, key: TaskKey) -> Option<Item> {
    let spec = job.spec.steps.get(key.step.0 as usize)?;
    match &spec.fan_out {
        FanOut::Single => None,
        FanOut::Range { start, .. } => Some(Item::Number(start + i64::from(key.task.0))),
        FanOut::Items(list) => Some(Item::Listed { items: list.items, position: key.task.0 }),
        FanOut::Output { .. } => {
            let step = view.step(key.job, key.step)?;
            let after = step.segments.partition_point(|segment| segment.start <= key.task);
            let segment = step.segments.get(after.checked_sub(1)?)?;
            Some(Item::Listed { items: segment.list.items, position: key.task.0 - segment.start.0 })
        }
        FanOut::Each { step } => item(view, job, TaskKey { step: *step, ..key }),
    }
}
