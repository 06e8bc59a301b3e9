//! One scene for every kind of reason, of fix and of start.

use flowyard_model::*;
use flowyard_scheduling::why::{
    BoundOn, Change, Explanation, Fix, Gpus, Lack, Nearness, Question, Resource, Short, Start, Unable, explain,
};

use crate::world::{World, asking, gpus, job, key, label, machine, queue, step, wide, wish};

/// The fix among these that changes such a thing, which is carried out.
fn fix(world: &World, task: TaskKey, is_it: impl Fn(&Change) -> bool) -> Fix {
    let told = world.explain(task);
    let fix = told.fixes.iter().find(|fix| fix.changes.iter().all(&is_it));
    let fix = fix.unwrap_or_else(|| panic!("{:?}", told.fixes)).clone();
    let mut then = world.clone();
    let task = then.carry_out(task, &fix.changes).unwrap();
    assert!(then.is_placed_next(task), "{fix:?}");
    fix
}

fn kinds(told: &Explanation) -> Vec<(&str, u64)> {
    told.reasons.nodes.rejections.iter().map(|it| (it.kind, it.nodes)).collect()
}

/// Places a task on a device.
fn place(world: &mut World, task: TaskKey, node: NodeId, device: u32) {
    let seat = Seat { node, incarnation: Incarnation(1), gpus: vec![GpuIndex(device)], gpu_alternative: 0 };
    let placement = Placement { task, attempt: AttemptNumber(1), members: vec![seat] };
    let plan = Plan { placements: vec![placement], ..Plan::empty(world.state.revision()) };
    world.perform(Command::CommitPlan(plan));
    assert_eq!(world.state.task_state(task), Some(TaskState::Active));
}

fn limit(cpus: u64) -> QueueAmounts {
    QueueAmounts { cpu_milli: Some(cpus * 1_000), ..QueueAmounts::default() }
}

#[test]
fn what_has_room_is_placed_and_needs_no_fix() {
    let mut world = World::new();
    let node = world.node("n", machine(2, 1));
    let job = world.submit("default", "ada", 0, step(3));
    let told = world.first(job);
    assert_eq!((told.placed, told.start, told.fixes), (Some(vec![node]), Start::Now, vec![]));
    let third = world.explain(key(job, 2));
    assert_eq!(third.placed, None, "two CPUs, and its siblings go first");
    assert_eq!(third.position.unwrap().before, 2);
}

#[test]
fn a_limit_is_told_with_who_holds_it_and_raised_by_what_is_missing() {
    let mut world = World::new();
    world.node("n", machine(16, 16));
    world.put(Queue { limit: limit(4), ..queue("lab") });
    world.put(queue("lab/one"));
    world.put(queue("lab/two"));
    world.submit("lab/one", "ada", 0, wide(1));
    world.submit("lab/two", "bob", 0, wide(2));
    world.settle();
    let job = world.submit("lab/one", "eve", 0, wide(3));
    let told = world.first(job);
    let [bound] = &told.reasons.bounds[..] else { panic!("{:?}", told.reasons) };
    assert_eq!((bound.queue.as_str(), &bound.on), ("lab", &BoundOn::Limit(Resource::Cpu)));
    assert_eq!((bound.held, bound.need, bound.most), (3_000, 3_000, 4_000));
    let holders: Vec<_> = bound.holders.iter().map(|it| (it.queue.as_str(), it.owner.as_str(), it.held)).collect();
    assert_eq!(holders, [("lab/two", "bob", 2_000), ("lab/one", "ada", 1_000)]);
    let raised = fix(&world, key(job, 0), |change| matches!(change, Change::Limit { .. }));
    let (lab, resource) = ("lab".parse().unwrap(), Resource::Cpu);
    assert_eq!(raised.changes, [Change::Limit { queue: lab, resource, from: 4_000, to: 6_000 }]);
    let less = fix(&world, key(job, 0), |change| matches!(change, Change::Cpu { .. }));
    assert_eq!(less.changes, [Change::Cpu { from: 3_000, to: 1_000 }]);
    assert_eq!(told.start, Start::NoTimeout { whose: told_endless(&told), all: 2 });
}

fn told_endless(told: &Explanation) -> Vec<flowyard_scheduling::why::Endless> {
    match &told.start {
        Start::NoTimeout { whose, .. } => whose.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_bounds_at_once_are_raised_together_and_borrowing_by_itself() {
    let mut world = World::new();
    world.node("n", machine(16, 16));
    world.put(Queue { reserve: limit(2), borrow: limit(1), max_active: Some(1), ..queue("lab") });
    world.put(Queue { limit: limit(4), ..queue("lab/one") });
    world.submit("lab/one", "ada", 0, wide(2));
    world.settle();
    let job = world.submit("lab/one", "ada", 0, wide(3));
    let told = world.first(job);
    let on: Vec<_> = told.reasons.bounds.iter().map(|it| (it.queue.as_str(), it.on.clone(), it.most)).collect();
    let (cpu, lab) = (Resource::Cpu, "lab");
    let expected = [
        (lab, BoundOn::Tasks, 1),
        (lab, BoundOn::Borrow(cpu.clone()), 3_000),
        ("lab/one", BoundOn::Limit(cpu.clone()), 4_000),
    ];
    assert_eq!(on, expected);
    let all = fix(&world, key(job, 0), |change| change.queue().is_some());
    let lab: QueuePath = lab.parse().unwrap();
    let changes = [
        Change::MaxActive { queue: lab.clone(), from: 1, to: 2 },
        Change::Borrow { queue: lab, resource: cpu.clone(), from: 1_000, to: 3_000 },
        Change::Limit { queue: "lab/one".parse().unwrap(), resource: cpu, from: 4_000, to: 5_000 },
    ];
    assert_eq!(all.changes, changes);
    assert_eq!(told.fixes.len(), 1, "nothing less of the step helps against max_active: {:?}", told.fixes);
}

#[test]
fn a_bound_is_raised_by_as_much_as_those_need_who_go_first() {
    let mut world = World::new();
    world.node("n", machine(16, 16));
    world.put(Queue { max_active: Some(1), ..queue("small") });
    world.submit("small", "ada", 0, step(4));
    world.settle();
    let job = world.submit("small", "ada", 0, wide(2));
    let raised = fix(&world, key(job, 0), |change| matches!(change, Change::MaxActive { .. }));
    let small = "small".parse().unwrap();
    assert_eq!((raised.changes, raised.smallest), (vec![Change::MaxActive { queue: small, from: 1, to: 5 }], true));
    let first = fix(&world, key(job, 0), |change| matches!(change, Change::MaxActive { .. } | Change::Priority { .. }));
    assert!(!first.changes.is_empty());
}

#[test]
fn room_that_is_kept_for_others_is_told_with_whose_it_is() {
    let mut world = World::new();
    world.node("n", machine(8, 8));
    world.put(Queue { reserve: limit(6), lend: limit(1), ..queue("lab") });
    let job = world.submit("default", "ada", 0, wide(4));
    let told = world.first(job);
    let [kept] = &told.reasons.kept[..] else { panic!("{:?}", told.reasons) };
    assert_eq!((&kept.resource, kept.need, kept.free, kept.kept), (&Resource::Cpu, 4_000, 8_000, 5_000));
    assert_eq!(kept.keepers, [("lab".parse().unwrap(), 5_000)]);
    let less = fix(&world, key(job, 0), |change| matches!(change, Change::Cpu { .. }));
    assert_eq!(less.changes, [Change::Cpu { from: 4_000, to: 3_000 }]);
}

#[test]
fn a_step_that_has_as_many_active_as_it_may_is_told_so() {
    let mut world = World::new();
    world.node("n", machine(8, 8));
    let job = world.submit("default", "ada", 0, StepSpec { max_parallel: Some(2), ..step(5) });
    world.settle();
    let told = world.explain(key(job, 3));
    let parallel = told.reasons.parallel.unwrap();
    assert_eq!((parallel.active, parallel.before, parallel.most), (2, 1, 2));
    assert_eq!(told.position, None);
    let [fix] = &told.fixes[..] else { panic!("{:?}", told.fixes) };
    assert_eq!(fix.changes, [Change::MaxParallel { from: 2, to: 4 }]);
}

#[test]
fn every_lack_of_a_node_is_counted_with_an_example() {
    let mut world = World::new();
    let labelled = |rack: &str, mut inventory: Inventory| {
        inventory.labels.insert("rack".parse().unwrap(), rack.to_owned());
        inventory
    };
    let down = world.node("down", machine(9, 9));
    let silent = world.node("silent", machine(9, 9));
    let closed = world.node("closed", machine(9, 9));
    let mut unable = machine(9, 9);
    unable.abilities.process_isolation = false;
    let unable = world.node("unable", unable);
    world.node("elsewhere", labelled("r2", machine(9, 9)));
    world.node("small", labelled("r1", Inventory { disk_bytes: 0, ..machine(1, 1) }));
    let full = world.node("full", labelled("r1", Inventory { gpus: gpus("h100", 2), ..machine(4, 4) }));
    let mut filler = wide(3);
    filler.resources.memory_bytes = 3 << 30;
    filler.resources.disk_bytes = 10 << 30;
    filler.resources.gpus = vec![asking(None, 1)];
    world.submit("default", "ada", 0, filler);
    world.settle();
    for (node, health) in [(down, Health::Down), (silent, Health::Suspect)] {
        world.perform(Command::SetNodeHealth { node, incarnation: Incarnation(1), health });
    }
    world.perform(Command::SetNodeScheduling { node: closed, scheduling: Scheduling::Drained });
    let mut wanted = wide(2);
    wanted.resources.memory_bytes = 2 << 30;
    wanted.resources.disk_bytes = 1 << 30;
    wanted.resources.gpus = vec![asking(None, 2)];
    wanted.resources.tokens.insert("matlab".parse().unwrap(), 1);
    wanted.constraints = vec![label("rack", "r1")];
    let job = world.submit("default", "ada", 0, wanted);
    let told = world.first(job);
    let expected = [
        ("cordoned", 1),
        ("cpus_taken", 1),
        ("disk_taken", 1),
        ("down", 1),
        ("gpus_taken", 1),
        ("labels", 1),
        ("memory_taken", 1),
        ("no_such_gpus", 1),
        ("silent", 1),
        ("tokens", 2),
        ("too_few_cpus", 1),
        ("too_little_disk", 1),
        ("too_little_memory", 1),
        ("unable", 1),
    ];
    assert_eq!(kinds(&told), expected);
    let of = |kind: &str| told.reasons.nodes.rejections.iter().find(|it| it.kind == kind).unwrap();
    assert_eq!((of("unable").example, &of("unable").lack), (unable, &Lack::Unable(Unable::Process)));
    assert_eq!(of("cpus_taken").example, full);
    assert_eq!(of("cpus_taken").lack, Lack::Cpu(Short { free: 1_000, all: 4_000, never: false }));
    let gpus = Gpus {
        alternative: 0,
        model: None,
        wanted: 2,
        share_milli: 1_000,
        memory_bytes: 0,
        free: 1,
        suiting: 2,
        all: 2,
    };
    assert_eq!(of("gpus_taken").lack, Lack::FreeDevices(gpus));
    assert_eq!((told.reasons.nodes.all, told.reasons.nodes.closed, told.reasons.nodes.fitting), (7, 1, 0));
    assert_eq!((told.fixes, told.start), (vec![], Start::NotEvenThen), "no one change is enough");
}

#[test]
fn a_gang_for_which_there_are_too_few_seats_is_told_how_many_there_are() {
    let mut world = World::new();
    world.node("n", machine(3, 8));
    world.node("m", machine(2, 8));
    let gang = world.submit("default", "ada", 0, StepSpec { size: 3, ..wide(2) });
    let told = world.first(gang);
    assert_eq!((told.reasons.nodes.fitting, told.reasons.seats), (2, 2));
    let less = fix(&world, key(gang, 0), |change| matches!(change, Change::Cpu { .. }));
    assert_eq!(less.changes, [Change::Cpu { from: 2_000, to: 1_500 }]);
}

#[test]
fn devices_are_asked_for_less_of_or_of_another_model() {
    let mut world = World::new();
    world.node("n", Inventory { gpus: gpus("h100", 4), ..machine(8, 8) });
    world.node("m", Inventory { gpus: gpus("L40S", 8), ..machine(8, 8) });
    let mut wanted = wide(1);
    wanted.resources.gpus = vec![asking(Some("h100"), 6)];
    let job = world.submit("default", "ada", 0, wanted);
    let fewer = fix(&world, key(job, 0), |change| matches!(change, Change::Gpus { .. }));
    assert_eq!((fewer.changes, fewer.smallest), (vec![Change::Gpus { alternative: 0, from: 6, to: 4 }], true));
    let other = fix(&world, key(job, 0), |change| matches!(change, Change::Model { .. }));
    assert_eq!(other.changes, [Change::Model { alternative: 0, from: "h100".to_owned(), to: "L40S".to_owned() }]);
    let told = world.first(job);
    assert!(matches!(told.fixes[0].changes[0], Change::Gpus { .. }), "the smaller change first: {:?}", told.fixes);
}

#[test]
fn memory_and_disk_and_constraints_are_given_up() {
    let mut world = World::new();
    world.node("n", machine(8, 8));
    let mut wanted = wide(1);
    wanted.resources.memory_bytes = 9 << 30;
    let memory = world.submit("default", "ada", 0, wanted);
    let less = fix(&world, key(memory, 0), |change| matches!(change, Change::Memory { .. }));
    assert_eq!(less.changes, [Change::Memory { from: 9 << 30, to: 8 << 30 }]);
    let mut wanted = wide(1);
    wanted.resources.disk_bytes = 11 << 30;
    let disk = world.submit("default", "ada", 0, wanted);
    let less = fix(&world, key(disk, 0), |change| matches!(change, Change::Disk { .. }));
    assert_eq!(less.changes, [Change::Disk { from: 11 << 30, to: 10 << 30 }]);
    let constraints = vec![label("rack", "r1")];
    let bound = world.submit("default", "ada", 0, StepSpec { constraints: constraints.clone(), ..wide(1) });
    let without = fix(&world, key(bound, 0), |change| matches!(change, Change::Without(_)));
    assert_eq!(without.changes, [Change::Without(constraints[0].clone())]);
    let both = vec![label("rack", "r1"), label("rack", "r2")];
    let twice = world.submit("default", "ada", 0, StepSpec { constraints: both, ..wide(1) });
    assert_eq!(world.first(twice).fixes, [], "one of them is not enough");
}

#[test]
fn a_priority_is_raised_above_those_that_take_the_room_and_no_further() {
    let mut world = World::new();
    world.node("n", machine(2, 2));
    world.submit("default", "eve", 1, wide(1));
    world.submit("default", "bob", 5, wide(1));
    world.submit("default", "bob", 7, wide(9));
    let job = world.submit("default", "eve", 0, wide(1));
    let told = world.first(job);
    assert_eq!((told.reasons.nodes.fitting, told.placed.is_none()), (1, true));
    let position = told.position.clone().unwrap();
    assert_eq!((position.before, position.exact), (3, true));
    let raised = fix(&world, key(job, 0), |change| matches!(change, Change::Priority { .. }));
    assert_eq!((raised.changes, raised.smallest), (vec![Change::Priority { from: 0, to: 2 }], true));
}

#[test]
fn the_start_is_known_from_timeouts_and_otherwise_says_whose_end_is_not_known() {
    let mut world = World::new();
    world.node("n", machine(4, 4));
    let (minute, grace) = (60_000, 5_000);
    let timed = StepSpec { timeout_ms: Some(10 * minute), kill_grace_ms: grace, ..wide(3) };
    world.submit("default", "ada", 0, timed);
    world.settle();
    let placed = world.state.attempt(key(JobId(1), 0), AttemptNumber(1)).unwrap().placed_at;
    let job = world.submit("default", "ada", 0, wide(2));
    let at = placed.after(10 * minute).after(grace);
    assert_eq!(world.first(job).start, at_one_end(at, 0));
    world.submit("default", "bob", 0, wide(1));
    world.settle();
    let large = world.submit("default", "ada", 0, wide(4));
    let Start::NoTimeout { whose, all } = world.first(large).start else { panic!() };
    let whose: Vec<_> = whose.iter().map(|it| it.task.job).collect();
    assert_eq!((whose, all), (vec![job, JobId(3)], 2), "job 2 would have taken the room of job 1 by then");
    let endless = world.submit("default", "ada", 0, wide(5));
    assert_eq!(world.first(endless).start, Start::NotEvenThen);
    let mut hasty = job_of(wide(2));
    hasty.deadline_ms = Some(minute);
    let hasty = world.submit_job("ada", hasty);
    let submitted = world.state.job(hasty).unwrap().submitted_at;
    let Start::StopsBefore(at) = world.first(hasty).start else { panic!("{:?}", world.first(hasty).start) };
    assert!(at >= submitted.after(minute), "its deadline passes before");
}

/// At a time, once one attempt has ended, of whose time so much is only what is expected.
fn at_one_end(at: TimeMs, expected: u64) -> Start {
    let (joined, unknown_followers, throttled) = (false, false, false);
    Start::At { at, joined, ends: 1, unknown_followers, learned: 0, runs: None, expected, throttled }
}

fn job_of(step: StepSpec) -> JobSpec {
    job("default", vec![step])
}

#[test]
fn a_start_that_rests_on_earlier_runs_or_on_what_is_expected_says_so() {
    let mut world = World::new();
    world.node("n", machine(4, 4));
    let minute = 60_000;
    world.submit("default", "ada", 0, StepSpec { expected_ms: Some(10 * minute), ..wide(3) });
    world.settle();
    let placed = world.state.attempt(key(JobId(1), 0), AttemptNumber(1)).unwrap().placed_at;
    let job = world.submit("default", "ada", 0, wide(2));
    let at = placed.after(10 * minute);
    let (joined, unknown_followers, throttled) = (false, false, false);
    let expected = Start::At { at, joined, ends: 1, unknown_followers, learned: 0, runs: None, expected: 1, throttled };
    assert_eq!(world.first(job).start, expected);
}

#[test]
fn many_ends_are_joined_and_the_answer_says_so() {
    let mut world = World::new();
    world.node("n", machine(40, 40));
    for at in 0..40 {
        world.submit("default", "ada", 0, StepSpec { timeout_ms: Some(100_000 + 1_000 * at), ..wide(1) });
    }
    world.settle();
    let job = world.submit("default", "ada", 0, wide(40));
    let told = world.first(job);
    let Start::At { at, joined, ends, .. } = told.start else { panic!("{:?}", told.start) };
    let last = world.live().into_iter().map(|(_, key)| world.state.attempt(key.task, key.attempt).unwrap().placed_at);
    let last = last.max().unwrap().after(139_000);
    assert!(joined && ends == 40 && at == last, "{:?}, and the last ends at {last}", told.start);
    assert!(told.rounds <= flowyard_scheduling::why::ROUNDS);
}

#[test]
fn what_is_asked_before_a_submission_changes_nothing_and_fixes_hold_for_it() {
    let mut world = World::new();
    world.node("n", machine(4, 4));
    let before = world.state.clone();
    let steps = vec![wide(5), StepSpec { name: "b".parse().unwrap(), ..wide(1) }];
    let ask = |step: u32| {
        let wish = wish("ada", job("default", steps.clone()));
        explain(&world.state, &Question::Submission { wish, step: StepIndex(step) }, TimeMs(world.now)).unwrap()
    };
    let (wide, narrow) = (ask(0), ask(1));
    assert_eq!(wide.fixes[0].changes, [Change::Cpu { from: 5_000, to: 4_000 }]);
    assert!(narrow.placed.is_some());
    assert_eq!(world.state, before);
}

#[test]
fn what_does_not_wait_to_be_placed_is_not_explained() {
    let mut world = World::new();
    world.node("n", machine(4, 4));
    let job = world.submit("default", "ada", 0, wide(1));
    world.settle();
    assert!(explain(&world.state, &Question::Waiting(key(job, 0)), TimeMs(world.now)).is_none());
    assert!(explain(&world.state, &Question::Waiting(key(JobId(99), 0)), TimeMs(world.now)).is_none());
}

#[test]
fn only_what_is_in_the_way_is_told_to_have_no_timeout() {
    let mut world = World::new();
    let labelled = |rack: &str| {
        let labels = [("rack".parse().unwrap(), rack.to_owned())].into();
        Inventory { labels, ..machine(2, 2) }
    };
    world.node("here", labelled("r1"));
    world.node("there", labelled("r2"));
    for rack in ["r1", "r2"] {
        world.submit("default", "ada", 0, StepSpec { constraints: vec![label("rack", rack)], ..wide(2) });
    }
    world.settle();
    let constraints = vec![label("rack", "r2")];
    let job = world.submit("default", "ada", 0, StepSpec { constraints, ..wide(2) });
    let told = told_endless(&world.first(job));
    assert_eq!(told.iter().map(|it| it.task.job).collect::<Vec<_>>(), [JobId(2)]);
    world.put(Queue { reserve: limit(3), lend: limit(0), ..queue("lab") });
    assert_eq!(world.first(job).start, Start::NotEvenThen, "what is kept for others is not free then either");
}

#[test]
fn what_is_only_supposed_to_have_run_teaches_nothing_of_how_long_a_step_takes() {
    let mut world = World::new();
    world.node("n", machine(1, 1));
    world.submit("default", "ada", 2, StepSpec { timeout_ms: Some(600_000), ..step(6) });
    world.settle();
    let endless = world.submit("default", "ada", 1, step(1));
    let job = world.submit("default", "ada", 0, step(1));
    let told = told_endless(&world.first(job));
    assert_eq!(told.iter().map(|it| it.task.job).collect::<Vec<_>>(), [endless]);
}

#[test]
fn what_is_beside_is_told_with_numbers_and_given_up() {
    let mut world = World::new();
    let mut racked = machine(8, 8);
    racked.labels.insert("rack".parse().unwrap(), "r1".to_owned());
    let node = world.node("n", racked);
    let loud = JobSpec { tags: ["loud".to_owned()].into(), ..job("default", vec![wide(1)]) };
    let loud = world.submit_job("ada", loud);
    world.settle();
    let shy = Placing { apart: ["loud".to_owned(), "other".to_owned()].into(), ..Placing::default() };
    let shy = world.submit("default", "bob", 0, StepSpec { placing: shy, ..wide(1) });
    let told = world.first(shy);
    assert_eq!((kinds(&told), told.reasons.nodes.fitting), (vec![("apart", 1)], 0));
    assert_eq!(told.reasons.nodes.rejections[0].lack, Lack::Apart { tag: "loud".to_owned(), job: loud, there: true });
    let beside = fix(&world, key(shy, 0), |change| matches!(change, Change::NotApart(_)));
    assert_eq!(
        (beside.changes, beside.nodes),
        (vec![Change::NotApart(vec!["loud".into(), "other".into()])], vec![node])
    );
    assert_eq!(told.fixes.len(), 1, "nothing else helps: {:?}", told.fixes);
    world.perform(Command::CancelJob { job: shy });
    let spread = Spread { over: "rack".parse().unwrap(), at_most: Some(2) };
    let placing = Placing { spread: Some(spread.clone()), ..Placing::default() };
    let spreading = world.submit("default", "ada", 0, StepSpec { placing, ..step(3) });
    world.settle();
    let told = world.explain(key(spreading, 2));
    let full = Lack::Full { over: "rack".parse().unwrap(), held: 2, most: 2 };
    assert_eq!((kinds(&told), &told.reasons.nodes.rejections[0].lack), (vec![("spread", 1)], &full));
    let fixes: Vec<_> = told.fixes.into_iter().map(|fix| fix.changes).collect();
    assert_eq!(fixes, [[Change::NotSpread(spread)]], "what runs of it counts, whatever else is changed");
    let placing = Placing { unique_host: true, ..Placing::default() };
    let lonely = world.submit("default", "ada", 0, StepSpec { placing, ..step(2) });
    world.settle();
    let told = world.explain(key(lonely, 1));
    assert_eq!(kinds(&told), [("spread", 1)]);
    assert_eq!(told.fixes.into_iter().map(|fix| fix.changes).collect::<Vec<_>>(), [[Change::NotUnique]]);
}

#[test]
fn how_near_devices_have_to_be_is_told_with_numbers_and_given_up() {
    let mut world = World::new();
    let two = world.node("two", Inventory { gpus: gpus("h100", 2), ..machine(8, 8) });
    let four = world.node("four", Inventory { gpus: gpus("h100", 4), ..machine(8, 8) });
    let with = |request: GpuRequest| {
        let mut spec = wide(1);
        spec.resources.gpus = vec![request];
        spec
    };
    let near = |count, link| with(GpuRequest { link: Some(link), ..asking(None, count) });
    // Of the pairs of the second node, one device each is taken.
    for taken in [0, 2] {
        let holder = world.submit("default", "ada", 0, with(asking(None, 1)));
        place(&mut world, key(holder, 0), four, taken);
    }
    let holder = world.submit("default", "ada", 0, with(asking(None, 1)));
    place(&mut world, key(holder, 0), two, 0);
    let waits = world.submit("default", "bob", 0, near(2, GpuLink::Pcie));
    let told = world.first(waits);
    assert_eq!(kinds(&told), [("gpus_taken", 1), ("link_taken", 1)]);
    let of = |told: &Explanation, kind: &str| {
        told.reasons.nodes.rejections.iter().find(|it| it.kind == kind).map(|it| (it.example, it.lack.clone())).unwrap()
    };
    let apart = Nearness { link: GpuLink::Pcie, wanted: 2, most: 1 };
    assert_eq!(of(&told, "link_taken"), (four, Lack::FreeNear(apart)));
    let anywhere = fix(&world, key(waits, 0), |change| matches!(change, Change::Unlinked { .. }));
    let change = Change::Unlinked { alternative: 0, from: GpuLink::Pcie };
    assert_eq!((anywhere.changes, anywhere.nodes), (vec![change], vec![four]));
    world.perform(Command::CancelJob { job: waits });
    // No node has three below one switch, and none tells of NVLink, also by its older name.
    let three = world.submit("default", "bob", 0, near(3, GpuLink::Pcie));
    let told = world.first(three);
    assert_eq!(kinds(&told), [("no_such_gpus", 1), ("no_such_link", 1)]);
    let apart = Nearness { link: GpuLink::Pcie, wanted: 3, most: 2 };
    assert_eq!(of(&told, "no_such_link"), (four, Lack::Near(apart)));
    assert_eq!(told.start, Start::NotEvenThen);
    world.perform(Command::CancelJob { job: three });
    let old = world.submit("default", "bob", 0, with(GpuRequest { same_link_group: true, ..asking(None, 2) }));
    let told = world.first(old);
    assert_eq!(kinds(&told), [("no_such_link", 2)]);
    let apart = Nearness { link: GpuLink::Nvlink, wanted: 2, most: 0 };
    assert_eq!(of(&told, "no_such_link"), (two, Lack::Near(apart)));
    fix(&world, key(old, 0), |change| *change == Change::Unlinked { alternative: 0, from: GpuLink::Nvlink });
}
