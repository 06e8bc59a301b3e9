//! `cargo bench -p flowyard-history --bench fairness [-- --quick] [--svg DIR]`: policies compared on traces by the dice.
//!
//! Nothing is measured but the policies: the same seed gives the same figures on any machine.
#![allow(clippy::print_stdout, reason = "it is a program that prints figures")]
#![allow(clippy::disallowed_methods, reason = "it measures, which the crate itself must not")]
#![allow(missing_docs, reason = "it is no library")]

#[path = "common/machines.rs"]
mod machines;
#[path = "fairness/svg.rs"]
mod svg;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use flowyard_history::{Change, Measures, Policy, Profile, Synthetic, of_arrivals, quantiles, run, synthesize};
use flowyard_model::{GpuClass, Queue, QueueAmounts};
use machines::{GPUS, fleet};

/// A trace, and the machines on which it is nearly too much.
struct Setting {
    name: &'static str,
    profile: Profile,
    jobs: u64,
    days: u64,
    machines: u32,
}

const SETTINGS: [Setting; 2] = [
    Setting { name: "helios", profile: Profile::Helios, jobs: 10_000, days: 7, machines: 56 },
    Setting { name: "philly", profile: Profile::Philly, jobs: 10_000, days: 14, machines: 56 },
];
const QUEUES: u64 = 4;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let quick = words.iter().any(|word| word == "--quick");
    let folder = words.iter().position(|word| word == "--svg").and_then(|at| words.get(at + 1)).map(PathBuf::from);
    for setting in &SETTINGS {
        let part = if quick { 20 } else { 1 };
        let measures = compare(setting, part);
        if let Some(folder) = &folder {
            let path = folder.join(format!("fairness-{}.svg", setting.name));
            std::fs::create_dir_all(folder).expect("the folder can be made");
            std::fs::write(&path, picture(setting, &measures)).expect("the picture can be written");
            println!("{}", path.display());
        }
    }
}

fn compare(setting: &Setting, part: u64) -> Vec<(Policy, Measures)> {
    let (jobs, machines) = (setting.jobs / part, (u64::from(setting.machines) / part).max(2) as u32);
    let wanted = Synthetic {
        profile: setting.profile,
        jobs,
        days: setting.days,
        people: 60,
        queues: QUEUES,
        most_gpus: 64.min(machines * GPUS / 2),
        seed: 1,
    };
    let arrivals = synthesize(&wanted);
    println!("== {}: {jobs} jobs over {} days, {machines} machines of {GPUS} GPUs", setting.name, setting.days);
    for figure in quantiles(setting.profile, &arrivals) {
        let published = figure.published.map_or_else(String::new, |it| format!("  (published: {it})"));
        println!("   {:<36}{:>10}{published}", figure.of, figure.here);
    }
    // One queue of four is promised a quarter.
    let promise = u64::from(machines * GPUS) * 1_000 / QUEUES;
    let reserve = QueueAmounts { gpu_milli: BTreeMap::from([(GpuClass::Any, promise)]), ..QueueAmounts::default() };
    let first = Queue { reserve, ..Queue::new("lab-01".parse().expect("it is a path")) };
    let workload = of_arrivals(&arrivals, &[fleet(machines)], &[Arc::new(first)]).expect("it is a workload");
    println!(
        "   {:<8}{:>12}{:>12}{:>12}{:>10}{:>8}{:>12}",
        "policy", "mean wait", "p50", "p99", "GPUs", "Jain", "makespan"
    );
    let one = |policy| {
        let began = std::time::Instant::now();
        let measures = run(&workload, &Change { policy, seed: 1, ..Change::default() }).measures;
        println!("{}   ({} ms)", row(policy, &measures), began.elapsed().as_millis());
        (policy, measures)
    };
    [Policy::Ours, Policy::Drf, Policy::Fifo, Policy::Easy].into_iter().map(one).collect()
}

fn row(policy: Policy, it: &Measures) -> String {
    let minutes = |ms: u64| format!("{} min", ms / 60_000);
    let gpus = it.utilisation.gpu.unwrap_or(0);
    format!(
        "   {:<8}{:>12}{:>12}{:>12}{:>8} %{:>8}{:>12}",
        policy.as_str(),
        minutes(it.waits.mean_ms),
        minutes(it.waits.p50_ms),
        minutes(it.waits.p99_ms),
        gpus / 10_000,
        format!("0.{:03}", (it.jain / 1_000).min(999)),
        format!("{} h", it.makespan_ms / 3_600_000),
    )
}

fn picture(setting: &Setting, measures: &[(Policy, Measures)]) -> String {
    type Figure = fn(&Measures) -> u64;
    let panels: [(&str, u64, Figure); 4] = [
        ("mean wait, minutes", 1, |it| it.waits.mean_ms / 60_000),
        ("p99 wait, hours", 1, |it| it.waits.p99_ms / 3_600_000),
        ("GPUs held, %", 1, |it| it.utilisation.gpu.unwrap_or(0) / 10_000),
        ("Jain's index over people, x1000", 1, |it| it.jain / 1_000),
    ];
    let panels = panels.map(|(title, _, figure)| svg::Panel {
        title: title.to_owned(),
        bars: measures.iter().map(|(policy, it)| (policy.to_string(), figure(it))).collect(),
    });
    let title = format!(
        "{}: {} jobs over {} days on {} machines of {GPUS} GPUs",
        setting.name, setting.jobs, setting.days, setting.machines
    );
    svg::picture(&title, &panels)
}
