//! Whoever is not placed is told why: what keeps it out is named, or others really go before it.

use flowyard_model::*;
use flowyard_scheduling::Scheduler;
use flowyard_scheduling::why::{BoundOn, Reasons, Resource, Rule, reasons};
use proptest::prelude::*;

use crate::random::{QUEUES, recipes};
use crate::world::{BOUND, World, asking, gpus, job, key, machine, queue, wide};

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    /// The law of completeness: where a whole round leaves it out, a reason is named, unless somebody goes before it who takes the room.
    #[test]
    fn whoever_is_left_out_is_told_what_keeps_it_out_unless_others_took_the_room(
        recipe in recipes(),
        takes_quotas in prop::bool::weighted(0.3),
    ) {
        let Some((mut world, task)) = recipe.cook() else { return Ok(()) };
        if takes_quotas {
            take_quotas(&mut world);
        }
        is_told(&world, task)?;
    }

    /// The same where there is little but rules of a queue: limits, also on one model, what is kept of them, and quotas that were taken away.
    #[test]
    fn whoever_is_left_out_by_rules_is_told_of_them(tight in tight()) {
        let world = tight.cook();
        let ready = |id: JobId| {
            let tasks: Vec<_> = world.state.ready_tasks(id, StepIndex(0)).map(|(task, _)| key(id, task.0)).collect();
            tasks
        };
        for task in world.state.outlines().map(|(id, _)| id).flat_map(ready) {
            is_told(&world, task)?;
        }
    }
}

/// Where a whole round leaves a task out, it is told of something that keeps it out, or others go before it and take the room.
fn is_told(world: &World, task: TaskKey) -> Result<(), TestCaseError> {
    let round = Scheduler::new(0).round(&world.state, TimeMs(world.now), BOUND);
    let is_placed = round.plans.iter().flat_map(|plan| &plan.placements).any(|it| it.task == task);
    // Who has a place of its own is told of that.
    if is_placed || !round.complete || world.state.claim(&task).is_some() {
        return Ok(());
    }
    let spec = world.state.step_spec(task.job, task.step).unwrap();
    let reasons = reasons(&world.state, task).unwrap();
    if names_one(&reasons, spec) {
        return without_rules(world, task, &reasons);
    }
    prop_assert!(!round.plans.is_empty(), "nobody takes anything: {:?}", reasons);
    let alone = alone(world, task);
    let round = Scheduler::new(0).round(&alone.state, TimeMs(alone.now), BOUND);
    prop_assert!(!round.plans.is_empty(), "nobody goes before it: {:?}", reasons);
    Ok(())
}

/// A cluster with one queue that bounds much: its nodes by CPUs, devices and model; what it is limited to, in CPUs, in devices of a model, and
/// in tasks; whether its quota is taken away at last; and what is submitted to it before and after the cluster comes to rest.
#[derive(Debug, Clone)]
struct Tight {
    nodes: Vec<(u64, u32, usize)>,
    cpus: Option<u64>,
    devices: Option<(usize, u64)>,
    most: Option<u32>,
    takes_quota: bool,
    jobs: [Vec<TightJob>; 3],
}

/// Its CPUs, a device of any model or of one, members, whether it ends, and whether it must not be evicted.
type TightJob = (u64, Option<Option<usize>>, u32, bool, bool);

const MODELS: [&str; 2] = ["h100", "l4"];

fn tight() -> impl Strategy<Value = Tight> {
    let model = prop_oneof![1 => Just(None), 1 => (0..2_usize).prop_map(Some)];
    let device = prop_oneof![1 => Just(None), 1 => model.prop_map(Some)];
    let size = prop_oneof![3 => Just(1), 1 => 2..4_u32];
    let job = (1..5_u64, device, size, prop::bool::weighted(0.7), prop::bool::weighted(0.15));
    let jobs = || prop::collection::vec(job.clone(), 0..4);
    (
        prop::collection::vec((2..6_u64, 0..3_u32, 0..2_usize), 2..5),
        prop_oneof![1 => Just(None), 2 => (3..9_u64).prop_map(Some)],
        prop_oneof![1 => Just(None), 2 => (0..2_usize, 0..3_u64).prop_map(Some)],
        prop_oneof![3 => Just(None), 1 => (1..5_u32).prop_map(Some)],
        prop::bool::weighted(0.3),
        [jobs(), jobs(), jobs()],
    )
        .prop_map(|(nodes, cpus, devices, most, takes_quota, jobs)| Tight {
            nodes,
            cpus,
            devices,
            most,
            takes_quota,
            jobs,
        })
}

impl Tight {
    fn cook(&self) -> World {
        let mut world = World::new();
        for (at, (cpus, count, model)) in self.nodes.iter().enumerate() {
            world.node(&format!("n{at}"), Inventory { gpus: gpus(MODELS[*model], *count), ..machine(*cpus, 8) });
        }
        let limit = QueueAmounts {
            cpu_milli: self.cpus.map(|cpus| cpus * 1_000),
            gpu_milli: self
                .devices
                .map(|(model, most)| (GpuClass::model(MODELS[model]), most * 1_000))
                .into_iter()
                .collect(),
            ..QueueAmounts::default()
        };
        let quota = QueueAmounts {
            cpu_milli: Some(3_000),
            memory_bytes: Some(1 << 30),
            gpu_milli: [(GpuClass::Any, 2_000)].into(),
            ..QueueAmounts::default()
        };
        let (reserve, no_preempt) = (quota.clone(), quota);
        let (limit, max_active) = (limit, self.most);
        let lab = Queue { limit, max_active, reserve, no_preempt, ..queue("lab") };
        if world.put(lab.clone()) != Reply::Done {
            world.put(Queue { reserve: QueueAmounts::default(), no_preempt: QueueAmounts::default(), ..lab });
        }
        for (at, jobs) in self.jobs.iter().enumerate() {
            for (cpus, device, size, ends, for_good) in jobs {
                let mut step = StepSpec { size: *size, preemptible: !for_good, ..wide(*cpus) };
                step.timeout_ms = ends.then_some(3_600_000 * (3 - at as u64));
                step.resources.gpus = device.iter().map(|model| asking(model.map(|at| MODELS[at]), 1)).collect();
                let spec = job("lab", vec![step]);
                world.perform(Command::SubmitJob(crate::world::wish("ada", spec)));
            }
            if at < 2 {
                world.settle();
            }
        }
        if self.takes_quota {
            let known = Queue::clone(world.state.queue(&"lab".parse().unwrap()).unwrap());
            world.put(Queue { no_preempt: QueueAmounts::default(), ..known });
        }
        world
    }
}

/// Whether something is named that keeps it out, whoever else there is.
fn names_one(reasons: &Reasons, spec: &StepSpec) -> bool {
    let has_no_room = reasons.nodes.fitting == 0 || reasons.seats < u64::from(spec.least_size());
    reasons.parallel.is_some() || reasons.throttled.is_some() || reasons.rule.is_some() || has_no_room
}

/// Where room is said to be only beyond the rules of queues, there is some once there are no rules.
fn without_rules(world: &World, task: TaskKey, reasons: &Reasons) -> Result<(), TestCaseError> {
    let spec = world.state.step_spec(task.job, task.step).unwrap();
    let has_room = reasons.seats >= u64::from(spec.least_size()) && reasons.nodes.fitting > 0;
    let is_only = reasons.parallel.is_none() && reasons.throttled.is_none() && reasons.rule.is_some() && has_room;
    let is_named = |bound: &flowyard_scheduling::why::BoundReached| !matches!(bound.on, BoundOn::NoQuota(_));
    if !is_only || !reasons.within_bounds || !reasons.bounds.iter().all(is_named) {
        return Ok(());
    }
    let mut open = alone(world, task);
    for queue in world.state.queues() {
        // A quota of what must not be evicted is taken only with what is promised.
        let Queue { path, no_preempt, reserve, .. } = Queue::clone(queue);
        if open.put(Queue { no_preempt, reserve, ..self::queue(path.as_str()) }) != Reply::Done {
            return Ok(());
        }
    }
    let round = Scheduler::new(0).round(&open.state, TimeMs(open.now), BOUND);
    prop_assert!(!round.plans.is_empty(), "the rules are not what keeps it out: {:?}", reasons);
    Ok(())
}

/// The world without what waits of other steps and has no place yet.
fn alone(world: &World, task: TaskKey) -> World {
    let mut alone = world.clone();
    let claims: Vec<_> = world.state.claims().map(|(key, _)| (key.job, key.step)).collect();
    let others = world.state.outlines().map(|(id, _)| (id, StepIndex(0)));
    for step in others.filter(|step| *step != (task.job, task.step) && !claims.contains(step)) {
        alone.state = alone.state.withdrawn(step.0, step.1);
    }
    alone
}

/// Nothing is kept from eviction any more.
fn take_quotas(world: &mut World) {
    for path in QUEUES {
        let known = Queue::clone(world.state.queue(&path.parse().unwrap()).unwrap());
        world.put(Queue { no_preempt: QueueAmounts::default(), ..known });
    }
}

fn devices(model: &str, count: u64) -> QueueAmounts {
    let class = if model.is_empty() { GpuClass::Any } else { GpuClass::model(model) };
    QueueAmounts { gpu_milli: [(class, count * 1_000)].into(), ..QueueAmounts::default() }
}

fn with_gpus(cpus: u64, models: &[Option<&str>]) -> StepSpec {
    let mut step = wide(cpus);
    step.resources.gpus = models.iter().map(|model| asking(*model, 1)).collect();
    step
}

/// A node with two H100, of which `lab` may have one and has it, and one with an L4 that is busy.
fn two_models() -> World {
    let mut world = World::new();
    world.node("h", Inventory { gpus: gpus("h100", 2), ..machine(8, 8) });
    world.node("l", Inventory { gpus: gpus("l4", 1), ..machine(8, 8) });
    world.put(Queue { limit: devices("h100", 1), ..queue("lab") });
    world.submit("lab", "ada", 0, with_gpus(1, &[Some("h100")]));
    world.submit("default", "bob", 0, with_gpus(1, &[Some("l4")]));
    world.settle();
    world
}

#[test]
fn a_limit_on_one_model_is_told_to_who_asks_for_any_while_the_other_models_are_busy() {
    for models in [&[None][..], &[Some("l4"), Some("h100")]] {
        let mut world = two_models();
        let job = world.submit("lab", "eve", 0, with_gpus(1, models));
        let told = world.first(job);
        let reasons = &told.reasons;
        let [bound] = &reasons.bounds[..] else { panic!("{reasons:?}") };
        let on = BoundOn::Limit(Resource::Gpu(GpuClass::model("h100")));
        assert_eq!((&bound.on, bound.held, bound.need, bound.most), (&on, 1_000, 1_000, 1_000));
        assert_eq!((bound.holders[0].owner.as_str(), bound.holders[0].held), ("ada", 1_000));
        assert_eq!((reasons.rule, reasons.within_bounds), (Some(Rule::Bounds), true), "there might be room by an L4");
        let is_raised = |fix: &&flowyard_scheduling::why::Fix| fix.changes[0].queue().is_some();
        let fix = told.fixes.iter().find(is_raised).unwrap_or_else(|| panic!("{:?}", told.fixes));
        assert!(fix.smallest);
        let mut then = world.clone();
        let task = then.carry_out(key(job, 0), &fix.changes).unwrap();
        assert!(then.is_placed_next(task), "{fix:?}");
    }
}

#[test]
fn a_limit_on_one_model_is_no_reason_where_another_model_is_free() {
    let mut world = two_models();
    world.node("more", Inventory { gpus: gpus("l4", 1), ..machine(8, 8) });
    let job = world.submit("lab", "eve", 0, with_gpus(1, &[None]));
    let told = world.first(job);
    assert_eq!(told.reasons.rule, None);
    assert!(told.placed.is_some(), "{told:?}");
}

#[test]
fn the_rest_of_a_limit_that_is_kept_for_a_reservation_is_told_with_whose_it_is() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.node(name, machine(4, 8));
    }
    let limit = QueueAmounts { cpu_milli: Some(8_000), ..QueueAmounts::default() };
    world.put(Queue { limit, ..queue("lab") });
    let hours = |hours: u64| Some(hours * 3_600_000);
    world.submit("lab", "ada", 0, StepSpec { timeout_ms: hours(12), ..wide(4) });
    world.settle();
    // A gang that needs all of the limit waits for the end of that.
    let gang = StepSpec { size: 2, timeout_ms: hours(1), ..wide(4) };
    world.submit("lab", "bob", 0, gang);
    world.settle();
    let [(_, claim)] = world.state.claims().collect::<Vec<_>>()[..] else { panic!("a reservation") };
    assert!(claim.is_reservation());
    let job = world.submit("lab", "eve", 0, wide(1));
    let told = world.first(job);
    let [bound] = &told.reasons.bounds[..] else { panic!("{:?}", told.reasons) };
    assert_eq!((bound.held, bound.kept, bound.need, bound.most), (4_000, 4_000, 1_000, 8_000));
    assert_eq!((bound.kept_for[0].owner.as_str(), bound.kept_for[0].held), ("bob", 8_000));
    assert_eq!(told.reasons.rule, Some(Rule::Bounds));
}

#[test]
fn who_must_not_be_evicted_is_told_that_its_queue_keeps_nothing_from_eviction_any_more() {
    let mut world = World::new();
    world.node("n", machine(8, 8));
    let quota = QueueAmounts { cpu_milli: Some(4_000), memory_bytes: Some(4 << 30), ..QueueAmounts::default() };
    let lab = Queue { reserve: quota.clone(), no_preempt: quota.clone(), ..queue("lab") };
    world.put(lab.clone());
    let kept = StepSpec { preemptible: false, ..wide(3) };
    world.submit("lab", "ada", 0, kept.clone());
    world.settle();
    let job = world.submit("lab", "eve", 0, kept);
    let told = world.first(job);
    let [bound] = &told.reasons.bounds[..] else { panic!("{:?}", told.reasons) };
    assert_eq!((&bound.on, bound.held, bound.most), (&BoundOn::NoPreempt(Resource::Cpu), 3_000, 4_000));
    assert_eq!((bound.holders[0].owner.as_str(), bound.holders[0].held), ("ada", 3_000));
    assert_eq!(world.put(Queue { no_preempt: QueueAmounts::default(), ..lab }), Reply::Done);
    let told = world.first(job);
    let on: Vec<_> = told.reasons.bounds.iter().map(|bound| (&bound.on, bound.need, bound.most)).collect();
    assert_eq!(on, [(&BoundOn::NoQuota(Resource::Cpu), 3_000, 0)]);
    assert_eq!(told.reasons.rule, Some(Rule::Bounds));
    let changes: Vec<_> = told.fixes.iter().map(|fix| fix.changes.clone()).collect();
    assert_eq!(changes, [vec![flowyard_scheduling::why::Change::Preemptible]]);
}
