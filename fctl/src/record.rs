//! Answers for programs. The fields are documented in `docs/json-output.md` and stable: they are only added, never renamed.
//!
//! Times are milliseconds since the Unix epoch; what is not known is `null`, not left out.

use std::collections::BTreeMap;

use flowyard_model::Digest;
use flowyard_proto::api;
use serde::Serialize;

use crate::text::{self, word};
use crate::{policy, target};

/// A job in a list.
#[derive(Debug, Serialize)]
pub(crate) struct JobRow<'a> {
    job: u64,
    name: &'a str,
    owner: &'a str,
    queue: &'a str,
    state: &'static str,
    outcome: Option<&'static str>,
    tags: &'a [String],
    submitted_ms: u64,
    started_ms: Option<u64>,
    ended_ms: Option<u64>,
    tasks: Counts,
}

/// How many tasks are in which state.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    blocked: u32,
    ready: u32,
    waiting: u32,
    active: u32,
    succeeded: u32,
    failed: u32,
    cancelled: u32,
    skipped: u32,
    total: u64,
}

/// A job with its steps.
#[derive(Debug, Serialize)]
pub(crate) struct Job<'a> {
    #[serde(flatten)]
    row: JobRow<'a>,
    stopping: bool,
    overdue: Option<&'a str>,
    archived_ms: Option<u64>,
    deadline_ms: Option<u64>,
    queue_ttl_ms: Option<u64>,
    revision: u64,
    params: BTreeMap<&'a str, serde_json::Value>,
    after: &'a [u64],
    first_failure: Option<String>,
    steps: Vec<Step<'a>>,
}

/// A step.
#[derive(Debug, Serialize)]
pub(crate) struct Step<'a> {
    name: &'a str,
    count: Option<u32>,
    tasks: Counts,
    started_ms: Option<u64>,
    ended_ms: Option<u64>,
    policy: Option<policy::Policy>,
}

/// A task with its attempts.
#[derive(Debug, Serialize)]
pub(crate) struct Task<'a> {
    reference: String,
    step: &'a str,
    task: u32,
    state: &'static str,
    outcome: Option<&'static str>,
    waiting_until_ms: Option<u64>,
    attempts: Vec<Attempt<'a>>,
}

/// One member of one attempt.
#[derive(Debug, Serialize)]
pub(crate) struct Attempt<'a> {
    attempt: u32,
    rank: u32,
    node: &'a str,
    node_id: u64,
    gpus: Vec<Gpu<'a>>,
    gpu_alternative: Option<u32>,
    gpu_request: Option<&'a str>,
    phase: String,
    times: Times,
    outcome: Option<String>,
    reason: Option<String>,
    blame: Option<String>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    message: Option<&'a str>,
    stuck: Option<String>,
    preempted: Option<Preempted>,
    saved_ms: Option<u64>,
    decisive: bool,
    replacement: u32,
    replaced: bool,
    generation: u32,
    repairing_until_ms: Option<u64>,
    peak_memory_bytes: Option<u64>,
    cpu_us: Option<u64>,
    outputs: BTreeMap<&'a str, String>,
}

/// That an attempt was evicted.
#[derive(Debug, Serialize)]
struct Preempted {
    kind: String,
    job: u64,
    step: u32,
    task: u32,
    at_ms: u64,
}

/// A device.
#[derive(Debug, Serialize)]
pub(crate) struct Gpu<'a> {
    id: &'a str,
    model: &'a str,
    memory_bytes: u64,
    healthy: bool,
    fake: bool,
    /// Id of the device that it is a part of.
    part_of: Option<&'a str>,
    nvlink_group: Option<u32>,
    pcie_group: Option<u32>,
    numa_node: Option<u32>,
}

/// When a member of an attempt got into each phase.
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    placed_ms: u64,
    accepted_ms: Option<u64>,
    fetching_ms: Option<u64>,
    running_ms: Option<u64>,
    storing_ms: Option<u64>,
    ended_ms: Option<u64>,
}

/// State and outcome of a job: `active` or `done`, and how.
fn job_state(phase: api::JobPhase) -> (&'static str, Option<&'static str>) {
    match phase {
        api::JobPhase::Active | api::JobPhase::Unspecified => ("active", None),
        ended => ("done", Some(text::job_state(ended))),
    }
}

/// State and outcome of a task.
fn task_state(state: api::TaskState) -> (&'static str, Option<&'static str>) {
    use api::TaskState::{Cancelled, Failed, Skipped, Succeeded};
    match state {
        Succeeded | Failed | Cancelled | Skipped => ("done", Some(text::task_state(state))),
        open => (text::task_state(open), None),
    }
}

/// A job in a list.
pub(crate) fn job_row(row: &api::JobRow) -> JobRow<'_> {
    let (state, outcome) = job_state(row.state());
    JobRow {
        job: row.job,
        name: &row.name,
        owner: &row.owner,
        queue: &row.queue,
        state,
        outcome,
        tags: &row.tags,
        submitted_ms: row.submitted_ms,
        started_ms: row.started_ms,
        ended_ms: row.ended_ms,
        tasks: counts(row.tasks.as_ref()),
    }
}

/// A job with its steps.
pub(crate) fn job<'a>(job: &'a api::Job, row: &'a api::JobRow) -> Job<'a> {
    let spec = job.spec.as_ref();
    let params = spec.into_iter().flat_map(|spec| &spec.params);
    let value = |json: &String| serde_json::from_str(json).unwrap_or_else(|_| json.as_str().into());
    Job {
        row: job_row(row),
        stopping: job.stopping,
        archived_ms: job.archived_ms,
        overdue: Some(job.overdue.as_str()).filter(|overdue| !overdue.is_empty()),
        deadline_ms: spec.and_then(|spec| spec.deadline_ms),
        queue_ttl_ms: spec.and_then(|spec| spec.queue_ttl_ms),
        revision: job.revision,
        params: params.map(|(name, json)| (name.as_str(), value(json))).collect(),
        after: spec.map_or(&[], |spec| &spec.after),
        first_failure: job.first_failure.map(|at| target::task_reference(job, at.step, at.task)),
        steps: job
            .steps
            .iter()
            .enumerate()
            .map(|(at, one)| step(one, spec.and_then(|spec| spec.steps.get(at))))
            .collect(),
    }
}

/// A step.
pub(crate) fn step<'a>(step: &'a api::Step, spec: Option<&api::StepSpec>) -> Step<'a> {
    Step {
        name: &step.name,
        count: step.count,
        tasks: counts(step.tasks.as_ref()),
        started_ms: step.started_ms,
        ended_ms: step.ended_ms,
        policy: spec.and_then(policy::of),
    }
}

fn counts(counts: Option<&api::TaskCounts>) -> Counts {
    let counts = counts.copied().unwrap_or_default();
    let api::TaskCounts { blocked, ready, waiting, active, succeeded, failed, cancelled, skipped } = counts;
    let total = [blocked, ready, waiting, active, succeeded, failed, cancelled, skipped].map(u64::from).iter().sum();
    Counts { blocked, ready, waiting, active, succeeded, failed, cancelled, skipped, total }
}

/// A task with its attempts.
pub(crate) fn task<'a>(job: &'a api::Job, task: &'a api::Task) -> Task<'a> {
    let (state, outcome) = task_state(task.state());
    Task {
        reference: target::task_reference(job, task.step, task.task),
        step: target::step_name(job, task.step),
        task: task.task,
        state,
        outcome,
        waiting_until_ms: task.waiting_until_ms,
        attempts: task.attempts.iter().flat_map(attempt).collect(),
    }
}

/// The members of an attempt: first those whose place others took.
pub(crate) fn attempt(attempt: &api::Attempt) -> impl Iterator<Item = Attempt<'_>> {
    let replaced = attempt.replaced.iter().filter_map(move |it| Some((it.rank, it.member.as_ref()?)));
    let replaced = replaced.map(move |(rank, one)| Attempt { replaced: true, ..member(attempt, rank, one) });
    let now = attempt.members.iter().enumerate().map(move |(rank, one)| member(attempt, rank as u32, one));
    replaced.chain(now)
}

fn preempted(preempted: &api::Preempted) -> Preempted {
    let by = preempted.by.unwrap_or_default();
    let kind = word(preempted.kind().as_str_name(), "EVICTION_KIND_");
    Preempted { kind, job: by.job, step: by.step, task: by.task, at_ms: preempted.at_ms }
}

fn member<'a>(attempt: &'a api::Attempt, rank: u32, member: &'a api::Member) -> Attempt<'a> {
    let times = member.times.unwrap_or_default();
    let end = member.end.as_ref();
    // What went well has no reason, and nobody is to blame for it.
    let bad = end.filter(|end| end.outcome() != api::AttemptOutcome::Succeeded);
    Attempt {
        attempt: attempt.number,
        rank,
        node: &member.node_name,
        node_id: member.node,
        gpus: member.gpus.iter().map(gpu).collect(),
        gpu_alternative: member.gpu_alternative,
        gpu_request: member.gpu_alternative.map(|_| member.gpu_request.as_str()),
        phase: word(member.phase().as_str_name(), "PHASE_"),
        times: Times {
            placed_ms: attempt.placed_ms,
            accepted_ms: times.accepted_ms,
            fetching_ms: times.fetching_ms,
            running_ms: times.running_ms,
            storing_ms: times.storing_ms,
            ended_ms: times.ended_ms,
        },
        outcome: end.map(|end| word(end.outcome().as_str_name(), "ATTEMPT_OUTCOME_")),
        reason: bad.map(|end| word(end.reason().as_str_name(), "REASON_")),
        blame: bad.map(|end| word(end.blame().as_str_name(), "BLAME_")),
        exit_code: end.and_then(|end| end.exit_code),
        signal: end.and_then(|end| end.signal),
        message: bad.map(|end| end.message.as_str()),
        stuck: Some(member.stuck())
            .filter(|stuck| *stuck != api::StuckPhase::Unspecified)
            .map(|stuck| word(stuck.as_str_name(), "STUCK_PHASE_")),
        preempted: attempt.preempted.as_ref().map(preempted),
        saved_ms: attempt.saved_at_ms,
        decisive: attempt.decisive_rank == Some(rank),
        replacement: member.replacement,
        replaced: false,
        generation: attempt.generation,
        repairing_until_ms: attempt.repairing_until_ms,
        peak_memory_bytes: end.map(|end| end.peak_memory_bytes),
        cpu_us: end.map(|end| end.cpu_us),
        outputs: end.map_or_else(BTreeMap::new, outputs),
    }
}

fn outputs(end: &api::End) -> BTreeMap<&str, String> {
    let digests = end.outputs.iter().map(|(name, output)| (name.as_str(), digest(output.manifest.as_ref())));
    digests.collect()
}

/// A device.
pub(crate) fn gpu(gpu: &api::Gpu) -> Gpu<'_> {
    let part_of = gpu.part.as_ref().map(|part| part.of.as_str());
    Gpu {
        id: gpu.id.as_str(),
        model: gpu.model.as_str(),
        memory_bytes: gpu.memory_bytes,
        healthy: gpu.healthy,
        fake: gpu.fake,
        part_of,
        nvlink_group: gpu.link_group,
        pcie_group: gpu.pcie_group,
        numa_node: gpu.numa_node,
    }
}

/// A digest as text; empty when it is none.
pub(crate) fn digest(wire: Option<&api::Digest>) -> String {
    wire.and_then(|wire| Digest::try_from(wire.clone()).ok()).map_or_else(String::new, |digest| digest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_job() -> api::Job {
        let row = api::JobRow {
            job: 17,
            name: "iris".to_owned(),
            state: api::JobPhase::Failed.into(),
            ..api::JobRow::default()
        };
        let tasks = Some(api::TaskCounts { active: 1, failed: 2, ..api::TaskCounts::default() });
        let step = api::Step { name: "train".to_owned(), count: Some(3), tasks, ..api::Step::default() };
        api::Job { row: Some(row), steps: vec![step], ..api::Job::default() }
    }

    #[test]
    fn a_job_has_state_outcome_and_counts_by_state() {
        let shown = shown_job();
        let json = serde_json::to_value(job(&shown, shown.row.as_ref().unwrap())).unwrap();
        assert_eq!(json["job"], 17);
        assert_eq!((json["state"].as_str(), json["outcome"].as_str()), (Some("done"), Some("failed")));
        assert_eq!(json["steps"][0]["name"], "train");
        assert_eq!(json["steps"][0]["tasks"]["failed"], 2);
        assert_eq!(json["steps"][0]["tasks"]["total"], 3);
        assert!(json["ended_ms"].is_null(), "{json}");
    }

    #[test]
    fn an_attempt_has_what_its_end_says() {
        let end = api::End {
            outcome: api::AttemptOutcome::Failed.into(),
            reason: api::Reason::NodeLost.into(),
            blame: api::Blame::Platform.into(),
            signal: Some(9),
            ..api::End::default()
        };
        let member = api::Member { phase: api::Phase::Ended.into(), end: Some(end), ..api::Member::default() };
        let ended = api::Attempt { number: 2, placed_ms: 5, members: vec![member], ..Default::default() };
        let running =
            api::Attempt { number: 3, placed_ms: 9, members: vec![api::Member::default()], ..Default::default() };
        let state = api::TaskState::Active.into();
        let shown = api::Task { task: 1, state, attempts: vec![ended, running], ..api::Task::default() };
        let json = serde_json::to_value(task(&shown_job(), &shown)).unwrap();
        assert_eq!((json["reference"].as_str(), json["state"].as_str()), (Some("17/train/1"), Some("active")));
        assert_eq!(json["attempts"][0]["reason"], "node_lost");
        assert_eq!(json["attempts"][0]["signal"], 9);
        assert!(json["attempts"][1]["reason"].is_null());
    }
}
