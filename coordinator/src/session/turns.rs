//! Agents register in turns: a whole fleet that comes back at once would fill the log with its registrations and keep everything else
//! waiting.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Registrations under way at a time: enough to share the disk's barriers.
const AT_ONCE: usize = 128;
/// How long an agent waits for its turn; then it is turned away, and comes again in its own time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose turn it is; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)), patience: PATIENCE }
    }
}

impl Turns {
    /// Waits for a turn, in the order of asking; it is over when what this returns is dropped.
    ///
    /// # Errors
    /// When it takes too long.
    pub(crate) async fn take(&self) -> Result<OwnedSemaphorePermit, Status> {
        let turn = tokio::time::timeout(self.patience, self.places.clone().acquire_owned()).await;
        // It is never closed.
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            Status::unavailable("too many agents register at the same time; this one comes again after a while")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_get_their_turn_in_order_or_are_turned_away_in_time() {
        let turns = Turns::default();
        let mut under_way: Vec<_> = Vec::new();
        for _ in 0..AT_ONCE {
            under_way.push(turns.take().await.unwrap());
        }
        let refused = turns.take().await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
        let waiting = turns.take();
        under_way.pop();
        drop(waiting.await.unwrap());
    }
}
