//! A replica that begins with a machine instead of from nothing, and the machine that a replica left behind: what restoring a
//! backup and recovering a lost majority are made of. Neither takes part in a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use openraft::{BasicNode, EntryPayload};

use super::engine::{Ballot, EngineError, EngineKind, LogEngine, LogPoint, Op, open_log};
use super::entry_record::decode_entry;
use super::home::{Home, HomeError, Identity, Start};
use super::machine::Machine;
use super::replica::OpenError;
use super::role::{Fault, Peer};
use super::snapshot::SnapshotFolder;
use super::types::{Membership, Proposal, SnapshotMeta, StoredMembership, log_id, log_point};

/// Bytes of entries that are read at once.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// The beginning of a history.
#[derive(Debug, Clone)]
pub struct Seed {
    /// Who the replica is. It alone votes.
    pub identity: Identity,
    /// Where others reach it.
    pub address: String,
    /// The engine of its log.
    pub engine: EngineKind,
    /// The term of the history before; the next leader's is higher.
    pub term: u64,
    /// The index of the last entry that the machine has applied.
    pub index: u64,
}

/// Makes an empty folder a replica whose machine is this one. What was begun and cut short is begun anew.
///
/// # Errors
/// When the folder is another replica's, or cannot be written.
pub fn plant<M: Machine>(folder: &Path, seed: &Seed, machine: &M::Snapshot) -> Result<(), OpenError> {
    let mut home = Home::open(folder, seed.engine, Start::Join(seed.identity))?;
    let point = LogPoint { term: seed.term, index: seed.index };
    let replica = seed.identity.replica;
    let members = BTreeMap::from([(replica, BasicNode { addr: seed.address.clone() })]);
    let membership = Membership::new(vec![BTreeSet::from([replica])], members);
    let membership = membership.map_err(|error| Fault { what: error.to_string() })?;
    let last = log_id(point);
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership: StoredMembership::new(Some(last), membership) };
    SnapshotFolder::open(&home.snapshot_folder())?.write(&meta, |out| M::encode(machine, out))?;
    let log = open_log(home.engine(), &home.log_folder())?;
    let vote = Op::PutVote(Ballot { term: seed.term, candidate: replica, granted: false });
    let begun = settle(&log, vec![vote, Op::PurgeTo(point), Op::PutCommitted(Some(point))]);
    log.close();
    begun.map_err(|error| Fault { what: error.to_string() })?;
    home.set_formed()?;
    Ok(())
}

fn settle(log: &dyn LogEngine, ops: Vec<Op>) -> Result<(), EngineError> {
    let (done, settled) = sync_channel(1);
    log.submit(ops, Box::new(move |result| drop(done.send(result))))?;
    settled.recv().map_err(|_| EngineError::Closed)?
}

/// What a replica that does not run has on its disk. Its folder stays locked as long as this is kept.
pub struct Recalled {
    /// Who it is.
    pub identity: Identity,
    /// The engine of its log.
    pub engine: EngineKind,
    /// The highest term it knows of.
    pub term: u64,
    /// The last entry that it has.
    pub last: u64,
    /// Up to which entry it knew that a majority had it.
    pub committed: u64,
    /// The members of the cluster, with whether they vote.
    pub members: Vec<(Peer, bool)>,
    _home: Home,
}

/// Reads all that a replica has into `machine`, also the entries of which it does not know whether a majority had them: each of
/// them may have been acknowledged.
///
/// # Errors
/// When the replica runs, has promised nothing yet, or is damaged.
pub fn recall<M: Machine>(folder: &Path, machine: &mut M) -> Result<Recalled, OpenError> {
    // Asking for one that must exist keeps an empty folder from becoming a replica.
    let home = Home::open(folder, EngineKind::default(), Start::Reopen)?;
    if !home.formed() {
        return Err(HomeError::Vacant { folder: folder.to_owned() }.into());
    }
    let log = open_log(home.engine(), &home.log_folder())?;
    let recalled = recall_from(home, &log, machine);
    log.close();
    recalled
}

fn recall_from<M: Machine>(home: Home, log: &dyn LogEngine, machine: &mut M) -> Result<Recalled, OpenError> {
    let (mut applied, mut membership) = (None, StoredMembership::default());
    if let Some((meta, file)) = SnapshotFolder::open(&home.snapshot_folder())?.current() {
        file.restore(|input| machine.restore(input))?;
        (applied, membership) = (meta.last_log_id.as_ref().map(log_point), meta.last_membership);
    }
    let state = log.state();
    let unread = |error: EngineError| Fault { what: error.to_string() };
    let mut next = applied.map_or(0, |point| point.index + 1);
    loop {
        let records = log.read(next..u64::MAX, READ_BYTES).map_err(unread)?;
        if records.is_empty() {
            break;
        }
        for record in records {
            let point = record.point;
            if point.index != next {
                return Err(Fault { what: format!("entry {next} is in neither log nor snapshot") }.into());
            }
            let entry = decode_entry(record).map_err(|error| Fault { what: error.to_string() })?;
            match entry.payload {
                EntryPayload::Normal(Proposal(payload)) => drop(machine.apply(point.index, &payload)),
                EntryPayload::Membership(changed) => {
                    membership = StoredMembership::new(Some(log_id(point)), changed);
                }
                EntryPayload::Blank => {}
            }
            (applied, next) = (Some(point), point.index + 1);
        }
    }
    let last = applied.ok_or_else(|| Fault { what: io::ErrorKind::NotFound.to_string() })?;
    machine.after_batch(last.index);
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let members = membership.membership().nodes();
    let members = members.map(|(id, node)| (Peer { replica: *id, address: node.addr.clone() }, voters.contains(id)));
    Ok(Recalled {
        identity: home.identity(),
        engine: home.engine(),
        term: last.term.max(state.vote.map_or(0, |vote| vote.term)),
        last: last.index,
        committed: state.committed.map_or(0, |point| point.index),
        members: members.collect(),
        _home: home,
    })
}
