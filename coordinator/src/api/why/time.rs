//! The times of a job: how much of them is left, and that one has passed.

use flowyard_model::{Job, JobId, Overdue};
use flowyard_proto::api::Finding;

use super::words::{Told, duration, finding};
use super::{Scene, step_counts};

/// One of its times has passed.
pub(super) fn passed(scene: Scene<'_>, id: JobId, job: &Job, overdue: Overdue) -> Finding {
    let state = if job.ended.is_some() { "failed" } else { "stopping" };
    let (reason, advice) = match overdue {
        Overdue::Deadline => (
            format!("it had not ended {} after its submission, its `deadline`", shown(job.spec.deadline_ms)),
            format!("fctl show {id}"),
        ),
        Overdue::QueueTtl => (
            format!("no task of it could be placed for {}, its `queue_ttl`", shown(job.spec.queue_ttl_ms)),
            "fctl nodes".to_owned(),
        ),
    };
    finding(id.to_string(), state, reason).with_details(step_counts(scene, id)).with_advice([advice])
}

/// What is left of the times of a job that may still run.
pub(super) fn left(scene: Scene<'_>, id: JobId, job: &Job) -> Option<Finding> {
    let until = |at: u64| duration(at.saturating_sub(scene.now_ms));
    let deadline = job.spec.deadline_ms.map(|ms| until(job.submitted_at.after(ms).0));
    let waits = scene.view.steps(id).all(|(_, step)| step.started_at.is_none());
    let ttl = job.spec.queue_ttl_ms.zip(job.startable_at).filter(|_| waits);
    let ttl = ttl.map(|(ms, since)| until(since.after(ms).0));
    let parts: Vec<_> = deadline
        .map(|left| format!("it fails if it has not ended in {left} (`deadline`)"))
        .into_iter()
        .chain(ttl.map(|left| format!("it fails if no task of it is placed in {left} (`queue_ttl`)")))
        .collect();
    (!parts.is_empty()).then(|| finding(id.to_string(), "active", parts.join("; ")))
}

fn shown(ms: Option<u64>) -> String {
    duration(ms.unwrap_or(0))
}
