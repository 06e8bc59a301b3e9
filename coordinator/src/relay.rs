//! Streams between a client of the API and an agent: live logs, and commands run beside a task. Agents connect outward only, so
//! the coordinator asks for a relay over the session, and the agent calls back with its number.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flowyard_model::{MemberKey, NodeId};
use flowyard_proto::agent::{
    CoordinatorMessage, OpenRelay, RelayFromAgent, RelayToAgent, coordinator_message, open_relay, relay_from_agent,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::session::Directory;
use crate::standing::{Answers, Standing, while_standing};

/// How long an agent has to call back.
const CALL_BACK: Duration = Duration::from_secs(10);
/// Messages on their way to an agent.
const TO_AGENT: usize = 16;

/// A request that the agent of this node has not called back for yet.
type Waiting = (NodeId, oneshot::Sender<Relay>);

/// The requests that agents have not called back for yet.
#[derive(Clone)]
pub struct Relays {
    waiting: Arc<Mutex<BTreeMap<u64, Waiting>>>,
    next: Arc<AtomicU64>,
    directory: Directory,
}

/// An open relay: what the agent says, and where it is told.
pub struct Relay {
    /// What the agent says.
    pub said: Streaming<RelayFromAgent>,
    /// Where it is told.
    pub tell: mpsc::Sender<Result<RelayToAgent, Status>>,
    /// Done when the agent may not speak any more.
    lost: Pin<Box<dyn Future<Output = Status> + Send>>,
}

impl Relay {
    /// The next message of the agent; its own failure comes as a status.
    pub async fn next(&mut self) -> Result<Option<relay_from_agent::Message>, Status> {
        let said = tokio::select! {
            biased;
            status = &mut self.lost => return Err(status),
            said = self.said.message() => said?,
        };
        match said.and_then(|said| said.message) {
            Some(relay_from_agent::Message::Failed(why)) => Err(Status::failed_precondition(why)),
            other => Ok(other),
        }
    }
}

impl Relays {
    /// No relay is open.
    pub fn none(directory: Directory) -> Self {
        Self { waiting: Arc::new(Mutex::new(BTreeMap::new())), next: Arc::new(AtomicU64::new(1)), directory }
    }

    /// Asks the agent of `node` to call back.
    ///
    /// # Errors
    /// When the node is not connected, or does not call back in time.
    pub async fn open(&self, node: NodeId, member: MemberKey, kind: open_relay::Kind) -> Result<Relay, Status> {
        self.ask(node, Some(member), kind).await
    }

    /// Asks the agent of `node` to call back about itself.
    ///
    /// # Errors
    /// As [`Relays::open`].
    pub(crate) async fn open_to_agent(&self, node: NodeId, kind: open_relay::Kind) -> Result<Relay, Status> {
        self.ask(node, None, kind).await
    }

    async fn ask(&self, node: NodeId, member: Option<MemberKey>, kind: open_relay::Kind) -> Result<Relay, Status> {
        let away = || Status::unavailable(format!("node {node} is not connected now; try again when it is"));
        let agent = self.directory.find(node).ok_or_else(away)?;
        let relay = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(relay, (node, sender));
        let request = OpenRelay { relay, member: member.map(Into::into), kind: Some(kind) };
        let message = CoordinatorMessage { message: Some(coordinator_message::Message::OpenRelay(request)) };
        let opened = async {
            agent.outbox.send(Ok(message)).await.map_err(|_| away())?;
            receiver.await.map_err(|_| away())
        };
        let opened = tokio::time::timeout(CALL_BACK, opened).await;
        self.lock().remove(&relay);
        opened.map_err(|_| Status::unavailable(format!("node {node} did not answer in time")))?
    }

    /// An agent calls back, and may speak for the node that was asked.
    pub(crate) async fn accept(
        &self,
        standing: Standing,
        mut said: Streaming<RelayFromAgent>,
        may: impl Fn(NodeId) -> Result<(), Status>,
    ) -> Result<Response<Answers<RelayToAgent>>, Status> {
        let first = tokio::time::timeout(CALL_BACK, said.message()).await;
        let slow = |_| Status::deadline_exceeded("a relay begins with its number, at once");
        let first = first.map_err(slow)??.and_then(|said| said.message);
        let Some(relay_from_agent::Message::Relay(number)) = first else {
            return Err(Status::invalid_argument("a relay begins with its number"));
        };
        standing.check()?;
        let unknown = || Status::not_found("nobody waits for this relay any more");
        let node = self.lock().get(&number).map(|(node, _)| *node).ok_or_else(unknown)?;
        may(node)?;
        let (_, waiting) = self.lock().remove(&number).ok_or_else(unknown)?;
        let (tell, told) = mpsc::channel(TO_AGENT);
        let lost = Box::pin(standing.clone().lost());
        waiting
            .send(Relay { said, tell, lost })
            .map_err(|_| Status::cancelled("nobody waits for this relay any more"))?;
        Ok(Response::new(while_standing(standing, Box::pin(ReceiverStream::new(told)))))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
