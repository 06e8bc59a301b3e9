//! What arrives at a cluster under measurement: jobs of tasks that take a time and do nothing.

use std::collections::BTreeSet;

use flowyard_hollow::{DURATION, LABEL};
use flowyard_model::{GpuRequest, Isolation, JobSpec, Name, NetworkMode, OnFailure, QueuePath, Retry, RetryOn};
use flowyard_sdk::flow::{Flow, FlowStep, Foreach, Packing};

use super::traced::Traced;
use crate::cli::bench::BenchFleet;
use crate::failure::Failure;

const MIB: u64 = 1 << 20;
/// Tasks, if nothing is said and there is no trace.
const TASKS: u64 = 10_000;
/// Memory of a task whose shape is the first.
const MEMORY_BYTES: u64 = 64 * MIB;
/// Shapes that differ in their memory; those beyond differ in their CPU, too.
const MEMORIES: u64 = 1_024;
/// Tasks of one job of those that wait for good.
const BACKLOG_ARRAY: u32 = 10_000;
/// Arrivals per second of a steady rate.
const TICKS: u64 = 20;

/// Tasks that are alike and arrive together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) struct Arrival {
    /// When, in milliseconds from the beginning.
    pub at_ms: u64,
    pub duration_ms: u64,
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    pub gpus: u32,
    pub model: Option<String>,
    pub queue: Option<QueuePath>,
    pub user: Option<Name>,
    /// How many; more than one are an array.
    pub count: u32,
    /// Makes its job differ from all others.
    pub mark: Option<u64>,
}

/// All that arrives.
#[derive(Debug)]
pub(super) enum Workload {
    /// Made from flags.
    Made(Made),
    /// Read from a file.
    Traced(Traced),
}

/// What flags ask for.
#[derive(Debug)]
pub(super) struct Made {
    tasks: u64,
    array: u32,
    distinct: bool,
    shapes: u64,
    /// Queues of the bench's own; none if 0.
    queues: u64,
    rate: Option<u64>,
    plain: Arrival,
}

impl Workload {
    /// The workload that the flags ask for.
    ///
    /// # Errors
    /// When the file of a trace cannot be read.
    pub(super) fn of(asked: &BenchFleet) -> Result<Self, Failure> {
        if let Some(path) = &asked.trace {
            return Ok(Self::Traced(Traced::of(super::trace::read(path)?, asked.tasks)));
        }
        let plain = Arrival {
            at_ms: 0,
            duration_ms: asked.duration,
            cpu_milli: 1_000,
            memory_bytes: MEMORY_BYTES,
            gpus: asked.task_gpus,
            model: None,
            queue: asked.queue.clone(),
            user: None,
            count: 1,
            mark: None,
        };
        Ok(Self::Made(Made {
            tasks: asked.tasks.unwrap_or(TASKS),
            array: if asked.distinct { 1 } else { asked.array },
            distinct: asked.distinct,
            shapes: asked.shapes.into(),
            queues: asked.queues.unwrap_or_default().into(),
            rate: asked.rate.map(u64::from),
            plain,
        }))
    }

    /// Tasks that wait in this queue for good: that are alike, as arrays; or that all differ, as a job each.
    pub(super) fn waiting(tasks: u64, distinct: bool, queue: QueuePath) -> Self {
        let plain = Arrival {
            at_ms: 0,
            duration_ms: 0,
            cpu_milli: 1_000,
            memory_bytes: MEMORY_BYTES,
            gpus: 0,
            model: None,
            queue: Some(queue),
            user: None,
            count: 1,
            mark: None,
        };
        let array = if distinct { 1 } else { BACKLOG_ARRAY };
        Self::Made(Made { tasks, array, distinct, shapes: 1, queues: 0, rate: None, plain })
    }

    /// The first queue that something waits in.
    pub(super) fn first_queue(&self) -> QueuePath {
        self.arrivals().find_map(|arrival| arrival.queue).unwrap_or_else(QueuePath::fallback)
    }

    /// How many tasks there are.
    pub(super) fn tasks(&self) -> u64 {
        match self {
            Self::Made(made) => made.tasks,
            Self::Traced(traced) => traced.tasks,
        }
    }

    /// What arrives, in order of time.
    pub(super) fn arrivals(&self) -> Box<dyn Iterator<Item = Arrival> + Send + '_> {
        match self {
            Self::Made(made) => Box::new(made.arrivals()),
            Self::Traced(traced) => Box::new(traced.arrivals()),
        }
    }

    /// Every queue that is named.
    pub(super) fn queues(&self) -> Result<BTreeSet<QueuePath>, Failure> {
        match self {
            Self::Made(made) => (0..made.queues).map(queue).chain(made.plain.queue.clone().map(Ok)).collect(),
            Self::Traced(traced) => Ok(traced.arrivals.iter().filter_map(|arrival| arrival.queue.clone()).collect()),
        }
    }

    /// Everybody who submits, besides the usual one.
    pub(super) fn users(&self) -> BTreeSet<&Name> {
        match self {
            Self::Made(_) => BTreeSet::new(),
            Self::Traced(traced) => traced.arrivals.iter().filter_map(|arrival| arrival.user.as_ref()).collect(),
        }
    }
}

impl Made {
    fn arrivals(&self) -> impl Iterator<Item = Arrival> + Send + '_ {
        let (mut submitted, mut jobs) = (0, 0);
        std::iter::from_fn(move || {
            let left = self.tasks - submitted;
            // Shapes take turns, so none has more than its share.
            let kinds = self.shapes * self.queues.max(1);
            let share = self.tasks.div_ceil(kinds).min(self.array.into());
            let due = self.rate.map_or(share, |rate| share.min((rate / TICKS).max(1)));
            let count = u32::try_from(due.min(left)).unwrap_or(u32::MAX);
            if count == 0 {
                return None;
            }
            let at_ms = self.rate.map_or(0, |rate| submitted.saturating_mul(1_000) / rate);
            let shape = jobs % self.shapes;
            let own = (jobs / self.shapes).checked_rem(self.queues).and_then(|number| queue(number).ok());
            let queue = own.or_else(|| self.plain.queue.clone());
            let mark = self.distinct.then_some(jobs);
            submitted += u64::from(count);
            jobs += 1;
            let memory_bytes = self.plain.memory_bytes + shape % MEMORIES * MIB;
            let cpu_milli = self.plain.cpu_milli - shape / MEMORIES;
            Some(Arrival { at_ms, count, mark, memory_bytes, cpu_milli, queue, ..self.plain.clone() })
        })
    }
}

/// A queue of the bench's own.
fn queue(number: u64) -> Result<QueuePath, Failure> {
    format!("bench/q{number:03}").parse().map_err(|error| Failure::Internal(format!("a queue: {error}")))
}

impl Arrival {
    /// The job that is submitted for it.
    ///
    /// # Errors
    /// A fault of ours.
    pub(super) fn job(&self, run: &Name, tag: &Name, retries: u32) -> Result<JobSpec, Failure> {
        let fault = |error: String| Failure::Internal(format!("the jobs of a bench: {error}"));
        let name: Name = "bench".parse().map_err(|error| fault(format!("{error}")))?;
        let label: Name = LABEL.parse().map_err(|error| fault(format!("{error}")))?;
        let mut command = vec!["hollow".to_owned()];
        let mut env = std::collections::BTreeMap::from([(DURATION.to_owned(), self.duration_ms.to_string())]);
        if let Some(mark) = self.mark {
            command.push(format!("--item={mark}"));
            env.insert("HOLLOW_MARK".to_owned(), mark.to_string());
        }
        let gpus = (self.gpus > 0).then(|| GpuRequest {
            count: self.gpus,
            model: self.model.clone(),
            min_memory_bytes: 0,
            same_link_group: false,
            share_milli: 1_000,
            memory_bytes: 0,
            link: None,
        });
        let step = FlowStep {
            run: command,
            env,
            cpu_milli: Some(self.cpu_milli),
            memory_bytes: Some(self.memory_bytes),
            gpus: Some(gpus.into_iter().collect()),
            foreach: (self.count > 1).then_some(Foreach::Range { start: 0, count: self.count }),
            retry: Some(Retry::plain(retries, 0, [RetryOn::Failed])),
            on_failure: Some(OnFailure::Continue),
            labels: [(label, run.to_string())].into(),
            network: Some(NetworkMode::Host),
            isolation: Some(Isolation::Process),
            ..FlowStep::default()
        };
        let mut flow = Flow::one_step(name, step);
        flow.tags.insert(tag.to_string());
        if let Some(queue) = &self.queue {
            flow.queue = queue.clone();
        }
        Ok(flow.resolve(std::path::Path::new("/"), &[], &mut Packing::default())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(tasks: u64, array: u32, shapes: u64, rate: Option<u64>) -> Vec<Arrival> {
        queued(tasks, array, shapes, 0, rate)
    }

    fn queued(tasks: u64, array: u32, shapes: u64, queues: u64, rate: Option<u64>) -> Vec<Arrival> {
        let plain = Arrival {
            at_ms: 0,
            duration_ms: 5,
            cpu_milli: 1_000,
            memory_bytes: MEMORY_BYTES,
            gpus: 0,
            model: None,
            queue: None,
            user: None,
            count: 1,
            mark: None,
        };
        let made = Made { tasks, array, distinct: array == 1, shapes, queues, rate, plain };
        Workload::Made(made).arrivals().collect()
    }

    fn counts(arrivals: &[Arrival]) -> Vec<u32> {
        arrivals.iter().map(|arrival| arrival.count).collect()
    }

    #[test]
    fn tasks_come_as_arrays_that_take_turns_between_the_shapes() {
        assert_eq!(counts(&made(25, 10, 1, None)), [10, 10, 5]);
        let shaped = made(10, 10, 3, None);
        assert_eq!(counts(&shaped), [4, 4, 2]);
        let memory: BTreeSet<_> = shaped.iter().map(|arrival| arrival.memory_bytes).collect();
        assert_eq!(memory.len(), 3);
    }

    #[test]
    fn every_queue_gets_tasks_of_every_shape() {
        let arrivals = queued(60, 10, 2, 3, None);
        let kinds: BTreeSet<_> = arrivals.iter().map(|it| (it.memory_bytes, it.queue.clone().unwrap())).collect();
        assert_eq!((counts(&arrivals), kinds.len()), (vec![10; 6], 6));
        assert!(made(5, 10, 1, None)[0].queue.is_none());
    }

    #[test]
    fn each_of_distinct_tasks_is_a_job_that_differs_from_the_others() {
        let run: Name = "bench-1".parse().unwrap();
        let jobs: Vec<_> = made(3, 1, 1, None).iter().map(|arrival| arrival.job(&run, &run, 0).unwrap()).collect();
        assert!(jobs[0].steps[0].command != jobs[1].steps[0].command && jobs[0].steps[0].env != jobs[1].steps[0].env);
        assert!(jobs.iter().all(|job| job.tags.contains("bench-1")));
    }

    #[test]
    fn a_rate_spreads_arrivals_over_time() {
        let arrivals = made(1_000, 10_000, 1, Some(200));
        assert_eq!(arrivals.len(), 100);
        assert_eq!((arrivals[0].at_ms, arrivals[1].at_ms, arrivals[99].at_ms), (0, 50, 4_950));
        assert_eq!(counts(&made(3, 10, 1, Some(1))), [1, 1, 1]);
    }
}
