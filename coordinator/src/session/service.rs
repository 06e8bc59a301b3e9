//! The gRPC service agents call.

use std::str::FromStr;
use std::time::Duration;

use flowyard_model::{AttemptReport, Command, Incarnation, Name, NodeId, RegisterNode, Reply, ReportAttempts};
use flowyard_proto::agent::agents_server::Agents;
use flowyard_proto::agent::{
    AgentMessage, CoordinatorMessage, Heartbeat, Hello, RelayFromAgent, RelayToAgent, Welcome, agent_message,
    coordinator_message,
};
use flowyard_proto::api;
use flowyard_state::View;
use kameo::actor::{ActorRef, Spawn};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::provenance::believed;
use super::{Connected, OUTBOX, Outbox, Session, SessionMessage};
use crate::access::{Action, Caller, allow};
use crate::caller;
use crate::coordinator::Shared;
use crate::standing::{Answers, Standing};

/// The service.
#[derive(Clone)]
pub struct AgentEndpoint {
    shared: Shared,
}

impl AgentEndpoint {
    /// A service of this coordinator.
    pub fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// Puts the node, and what its agent had seen, into the log.
    async fn register(&self, standing: &Standing, hello: Hello) -> Result<(NodeId, Incarnation), Status> {
        let ours = (self.shared.cluster_id.as_str(), self.shared.epoch);
        if !hello.cluster.is_empty() && (hello.cluster != ours.0 || hello.epoch > ours.1) {
            return Err(Status::failed_precondition(format!(
                "this agent belongs to cluster {} (epoch {}), and this is {} (epoch {}); an agent moves with an empty folder",
                hello.cluster, hello.epoch, ours.0, ours.1
            )));
        }
        let invalid = |error: flowyard_proto::DecodeError| Status::invalid_argument(format!("hello: {error}"));
        let older = hello.epoch < ours.1;
        let (register, mut reports) = flowyard_proto::request::hello(hello).map_err(invalid)?;
        if older {
            // What ended was stored with the coordinators of an earlier epoch. The agent hears of this one by the welcome, stores it
            // again here, and reports it then.
            reports.retain(|report| report.end.is_none());
        }
        if let Some(node) = known(&self.shared.feed.view(), &register) {
            self.shared.heard.mark(node);
        }
        let (node, incarnation) = match self.shared.propose(&Command::RegisterNode(register)).await? {
            Reply::Registered { node, incarnation } => (node, incarnation),
            other => return Err(Status::internal(format!("a registration was answered with {other:?}"))),
        };
        self.shared.heard.mark(node);
        let reports = believed(&self.shared, standing, reports).await?;
        for part in reports.chunks(flowyard_model::limits::REPORTS_PER_ENTRY) {
            let reports = ReportAttempts { node, incarnation, reports: part.to_vec() };
            self.shared.propose(&Command::ReportAttempts(reports)).await?;
        }
        Ok((node, incarnation))
    }

    async fn run_session(
        self,
        standing: Standing,
        mut said: Streaming<AgentMessage>,
        outbox: Outbox,
    ) -> Result<(), Status> {
        let silence = Duration::from_millis(self.shared.config.timing.suspect_ms);
        let first = tokio::time::timeout(silence, next(&mut said)).await;
        let first = first.map_err(|_| Status::deadline_exceeded("nothing was heard from the agent"))?;
        let Some(agent_message::Message::Hello(hello)) = first? else {
            return Err(Status::invalid_argument("a session begins with hello"));
        };
        let name: Name =
            hello.name.parse().map_err(|error| Status::invalid_argument(format!("hello: name: {error}")))?;
        standing.check()?;
        allow(&standing.caller, Action::Session { node: &name })?;
        let term = self.shared.leading_term()?;
        let (node, incarnation) = self.register(&standing, hello).await?;
        send(&outbox, coordinator_message::Message::Welcome(self.welcome(node, incarnation))).await?;
        let shared = &self.shared;
        shared.directory.enter(node, Connected { incarnation, outbox: outbox.clone() });
        tracing::info!(%node, %incarnation, "an agent connected");
        let session =
            Session::begin((node, incarnation), term, shared.feed.clone(), shared.proposer.clone(), outbox.clone());
        let session = Session::spawn(session);
        let ended = self.listen(&mut said, &session, (node, incarnation), &outbox, &standing).await;
        shared.directory.leave(node, incarnation);
        session.kill();
        tracing::info!(%node, %incarnation, "an agent's session ended");
        ended
    }

    fn welcome(&self, node: NodeId, incarnation: Incarnation) -> Welcome {
        let timing = self.shared.config.timing;
        Welcome {
            node: node.0,
            incarnation: incarnation.0,
            heartbeat_ms: timing.heartbeat_ms,
            lease_ms: timing.lease_ms,
            cluster: self.shared.cluster_id.clone(),
            epoch: self.shared.epoch,
            addresses: self.shared.api_addresses(),
        }
    }

    async fn listen(
        &self,
        said: &mut Streaming<AgentMessage>,
        session: &ActorRef<Session>,
        (node, incarnation): (NodeId, Incarnation),
        outbox: &Outbox,
        standing: &Standing,
    ) -> Result<(), Status> {
        let silence = Duration::from_millis(self.shared.config.timing.suspect_ms);
        let mut lost = Box::pin(standing.clone().lost());
        loop {
            // A session lasts for days: its certificate may expire, or its node be shut out meanwhile.
            let heard = tokio::select! {
                biased;
                status = &mut lost => return Err(status),
                heard = tokio::time::timeout(silence, next(said)) => heard,
            };
            // Whoever is silent for so long cannot be told anything either, and is not to stay connected on the strength of that.
            let heard = heard.map_err(|_| Status::deadline_exceeded("nothing was heard from the agent"))?;
            let Some(message) = heard? else { break };
            self.shared.heard.mark(node);
            match message {
                agent_message::Message::Hello(_) => return Err(Status::invalid_argument("hello comes once")),
                agent_message::Message::Heartbeat(_) => {
                    send(outbox, coordinator_message::Message::Heartbeat(Heartbeat {})).await?;
                }
                agent_message::Message::Observed(observed) => {
                    let reports = decode_reports(observed.reports)?;
                    let reports = believed(&self.shared, standing, reports).await?;
                    let reports = ReportAttempts { node, incarnation, reports };
                    let message = SessionMessage::Observed { sequence: observed.sequence, reports };
                    session.tell(message).await.map_err(|_| Status::aborted("the session ended"))?;
                }
            }
        }
        Ok(())
    }
}

/// The node that registers again: it was heard from, however long its registration takes.
fn known(view: &View, register: &RegisterNode) -> Option<NodeId> {
    let (node, _) = view.node_named(&register.name)?;
    register.previous.is_some_and(|(previous, _)| previous == node).then_some(node)
}

fn decode_reports(reports: Vec<api::AttemptReport>) -> Result<Vec<AttemptReport>, Status> {
    let decoded: Result<Vec<_>, _> = reports.into_iter().map(AttemptReport::try_from).collect();
    decoded.map_err(|error| Status::invalid_argument(error.to_string()))
}

async fn next(said: &mut Streaming<AgentMessage>) -> Result<Option<agent_message::Message>, Status> {
    match said.message().await? {
        None => Ok(None),
        Some(AgentMessage { message: Some(message) }) => Ok(Some(message)),
        Some(AgentMessage { message: None }) => Err(Status::invalid_argument("an empty message")),
    }
}

async fn send(outbox: &Outbox, message: coordinator_message::Message) -> Result<(), Status> {
    let sent = outbox.send(Ok(CoordinatorMessage { message: Some(message) })).await;
    sent.map_err(|_| Status::cancelled("the agent hung up"))
}

#[tonic::async_trait]
impl Agents for AgentEndpoint {
    type SessionStream = Answers<CoordinatorMessage>;
    type RelayStream = Answers<RelayToAgent>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        // Nothing is read of whom it cannot be for; which node it is for is said in what is read.
        let own = match caller::of(&request)? {
            Caller::Agent { name } => name,
            _ => Name::from_str("unnamed").map_err(|error| Status::internal(error.to_string()))?,
        };
        caller::allowed(&request, Action::Session { node: &own })?;
        let (outbox, answers) = mpsc::channel(OUTBOX);
        let (service, standing) = (self.clone(), caller::standing(&request)?);
        tokio::spawn(async move {
            if let Err(status) = service.run_session(standing, request.into_inner(), outbox.clone()).await {
                let _ = outbox.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn relay(&self, request: Request<Streaming<RelayFromAgent>>) -> Result<Response<Self::RelayStream>, Status> {
        let (standing, view) = (caller::standing(&request)?, self.shared.feed.view());
        let caller = standing.caller.clone();
        let may = move |node: NodeId| match view.node(node) {
            Some(node) => Ok(allow(&caller, Action::Relay { node: &node.name })?),
            None => Err(Status::not_found("the node of this relay is gone")),
        };
        self.shared.relays.accept(standing, request.into_inner(), may).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_that_registers_again_was_heard_from_before_it_is_registered() {
        let (coordinator, _folder) = fixture::coordinator().await;
        let (node, incarnation) = fixture::node(&coordinator, "n1").await;
        let view = coordinator.shared().feed.view();
        let again = |name, node| RegisterNode { previous: Some((node, incarnation)), ..fixture::registration(name) };
        assert_eq!(known(&view, &again("n1", node)), Some(node));
        assert_eq!(known(&view, &fixture::registration("n1")), None, "another agent that took the name");
        assert_eq!(known(&view, &again("n2", node)), None);
        assert_eq!(known(&view, &again("n1", NodeId(node.0 + 1))), None);
        coordinator.shutdown().await;
    }
}
