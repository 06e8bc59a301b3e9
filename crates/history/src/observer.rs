//! Looks at a run entry by entry, and measures it. It looks at what changed, so it costs what changed.

use std::collections::{BTreeMap, VecDeque};

use flowyard_model::{
    AttemptDesired, Changed, Command, Effects, Health, JobId, JobOutcome, Node, NodeId, Phase, Reply, StepIndex,
    StepSpec, TaskKey, TimeMs,
};
use flowyard_state::State;

use crate::fragmented::{Kinds, Look};
use crate::measures::{Measures, Spread, Utilisation, WHOLE, jain, part};

/// What is measured of one person's tasks.
#[derive(Debug, Default, Clone, Copy)]
struct Person {
    waited_ms: u128,
    ran_ms: u128,
}

/// Tasks of a step that can start and were not placed: since when, and how many; the longest wait first.
#[derive(Debug, Default)]
struct Line {
    since: VecDeque<(TimeMs, u32)>,
    /// How many, as the state has it.
    ready: u32,
}

/// What a node holds and has, resource by resource.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Amounts([u128; 3]);

const CPU: usize = 0;
const MEMORY: usize = 1;
const GPU: usize = 2;

/// A run that is looked at.
#[derive(Debug)]
pub(crate) struct Observer {
    began: TimeMs,
    now: TimeMs,
    lines: BTreeMap<(JobId, StepIndex), Line>,
    open: BTreeMap<JobId, TimeMs>,
    people: BTreeMap<String, Person>,
    nodes: BTreeMap<NodeId, (Amounts, Amounts)>,
    held: Amounts,
    all: Amounts,
    /// The sums over time.
    held_ms: Amounts,
    all_ms: Amounts,
    waits: Vec<u64>,
    waits_of_several: Vec<u64>,
    look: Look,
    turnaround: Vec<u64>,
    running: u64,
    first: Option<TimeMs>,
    last_end: Option<TimeMs>,
    measures: Measures,
}

impl Observer {
    /// Begins to look, with the kinds of work by which it is told what is of use. What already waits has waited since then, as far as is known
    /// here.
    pub(crate) fn new(state: &State, kinds: &Kinds) -> Self {
        let mut this = Self {
            began: state.time(),
            now: state.time(),
            lines: BTreeMap::new(),
            open: BTreeMap::new(),
            people: BTreeMap::new(),
            nodes: BTreeMap::new(),
            held: Amounts::default(),
            all: Amounts::default(),
            held_ms: Amounts::default(),
            all_ms: Amounts::default(),
            waits: Vec::new(),
            waits_of_several: Vec::new(),
            look: Look::new(state, kinds),
            turnaround: Vec::new(),
            running: 0,
            first: None,
            last_end: None,
            measures: Measures::default(),
        };
        state.nodes().for_each(|(id, _)| this.node(state, id));
        let open: Vec<JobId> = state.outlines().filter(|(_, job)| job.ended.is_none()).map(|(id, _)| id).collect();
        for job in open {
            this.job(state, job, &BTreeMap::new());
            this.running += state.steps(job).map(|(_, step)| u64::from(step.counts.active)).sum::<u64>();
        }
        this
    }

    /// An entry was applied: `ends` are the members that it may have ended.
    pub(crate) fn saw(&mut self, state: &State, command: &Command, effects: &Effects) {
        self.move_on(state.time());
        let placed = match (command, &effects.reply) {
            (Command::CommitPlan(plan), Reply::PlanCommitted { refused, .. }) => {
                let mut placed: BTreeMap<(JobId, StepIndex), u32> = BTreeMap::new();
                let refused: Vec<u32> = refused.iter().map(|(at, _)| *at).collect();
                for (_, placement) in (0..).zip(&plan.placements).filter(|(at, _)| refused.binary_search(at).is_err()) {
                    *placed.entry((placement.task.job, placement.task.step)).or_default() += 1;
                }
                placed
            }
            _ => BTreeMap::new(),
        };
        self.running += placed.values().map(|count| u64::from(*count)).sum::<u64>();
        let reports = command.reports().iter().flat_map(|agent| &agent.reports);
        reports.filter(|report| report.end.is_some()).for_each(|report| {
            self.ended(state, report.member.task, report.member.attempt.0);
        });
        let Changed { nodes, jobs, .. } = &effects.changed;
        jobs.iter().for_each(|job| self.job(state, *job, &placed));
        nodes.iter().for_each(|node| self.node(state, *node));
        self.look.nodes(state, nodes);
    }

    fn move_on(&mut self, now: TimeMs) {
        let passed = u128::from(now.0.saturating_sub(self.now.0));
        for at in 0..3 {
            self.held_ms.0[at] += self.held.0[at] * passed;
            self.all_ms.0[at] += self.all.0[at] * passed;
        }
        // Where there are none, nothing is free.
        if self.all.0[GPU] > 0 {
            self.look.passed(self.now, now);
        }
        self.now = self.now.max(now);
    }

    fn job(&mut self, state: &State, id: JobId, placed: &BTreeMap<(JobId, StepIndex), u32>) {
        let Some(job) = state.outline(id) else {
            self.lines.retain(|(job, _), _| *job != id);
            self.open.remove(&id);
            return;
        };
        if job.ended.is_none() && !self.open.contains_key(&id) {
            self.open.insert(id, job.submitted_at);
            self.measures.jobs += 1;
            self.first.get_or_insert(job.submitted_at);
        }
        for (index, step) in state.steps(id) {
            let key = (id, index);
            let taken = placed.get(&key).copied().unwrap_or(0);
            let Some(line) = self.line(key, step.counts.ready + taken > 0) else { continue };
            let came = (step.counts.ready + taken).saturating_sub(line.ready);
            if came > 0 {
                line.since.push_back((state.time(), came));
            }
            let went = (line.ready + came) - (step.counts.ready + taken);
            line.ready = step.counts.ready;
            // Those that go without being placed are cancelled; the last that came, as far as it matters.
            line.go(went);
            let waits = line.take(taken, state.time());
            if line.ready == 0 {
                self.lines.remove(&key);
            }
            let person = self.people.entry(job.owner.to_owned()).or_default();
            let several = job.spec.steps.get(index.0 as usize).is_some_and(asks_for_several);
            for (wait, count) in waits {
                person.waited_ms += u128::from(wait) * u128::from(count);
                self.waits.extend(std::iter::repeat_n(wait, count as usize));
                let of_several = if several { count as usize } else { 0 };
                self.waits_of_several.extend(std::iter::repeat_n(wait, of_several));
            }
        }
        if let (Some(end), Some(submitted)) = (job.ended, self.open.get(&id).copied()) {
            self.open.remove(&id);
            self.measures.finished += 1;
            self.measures.succeeded += u64::from(end.outcome == JobOutcome::Succeeded);
            self.turnaround.push(end.at.0.saturating_sub(submitted.0));
            self.last_end = self.last_end.max(Some(end.at));
        }
    }

    fn line(&mut self, key: (JobId, StepIndex), wanted: bool) -> Option<&mut Line> {
        if wanted { Some(self.lines.entry(key).or_default()) } else { self.lines.get_mut(&key) }
    }

    /// A member of an attempt reported its end; the attempt is over if it was the last.
    fn ended(&mut self, state: &State, key: TaskKey, number: u32) {
        let Some(attempt) = state.attempt(key, flowyard_model::AttemptNumber(number)) else { return };
        if attempt.members.iter().any(|member| member.phase != Phase::Ended) {
            return;
        }
        self.running = self.running.saturating_sub(1);
        let ran = state.time().0.saturating_sub(attempt.placed_at.0);
        if attempt.desired == AttemptDesired::Preempt {
            self.measures.preemptions += 1;
            // What it had saved is not lost.
            let saved = attempt.saved_at.max(attempt.checkpoint.map(|checkpoint| checkpoint.at));
            let kept_until = saved.unwrap_or(attempt.placed_at).max(attempt.placed_at);
            self.measures.lost_ms += state.time().0.saturating_sub(kept_until.0);
            return;
        }
        if let Some(job) = state.outline(key.job) {
            self.people.entry(job.owner.to_owned()).or_default().ran_ms += u128::from(ran);
        }
    }

    fn node(&mut self, state: &State, id: NodeId) {
        let (held, all) = state.node(id).map_or_else(Default::default, |node| amounts(node));
        let (held_before, all_before) = self.nodes.insert(id, (held, all)).unwrap_or_default();
        for at in 0..3 {
            self.held.0[at] = self.held.0[at] + held.0[at] - held_before.0[at];
            self.all.0[at] = self.all.0[at] + all.0[at] - all_before.0[at];
        }
    }

    /// How many tasks can start and were not placed.
    fn waiting(&self) -> u64 {
        self.lines.values().map(|line| u64::from(line.ready)).sum()
    }

    /// What was measured, up to this time.
    pub(crate) fn finish(mut self, until: TimeMs) -> Measures {
        self.move_on(until);
        let waiting = self.waiting();
        let part_of = |at: usize| part(self.held_ms.0[at], self.all_ms.0[at]);
        let utilisation = Utilisation {
            cpu: part_of(CPU),
            memory: part_of(MEMORY),
            gpu: (self.all_ms.0[GPU] > 0).then(|| part_of(GPU)),
        };
        let people: Vec<&Person> = self.people.values().filter(|one| one.waited_ms + one.ran_ms > 0).collect();
        let ran = people.iter().map(|one| part(one.ran_ms, one.ran_ms + one.waited_ms).min(WHOLE));
        let first = self.first.unwrap_or(self.began);
        Measures {
            waits: Spread::of(self.waits),
            waits_of_several: Spread::of(self.waits_of_several),
            fragmented: self.look.finish(),
            turnaround: Spread::of(self.turnaround),
            waiting,
            running: self.running,
            makespan_ms: self.last_end.map_or(0, |end| end.0.saturating_sub(first.0)),
            utilisation,
            jain: jain(ran),
            people: people.len() as u64,
            ..self.measures
        }
    }
}

fn asks_for_several(spec: &StepSpec) -> bool {
    spec.resources.gpus.first().is_some_and(|request| u64::from(request.count) * u64::from(spec.size) > 1)
}

impl Line {
    /// So many of those that came last go.
    fn go(&mut self, mut count: u32) {
        while let Some((_, last)) = self.since.back_mut().filter(|_| count > 0) {
            let going = count.min(*last);
            *last -= going;
            count -= going;
            if *last == 0 {
                self.since.pop_back();
            }
        }
    }

    /// So many of those that came first are placed; how long they waited.
    fn take(&mut self, mut count: u32, now: TimeMs) -> Vec<(u64, u32)> {
        let mut waits = Vec::new();
        while let Some((since, first)) = self.since.front_mut().filter(|_| count > 0) {
            let going = count.min(*first);
            waits.push((now.0.saturating_sub(since.0), going));
            *first -= going;
            count -= going;
            if *first == 0 {
                self.since.pop_front();
            }
        }
        waits
    }
}

/// What a node holds, and what it has, as long as it is heard from.
fn amounts(node: &Node) -> (Amounts, Amounts) {
    if node.health == Health::Down {
        return Default::default();
    }
    let (used, inventory) = (&node.used, &node.inventory);
    let gpus: u128 = used.gpu_milli.iter().map(|milli| u128::from(*milli)).sum();
    let held = Amounts([used.cpu_milli.into(), used.memory_bytes.into(), gpus]);
    let devices = inventory.gpus.iter().filter(|gpu| gpu.healthy).count() as u128;
    (held, Amounts([inventory.cpu_milli.into(), inventory.memory_bytes.into(), devices * 1_000]))
}
