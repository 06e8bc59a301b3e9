//! A workload from a trace: what arrived when, for how long, on machines of which only their kinds are given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::{
    AttemptOutcome, Blame, ClusterVersion, Command, Digest, End, Entry, FanOut, GpuRequest, Image, Inventory,
    Isolation, JobId, JobSpec, Logs, Name, NetworkMode, NodeId, OnDisconnect, OnFailure, Placing, Queue, QueuePath,
    Reason, RegisterNode, Resources, Retry, Revision, StepIndex, StepSpec, StopSignal, SubmitJob, TimeMs, limits,
};
use flowyard_state::{State, apply};

use crate::workload::{Course, Courses, Happening, Workload};

/// When a trace begins; any time would do.
const BEGIN: TimeMs = TimeMs(1_000_000_000_000);
/// Bounds that people declare, in milliseconds: the next one above half as much again as the task takes.
const BOUNDS_MS: [u64; 10] = [
    600_000,
    3_600_000,
    4 * 3_600_000,
    12 * 3_600_000,
    24 * 3_600_000,
    2 * 24 * 3_600_000,
    4 * 24 * 3_600_000,
    7 * 24 * 3_600_000,
    14 * 24 * 3_600_000,
    60 * 24 * 3_600_000,
];

/// Tasks that are alike and arrive together, as one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// When, in milliseconds from the beginning.
    pub at_ms: u64,
    /// How long each takes.
    pub duration_ms: u64,
    /// Thousandths of a CPU of each.
    pub cpu_milli: u64,
    /// Memory of each, in bytes.
    pub memory_bytes: u64,
    /// GPUs of each. More than any machine has makes it a gang whose members have as many as one machine.
    pub gpus: u32,
    /// Thousandths of each; 1,000 for whole ones.
    pub share_milli: u32,
    /// Their model; any if `None`.
    pub model: Option<String>,
    /// Where it waits; the usual queue if `None`.
    pub queue: Option<QueuePath>,
    /// Who submits it.
    pub user: String,
    /// How many tasks.
    pub count: u32,
}

/// Machines that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machines {
    /// Each has a name of its own.
    pub names: Vec<Name>,
    /// What each offers.
    pub inventory: Arc<Inventory>,
}

/// A trace that cannot be a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TraceError(String);

/// The workload of a trace, in the order of its arrivals. Queues that it names and nobody put are of weight 1.
///
/// # Errors
/// When a machine's name is given twice, or what arrives is more than a job may be.
pub fn of_arrivals(arrivals: &[Arrival], machines: &[Machines], queues: &[Arc<Queue>]) -> Result<Workload, TraceError> {
    let mut arrivals: Vec<&Arrival> = arrivals.iter().collect();
    arrivals.sort_by_key(|arrival| arrival.at_ms);
    let most = machines.iter().map(|them| them.inventory.gpus.len() as u32).max().unwrap_or(0);
    let base = base(&arrivals, machines, queues)?;
    let (mut happenings, mut courses) = (Vec::with_capacity(arrivals.len()), Courses::default());
    for (id, arrival) in (1..).map(JobId).zip(&arrivals) {
        let spec = Arc::new(spec(arrival, most)?);
        let spec_digest = Digest { hash: [0; 32], length: 0 };
        let wish = SubmitJob { spec, spec_digest, owner: arrival.user.clone(), key: None };
        happenings.push((BEGIN.after(arrival.at_ms), Happening::Submit(id, wish)));
        let course =
            Course { start_ms: 0, end_ms: arrival.duration_ms, saves: Arc::default(), end: Arc::new(succeeded()) };
        courses.note_step(id, StepIndex(0), course);
    }
    Ok(Workload { base, happenings, courses: Arc::new(courses), until: None })
}

/// The machines and queues, before anything arrives.
fn base(arrivals: &[&Arrival], machines: &[Machines], queues: &[Arc<Queue>]) -> Result<State, TraceError> {
    let mut commands = vec![Command::RaiseVersion { version: ClusterVersion::ACCESS }];
    let put: BTreeSet<&QueuePath> = queues.iter().map(|queue| &queue.path).collect();
    let named: BTreeSet<&QueuePath> = arrivals.iter().filter_map(|arrival| arrival.queue.as_ref()).collect();
    let plain = named.into_iter().filter(|path| !put.contains(path)).map(|path| Arc::new(Queue::new(path.clone())));
    commands.extend(queues.iter().cloned().chain(plain).map(Command::PutQueue));
    for Machines { names, inventory } in machines {
        let wish = |name: &Name| RegisterNode { name: name.clone(), inventory: inventory.clone(), previous: None };
        commands.extend(names.iter().map(|name| Command::RegisterNode(wish(name))));
    }
    let mut state = State::new();
    for (index, command) in (1..).map(Revision).zip(commands) {
        let effects = apply(&mut state, Entry { index, time: BEGIN, command });
        if let flowyard_model::Reply::Rejected(why) = effects.reply {
            return Err(TraceError(why.to_string()));
        }
    }
    match state.node(NodeId(1)) {
        Some(_) => Ok(state),
        None => Err(TraceError("there is no machine: give a file of machines".to_owned())),
    }
}

fn spec(arrival: &Arrival, most: u32) -> Result<JobSpec, TraceError> {
    let word = |text: &str| -> Result<Name, TraceError> { text.parse().map_err(|_| TraceError(text.to_owned())) };
    let each = if most == 0 { arrival.gpus } else { arrival.gpus.min(most) };
    let size = arrival.gpus.div_ceil(each.max(1)).max(1);
    if arrival.count == 0 || arrival.count > limits::TASKS_PER_STEP || size > limits::GANG {
        let (count, gpus) = (arrival.count, arrival.gpus);
        return Err(TraceError(format!("{count} tasks of {gpus} GPUs are no job, or more than one may be")));
    }
    let gpu = GpuRequest {
        count: each,
        model: arrival.model.clone(),
        min_memory_bytes: 0,
        same_link_group: false,
        share_milli: arrival.share_milli,
        memory_bytes: 0,
        link: None,
    };
    // The members of a gang share what was said of the whole.
    let share = |whole: u64| (whole / u64::from(size)).max(1);
    let resources = Resources {
        cpu_milli: share(arrival.cpu_milli),
        memory_bytes: share(arrival.memory_bytes),
        disk_bytes: 0,
        shm_bytes: 0,
        tokens: BTreeMap::new(),
        gpus: if each > 0 { vec![gpu] } else { Vec::new() },
    };
    Ok(JobSpec {
        name: word("trace")?,
        queue: arrival.queue.clone().unwrap_or_else(QueuePath::fallback),
        priority: 0,
        tags: BTreeSet::new(),
        params: BTreeMap::new(),
        steps: vec![step(word("task")?, arrival, resources, size)],
        after: Vec::new(),
        retention_ms: None,
        deadline_ms: None,
        queue_ttl_ms: None,
    })
}

fn step(name: Name, arrival: &Arrival, resources: Resources, size: u32) -> StepSpec {
    let bound = arrival.duration_ms.saturating_add(arrival.duration_ms / 2);
    StepSpec {
        name,
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: Isolation::Process,
        code: None,
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        fan_out: FanOut::Range { start: 0, count: arrival.count },
        needs: BTreeMap::new(),
        env: BTreeMap::new(),
        resources,
        size,
        retry: Retry::plain(0, 0, []),
        timeout_ms: Some(BOUNDS_MS.into_iter().find(|menu| *menu >= bound).unwrap_or(bound)),
        expected_ms: None,
        on_failure: OnFailure::Continue,
        max_parallel: None,
        constraints: Vec::new(),
        network: NetworkMode::Host,
        mounts: Vec::new(),
        kill_grace_ms: 0,
        stop_signal: StopSignal::default(),
        on_disconnect: OnDisconnect::Keep,
        secrets: Vec::new(),
        priority: 0,
        preemptible: true,
        notice: None,
        placing: Placing::default(),
    }
}

fn succeeded() -> End {
    End {
        outcome: AttemptOutcome::Succeeded,
        reason: Reason::Exit,
        blame: Blame::User,
        exit_code: Some(0),
        signal: None,
        message: String::new(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: BTreeMap::new(),
        logs: Logs::NONE,
    }
}
