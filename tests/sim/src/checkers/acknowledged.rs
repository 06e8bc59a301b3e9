//! A job that a client was told of is never lost, and ends at most once.

use super::{Checker, Seen, require};

pub(super) struct NoAcknowledgedJobIsLost;

impl Checker for NoAcknowledgedJobIsLost {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        for job in seen.acknowledged {
            let record = seen.state.job(*job);
            require(record.is_some(), || format!("job {job} was acknowledged and is gone"))?;
            let before = seen.before.job(*job).and_then(|job| job.ended);
            let same = before.is_none() || before == record.and_then(|job| job.ended);
            require(same, || format!("job {job} had ended and ended anew"))?;
        }
        Ok(())
    }
}
