//! Proposes `Tick` when the next deadline of the state is due. One deadline, one command; nothing periodic.

use std::convert::Infallible;
use std::time::Duration;

use flowyard_model::{Command, TimeMs};
use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};
use tokio::sync::watch;

use crate::feed::Feed;
use crate::proposer::Proposer;
use crate::stamps::Stamps;

/// Wait before a refused tick is proposed again.
const RETRY: Duration = Duration::from_millis(200);
/// Longest sleep: the cluster's time may run slower or faster than ours while we sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The actor. It has no messages: it follows the deadline that the applier publishes.
pub(crate) struct Timekeeper {
    proposer: Proposer,
    stamps: Stamps,
    deadline: watch::Receiver<Option<TimeMs>>,
}

impl Timekeeper {
    /// What it is made from, anew at each term.
    pub(crate) fn new(proposer: Proposer, stamps: Stamps, feed: &Feed) -> Self {
        let mut deadline = feed.deadline();
        deadline.mark_changed();
        Self { proposer, stamps, deadline }
    }

    async fn due(&mut self) {
        loop {
            let deadline = *self.deadline.borrow_and_update();
            let sleep = deadline.map(|at| Duration::from_millis(at.0.saturating_sub(self.stamps.now().0)));
            match sleep {
                Some(Duration::ZERO) => return,
                Some(sleep) => {
                    tokio::select! {
                        () = tokio::time::sleep(sleep.min(LONGEST_SLEEP)) => {}
                        changed = self.deadline.changed() => if changed.is_err() { std::future::pending::<()>().await },
                    }
                }
                None => {
                    if self.deadline.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }
}

impl Actor for Timekeeper {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }

    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        mailbox: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        loop {
            tokio::select! {
                biased;
                signal = mailbox.recv() => return Ok(signal),
                () = self.due() => {}
            }
            if let Err(error) = self.proposer.propose(&Command::Tick).await {
                tracing::debug!(%error, "a tick was not taken");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
