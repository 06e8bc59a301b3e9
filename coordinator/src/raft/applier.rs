//! The Applier: runs inside the Raft library's state-machine task and is the only one that changes the [`Machine`].
//!
//! Invariant: replies leave after [`Machine::after_batch`], so whoever has a reply also finds its effect in the view.
//! Invariant: a panic while applying ends the process; a machine that failed halfway is never used again.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{BasicNode, EntryPayload, OptionalSend};
use tokio::sync::watch;

use super::machine::Machine;
use super::snapshot::{SnapshotError, SnapshotFile, SnapshotFolder};
use super::types::{Carried, CommittedLeader, Entry, LogId, Proposal, SnapshotMeta, StoredMembership, Types};

type LibrarySnapshot = Snapshot<CommittedLeader, u64, BasicNode, SnapshotFile>;

/// Owns the machine.
pub(super) struct Applier<M: Machine> {
    /// Never contended: only `&mut self` reaches it. The mutex makes a machine that is only `Send` shareable in type. Empty
    /// while a snapshot is restored on another thread, and for good when that failed.
    machine: Mutex<Option<M>>,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Arc<SnapshotFolder>,
    /// The term of the last applied entry: a leader is ready once it is its own.
    applied_term: watch::Sender<u64>,
}

impl<M: Machine> Applier<M> {
    pub(super) fn new(machine: M, snapshots: Arc<SnapshotFolder>, applied_term: watch::Sender<u64>) -> Self {
        Self {
            machine: Mutex::new(Some(machine)),
            applied: None,
            membership: StoredMembership::default(),
            snapshots,
            applied_term,
        }
    }

    fn machine(&mut self) -> io::Result<&mut M> {
        let machine = self.machine.get_mut().unwrap_or_else(PoisonError::into_inner);
        machine.as_mut().ok_or_else(|| io::Error::other("the machine was lost in a failed restore"))
    }

    fn apply_one(&mut self, entry: Entry) -> io::Result<Carried<M::Reply>> {
        let log_id = entry.log_id;
        let reply = match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(log_id), membership);
                None
            }
            EntryPayload::Normal(Proposal(payload)) => {
                let machine = self.machine()?;
                Some(without_unwinding(|| machine.apply(log_id.index(), &payload)))
            }
        };
        self.applied = Some(log_id);
        Ok(Carried(reply))
    }

    fn end_batch(&mut self) -> io::Result<()> {
        let Some(applied) = self.applied else { return Ok(()) };
        let machine = self.machine()?;
        without_unwinding(|| machine.after_batch(applied.index()));
        let term = applied.committed_leader_id().term;
        self.applied_term.send_if_modified(|known| std::mem::replace(known, term) != term);
        Ok(())
    }
}

/// Runs a step of the machine; a panic in it ends the process.
fn without_unwinding<T>(step: impl FnOnce() -> T) -> T {
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            tracing::error!("the machine panicked; stopping the process, the log is kept");
            std::process::abort();
        }
    }
    let abort = Abort;
    let done = step();
    std::mem::forget(abort);
    done
}

fn io_error(error: SnapshotError) -> io::Error {
    io::Error::other(error)
}

impl<M: Machine> RaftStateMachine<Types<M::Reply>> for Applier<M> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotWriter<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types<M::Reply>>, io::Error>> + Unpin + OptionalSend,
    {
        let mut replies = Vec::new();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let reply = self.apply_one(entry)?;
            replies.extend(responder.map(|responder| (responder, reply)));
        }
        self.end_batch()?;
        for (responder, reply) in replies {
            responder.send(reply);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotWriter<M> {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        let copy = self.machine().ok().map(|machine| machine.snapshot());
        SnapshotWriter { meta, copy: Mutex::new(copy), snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> Result<(), io::Error> {
        let machine = self.machine.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut machine = machine.ok_or_else(|| io::Error::other("the machine was lost in a failed restore"))?;
        let (snapshots, expected) = (self.snapshots.clone(), meta.clone());
        let restored = tokio::task::spawn_blocking(move || {
            let is_current =
                snapshots.current().is_some_and(|(held, file)| held == expected && file.path() == snapshot.path());
            if !is_current {
                // The current one was verified when its folder was opened; a received one was not yet.
                snapshot.verified_meta()?;
                snapshots.adopt(&expected, snapshot.path())?;
            }
            snapshot.restore(|input| machine.restore(input))?;
            Ok(machine)
        });
        let machine = restored.await.map_err(io::Error::other)?.map_err(io_error)?;
        self.machine = Mutex::new(Some(machine));
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.end_batch()
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<LibrarySnapshot>, io::Error> {
        Ok(self.snapshots.current().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes one copy of the machine down while the machine goes on.
pub(super) struct SnapshotWriter<M: Machine> {
    meta: SnapshotMeta,
    copy: Mutex<Option<M::Snapshot>>,
    snapshots: Arc<SnapshotFolder>,
}

impl<M: Machine> RaftSnapshotBuilder<Types<M::Reply>> for SnapshotWriter<M> {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<LibrarySnapshot, io::Error> {
        let copy = self.copy.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let copy = copy.ok_or_else(|| io::Error::other("no machine to take a snapshot of"))?;
        let (snapshots, meta) = (self.snapshots.clone(), self.meta.clone());
        let written = tokio::task::spawn_blocking(move || {
            snapshots.write(&meta, |out| M::encode(&copy, out)).map(|snapshot| Snapshot { meta, snapshot })
        });
        written.await.map_err(io::Error::other)?.map_err(io_error)
    }
}
