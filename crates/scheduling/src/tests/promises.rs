//! What is promised comes back within the contract, whoever borrowed it and since whenever, over random problems.

use proptest::prelude::*;

use super::evictions::World;
use super::*;

/// Also beside who is promised something below the same queue.
const BORROWERS: [&str; 5] = ["other", "heavy", "cpus", "lab/two", "lab/deep/two"];
/// With nothing, one queue and two above it that name no reserve.
const PROMISED: [&str; 3] = ["lab", "lab/one", "lab/deep/one"];

fn with_device(mut step: StepSpec) -> StepSpec {
    let (model, min_memory_bytes, memory_bytes) = (None, 0, 0);
    let (same_link_group, link, share_milli) = (false, None, 1_000);
    let request = GpuRequest { count: 1, model, min_memory_bytes, same_link_group, link, share_milli, memory_bytes };
    step.resources.gpus = vec![request];
    step
}

/// Who is promised how much, and who may borrow it by which contract. Of CPUs, or of devices.
#[derive(Debug)]
struct Promise {
    nodes: Vec<u64>,
    devices: bool,
    whom: &'static str,
    promised: u64,
    /// What borrowers are promised themselves, where there is enough for all.
    others: u64,
    contracts: Vec<(u64, u64, u64)>,
}

impl Promise {
    fn amounts(&self, count: u64) -> QueueAmounts {
        let milli = Some(count * 1_000);
        let gpu_milli = milli.filter(|_| self.devices).map(|milli| (GpuClass::Any, milli)).into_iter().collect();
        QueueAmounts { cpu_milli: milli.filter(|_| !self.devices), gpu_milli, ..QueueAmounts::default() }
    }

    fn ask(&self, tasks: u32) -> StepSpec {
        if self.devices { with_device(step(tasks)) } else { step(tasks) }
    }

    /// What is held below who is promised something is held by it.
    fn is_apart(&self, path: &str) -> bool {
        !path.starts_with(&format!("{}/", self.whom))
    }

    fn world(&self) -> World {
        let size = |count: &u64| if self.devices { (99, *count as usize) } else { (*count, 0) };
        let mut world = World::new(&self.nodes.iter().map(size).collect::<Vec<_>>());
        let is_enough = self.nodes.iter().sum::<u64>() >= self.promised + BORROWERS.len() as u64 * self.others;
        for (path, (min_run_ms, notice_ms, kill_within_ms)) in BORROWERS.iter().zip(self.contracts.clone()) {
            let contract = Some(Contract { min_run_ms, notice_ms, kill_within_ms });
            let own = if is_enough && self.is_apart(path) { self.others } else { 0 };
            world.put(Queue { contract, reserve: self.amounts(own), ..queue(path) });
        }
        // Of what such a task needs beside its device, others below the same queue hold more than that.
        let reserve = QueueAmounts { cpu_milli: Some(self.promised * 1_000), ..self.amounts(self.promised) };
        world.put(Queue { reserve, ..queue(self.whom) });
        if self.devices && self.is_apart("lab/two") {
            world.submit("lab/two", step(20));
            world.rest();
        }
        world
    }

    fn bound_ms(&self) -> u64 {
        let of = |(run, notice, kill): &(u64, u64, u64)| run + (*run).min(300_000) + notice + kill;
        self.contracts.iter().map(of).max().unwrap()
    }
}

/// Members begin to run that were fetched for so long, by the number of their task; until then they fetch.
fn begin(world: &mut World, fetches: &[u64]) {
    let (now, state) = (world.now, world.state.clone());
    for (id, node) in state.nodes() {
        let fetched = |(key, attempt, member): (MemberKey, &Attempt, &Member)| {
            let at = attempt.placed_at.0 + fetches[key.task.task.0 as usize % fetches.len()];
            let times = PhaseTimes { running: Some(TimeMs(at)), ..PhaseTimes::NONE };
            let report = AttemptReport {
                member: key,
                phase: Phase::Running,
                times,
                end: None,
                checkpoint: None,
                stuck: None,
                saved_at: None,
            };
            (member.times.running.is_none() && at <= now).then_some(report)
        };
        let reports: Vec<_> = state.live_members(id).filter_map(fetched).collect();
        if !reports.is_empty() {
            world.perform(Command::ReportAttempts(ReportAttempts { node: id, incarnation: node.incarnation, reports }));
        }
    }
}

/// When each of those has left by its contract who were asked to; whoever was asked had run for as long as that says.
fn leaving(world: &World, left: &mut BTreeMap<MemberKey, u64>, fetches: &[u64]) {
    for (id, _) in world.state.nodes() {
        for (key, attempt, _) in world.state.live_members(id) {
            let Some(asked) = attempt.preempted.filter(|_| !left.contains_key(&key)) else { continue };
            let contract = world.state.contract(&world.state.job(key.task.job).unwrap().spec.queue);
            let fetched = fetches[key.task.task.0 as usize % fetches.len()].min(contract.min_run_ms).min(300_000);
            assert!(
                asked.at.0 >= attempt.placed_at.0 + fetched + contract.min_run_ms,
                "it ran for less than is promised"
            );
            left.insert(key, asked.at.0 + contract.notice_ms + contract.kill_within_ms);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Tasks of one CPU or of one device, so that what is promised can be had on any node. Whoever is asked to leave takes all the time of
    /// the contract; some fetch for longer than they are let.
    #[test]
    fn a_promise_is_kept_within_the_contract_of_who_borrowed_it(
        nodes in prop::collection::vec(1..5_u64, 1..4),
        (promised, others, whom, devices) in (1..8_u64, 0..3_u64, prop::sample::select(&PROMISED[..]), any::<bool>()),
        borrowed in prop::collection::vec((0..BORROWERS.len(), 1..9_u32, 0..90_000_u64), 1..5),
        contracts in prop::collection::vec((0..60_000_u64, 0..20_000_u64, 0..20_000_u64), BORROWERS.len()),
        fetches in prop::collection::vec(0..90_000_u64, 3),
    ) {
        let promised = promised.min(nodes.iter().sum());
        let promise = Promise { nodes, devices, whom, promised, others, contracts };
        let mut world = promise.world();
        for (at, tasks, later) in borrowed.iter().filter(|(at, ..)| promise.is_apart(BORROWERS[*at])) {
            world.now += later;
            begin(&mut world, &fetches);
            world.submit(BORROWERS[*at], promise.ask(*tasks));
            world.rest();
        }
        let since = world.now;
        let job = world.submit(whom, promise.ask(promised as u32 + 2));
        let mut left: BTreeMap<MemberKey, u64> = BTreeMap::new();
        world.rest();
        while (world.running(job) as u64) < promised {
            world.now += 500;
            begin(&mut world, &fetches);
            leaving(&world, &mut left, &fetches);
            let now = world.now;
            world.end_preempted(|key| left.get(key).is_some_and(|at| *at <= now));
            world.rest();
            let waited = world.now - since;
            prop_assert!(waited <= promise.bound_ms() + 2_000, "{} of {promised} after {waited} ms", world.running(job));
        }
    }
}

/// Each of those that leave takes all the time of its contract.
#[test]
fn a_promise_of_many_small_tasks_is_kept_within_the_contract() {
    const PROMISED: u32 = 150;
    let mut world = World::new(&[(99, 60), (99, 60), (99, 60)]);
    let contract = Contract { min_run_ms: 60_000, notice_ms: 30_000, kill_within_ms: 60_000 };
    world.put(Queue { contract: Some(contract), ..queue("other") });
    let reserve =
        QueueAmounts { gpu_milli: [(GpuClass::Any, u64::from(PROMISED) * 1_000)].into(), ..QueueAmounts::default() };
    world.put(Queue { reserve, ..queue("lab/one") });
    world.submit("other", with_device(step(180)));
    world.rest();
    let since = world.now;
    let job = world.submit("lab/one", with_device(step(PROMISED)));
    world.rest();
    while world.running(job) < PROMISED as usize {
        world.now = world.wake_at.map_or(world.now + 1_000, |at| at.max(world.now + 1_000).min(world.now + 10_000));
        let (now, state) = (world.now, world.state.clone());
        world.end_preempted(|key| {
            let asked = state.attempt(key.task, key.attempt).and_then(|attempt| attempt.preempted);
            asked.is_some_and(|asked| asked.at.0 + contract.leave_ms() <= now)
        });
        world.rest();
        let waited = world.now - since;
        assert!(waited <= contract.bound_ms() + 20_000, "{} after {waited} ms", world.running(job));
    }
}
