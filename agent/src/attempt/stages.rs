//! What an attempt is about at each time, from when to when: for the figures, and for a trace.

use std::time::{Duration, Instant};

use flowyard_model::MemberKey;
use flowyard_telemetry::traces::{Exporter, Span, TraceId};

use crate::counts::Counts;

/// The stages of one attempt, one after the other.
#[derive(Debug, Default)]
pub(super) struct Stages {
    open: Option<Open>,
    done: Vec<(&'static str, u64, u64)>,
}

/// The stage that goes on. Only the first is dated by the wall clock; how long each takes is not: a wall clock may jump.
#[derive(Debug)]
struct Open {
    name: &'static str,
    start_us: u64,
    since: Instant,
}

/// Bringing what it needs.
pub(super) const FETCH: &str = "fetch";
/// From there until the launcher is asked.
pub(super) const PREPARE: &str = "prepare";
/// From there until the process runs.
pub(super) const START: &str = "start";
/// The process.
pub(super) const RUN: &str = "run";
/// Storing outputs and logs.
pub(super) const STORE: &str = "store";

impl Stages {
    /// The stage before has come to its end, which is counted, and this one begins.
    pub(super) fn begin(&mut self, name: &'static str, counts: &Counts) {
        self.close(Some(counts));
        self.open(name);
    }

    /// The stage before is over, however it went, and this one begins.
    pub(super) fn go_over_to(&mut self, name: &'static str) {
        self.close(None);
        self.open(name);
    }

    /// As [`Stages::begin`], unless it goes on already. Where none does (the agent was started again meanwhile), it began then, in
    /// microseconds since the Unix epoch.
    pub(super) fn begin_since(&mut self, name: &'static str, start_us: u64, counts: &Counts) {
        match &self.open {
            Some(open) if open.name == name => {}
            Some(_) => self.begin(name, counts),
            None => {
                let (now, now_us) = (flowyard_clock::monotonic(), flowyard_clock::wall_us());
                let since = now.checked_sub(Duration::from_micros(now_us.saturating_sub(start_us))).unwrap_or(now);
                self.open = Some(Open { name, start_us, since });
            }
        }
    }

    /// The stage that goes on has come to its end.
    pub(super) fn end(&mut self, counts: &Counts) {
        self.close(Some(counts));
    }

    fn open(&mut self, name: &'static str) {
        let start_us = self.done.last().map_or_else(flowyard_clock::wall_us, |(_, _, end_us)| *end_us);
        self.open = Some(Open { name, start_us, since: flowyard_clock::monotonic() });
    }

    fn close(&mut self, counts: Option<&Counts>) {
        let Some(Open { name, start_us, since }) = self.open.take() else { return };
        let took = flowyard_clock::elapsed(since);
        counts.iter().for_each(|counts| counts.stage(name, took));
        self.done.push((name, start_us, start_us.saturating_add(took.as_micros() as u64)));
    }

    /// Tells a collector of them, as parts of the attempt.
    pub(super) fn tell(&self, exporter: &Exporter, cluster: &str, key: MemberKey) {
        if cluster.is_empty() {
            return;
        }
        let trace = TraceId::of_job(cluster, key.task.job.0);
        let parent = trace.attempt(key.task.step.0, key.task.task.0, key.attempt.0);
        for (name, start_us, end_us) in &self.done {
            exporter.send(Span::part(trace, &path(name, key), parent, name, (*start_us, *end_us)));
        }
    }
}

/// The place of a stage in its trace.
fn path(name: &str, key: MemberKey) -> String {
    let replacement = if key.replacement == 0 { String::new() } else { format!("r{}", key.replacement) };
    format!("{name}/{}/{}/{}/{}{replacement}", key.task.step, key.task.task, key.attempt, key.rank)
}

/// What the process is told, so that the spans it makes itself are parts of its `run`.
pub(super) fn handed_on(cluster: &str, key: MemberKey) -> (String, String) {
    let trace = TraceId::of_job(cluster, key.task.job.0);
    ("TRACEPARENT".to_owned(), trace.handed_on(trace.span(&path(RUN, key))))
}
