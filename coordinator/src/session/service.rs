//! The gRPC service agents call.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use flowyard_model::{
    AttemptReport, ClusterVersion, Command, DeviceReport, Incarnation, Name, NodeId, RegisterNode, Reply,
    ReportAttempts, Term, plausible_devices, plausible_registration, plausible_report,
};
use flowyard_proto::agent::agents_server::Agents;
use flowyard_proto::agent::{
    AgentMessage, CoordinatorMessage, Heartbeat, Hello, Observed, RelayFromAgent, RelayToAgent, SecretsRequest,
    SecretsResponse, Welcome, agent_message, coordinator_message,
};
use flowyard_proto::{api, status};
use flowyard_state::View;
use kameo::actor::{ActorRef, Spawn};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::provenance::believed;
use super::{Connected, OUTBOX, Outbox, Session, SessionMessage, devices};
use crate::access::{Action, Caller, allow};
use crate::audit::entry_of;
use crate::caller;
use crate::coordinator::{self, Shared};
use crate::raft::Role;
use crate::secrets::tell;
use crate::standing::{Answers, Standing};

/// How long a session that is over waits for the next leader to be known.
const ELECTION: Duration = Duration::from_secs(2);

/// How many batches of reports of one agent may wait to be judged; an agent has at most four on their way.
const UNJUDGED: usize = 16;

/// Where what an agent says goes.
struct Heard {
    beats: watch::Sender<Option<u64>>,
    observed: mpsc::Sender<Observed>,
    devices: watch::Sender<Option<Vec<DeviceReport>>>,
}

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
    async fn register(&self, standing: &Standing, term: Term, hello: Hello) -> Result<(NodeId, Incarnation), Status> {
        let ours = (self.shared.cluster_id.as_str(), self.shared.epoch);
        if !hello.cluster.is_empty() && (hello.cluster != ours.0 || hello.epoch > ours.1) {
            return Err(Status::failed_precondition(format!(
                "this agent belongs to cluster {} (epoch {}), and this is {} (epoch {}); an agent moves with an empty folder",
                hello.cluster, hello.epoch, ours.0, ours.1
            )));
        }
        let invalid = |error: flowyard_proto::DecodeError| Status::invalid_argument(format!("hello: {error}"));
        let older = hello.epoch < ours.1;
        let (mut register, mut reports) = flowyard_proto::request::hello(hello).map_err(invalid)?;
        plausible_registration(&register).map_err(|rejection| status::rejected(&rejection))?;
        check_reports(&reports)?;
        if older {
            // What ended was stored with the coordinators of an earlier epoch. The agent hears of this one by the welcome, stores it
            // again here, and reports it then.
            reports.retain(|report| report.end.is_none());
        }
        if let Some((node, incarnation)) = known(&self.shared.feed.view(), &register) {
            // One that was given up registers anew all the same; it is only not kept from being down.
            let _ = self.shared.heard.mark(node, incarnation);
        }
        let _turn = self.shared.turns.take().await?;
        let proposer = self.shared.proposer.in_term(term);
        if self.shared.feed.view().version() < ClusterVersion::ACCESS {
            leave_out_what_is_newer(&mut register);
        }
        let propose = async |command| proposer.propose(&command).await.map_err(|error| coordinator::status(&error));
        let (node, incarnation) = match propose(Command::RegisterNode(register)).await? {
            Reply::Registered { node, incarnation } => (node, incarnation),
            other => return Err(Status::internal(format!("a registration was answered with {other:?}"))),
        };
        let _ = self.shared.heard.mark(node, incarnation);
        let reports = believed(&self.shared, standing, reports).await?;
        for part in reports.chunks(flowyard_model::limits::REPORTS_PER_ENTRY) {
            let reports = ReportAttempts { node, incarnation, reports: part.to_vec() };
            let ends = super::new_ends(&self.shared.feed.view(), part);
            propose(Command::ReportAttempts(reports)).await?;
            ends.iter().for_each(|(_, end)| proposer.counts().end(end));
            proposer.counts().reports.add(part.len() as u64);
        }
        Ok((node, incarnation))
    }

    async fn run_session(
        self,
        standing: Standing,
        mut said: Streaming<AgentMessage>,
        outbox: Outbox,
    ) -> Result<(), Status> {
        let silence = Duration::from_millis(self.shared.pace.timing().suspect_ms);
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
        let (node, incarnation) = self.register(&standing, term, hello).await?;
        send(&outbox, coordinator_message::Message::Welcome(self.welcome(node, incarnation))).await?;
        let shared = &self.shared;
        shared.directory.enter(node, Connected { incarnation, outbox: outbox.clone() });
        tracing::info!(%node, %incarnation, "an agent connected");
        let (feed, proposer) = (shared.feed.clone(), shared.proposer.in_term(term));
        let session = Session::spawn(Session::begin((node, incarnation), term, feed, proposer, outbox.clone()));
        let (beats, beaten) = watch::channel(None);
        let (observed, reported) = mpsc::channel(UNJUDGED);
        let (devices, said_of_devices) = watch::channel(None);
        let heard = Heard { beats, observed, devices };
        let (feed, proposer) = (shared.feed.clone(), shared.proposer.in_term(term));
        let ended = tokio::select! {
            ended = self.listen(&mut said, (node, incarnation), &heard, &standing) => ended,
            ended = self.judge_reports(reported, &session, (node, incarnation), &standing) => ended,
            unproven = self.answer_beats(beaten, &outbox) => Err(unproven),
            moved = self.led_by_another(term) => Err(moved),
            failed = devices::note(said_of_devices, (node, incarnation), feed, proposer) => Err(failed),
        };
        shared.directory.leave(node, incarnation);
        session.kill();
        tracing::info!(%node, %incarnation, "an agent's session ended");
        ended
    }

    /// Answers signs of life, which renews the agent's lease, as long as a majority follows this coordinator. Returns when it
    /// has had no such word for so long that the agent had better look for another coordinator.
    async fn answer_beats(&self, mut beats: watch::Receiver<Option<u64>>, outbox: &Outbox) -> Status {
        let mut proven_ms = flowyard_clock::boot_ms();
        while beats.changed().await.is_ok() {
            let Some(sent_at_ms) = *beats.borrow_and_update() else { continue };
            if let Err(error) = self.shared.evidence.confirm().await {
                if flowyard_clock::boot_ms().saturating_sub(proven_ms) >= self.shared.pace.timing().suspect_ms {
                    return Status::unavailable(format!("no majority follows this coordinator: {error}"));
                }
                continue;
            }
            proven_ms = flowyard_clock::boot_ms();
            let every_ms = Some(self.shared.pace.heartbeat_ms(self.shared.directory.connected()));
            let answer = coordinator_message::Message::Heartbeat(Heartbeat { sent_at_ms, every_ms });
            if let Err(status) = send(outbox, answer).await {
                return status;
            }
        }
        std::future::pending().await
    }

    /// Returns once this coordinator does not lead in this term any more, with who does.
    async fn led_by_another(&self, term: Term) -> Status {
        let mut role = self.shared.replica.role();
        let leads = |role: &Role| matches!(role, Role::Leader { term: now, .. } if *now == term.0);
        // A replica that is gone leads nobody either.
        let _ = role.wait_for(|role| !leads(role)).await;
        // The agent finds the next leader sooner than by trying all, once it is known here.
        let settled = role.wait_for(|role| !matches!(role, Role::Seeking | Role::Leader { ready: false, .. }));
        let _ = tokio::time::timeout(ELECTION, settled).await;
        let moved = || Status::unavailable("the leadership has moved; begin a new session");
        self.shared.leading_term().err().unwrap_or_else(moved)
    }

    fn welcome(&self, node: NodeId, incarnation: Incarnation) -> Welcome {
        let timing = self.shared.config.timing;
        let heartbeat_ms = self.shared.pace.heartbeat_ms(self.shared.directory.connected());
        Welcome {
            node: node.0,
            incarnation: incarnation.0,
            heartbeat_ms,
            lease_ms: timing.lease_ms,
            cluster: self.shared.cluster_id.clone(),
            epoch: self.shared.epoch,
            addresses: self.shared.api_addresses(),
            stuck: Some(flowyard_proto::request::to_stuck_limits(&self.shared.config.stuck)),
        }
    }

    /// Passes reports on once it is known what of them to believe, which may take as long as other coordinators take to answer:
    /// signs of life are heard meanwhile.
    async fn judge_reports(
        &self,
        mut reported: mpsc::Receiver<Observed>,
        session: &ActorRef<Session>,
        (node, incarnation): (NodeId, Incarnation),
        standing: &Standing,
    ) -> Result<(), Status> {
        while let Some(observed) = reported.recv().await {
            let reports = believed(&self.shared, standing, decode_reports(observed.reports)?).await?;
            let reports = ReportAttempts { node, incarnation, reports };
            let message = SessionMessage::Observed { sequence: observed.sequence, reports };
            session.tell(message).await.map_err(|_| Status::aborted("the session ended"))?;
        }
        std::future::pending().await
    }

    /// Hears what the agent says, for as long as it says anything.
    async fn listen(
        &self,
        said: &mut Streaming<AgentMessage>,
        (node, incarnation): (NodeId, Incarnation),
        heard_by: &Heard,
        standing: &Standing,
    ) -> Result<(), Status> {
        let mut lost = Box::pin(standing.clone().lost());
        // One timer for all messages: it is set again only when it goes off, by how long ago the last was heard.
        let mut silence = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut heard_at = Instant::now();
        loop {
            // A session lasts for days: its certificate may expire, or its node be shut out meanwhile.
            let heard = tokio::select! {
                biased;
                status = &mut lost => return Err(status),
                heard = next(said) => heard,
                () = &mut silence => {
                    let until = heard_at + Duration::from_millis(self.shared.pace.timing().suspect_ms);
                    // Whoever is silent for so long cannot be told anything either, and is not to stay connected on the strength of that.
                    if until <= Instant::now() {
                        return Err(Status::deadline_exceeded("nothing was heard from the agent"));
                    }
                    silence.as_mut().reset(until);
                    continue;
                }
            };
            heard_at = Instant::now();
            let Some(message) = heard? else { break };
            if !self.shared.heard.mark(node, incarnation) {
                return Err(Status::aborted("the node was given up; this session is over"));
            }
            match message {
                agent_message::Message::Hello(_) => return Err(Status::invalid_argument("hello comes once")),
                agent_message::Message::Heartbeat(beat) => drop(heard_by.beats.send_replace(Some(beat.sent_at_ms))),
                agent_message::Message::Devices(devices) => {
                    let devices = flowyard_proto::request::devices(devices);
                    let devices = devices.map_err(|error| Status::invalid_argument(format!("devices: {error}")))?;
                    plausible_devices(&devices).map_err(|rejection| status::rejected(&rejection))?;
                    heard_by.devices.send_replace(Some(devices));
                }
                agent_message::Message::Observed(observed) => heard_by.observed.try_send(observed).map_err(|_| {
                    Status::resource_exhausted(format!(
                        "more than {UNJUDGED} reports are on their way unacknowledged; an agent waits for some of them first"
                    ))
                })?,
            }
        }
        Ok(())
    }
}

/// The node that registers again: it was heard from, however long its registration takes.
pub fn known(view: &View, register: &RegisterNode) -> Option<(NodeId, Incarnation)> {
    let (node, record) = view.node_named(&register.name)?;
    register.previous.is_some_and(|(previous, _)| previous == node).then_some((node, record.incarnation))
}

fn decode_reports(reports: Vec<api::AttemptReport>) -> Result<Vec<AttemptReport>, Status> {
    let decoded: Result<Vec<_>, _> = reports.into_iter().map(AttemptReport::try_from).collect();
    let decoded = decoded.map_err(|error| Status::invalid_argument(error.to_string()))?;
    check_reports(&decoded)?;
    Ok(decoded)
}

/// Replicas of the release before know no parts of devices, which come last in an inventory, so that the others keep their positions;
/// and not what hangs on which PCIe switch.
fn leave_out_what_is_newer(register: &mut RegisterNode) {
    let inventory = Arc::make_mut(&mut register.inventory);
    let wholes = inventory.gpus.iter().take_while(|gpu| gpu.part.is_none()).count();
    inventory.gpus.truncate(wholes);
    inventory.gpus.iter_mut().for_each(|gpu| gpu.pcie_group = None);
}

fn check_reports(reports: &[AttemptReport]) -> Result<(), Status> {
    reports.iter().try_for_each(plausible_report).map_err(|rejection| status::rejected(&rejection))
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
            Caller::Agent { name } => {
                caller::about(&request, &format!("node {name}"));
                name
            }
            _ => Name::from_str("unnamed").map_err(|error| Status::internal(error.to_string()))?,
        };
        caller::allowed(&request, Action::Session { node: &own })?;
        let (outbox, answers) = mpsc::channel(OUTBOX);
        let (service, standing) = (self.clone(), caller::standing(&request)?);
        tokio::spawn(async move {
            let (asked, audit) = (standing.clone(), service.shared.audit.clone());
            if let Err(status) = service.run_session(standing, request.into_inner(), outbox.clone()).await {
                if status.code() == Code::PermissionDenied {
                    let path = "/flowyard.agent.v1.Agents/Session";
                    audit.write(entry_of(&asked, path, Some(&status)));
                }
                let _ = outbox.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn secrets(&self, request: Request<SecretsRequest>) -> Result<Response<SecretsResponse>, Status> {
        let caller = caller::of(&request)?;
        if let Some(member) = &request.get_ref().member {
            let task = format!("task {}/{}/{}#{}", member.job, member.step, member.task, member.attempt);
            caller::about(&request, &task);
        }
        tell(&self.shared, &caller, request.into_inner()).await.map(Response::new)
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
        assert_eq!(known(&view, &again("n1", node)), Some((node, incarnation)));
        assert_eq!(known(&view, &fixture::registration("n1")), None, "another agent that took the name");
        assert_eq!(known(&view, &again("n2", node)), None);
        assert_eq!(known(&view, &again("n1", NodeId(node.0 + 1))), None);
        coordinator.shutdown().await;
    }
}
