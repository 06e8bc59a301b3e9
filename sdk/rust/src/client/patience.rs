//! Asking again while a cluster is taken over or starts anew.
//!
//! Only what may be said twice is asked again: reads, uploads, cancels, and submissions with a key.

use std::time::Duration;

use super::{Client, ClientError};

const FIRST_WAIT_MS: u64 = 25;
const LONGEST_WAIT_MS: u64 = 1_000;
/// All waits together while a fleet elects another leader, which takes a second.
const FAILOVER_WAITS_MS: u64 = 6_000;
/// All waits together: longer than a take-over takes, short enough for whoever sits before it.
const ALL_WAITS_MS: u64 = 15_000;

/// The waits between tries, each twice the one before, until there were enough.
#[derive(Debug, Clone)]
pub struct Patience {
    wait_ms: u64,
    left_ms: u64,
}

impl Patience {
    /// As much as a take-over needs.
    pub fn for_takeover() -> Self {
        Self { wait_ms: FIRST_WAIT_MS, left_ms: ALL_WAITS_MS }
    }

    /// As much as a fleet needs to elect another leader.
    pub fn for_failover() -> Self {
        Self { wait_ms: FIRST_WAIT_MS, left_ms: FAILOVER_WAITS_MS }
    }

    /// None.
    pub fn none() -> Self {
        Self { wait_ms: 0, left_ms: 0 }
    }

    /// The wait before the next try; `None` when it is time to give up.
    pub fn next_wait(&mut self) -> Option<Duration> {
        let wait_ms = self.wait_ms.min(self.left_ms);
        self.left_ms -= wait_ms;
        self.wait_ms = (2 * self.wait_ms).min(LONGEST_WAIT_MS);
        (wait_ms > 0).then_some(Duration::from_millis(wait_ms))
    }

    /// The wait before the next try after this failure, and no less than the cluster asked for; `None` when it is time to give up,
    /// or another try would fail alike.
    pub fn after(&mut self, error: &ClientError) -> Option<Duration> {
        let wait = self.next_wait().filter(|_| error.is_unavailable())?;
        let ClientError::Busy { wait: asked, .. } = error else { return Some(wait) };
        // Up to a quarter more, so that those who were refused together do not come back together.
        let asked = *asked + *asked * (uuid::Uuid::new_v4().as_fields().0 % 256) / 1_024;
        let more = asked.saturating_sub(wait);
        let more_ms = u64::try_from(more.as_millis()).unwrap_or(u64::MAX);
        self.left_ms = self.left_ms.checked_sub(more_ms)?;
        Some(wait + more)
    }
}

/// A key for a submission that is made once, however often it is sent.
pub fn fresh_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Client {
    /// Asks, and again while nobody can answer, for as long as a take-over may last.
    ///
    /// # Errors
    /// The last answer.
    pub async fn persist<T>(
        &mut self,
        mut ask: impl AsyncFnMut(&mut Self) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut patience = Patience::for_takeover();
        loop {
            match ask(self).await {
                Ok(answer) => return Ok(answer),
                Err(error) => match patience.after(&error) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(error),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Endpoint;

    fn nowhere() -> Client {
        Client::new(Endpoint::socket("/nowhere/api.sock"))
    }

    #[test]
    fn waits_grow_and_end() {
        let mut patience = Patience::for_takeover();
        let waits: Vec<_> = std::iter::from_fn(|| patience.next_wait()).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits[..3], [25, 50, 100]);
        assert!(waits.iter().all(|wait| *wait <= u128::from(LONGEST_WAIT_MS)));
        assert_eq!(waits.iter().sum::<u128>(), u128::from(ALL_WAITS_MS));
    }

    #[tokio::test]
    async fn an_unavailable_cluster_is_asked_again_and_a_refusal_is_final() {
        let (mut client, mut tries) = (nowhere(), 0);
        let answer = client.persist(async |_| {
            tries += 1;
            if tries < 3 { Err(ClientError::Unavailable("a take-over".to_owned())) } else { Ok(tries) }
        });
        assert_eq!(answer.await.unwrap(), 3);
        let (mut client, mut tries) = (nowhere(), 0);
        let answer = client.persist(async |_| {
            tries += 1;
            Err::<(), _>(ClientError::Refused("no".to_owned()))
        });
        assert!(matches!(answer.await, Err(ClientError::Refused(_))));
        assert_eq!(tries, 1);
    }

    #[test]
    fn who_is_told_when_to_ask_again_does_not_ask_earlier_and_not_for_ever() {
        let busy = |wait| ClientError::Busy { message: "too many".to_owned(), wait: Duration::from_millis(wait) };
        let mut patience = Patience::for_takeover();
        let waits: Vec<_> = std::iter::from_fn(|| patience.after(&busy(2_000))).map(|wait| wait.as_millis()).collect();
        assert!(waits.iter().all(|wait| (2_000..=2_500).contains(wait)), "{waits:?}");
        assert!((5..=7).contains(&waits.len()), "as long as its patience lasts: {waits:?}");
        assert_eq!(Patience::for_takeover().after(&busy(60_000)), None, "longer than anybody waits who sits before it");
        assert_eq!(Patience::for_takeover().after(&ClientError::Refused("no".to_owned())), None);
    }

    #[test]
    fn fresh_keys_differ() {
        assert_ne!(fresh_key(), fresh_key());
    }
}
