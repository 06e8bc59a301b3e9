//! A cluster that tests lead through real commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::*;
use flowyard_scheduling::why::{Change, Explanation, Question, explain};
use flowyard_scheduling::{Bound, Scheduler};
use flowyard_state::{State, apply};

pub(crate) const BOUND: Bound = Bound { tasks: 4_000, steps: 4_000_000 };

/// A cluster of version 2.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: u64,
    /// Whether time stands still while commands are applied.
    pub(crate) stands_still: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self { state: State::new(), now: 1_000_000, stands_still: false };
        world.perform(Command::RaiseVersion { version: ClusterVersion::ACCESS });
        world
    }

    pub(crate) fn perform(&mut self, command: Command) -> Reply {
        self.now += u64::from(!self.stands_still);
        let index = Revision(self.state.revision().0 + 1);
        apply(&mut self.state, Entry { index, time: TimeMs(self.now), command }).reply
    }

    pub(crate) fn node(&mut self, name: &str, inventory: Inventory) -> NodeId {
        let wish = RegisterNode { name: name.parse().unwrap(), inventory: Arc::new(inventory), previous: None };
        self.perform(Command::RegisterNode(wish));
        self.state.node_named(&name.parse().unwrap()).unwrap().0
    }

    pub(crate) fn put(&mut self, queue: Queue) -> Reply {
        self.perform(Command::PutQueue(queue.into()))
    }

    /// A job of one step; its number.
    pub(crate) fn submit(&mut self, queue: &str, owner: &str, priority: i32, step: StepSpec) -> JobId {
        self.submit_job(owner, JobSpec { priority, ..job(queue, vec![step]) })
    }

    pub(crate) fn submit_job(&mut self, owner: &str, spec: JobSpec) -> JobId {
        match self.perform(Command::SubmitJob(wish(owner, spec))) {
            Reply::Submitted { job, .. } => job,
            other => panic!("{other:?}"),
        }
    }

    /// Rounds until there is nothing more to be done.
    pub(crate) fn settle(&mut self) {
        assert!((0..99).any(|_| self.round() == 0), "it comes to rest");
    }

    /// One round, committed; how many plans there were.
    pub(crate) fn round(&mut self) -> usize {
        let plans = Scheduler::new(0).round(&self.state, TimeMs(self.now).max(self.state.time()), BOUND).plans;
        let count = plans.len();
        for plan in plans {
            assert_eq!(
                self.perform(Command::CommitPlan(plan)),
                Reply::PlanCommitted { refused: vec![], refused_claims: vec![] }
            );
        }
        count
    }

    /// A member ends well.
    pub(crate) fn end(&mut self, node: NodeId, member: MemberKey) {
        let end = End {
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
        };
        let (phase, times, end) = (Phase::Ended, PhaseTimes::NONE, Some(Arc::new(end)));
        let reports = vec![AttemptReport { member, phase, times, end, checkpoint: None, stuck: None, saved_at: None }];
        let incarnation = self.state.node(node).unwrap().incarnation;
        self.perform(Command::ReportAttempts(ReportAttempts { node, incarnation, reports }));
    }

    pub(crate) fn live(&self) -> Vec<(NodeId, MemberKey)> {
        let nodes = self.state.nodes();
        nodes.flat_map(|(id, _)| self.state.live_members(id).map(move |(key, ..)| (id, key))).collect()
    }

    pub(crate) fn explain(&self, task: TaskKey) -> Explanation {
        explain(&self.state, &Question::Waiting(task), TimeMs(self.now)).expect("it waits")
    }

    /// The first task of the first step.
    pub(crate) fn first(&self, job: JobId) -> Explanation {
        self.explain(key(job, 0))
    }

    /// Carries a fix out as people would: queues are put, a job is cancelled and submitted anew with the change. The task, then.
    pub(crate) fn carry_out(&mut self, task: TaskKey, changes: &[Change]) -> Option<TaskKey> {
        for change in changes {
            if let Some(queue) = changed_queue(&self.state, change) {
                assert_eq!(self.put(queue), Reply::Done);
            }
        }
        if changes.iter().all(|change| change.queue().is_some()) {
            return Some(task);
        }
        let job = self.state.job(task.job).unwrap().clone();
        let step = self.state.step(task.job, task.step).unwrap();
        if job.spec.steps.len() > 1 || step.counts.active > 0 {
            return None;
        }
        let (count, rank) = (step.counts.ready, self.rank(task));
        let mut spec = JobSpec::clone(&job.spec);
        spec.steps[0].fan_out = FanOut::Range { start: 0, count };
        changes.iter().for_each(|change| change_spec(&mut spec, change));
        self.perform(Command::CancelJob { job: task.job });
        Some(key(self.submit_job(&job.owner, spec), rank))
    }

    pub(crate) fn rank(&self, task: TaskKey) -> u32 {
        let mut ready = self.state.ready_tasks(task.job, task.step);
        ready.position(|(known, _)| known == task.task).unwrap() as u32
    }

    /// Whether the next round places a task.
    pub(crate) fn is_placed_next(&self, task: TaskKey) -> bool {
        let mut then = self.clone();
        then.round();
        then.state.task_state(task) == Some(TaskState::Active)
    }
}

pub(crate) fn key(job: JobId, task: u32) -> TaskKey {
    TaskKey { job, step: StepIndex(0), task: TaskIndex(task) }
}

pub(crate) fn wish(owner: &str, spec: JobSpec) -> SubmitJob {
    let spec_digest = Digest { hash: [0; 32], length: 0 };
    SubmitJob { spec: Arc::new(spec), spec_digest, owner: owner.to_owned(), key: None }
}

/// The test's own reading of a change of a queue.
fn changed_queue(state: &State, change: &Change) -> Option<Queue> {
    let mut queue = Queue::clone(state.queue(change.queue()?).unwrap());
    let name = |amounts: &mut QueueAmounts, column: Column<'_>, to: u64| match column {
        Column::Cpu => amounts.cpu_milli = Some(to),
        Column::Memory => amounts.memory_bytes = Some(to),
        Column::Disk => amounts.disk_bytes = Some(to),
        Column::Gpu(class) => drop(amounts.gpu_milli.insert(class.clone(), to)),
        Column::Token(token) => drop(amounts.tokens.insert(token.clone(), to)),
    };
    match change {
        Change::MaxActive { from, to, .. } => {
            assert_eq!(queue.max_active.replace(*to), Some(*from));
        }
        Change::Limit { resource, from, to, .. } => {
            assert_eq!(queue.limit.get(resource.column()), Some(*from));
            name(&mut queue.limit, resource.column(), *to);
        }
        Change::Borrow { resource, from, to, .. } => {
            assert_eq!(queue.borrow.get(resource.column()), Some(*from));
            name(&mut queue.borrow, resource.column(), *to);
        }
        Change::Lend { resource, from, to, .. } => {
            assert_eq!(queue.lend.get(resource.column()), Some(*from));
            name(&mut queue.lend, resource.column(), *to);
        }
        _ => {}
    }
    Some(queue)
}

/// The test's own reading of a change of a step.
pub(crate) fn change_spec(spec: &mut JobSpec, change: &Change) {
    let step = &mut spec.steps[0];
    match change {
        Change::Gpus { alternative, from, to } => {
            let count = &mut step.resources.gpus[*alternative as usize].count;
            assert_eq!(count, from);
            *count = *to;
        }
        Change::Model { alternative, to, .. } => {
            step.resources.gpus[*alternative as usize].model = Some(to.clone());
        }
        Change::Unlinked { alternative, from } => {
            let request = &mut step.resources.gpus[*alternative as usize];
            let old = (from == &GpuLink::Nvlink && request.link.is_none()).then_some(true);
            assert_eq!(std::mem::replace(&mut request.same_link_group, false), old.is_some());
            assert_eq!(request.link.take(), Some(*from).filter(|_| old.is_none()));
        }
        Change::Cpu { from, to } => {
            assert_eq!(std::mem::replace(&mut step.resources.cpu_milli, *to), *from);
        }
        Change::Memory { from, to } => {
            assert_eq!(std::mem::replace(&mut step.resources.memory_bytes, *to), *from);
        }
        Change::Disk { from, to } => {
            assert_eq!(std::mem::replace(&mut step.resources.disk_bytes, *to), *from);
        }
        Change::Members { from, to, is_least: false } => assert_eq!(std::mem::replace(&mut step.size, *to), *from),
        Change::Members { from, to, .. } => assert_eq!(step.placing.min_size.replace(*to), Some(*from)),
        Change::Tokens { name, from, to } => {
            assert_eq!(step.resources.tokens.insert(name.clone(), *to), Some(*from));
            step.resources.tokens.retain(|_, count| *count > 0);
        }
        Change::Share { alternative, from, to } => {
            let share = &mut step.resources.gpus[*alternative as usize].share_milli;
            assert_eq!(std::mem::replace(share, *to), *from);
        }
        Change::ShareMemory { alternative, from, to } => {
            let memory = &mut step.resources.gpus[*alternative as usize].memory_bytes;
            assert_eq!(std::mem::replace(memory, *to), *from);
        }
        Change::GpuMemory { alternative, from, to } => {
            let least = &mut step.resources.gpus[*alternative as usize].min_memory_bytes;
            assert_eq!(std::mem::replace(least, *to), *from);
        }
        Change::NotNear(level) => assert_eq!(step.placing.near.take().map(|near| near.level).as_ref(), Some(level)),
        Change::Preemptible => assert!(!std::mem::replace(&mut step.preemptible, true)),
        Change::NotSpread(_) => step.placing.spread = None,
        Change::NotUnique => step.placing.unique_host = false,
        Change::NotApart(_) => step.placing.apart.clear(),
        Change::Without(constraint) => step.constraints.retain(|known| known != constraint),
        Change::Priority { from, to } => {
            assert_eq!(std::mem::replace(&mut spec.priority, *to), *from);
        }
        Change::MaxParallel { from, to } => {
            assert_eq!(step.max_parallel.replace(*to), Some(*from));
        }
        Change::MaxActive { .. } | Change::Limit { .. } | Change::Borrow { .. } | Change::Lend { .. } => {}
    }
}

pub(crate) fn queue(path: &str) -> Queue {
    Queue::new(path.parse().unwrap())
}

/// A machine with so many CPUs and GiB.
pub(crate) fn machine(cpus: u64, gib: u64) -> Inventory {
    let abilities = Abilities {
        containers: true,
        process_isolation: true,
        host_image: true,
        private_networks: false,
        separation: String::new(),
        enforcement: String::new(),
        agent_version: String::new(),
        system: String::new(),
    };
    Inventory {
        cpu_milli: cpus * 1_000,
        memory_bytes: gib << 30,
        disk_bytes: 10 << 30,
        gpus: vec![],
        tokens: BTreeMap::new(),
        labels: BTreeMap::new(),
        abilities,
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
    }
}

/// Two each are below one switch.
pub(crate) fn gpus(model: &str, count: u32) -> Vec<Gpu> {
    let gpu = |at: u32| Gpu {
        id: format!("{model}-{at}"),
        model: model.to_owned(),
        memory_bytes: 80 << 30,
        numa_node: None,
        link_group: None,
        pcie_group: Some(at / 2),
        healthy: true,
        fake: true,
        part: None,
    };
    (0..count).map(gpu).collect()
}

pub(crate) fn asking(model: Option<&str>, count: u32) -> GpuRequest {
    let model = model.map(str::to_owned);
    GpuRequest {
        count,
        model,
        min_memory_bytes: 0,
        same_link_group: false,
        share_milli: 1_000,
        memory_bytes: 0,
        link: None,
    }
}

pub(crate) fn label(name: &str, value: &str) -> Constraint {
    Constraint { label: name.parse().unwrap(), operator: ConstraintOperator::In, values: vec![value.to_owned()] }
}

/// A step of so many tasks of a CPU each.
pub(crate) fn step(tasks: u32) -> StepSpec {
    StepSpec {
        name: "a".parse().unwrap(),
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: Isolation::Process,
        code: None,
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        fan_out: FanOut::Range { start: 0, count: tasks },
        needs: BTreeMap::new(),
        env: BTreeMap::new(),
        resources: Resources {
            cpu_milli: 1_000,
            memory_bytes: 1,
            disk_bytes: 0,
            shm_bytes: 0,
            tokens: BTreeMap::new(),
            gpus: vec![],
        },
        size: 1,
        retry: Retry::plain(0, 0, []),
        timeout_ms: None,
        expected_ms: None,
        on_failure: OnFailure::Stop,
        max_parallel: None,
        constraints: vec![],
        network: NetworkMode::Host,
        mounts: vec![],
        kill_grace_ms: 0,
        stop_signal: StopSignal::Term,
        on_disconnect: OnDisconnect::Keep,
        secrets: vec![],
        preemptible: true,
        notice: None,
        placing: Default::default(),
        priority: 0,
    }
}

/// A step of one task with so many CPUs.
pub(crate) fn wide(cpus: u64) -> StepSpec {
    let mut wide = step(1);
    wide.resources.cpu_milli = cpus * 1_000;
    wide
}

pub(crate) fn job(queue: &str, steps: Vec<StepSpec>) -> JobSpec {
    JobSpec {
        name: "j".parse().unwrap(),
        queue: queue.parse().unwrap(),
        priority: 0,
        tags: BTreeSet::new(),
        params: BTreeMap::new(),
        steps,
        after: vec![],
        retention_ms: None,
        deadline_ms: None,
        queue_ttl_ms: None,
    }
}
