//! Who is evicted for whom, against the real state: its `apply` takes every plan whole.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Longer than anything is protected by the usual contract.
const LONG: u64 = 700_000;
/// Nothing runs in these worlds: what is placed is taken to be fetched for as long as that may take.
pub(super) const MIN_RUN: u64 = 2 * Contract::DEFAULT.min_run_ms;

/// A cluster, with a scheduler that follows it.
pub(super) struct World {
    pub(super) state: State,
    scheduler: Scheduler,
    pub(super) now: u64,
    pub(super) wake_at: Option<u64>,
}

impl World {
    /// Nodes with so many CPUs and GPUs.
    pub(super) fn new(nodes: &[(u64, usize)]) -> Self {
        let mut world = Self { state: State::new(), scheduler: Scheduler::new(0), now: 1, wake_at: None };
        world.perform(Command::RaiseVersion { version: ClusterVersion::ACCESS });
        for (at, (cpus, gpus)) in nodes.iter().enumerate() {
            let gpu = |at: usize| Gpu {
                id: format!("g{at}"),
                model: "A100".to_owned(),
                memory_bytes: 1,
                numa_node: None,
                link_group: None,
                pcie_group: None,
                healthy: true,
                fake: true,
                part: None,
            };
            let inventory = Inventory { gpus: (0..*gpus).map(gpu).collect(), ..inventory(*cpus) };
            let name = format!("n{at}").parse().unwrap();
            let wish = RegisterNode { name, inventory: Arc::new(inventory), previous: None };
            world.perform(Command::RegisterNode(wish));
        }
        ["lab", "lab/one", "other", "heavy", "devices", "cpus"].into_iter().for_each(|path| world.put(queue(path)));
        world
    }

    pub(super) fn perform(&mut self, command: Command) -> Reply {
        let index = Revision(self.state.revision().0 + 1);
        let reply = apply(&mut self.state, Entry { index, time: TimeMs(self.now), command }).reply;
        assert_eq!(check_all(&self.state), Ok(()));
        reply
    }

    pub(super) fn put(&mut self, queue: Queue) {
        assert_eq!(self.perform(Command::PutQueue(queue.into())), Reply::Done);
    }

    /// So many CPUs are promised to a queue.
    pub(super) fn promise(&mut self, path: &str, cpus: u64) {
        let reserve = QueueAmounts { cpu_milli: Some(cpus * 1_000), ..QueueAmounts::default() };
        self.put(Queue { reserve, ..queue(path) });
    }

    pub(super) fn submit(&mut self, queue: &str, step: StepSpec) -> JobId {
        self.submit_spec(fixture::spec(queue, step))
    }

    pub(super) fn submit_spec(&mut self, spec: JobSpec) -> JobId {
        let spec_digest = Digest { hash: [0; 32], length: 0 };
        let wish = SubmitJob { spec: Arc::new(spec), spec_digest, owner: "me".to_owned(), key: None };
        match self.perform(Command::SubmitJob(wish)) {
            Reply::Submitted { job, .. } => job,
            reply => panic!("{reply:?}"),
        }
    }

    /// What is proposed: by a scheduler that remembers the same as by a new one.
    pub(super) fn round(&mut self) -> Vec<Plan> {
        let proposal = self.scheduler.round(&self.state, TimeMs(self.now), BOUND);
        assert_eq!(proposal, Scheduler::new(0).round(&self.state, TimeMs(self.now), BOUND));
        self.wake_at = proposal.wake_at.map(|time| time.0);
        proposal.plans
    }

    /// Rounds until nothing more is proposed; the claims that were made for which others leave.
    pub(super) fn rest(&mut self) -> Vec<ClaimWish> {
        let mut claims = Vec::new();
        for _ in 0..99 {
            let plans = self.round();
            if plans.is_empty() {
                return claims;
            }
            for plan in plans {
                claims.extend(plan.claims.iter().filter(|claim| !claim.evictions.is_empty()).cloned());
                let reply = self.perform(Command::CommitPlan(plan.clone()));
                assert_eq!(reply, Reply::PlanCommitted { refused: vec![], refused_claims: vec![] }, "{plan:?}");
            }
        }
        panic!("it does not come to rest");
    }

    /// What was evicted leaves.
    pub(super) fn leave(&mut self) {
        self.end(|attempt, _| attempt.preempted.is_some());
    }

    /// What is meant of those that live, which are counted, ends.
    pub(super) fn end(&mut self, is_meant: impl Fn(&Attempt, usize) -> bool) {
        let mut count = 0;
        for (id, node) in self.state.clone().nodes() {
            let mut next = || {
                count += 1;
                count - 1
            };
            let live: Vec<_> =
                self.state.live_members(id).map(|(member, attempt, _)| (member, attempt, next())).collect();
            let meant = live.into_iter().filter(|(_, attempt, at)| is_meant(attempt, *at));
            let reports: Vec<_> = meant.map(|(member, ..)| ended(member)).collect();
            let report = ReportAttempts { node: id, incarnation: node.incarnation, reports };
            self.perform(Command::ReportAttempts(report));
        }
    }

    /// Members end well that are meant, which are counted.
    pub(super) fn finish(&mut self, is_meant: impl Fn(&Attempt, usize) -> bool) {
        let live = self.state.nodes().flat_map(|(id, _)| self.state.live_members(id));
        let meant = live.enumerate().filter(|(at, (_, attempt, _))| is_meant(attempt, *at));
        let meant: BTreeSet<MemberKey> = meant.map(|(_, (key, ..))| key).collect();
        self.end_members(|key, _| meant.contains(key));
    }

    /// Members end well of which this is so.
    pub(super) fn end_members(&mut self, is_over: impl Fn(&MemberKey, &Attempt) -> bool) {
        for (id, node) in self.state.clone().nodes() {
            let live = self.state.live_members(id).filter(|(key, attempt, _)| is_over(key, attempt));
            let reports: Vec<_> = live.map(|(member, ..)| ended_as(member, AttemptOutcome::Succeeded)).collect();
            if !reports.is_empty() {
                let report = ReportAttempts { node: id, incarnation: node.incarnation, reports };
                self.perform(Command::ReportAttempts(report));
            }
        }
    }

    /// What was evicted leaves, of which this is so.
    pub(super) fn end_preempted(&mut self, is_over: impl Fn(&MemberKey) -> bool) {
        for (id, node) in self.state.clone().nodes() {
            let live =
                self.state.live_members(id).filter(|(key, attempt, _)| attempt.preempted.is_some() && is_over(key));
            let reports: Vec<_> = live.map(|(member, ..)| ended(member)).collect();
            if !reports.is_empty() {
                let report = ReportAttempts { node: id, incarnation: node.incarnation, reports };
                self.perform(Command::ReportAttempts(report));
            }
        }
    }

    /// How many tasks of a job run and are to go on.
    pub(super) fn running(&self, job: JobId) -> usize {
        let live = self.state.nodes().flat_map(|(id, _)| self.state.live_members(id));
        live.filter(|(key, attempt, _)| key.task.job == job && attempt.desired == AttemptDesired::Run).count()
    }

    /// The jobs of whom these claims evict.
    pub(super) fn victims(claims: &[ClaimWish]) -> Vec<u64> {
        let mut jobs: Vec<_> = claims.iter().flat_map(|claim| &claim.evictions).map(|it| it.task.job.0).collect();
        jobs.sort_unstable();
        jobs
    }
}

fn ended(member: MemberKey) -> AttemptReport {
    ended_as(member, AttemptOutcome::Stopped)
}

fn ended_as(member: MemberKey, outcome: AttemptOutcome) -> AttemptReport {
    let end = End {
        outcome,
        reason: if outcome == AttemptOutcome::Succeeded { Reason::Exit } else { Reason::Cancelled },
        blame: Blame::Platform,
        exit_code: None,
        signal: None,
        message: String::new(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: BTreeMap::new(),
        logs: Logs::NONE,
    };
    AttemptReport {
        member,
        phase: Phase::Ended,
        times: PhaseTimes::NONE,
        end: Some(Arc::new(end)),
        checkpoint: None,
        stuck: None,
        saved_at: None,
    }
}

fn urgent(tasks: u32, priority: i32) -> StepSpec {
    StepSpec { priority, ..step(tasks) }
}

#[test]
fn what_is_promised_comes_back_within_the_contract() {
    let mut world = World::new(&[(4, 0)]);
    world.promise("lab", 2);
    let borrower = world.submit("other", step(9));
    assert_eq!(world.rest(), []);
    assert_eq!(world.running(borrower), 4, "what is not used is lent");
    let began = world.now;
    world.now += 1_000;
    let owner = world.submit("lab", step(3));
    assert_eq!(world.rest(), [], "nobody goes before its time");
    assert_eq!(world.wake_at, Some(began + MIN_RUN));
    world.now = began + MIN_RUN;
    let claims = world.rest();
    assert_eq!(World::victims(&claims), [borrower.0; 2], "as much as is promised and no more");
    assert_eq!((world.running(borrower), world.running(owner)), (2, 0));
    world.now += Contract::DEFAULT.leave_ms();
    world.leave();
    assert_eq!(world.rest(), []);
    assert_eq!((world.running(borrower), world.running(owner)), (2, 2));
    world.now += LONG;
    assert_eq!((world.rest(), world.wake_at), (vec![], None), "nobody has a right any more");
}

#[test]
fn priority_counts_in_its_own_queue_only_and_weight_for_nothing() {
    let mut world = World::new(&[(2, 0)]);
    world.put(Queue { weight: 100, ..queue("heavy") });
    let (low, other) = (world.submit("lab", step(1)), world.submit("other", step(1)));
    world.rest();
    world.now += LONG;
    world.submit("heavy", urgent(5, 9));
    assert_eq!((world.rest(), world.wake_at), (vec![], None));
    let high = world.submit("lab", urgent(5, 1));
    assert_eq!(World::victims(&world.rest()), [low.0]);
    world.leave();
    world.rest();
    assert_eq!((world.running(high), world.running(other)), (1, 1));
}

#[test]
fn some_are_never_evicted() {
    let mut world = World::new(&[(1, 0)]);
    let no_preempt = QueueAmounts { cpu_milli: Some(1_000), memory_bytes: Some(9), ..QueueAmounts::default() };
    world.put(Queue { reserve: no_preempt.clone(), no_preempt, ..queue("lab") });
    let kept = world.submit("lab", StepSpec { preemptible: false, ..step(1) });
    world.rest();
    world.now += LONG;
    world.submit("lab", urgent(1, 9));
    assert_eq!((world.rest(), world.wake_at, world.running(kept)), (vec![], None, 1));
}

#[test]
fn whoever_was_moved_often_stays() {
    let mut world = World::new(&[(1, 0)]);
    let low = world.submit("lab", step(1));
    for time in 0..limits::RELOCATIONS as u64 + 1 {
        world.rest();
        world.now += LONG;
        assert_eq!(world.running(low), 1);
        let high = world.submit("lab", urgent(1, 1));
        let evicted = World::victims(&world.rest());
        if time == limits::RELOCATIONS as u64 {
            assert_eq!((evicted, world.wake_at), (vec![], None));
            break;
        }
        assert_eq!(evicted, [low.0]);
        world.leave();
        world.rest();
        world.perform(Command::CancelJob { job: high });
        let node = world.state.nodes().next().map(|(id, node)| (id, node.incarnation)).unwrap();
        let reports = world.state.live_members(node.0).map(|(member, ..)| ended(member)).collect();
        world.perform(Command::ReportAttempts(ReportAttempts { node: node.0, incarnation: node.1, reports }));
    }
}

/// One is promised CPUs and has them; the other is promised devices, and would have to take its CPU.
#[test]
fn two_promises_do_not_evict_each_other_for_ever() {
    let mut world = World::new(&[(1, 1)]);
    let gpus = QueueAmounts { gpu_milli: [(GpuClass::Any, 1_000)].into(), ..QueueAmounts::default() };
    world.put(Queue { reserve: gpus, ..queue("devices") });
    world.promise("cpus", 1);
    let mut wants = step(1);
    wants.resources.gpus = vec![GpuRequest {
        count: 1,
        model: None,
        min_memory_bytes: 0,
        same_link_group: false,
        share_milli: 1_000,
        memory_bytes: 0,
        link: None,
    }];
    world.submit("cpus", wants.clone());
    world.rest();
    world.submit("devices", wants);
    for _ in 0..5 {
        world.now += LONG;
        assert_eq!(world.rest(), []);
        world.leave();
    }
}

/// While the victim leaves, its room is kept: others wait, the rest of the group goes on elsewhere, and nobody is
/// evicted again.
#[test]
fn claimed_room_is_nobody_elses() {
    let mut world = World::new(&[(4, 0), (1, 0)]);
    let large = |priority| {
        let mut step = urgent(1, priority);
        step.resources.cpu_milli = 4_000;
        step
    };
    let low = world.submit("lab", step(5));
    world.rest();
    world.now += LONG;
    let high = world.submit("lab", large(5));
    assert_eq!(World::victims(&world.rest()), [low.0; 4]);
    let others = world.submit("other", step(9));
    let lower = world.submit("lab", large(4));
    world.now += 1;
    assert_eq!(world.rest(), [], "neither is there anything else for it, nor is it taken twice");
    world.leave();
    let first = &world.round()[0].placements[0];
    assert_eq!(first.task.job, high, "the claim is taken up first");
    world.rest();
    assert_eq!((world.running(high), world.running(lower), world.running(others)), (1, 0, 0));
}

#[test]
fn a_claim_that_nothing_will_come_of_is_dropped() {
    let mut world = World::new(&[(2, 0)]);
    let low = world.submit("lab", step(2));
    world.rest();
    world.now += LONG;
    world.submit("lab", urgent(1, 1));
    assert_eq!(World::victims(&world.rest()), [low.0]);
    let nothing = QueueAmounts { cpu_milli: Some(0), ..QueueAmounts::default() };
    world.put(Queue { limit: nothing, ..queue("lab") });
    assert_eq!(world.round(), [], "it may come to be as long as somebody is leaving");
    world.leave();
    let plans = world.round();
    assert_eq!((plans.len(), plans[0].drops.len(), plans[0].placements.len()), (1, 1, 0));
    world.rest();
    assert_eq!(world.state.claims().count(), 0);
}

#[test]
fn what_must_not_be_evicted_keeps_to_its_quota() {
    let mut world = World::new(&[(9, 0)]);
    let kept = StepSpec { preemptible: false, ..step(5) };
    let no_preempt = QueueAmounts { cpu_milli: Some(3_000), memory_bytes: Some(9), ..QueueAmounts::default() };
    world.put(Queue { reserve: no_preempt.clone(), no_preempt, ..queue("lab") });
    let (kept, plain) = (world.submit("lab/one", kept.clone()), world.submit("lab", step(9)));
    world.rest();
    assert_eq!((world.running(kept), world.running(plain)), (3, 6));
    world.put(queue("lab"));
    assert_eq!(world.rest(), [], "nothing more of it is allowed now");
    assert_eq!(world.running(kept), 3, "what runs goes on");
}

/// Work in one of the queues: CPUs, devices, members, tasks, priority.
type Wish = (usize, (u64, u32, u32, u32), i32);

fn wish() -> impl Strategy<Value = Wish> {
    let what =
        (1u64..4, prop_oneof![2 => Just(0u32), 1 => 1u32..3], prop_oneof![3 => Just(1u32), 1 => 2u32..4], 1u32..4);
    (0usize..QUEUES.len(), what, 0i32..3)
}

const QUEUES: [&str; 5] = ["default", "a", "a/x", "a/y", "b"];

/// CPUs and devices that a queue is promised, and a limit of CPUs.
type Promise = (u64, u64, Option<u64>);

/// Nodes, what each queue is promised, and what is submitted before and after.
type Problem = (Vec<(u64, usize)>, Vec<Promise>, Vec<Wish>, Vec<Wish>);

fn problem() -> impl Strategy<Value = Problem> {
    let nodes = prop::collection::vec((1u64..7, 0usize..4), 1..5);
    let promised = (prop_oneof![1 => Just(0u64), 1 => 1u64..6], 0u64..3, prop::option::weighted(0.2, 2u64..8));
    let wishes = || prop::collection::vec(wish(), 1..8);
    (nodes, prop::collection::vec(promised, QUEUES.len()), wishes(), wishes())
}

impl World {
    fn of(nodes: &[(u64, usize)], promised: &[Promise]) -> Self {
        let mut world = Self::new(nodes);
        for (path, (cpus, gpus, limit)) in QUEUES.iter().zip(promised) {
            let milli = |cpus: u64| Some(cpus * 1_000).filter(|milli| *milli > 0);
            let gpu_milli = (*gpus > 0).then_some((GpuClass::Any, gpus * 1_000)).into_iter().collect();
            let reserve = QueueAmounts { cpu_milli: milli(*cpus), gpu_milli, ..QueueAmounts::default() };
            let limit = QueueAmounts { cpu_milli: limit.and_then(milli), ..QueueAmounts::default() };
            world.put(queue(path));
            // Some are refused, since more is promised below a queue than the queue is.
            world.perform(Command::PutQueue(Queue { reserve, limit, ..queue(path) }.into()));
        }
        world
    }

    fn wish(&mut self, (queue, (cpus, gpus, size, tasks), priority): &Wish) {
        let mut wanted = StepSpec { size: *size, ..urgent(*tasks, *priority) };
        wanted.resources.cpu_milli = cpus * 1_000;
        if *gpus > 0 {
            let model = (*gpus == 1).then(|| "a100".to_owned());
            let share_milli = if *priority == 1 { 400 } else { 1_000 };
            let request = GpuRequest {
                count: *gpus,
                model,
                min_memory_bytes: 0,
                same_link_group: false,
                share_milli,
                memory_bytes: 0,
                link: None,
            };
            wanted.resources.gpus = vec![request];
        }
        self.submit(QUEUES[*queue], wanted);
    }

    /// That whatever is claimed is placed there in the next round, now that all have left.
    fn check_claims_are_taken_up(&mut self) -> Result<(), TestCaseError> {
        let claims = self.state.claims().filter(|(_, claim)| !claim.is_reservation());
        let claims: Vec<_> = claims.map(|(task, claim)| (*task, claim.members.clone())).collect();
        let placed: BTreeMap<_, _> =
            self.round().into_iter().flat_map(|plan| plan.placements).map(|it| (it.task, it.members)).collect();
        for (task, members) in claims {
            prop_assert_eq!(placed.get(&task), Some(&members), "{:?} has its room and is not placed there", task);
        }
        Ok(())
    }
}

/// Something that happens to a cluster.
#[derive(Debug, Clone)]
enum Event {
    Submit(Wish),
    Pass(u64),
    /// One that lives ends, of all or of those that leave.
    End(usize, bool),
    Close(u64),
    Open(u64),
    /// The machine registers anew, with a device that is not well.
    Again(usize, usize),
    Limit(usize, u64),
    Cancel(u64),
    /// A plan comes to nothing.
    Lose,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => wish().prop_map(Event::Submit),
        3 => prop_oneof![Just(LONG), 1u64..MIN_RUN].prop_map(Event::Pass),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, leaving)| Event::End(which, leaving)),
        1 => (1u64..5).prop_map(Event::Close),
        1 => (1u64..5).prop_map(Event::Open),
        1 => (0usize..4, 0usize..4).prop_map(|(node, gpu)| Event::Again(node, gpu)),
        1 => (0usize..QUEUES.len(), 0u64..9).prop_map(|(queue, cpus)| Event::Limit(queue, cpus)),
        1 => (1u64..9).prop_map(Event::Cancel),
        1 => Just(Event::Lose),
    ]
}

impl World {
    fn happens(&mut self, event: &Event) {
        match event {
            Event::Submit(wish) => self.wish(wish),
            Event::Pass(ms) => self.now += ms,
            Event::End(which, leaving) => {
                let is_of = |attempt: &Attempt| !*leaving || attempt.preempted.is_some();
                let all = self.state.nodes().flat_map(|(id, _)| self.state.live_members(id));
                let meant: Vec<_> =
                    all.enumerate().filter(|(_, (_, attempt, _))| is_of(attempt)).map(|it| it.0).collect();
                if let Some(meant) = meant.get(which % meant.len().max(1)).copied() {
                    self.end(|_, at| at == meant);
                }
            }
            Event::Close(node) | Event::Open(node) => {
                let closes = matches!(event, Event::Close(_));
                let scheduling = if closes { Scheduling::Drained } else { Scheduling::Open };
                self.perform(Command::SetNodeScheduling { node: NodeId(*node), scheduling });
            }
            Event::Again(at, gpu) => {
                let Some((id, node)) = self.state.nodes().nth(*at).map(|(id, node)| (id, node.clone())) else { return };
                let mut inventory = (*node.inventory).clone();
                inventory.gpus.get_mut(*gpu).into_iter().for_each(|gpu| gpu.healthy = !gpu.healthy);
                let (name, previous) = (node.name.clone(), Some((id, node.incarnation)));
                self.perform(Command::RegisterNode(RegisterNode { name, inventory: Arc::new(inventory), previous }));
            }
            Event::Limit(at, cpus) => {
                let limit = QueueAmounts { cpu_milli: Some(cpus * 1_000), ..QueueAmounts::default() };
                self.perform(Command::PutQueue(Queue { limit, ..queue(QUEUES[*at]) }.into()));
            }
            Event::Cancel(job) => drop(self.perform(Command::CancelJob { job: JobId(*job) })),
            Event::Lose => drop(self.round()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is evicted lets its claimant start; and with nothing new it comes to rest, however often they are let
    /// go on.
    #[test]
    fn evictions_serve_and_end((nodes, promised, before, after) in problem()) {
        let mut world = World::of(&nodes, &promised);
        before.iter().for_each(|wish| world.wish(wish));
        prop_assert_eq!(world.rest(), vec![], "nobody is evicted where all began at once");
        after.iter().for_each(|wish| world.wish(wish));
        let tasks: u32 = before.iter().chain(&after).map(|wish| wish.1.3).sum();
        let mut evicted = 0;
        for turn in 0.. {
            world.now += LONG;
            let claims = world.rest();
            if claims.is_empty() && world.wake_at.is_none() {
                break;
            }
            evicted += World::victims(&claims).len();
            prop_assert!(turn < 20 && evicted <= 3 * tasks as usize, "{evicted} evictions in {turn} turns");
            world.leave();
            world.check_claims_are_taken_up()?;
        }
    }

    /// Whatever happens, a scheduler that remembers proposes what a new one would, and the state takes all of it.
    #[test]
    fn what_is_proposed_is_taken_whatever_happened(
        (nodes, promised, before, _) in problem(),
        events in prop::collection::vec((event(), any::<bool>()), 1..25),
    ) {
        let mut world = World::of(&nodes, &promised);
        before.iter().for_each(|wish| world.wish(wish));
        world.rest();
        for (event, rests) in &events {
            world.happens(event);
            if *rests {
                world.rest();
            }
        }
        world.rest();
    }
}
