//! A past that would take hours to live through: a state with a million finished tasks, made by the same `apply` and the same
//! commands that a cluster's log has, and written as a backup, from which a coordinator is restored.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use flowyard_coordinator::backup::BackupWriter;
use flowyard_model::*;
use flowyard_proto::peer::BackupHead;
use flowyard_state::{State, apply};

use crate::work;

/// Finished tasks are in jobs of so many.
const TASKS_PER_JOB: u32 = 10_000;
/// Tasks that are placed and reported together.
const TOGETHER: u32 = 500;
const NOW_MS: u64 = 1_700_000_000_000;

/// The state while it is made.
struct Past {
    state: State,
    index: u64,
}

/// How many tasks of each kind there are.
pub(crate) struct Tasks {
    pub(crate) finished: u32,
    /// In one job.
    pub(crate) pending: u32,
    /// Each in a job with so many of them; on a node that is silent.
    pub(crate) running: Vec<u32>,
}

/// Writes a backup of a cluster with these tasks; the jobs that run.
pub(crate) fn write(path: &Path, tasks: &Tasks) -> Result<Vec<JobId>, String> {
    let mut past = Past { state: State::new(), index: 0 };
    past.say(Command::RaiseVersion { version: ClusterVersion::ACCESS })?;
    let node = past.register()?;
    for _ in 0..tasks.finished.div_ceil(TASKS_PER_JOB) {
        past.job(node, TASKS_PER_JOB, Phase::Ended)?;
    }
    let running: Result<Vec<_>, _> = tasks.running.iter().map(|count| past.job(node, *count, Phase::Running)).collect();
    // Nothing is placed any more: there is no agent behind it.
    past.say(Command::SetNodeScheduling { node, scheduling: Scheduling::Drained })?;
    if tasks.pending > 0 {
        past.submit(tasks.pending)?;
    }
    let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let head = BackupHead {
        cluster: "6f1c2c9e-52a5-4c1a-9d0f-0d3f5a8b7e11".to_owned(),
        name: "bench".to_owned(),
        term: 1,
        revision: past.index,
        cluster_version: ClusterVersion::ACCESS.0,
        made_at_ms: flowyard_clock::wall_ms(),
        ..BackupHead::default()
    };
    let written = BackupWriter::begin(BufWriter::new(file), head).and_then(|mut backup| {
        backup.state(&past.state.view())?;
        backup.finish(0)
    });
    written.map_err(|error| error.to_string())?;
    running
}

impl Past {
    fn say(&mut self, command: Command) -> Result<Reply, String> {
        self.index += 1;
        let time = TimeMs(NOW_MS + self.index);
        match apply(&mut self.state, Entry { index: Revision(self.index), time, command }).reply {
            Reply::Rejected(rejection) => Err(rejection.to_string()),
            reply => Ok(reply),
        }
    }

    fn register(&mut self) -> Result<NodeId, String> {
        let name = "n0".parse().map_err(|error| format!("{error}"))?;
        let wish = RegisterNode { name, inventory: Arc::new(inventory()), previous: None };
        match self.say(Command::RegisterNode(wish))? {
            Reply::Registered { node, .. } => Ok(node),
            other => Err(format!("a registration was answered with {other:?}")),
        }
    }

    fn submit(&mut self, tasks: u32) -> Result<JobId, String> {
        let spec = work::array(&["/bin/true"], tasks)?;
        let bytes = flowyard_proto::encode_spec(&spec).map_err(|error| error.to_string())?;
        let spec_digest = flowyard_cas::digest_bytes(&bytes);
        let wish = SubmitJob { spec: Arc::new(spec), spec_digest, owner: "bench".to_owned(), key: None };
        match self.say(Command::SubmitJob(wish))? {
            Reply::Submitted { job, .. } => Ok(job),
            other => Err(format!("a submission was answered with {other:?}")),
        }
    }

    /// A job whose tasks have all got so far.
    fn job(&mut self, node: NodeId, tasks: u32, phase: Phase) -> Result<JobId, String> {
        let job = self.submit(tasks)?;
        for first in (0..tasks).step_by(TOGETHER as usize) {
            self.run(node, job, first..(first + TOGETHER).min(tasks), phase)?;
        }
        Ok(job)
    }

    /// Places these tasks and reports how far they got, as an agent does.
    fn run(&mut self, node: NodeId, job: JobId, tasks: Range<u32>, phase: Phase) -> Result<(), String> {
        let incarnation = self.state.node(node).ok_or("the node is gone")?.incarnation;
        let key = |task| TaskKey { job, step: StepIndex(0), task: TaskIndex(task) };
        let seat = Seat { node, incarnation, gpus: vec![], gpu_alternative: 0 };
        let placement = |task| Placement { task: key(task), attempt: AttemptNumber(1), members: vec![seat.clone()] };
        let placements = tasks.clone().map(placement).collect();
        let based_on = self.state.revision();
        let plan = Plan {
            based_on,
            seed: 1,
            budget: 10_000,
            placer_version: 1,
            placements,
            accept_ms: None,
            claims: vec![],
            drops: vec![],
            at: None,
            made_from: None,
            repairs: Vec::new(),
        };
        match self.say(Command::CommitPlan(plan))? {
            Reply::PlanCommitted { refused, .. } if refused.is_empty() => {}
            Reply::PlanCommitted { refused, .. } => return Err(format!("{} placements were refused", refused.len())),
            other => return Err(format!("a plan was answered with {other:?}")),
        }
        let at = |ms| Some(TimeMs(NOW_MS + self.index + ms));
        let over = phase == Phase::Ended;
        let (storing, ended) = (at(9).filter(|_| over), at(10).filter(|_| over));
        let times = PhaseTimes { accepted: at(1), fetching: at(2), running: at(3), storing, ended };
        let report = |task| AttemptReport {
            member: MemberKey {
                task: key(task),
                attempt: AttemptNumber(1),
                rank: Rank(0),
                epoch: Epoch(0),
                replacement: 0,
            },
            phase,
            times,
            end: over.then(|| Arc::new(end(job, task))),
            checkpoint: None,
            stuck: None,
            saved_at: None,
        };
        let reports = tasks.map(report).collect();
        self.say(Command::ReportAttempts(ReportAttempts { node, incarnation, reports })).map(drop)
    }
}

/// A success with a log of its own.
fn end(job: JobId, task: u32) -> End {
    let stdout = flowyard_cas::digest_bytes(format!("{job}/{task}").as_bytes());
    End {
        outcome: AttemptOutcome::Succeeded,
        reason: Reason::Exit,
        blame: Blame::User,
        exit_code: Some(0),
        signal: None,
        message: String::new(),
        peak_memory_bytes: 12 << 20,
        cpu_us: u64::from(task) + 1_000,
        outputs: BTreeMap::new(),
        logs: Logs { stdout: Some(stdout), stderr: None },
    }
}

fn inventory() -> Inventory {
    Inventory {
        // Room for everything at once.
        cpu_milli: 1 << 40,
        memory_bytes: 1 << 50,
        disk_bytes: 1 << 50,
        gpus: vec![],
        tokens: BTreeMap::new(),
        labels: BTreeMap::new(),
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
        abilities: Abilities {
            containers: true,
            process_isolation: true,
            host_image: true,
            private_networks: true,
            separation: String::new(),
            enforcement: String::new(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            system: String::new(),
        },
    }
}
