//! Traces of jobs, as far as this coordinator has to do with them; only where an operator named a collector.
//!
//! What was done in a moment (a submission, a plan, a report) is told by whoever did it. What lasts (the job, its tasks and attempts) is
//! told by the leader when the job has ended, from the times that the state has of them. A job that ends while nobody leads is left out.

use std::collections::BTreeSet;

use flowyard_model::{Attempt, AttemptOutcome, Job, JobId, JobOutcome, MemberKey, Phase, Plan, TaskKey, TimeMs};
use flowyard_state::View;
use flowyard_telemetry::spelled;
use flowyard_telemetry::traces::{Exporter, JOB, Span, TraceId};

use crate::coordinator::Shared;

/// Tasks of one job that are told of; further ones are counted.
const TASKS: usize = 1_000;

/// Tells a collector; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tracer {
    exporter: Exporter,
    cluster: String,
}

impl Tracer {
    /// Tells what this cluster does.
    pub(crate) fn new(exporter: Exporter, cluster: &str) -> Self {
        Self { exporter, cluster: cluster.to_owned() }
    }

    /// Waits until the collector was told; a second at most.
    pub(crate) async fn flush(&self) {
        self.exporter.flush().await;
    }

    fn trace(&self, job: JobId) -> TraceId {
        TraceId::of_job(&self.cluster, job.0)
    }

    /// A job was submitted: looked at from `began_us` to `admitted_us`, and from then until now it was brought into the log.
    pub(crate) fn submitted(&self, job: u64, began_us: u64, admitted_us: u64) {
        let (trace, now_us) = (TraceId::of_job(&self.cluster, job), flowyard_clock::wall_us());
        let part = |path, parent, name, times| self.exporter.send(Span::part(trace, path, parent, name, times));
        let submit = trace.span("submit");
        part("submit", trace.span(JOB), "submit", (began_us, now_us));
        part("submit/admit", submit, "admit", (began_us, admitted_us));
        part("submit/propose", submit, "propose and apply", (admitted_us, now_us));
    }

    /// A plan that was begun then has been applied.
    pub(crate) fn placed(&self, plan: &Plan, began_us: u64) {
        let now_us = flowyard_clock::wall_us();
        for placement in plan.placements.iter().take(TASKS) {
            let (task, attempt) = (placement.task, placement.attempt.0);
            let trace = self.trace(task.job);
            let path = format!("place/{}/{}/{attempt}", task.step, task.task);
            let parent = trace.attempt(task.step.0, task.task.0, attempt);
            self.exporter.send(Span::part(trace, &path, parent, "place", (began_us, now_us)));
        }
    }

    /// The ends of these were reported then, and have been applied.
    pub(crate) fn reported(&self, ended: impl Iterator<Item = MemberKey>, began_us: u64) {
        let now_us = flowyard_clock::wall_us();
        for key in ended {
            let trace = self.trace(key.task.job);
            let (step, task, attempt) = (key.task.step.0, key.task.task.0, key.attempt.0);
            let path = format!("report/{step}/{task}/{attempt}/{}", key.rank);
            let parent = trace.attempt(step, task, attempt);
            self.exporter.send(Span::part(trace, &path, parent, "report", (began_us, now_us)));
        }
    }

    /// Tells of each job that ends while this coordinator leads, until dropped.
    pub(crate) async fn keep(self, shared: Shared) {
        let mut views = shared.feed.views();
        let mut known = Known::of(&views.borrow_and_update().clone());
        while views.changed().await.is_ok() {
            let view = views.borrow_and_update().clone();
            // What is applied before it leads was, or was to be, told by another.
            match shared.leading_term().is_ok() {
                true => known.new_in(&view).iter().for_each(|job| self.ended(&view, *job)),
                false => known = Known::of(&view),
            }
        }
    }

    fn ended(&self, view: &View, id: JobId) {
        let Some(job) = view.job(id) else { return };
        let Some(end) = job.ended else { return };
        let trace = self.trace(id);
        let times = (job.submitted_at.0 * 1_000, end.at.0 * 1_000);
        let failed = (end.outcome != JobOutcome::Succeeded).then(|| spelled(&end.outcome));
        let span = Span { parent: None, failed, ..Span::part(trace, JOB, trace.span(JOB), "job", times) };
        let left_out = view.tasks_of(id).count().saturating_sub(TASKS);
        let span = span.with("flowyard.job", id).with("flowyard.job_name", &job.spec.name);
        let span = span.with("flowyard.queue", &job.spec.queue).with("flowyard.tasks_left_out", left_out);
        // First, since of very many spans the last may be dropped.
        self.exporter.send(span);
        for (key, task) in view.tasks_of(id).take(TASKS) {
            self.task(view, trace, &job, key, &task.attempts);
        }
    }

    fn task(&self, view: &View, trace: TraceId, job: &Job, key: TaskKey, attempts: &[Attempt]) {
        let (Some(first), Some(last)) = (attempts.first(), attempts.last()) else { return };
        let reference = format!("{}/{}/{}", key.job, job.spec.steps[key.step.0 as usize].name, key.task);
        let times = (first.placed_at.0 * 1_000, over(last).0 * 1_000);
        let path = format!("task/{}/{}", key.step, key.task);
        self.exporter.send(Span::part(trace, &path, trace.span(JOB), "task", times).with("flowyard.task", &reference));
        for attempt in attempts {
            self.attempt(view, trace, key, &reference, attempt);
        }
    }

    fn attempt(&self, view: &View, trace: TraceId, key: TaskKey, reference: &str, attempt: &Attempt) {
        let number = attempt.number;
        let path = format!("attempt/{}/{}/{number}", key.step, key.task);
        let times = (attempt.placed_at.0 * 1_000, over(attempt).0 * 1_000);
        let span = Span::part(trace, &path, trace.task(key.step.0, key.task.0), "attempt", times);
        let mut span = span.with("flowyard.attempt", format_args!("{reference}#{number}"));
        for member in &attempt.members {
            if let Some(node) = view.node(member.node) {
                span = span.with("flowyard.node", &node.name);
            }
            let Some(end) = &member.end else { continue };
            if end.outcome != AttemptOutcome::Succeeded {
                span.failed =
                    Some(format!("{}: {}, {}", spelled(&end.outcome), spelled(&end.reason), spelled(&end.blame)));
            }
        }
        self.exporter.send(span);
    }
}

/// When an attempt was over, as far as is known.
fn over(attempt: &Attempt) -> TimeMs {
    let ends = attempt.members.iter().filter(|member| member.phase == Phase::Ended).filter_map(|it| it.times.ended);
    ends.max().unwrap_or(attempt.placed_at)
}

fn ended_at(view: &View, job: JobId) -> TimeMs {
    view.job(job).and_then(|job| job.ended).map_or(TimeMs(0), |end| end.at)
}

/// The jobs that ended last, so that those which end next are told from them.
struct Known {
    at: TimeMs,
    /// Those that ended at that very time.
    jobs: BTreeSet<JobId>,
}

impl Known {
    fn of(view: &View) -> Self {
        let at = view.finished().next_back().map_or(TimeMs(0), |job| ended_at(view, job));
        let jobs = view.finished().rev().take_while(|job| ended_at(view, *job) == at).collect();
        Self { at, jobs }
    }

    /// The jobs that have ended since it was asked last, newest first.
    fn new_in(&mut self, view: &View) -> Vec<JobId> {
        let end = |job: &JobId| ended_at(view, *job);
        let since = view.finished().rev().take_while(|job| end(job) >= self.at);
        let new: Vec<JobId> = since.filter(|job| !self.jobs.contains(job)).collect();
        if let Some(newest) = new.first().map(end) {
            if newest > self.at {
                self.jobs.clear();
            }
            self.at = newest;
            self.jobs.extend(new.iter().filter(|job| end(job) == newest));
        }
        new
    }
}
