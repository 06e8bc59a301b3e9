//! Proof that this coordinator still leads, on which leases are renewed.
//!
//! A leader that is cut off from the others does not know it: without proof it would renew the leases of its agents for ever, while
//! its successor gives their nodes up and places their tasks again. So each sign of life of an agent is answered only on the word of a
//! majority that is at most [`Timing::EVIDENCE_MS`] old. That keeps the promise that what must not run twice does not:
//!
//! - Let an agent send a sign of life at S (all times as a clock tells that never jumps). The answer makes its lease end at S + lease:
//!   it is counted from when the agent asked, so that nothing depends on how long an answer travels, or waits in a process that is paused.
//! - The answer rests on a majority which was asked, and followed this leader, later than S - EVIDENCE: the leader was asked after S.
//! - So whoever leads next was elected later than that, listens from then on, and gives a node up no sooner than S - EVIDENCE + down.
//! - The attempt is gone by S + lease + grace. With lease + grace + EVIDENCE + MARGIN <= down, which
//!   [`Timing::check`] and [`Timing::longest_grace_ms`] see to, that is MARGIN before.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::applier::Applier;
use crate::config::Timing;
use crate::raft::{Replica, Unavailable};

/// What a majority said last; cheap to clone.
#[derive(Clone)]
pub struct Evidence {
    replica: Replica<Applier>,
    last: Arc<Mutex<Option<Said>>>,
}

/// An answer, and when in boot time it was asked for.
struct Said {
    asked_ms: u64,
    leads: Result<(), Unavailable>,
}

impl Evidence {
    /// Nobody was asked yet.
    pub(crate) fn none(replica: Replica<Applier>) -> Self {
        Self { replica, last: Arc::default() }
    }

    /// Whether a majority has confirmed, within [`Timing::EVIDENCE_MS`], that this coordinator leads. However many ask, one
    /// question is under way.
    ///
    /// # Errors
    /// When it has not.
    pub(crate) async fn confirm(&self) -> Result<(), Unavailable> {
        let mut last = self.last.lock().await;
        let asked_ms = flowyard_clock::boot_ms();
        if let Some(said) = last.as_ref().filter(|said| is_fresh(said.asked_ms, asked_ms)) {
            return said.leads.clone();
        }
        let leads = self.replica.confirm_leading().await;
        *last = Some(Said { asked_ms, leads: leads.clone() });
        // This process may have stood still while it waited: then the word is old already.
        if is_fresh(asked_ms, flowyard_clock::boot_ms()) { leads } else { leads.and(Err(Unavailable::NoQuorum)) }
    }
}

fn is_fresh(asked_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(asked_ms) < Timing::EVIDENCE_MS
}
