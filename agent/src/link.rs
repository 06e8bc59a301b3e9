//! The link to the coordinator: finds it, keeps the session, says everything anew after each loss.
//!
//! Owns connection and backoff. Invariant: a lost link changes nothing about what runs; the lease file is renewed only while a
//! session lives, and only after what its coordinator wants was acted upon.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flowyard_model::{
    Desired, Fence, Incarnation, Inventory, NodeId, RegisterNode, Rendezvous, Revision, StuckLimits, Term,
};
use flowyard_proto::agent::agents_client::AgentsClient;
use flowyard_proto::agent::{
    AgentMessage, CoordinatorMessage, Devices, Heartbeat, Hello, Observed, Welcome, agent_message, coordinator_message,
};
use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::attempt::Desk;
use crate::backoff::Backoff;
use crate::fleet::{Reach, Unreached};
use crate::journal::Registration;
use crate::lease;
use crate::outgoing::Outgoing;
use crate::reconciler::{Everything, Reconciler, ReconcilerMessage};
use crate::relay;
use crate::session::{Session, SessionError};

/// Messages on their way to the coordinator.
const OUTBOX: usize = 16;
/// Largest message taken: the beginning of a session names everything.
const MESSAGE_BYTES: usize = 256 * 1024 * 1024;

/// Metadata in which a coordinator that does not lead says who does.
const LEADER: &str = "flowyard-leader";
/// Redirects in a row that are followed without a wait.
const REDIRECTS: u32 = 3;

/// Below every fence.
const NO_FENCE: Fence = Fence { term: Term(0), revision: Revision(0) };

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the coordinator answered: {}", .0.message())]
    Status(#[from] Status),
    #[error(transparent)]
    Unreached(#[from] Unreached),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("the coordinator sent what this agent cannot read: {0}")]
    Unreadable(String),
    #[error("the coordinator closed the session")]
    Closed,
    #[error("the coordinator speaks for epoch {got} of the cluster, and {known} was seen before")]
    OldEpoch { known: u32, got: u32 },
    #[error("the agent is shutting down")]
    Gone,
}

/// The actor. It has no messages: it moves between the coordinator and the reconciler.
pub(crate) struct Link {
    desk: Arc<Desk>,
    reach: Reach,
    reconciler: ActorRef<Reconciler>,
    outgoing: Outgoing,
    /// The highest epoch of the cluster that was seen, and within it the highest fence.
    epoch: u32,
    highest: Fence,
    backoff: Backoff,
    /// How often in a row another coordinator was named as the leader.
    redirects: u32,
    /// Why the last session was lost, until there is another.
    trouble: watch::Sender<Option<String>>,
}

/// One session's ends.
struct Open {
    /// To this coordinator and no other: relays are asked for by number.
    channel: Channel,
    said: Streaming<CoordinatorMessage>,
    outbox: mpsc::Sender<AgentMessage>,
    session: Session,
    heartbeat: Duration,
    lease_ms: u64,
}

impl Link {
    /// What it is made from.
    pub(crate) fn new(
        desk: Arc<Desk>,
        reach: Reach,
        reconciler: ActorRef<Reconciler>,
        outgoing: Outgoing,
        epoch: u32,
    ) -> Self {
        let trouble = watch::Sender::new(None);
        Self {
            desk,
            reach,
            reconciler,
            outgoing,
            epoch,
            highest: NO_FENCE,
            backoff: Backoff::default(),
            redirects: 0,
            trouble,
        }
    }

    /// Says why there is no session.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// One session from its beginning to its end; always an error, since only losing it ends it.
    async fn session(&mut self) -> Result<Infallible, LinkError> {
        let mut open = self.connect().await?;
        self.backoff = Backoff::default();
        self.redirects = 0;
        self.trouble.send_replace(None);
        self.desk.counts.sessions.fetch_add(1, Ordering::Relaxed);
        self.desk.counts.connected.store(1, Ordering::Relaxed);
        let mut heartbeat = beats(Duration::ZERO, open.heartbeat);
        // What was seen before is said at the beginning, if there is any: the registration does not say why.
        let mut seen = Box::pin(self.desk.health.news(true));
        loop {
            tokio::select! {
                said = open.said.message() => {
                    let said = said?.ok_or(LinkError::Closed)?;
                    self.on_said(said, &mut open).await?;
                }
                reports = self.outgoing.take() => {
                    let now_ms = flowyard_clock::boot_ms();
                    reports.into_values().for_each(|report| open.session.report(report, now_ms));
                }
                () = due(open.session.due_ms()) => {}
                () = &mut seen => {
                    seen = Box::pin(self.desk.health.news(false));
                    let devices = self.desk.health.reports().iter().map(Into::into).collect();
                    send(&open, agent_message::Message::Devices(Devices { devices })).await?;
                }
                _ = heartbeat.tick() => {
                    let beat = Heartbeat { sent_at_ms: flowyard_clock::boot_ms(), every_ms: None };
                    send(&open, agent_message::Message::Heartbeat(beat)).await?;
                }
            }
            if heartbeat.period() != open.heartbeat {
                heartbeat = beats(open.heartbeat, open.heartbeat);
            }
            while let Some((sequence, batch)) = open.session.next_batch(flowyard_clock::boot_ms()) {
                let reports = batch.iter().map(Into::into).collect();
                send(&open, agent_message::Message::Observed(Observed { sequence, reports })).await?;
            }
        }
    }

    async fn connect(&mut self) -> Result<Open, LinkError> {
        // What was reported before is part of everything.
        self.outgoing.clear();
        let everything = self.everything().await?;
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let channel = self.reach.channel().await?;
        let (hello, said_at_ms) = (self.hello(&everything).await, flowyard_clock::boot_ms());
        let _ = outbox.send(AgentMessage { message: Some(agent_message::Message::Hello(hello)) }).await;
        let mut said = client(&channel).session(ReceiverStream::new(outgoing)).await?.into_inner();
        let welcome = match said.message().await?.and_then(|said| said.message) {
            Some(coordinator_message::Message::Welcome(welcome)) => welcome,
            _ => return Err(LinkError::Unreadable("the first message was no welcome".to_owned())),
        };
        self.on_welcome(&welcome).await?;
        Ok(Open {
            channel,
            said,
            outbox,
            session: Session::begin(said_at_ms),
            heartbeat: beat(welcome.heartbeat_ms),
            lease_ms: welcome.lease_ms,
        })
    }

    /// Whether a coordinator that follows named its leader, who is then asked at once; unless they name each other.
    fn is_redirected(&mut self, error: &LinkError) -> bool {
        let LinkError::Status(status) = error else { return false };
        let leader = status.metadata().get(LEADER).and_then(|leader| leader.to_str().ok());
        let Some(leader) = leader.filter(|_| self.redirects < REDIRECTS) else { return false };
        self.redirects += 1;
        self.reach.led_by(leader)
    }

    async fn everything(&self) -> Result<Everything, LinkError> {
        let (ask, answer) = oneshot::channel();
        self.reconciler.tell(ReconcilerMessage::Observed(ask)).await.map_err(|_| LinkError::Gone)?;
        answer.await.map_err(|_| LinkError::Gone)
    }

    /// Where gangs meet here; nowhere if nobody knows by what this host is reached.
    async fn rendezvous(&self) -> Option<Rendezvous> {
        let config = &self.desk.config;
        let address = match &config.address {
            Some(address) => address.clone(),
            None => self.reach.own_address().await?.to_string(),
        };
        Some(Rendezvous { address, ports: config.gang_ports })
    }

    async fn hello(&self, everything: &Everything) -> Hello {
        let before = everything.registered.as_ref();
        let mut inventory = Inventory { rendezvous: self.rendezvous().await, ..(*self.desk.inventory).clone() };
        for gpu in &mut inventory.gpus {
            gpu.healthy &= self.desk.health.is_well(&gpu.id);
        }
        let register = RegisterNode {
            name: self.desk.config.name.clone(),
            inventory: Arc::new(inventory),
            previous: before.map(|before| (before.node, before.incarnation)),
        };
        Hello {
            cluster: before.map_or_else(String::new, |before| before.cluster.clone()),
            epoch: before.map_or(0, |before| before.epoch),
            ..flowyard_proto::request::to_hello(&register, &everything.reports)
        }
    }

    async fn on_welcome(&mut self, welcome: &Welcome) -> Result<(), LinkError> {
        if welcome.epoch < self.epoch {
            return Err(LinkError::OldEpoch { known: self.epoch, got: welcome.epoch });
        }
        if welcome.epoch > self.epoch {
            // Terms and revisions of another history say nothing about this one's.
            (self.epoch, self.highest) = (welcome.epoch, NO_FENCE);
        }
        let (node, incarnation) = (NodeId(welcome.node), Incarnation(welcome.incarnation));
        tracing::info!(%node, %incarnation, cluster = welcome.cluster, "connected to the coordinator");
        let limits = welcome.stuck.map_or(StuckLimits::STANDARD, flowyard_proto::request::stuck_limits);
        self.desk.store.give_up_after(limits.fetching_ms);
        self.desk.stuck.send_replace(limits);
        self.reach.learn(welcome.addresses.clone());
        let (cluster, epoch) = (welcome.cluster.clone(), welcome.epoch);
        self.desk.cluster.send_replace(cluster.clone());
        let message = ReconcilerMessage::Registered(Registration { cluster, epoch, node, incarnation });
        self.reconciler.tell(message).await.map_err(|_| LinkError::Gone)
    }

    async fn on_said(&mut self, said: CoordinatorMessage, open: &mut Open) -> Result<(), LinkError> {
        match said.message {
            Some(coordinator_message::Message::Desired(desired)) => {
                let desired = Desired::try_from(desired).map_err(|error| LinkError::Unreadable(error.to_string()))?;
                open.session.receive(&desired, &mut self.highest)?;
                let first = desired.all;
                let acted = self.reconciler.ask(ReconcilerMessage::Desired(desired));
                acted.await.map_err(|_| LinkError::Gone)?;
                if first {
                    self.renew_lease(open);
                }
            }
            Some(coordinator_message::Message::Acknowledged(acknowledged)) => {
                open.session.acknowledge(acknowledged.sequence);
            }
            Some(coordinator_message::Message::OpenRelay(request)) => {
                relay::open(Arc::clone(&self.desk), client(&open.channel), request);
            }
            Some(coordinator_message::Message::Heartbeat(answered)) => {
                // A coordinator of the first release does not say what it answers; it has no others that could give a node up
                // behind its back.
                let now_ms = flowyard_clock::boot_ms();
                open.session.answered(if answered.sent_at_ms == 0 { now_ms } else { answered.sent_at_ms });
                open.heartbeat = answered.every_ms.map_or(open.heartbeat, beat);
                self.renew_lease(open);
            }
            Some(coordinator_message::Message::Welcome(_)) | None => {
                return Err(LinkError::Unreadable("an unexpected message".to_owned()));
            }
        }
        Ok(())
    }
}

impl Link {
    fn renew_lease(&self, open: &Open) {
        if let Some(from_ms) = open.session.lease_from() {
            let until_ms = from_ms.saturating_add(open.lease_ms);
            self.desk.counts.lease_until_ms.store(until_ms, Ordering::Relaxed);
            lease::renew(&self.desk.config.lease_file(), until_ms);
        }
    }
}

/// What a coordinator asks for, within reason.
fn beat(told_ms: u64) -> Duration {
    Duration::from_millis(told_ms.clamp(10, 60_000))
}

/// Signs of life: the first after `first`, then one in each `period`.
fn beats(first: Duration, period: Duration) -> Interval {
    let mut beats = tokio::time::interval_at(Instant::now() + first, period);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// Waits until a moment of boot time; for ever if there is none.
async fn due(at_ms: Option<u64>) {
    match at_ms {
        Some(at_ms) => {
            tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(flowyard_clock::boot_ms()))).await;
        }
        None => std::future::pending().await,
    }
}

fn client(channel: &Channel) -> AgentsClient<Channel> {
    AgentsClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES)
}

async fn send(open: &Open, message: agent_message::Message) -> Result<(), LinkError> {
    open.outbox.send(AgentMessage { message: Some(message) }).await.map_err(|_| LinkError::Closed)
}

impl Actor for Link {
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
            let lost = tokio::select! {
                biased;
                signal = mailbox.recv() => return Ok(signal),
                lost = self.session() => lost,
            };
            // An outage of the control plane never kills work: what does not move may be theirs to give.
            self.desk.counts.connected.store(0, Ordering::Relaxed);
            self.desk.counts.losses.fetch_add(1, Ordering::Relaxed);
            self.desk.stuck.send_replace(StuckLimits::PAUSED);
            self.desk.store.give_up_after(0);
            match lost {
                Ok(never) => match never {},
                Err(LinkError::Gone) => return Ok(None),
                Err(error) => {
                    if self.is_redirected(&error) {
                        continue;
                    }
                    self.reach.try_another();
                    tracing::warn!(error = &error as &dyn std::error::Error, "the session was lost");
                    self.trouble.send_replace(Some(error.to_string()));
                }
            }
            tokio::select! {
                biased;
                signal = mailbox.recv() => return Ok(signal),
                () = tokio::time::sleep(self.backoff.wait()) => {}
            }
        }
    }
}
