//! One hollow agent's session, and the next after each that is lost: what the agent's link does, without a disk.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use flowyard_agent::backoff::Backoff;
use flowyard_agent::session::{Session, SessionError};
use flowyard_identity::Doors;
use flowyard_model::{
    AttemptReport, Desired, Fence, Incarnation, Inventory, Name, NodeId, RegisterNode, Revision, Term,
};
use flowyard_proto::agent::agents_client::AgentsClient;
use flowyard_proto::agent::{
    AgentMessage, CoordinatorMessage, Heartbeat, Hello, Observed, Welcome, agent_message, coordinator_message,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

use crate::attempts::{Attempts, Now};
use crate::counts::Counts;
use crate::shake::Shake;

/// Messages on their way to the coordinator.
const OUTBOX: usize = 16;
/// Largest message taken, as an agent does.
const MESSAGE_BYTES: usize = 256 * 1024 * 1024;
/// Metadata in which a coordinator that does not lead says who does.
const LEADER: &str = "flowyard-leader";
/// Redirects in a row that are followed without a wait.
const REDIRECTS: u32 = 3;
/// As an agent asks its connection for signs of life.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// A coordinator that thousands come to at once may be slow to answer: leaving it would only make it slower.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(15);
/// Below every fence.
const NO_FENCE: Fence = Fence { term: Term(0), revision: Revision(0) };

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the coordinator answered: {}", .0.message())]
    Status(#[from] Status),
    #[error("the connection: {0}")]
    Transport(#[from] tonic::transport::Error),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("the coordinator sent what this agent cannot read: {0}")]
    Unreadable(String),
    #[error("the coordinator closed the session")]
    Closed,
    #[error("the connection was lost, as was asked for")]
    Shaken,
    #[error("the coordinator speaks for epoch {got} of the cluster, and {known} was seen before")]
    OldEpoch { known: u32, got: u32 },
}

/// What the cluster has given this node.
#[derive(Debug, Clone)]
struct Registration {
    cluster: String,
    node: NodeId,
    incarnation: Incarnation,
}

/// The agent of one node.
pub(crate) struct Link {
    pub(crate) name: Name,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) doors: Doors,
    pub(crate) attempts: Attempts,
    pub(crate) counts: Arc<Counts>,
    /// How many may connect at a time, of all.
    pub(crate) turn: Arc<Semaphore>,
    /// When connections are to be lost.
    shaken: watch::Receiver<Shake>,
    registered: Option<Registration>,
    epoch: u32,
    highest: Fence,
    redirects: u32,
}

/// One session's ends.
struct Open {
    said: Streaming<CoordinatorMessage>,
    outbox: mpsc::Sender<AgentMessage>,
    session: Session,
    heartbeat: Duration,
}

impl Link {
    pub(crate) fn new(
        name: Name,
        inventory: Arc<Inventory>,
        doors: Doors,
        attempts: Attempts,
        counts: Arc<Counts>,
        turn: Arc<Semaphore>,
    ) -> Self {
        Self {
            name,
            inventory,
            doors,
            attempts,
            counts,
            turn,
            shaken: watch::channel(Shake::default()).1,
            registered: None,
            epoch: 0,
            highest: NO_FENCE,
            redirects: 0,
        }
    }

    /// The same, that loses its connection as is told there.
    pub(crate) fn shaken(mut self, mut shaken: watch::Receiver<Shake>) -> Self {
        shaken.mark_unchanged();
        self.shaken = shaken;
        self
    }

    /// Keeps a session, for ever.
    pub(crate) async fn keep(mut self) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let lost = match self.connect().await {
                Ok(open) => {
                    (backoff, self.redirects) = (Backoff::default(), 0);
                    self.counts.add(&self.counts.sessions);
                    self.counts.add(&self.counts.connected);
                    let lost = self.session(open).await;
                    self.counts.connected.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                    self.counts.add(&self.counts.lost_sessions);
                    lost
                }
                Err(error) => error,
            };
            if self.is_redirected(&lost) {
                continue;
            }
            if let Some(first) = self.doors.addresses().first() {
                self.doors.avoid(first);
            }
            tracing::debug!(name = %self.name, error = &lost as &dyn std::error::Error, "the session was lost");
            self.counts.trouble(format!("{}: {}", self.name, cause(&lost)));
            tokio::time::sleep(backoff.wait()).await;
        }
    }

    async fn connect(&mut self) -> Result<Open, LinkError> {
        // Ten thousand handshakes at once would only make each other late.
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let (hello, said_at_ms) = (self.hello(), flowyard_clock::boot_ms());
        let _ = outbox.send(AgentMessage { message: Some(agent_message::Message::Hello(hello)) }).await;
        let channel = endpoint().connect_with_connector(self.doors.clone()).await?;
        let mut client = AgentsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        let mut said = client.session(ReceiverStream::new(outgoing)).await?.into_inner();
        let welcome = match said.message().await?.and_then(|said| said.message) {
            Some(coordinator_message::Message::Welcome(welcome)) => welcome,
            _ => return Err(LinkError::Unreadable("the first message was no welcome".to_owned())),
        };
        drop(turn);
        self.welcomed(&welcome)?;
        Ok(Open { said, outbox, session: Session::begin(said_at_ms), heartbeat: beat(welcome.heartbeat_ms) })
    }

    fn hello(&self) -> Hello {
        let before = self.registered.as_ref();
        let register = RegisterNode {
            name: self.name.clone(),
            inventory: Arc::clone(&self.inventory),
            previous: before.map(|before| (before.node, before.incarnation)),
        };
        Hello {
            cluster: before.map_or_else(String::new, |before| before.cluster.clone()),
            epoch: self.epoch,
            ..flowyard_proto::request::to_hello(&register, &self.attempts.everything())
        }
    }

    fn welcomed(&mut self, welcome: &Welcome) -> Result<(), LinkError> {
        if welcome.epoch < self.epoch {
            return Err(LinkError::OldEpoch { known: self.epoch, got: welcome.epoch });
        }
        if welcome.epoch > self.epoch {
            (self.epoch, self.highest) = (welcome.epoch, NO_FENCE);
        }
        self.registered = Some(Registration {
            cluster: welcome.cluster.clone(),
            node: NodeId(welcome.node),
            incarnation: Incarnation(welcome.incarnation),
        });
        if !welcome.addresses.is_empty() {
            self.doors.replace(welcome.addresses.clone());
        }
        Ok(())
    }

    /// One session to its end.
    async fn session(&mut self, mut open: Open) -> LinkError {
        match self.talk(&mut open).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn talk(&mut self, open: &mut Open) -> Result<Infallible, LinkError> {
        let mut heartbeat = beats(Duration::ZERO, open.heartbeat);
        loop {
            let due_ms = [open.session.due_ms(), self.attempts.due_ms()].into_iter().flatten().min();
            let news = tokio::select! {
                said = open.said.message() => {
                    let said = said?.ok_or(LinkError::Closed)?;
                    self.hear(said, open)?
                }
                () = met(&mut self.shaken, &self.name) => return Err(LinkError::Shaken),
                () = due(due_ms) => self.attempts.pass(Now::of_clock()),
                _ = heartbeat.tick() => {
                    let beat = Heartbeat { sent_at_ms: flowyard_clock::boot_ms(), every_ms: None };
                    send(open, agent_message::Message::Heartbeat(beat)).await?;
                    Vec::new()
                }
            };
            if heartbeat.period() != open.heartbeat {
                heartbeat = beats(open.heartbeat, open.heartbeat);
            }
            self.tell(news, open).await?;
        }
    }

    fn hear(&mut self, said: CoordinatorMessage, open: &mut Open) -> Result<Vec<AttemptReport>, LinkError> {
        match said.message {
            Some(coordinator_message::Message::Desired(desired)) => {
                let desired = Desired::try_from(desired).map_err(|error| LinkError::Unreadable(error.to_string()))?;
                open.session.receive(&desired, &mut self.highest)?;
                return Ok(self.attempts.follow(&desired, Now::of_clock()));
            }
            Some(coordinator_message::Message::Acknowledged(acknowledged)) => {
                open.session.acknowledge(acknowledged.sequence);
            }
            Some(coordinator_message::Message::Heartbeat(answered)) => {
                open.session.answered(answered.sent_at_ms);
                open.heartbeat = answered.every_ms.map_or(open.heartbeat, beat);
            }
            // There is no log to read, and nothing to run a command beside.
            Some(coordinator_message::Message::OpenRelay(_)) => {}
            Some(coordinator_message::Message::Welcome(_)) | None => {
                return Err(LinkError::Unreadable("an unexpected message".to_owned()));
            }
        }
        Ok(Vec::new())
    }

    async fn tell(&self, news: Vec<AttemptReport>, open: &mut Open) -> Result<(), LinkError> {
        let now_ms = flowyard_clock::boot_ms();
        news.into_iter().for_each(|report| open.session.report(report, now_ms));
        while let Some((sequence, batch)) = open.session.next_batch(flowyard_clock::boot_ms()) {
            let reports = batch.iter().map(Into::into).collect();
            send(open, agent_message::Message::Observed(Observed { sequence, reports })).await?;
        }
        Ok(())
    }

    /// Whether a coordinator that follows named its leader, who is then asked at once; unless they name each other.
    fn is_redirected(&mut self, error: &LinkError) -> bool {
        let LinkError::Status(status) = error else { return false };
        let leader = status.metadata().get(LEADER).and_then(|leader| leader.to_str().ok());
        let Some(leader) = leader.filter(|_| self.redirects < REDIRECTS) else { return false };
        self.redirects += 1;
        let news = self.doors.addresses().first().is_none_or(|first| first != leader);
        self.doors.prefer(leader);
        news
    }
}

/// The address is only a name for HTTP; the connector decides where to go.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://flowyard").http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE_TIMEOUT)
}

/// As often as a coordinator asks for, within reason.
fn beat(told_ms: u64) -> Duration {
    Duration::from_millis(told_ms.clamp(10, 60_000))
}

/// Signs of life: the first after `first`, then one in each `period`.
fn beats(first: Duration, period: Duration) -> Interval {
    let mut beats = tokio::time::interval_at(Instant::now() + first, period);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// Waits until this agent is to lose its connection.
async fn met(shaken: &mut watch::Receiver<Shake>, name: &Name) {
    while shaken.changed().await.is_ok() {
        if shaken.borrow_and_update().meets(name) {
            return;
        }
    }
    std::future::pending().await
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

async fn send(open: &Open, message: agent_message::Message) -> Result<(), LinkError> {
    open.outbox.send(AgentMessage { message: Some(message) }).await.map_err(|_| LinkError::Closed)
}

/// An error with the cause at its bottom: a library's own words often say nothing.
fn cause(error: &LinkError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let (whole, cause) = (error.to_string(), cause.to_string());
    if whole.contains(&cause) { whole } else { format!("{whole}: {cause}") }
}
