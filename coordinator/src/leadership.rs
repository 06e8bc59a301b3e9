//! Starts and stops what only a leader does, with each term.
//!
//! Its children hold only what can be lost: a new term builds them anew from the view.

use std::convert::Infallible;
use std::time::Duration;

use flowyard_model::Term;
use kameo::actor::{Actor, ActorRef, Spawn, WeakActorRef};
use kameo::error::ActorStopReason;
use kameo::mailbox::{MailboxReceiver, Signal};
use kameo::supervision::{RestartPolicy, SupervisionStrategy};
use tokio::sync::watch;

use crate::collector::Collector;
use crate::coordinator::Shared;
use crate::fleet::members::MembersWatch;
use crate::liveness::Liveness;
use crate::placer::Placer;
use crate::raft::Role;
use crate::timekeeper::Timekeeper;

/// Restarts of one child within [`RESTART_WINDOW`] before leading is given up.
const RESTARTS: u32 = 5;
/// See [`RESTARTS`].
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// The supervisor of a leader's actors. It has no messages: it follows the replica's role.
pub(crate) struct Leadership {
    shared: Shared,
    role: watch::Receiver<Role>,
    leading: Option<Leading>,
}

/// The actors of one term.
struct Leading {
    term: Term,
    placer: ActorRef<Placer>,
    liveness: ActorRef<Liveness>,
    timekeeper: ActorRef<Timekeeper>,
    collector: ActorRef<Collector>,
    members: ActorRef<MembersWatch>,
}

impl Leading {
    async fn start(term: Term, shared: &Shared, supervisor: &ActorRef<Leadership>) -> Self {
        let (a, b, c) = (shared.clone(), shared.clone(), shared.clone());
        let (d, e) = (shared.clone(), shared.clone());
        Self {
            term,
            placer: supervised(supervisor, move || Placer::new(a.proposer.clone(), a.feed.clone(), a.config.stuck.accepting_ms)).await,
            liveness: supervised(supervisor, move || {
                Liveness::new(b.proposer.clone(), b.feed.clone(), b.heard.clone(), b.config.timing)
            })
            .await,
            timekeeper: supervised(supervisor, move || Timekeeper::new(c.proposer.clone(), &c.feed)).await,
            collector: supervised(supervisor, move || Collector::new(d.clone())).await,
            members: supervised(supervisor, move || MembersWatch::new(e.clone())).await,
        }
    }

    fn stop(self) {
        tracing::info!(term = %self.term, "not leading any more");
        self.placer.kill();
        self.liveness.kill();
        self.timekeeper.kill();
        self.collector.kill();
        self.members.kill();
    }
}

async fn supervised<C>(supervisor: &ActorRef<Leadership>, make: impl Fn() -> C + Send + Sync + 'static) -> ActorRef<C>
where
    C: Actor<Args = C>,
{
    C::supervise_with(supervisor, make)
        .restart_policy(RestartPolicy::Transient)
        .restart_limit(RESTARTS, RESTART_WINDOW)
        .spawn()
        .await
}

impl Leadership {
    /// What it is made from.
    pub(crate) fn new(shared: Shared) -> Self {
        let mut role = shared.replica.role();
        role.mark_changed();
        Self { shared, role, leading: None }
    }

    async fn follow_role(&mut self, this: &ActorRef<Self>) {
        let term = match &*self.role.borrow_and_update() {
            Role::Leader { term, ready: true } => Some(Term(*term)),
            _ => None,
        };
        if self.leading.as_ref().map(|leading| leading.term) == term {
            return;
        }
        if let Some(leading) = self.leading.take() {
            leading.stop();
        }
        if let Some(term) = term {
            tracing::info!(%term, "leading");
            self.leading = Some(Leading::start(term, &self.shared, this).await);
        }
    }
}

impl Actor for Leadership {
    type Args = Self;
    type Error = Infallible;

    fn supervision_strategy() -> SupervisionStrategy {
        SupervisionStrategy::OneForOne
    }

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }

    async fn next(
        &mut self,
        this: WeakActorRef<Self>,
        mailbox: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        loop {
            tokio::select! {
                biased;
                signal = mailbox.recv() => return Ok(signal),
                changed = self.role.changed() => {
                    let (Ok(()), Some(this)) = (changed, this.upgrade()) else { return Ok(None) };
                    self.follow_role(&this).await;
                }
            }
        }
    }

    async fn on_stop(&mut self, _: WeakActorRef<Self>, _: ActorStopReason) -> Result<(), Infallible> {
        if let Some(leading) = self.leading.take() {
            leading.stop();
        }
        Ok(())
    }
}
