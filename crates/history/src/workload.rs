//! What a history asks for, without what was decided: who submitted what and cancelled it, which nodes came and went, and how long
//! each attempt ran and how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::{
    AttemptNumber, AttemptOutcome, AttemptReport, ChangeDevice, Command, DeviceReport, Effects, End, Entry, JobId,
    JobSpec, MemberKey, Name, NodeChange, NodeId, Queue, QueuePath, Rank, RegisterNode, Reply, Scheduling, StepIndex,
    SubmitJob, TaskKey, TimeMs,
};
use flowyard_state::{State, apply};

use crate::fragmented::{Kinds, kinds};
use crate::measures::Measures;
use crate::observer::Observer;
use crate::past::History;

/// Something that happens to a cluster from outside. Ids are those of the record.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// Somebody submits a job, which had this id.
    Submit(JobId, SubmitJob),
    /// Somebody cancels one.
    Cancel(JobId),
    /// An operator puts a queue.
    Put(Arc<Queue>),
    /// An operator drops one.
    Drop(QueuePath),
    /// A node registers, which had this id.
    Register(NodeId, RegisterNode),
    /// It is concluded how a node is.
    Health(NodeId, flowyard_model::Health),
    /// A node is closed or opened, as clusters did before version 2.
    Scheduling(NodeId, Scheduling),
    /// A node is closed, opened or forgotten.
    Change(NodeId, NodeChange),
    /// What an agent finds of the devices of a node.
    Found(NodeId, Vec<DeviceReport>),
    /// An operator takes a device of a node out of use, or puts it back.
    Device(NodeId, ChangeDevice),
    /// What means the same whatever else is otherwise.
    Same(Command),
}

/// How one member of one attempt ran.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    /// From its placement until its process ran.
    pub start_ms: u64,
    /// From its placement to its end.
    pub end_ms: u64,
    /// From its placement to each time that it was seen to have saved its work, in order.
    pub saves: Arc<[u64]>,
    /// Its end.
    pub end: Arc<End>,
}

/// How attempts ran, by what they were, so that one that was not recorded may be taken for one that was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Courses {
    tasks: BTreeMap<TaskKey, BTreeMap<(AttemptNumber, Rank), Course>>,
    /// Of each step, the one whose length is the median; made when the record is complete.
    steps: BTreeMap<(JobId, StepIndex), Course>,
}

/// How a member will run.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub course: Course,
    /// Whether it was recorded of just this attempt.
    pub known: bool,
}

impl Courses {
    pub(crate) fn note(&mut self, task: TaskKey, attempt: AttemptNumber, rank: Rank, course: Course) {
        self.tasks.entry(task).or_default().insert((attempt, rank), course);
    }

    /// Every task of a step runs like this.
    pub(crate) fn note_step(&mut self, job: JobId, step: StepIndex, course: Course) {
        self.steps.insert((job, step), course);
    }

    /// How this member runs: as recorded of it, else as the last attempt of its task that ended by itself, else as most of its step.
    pub(crate) fn of(&self, task: TaskKey, attempt: AttemptNumber, rank: Rank) -> Option<Told> {
        let told = |known| move |course: &Course| Told { course: course.clone(), known };
        let of_task = self.tasks.get(&task);
        let exact = of_task.and_then(|attempts| attempts.get(&(attempt, rank))).map(told(true));
        let last = || of_task?.iter().rev().find(|((_, at), _)| *at == rank).map(|(_, course)| told(false)(course));
        // Whoever says how all tasks of a step run says it of each.
        let whole = self.tasks.is_empty();
        exact.or_else(last).or_else(|| self.steps.get(&(task.job, task.step)).map(told(whole)))
    }

    fn settle(&mut self) {
        let mut of_steps: BTreeMap<(JobId, StepIndex), Vec<&Course>> = BTreeMap::new();
        for (key, attempts) in &self.tasks {
            let succeeded = attempts.values().filter(|course| course.end.outcome == AttemptOutcome::Succeeded);
            of_steps.entry((key.job, key.step)).or_default().extend(succeeded);
        }
        let median = |mut all: Vec<&Course>| {
            all.sort_by_key(|course| course.end_ms);
            all.get(all.len() / 2).map(|course| (*course).clone())
        };
        self.steps = of_steps.into_iter().filter_map(|(step, all)| Some((step, median(all)?))).collect();
    }
}

/// What is asked of a cluster.
#[derive(Debug)]
pub struct Workload {
    pub(crate) base: State,
    /// In order of time.
    pub(crate) happenings: Vec<(TimeMs, Happening)>,
    pub(crate) courses: Arc<Courses>,
    /// When the record ends, if something was under way then; otherwise, and where nothing was recorded, it goes on until all is done.
    pub(crate) until: Option<TimeMs>,
}

impl Workload {
    /// Machines that there are at first, and those that come.
    pub fn machines(&self) -> BTreeSet<Name> {
        let come = self.happenings.iter().filter_map(|(_, what)| match what {
            Happening::Register(_, wish) => Some(wish.name.clone()),
            _ => None,
        });
        self.base.nodes().map(|(_, node)| node.name.clone()).chain(come).collect()
    }

    /// The same, ending so many milliseconds after its beginning, whatever is under way then.
    #[must_use]
    pub fn cut(self, after_ms: u64) -> Self {
        let until = self.base.time().after(after_ms);
        Self { until: Some(self.until.map_or(until, |end| end.min(until))), ..self }
    }

    /// The kinds of work with GPUs that it has.
    pub(crate) fn kinds(&self) -> Kinds {
        let come = self.happenings.iter().filter_map(|(_, what)| match what {
            Happening::Submit(_, wish) => Some(&*wish.spec),
            _ => None,
        });
        kinds(open(&self.base).chain(come))
    }

    /// Jobs that are submitted.
    pub fn jobs(&self) -> u64 {
        self.happenings.iter().filter(|(_, what)| matches!(what, Happening::Submit(..))).count() as u64
    }
}

/// Jobs that have not ended.
fn open(state: &State) -> impl Iterator<Item = &JobSpec> {
    state.outlines().filter(|(_, job)| job.ended.is_none()).map(|(_, job)| &**job.spec)
}

/// A history as a workload, and as it was.
#[derive(Debug)]
pub struct Recorded {
    /// What was asked for.
    pub workload: Workload,
    /// What was measured of what came of it.
    pub measures: Measures,
}

/// Takes what was asked for out of a history.
///
/// The history must be one that [`replay`](crate::replay()) applies.
pub fn recorded(history: &History) -> Recorded {
    let mut state = history.base.clone();
    let submitted = history.entries.iter().filter_map(|entry| match &entry.command {
        Command::SubmitJob(wish) => Some(&*wish.spec),
        _ => None,
    });
    let mut observer = Observer::new(&state, &kinds(open(&history.base).chain(submitted)));
    let (mut happenings, mut courses, mut saves) = (Vec::new(), Courses::default(), Saves::default());
    for entry in &history.entries {
        let effects = apply(&mut state, entry.clone());
        observer.saw(&state, &entry.command, &effects);
        let now = state.time();
        let reports = entry.command.reports().iter().flat_map(|agent| &agent.reports);
        reports.for_each(|report| note(&mut courses, &mut saves, &state, report));
        happenings.extend(happening(entry, &effects).map(|what| (now, what)));
    }
    courses.settle();
    let (base, courses) = (history.base.clone(), Arc::new(courses));
    let all_ended = state.outlines().all(|(_, job)| job.ended.is_some());
    let until = (!all_ended).then_some(state.time());
    Recorded { measures: observer.finish(state.time()), workload: Workload { base, happenings, courses, until } }
}

/// What happened from outside in an entry, if anything did.
fn happening(entry: &Entry, effects: &Effects) -> Option<Happening> {
    let touched = |node: &NodeId| effects.changed.nodes.contains(node);
    Some(match (&entry.command, &effects.reply) {
        (Command::SubmitJob(wish), Reply::Submitted { job, existing: false }) => Happening::Submit(*job, wish.clone()),
        (Command::CancelJob { job }, Reply::Done) => Happening::Cancel(*job),
        (Command::PutQueue(queue), Reply::Done) => Happening::Put(queue.clone()),
        (Command::DropQueue { path }, Reply::Done) => Happening::Drop(path.clone()),
        (Command::RegisterNode(wish), Reply::Registered { node, .. }) => Happening::Register(*node, wish.clone()),
        (Command::SetNodeHealth { node, health, .. }, _) if touched(node) => Happening::Health(*node, *health),
        (Command::SetNodeScheduling { node, scheduling }, _) if touched(node) => {
            Happening::Scheduling(*node, *scheduling)
        }
        (Command::ChangeNode(wish), Reply::Done) => Happening::Change(wish.node, wish.change),
        // What was seen under an earlier registration touches nothing.
        (Command::SetDevices(wish), _) if touched(&wish.node) => Happening::Found(wish.node, wish.devices.clone()),
        (Command::ChangeDevice(wish), Reply::Done) => Happening::Device(wish.node, wish.clone()),
        (same @ Command::PutPolicy(_), Reply::Done) => Happening::Same(same.clone()),
        (same @ (Command::RaiseVersion { .. } | Command::BeginEpoch { .. }), _) => Happening::Same(same.clone()),
        _ => return None,
    })
}

/// When members that live were seen to have saved their work: agents say again what they said.
type Saves = BTreeMap<MemberKey, BTreeSet<TimeMs>>;

/// Notes how a member ran that ended by itself.
fn note(courses: &mut Courses, saves: &mut Saves, state: &State, report: &AttemptReport) {
    let saved = report.saved_at.into_iter().chain(report.checkpoint.map(|checkpoint| checkpoint.at));
    for at in saved {
        saves.entry(report.member).or_default().insert(at);
    }
    let (Some(end), key) = (&report.end, report.member) else { return };
    let saved = saves.remove(&key).unwrap_or_default();
    let by_itself =
        matches!(end.outcome, AttemptOutcome::Succeeded | AttemptOutcome::Failed | AttemptOutcome::Rejected);
    let Some(attempt) = state.attempt(key.task, key.attempt).filter(|attempt| attempt.epoch == key.epoch) else {
        return;
    };
    let Some(member) = attempt.members.get(key.rank.0 as usize) else { return };
    // Reports come twice: what counts is the first.
    let first = member.end.as_ref().is_some_and(|known| known.outcome == end.outcome);
    let told = courses.tasks.get(&key.task).is_some_and(|known| known.contains_key(&(key.attempt, key.rank)));
    if by_itself && first && !told {
        let end_ms = state.time().0.saturating_sub(attempt.placed_at.0);
        let ran = member.times.running.map_or(0, |at| at.0.saturating_sub(attempt.placed_at.0));
        let saves = saved.into_iter().map(|at| at.0.saturating_sub(attempt.placed_at.0)).filter(|at| *at < end_ms);
        let course = Course { start_ms: ran.min(end_ms), end_ms, saves: saves.collect(), end: end.clone() };
        courses.note(key.task, key.attempt, key.rank, course);
    }
}
