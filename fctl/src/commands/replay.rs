//! `fctl replay`: a cluster's log applied again, up to any entry.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use flowyard_cas::BlobHasher;
use flowyard_coordinator::backup::{BackupWriter, Summary};
use flowyard_history::{Derived, History, Overview, Replayed, derive, replay};
use flowyard_model::{ClusterVersion, Record, Revision};
use flowyard_proto::{peer::BackupHead, write_records};
use serde_json::{Value, json};

use super::Outcome;
use super::recorded;
use crate::cli::history::Replay;
use crate::failure::{Failure, codes};
use crate::{output, text};

pub(super) fn run(asked: &Replay) -> Outcome {
    let read = recorded::read(&asked.from)?;
    let until = asked.until.map(Revision);
    let wrong = |error: flowyard_history::ReplayError| Failure::Usage(format!("{}: {error}", asked.from.display()));
    let replayed = replay(&read.history, until, |_, _| {}).map_err(wrong)?;
    let derived = if asked.plans { Some(derive(&read.history, until).map_err(wrong)?) } else { None };
    let digest = digest(replayed.state.version(), replayed.state.records())?;
    let overview = Overview::of(&replayed.state);
    if let Some(file) = &asked.dump {
        dump(file, &read.summary, &replayed)?;
    }
    if output::is_json() {
        output::json(&as_json(&read.history, &replayed, &overview, &digest, derived.as_ref()));
    } else {
        print(&read.history, &replayed, &overview, &digest);
        derived.iter().for_each(print_plans);
    }
    let wrong = !replayed.different.is_empty() || derived.is_some_and(|derived| !derived.different.is_empty());
    Ok(if wrong { ExitCode::from(codes::JOB_FAILED) } else { ExitCode::SUCCESS })
}

/// What names a state: the digest of its records, as a snapshot has them.
fn digest(version: ClusterVersion, records: impl Iterator<Item = Record>) -> Result<String, Failure> {
    let mut hashing = Hashing(BlobHasher::new());
    write_records(version, records, &mut hashing).map_err(|error| Failure::Internal(error.to_string()))?;
    Ok(hashing.0.digest().to_string())
}

struct Hashing(BlobHasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes the state as a backup that has nothing else.
fn dump(path: &Path, of: &Summary, replayed: &Replayed) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file: File = file.map_err(Failure::local(&shown))?;
    let state = replayed.state.view();
    let head = BackupHead {
        revision: state.revision().0,
        cluster_version: state.version().0,
        epoch: state.epoch().0,
        blobs: false,
        keys: false,
        log: false,
        ..of.head.clone()
    };
    let written = BackupWriter::begin(BufWriter::new(file), head).and_then(|mut backup| {
        backup.state(&state)?;
        backup.finish(0)
    });
    let written = written.map_err(|error| super::backup::unusable(&shown, &error))?;
    let file = written.into_inner().map_err(|error| Failure::local(&shown)(error.into_error()))?;
    file.sync_all().map_err(Failure::local(&shown))
}

fn print(history: &History, replayed: &Replayed, overview: &Overview, digest: &str) {
    let base = history.base.revision();
    let began = if base == Revision(0) { "the beginning".to_owned() } else { format!("revision {base}") };
    output::line(format!(
        "{} from {began} to revision {}, at {}, cluster version {}",
        text::count_of(replayed.applied, "entry", "entries"),
        overview.revision,
        text::moment(overview.time.0),
        overview.version,
    ));
    output::line(format!("state     {digest}"));
    let revisions = |all: &[Revision]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !replayed.same.is_empty() {
        output::line(format!("snapshots the same at revision {}", revisions(&replayed.same)));
    }
    if !replayed.different.is_empty() {
        output::warning(format!("the snapshot at revision {} is another one", revisions(&replayed.different)));
    }
    let [succeeded, failed, cancelled] = overview.ended;
    output::line(format!(
        "jobs      {} active, {succeeded} succeeded, {failed} failed, {cancelled} cancelled",
        overview.active
    ));
    let tasks = overview.tasks.iter().filter(|(_, count)| *count > 0);
    let tasks: Vec<String> = tasks.map(|(word, count)| format!("{count} {word}")).collect();
    output::line(format!("tasks     {}", if tasks.is_empty() { "none".to_owned() } else { tasks.join(", ") }));
    let [up, suspect, down] = overview.nodes;
    output::line(format!("nodes     {up} up, {suspect} suspect, {down} down; {} closed", overview.closed));
    for queue in &overview.queues {
        output::line(format!("queue     {}: {} jobs, {} tasks active", queue.path, queue.jobs, queue.active));
    }
}

fn print_plans(derived: &Derived) {
    let Derived { plans, equal, different, other_version, unnoted, without_predecessor, before_base, cut_off } =
        derived;
    output::line(format!("plans     {plans}: {equal} equal, {} different", different.len()));
    for (count, why) in [
        (other_version, "made by another version of the solver"),
        (unnoted, "do not say what they were made from"),
        (without_predecessor, "were made after a plan that never came into the log"),
        (before_base, "were made from a state before the first one that is known"),
        (cut_off, "were cut off by the work that a round may do"),
    ] {
        if *count > 0 {
            output::line(format!("          {count} not compared: {why}"));
        }
    }
    for other in different.iter().take(20) {
        output::warning(format!(
            "the plan of entry {} placed {} tasks, and would place {} now, or others",
            other.index, other.placements, other.placements_now
        ));
    }
}

fn as_json(
    history: &History,
    replayed: &Replayed,
    overview: &Overview,
    digest: &str,
    derived: Option<&Derived>,
) -> Value {
    let numbers = |all: &[Revision]| all.iter().map(|at| at.0).collect::<Vec<_>>();
    let [succeeded, failed, cancelled] = overview.ended;
    let [up, suspect, down] = overview.nodes;
    let queues = overview.queues.iter();
    let queues = queues.map(|it| json!({ "queue": it.path.as_str(), "jobs": it.jobs, "active": it.active }));
    json!({
        "base_revision": history.base.revision().0,
        "last_index": history.last.0,
        "applied": replayed.applied,
        "revision": overview.revision.0,
        "time_ms": overview.time.0,
        "version": overview.version.0,
        "epoch": overview.epoch.0,
        "digest": digest,
        "snapshots_same": numbers(&replayed.same),
        "snapshots_different": numbers(&replayed.different),
        "jobs": { "active": overview.active, "succeeded": succeeded, "failed": failed, "cancelled": cancelled },
        "tasks": overview.tasks.iter().map(|(word, count)| ((*word).to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
        "nodes": { "up": up, "suspect": suspect, "down": down, "closed": overview.closed },
        "queues": queues.collect::<Vec<_>>(),
        "plans": derived.map(plans_json),
    })
}

fn plans_json(derived: &Derived) -> Value {
    let different = derived.different.iter();
    let different =
        different.map(|it| json!({ "index": it.index.0, "placed": it.placements, "now": it.placements_now }));
    json!({
        "plans": derived.plans,
        "equal": derived.equal,
        "different": different.collect::<Vec<_>>(),
        "other_version": derived.other_version,
        "unnoted": derived.unnoted,
        "without_predecessor": derived.without_predecessor,
        "before_base": derived.before_base,
        "cut_off": derived.cut_off,
    })
}
