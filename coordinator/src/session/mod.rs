//! One agent's session: keeps its desired in step with the view, and passes its reports on, batched.
//!
//! Owns what was sent. It is rebuilt from the view at each connection, so it holds nothing that may not be lost.
//!
//! A message to an agent costs more than what is in it. What one entry brings about for an agent - that its reports are taken, and what it is
//! to do now - goes together: whoever has something to tell while reports are on their way waits a moment for word of them. And that something is
//! over is nothing that an agent waits for: in a large fleet word of it goes with the next task, which has the room by then, as a rule.

pub mod desired;
mod devices;
mod directory;
mod joining;
mod pace;
mod provenance;
mod service;
mod turns;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use flowyard_model::{AttemptReport, End, Health, Incarnation, MemberKey, NodeId, Phase, ReportAttempts, Term};
use flowyard_proto::agent::{Acknowledged, CoordinatorMessage, coordinator_message::Message as Wire};
use flowyard_state::View;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};
use kameo::message::{Context, Message};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::Status;

use crate::feed::Feed;
use crate::proposer::Proposer;

pub use desired::allocated;
pub use directory::{Connected, Directory};
pub(crate) use joining::Joining;
pub(crate) use pace::Pace;
pub use service::{AgentEndpoint, known};
pub(crate) use turns::Turns;

/// Messages on their way to one agent.
pub const OUTBOX: usize = 64;

/// How long news waits for word of reports that are on their way: it comes just after the view that has what they changed.
const TOGETHER: Duration = Duration::from_millis(2);

/// What no agent waits for is told so much later for each node of the fleet: as long as the placer may take for the next task.
const NO_HURRY_FOR_NODE: Duration = Duration::from_micros(10);
/// The longest such wait.
const NO_HURRY: Duration = Duration::from_millis(100);
/// With so many batches of reports that it was not told of, an agent waits for word: half as many as it may have on their way.
const UNTOLD: u64 = 2;

/// Where messages to one agent are put.
pub type Outbox = mpsc::Sender<Result<CoordinatorMessage, Status>>;

/// The actor of one session.
pub struct Session {
    node: NodeId,
    incarnation: Incarnation,
    term: Term,
    told: desired::Told,
    received: u64,
    changed: watch::Receiver<u64>,
    feed: Feed,
    proposer: Proposer,
    outbox: Outbox,
    /// Reports on their way into the log: their number, once they are applied.
    under_way: FuturesOrdered<BoxFuture<'static, Result<u64, Status>>>,
    /// The number of the last that were taken, until the agent is told.
    taken: Option<u64>,
    /// How many were taken of which it was not told.
    untold: u64,
    /// When the agent is told what may be new at the latest; `None` if nothing is.
    tell_at: Option<Instant>,
}

/// Whether a session may go on. A node that was given up while its session lives has to register anew, or it would never be used
/// again.
pub fn is_current(view: &View, node: NodeId, incarnation: Incarnation) -> bool {
    view.node(node).is_some_and(|node| node.incarnation == incarnation && node.health != Health::Down)
}

/// The ends that are news: of members that the state believes alive.
pub(crate) fn new_ends(view: &View, reports: &[AttemptReport]) -> Vec<(MemberKey, Arc<End>)> {
    let alive = |report: &&AttemptReport| {
        let attempt = view.attempt(report.member.task, report.member.attempt);
        let member = attempt.and_then(|attempt| attempt.members.get(report.member.rank.0 as usize));
        member.is_some_and(|member| member.phase != Phase::Ended && member.replacement == report.member.replacement)
    };
    let ended = |report: &AttemptReport| report.end.clone().map(|end| (report.member, end));
    reports.iter().filter(alive).filter_map(ended).collect()
}

/// Whether reports with this number come next; those before it must not be missing, since only differences are said.
pub fn comes_next(received: &mut u64, sequence: u64) -> bool {
    let next = sequence == *received + 1;
    if next {
        *received = sequence;
    }
    next
}

/// What a session is told by its agent.
#[derive(Debug)]
pub enum SessionMessage {
    /// Reports, with their number.
    Observed {
        /// Counts up from 1 within the session.
        sequence: u64,
        /// What the agent saw.
        reports: ReportAttempts,
    },
}

impl Session {
    /// A session of a node that has just registered.
    pub fn begin(
        (node, incarnation): (NodeId, Incarnation),
        term: Term,
        feed: Feed,
        proposer: Proposer,
        outbox: Outbox,
    ) -> Self {
        let mut changed = feed.node(node);
        changed.mark_changed();
        Self {
            node,
            incarnation,
            term,
            told: desired::Told::nothing(node),
            received: 0,
            changed,
            feed,
            proposer,
            outbox,
            under_way: FuturesOrdered::new(),
            taken: None,
            untold: 0,
            tell_at: None,
        }
    }

    /// Tells the agent what is new. `false` when it is gone, or registered anew elsewhere.
    async fn tell(&mut self) -> bool {
        let view = self.feed.view();
        if !is_current(&view, self.node, self.incarnation) {
            let status = Status::aborted("the node was given up or registered anew; this session is over");
            let _ = self.outbox.send(Err(status)).await;
            return false;
        }
        self.untold = 0;
        let taken = self.taken.take().map(|sequence| Wire::Acknowledged(Acknowledged { sequence }));
        let desired = self.told.next(&view, self.term).map(|desired| Wire::Desired((&desired).into()));
        for message in taken.into_iter().chain(desired) {
            if self.outbox.send(Ok(CoordinatorMessage { message: Some(message) })).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Hands reports in for the log without waiting for the ones before: they keep their order.
    fn pass_on(&mut self, sequence: u64, reports: ReportAttempts) {
        let proposer = self.proposer.clone();
        let (count, ends) = (reports.reports.len(), new_ends(&self.feed.view(), &reports.reports));
        let began_us = flowyard_clock::wall_us();
        let taken = proposer.joining().hand_in((&proposer, self.term), reports);
        self.under_way.push_back(Box::pin(async move {
            match taken.await {
                Ok(Ok(())) => {
                    proposer.counts().reports.add(count as u64);
                    ends.iter().for_each(|(_, end)| proposer.counts().end(end));
                    if let Some(tracer) = proposer.tracer() {
                        tracer.reported(ends.iter().map(|(member, _)| *member), began_us);
                    }
                    Ok(sequence)
                }
                // The agent begins a new session, which says everything again.
                Ok(Err(error)) => Err(Status::unavailable(format!("reports could not be put into the log: {error}"))),
                Err(_) => Err(Status::unavailable("reports were lost on their way into the log")),
            }
        }));
    }

    /// Reports are in the log, or will never be.
    async fn answer(&mut self, taken: Result<u64, Status>) {
        match taken {
            Ok(sequence) => {
                self.taken = Some(sequence);
                self.untold += 1;
                self.note_news();
            }
            Err(status) => drop(self.outbox.send(Err(status)).await),
        }
    }

    /// There may be something to tell: at once, unless there is word of reports to be waited for, or the agent waits for nothing of it.
    fn note_news(&mut self) {
        let view = self.feed.view();
        let wait = match self.under_way.is_empty() {
            _ if !self.is_awaited(&view) => no_hurry(view.node_count()),
            true => Duration::ZERO,
            false => TOGETHER,
        };
        let at = Instant::now() + wait;
        self.tell_at = Some(self.tell_at.map_or(at, |known| known.min(at)));
    }

    /// Whether the agent waits for what there is to tell.
    fn is_awaited(&self, view: &View) -> bool {
        self.untold >= UNTOLD || !is_current(view, self.node, self.incarnation) || self.told.asks_for_more(view)
    }
}

/// How long what no agent waits for may wait in a fleet of so many nodes.
fn no_hurry(nodes: usize) -> Duration {
    NO_HURRY_FOR_NODE.saturating_mul(u32::try_from(nodes).unwrap_or(u32::MAX)).min(NO_HURRY)
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) if at <= Instant::now() => {}
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Actor for Session {
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
                () = self.outbox.closed() => return Ok(None),
                Some(taken) = self.under_way.next() => self.answer(taken).await,
                changed = self.changed.changed() => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                    self.note_news();
                }
                () = due(self.tell_at) => {
                    self.tell_at = None;
                    if !self.tell().await {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

impl Message<SessionMessage> for Session {
    type Reply = ();

    async fn handle(&mut self, message: SessionMessage, _: &mut Context<Self, ()>) {
        match message {
            SessionMessage::Observed { sequence, reports } if comes_next(&mut self.received, sequence) => {
                self.pass_on(sequence, reports);
            }
            SessionMessage::Observed { sequence, .. } => {
                let gap = format!("report {sequence} cannot follow report {}; say everything anew", self.received);
                let _ = self.outbox.send(Err(Status::aborted(gap))).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flowyard_model::Command;
    use kameo::actor::Spawn;
    use tonic::Code;

    use super::*;
    use crate::fixture;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_report_for_which_there_is_no_room_waits_and_ends_no_session() {
        let (coordinator, _folder) = fixture::coordinator().await;
        let shared = coordinator.shared();
        let (node, incarnation) = fixture::node(&coordinator, "n1").await;
        let (outbox, mut told) = mpsc::channel(OUTBOX);
        let term = shared.leading_term().unwrap();
        let proposer = shared.proposer.in_term(term);
        let session = Session::spawn(Session::begin((node, incarnation), term, shared.feed.clone(), proposer, outbox));
        let full = loop {
            match shared.replica.fill() {
                Some(full) => break full,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert!(shared.propose(&Command::Tick).await.is_err(), "others are told that it is full");
        let reports = ReportAttempts { node, incarnation, reports: vec![] };
        session.tell(SessionMessage::Observed { sequence: 1, reports }).await.unwrap();
        let mut acknowledged = async || loop {
            match told.recv().await.expect("the session goes on").expect("the session goes on").message {
                Some(Wire::Acknowledged(acknowledged)) => return acknowledged.sequence,
                _ => continue,
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_millis(200), acknowledged()).await.is_err(),
            "it is not durable yet"
        );
        drop(full);
        let sequence = tokio::time::timeout(Duration::from_secs(10), acknowledged()).await.expect("it is taken then");
        assert_eq!(sequence, 1);
        session.kill();
        coordinator.shutdown().await;
    }

    #[test]
    fn what_no_agent_waits_for_is_told_later_the_larger_the_fleet_is() {
        assert_eq!(no_hurry(1), Duration::from_micros(10), "nobody notices on one machine");
        assert_eq!((no_hurry(1_000), no_hurry(10_000)), (Duration::from_millis(10), NO_HURRY));
        assert_eq!(no_hurry(usize::MAX), NO_HURRY);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_session_whose_node_was_given_up_is_over_so_that_it_registers_anew() {
        let (coordinator, _folder) = fixture::coordinator().await;
        let shared = coordinator.shared();
        let (node, incarnation) = fixture::node(&coordinator, "n1").await;
        let (outbox, mut told) = mpsc::channel(OUTBOX);
        let session =
            Session::begin((node, incarnation), Term(1), shared.feed.clone(), shared.proposer.clone(), outbox);
        let session = Session::spawn(session);
        let health = Health::Suspect;
        shared.propose(&Command::SetNodeHealth { node, incarnation, health }).await.unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(100), told.recv()).await;
        assert!(nothing.is_err() || nothing.unwrap().is_some_and(|message| message.is_ok()), "silence ended it");
        let health = Health::Down;
        shared.propose(&Command::SetNodeHealth { node, incarnation, health }).await.unwrap();
        let last = async {
            loop {
                match told.recv().await {
                    Some(Ok(_)) => {}
                    last => return last,
                }
            }
        };
        let last = tokio::time::timeout(Duration::from_secs(10), last).await.expect("the session goes on");
        assert_eq!(last.map(|message| message.map(drop).unwrap_err().code()), Some(Code::Aborted));
        session.wait_for_shutdown().await;
        coordinator.shutdown().await;
    }
}
