//! `cargo bench -p flowyard-history --bench pictures -- --svg DIR`: pictures of what the scheduler does, for its documentation: the real scheduler
//! and the real apply in virtual time, so the same on any machine.
#![allow(clippy::print_stdout, reason = "it is a program that says what it wrote")]
#![allow(clippy::disallowed_methods, reason = "it writes pictures, which the crate itself must not")]
#![allow(missing_docs, reason = "it is no library")]

#[path = "pictures/areas.rs"]
mod areas;
#[path = "common/machines.rs"]
mod machines;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use areas::{Areas, Series};
use flowyard_history::{Arrival, Change, of_arrivals, run_seen};
use flowyard_model::{GpuClass, Queue, QueueAmounts, TimeMs};
use flowyard_state::State;
use machines::{GPUS, fleet};

const MACHINES: u32 = 8;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// What is shown: who arrives, what is promised, and how the GPUs that are held are told apart.
struct Scene {
    file: &'static str,
    title: &'static str,
    arrivals: Vec<Arrival>,
    queues: Vec<Queue>,
    hours: u64,
    kinds: &'static [(&'static str, Kind)],
}

/// Whose an attempt is, as far as a picture tells.
type Kind = fn(queue: &str, members: usize) -> bool;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let folder = words.iter().position(|word| word == "--svg").and_then(|at| words.get(at + 1)).map(PathBuf::from);
    for scene in [promise(), wide()] {
        let picture = areas::picture(&seen(&scene));
        match &folder {
            Some(folder) => {
                let path = folder.join(scene.file);
                std::fs::write(&path, picture).expect("the picture can be written");
                println!("{}", path.display());
            }
            None => println!("{}: {} bytes", scene.file, picture.len()),
        }
    }
}

/// What is promised to one queue is lent to another, and comes back.
fn promise() -> Scene {
    let reserve = QueueAmounts {
        gpu_milli: BTreeMap::from([(GpuClass::Any, u64::from(MACHINES * GPUS) * 500)]),
        ..QueueAmounts::default()
    };
    let research = Queue { reserve, ..Queue::new("research".parse().expect("it is a path")) };
    Scene {
        file: "promise.svg",
        title: "GPUs held: research is promised 32 of 64, and comes after two hours",
        arrivals: vec![job(0, 180, 1, "ops", 160), job(120, 60, 1, "research", 48)],
        queues: vec![research],
        hours: 8,
        kinds: &[("ops, promised nothing", |queue, _| queue == "ops"), ("research", |queue, _| queue == "research")],
    }
}

/// Room is kept for a gang while small work comes without end.
fn wide() -> Scene {
    let small = (0..240).map(|at| job(2 * at, 40, 1, "default", 4));
    let gang = job(120, 60, 32, "default", 1);
    Scene {
        file: "wide.svg",
        title: "GPUs held: small tasks without end, and a gang of 32 GPUs that comes after two hours",
        arrivals: small.chain([Arrival { user: "wendy".to_owned(), ..gang }]).collect(),
        queues: vec![],
        hours: 6,
        kinds: &[("tasks of one GPU", |_, members| members == 1), ("the gang", |_, members| members > 1)],
    }
}

fn job(at_minutes: u64, minutes: u64, gpus: u32, queue: &str, count: u32) -> Arrival {
    Arrival {
        at_ms: at_minutes * MINUTE_MS,
        duration_ms: minutes * MINUTE_MS,
        cpu_milli: 1_000 * u64::from(gpus),
        memory_bytes: u64::from(gpus) << 30,
        gpus,
        share_milli: 1_000,
        model: None,
        queue: Some(queue.parse().expect("it is a path")),
        user: "ann".to_owned(),
        count,
    }
}

fn seen(scene: &Scene) -> Areas {
    let queues: Vec<_> = scene.queues.iter().cloned().map(Arc::new).collect();
    let workload = of_arrivals(&scene.arrivals, &[fleet(MACHINES)], &queues).expect("it is a workload");
    let (mut begun, mut points) = (None, Vec::new());
    run_seen(&workload, &Change { seed: 1, ..Change::default() }, &mut |at, state| {
        let begun: TimeMs = *begun.get_or_insert(at);
        let since = at.0 - begun.0;
        // What is held from now on is what was until the next time that something happens.
        if since <= scene.hours * HOUR_MS {
            points.push((since, held(scene, state)));
        }
    });
    Areas {
        title: scene.title.to_owned(),
        hours: scene.hours,
        most: u64::from(MACHINES * GPUS),
        series: (0..scene.kinds.len())
            .map(|kind| Series {
                name: scene.kinds[kind].0.to_owned(),
                points: points.iter().map(|(at, held)| (*at, held[kind])).collect(),
            })
            .collect(),
    }
}

/// GPUs held by each kind.
fn held(scene: &Scene, state: &State) -> Vec<u64> {
    let mut held = vec![0; scene.kinds.len()];
    for (node, _) in state.nodes() {
        for (key, attempt, member) in state.live_members(node) {
            let job = state.outline(key.task.job).expect("what lives has a job");
            let is = |(_, kind): &(&str, Kind)| kind(job.spec.queue.as_str(), attempt.members.len());
            if let Some(at) = scene.kinds.iter().position(is) {
                held[at] += member.gpus.len() as u64;
            }
        }
    }
    held
}
