//! Which finished jobs it is time to archive and forget. Pure.

use flowyard_model::{JobId, TimeMs};
use flowyard_state::View;

use crate::config::Retention;

/// Jobs whose time is over, oldest end first, and when the next one's will be.
pub(super) fn due(view: &View, retention: Retention, now: TimeMs) -> (Vec<JobId>, Option<TimeMs>) {
    let finished: Vec<JobId> = view.finished().collect();
    let over = finished.len().saturating_sub(retention.jobs);
    let (mut due, mut next) = (Vec::new(), None);
    for (at, id) in finished.into_iter().enumerate() {
        let Some(job) = view.job(id) else { continue };
        let Some(end) = job.ended else { continue };
        let until = end.at.after(job.spec.retention_ms.unwrap_or(retention.age_ms));
        if at < over || until <= now {
            due.push(id);
        } else {
            next = Some(next.map_or(until, |next: TimeMs| next.min(until)));
        }
    }
    (due, next)
}
