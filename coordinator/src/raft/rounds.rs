//! Proposals go into the log by rounds: what arrives while rounds are under way goes together with the next one.
//!
//! An entry costs its signature, a message to each other replica, a barrier on each disk, an answer and a view that is told to all who
//! watch; several entries that travel together cost hardly more than one. So a proposal goes at once as long as few rounds are under
//! way, and else waits for the end of one, by which time others have come. There is no timer: a lone proposal never waits.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use openraft::raft::responder::Responder;
use openraft::{OptionalSend, RaftTypeConfig};
use tokio::sync::oneshot;

use super::machine::Machine;
use super::replica::Library;
use super::threads::Threads;
use super::types::{CommittedLeader, Proposal, Written};

/// Rounds under way at a time: one is on its way to the others while the next is taken.
const ROUNDS: usize = 2;
/// Entries of one round.
const ENTRIES_MAX: usize = 1_024;

/// The way of proposals into the log; clones are handles to the same.
pub(super) struct Rounds<M: Machine> {
    passage: Arc<Passage<M>>,
}

impl<M: Machine> Clone for Rounds<M> {
    fn clone(&self) -> Self {
        Self { passage: self.passage.clone() }
    }
}

struct Passage<M: Machine> {
    library: Library<M>,
    threads: Threads,
    line: Mutex<Line<M>>,
}

struct Line<M: Machine> {
    /// Empty unless as many rounds are under way as may be.
    waiting: VecDeque<Waiting<M>>,
    under_way: usize,
}

struct Waiting<M: Machine> {
    command: Bytes,
    term: Option<u64>,
    answer: oneshot::Sender<Written<M::Reply>>,
}

/// A round; it is over when all who hold it are gone, which is when everything in it was answered or given up.
struct Round<M: Machine>(Arc<Passage<M>>);

impl<M: Machine> Drop for Round<M> {
    fn drop(&mut self) {
        let next: Vec<_> = {
            let mut line = self.0.line();
            // Whoever was waited for and has gone has given back its room, and is passed over.
            line.waiting.retain(|waiting| !waiting.answer.is_closed());
            let count = line.waiting.len().min(ENTRIES_MAX);
            line.under_way -= usize::from(count == 0);
            line.waiting.drain(..count).collect()
        };
        if !next.is_empty() {
            let passage = self.0.clone();
            self.0.threads.spawn(async move {
                let round: Arc<Round<M>> = Arc::new(Round(passage));
                for waiting in next {
                    put(&round, waiting).await;
                }
            });
        }
    }
}

impl<M: Machine> Passage<M> {
    fn line(&self) -> MutexGuard<'_, Line<M>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Machine> Rounds<M> {
    pub(super) fn new(library: Library<M>, threads: Threads) -> Self {
        let line = Mutex::new(Line { waiting: VecDeque::new(), under_way: 0 });
        Self { passage: Arc::new(Passage { library, threads, line }) }
    }

    /// Puts a command into the log, with a `term` only in that one; what becomes of it. Nothing comes of it where the replica has
    /// stopped.
    pub(super) async fn put(&self, command: Bytes, term: Option<u64>) -> oneshot::Receiver<Written<M::Reply>> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { command, term, answer };
        let now = {
            let mut line = self.passage.line();
            if line.under_way < ROUNDS {
                line.under_way += 1;
                Some(waiting)
            } else {
                line.waiting.push_back(waiting);
                None
            }
        };
        if let Some(waiting) = now {
            put(&Arc::new(Round(self.passage.clone())), waiting).await;
        }
        answered
    }
}

async fn put<M: Machine>(round: &Arc<Round<M>>, waiting: Waiting<M>) {
    let responder = Answering { answer: waiting.answer, _round: round.clone() };
    let mut write = round.0.library.write(Proposal(waiting.command)).responder(responder);
    if let Some(term) = waiting.term {
        write = write.with_leader(CommittedLeader::new(term));
    }
    // Whoever waits for the answer hears that there is none.
    let _ = write.await;
}

/// Answers who has proposed, and keeps the round under way until then.
pub(super) struct Answering<T> {
    answer: oneshot::Sender<T>,
    _round: Arc<dyn Any + Send + Sync>,
}

impl<C: RaftTypeConfig, T: OptionalSend + 'static> Responder<C, T> for Answering<T> {
    fn on_complete(self, result: T) {
        // Nobody may wait for it any more.
        let _ = self.answer.send(result);
    }
}
