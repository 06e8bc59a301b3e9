//! Clients that write and read, and what they were told; the one order that it must fit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::host::Open;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two calls of a client.
const PAUSE: Duration = Duration::from_millis(80);
/// Every so many calls is a read.
const READS: usize = 3;

/// The replicas that run, by host; none at all when the history is over.
pub(crate) type Targets = Vec<Option<Open>>;

/// When a command was begun and acknowledged, and where it went.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    command: String,
    index: u64,
    begun: Instant,
    ended: Instant,
}

/// What one client was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) reads: u64,
}

/// Proposes numbered commands and reads, one after the other, until told to stop.
pub(crate) async fn client(number: usize, mut seen: watch::Receiver<Targets>, newest: Arc<AtomicU64>) -> Told {
    let mut told = Told::default();
    for count in 0.. {
        let at = (count + number) % 3;
        let target = {
            let now = seen.borrow_and_update();
            if now.is_empty() {
                break;
            }
            now[at].clone()
        };
        if let Some(open) = target {
            let call = async {
                match count % READS {
                    0 => told.reads += u64::from(read(open, &newest).await),
                    _ => told.acknowledged.extend(write(open, format!("{number}/{count}"), &newest).await),
                }
            };
            tokio::select! {
                () = call => {}
                // Its replica crashed: whether it was taken is never known.
                _ = seen.wait_for(|now| now.get(at).is_none_or(Option::is_none)) => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    told
}

async fn write((replica, _): Open, command: String, newest: &AtomicU64) -> Option<Acknowledged> {
    let begun = Instant::now();
    let proposed = tokio::time::timeout(PATIENCE, replica.propose(command.clone().into_bytes())).await;
    let (index, _) = proposed.ok()?.ok()?;
    newest.fetch_max(index, Ordering::Relaxed);
    Some(Acknowledged { command, index, begun, ended: Instant::now() })
}

/// Whether the read was answered; then it shows everything that anybody was told before it began.
async fn read((replica, published): Open, newest: &AtomicU64) -> bool {
    let known = newest.load(Ordering::Relaxed);
    let answered = matches!(tokio::time::timeout(PATIENCE, replica.read_barrier()).await, Ok(Ok(())));
    let shown = published.lock().unwrap().last().map_or(0, |(index, _)| *index);
    assert!(!answered || shown >= known, "a read shows entries up to {shown}, and {known} was acknowledged before it");
    answered
}

/// What was acknowledged is in the one order, once and where it was said to be; and whatever was acknowledged before another
/// began stands before it.
pub(crate) fn check(applied: &[(u64, Vec<u8>)], acknowledged: &mut [Acknowledged]) {
    let by_index: BTreeMap<u64, &[u8]> = applied.iter().map(|(index, command)| (*index, &command[..])).collect();
    let distinct: BTreeSet<&[u8]> = applied.iter().map(|(_, command)| &command[..]).collect();
    assert_eq!(distinct.len(), applied.len(), "a command was applied twice");
    for one in acknowledged.iter() {
        assert_eq!(by_index.get(&one.index), Some(&one.command.as_bytes()), "lost {one:?}");
    }
    acknowledged.sort_by_key(|one| one.index);
    let mut latest_begun = None;
    for one in acknowledged.iter() {
        assert!(latest_begun.is_none_or(|begun| begun <= one.ended), "{one:?} overtook in the past");
        latest_begun = latest_begun.max(Some(one.begun));
    }
}
