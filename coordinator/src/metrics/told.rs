//! The page: what was counted, and what the state and the log say anyway.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;

use flowyard_model::{DeviceState, Health, Scheduling, Standing, StepIndex};
use flowyard_proto::peer::AboutResponse;
use flowyard_scheduling::{Fragments, fragments};
use flowyard_state::View;
use flowyard_telemetry::{Labels, Page, Source, spelled};

use super::calls::CODES;
use super::counts::PROPOSAL_RESULTS;
use crate::coordinator::Shared;
use crate::fleet::members::about;
use crate::raft::{ReplicaStats, Role};

/// Queues that are told of one by one; what further ones carry is told together, as `other`.
const QUEUES: usize = 200;

/// Models of GPUs that are told of one by one; further ones together, as `other`.
const MODELS: usize = 50;

/// The figures of one coordinator.
pub(crate) struct Told {
    pub shared: Shared,
}

impl Source for Told {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        let (shared, view) = (&self.shared, self.shared.feed.view());
        let (stats, about) = (shared.replica.stats(), about(shared));
        role(page, shared)?;
        log(page, shared, &view, &stats)?;
        proposals(page, shared)?;
        placing(page, shared)?;
        work(page, &view)?;
        nodes(page, shared, &view)?;
        room(page, &view)?;
        past(page, &view, &stats)?;
        calls(page, shared)?;
        machine(page, &about)
    }
}

fn label(name: &'static str, value: impl fmt::Display) -> (&'static str, String) {
    (name, value.to_string())
}

fn role(page: &mut Page<'_>, shared: &Shared) -> fmt::Result {
    let (leads, led, term) = match &*shared.replica.role().borrow() {
        Role::Leader { term, ready } => (*ready, *ready, *term),
        Role::Follower { term, .. } => (false, true, *term),
        Role::Seeking | Role::Stopped { .. } => (false, false, 0),
    };
    let flag = |holds: bool| f64::from(u8::from(holds));
    page.gauge("flowyard_coordinator_leader", "1 if this coordinator leads and is ready to.", flag(leads))?;
    let help = "1 if this coordinator leads, or knows who does.";
    page.gauge("flowyard_coordinator_has_leader", help, flag(led))?;
    page.gauge("flowyard_coordinator_term", "The term it knows of; 0 while it seeks a leader.", term as f64)?;
    let help = "Terms in which this coordinator began to lead.";
    page.counter("flowyard_coordinator_leaderships", help, shared.proposer.counts().leaderships.get())?;
    let members = shared.replica.members();
    let votes = members.iter().filter(|member| member.votes).count();
    page.gauge("flowyard_coordinator_voters", "Coordinators that vote.", votes as f64)?;
    let heard = members.iter().filter(|member| member.heard()).count();
    let help = "Coordinators heard from within two seconds, this one too; only the leader knows of others.";
    page.gauge("flowyard_coordinator_members_heard", help, heard as f64)?;
    let lag = |member: &crate::raft::Member| Some((vec![label("member", member.peer.replica)], member.lag? as f64));
    let help = "Entries that a coordinator lacks; only the leader knows.";
    page.gauges("flowyard_coordinator_member_lag_entries", help, members.iter().filter_map(lag))
}

fn log(page: &mut Page<'_>, shared: &Shared, view: &View, stats: &ReplicaStats) -> fmt::Result {
    let (applied, last) = (view.revision().0, stats.last_index.unwrap_or(0));
    page.gauge("flowyard_coordinator_applied_index", "The last entry that was applied here.", applied as f64)?;
    page.gauge("flowyard_coordinator_log_last_index", "The last entry of the log here.", last as f64)?;
    let behind = stats.committed_index.unwrap_or(0).saturating_sub(applied);
    let help = "Entries that are known to be decided and are not applied here.";
    page.gauge("flowyard_coordinator_apply_lag_entries", help, behind as f64)?;
    let log = &stats.log;
    page.gauge("flowyard_coordinator_log_file_bytes", "What the log takes on disk.", log.file_bytes as f64)?;
    page.gauge("flowyard_coordinator_log_live_bytes", "What the log holds.", log.live_bytes as f64)?;
    page.gauge("flowyard_coordinator_log_entries", "Entries that the log holds.", log.live_entries as f64)?;
    page.counter("flowyard_coordinator_log_batches", "Batches that were made durable.", log.batches)?;
    page.counter("flowyard_coordinator_log_appended", "Entries that were made durable.", log.appended)?;
    page.counter("flowyard_coordinator_log_fsyncs", "Times that the disk was waited for.", log.barriers)?;
    let help = "From the first write of a batch until it is on the disk.";
    page.histogram("flowyard_coordinator_log_fsync_seconds", help, &shared.replica.fsyncs())?;
    page.gauge("flowyard_coordinator_snapshot_bytes", "Size of the newest snapshot.", stats.snapshot_bytes as f64)?;
    let help = "The last entry that the newest snapshot covers.";
    page.gauge("flowyard_coordinator_snapshot_index", help, stats.snapshot_index.unwrap_or(0) as f64)?;
    let help = "Writing one snapshot to the disk.";
    page.histogram("flowyard_coordinator_snapshot_write_seconds", help, shared.replica.snapshots_written())
}

fn proposals(page: &mut Page<'_>, shared: &Shared) -> fmt::Result {
    let counts = shared.proposer.counts();
    let rows = PROPOSAL_RESULTS.iter().zip(&counts.proposals);
    let rows = rows.map(|(result, count)| (vec![label("result", result)], count.get()));
    page.counters("flowyard_coordinator_proposals", "Commands that were proposed here, by what came of them.", rows)?;
    let help = "From a command to its reply: on the disk of a majority, and applied.";
    page.histogram("flowyard_coordinator_propose_seconds", help, &counts.propose)?;
    let in_flight = shared.replica.stats().proposals_in_flight;
    page.gauge("flowyard_coordinator_proposals_in_flight", "Commands under way.", in_flight as f64)?;
    page.counter("flowyard_coordinator_applied_entries", "Entries that were applied.", counts.applied.get())?;
    let help = "Applying one batch of entries to the state.";
    page.histogram("flowyard_coordinator_apply_seconds", help, &counts.apply)
}

fn placing(page: &mut Page<'_>, shared: &Shared) -> fmt::Result {
    let counts = shared.proposer.counts();
    let help = "Making one round of plans; only the leader does.";
    page.histogram("flowyard_coordinator_placement_round_seconds", help, &counts.rounds)?;
    let rows = [("placed", &counts.placed), ("stale", &counts.stale)];
    let rows = rows.map(|(result, count)| (vec![label("result", result)], count.get()));
    page.counters("flowyard_coordinator_placements", "Placements that were proposed, by what came of them.", rows)?;
    let help = "From a job's submission to the placement of its first task.";
    page.histogram("flowyard_coordinator_place_latency_seconds", help, &counts.first_placed)?;
    let help = "What agents reported of attempts.";
    page.counter("flowyard_coordinator_reports", help, counts.reports.get())?;
    let ended = counts.ended().into_iter().map(|((outcome, reason, blame), count)| {
        let labels =
            [label("outcome", spelled(&outcome)), label("reason", spelled(&reason)), label("blame", spelled(&blame))];
        (Labels::from(labels), count)
    });
    let help = "Attempts that ended while this coordinator led: how, why, and whose it is.";
    page.counters("flowyard_coordinator_attempts_ended", help, ended)
}

/// What a queue has that has not ended.
#[derive(Default)]
struct Waiting {
    jobs: u64,
    tasks: [u64; 4],
    /// When the oldest job that has a task to place was submitted.
    oldest_ms: Option<u64>,
}

const OPEN_STATES: [&str; 4] = ["blocked", "ready", "waiting", "active"];

fn by_queue(view: &View) -> BTreeMap<String, Waiting> {
    let mut queues: BTreeMap<String, Waiting> =
        view.queues().take(QUEUES).map(|queue| (queue.path.to_string(), Waiting::default())).collect();
    for (id, job) in view.outlines().filter(|(_, job)| job.ended.is_none()) {
        let name = job.spec.queue.to_string();
        let known = queues.contains_key(&name) || queues.len() < QUEUES;
        let queue = queues.entry(if known { name } else { "other".to_owned() }).or_default();
        queue.jobs += 1;
        let mut ready = false;
        for step in (0..job.spec.steps.len() as u32).filter_map(|step| view.counts(id, StepIndex(step))) {
            let counts = [step.blocked, step.ready, step.waiting, step.active];
            queue.tasks.iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(count));
            ready |= step.ready > 0;
        }
        if ready {
            let submitted = job.submitted_at.0;
            queue.oldest_ms = Some(queue.oldest_ms.map_or(submitted, |oldest| oldest.min(submitted)));
        }
    }
    queues
}

fn work(page: &mut Page<'_>, view: &View) -> fmt::Result {
    let queues = by_queue(view);
    let jobs = queues.iter().map(|(queue, it)| (vec![label("queue", queue)], it.jobs as f64));
    page.gauges("flowyard_coordinator_jobs_active", "Jobs that have not ended, by queue.", jobs)?;
    let tasks = queues.iter().flat_map(|(queue, it)| {
        OPEN_STATES
            .iter()
            .zip(it.tasks)
            .map(move |(state, count)| (vec![label("queue", queue), label("state", state)], count as f64))
    });
    let help = "Tasks of jobs that have not ended, by queue and state; `ready` ones wait for room.";
    page.gauges("flowyard_coordinator_tasks", help, tasks)?;
    // By the cluster's own time, which jobs were stamped with.
    let now_ms = flowyard_clock::wall_ms().max(view.time().0);
    let oldest = queues.iter().map(|(queue, it)| {
        let age_ms = it.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest));
        (vec![label("queue", queue)], age_ms as f64 / 1e3)
    });
    let help = "Age of the oldest job that has a task ready to be placed; 0 if there is none.";
    page.gauges("flowyard_coordinator_oldest_pending_seconds", help, oldest)?;
    let finished = view.finished_count() as f64;
    page.gauge("flowyard_coordinator_jobs_finished", "Ended jobs that are remembered.", finished)
}

fn nodes(page: &mut Page<'_>, shared: &Shared, view: &View) -> fmt::Result {
    let mut states: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for health in ["up", "suspect", "down"] {
        states.extend(["open", "closed"].map(|scheduling| ((health, scheduling), 0)));
    }
    for (_, node) in view.nodes() {
        let health = match node.health {
            Health::Up => "up",
            Health::Suspect => "suspect",
            Health::Down => "down",
        };
        let scheduling = if node.scheduling == Scheduling::Open { "open" } else { "closed" };
        *states.entry((health, scheduling)).or_default() += 1;
    }
    let rows = states.into_iter().map(|((health, scheduling), count)| {
        (vec![label("health", health), label("scheduling", scheduling)], count as f64)
    });
    page.gauges("flowyard_coordinator_nodes", "Nodes by health, and whether they take new work.", rows)?;
    let standings = [Standing::Trusted, Standing::Avoided, Standing::Shunned].map(|standing| {
        let count = view.nodes().filter(|(_, node)| node.standing() == standing).count();
        (vec![label("standing", standing.as_str())], count as f64)
    });
    let help = "Nodes by how far they are trusted with new work after what failed there.";
    page.gauges("flowyard_coordinator_nodes_trusted", help, standings)?;
    devices(page, view)?;
    let connected = view.nodes().filter(|(id, _)| shared.directory.find(*id).is_some()).count();
    let help = "Agents that have a session with this coordinator; only the leader has any.";
    page.gauge("flowyard_coordinator_sessions", help, connected as f64)?;
    let lost = shared.proposer.counts().nodes_lost.get();
    page.counter("flowyard_coordinator_nodes_lost", "Nodes that were given up while this coordinator led.", lost)
}

/// GPUs of all nodes by how well they are.
fn devices(page: &mut Page<'_>, view: &View) -> fmt::Result {
    let mut states: BTreeMap<&str, u64> = ["healthy", "degraded", "faulty", "cordoned"].map(|state| (state, 0)).into();
    for (_, node) in view.nodes() {
        for gpu in &node.inventory.gpus {
            let known = node.devices.get(&gpu.id);
            let state = match known {
                Some(known) if known.out.is_some() && known.state == DeviceState::Healthy => "cordoned",
                Some(known) => known.state.as_str(),
                None => DeviceState::Healthy.as_str(),
            };
            *states.entry(state).or_default() += 1;
        }
    }
    let rows = states.into_iter().map(|(state, count)| (vec![label("state", state)], count as f64));
    page.gauges("flowyard_coordinator_gpus", "GPUs of all nodes by how well they are.", rows)
}

/// What nodes that are up offer, and what of it is granted to attempts.
fn room(page: &mut Page<'_>, view: &View) -> fmt::Result {
    let (mut cpu, mut memory) = ([0.0; 2], [0.0; 2]);
    let mut gpus: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    for (_, node) in view.nodes().filter(|(_, node)| node.health == Health::Up) {
        let (offered, used) = (&node.inventory, &node.used);
        cpu = [cpu[0] + offered.cpu_milli as f64 / 1e3, cpu[1] + used.cpu_milli as f64 / 1e3];
        memory = [memory[0] + offered.memory_bytes as f64, memory[1] + used.memory_bytes as f64];
        for (at, gpu) in offered.gpus.iter().enumerate() {
            let granted = used.gpu_milli.get(at).map_or(0.0, |milli| f64::from(*milli) / 1e3);
            let known = gpus.contains_key(&gpu.model) || gpus.len() < MODELS;
            let sum = gpus.entry(if known { gpu.model.clone() } else { "other".to_owned() }).or_default();
            *sum = [sum[0] + 1.0, sum[1] + granted];
        }
    }
    page.gauge("flowyard_coordinator_capacity_cpu_cores", "CPUs of nodes that are up.", cpu[0])?;
    page.gauge("flowyard_coordinator_granted_cpu_cores", "CPUs of them that attempts hold.", cpu[1])?;
    page.gauge("flowyard_coordinator_capacity_memory_bytes", "Memory of nodes that are up.", memory[0])?;
    page.gauge("flowyard_coordinator_granted_memory_bytes", "Memory of them that attempts hold.", memory[1])?;
    let rows = |at: usize| gpus.iter().map(move |(model, sum)| (vec![label("model", model)], sum[at]));
    page.gauges("flowyard_coordinator_capacity_gpus", "GPUs of nodes that are up, by model.", rows(0))?;
    page.gauges("flowyard_coordinator_granted_gpus", "GPUs of them that attempts hold, by model.", rows(1))?;
    let Fragments { free_milli, useless_milli } = fragments(view);
    page.gauge("flowyard_coordinator_free_gpus", "GPUs that may be given to new work.", free_milli as f64 / 1e3)?;
    let help = "GPUs of them that are of no use where they are, averaged over the kinds of work of the last hours.";
    page.gauge("flowyard_coordinator_fragmented_gpus", help, useless_milli as f64 / 1e3)
}

fn past(page: &mut Page<'_>, view: &View, stats: &ReplicaStats) -> fmt::Result {
    let archived: u64 = view.archive_pages().map(|(_, page)| u64::from(page.jobs)).sum();
    page.gauge("flowyard_coordinator_jobs_archived", "Jobs in the archive.", archived as f64)?;
    let sealed: u64 = view.segments().map(|segment| segment.blob.length).sum();
    page.gauge("flowyard_coordinator_sealed_bytes", "Bytes of sealed segments of the log.", sealed as f64)?;
    let last = view.last_segment().map_or(0, |segment| segment.last);
    let unsealed = stats.snapshot_index.unwrap_or(0).saturating_sub(last);
    let help = "Entries that a snapshot covers and no segment does; they wait for the origin.";
    page.gauge("flowyard_coordinator_unsealed_entries", help, unsealed as f64)
}

fn calls(page: &mut Page<'_>, shared: &Shared) -> fmt::Result {
    let used: Vec<_> = shared.calls.used().collect();
    let rows = used.iter().flat_map(|(method, call)| {
        let codes = CODES.iter().zip(&call.codes).filter(|(_, count)| count.get() > 0);
        codes.map(move |(code, count)| (vec![label("method", method), label("code", code)], count.get()))
    });
    page.counters("flowyard_coordinator_calls", "Calls that were answered, by what was answered.", rows)?;
    let rows = used.iter().map(|(method, call)| (vec![label("method", method)], &call.seconds));
    page.histograms("flowyard_coordinator_call_seconds", "From a request to the head of its answer.", rows)?;
    let open =
        used.iter().map(|(method, call)| (vec![label("method", method)], call.open.load(Ordering::Relaxed) as f64));
    let help = "Calls whose answer is not at its end: those under way, and streams that stay open.";
    page.gauges("flowyard_coordinator_calls_open", help, open)?;
    let counts = shared.proposer.counts();
    let help = "Connections refused at the ports: no certificate, or none that is believed.";
    page.counter("flowyard_coordinator_connections_refused", help, counts.connections_refused.get())?;
    let rows = [("in", &counts.blob_bytes_in), ("out", &counts.blob_bytes_out)];
    let rows = rows.map(|(direction, count)| (vec![label("direction", direction)], count.get()));
    page.counters("flowyard_coordinator_blob_bytes", "Bytes of blobs that came and went.", rows)
}

fn machine(page: &mut Page<'_>, about: &AboutResponse) -> fmt::Result {
    page.gauge("flowyard_coordinator_disk_bytes", "Size of the disk with its folder.", about.disk_bytes as f64)?;
    let help = "What is free of the disk with its folder.";
    page.gauge("flowyard_coordinator_disk_free_bytes", help, about.disk_free_bytes as f64)?;
    let expires = about.certificate_expires_at_ms as f64 / 1e3;
    let help = "When its certificate ends, since the Unix epoch; 0 if it has none.";
    page.gauge("flowyard_coordinator_certificate_expires_timestamp_seconds", help, expires)
}
