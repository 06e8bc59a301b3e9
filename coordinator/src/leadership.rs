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
/// How long a coordinator that gave up leading and found nobody to take over waits before it tries again.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// Follows the replica's role, and has what only a leader does run exactly while it leads. It has no messages.
pub(crate) struct Leadership {
    shared: Shared,
    role: watch::Receiver<Role>,
    leading: Option<Leading>,
}

/// The supervisor of one term's actors. It restarts those that fail, and ends with the first that fails too often.
///
/// It is an actor of its own because the library takes an actor that is killed for one that failed, and has its supervisor
/// start it again: only what has no supervisor any more stays dead.
struct Supervisor;

/// The actors of one term.
struct Leading {
    term: Term,
    supervisor: ActorRef<Supervisor>,
    placer: ActorRef<Placer>,
    liveness: ActorRef<Liveness>,
    timekeeper: ActorRef<Timekeeper>,
    collector: ActorRef<Collector>,
    members: ActorRef<MembersWatch>,
}

impl Leading {
    async fn start(term: Term, shared: &Shared) -> Self {
        let supervisor = Supervisor::spawn(Supervisor);
        let proposer = shared.proposer.in_term(term);
        let (p, a) = (proposer.clone(), shared.clone());
        let placer =
            supervised(&supervisor, move || Placer::new(p.clone(), a.feed.clone(), a.config.stuck.accepting_ms)).await;
        let (p, a) = (proposer.clone(), shared.clone());
        let liveness = supervised(&supervisor, move || {
            Liveness::new(p.clone(), a.feed.clone(), a.heard.clone(), a.evidence.clone(), a.pace.clone())
        })
        .await;
        let (p, a) = (proposer.clone(), shared.clone());
        let timekeeper = supervised(&supervisor, move || Timekeeper::new(p.clone(), a.stamps.clone(), &a.feed)).await;
        let (p, a) = (proposer.clone(), shared.clone());
        let collector = supervised(&supervisor, move || Collector::new(a.clone(), p.clone())).await;
        let a = shared.clone();
        let members = supervised(&supervisor, move || MembersWatch::new(a.clone(), proposer.clone())).await;
        Self { term, supervisor, placer, liveness, timekeeper, collector, members }
    }

    /// Ends them for good; whatever they have proposed and the log has not taken yet, it refuses.
    async fn stop(self) {
        tracing::info!(term = %self.term, "not leading any more");
        self.supervisor.kill();
        self.placer.kill();
        self.liveness.kill();
        self.timekeeper.kill();
        self.collector.kill();
        self.members.kill();
        self.supervisor.wait_for_shutdown().await;
    }
}

impl Actor for Supervisor {
    type Args = Self;
    type Error = Infallible;

    fn supervision_strategy() -> SupervisionStrategy {
        SupervisionStrategy::OneForOne
    }

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }
}

async fn supervised<C>(supervisor: &ActorRef<Supervisor>, make: impl Fn() -> C + Send + Sync + 'static) -> ActorRef<C>
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

    async fn follow_role(&mut self) {
        let term = match &*self.role.borrow_and_update() {
            Role::Leader { term, ready: true } => Some(Term(*term)),
            _ => None,
        };
        if self.leading.as_ref().map(|leading| leading.term) == term {
            return;
        }
        if let Some(leading) = self.leading.take() {
            leading.stop().await;
        }
        if let Some(term) = term {
            tracing::info!(%term, "leading");
            self.shared.proposer.counts().leaderships.add(1);
            self.leading = Some(Leading::start(term, &self.shared).await);
        }
    }

    /// What a leader does fails again and again here: another coordinator may fare better.
    async fn give_up(&mut self) {
        tracing::error!("what a leader does failed too often; handing the leadership over");
        if let Some(leading) = self.leading.take() {
            leading.stop().await;
        }
        if let Err(error) = self.shared.replica.step_down().await {
            tracing::error!(%error, "nobody takes over; trying again");
            tokio::time::sleep(GIVEN_UP).await;
        }
        self.role.mark_changed();
    }
}

/// Returns when the actors of the term could not be kept running.
async fn failed(leading: Option<&Leading>) {
    match leading {
        Some(leading) => leading.supervisor.wait_for_shutdown().await,
        None => std::future::pending().await,
    }
}

impl Actor for Leadership {
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
                changed = self.role.changed() => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                    self.follow_role().await;
                }
                () = failed(self.leading.as_ref()) => self.give_up().await,
            }
        }
    }

    async fn on_stop(&mut self, _: WeakActorRef<Self>, _: ActorStopReason) -> Result<(), Infallible> {
        if let Some(leading) = self.leading.take() {
            leading.stop().await;
        }
        Ok(())
    }
}
