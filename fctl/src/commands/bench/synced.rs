//! Whether the coordinators of a bench wait for their disks, by what they count themselves.

use std::collections::BTreeMap;

use flowyard_sdk::client::Client;

use super::cluster::fsyncs;
use crate::failure::Failure;

/// How often one that follows is asked again: it hears of the last entries a moment later.
const TRIES: u32 = 100;

/// What was counted at the beginning; nothing of coordinators that are not ours.
#[derive(Debug)]
pub(super) struct Synced(Option<BTreeMap<String, u64>>);

impl Synced {
    /// Begins to count.
    pub(super) async fn begin(ours: bool, client: &mut Client) -> Result<Self, Failure> {
        Ok(Self(if ours { Some(fsyncs(client).await?) } else { None }))
    }

    /// How often all of them waited since, and whether each did; who did not is a problem.
    pub(super) async fn finish(
        self,
        client: &mut Client,
        problems: &mut Vec<String>,
    ) -> Result<Option<(u64, bool)>, Failure> {
        let Some(before) = self.0 else { return Ok(None) };
        let mut grown = BTreeMap::new();
        for _ in 0..TRIES {
            grown = since(&before, &fsyncs(client).await?);
            if grown.values().all(|count| *count > 0) {
                break;
            }
            tokio::time::sleep(super::fleet::LOOK).await;
        }
        let idle: Vec<_> = grown.iter().filter(|(_, count)| **count == 0).map(|(address, _)| address).collect();
        problems.extend(idle.iter().map(|address| format!("the coordinator at {address} never waited for its disk")));
        Ok(Some((grown.values().sum(), idle.is_empty())))
    }
}

/// By how much the counts have grown; whoever was started again has begun anew.
fn since(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grown = |(address, now): (&String, &u64)| {
        let before = before.get(address).copied().unwrap_or(0);
        (address.clone(), now.checked_sub(before).unwrap_or(*now))
    };
    now.iter().map(grown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_since_is_told_also_of_one_that_was_started_again() {
        let counts = |counts: &[u64]| -> BTreeMap<String, u64> {
            counts.iter().enumerate().map(|(at, count)| (format!("c{at}"), *count)).collect()
        };
        assert_eq!(since(&counts(&[5, 5, 5]), &counts(&[9, 5, 2])), counts(&[4, 0, 2]));
    }
}
