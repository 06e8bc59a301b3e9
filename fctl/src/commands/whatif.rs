//! `fctl whatif`: the past, or a trace, with something changed, beside what it was.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use flowyard_history::{
    Arrival, Change, Fragmented, Measures, Run, Spread, Stuck, Workload, of_arrivals, recorded, replay, run as simulate,
};
use flowyard_model::Queue;
use flowyard_sdk::queue_file;
use serde_json::{Value, json};

use super::bench::{trace, workload};
use super::{Outcome, machines};
use crate::cli::history::Whatif;
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::{output, text};

/// Who submits what of a trace says nothing of it.
const NOBODY: &str = "trace";

pub(super) fn run(asked: &Whatif) -> Outcome {
    let (workload, was) = read(asked)?;
    let queues: Vec<Arc<Queue>> = match &asked.queues {
        Some(file) => queue_file::load(file)?.into_iter().map(Arc::new).collect(),
        None => Vec::new(),
    };
    let add = asked.add_nodes.as_ref().map_or(Ok(Vec::new()), |file| machines::read(file))?;
    let add = add.iter().flat_map(|them| them.names.iter().map(move |name| (name.clone(), them.inventory.clone())));
    let known = workload.machines();
    if let Some(unknown) = asked.drain.iter().find(|name| !known.contains(name)) {
        let known: Vec<_> = known.iter().map(ToString::to_string).collect();
        return Err(Failure::Usage(format!(
            "--drain {unknown}: there is no such machine; there are: {}",
            known.join(", ")
        )));
    }
    let plain = Change { seed: asked.seed, ..Change::default() };
    let change = Change {
        add: add.collect(),
        drain: asked.drain.iter().cloned().collect(),
        queues,
        policy: asked.policy,
        seed: asked.seed,
    };
    let is_same = change.add.is_empty() && change.drain.is_empty() && change.queues.is_empty();
    let again = simulate(&workload, &plain);
    let changed = (!is_same || change.policy != plain.policy).then(|| simulate(&workload, &change));
    if output::is_json() {
        output::json(&json!({
            "policy": asked.policy.as_str(),
            "jobs": workload.jobs(),
            "recorded": was.as_ref().map(measures_json),
            "same_again": run_json(&again),
            "changed": changed.as_ref().map(run_json),
        }));
    } else {
        print(was.as_ref(), &again, changed.as_ref());
    }
    Ok(ExitCode::SUCCESS)
}

/// The workload, and what was measured of it if it was recorded.
fn read(asked: &Whatif) -> Result<(Workload, Option<Measures>), Failure> {
    let from = &asked.from;
    if super::recorded::is_recorded(from)? {
        if asked.fleet.is_some() {
            return Err(Failure::Usage("--fleet: a record has its machines; add some with --add-nodes".to_owned()));
        }
        let read = super::recorded::read(from)?;
        // What cannot be applied is refused before it is tried.
        replay(&read.history, None, |_, _| {})
            .map_err(|error| Failure::Usage(format!("{}: {error}", from.display())))?;
        let recorded = recorded(&read.history);
        return Ok((recorded.workload, Some(recorded.measures)));
    }
    let Some(fleet) = &asked.fleet else {
        return Err(Failure::Usage(format!(
            "{}: this is no backup, so it may be a trace; say with --fleet FILE which machines there are",
            from.display()
        )));
    };
    let arrivals: Vec<Arrival> = traced(from)?;
    let workload = of_arrivals(&arrivals, &machines::read(fleet)?, &[]);
    let workload = workload.map_err(|error| Failure::Usage(format!("{}: {error}", from.display())))?;
    Ok((workload, None))
}

fn traced(path: &Path) -> Result<Vec<Arrival>, Failure> {
    let arrival = |it: workload::Arrival| Arrival {
        at_ms: it.at_ms,
        duration_ms: it.duration_ms,
        cpu_milli: it.cpu_milli,
        memory_bytes: it.memory_bytes,
        gpus: it.gpus,
        share_milli: 1_000,
        model: it.model,
        queue: it.queue,
        user: it.user.map_or_else(|| NOBODY.to_owned(), |user| user.to_string()),
        count: it.count,
    };
    Ok(trace::read(path)?.into_iter().map(arrival).collect())
}

type Line = (&'static str, fn(&Measures) -> String);

/// What is printed of a run, line by line.
const LINES: [Line; 16] = [
    ("jobs submitted", |it| it.jobs.to_string()),
    ("jobs finished", |it| it.finished.to_string()),
    ("of which succeeded", |it| it.succeeded.to_string()),
    ("wait, mean", |it| text::duration(it.waits.mean_ms)),
    ("wait, half of them within", |it| text::duration(it.waits.p50_ms)),
    ("wait, 99 % within", |it| text::duration(it.waits.p99_ms)),
    ("wait of tasks with several GPUs, mean", |it| text::duration(it.waits_of_several.mean_ms)),
    ("job from submission to end, mean", |it| text::duration(it.turnaround.mean_ms)),
    ("makespan", |it| text::duration(it.makespan_ms)),
    ("CPU held", |it| percent(it.utilisation.cpu)),
    ("memory held", |it| percent(it.utilisation.memory)),
    ("GPUs held", |it| it.utilisation.gpu.map_or_else(|| "-".to_owned(), percent)),
    ("of the free GPUs, of no use where they are", |it| {
        it.fragmented.and_then(useless_ppm).map_or_else(|| "-".to_owned(), percent)
    }),
    ("Jain's index over people", |it| format!("{}.{:03}", it.jain / 1_000_000, it.jain / 1_000 % 1_000)),
    ("attempts stopped to make room", |it| it.preemptions.to_string()),
    ("tasks that wait at the end", |it| it.waiting.to_string()),
];

/// What was of no use of what was free of GPUs, in parts of a million; nothing if none was free.
fn useless_ppm(it: Fragmented) -> Option<u64> {
    (u128::from(it.useless_milli) * 1_000_000).checked_div(u128::from(it.free_milli)).map(|ppm| ppm as u64)
}

fn percent(ppm: u64) -> String {
    format!("{}.{} %", ppm / 10_000, ppm / 1_000 % 10)
}

fn print(was: Option<&Measures>, again: &Run, changed: Option<&Run>) {
    let mut table = Table::new(["", "RECORDED", "SAME AGAIN", "CHANGED"]);
    for (word, figure) in LINES {
        let cell_of = |it: Option<&Measures>| cell(it.map_or_else(|| "-".to_owned(), figure));
        table.row([
            cell(word),
            cell_of(was),
            cell_of(Some(&again.measures)),
            cell_of(changed.map(|run| &run.measures)),
        ]);
    }
    table.print();
    for (word, run) in [("same again", Some(again)), ("changed", changed)] {
        let Some(run) = run else { continue };
        if run.guessed > 0 {
            output::note(format!(
                "{word}: {} ran as long as others of their task or step, because they were not recorded",
                text::count(run.guessed, "attempt")
            ));
        }
        if run.unknown > 0 {
            output::note(format!(
                "{word}: of {} it is not known how long they ran",
                text::count(run.unknown, "attempt")
            ));
        }
        run.refused.iter().take(20).for_each(|why| output::warning(format!("{word}: refused: {why}")));
        for Stuck { job, step, tasks } in run.stuck.iter().take(20) {
            output::warning(format!(
                "{word}: no machine could run {} of job {job}, step {step}",
                text::count((*tasks).into(), "task")
            ));
        }
    }
}

fn run_json(run: &Run) -> Value {
    let mut told = measures_json(&run.measures);
    let stuck = run.stuck.iter().map(|it| json!({ "job": it.job.0, "step": it.step.as_str(), "tasks": it.tasks }));
    told["guessed"] = run.guessed.into();
    told["unknown"] = run.unknown.into();
    told["refused"] = json!(run.refused);
    told["stuck"] = stuck.collect();
    told
}

fn measures_json(it: &Measures) -> Value {
    json!({
        "jobs": it.jobs, "finished": it.finished, "succeeded": it.succeeded,
        "waits": spread_json(&it.waits), "turnaround": spread_json(&it.turnaround),
        "makespan_ms": it.makespan_ms,
        "cpu_ppm": it.utilisation.cpu, "memory_ppm": it.utilisation.memory, "gpu_ppm": it.utilisation.gpu,
        "waits_of_several_gpus": spread_json(&it.waits_of_several), "gpu_useless_ppm": it.fragmented.and_then(useless_ppm),
        "jain_ppm": it.jain, "people": it.people,
        "preemptions": it.preemptions, "lost_ms": it.lost_ms,
        "waiting": it.waiting, "running": it.running,
    })
}

fn spread_json(spread: &Spread) -> Value {
    json!({
        "count": spread.count, "mean_ms": spread.mean_ms, "p50_ms": spread.p50_ms, "p99_ms": spread.p99_ms,
        "max_ms": spread.max_ms,
    })
}
