//! Changes that might let a task start, and the state in which one has been made.
//!
//! A queue is changed where it is. A step cannot be changed once its job was taken: the tasks that wait are withdrawn, and as many of the
//! changed step are submitted now, so that they are the youngest of their owner. What runs of the step goes on, and so does all else.

use std::sync::Arc;

use flowyard_model::{
    ClusterVersion, Command, Constraint, Entry, FanOut, GpuLink, GpuRequest, JobSpec, Name, Queue, QueuePath, Reply,
    Revision, Spread, StepIndex, StepSpec, SubmitJob, TaskIndex, TaskKey, TimeMs,
};
use flowyard_state::{State, apply};

use super::Resource;

/// One change of a step, of its job's priority, or of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Fewer GPUs by an alternative, each member.
    Gpus {
        /// The position of the alternative.
        alternative: u32,
        /// As it is.
        from: u32,
        /// As it might be.
        to: u32,
    },
    /// GPUs of another model by an alternative.
    Model {
        /// The position of the alternative.
        alternative: u32,
        /// As it is.
        from: String,
        /// As it might be.
        to: String,
    },
    /// GPUs by an alternative wherever they are on the node.
    Unlinked {
        /// The position of the alternative.
        alternative: u32,
        /// How near they have to be.
        from: GpuLink,
    },
    /// Less CPU, in thousandths, each member.
    Cpu {
        /// As it is.
        from: u64,
        /// As it might be.
        to: u64,
    },
    /// Less memory, each member.
    Memory {
        /// As it is.
        from: u64,
        /// As it might be.
        to: u64,
    },
    /// Less scratch space, each member.
    Disk {
        /// As it is.
        from: u64,
        /// As it might be.
        to: u64,
    },
    /// Fewer members of a gang.
    Members {
        /// As it is.
        from: u32,
        /// As it might be.
        to: u32,
        /// Whether it is with how many it starts at least, where its size is not fixed; else its size.
        is_least: bool,
    },
    /// Fewer of a token, each member.
    Tokens {
        /// Of which.
        name: Name,
        /// As it is.
        from: u32,
        /// As it might be.
        to: u32,
    },
    /// A smaller part of each GPU by an alternative, in thousandths.
    Share {
        /// The position of the alternative.
        alternative: u32,
        /// As it is.
        from: u32,
        /// As it might be.
        to: u32,
    },
    /// Less memory with the part of each GPU by an alternative.
    ShareMemory {
        /// The position of the alternative.
        alternative: u32,
        /// As it is.
        from: u64,
        /// As it might be.
        to: u64,
    },
    /// GPUs with less memory by an alternative.
    GpuMemory {
        /// The position of the alternative.
        alternative: u32,
        /// As it is.
        from: u64,
        /// As it might be.
        to: u64,
    },
    /// A gang that may be in several domains of a level.
    NotNear(Name),
    /// A step that may be evicted.
    Preemptible,
    /// Without a constraint.
    Without(Constraint),
    /// Without being spread.
    NotSpread(Spread),
    /// Without a node to itself among its own.
    NotUnique,
    /// Without keeping apart from these tags.
    NotApart(Vec<String>),
    /// A higher priority of the job.
    Priority {
        /// As it is.
        from: i32,
        /// As it might be.
        to: i32,
    },
    /// More tasks of the step at a time.
    MaxParallel {
        /// As it is.
        from: u32,
        /// As it might be.
        to: u32,
    },
    /// More active tasks in a queue.
    MaxActive {
        /// Which.
        queue: QueuePath,
        /// As it is.
        from: u32,
        /// As it might be.
        to: u32,
    },
    /// A higher limit of a queue.
    Limit {
        /// Which.
        queue: QueuePath,
        /// Of what.
        resource: Resource,
        /// As it is.
        from: u64,
        /// As it might be.
        to: u64,
    },
    /// A queue may borrow more.
    Borrow {
        /// Which.
        queue: QueuePath,
        /// Of what.
        resource: Resource,
        /// As it is.
        from: u64,
        /// As it might be.
        to: u64,
    },
    /// A queue lends more of what is kept for it.
    Lend {
        /// Which.
        queue: QueuePath,
        /// Of what.
        resource: Resource,
        /// As it is.
        from: u64,
        /// As it might be.
        to: u64,
    },
}

impl Change {
    /// The queue that it changes, if it does.
    pub fn queue(&self) -> Option<&QueuePath> {
        match self {
            Self::MaxActive { queue, .. }
            | Self::Limit { queue, .. }
            | Self::Borrow { queue, .. }
            | Self::Lend { queue, .. } => Some(queue),
            _ => None,
        }
    }

    /// How much of what there is it changes, in thousandths: to tell the smaller one of two.
    pub fn size(&self) -> u64 {
        let part = |from: u64, to: u64| {
            let thousandths = u128::from(from.abs_diff(to)) * 1_000 / u128::from(from.max(1));
            u64::try_from(thousandths).unwrap_or(u64::MAX)
        };
        match self {
            Self::Gpus { from, to, .. }
            | Self::MaxActive { from, to, .. }
            | Self::MaxParallel { from, to }
            | Self::Members { from, to, .. }
            | Self::Tokens { from, to, .. }
            | Self::Share { from, to, .. } => part(u64::from(*from), u64::from(*to)),
            Self::Cpu { from, to }
            | Self::Memory { from, to }
            | Self::Disk { from, to }
            | Self::ShareMemory { from, to, .. }
            | Self::GpuMemory { from, to, .. }
            | Self::Lend { from, to, .. }
            | Self::Limit { from, to, .. }
            | Self::Borrow { from, to, .. } => part(*from, *to),
            // What is given up or asked of others is more than any part of an amount.
            Self::Priority { .. } => 1_000,
            Self::Model { .. } | Self::Unlinked { .. } => 1_001,
            Self::Without(_) | Self::NotSpread(_) | Self::NotUnique | Self::NotApart(_) | Self::NotNear(_) => 1_002,
            Self::Preemptible => 1_003,
        }
    }

    /// Makes a change of a job in its spec.
    pub(crate) fn make(&self, spec: &mut JobSpec, step: StepIndex) -> Option<()> {
        if let Self::Priority { to, .. } = self {
            spec.priority = *to;
            return Some(());
        }
        let step = spec.steps.get_mut(step.0 as usize)?;
        match self {
            Self::Gpus { alternative, to, .. } => step.resources.gpus.get_mut(*alternative as usize)?.count = *to,
            Self::Model { alternative, to, .. } => {
                step.resources.gpus.get_mut(*alternative as usize)?.model = Some(to.clone());
            }
            Self::Unlinked { alternative, .. }
            | Self::Share { alternative, .. }
            | Self::ShareMemory { alternative, .. }
            | Self::GpuMemory { alternative, .. } => {
                self.make_of_gpus(step.resources.gpus.get_mut(*alternative as usize)?);
            }
            Self::Members { to, is_least: true, .. } => step.placing.min_size = Some(*to),
            Self::Members { to, .. } => step.size = *to,
            Self::Tokens { name, to: 0, .. } => drop(step.resources.tokens.remove(name)),
            Self::Tokens { name, to, .. } => drop(step.resources.tokens.insert(name.clone(), *to)),
            Self::NotNear(_) => step.placing.near = None,
            Self::Preemptible => step.preemptible = true,
            Self::Cpu { to, .. } => step.resources.cpu_milli = *to,
            Self::Memory { to, .. } => step.resources.memory_bytes = *to,
            Self::Disk { to, .. } => step.resources.disk_bytes = *to,
            Self::Without(constraint) => step.constraints.retain(|other| other != constraint),
            Self::MaxParallel { to, .. } => step.max_parallel = Some(*to),
            Self::NotSpread(_) => step.placing.spread = None,
            Self::NotUnique => step.placing.unique_host = false,
            Self::NotApart(_) => step.placing.apart.clear(),
            Self::Priority { .. }
            | Self::MaxActive { .. }
            | Self::Limit { .. }
            | Self::Borrow { .. }
            | Self::Lend { .. } => {}
        }
        Some(())
    }

    /// Makes a change of what is asked of devices.
    fn make_of_gpus(&self, request: &mut GpuRequest) {
        match self {
            Self::Unlinked { .. } => *request = request.anyhow_linked(),
            Self::Share { to, .. } => request.share_milli = *to,
            Self::ShareMemory { to, .. } => request.memory_bytes = *to,
            Self::GpuMemory { to, .. } => request.min_memory_bytes = *to,
            _ => {}
        }
    }

    /// Makes a change of a queue in its record.
    fn put(&self, queue: &mut Queue) {
        match self {
            Self::MaxActive { to, .. } => queue.max_active = Some(*to),
            Self::Limit { resource, to, .. } => resource.set(&mut queue.limit, *to),
            Self::Borrow { resource, to, .. } => resource.set(&mut queue.borrow, *to),
            Self::Lend { resource, to, .. } => resource.set(&mut queue.lend, *to),
            _ => {}
        }
    }
}

/// What is asked about.
#[derive(Debug, Clone)]
pub enum Question {
    /// A task that waits.
    Waiting(TaskKey),
    /// The first task of a step of a job that is not submitted yet.
    Submission {
        /// The job.
        wish: SubmitJob,
        /// The step.
        step: StepIndex,
    },
}

/// What is asked about, in its state.
pub(crate) struct Base<'a> {
    state: &'a State,
    question: &'a Question,
    now: TimeMs,
    /// The place of the task among the ready ones of its step, and how many there are.
    place: (u32, u32),
}

impl<'a> Base<'a> {
    pub(crate) fn of(state: &'a State, question: &'a Question, now: TimeMs) -> Self {
        let place = match question {
            Question::Submission { .. } => (0, 1),
            Question::Waiting(task) => {
                let mut ready = state.ready_tasks(task.job, task.step);
                let count = state.step(task.job, task.step).map_or(0, |step| step.counts.ready);
                (ready.position(|(known, _)| known == task.task).unwrap_or(0) as u32, count)
            }
        };
        Self { state, question, now, place }
    }

    /// The place of the task among the ready ones of its step.
    pub(crate) fn rank(&self) -> u32 {
        self.place.0
    }

    /// The state in which the changes have been made, and the task in it; nothing if they cannot be made.
    pub(crate) fn with(&self, changes: &[Change]) -> Option<(State, TaskKey)> {
        let mut state = self.state.clone();
        for change in changes {
            if let Some(path) = change.queue() {
                let mut queue = Queue::clone(state.queue(path)?);
                change.put(&mut queue);
                perform(&mut state, self.now, Command::PutQueue(Arc::new(queue)))
                    .filter(|reply| *reply == Reply::Done)?;
            }
        }
        let of_job: Vec<_> = changes.iter().filter(|change| change.queue().is_none()).collect();
        match self.question {
            Question::Waiting(task) if of_job.is_empty() => Some((state, *task)),
            Question::Waiting(task) => self.resubmitted(&state, *task, &of_job),
            Question::Submission { wish, step } => {
                let mut wish = wish.clone();
                let spec = Arc::make_mut(&mut wish.spec);
                of_job.into_iter().try_for_each(|change| change.make(spec, *step))?;
                let job = self.submit(&mut state, wish)?;
                Some((state, TaskKey { job, step: *step, task: TaskIndex(0) }))
            }
        }
    }

    fn resubmitted(&self, state: &State, task: TaskKey, changes: &[&Change]) -> Option<(State, TaskKey)> {
        let job = state.job(task.job)?;
        let active = state.step(task.job, task.step)?.counts.active;
        let mut spec = JobSpec::clone(&job.spec);
        changes.iter().try_for_each(|change| change.make(&mut spec, task.step))?;
        let mut step = spec.steps.get(task.step.0 as usize)?.clone();
        (step.inputs, step.needs) = (Default::default(), Default::default());
        let (rank, count) = self.place;
        step.fan_out = if count == 1 { FanOut::Single } else { FanOut::Range { start: 0, count } };
        // What runs of the step counts, too.
        step.max_parallel = step.max_parallel.map(|most| most.saturating_sub(active));
        if step.max_parallel == Some(0) {
            return None;
        }
        let spec = alone(spec, step);
        let mut state = state.withdrawn(task.job, task.step);
        let wish = SubmitJob {
            spec: Arc::new(spec),
            spec_digest: flowyard_model::Digest { hash: [0; 32], length: 0 },
            owner: job.owner.clone(),
            key: None,
        };
        let job = self.submit(&mut state, wish)?;
        state.count_as((task.job, task.step), (job, StepIndex(0)));
        Some((state, TaskKey { job, step: StepIndex(0), task: TaskIndex(rank) }))
    }

    fn submit(&self, state: &mut State, wish: SubmitJob) -> Option<flowyard_model::JobId> {
        if wish.spec.is_newer() && state.version() < ClusterVersion::ACCESS {
            perform(state, self.now, Command::RaiseVersion { version: ClusterVersion::ACCESS })?;
        }
        match perform(state, self.now, Command::SubmitJob(wish))? {
            Reply::Submitted { job, .. } => Some(job),
            _ => None,
        }
    }
}

/// A job of one step of another one, which waits for nothing.
fn alone(spec: JobSpec, step: StepSpec) -> JobSpec {
    JobSpec { steps: vec![step], after: Vec::new(), deadline_ms: None, queue_ttl_ms: None, ..spec }
}

/// Applies a command to a copy.
pub(crate) fn perform(state: &mut State, now: TimeMs, command: Command) -> Option<Reply> {
    let index = Revision(state.revision().0 + 1);
    match apply(state, Entry { index, time: now.max(state.time()), command }).reply {
        Reply::Rejected(_) => None,
        reply => Some(reply),
    }
}
