//! A cluster that runs in virtual time and keeps its log: plans are pipelined as a placer does it, and agents report in time.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_history::{Arrival, History, Machines, Past};
use flowyard_model::*;
use flowyard_scheduling::{Bound, Scheduler};
use flowyard_state::{State, apply};

pub const SECOND: u64 = 1_000;
const BEGIN: u64 = 1_700_000_000_000;

/// Machines with these many CPUs and GPUs each.
pub fn machines(count: u32, cpus: u64, gpus: u32) -> Machines {
    named_machines("n", count, cpus, gpus)
}

pub fn named_machines(prefix: &str, count: u32, cpus: u64, gpus: u32) -> Machines {
    let gpu = |at: u32| Gpu {
        id: format!("fake-{at}"),
        model: "A100".to_owned(),
        memory_bytes: 80 << 30,
        numa_node: None,
        link_group: Some(0),
        pcie_group: None,
        healthy: true,
        fake: true,
        part: None,
    };
    let abilities = Abilities {
        containers: true,
        process_isolation: true,
        host_image: true,
        private_networks: true,
        separation: String::new(),
        enforcement: String::new(),
        agent_version: String::new(),
        system: String::new(),
    };
    let inventory = Inventory {
        cpu_milli: cpus * 1_000,
        memory_bytes: 1 << 40,
        disk_bytes: 0,
        gpus: (0..gpus).map(gpu).collect(),
        tokens: BTreeMap::new(),
        labels: BTreeMap::new(),
        abilities,
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
    };
    let names = (1..=count).map(|at| format!("{prefix}{at}").parse().unwrap()).collect();
    Machines { names, inventory: Arc::new(inventory) }
}

/// Something that arrives: when and for how long, in seconds, with GPUs.
pub fn arrival(at: u64, takes: u64, gpus: u32, user: &str) -> Arrival {
    Arrival {
        at_ms: at * SECOND,
        duration_ms: takes * SECOND,
        cpu_milli: 1_000,
        memory_bytes: 1 << 20,
        gpus,
        share_milli: 1_000,
        model: None,
        queue: None,
        user: user.to_owned(),
        count: 1,
    }
}

/// A cluster that keeps its log.
pub struct Cluster {
    pub state: State,
    pub entries: Vec<Entry>,
    pub now: u64,
    scheduler: Scheduler,
    made: u64,
    /// Made and not yet in the log.
    under_way: Vec<Plan>,
    /// When members end.
    ends: BTreeMap<u64, Vec<(NodeId, MemberKey)>>,
    durations: BTreeMap<JobId, u64>,
}

const SEED: u64 = 42;
const TASKS: u64 = 4;

impl Cluster {
    pub fn new(machines: &[Machines]) -> Self {
        let mut this = Self {
            state: State::new(),
            entries: Vec::new(),
            now: BEGIN,
            scheduler: Scheduler::new(SEED),
            made: 0,
            under_way: Vec::new(),
            ends: BTreeMap::new(),
            durations: BTreeMap::new(),
        };
        this.perform(Command::RaiseVersion { version: ClusterVersion::ACCESS });
        for Machines { names, inventory } in machines {
            for name in names {
                let wish = RegisterNode { name: name.clone(), inventory: inventory.clone(), previous: None };
                this.perform(Command::RegisterNode(wish));
            }
        }
        this
    }

    pub fn perform(&mut self, command: Command) -> Reply {
        // Entries without a command are in every log.
        let index = Revision(self.state.revision().0 + 1 + u64::from(self.entries.len() % 7 == 3));
        let entry = Entry { index, time: TimeMs(self.now), command };
        self.entries.push(entry.clone());
        apply(&mut self.state, entry).reply
    }

    pub fn submit(&mut self, arrival: &Arrival) {
        let gpus = GpuRequest {
            count: arrival.gpus,
            model: None,
            min_memory_bytes: 0,
            same_link_group: false,
            share_milli: 1_000,
            memory_bytes: 0,
            link: None,
        };
        let resources = Resources {
            cpu_milli: arrival.cpu_milli,
            memory_bytes: arrival.memory_bytes,
            disk_bytes: 0,
            shm_bytes: 0,
            tokens: BTreeMap::new(),
            gpus: if arrival.gpus > 0 { vec![gpus] } else { vec![] },
        };
        let mut spec = spec(step(arrival.count, resources));
        spec.queue = arrival.queue.clone().unwrap_or_else(QueuePath::fallback);
        self.submit_spec(spec, &arrival.user, arrival.duration_ms);
    }

    /// A gang of so many members of a GPU each, which goes on with at least as many as said.
    pub fn submit_gang(&mut self, size: u32, least: u32, takes_ms: u64) -> JobId {
        let gpu = GpuRequest {
            count: 1,
            model: None,
            min_memory_bytes: 0,
            same_link_group: false,
            share_milli: 1_000,
            memory_bytes: 0,
            link: None,
        };
        let resources = Resources {
            cpu_milli: 1_000,
            memory_bytes: 1 << 20,
            disk_bytes: 0,
            shm_bytes: 0,
            tokens: BTreeMap::new(),
            gpus: vec![gpu],
        };
        let placing = Placing { min_size: Some(least), ..Placing::default() };
        self.submit_spec(spec(StepSpec { size, placing, ..step(1, resources) }), "ada", takes_ms)
    }

    fn submit_spec(&mut self, spec: JobSpec, owner: &str, takes_ms: u64) -> JobId {
        let spec_digest = Digest { hash: [0; 32], length: 0 };
        let wish = SubmitJob { spec: Arc::new(spec), spec_digest, owner: owner.to_owned(), key: None };
        let Reply::Submitted { job, .. } = self.perform(Command::SubmitJob(wish)) else { panic!("it is taken") };
        self.durations.insert(job, takes_ms);
        job
    }

    /// Whatever runs is seen to have saved its work.
    pub fn save(&mut self) {
        let nodes: Vec<NodeId> = self.state.nodes().map(|(id, _)| id).collect();
        for node in nodes {
            let live: Vec<MemberKey> = self.state.live_members(node).map(|(key, ..)| key).collect();
            for member in live {
                let (phase, times, saved_at) = (Phase::Running, PhaseTimes::NONE, Some(TimeMs(self.now)));
                let report = AttemptReport { member, phase, times, end: None, checkpoint: None, stuck: None, saved_at };
                let incarnation = self.state.node(node).unwrap().incarnation;
                self.perform(Command::ReportAttempts(ReportAttempts { node, incarnation, reports: vec![report] }));
            }
        }
    }

    /// What an agent finds of these devices of its node.
    pub fn find(&mut self, node: NodeId, devices: &[u32], state: DeviceState) -> Command {
        let incarnation = self.state.node(node).unwrap().incarnation;
        let report = |at: &u32| DeviceReport { device: format!("fake-{at}"), state, reason: "XID 79".to_owned() };
        Command::SetDevices(SetDevices { node, incarnation, devices: devices.iter().map(report).collect() })
    }

    /// Makes plans with the ones before still under way, and lets the oldest ones into the log.
    pub fn place(&mut self, depth: usize) {
        for _ in 0..200 {
            let mut expected = self.state.clone();
            for plan in &self.under_way {
                let index = Revision(expected.revision().0 + 1);
                let command = Command::CommitPlan(plan.clone());
                let time = plan.at.map_or(expected.time(), |at| at.max(expected.time()));
                apply(&mut expected, Entry { index, time, command });
            }
            let numbers: Vec<u64> = self.under_way.iter().map(|plan| plan.made_from.as_ref().unwrap().number).collect();
            let made = self.scheduler.round(&expected, TimeMs(self.now), Bound { tasks: TASKS, steps: 100_000 });
            let none = made.plans.is_empty();
            for (part, mut plan) in (0..).zip(made.plans) {
                plan.based_on = self.state.revision();
                plan.accept_ms = Some(600_000);
                let under_way = numbers.clone();
                plan.made_from = Some(MadeFrom { number: self.made, part, tasks: TASKS, under_way });
                self.made += 1;
                self.under_way.push(plan);
            }
            while self.under_way.len() > depth || (none && !self.under_way.is_empty()) {
                let plan = self.under_way.remove(0);
                self.commit(plan);
            }
            if none {
                return;
            }
        }
    }

    fn commit(&mut self, plan: Plan) {
        let placed: Vec<_> = plan.placements.iter().map(|it| (it.task, it.attempt, it.members.clone())).collect();
        assert_eq!(
            self.perform(Command::CommitPlan(plan)),
            Reply::PlanCommitted { refused: vec![], refused_claims: vec![] }
        );
        for (task, attempt, members) in placed {
            for (rank, seat) in (0..).zip(members) {
                let key = MemberKey { task, attempt, rank: Rank(rank), epoch: Epoch(0), replacement: 0 };
                let ends = self.now + self.durations.get(&task.job).copied().unwrap_or(SECOND);
                self.ends.entry(ends).or_default().push((seat.node, key));
                let running = PhaseTimes { running: Some(TimeMs(self.now)), ..PhaseTimes::NONE };
                self.report(seat.node, key, running, None);
            }
        }
    }

    /// Lets time pass in tenths of a second; what is due ends, and what fits is placed.
    pub fn run(&mut self, arrivals: &[Arrival], seconds: u64, depth: usize) {
        let begin = self.now;
        let mut next = arrivals.iter().peekable();
        while self.now < begin + seconds * SECOND {
            while let Some(arrival) = next.next_if(|it| begin + it.at_ms <= self.now) {
                self.submit(arrival);
            }
            while let Some(due) = self.ends.first_entry().filter(|due| *due.key() <= self.now) {
                due.remove().into_iter().for_each(|(node, key)| self.end(node, key));
            }
            self.stop();
            self.place(depth);
            self.now += SECOND / 10;
        }
    }

    /// Whoever was asked to stop has stopped a tenth of a second later.
    fn stop(&mut self) {
        let nodes: Vec<NodeId> = self.state.nodes().map(|(id, _)| id).collect();
        for node in nodes {
            let stops = |attempt: &Attempt, member: &Member| attempt.desired_of(member) != AttemptDesired::Run;
            let asked = self.state.live_members(node).filter(|(_, attempt, member)| stops(attempt, member));
            let asked: Vec<MemberKey> = asked.map(|(key, ..)| key).collect();
            asked.into_iter().for_each(|key| self.ended(node, key, AttemptOutcome::Stopped));
        }
    }

    fn end(&mut self, node: NodeId, member: MemberKey) {
        let live = self.state.live_members(node).any(|(key, ..)| key == member);
        if live {
            self.ended(node, member, AttemptOutcome::Succeeded);
        }
    }

    fn ended(&mut self, node: NodeId, member: MemberKey, outcome: AttemptOutcome) {
        let end = End {
            outcome,
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
        let times = PhaseTimes { ended: Some(TimeMs(self.now)), ..PhaseTimes::NONE };
        self.report(node, member, times, Some(Arc::new(end)));
    }

    fn report(&mut self, node: NodeId, member: MemberKey, times: PhaseTimes, end: Option<Arc<End>>) {
        let phase = if end.is_some() { Phase::Ended } else { Phase::Running };
        let report = AttemptReport { member, phase, times, end, checkpoint: None, stuck: None, saved_at: None };
        let incarnation = self.state.node(node).unwrap().incarnation;
        self.perform(Command::ReportAttempts(ReportAttempts { node, incarnation, reports: vec![report] }));
    }

    pub fn history(&self) -> History {
        history(&self.entries)
    }
}

/// What a log is from its beginning.
pub fn history(entries: &[Entry]) -> History {
    let mut past = Past::new();
    past.add_stretch(1, entries.last().unwrap().index.0, entries.to_vec()).unwrap();
    past.history().unwrap()
}

fn step(count: u32, resources: Resources) -> StepSpec {
    StepSpec {
        name: "a".parse().unwrap(),
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: Isolation::Process,
        code: None,
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        fan_out: FanOut::Range { start: 0, count },
        needs: BTreeMap::new(),
        env: BTreeMap::new(),
        resources,
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
        stop_signal: Default::default(),
        on_disconnect: OnDisconnect::Keep,
        secrets: vec![],
        priority: 0,
        preemptible: true,
        notice: None,
        placing: Default::default(),
    }
}

fn spec(step: StepSpec) -> JobSpec {
    JobSpec {
        name: "j".parse().unwrap(),
        queue: QueuePath::fallback(),
        priority: 0,
        tags: Default::default(),
        params: BTreeMap::new(),
        steps: vec![step],
        after: vec![],
        retention_ms: None,
        deadline_ms: None,
        queue_ttl_ms: None,
    }
}
