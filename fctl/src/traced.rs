//! Telling an OpenTelemetry collector what is done for each job: `--otlp`, and `--trace` of a submission.

use flowyard_model::JobId;
use flowyard_telemetry::traces::{Exporter, JOB, Span, TraceId};

use crate::failure::Failure;

/// Who tells the collector, if one is named.
///
/// # Errors
/// When it cannot be used.
pub(crate) fn exporter(otlp: Option<&str>, service: &str) -> Result<Option<Exporter>, Failure> {
    let made = otlp.filter(|otlp| !otlp.is_empty()).map(|otlp| Exporter::to(otlp, service));
    made.transpose().map_err(|error| Failure::Usage(format!("--otlp (or FLOWYARD_OTLP): {error}")))
}

/// Tells that a job was submitted, in this time in microseconds since the Unix epoch.
pub(crate) async fn submitted(exporter: &Exporter, cluster: &str, job: JobId, times_us: (u64, u64)) {
    let trace = TraceId::of_job(cluster, job.0);
    exporter.send(Span::part(trace, "fctl/submit", trace.span(JOB), "fctl submit", times_us));
    exporter.flush().await;
}
