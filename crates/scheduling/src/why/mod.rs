//! Why a task waits, where it stands, when it would start, and what would let it start now: in data, for whoever puts it into words.
//!
//! Nothing is guessed. Facts are counted in the state, the place in the line is the solver's own, the start is what the real scheduler
//! does in virtual time, and each fix was solved. What one question may cost is bounded, and an answer says if it met that bound.

mod alternatives;
mod bounds;
mod change;
mod effort;
mod fit;
mod fixes;
mod forecast;
mod lending;
mod nodes;
mod overdue;
mod promised;
mod raise;
mod resource;
mod rules;

use std::cmp::Reverse;
use std::sync::Arc;

use flowyard_model::{NodeId, QueuePath, Revision, StepSpec, TaskKey, TaskState, Throttle, TimeMs};
use flowyard_state::{ReadyGroup, ReadyStep, State, fingerprint};

pub use self::alternatives::{Alternative, by_alternative};
pub(crate) use self::bounds::need;
pub use self::bounds::{BoundOn, BoundReached, Holder, KeptFree};
pub use self::change::{Change, Question};
pub use self::effort::ROUNDS;
pub use self::fixes::Fix;
pub use self::forecast::{Endless, Start};
pub use self::nodes::{ClosedAs, Gpus, Lack, Nearness, Nodes, Rejection, Short, Unable};
pub use self::overdue::overdue;
pub use self::resource::Resource;

use self::change::Base;
use self::effort::{Effort, LINE, Verdict};
use self::fit::Fit;
use crate::beside::Own;
use crate::near::{NearRoom, near_room};
use crate::scheduler::{Line, Standing};

/// Why a ready task is not placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasons {
    /// As many of its step are active, or go before it, as may be active.
    pub parallel: Option<Parallel>,
    /// As much of its job is starting as may be.
    pub throttled: Option<Throttled>,
    /// Bounds of queues that it would meet, by each of its alternatives, those first by which it has room; also bounds on one model where it
    /// asks for any.
    pub bounds: Vec<BoundReached>,
    /// What is free and kept for others, where that is what keeps it out.
    pub kept: Vec<KeptFree>,
    /// Whether there is an alternative that is within all bounds.
    pub within_bounds: bool,
    /// What of both keeps it out, whatever the nodes have: it is out of all bounds, or there is room only where it must not take it.
    pub rule: Option<Rule>,
    /// What the nodes lack for one member.
    pub nodes: Nodes,
    /// Members of one task that find room at the same time, at most its size.
    pub seats: u64,
    /// Of a gang that has to be in one domain of a level: how much room there is for it so near.
    pub near: Option<NearRoom>,
}

/// What of the rules of queues keeps a task out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Their bounds.
    Bounds,
    /// What they keep free for others.
    Kept,
}

/// A step that may have only so many tasks active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parallel {
    /// How many are.
    pub active: u32,
    /// How many ready ones of the step go before.
    pub before: u32,
    /// How many may be.
    pub most: u32,
}

/// A job of which as much is starting as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttled {
    /// Members of it that are placed and do not run yet.
    pub starting: u32,
    /// How many there may be.
    pub most: u32,
}

/// Where a task stands among all that wait: what would be placed before it if there were room for all and no queue had bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// How many tasks would be.
    pub before: u64,
    /// Whether that is all of them: otherwise counting was stopped.
    pub exact: bool,
    /// Whose they are, those with most first.
    pub ahead: Vec<Group>,
}

/// Alike tasks that would be placed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Of jobs in which queue.
    pub queue: QueuePath,
    /// Whose.
    pub owner: String,
    /// Of which priority, of job and step together.
    pub priority: i64,
    /// How many.
    pub tasks: u64,
}

/// All that can be said of a task that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What was read.
    pub revision: Revision,
    /// Where the next round places it, by rank; nothing if it does not.
    pub placed: Option<Vec<NodeId>>,
    /// Tasks of its step that the next round places.
    pub placed_of_step: u64,
    /// By which of several alternatives of GPUs it is placed.
    pub alternative: Option<u32>,
    /// Why it is not placed.
    pub reasons: Reasons,
    /// Where it stands in the line; nothing if it is kept out of it by its own step.
    pub position: Option<Position>,
    /// When it would start.
    pub start: Start,
    /// What would let it start now, the smallest change first.
    pub fixes: Vec<Fix>,
    /// Rounds of the scheduler that were run for this.
    pub rounds: u32,
    /// Whether something was not found out because of what one question may cost.
    pub cut: bool,
}

/// Why a task is not placed; nothing if it is not one that could be.
pub fn reasons(state: &State, task: TaskKey) -> Option<Reasons> {
    let rank = Base::of(state, &Question::Waiting(task), state.time()).rank();
    (state.task_state(task)? == TaskState::Ready).then(|| of_ready(state, task, rank))?
}

/// All that can be said of a task; nothing if it is not one that could be placed.
pub fn explain(state: &State, question: &Question, now: TimeMs) -> Option<Explanation> {
    let base = Base::of(state, question, now);
    let (there, task) = base.with(&[])?;
    if there.task_state(task)? != TaskState::Ready {
        return None;
    }
    let mut effort = Effort::new();
    let mut reasons = of_ready(&there, task, base.rank())?;
    // Who has a place that is not free yet is in line all the same.
    let position = reasons.parallel.is_none().then(|| position(&there.without_claim(task), task)).flatten();
    let first = effort.round(&there, now)?;
    let verdict = effort.judged(&first, task);
    let all = first.plans.iter().flat_map(|plan| &plan.placements);
    let placed_of_step = all.filter(|it| (it.task.job, it.task.step) == (task.job, task.step)).count() as u64;
    let alternative = alternatives::taken(&first.plans, task);
    if matches!(verdict, Verdict::Placed(_)) {
        // Who will have ended before goes where others wait for room, which no bound keeps for them then.
        reasons.bounds.retain(|bound| bound.held.saturating_add(bound.need) > bound.most);
        reasons.rule = reasons.rule.filter(|rule| *rule != Rule::Bounds);
    }
    let (placed, fixes, start) = match verdict {
        Verdict::Placed(nodes) => (Some(nodes), Vec::new(), Start::Now),
        Verdict::Waits => {
            let fixes = fixes::find(&base, (&there, task), &reasons.kept, now, &mut effort);
            (None, fixes, forecast::start(there, task, &first, now, &mut effort)?)
        }
        Verdict::Unknown => (None, Vec::new(), Start::Beyond(now)),
    };
    let (revision, rounds, cut) = (state.revision(), effort.used(), effort.cut);
    Some(Explanation { revision, placed, placed_of_step, alternative, reasons, position, start, fixes, rounds, cut })
}

fn of_ready(state: &State, task: TaskKey, rank: u32) -> Option<Reasons> {
    // What is kept for the task itself does not keep it out.
    let state = &state.without_claim(task);
    let (job, step) = (state.outline(task.job)?, state.step(task.job, task.step)?);
    // A gang of no fixed size would start with its least.
    let spec = state.step_spec(task.job, task.step)?;
    let (spec, queue) = (&spec.of_size(spec.least_size()), &job.spec.queue);
    let active = step.counts.active;
    let parallel = spec.max_parallel.map(|most| Parallel { active, before: rank, most });
    let mut fit = Fit::of(state, spec, own_of(state, task));
    let rules = rules::of(state, queue, spec, &mut fit);
    Some(Reasons {
        parallel: parallel.filter(|it| it.active.saturating_add(it.before) >= it.most),
        throttled: throttled(state, task, spec),
        bounds: rules.bounds,
        kept: rules.kept,
        within_bounds: rules.within_bounds,
        rule: rules.rule,
        nodes: nodes::rejections(state, task, spec),
        seats: fit.seats(spec),
        near: near_room(state, task, spec),
    })
}

fn throttled(state: &State, task: TaskKey, spec: &StepSpec) -> Option<Throttled> {
    let (most, starting) = (state.policy().throttle.per_job?, state.starting_of(task.job));
    (spec.size > Throttle::room(Some(most), starting)).then_some(Throttled { starting, most })
}

/// Whose task it is.
pub(crate) fn own_of(state: &State, task: TaskKey) -> Own {
    let tags = state.job(task.job).map(|job| job.spec.tags.clone()).unwrap_or_default();
    Own { tags, key: (task.job, task.step) }
}

fn position(state: &State, task: TaskKey) -> Option<Position> {
    let (job, spec) = (state.outline(task.job)?, state.step_spec(task.job, task.step)?);
    let group = ReadyGroup {
        queue: job.spec.queue.clone(),
        priority: Reverse(i64::from(job.spec.priority) + i64::from(spec.priority)),
        owner: job.owner.to_owned(),
        shape: fingerprint(spec, (task.job, task.step)),
    };
    let ready = ReadyStep { of: Arc::new(group), job: task.job, step: task.step };
    let Standing { before, found } = Line::of(state).standing(&ready, task, LINE)?;
    let group = |(group, tasks): (ReadyGroup, u64)| {
        let (queue, owner, priority) = (group.queue, group.owner, group.priority.0);
        Group { queue, owner, priority, tasks }
    };
    let mut ahead: Vec<Group> = Vec::new();
    for group in before.into_iter().map(group) {
        let same = |other: &&mut Group| {
            (&other.queue, &other.owner, other.priority) == (&group.queue, &group.owner, group.priority)
        };
        match ahead.iter_mut().find(same) {
            Some(known) => known.tasks += group.tasks,
            None => ahead.push(group),
        }
    }
    ahead.sort_by(|one, other| other.tasks.cmp(&one.tasks).then_with(|| one.queue.cmp(&other.queue)));
    Some(Position { before: ahead.iter().map(|group| group.tasks).sum(), exact: found, ahead })
}
