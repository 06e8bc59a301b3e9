//! A job that a client was told of is never lost, and ends at most once; one submission makes one job.

use super::{Checker, Seen, require};

pub(super) struct NoAcknowledgedJobIsLost;

impl Checker for NoAcknowledgedJobIsLost {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        for job in &seen.effects.changed.jobs {
            let (before, now) = (seen.before.job(*job), seen.state.job(*job));
            let may_go = seen.forgotten.contains(job) || !seen.acknowledged.contains(job);
            require(now.is_some() || may_go, || format!("job {job} was acknowledged and is gone"))?;
            let ended = before.and_then(|job| job.ended);
            let same = ended.is_none() || now.is_none_or(|job| job.ended == ended);
            require(same, || format!("job {job} had ended and ended anew"))?;
            // One that was forgotten may be submitted anew by what was still on its way.
            let most = seen.submitted + seen.forgotten.len() as u64;
            require(job.0 <= most, || format!("there is a job {job}, and {most} were submitted"))?;
        }
        Ok(())
    }
}
