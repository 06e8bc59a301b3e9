//! The work of a run: small random flows, of every kind there is.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::*;
use flowyard_scheduling::could_ever_run;
use flowyard_state::{State, apply};

use crate::dice::Dice;
use crate::outside::{Outside, TIMING};

/// What every task writes, and what lists are read from.
pub(crate) fn output_name() -> Name {
    "list".parse().expect("it is a name")
}

fn queue(path: &str) -> Queue {
    Queue::new(path.parse().expect("it is a path"))
}

/// The queues beside the default one, with bounds by which every job can run: the names of the last three go below each
/// other. What runs in these may be evicted soon.
pub(crate) fn queues() -> [Queue; 4] {
    let contract = Some(Contract { min_run_ms: 4_000, notice_ms: 1_000, kill_within_ms: 5_000 });
    let reserve = QueueAmounts { cpu_milli: Some(2_000), ..QueueAmounts::default() };
    let small = Queue { max_active: Some(2), contract, ..queue("small") };
    let lab = Queue { contract, ..queue("lab") };
    [small, lab, Queue { weight: 3, reserve, ..queue("lab/one") }, queue("lab/two")]
}

/// One of them with other bounds. By some of these not every job can run.
pub(crate) fn other_bounds(dice: &mut Dice) -> Queue {
    let known = &queues()[dice.within(0, 3) as usize];
    let reserve = QueueAmounts { cpu_milli: Some(1_000 * dice.within(0, 3)), ..QueueAmounts::default() };
    let is_reserved = known.path.as_str() != "small" && dice.chance(500);
    let few = |dice: &mut Dice, most| QueueAmounts { cpu_milli: Some(1_000 * most), ..few_gpus(dice) };
    Queue {
        weight: dice.within(1, 5) as u32,
        max_active: dice.chance(300).then(|| dice.within(1, 6) as u32),
        limit: if dice.chance(500) {
            let most = dice.within(4, 9);
            few(dice, most)
        } else {
            QueueAmounts::default()
        },
        borrow: if is_reserved && dice.chance(300) { few(dice, 2) } else { QueueAmounts::default() },
        lend: QueueAmounts { cpu_milli: (is_reserved && dice.chance(300)).then_some(0), ..QueueAmounts::default() },
        reserve: if is_reserved { reserve } else { QueueAmounts::default() },
        contract: dice.chance(500).then(|| Contract {
            min_run_ms: 1_000 * dice.within(0, 20),
            notice_ms: 1_000 * dice.within(0, 5),
            kill_within_ms: 1_000 * dice.within(1, 10),
        }),
        ..queue(known.path.as_str())
    }
}

fn few_gpus(dice: &mut Dice) -> QueueAmounts {
    let gpu_milli = dice.chance(300).then(|| (GpuClass::Any, 500 * dice.within(0, 6)));
    QueueAmounts { gpu_milli: gpu_milli.into_iter().collect(), ..QueueAmounts::default() }
}

fn some_queue(dice: &mut Dice) -> QueuePath {
    match dice.within(0, 9) {
        0 | 1 => queue("small").path,
        2 => queue("lab").path,
        3 | 4 => queue("lab/one").path,
        5 | 6 => queue("lab/two").path,
        _ => QueuePath::fallback(),
    }
}

/// A machine of the run.
pub(crate) fn inventory(dice: &mut Dice) -> Inventory {
    let gpu = |at: u64| Gpu {
        id: format!("g{at}"),
        model: if at < 2 { "A100" } else { "L4" }.to_owned(),
        memory_bytes: 1,
        numa_node: None,
        link_group: Some(at as u32 / 2),
        pcie_group: None,
        healthy: true,
        fake: true,
        part: None,
    };
    let gpus = if dice.chance(500) { dice.within(1, 4) } else { 0 };
    Inventory {
        cpu_milli: dice.within(2, 4) * 1_000,
        memory_bytes: 100,
        disk_bytes: 100,
        gpus: (0..gpus).map(gpu).collect(),
        tokens: BTreeMap::from([("licence".parse().expect("it is a name"), 2)]),
        labels: BTreeMap::new(),
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
        abilities: Abilities {
            containers: true,
            process_isolation: true,
            host_image: true,
            private_networks: false,
            separation: String::new(),
            enforcement: String::new(),
            agent_version: String::new(),
            system: String::new(),
        },
    }
}

/// The state of a cluster of idle nodes, to ask what could ever run.
pub(crate) fn idle_cluster(inventories: &[Arc<Inventory>]) -> State {
    let mut state = State::new();
    for (at, inventory) in inventories.iter().enumerate() {
        let name = format!("n{at}").parse().expect("it is a name");
        let wish = RegisterNode { name, inventory: inventory.clone(), previous: None };
        let index = Revision(at as u64 + 1);
        apply(&mut state, Entry { index, time: TimeMs(0), command: Command::RegisterNode(wish) });
    }
    state
}

/// A job that the cluster could run if nothing broke.
pub(crate) fn job(outside: &mut Outside, number: usize, known: &[JobId], cluster: &State) -> SubmitJob {
    let (stubborn, surgery) = (outside.circumstances.stubborn, outside.circumstances.surgery);
    let dice = &mut outside.dice;
    let queue = some_queue(dice);
    let after = match known {
        [] => Vec::new(),
        known if dice.chance(200) => vec![known[dice.within(0, known.len() as u64 - 1) as usize]],
        _ => Vec::new(),
    };
    let mut steps = graph(dice);
    let tag = dice.chance(400).then(|| TAGS[dice.within(0, 1) as usize]);
    for step in &mut steps {
        decorate(dice, step);
        if surgery {
            step.size = step.size.max(2);
        }
        // Nothing is drawn for it, so that other histories stay as they are.
        let replaces = surgery || step.retry.backoff_ms > 0;
        let within_ms = if surgery { 240_000 } else { 60_000 };
        let replace = (step.size > 1 && replaces).then_some(Replace { within_ms });
        let elastic = step.size > 1 && step.priority > 0;
        step.placing = beside(dice, tag);
        step.placing.min_size = elastic.then_some(step.size - 1);
        step.placing.replace = replace;
        if stubborn {
            (step.on_disconnect, step.kill_grace_ms) = (OnDisconnect::Stop, TIMING.longest_grace_ms());
            step.timeout_ms = None;
        }
        if !could_ever_run(cluster, step) {
            step.resources.gpus.clear();
            (step.size, step.placing) = (1, Placing::default());
            step.resources.cpu_milli = 1_000;
        }
    }
    let spec = JobSpec {
        name: format!("j{number}").parse().expect("it is a name"),
        queue,
        priority: dice.within(0, 2) as i32,
        tags: tag.into_iter().map(str::to_owned).collect(),
        params: BTreeMap::new(),
        steps,
        after,
        retention_ms: None,
        deadline_ms: dice.chance(60).then_some(150_000),
        queue_ttl_ms: dice.chance(60).then_some(100_000),
    };
    validate(&spec).expect("the jobs of a run are valid");
    let spec_digest = Digest { hash: [number as u8; 32], length: number as u64 };
    SubmitJob { spec: Arc::new(spec), spec_digest, owner: "sim".to_owned(), key: Some(format!("key-{number}")) }
}

/// Tags of jobs from which others keep apart.
const TAGS: [&str; 2] = ["a", "b"];

/// What may be beside a step of a job with this tag. None keeps apart from its own: not every cluster has nodes enough for that.
fn beside(dice: &mut Dice, tag: Option<&str>) -> Placing {
    let mut placing = Placing::default();
    match dice.within(0, 19) {
        0 => placing.unique_host = true,
        1 => {
            let at_most = dice.chance(700).then(|| dice.within(1, 2) as u32);
            placing.spread = Some(Spread { over: Policy::HOST.parse().expect("it is a name"), at_most });
        }
        2 | 3 => placing.apart = TAGS.into_iter().filter(|other| Some(*other) != tag).map(str::to_owned).collect(),
        4 => placing.pack = true,
        _ => {}
    }
    placing
}

fn graph(dice: &mut Dice) -> Vec<StepSpec> {
    let all = |steps: &[u32]| steps.iter().map(|step| (StepIndex(*step), NeedKind::All)).collect::<BTreeMap<_, _>>();
    let each = |step| BTreeMap::from([(StepIndex(step), NeedKind::Each)]);
    let range = |count| FanOut::Range { start: 0, count };
    let listed = |step| FanOut::Output { step: StepIndex(step), output: output_name() };
    let followed = |step| FanOut::Each { step: StepIndex(step) };
    let wide = dice.within(1, 4) as u32;
    match dice.within(0, 9) {
        0..=3 => vec![step("a", FanOut::Single, all(&[]))],
        4..=5 => vec![step("a", range(wide), all(&[]))],
        6 => vec![
            step("split", FanOut::Single, all(&[])),
            step("train", listed(0), all(&[0])),
            step("pick", FanOut::Single, all(&[1])),
        ],
        7 => vec![
            step("a", range(wide), all(&[])),
            step("b", followed(0), each(0)),
            step("c", followed(1), each(1)),
            step("d", FanOut::Single, all(&[0, 2])),
        ],
        8 => vec![
            step("a", range(2), all(&[])),
            step("b", listed(0), all(&[0])),
            step("c", followed(1), each(1)),
            step("d", FanOut::Single, all(&[2])),
        ],
        _ => vec![
            step("a", range(wide), all(&[])),
            step("slow", FanOut::Single, all(&[])),
            step("b", followed(0), each(0).into_iter().chain(all(&[1])).collect()),
        ],
    }
}

/// Makes a step one of many kinds.
fn decorate(dice: &mut Dice, step: &mut StepSpec) {
    step.on_failure = if dice.chance(500) { OnFailure::Stop } else { OnFailure::Continue };
    step.retry.times = dice.within(0, 3) as u32;
    step.retry.backoff_ms = dice.within(0, 2) * 3_000;
    step.on_disconnect = if dice.chance(500) { OnDisconnect::Stop } else { OnDisconnect::Keep };
    step.kill_grace_ms = if dice.chance(200) { dice.within(0, TIMING.longest_grace_ms()) } else { 5_000 };
    step.timeout_ms = dice.chance(100).then_some(40_000);
    step.max_parallel = dice.chance(150).then_some(2);
    step.size = if dice.chance(200) { dice.within(2, 3) as u32 } else { 1 };
    step.resources.cpu_milli = dice.within(1, 2) * 500;
    step.priority = dice.within(0, 1) as i32;
    if dice.chance(100) {
        step.resources.tokens = BTreeMap::from([("licence".parse().expect("it is a name"), 1)]);
    }
    if dice.chance(250) {
        let count = dice.within(1, 2) as u32;
        let share_milli = if dice.chance(300) { 400 } else { 1_000 };
        let model = dice.chance(300).then(|| "a100".to_owned());
        let request = GpuRequest {
            count,
            model,
            min_memory_bytes: 0,
            same_link_group: dice.chance(500),
            share_milli,
            memory_bytes: 0,
            link: None,
        };
        let other = GpuRequest { count: 1, model: None, same_link_group: false, ..request.clone() };
        let both = vec![request.clone(), other];
        let two = dice.chance(300) && GpuRequest::repeated(&both).is_none();
        step.resources.gpus = if two { both } else { vec![request] };
    }
}

fn step(name: &str, fan_out: FanOut, needs: BTreeMap<StepIndex, NeedKind>) -> StepSpec {
    StepSpec {
        name: name.parse().expect("it is a name"),
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: Isolation::Container,
        code: None,
        inputs: BTreeMap::new(),
        outputs: BTreeMap::from([(output_name(), "list".to_owned())]),
        fan_out,
        needs,
        env: BTreeMap::new(),
        resources: Resources {
            cpu_milli: 1_000,
            memory_bytes: 10,
            disk_bytes: 0,
            shm_bytes: 0,
            tokens: BTreeMap::new(),
            gpus: vec![],
        },
        size: 1,
        retry: Retry::plain(0, 0, [RetryOn::Failed, RetryOn::Oom]),
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
        preemptible: true,
        notice: None,
        placing: Default::default(),
        priority: 0,
    }
}
