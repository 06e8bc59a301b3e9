//! What this version of the solver makes of some problems is written down: whoever changes what plans come out like has to say so.
//!
//! `UPDATE=1 cargo test -p flowyard-scheduling --test why plans` writes it down anew.

use std::fmt::Write;
use std::path::PathBuf;

use flowyard_model::*;
use flowyard_placement::PLACER_VERSION;
use flowyard_scheduling::Scheduler;

use crate::world::{BOUND, World, asking, gpus, machine, queue, step};

const PROBLEMS: u64 = 16;
const BATCHES: usize = 4;

/// The same throws on any machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// A few machines of two models in two racks, and queues of which one is promised something.
fn fleet(dice: &mut Dice) -> World {
    let mut world = World::new();
    let policy = Policy { topology: vec!["rack".parse().unwrap()], ..Policy::default() };
    world.perform(Command::PutPolicy(policy.into()));
    for at in 0..3 + dice.below(4) {
        let mut inventory = machine(4 + dice.below(12), 8 + dice.below(24));
        inventory.gpus = gpus(["h100", "l4"][dice.below(2) as usize], dice.below(5) as u32);
        inventory.labels.insert("rack".parse().unwrap(), format!("r{}", dice.below(2)));
        world.node(&format!("n{at}"), inventory);
    }
    let promised = QueueAmounts {
        cpu_milli: Some(6_000),
        gpu_milli: [(GpuClass::Any, 2_000)].into(),
        memory_bytes: Some(4 << 30),
        ..QueueAmounts::default()
    };
    world.put(Queue { reserve: promised, ..queue("lab") });
    world.put(Queue { limit: QueueAmounts { cpu_milli: Some(12_000), ..QueueAmounts::default() }, ..queue("ops") });
    world
}

/// The devices that a step asks for, by one of several ways to say it.
fn devices(dice: &mut Dice) -> Vec<GpuRequest> {
    let count = 1 + dice.below(3) as u32;
    match dice.below(7) {
        0 => vec![asking(None, count)],
        1 => vec![asking(Some("h100"), count), asking(Some("l4"), count + 1)],
        2 => vec![GpuRequest { share_milli: 400, ..asking(None, 1) }],
        3 => vec![GpuRequest { link: Some(GpuLink::Pcie), ..asking(None, 2) }],
        _ => vec![],
    }
}

fn submit(world: &mut World, dice: &mut Dice) {
    let mut wanted = step(1 + dice.below(4) as u32);
    wanted.resources.cpu_milli = 500 * (1 + dice.below(8));
    wanted.resources.memory_bytes = (1 + dice.below(4)) << 30;
    wanted.resources.gpus = devices(dice);
    wanted.timeout_ms = (dice.below(3) > 0).then(|| 600_000 * (1 + dice.below(6)));
    match dice.below(6) {
        0 => {
            wanted.size = 2 + dice.below(2) as u32;
            wanted.placing.near = Some(Near { level: "rack".parse().unwrap(), need: dice.below(2) == 0 });
        }
        1 => wanted.placing.spread = Some(Spread { over: "rack".parse().unwrap(), at_most: None }),
        2 => wanted.placing.pack = true,
        3 => wanted.placing.unique_host = true,
        _ => {}
    }
    let queue = ["default", "lab", "ops"][dice.below(3) as usize];
    let owner = ["ada", "bob"][dice.below(2) as usize];
    let priority = i32::try_from(dice.below(3)).unwrap();
    world.submit(queue, owner, priority, wanted);
}

fn seats(text: &mut String, seats: &[Seat]) {
    for seat in seats {
        let gpus: Vec<_> = seat.gpus.iter().map(|gpu| gpu.0.to_string()).collect();
        let _ = write!(text, " n{}[{}]{}", seat.node, gpus.join("+"), seat.gpu_alternative);
    }
}

fn task(key: TaskKey) -> String {
    format!("{}/{}/{}", key.job, key.step.0, key.task.0)
}

/// What a plan decides, line by line; what else it says is not the solver's.
fn decided(plan: &Plan) -> String {
    let mut text = String::new();
    for it in &plan.repairs {
        let _ = write!(text, "repair {}", task(it.task));
        it.seats.iter().for_each(|(_, seat)| seats(&mut text, std::slice::from_ref(seat)));
        text.push('\n');
    }
    for it in &plan.placements {
        let _ = write!(text, "place {}", task(it.task));
        seats(&mut text, &it.members);
        text.push('\n');
    }
    for it in &plan.claims {
        let _ = write!(text, "claim {}", task(it.task));
        seats(&mut text, &it.members);
        text.extend(it.evictions.iter().map(|victim| format!(" evict {}", task(victim.task))));
        text.extend(it.awaits.iter().map(|awaited| format!(" await {}", task(awaited.task))));
        text.push('\n');
    }
    text.extend(plan.drops.iter().map(|dropped| format!("drop {}\n", task(*dropped))));
    text
}

/// All that is decided of one problem: work arrives in batches, some ends, and time passes.
fn solved(seed: u64) -> String {
    let mut dice = Dice(seed);
    let mut world = fleet(&mut dice);
    let mut text = String::new();
    for _ in 0..BATCHES {
        (0..4 + dice.below(5)).for_each(|_| submit(&mut world, &mut dice));
        for _ in 0..20 {
            let now = TimeMs(world.now).max(world.state.time());
            let plans = Scheduler::new(0).round(&world.state, now, BOUND).plans;
            if plans.is_empty() {
                break;
            }
            plans.iter().for_each(|plan| text.push_str(&decided(plan)));
            plans.into_iter().for_each(|plan| drop(world.perform(Command::CommitPlan(plan))));
        }
        for (node, member) in world.live() {
            let attempt = world.state.attempt(member.task, member.attempt);
            let leaves = attempt.is_some_and(|attempt| attempt.desired != AttemptDesired::Run);
            if leaves || dice.below(3) == 0 {
                world.end(node, member);
            }
        }
        world.now += 900_000;
    }
    text
}

/// Fowler, Noll and Vo's hash (1a, 64 bits).
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[test]
#[allow(clippy::disallowed_methods, reason = "what is known is in a file beside the test")]
fn plans_are_those_that_this_version_of_the_solver_is_known_to_make() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/plans.txt");
    let mut found = format!("PLACER_VERSION {PLACER_VERSION}\n");
    let solved: Vec<String> = (1..=PROBLEMS).map(solved).collect();
    for (seed, text) in (1..).zip(&solved) {
        let count = |word: &str| text.matches(word).count();
        let (placed, claimed, evicted) = (count("place "), count("claim "), count(" evict "));
        let told =
            format!("problem {seed}: {placed} placed, {claimed} claimed, {evicted} evicted, {:016x}", digest(text));
        found.push_str(&told);
        found.push('\n');
    }
    let all = solved.concat();
    for word in ["place ", "claim ", " evict ", " await ", "]1"] {
        assert!(all.contains(word), "no plan has `{word}`: the problems say too little");
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let Some(other) = (0..).zip(expected.lines().zip(found.lines())).find(|(_, (was, now))| was != now) else {
        assert_eq!(expected.lines().count(), found.lines().count(), "UPDATE=1 was not run for all problems");
        return;
    };
    let (at, (was, now)) = other;
    let plans = solved.get(usize::wrapping_sub(at, 1)).map_or("", String::as_str);
    panic!(
        "the solver decides otherwise than is written down in {}\nwas: {was}\nnow: {now}\nIf plans are to come out otherwise, raise \
         PLACER_VERSION (crates/placement/src/lib.rs) and run this with UPDATE=1; without raising it, `fctl replay --plans` calls the \
         plans of running clusters different. If nothing was released with this version, UPDATE=1 alone will do.\n{plans}",
        path.display()
    );
}
