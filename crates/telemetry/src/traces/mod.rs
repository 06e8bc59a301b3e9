//! Traces of jobs, for OpenTelemetry: which part did what of a job, when, and how long it took.
//!
//! A trace is carried nowhere. Its id, and the ids of its spans, follow from the cluster, the job and the name of the span: whoever does
//! something for a job knows under which span it belongs, without having been told. So neither the log nor the wire has anything for it,
//! and parts that export nothing leave no hole in what the others say.
//!
//! Reading order: [`TraceId`] and [`Span`], [`Exporter`] (sending them), `otlp` (the bytes).

mod exporter;
mod otlp;

use std::fmt;

pub use exporter::{EndpointError, Exporter};
pub use otlp::{Received, decode};

/// The trace of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// One span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

impl TraceId {
    /// The trace of this job of this cluster.
    pub fn of_job(cluster: &str, job: u64) -> Self {
        let hash = blake3::hash(format!("flowyard trace\n{cluster}\n{job}").as_bytes());
        Self(first(hash.as_bytes()))
    }

    /// Its span of this name, such as `attempt/train/3/1`.
    pub fn span(&self, name: &str) -> SpanId {
        let hash = blake3::hash(format!("flowyard span\n{self}\n{name}").as_bytes());
        SpanId(first(hash.as_bytes()))
    }

    /// The span of a task.
    pub fn task(&self, step: u32, task: u32) -> SpanId {
        self.span(&format!("task/{step}/{task}"))
    }

    /// The span of an attempt.
    pub fn attempt(&self, step: u32, task: u32, attempt: u32) -> SpanId {
        self.span(&format!("attempt/{step}/{task}/{attempt}"))
    }
}

impl TraceId {
    /// Says to another program that what it does is a part of this span, as the variable `TRACEPARENT` does it (W3C Trace Context, level 1).
    pub fn handed_on(&self, span: SpanId) -> String {
        // Version 00; the last byte says that the trace is kept.
        format!("00-{self}-{span}-01")
    }
}

/// The name of the span that all others of a job are below.
pub const JOB: &str = "job";

fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    let mut id = [0; N];
    id.copy_from_slice(&hash[..N]);
    id
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Something that was done for a job. Times are the wall clock of whoever did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Whose.
    pub trace: TraceId,
    /// Which.
    pub id: SpanId,
    /// What it is a part of.
    pub parent: Option<SpanId>,
    /// What was done, for people.
    pub name: &'static str,
    /// When it began, in microseconds since the Unix epoch.
    pub start_us: u64,
    /// When it was over.
    pub end_us: u64,
    /// What there is to know; names begin with `flowyard.`.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, if it did.
    pub failed: Option<String>,
}

impl Span {
    /// A part of `parent`, of which there is one of this path.
    pub fn part(trace: TraceId, path: &str, parent: SpanId, name: &'static str, times_us: (u64, u64)) -> Self {
        let (start_us, end_us) = (times_us.0, times_us.1.max(times_us.0));
        let (id, parent) = (trace.span(path), Some(parent));
        Self { trace, id, parent, name, start_us, end_us, attributes: Vec::new(), failed: None }
    }

    /// The same, with something to know.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_what_they_stand_for_and_differ_otherwise() {
        let trace = TraceId::of_job("lab", 17);
        assert_eq!(trace, TraceId::of_job("lab", 17));
        assert_eq!(trace.to_string().len(), 32);
        assert!(trace != TraceId::of_job("lab", 18) && trace != TraceId::of_job("lab2", 17));
        assert_eq!(trace.attempt(0, 1, 2), trace.span("attempt/0/1/2"));
        assert_ne!(trace.attempt(0, 1, 2), TraceId::of_job("lab", 18).attempt(0, 1, 2));
        let handed_on = TraceId([0xab; 16]).handed_on(SpanId([1; 8]));
        assert_eq!(handed_on, "00-abababababababababababababababab-0101010101010101-01");
    }
}
