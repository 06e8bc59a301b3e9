//! Writes by a whole replica: its record, its log and vote, its snapshots.

use std::collections::BTreeMap;
use std::convert::Infallible;

use flowyard_coordinator::raft::engine::{EngineKind, LogOpenError};
use flowyard_coordinator::raft::{OpenError, Replica, ReplicaConfig, Role, SnapshotError};

use super::{Ended, Order, chain, say};

#[path = "../../../../coordinator/tests/common/mod.rs"]
mod journal;

use journal::Journal;

const PROPOSERS: u64 = 4;

pub(super) async fn write(order: &Order, engine: EngineKind) -> Result<Infallible, Ended> {
    let folder = order.folder.join("replica");
    let config = ReplicaConfig { engine, snapshot_every_entries: 60, keep_entries: 10, ..ReplicaConfig::new(&folder) };
    let (machine, published) = Journal::new();
    let replica = Replica::open(config, machine).await.map_err(refused)?;
    let term = match replica.wait_ready().await {
        Ok(Role::Leader { term, .. }) => term,
        other => return Err(Ended::Failed(format!("it does not lead: {other:?}"))),
    };
    let applied = published.lock().expect("nobody panicked").clone();
    check(order, &applied, term, &replica.identity().cluster.to_string())?;
    say("ready");
    say(&format!("ack cluster {}", replica.identity().cluster));
    say(&format!("ack term {term}"));
    // A replica that leads again has told so of everything it found.
    for (index, command) in &applied {
        say(&format!("ack entry {index} {}", name_of(command)));
    }
    let proposers = (0..PROPOSERS).map(|proposer| tokio::spawn(propose(replica.clone(), term, proposer)));
    let mut ended = None;
    for proposer in proposers.collect::<Vec<_>>() {
        ended = Some(proposer.await.unwrap_or_else(|panic| Ended::Wrong(format!("a proposer panicked: {panic}"))));
    }
    Err(ended.expect("there are proposers"))
}

fn refused(error: OpenError) -> Ended {
    let damaged = matches!(
        error,
        OpenError::Log(LogOpenError::Quarantined { .. })
            | OpenError::Home(_)
            | OpenError::Snapshot(SnapshotError::Damaged { .. } | SnapshotError::Head { .. })
    );
    if damaged { Ended::Refused(chain(&error)) } else { Ended::failed(&error) }
}

async fn propose(replica: Replica<Journal>, term: u64, proposer: u64) -> Ended {
    for number in 0_u64.. {
        let name = format!("{term}.{proposer}.{number}");
        let padding = "x".repeat(if number % 50 == 7 { 90_000 } else { number as usize % 300 });
        match replica.propose(format!("{name} {padding}").into_bytes()).await {
            Ok((index, _)) => say(&format!("ack entry {index} {name}")),
            Err(error) => return Ended::failed(&error),
        }
    }
    unreachable!("nobody counts that far")
}

fn name_of(command: &[u8]) -> String {
    String::from_utf8_lossy(command.split(|byte| *byte == b' ').next().unwrap_or_default()).into_owned()
}

/// Everything acknowledged is there, nothing else than was proposed is there, and no vote was forgotten.
fn check(order: &Order, applied: &[(u64, Vec<u8>)], term: u64, cluster: &str) -> Result<(), Ended> {
    let found: BTreeMap<u64, String> = applied.iter().map(|(index, command)| (*index, name_of(command))).collect();
    let wrong = |what: String| Err(Ended::Wrong(what));
    for ack in &order.acks {
        let words: Vec<&str> = ack.split(' ').collect();
        match words[..] {
            ["cluster", formed] if formed != cluster => return wrong(format!("it was {formed} and is {cluster}")),
            ["term", before] if before.parse::<u64>().is_ok_and(|before| before >= term) => {
                return wrong(format!("term {term} after {before}: the vote was lost"));
            }
            ["entry", index, name] => {
                let index = index.parse().expect("an index is a number");
                if found.get(&index).map(String::as_str) != Some(name) {
                    return wrong(format!("entry {index} was {name} and is {:?}", found.get(&index)));
                }
            }
            _ => {}
        }
    }
    let foreign = found.values().find(|name| name.split('.').count() != 3);
    foreign.map_or(Ok(()), |name| wrong(format!("{name} was never proposed")))
}
