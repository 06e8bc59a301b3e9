//! A node as a coordinator sees it: an agent's certificate, and a session that a test leads by hand.

use std::time::Duration;

use flowyard_identity::{Certificate, Credential, Current, JoinToken, KeyRequest};
use flowyard_proto::agent::agents_client::AgentsClient;
use flowyard_proto::agent::{
    AgentMessage, CoordinatorMessage, Heartbeat, Hello, Welcome, agent_message, coordinator_message,
};
use flowyard_proto::api;
use flowyard_proto::cluster::entrance_client::EntranceClient;
use flowyard_proto::cluster::{AgentJoins, JoinRequest, join_request};
use flowyard_proto::peer::Joiner;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::house::{Host, to_join};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Signs of life after which a session that should end does not.
const BEATS: u64 = 100;

/// A session with one coordinator.
pub(crate) struct Session {
    pub(crate) welcome: Welcome,
    said: Streaming<CoordinatorMessage>,
    tell: mpsc::Sender<AgentMessage>,
}

/// What a machine offers; nothing is run on it.
pub(crate) fn inventory() -> api::Inventory {
    let abilities = api::Abilities { containers: true, host_image: true, ..Default::default() };
    api::Inventory { cpu_milli: 4_000, memory_bytes: 1 << 30, abilities: Some(abilities), ..Default::default() }
}

/// The certificate of an agent that joins under this name.
pub(crate) async fn join(host: &Host, name: &str) -> Current {
    let token: JoinToken = host.token(to_join(Joiner::Agent)).await.parse().unwrap();
    let key = KeyRequest::generate().unwrap();
    let request = JoinRequest {
        token: token.id.0,
        secret: token.secret.bytes().to_vec().into(),
        request: key.bytes().to_vec().into(),
        joiner: Some(join_request::Joiner::Agent(AgentJoins { name: name.to_owned() })),
        version: "0".to_owned(),
    };
    let answer = EntranceClient::new(host.channel(None)).join(request).await.unwrap().into_inner();
    let chain = vec![Certificate::from(answer.certificate.to_vec())];
    Current::new(Credential::new(&key, chain, &host.trust()).unwrap())
}

/// Begins a session as an agent that was registered before as `previous`, if it was.
pub(crate) async fn begin(
    host: &Host,
    own: &Current,
    name: &str,
    previous: Option<(u64, u64)>,
) -> Result<Session, Status> {
    let (node, incarnation) = previous.unzip();
    let hello = Hello {
        name: name.to_owned(),
        inventory: Some(inventory()),
        previous_node: node,
        previous_incarnation: incarnation,
        ..Hello::default()
    };
    say_hello(host, own, hello).await
}

/// Begins a session with these words.
pub(crate) async fn say_hello(host: &Host, own: &Current, hello: Hello) -> Result<Session, Status> {
    let (tell, told) = mpsc::channel(16);
    tell.send(AgentMessage { message: Some(agent_message::Message::Hello(hello)) }).await.unwrap();
    let mut agents = AgentsClient::new(host.channel(Some(own.clone())));
    let mut said = agents.session(ReceiverStream::new(told)).await?.into_inner();
    match said.message().await?.and_then(|said| said.message) {
        Some(coordinator_message::Message::Welcome(welcome)) => Ok(Session { welcome, said, tell }),
        other => panic!("a session began with {other:?}"),
    }
}

impl Session {
    /// Gives a sign of life; whether there still is a session.
    pub(crate) async fn beat(&self, sent_at_ms: u64) -> bool {
        let beat = agent_message::Message::Heartbeat(Heartbeat { sent_at_ms, every_ms: None });
        self.tell.send(AgentMessage { message: Some(beat) }).await.is_ok()
    }

    /// The next sign of life that is answered, or why the session ended.
    pub(crate) async fn answered(&mut self) -> Result<u64, Status> {
        let answered = async {
            loop {
                match self.said.message().await?.and_then(|said| said.message) {
                    Some(coordinator_message::Message::Heartbeat(beat)) => return Ok(beat.sent_at_ms),
                    Some(_) => {}
                    None => return Err(Status::cancelled("the session was closed")),
                }
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("an answer")
    }

    /// Gives signs of life until the session ends; the last one that was answered, and why it ended.
    pub(crate) async fn lives_on(&mut self, pause: Duration) -> (u64, Status) {
        let mut last = 0;
        for beat in 1..=BEATS {
            let _ = self.beat(beat).await;
            match tokio::time::timeout(pause, self.answered()).await {
                Ok(Ok(answered)) => {
                    last = answered;
                    tokio::time::sleep(pause).await;
                }
                Ok(Err(status)) => return (last, status),
                Err(_) => {}
            }
        }
        panic!("the session does not end; answered last was {last}")
    }
}
