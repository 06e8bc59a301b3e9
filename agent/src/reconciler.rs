//! Makes observed follow desired: the actor around the pure decision in [`crate::reconcile`].
//!
//! Owns what is desired, what is observed and the journal. Invariant: a member is in the journal before anything of it exists,
//! and leaves it after nothing of it does.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use flowyard_model::{
    AttemptReport, Desired, DesiredMember, End, Incarnation, JobId, MemberKey, NodeId, Phase, PhaseTimes, StepContext,
    StepIndex, TimeMs,
};
use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};
use kameo::message::{Context, Message};
use tokio::sync::{mpsc, oneshot, watch};

use crate::attempt::ending::platforms;
use crate::attempt::{self, Attempt, Begun, Desk};
use crate::journal::{Journal, Remembered};
use crate::reconcile::{Action, Observed, Wanted, reconcile};
use crate::remover::Remover;

/// News of attempts on their way to the reconciler, and from there to the link.
pub(crate) const NEWS: usize = 1_024;

/// What the reconciler is told.
#[derive(Debug)]
pub(crate) enum ReconcilerMessage {
    /// What the coordinator wants; the first of a session says everything.
    Desired(Desired),
    /// The node was registered.
    Registered(NodeId, Incarnation),
    /// Says everything that is observed, for the beginning of a session.
    Observed(oneshot::Sender<Everything>),
}

/// Everything an agent says at the beginning of a session.
#[derive(Debug)]
pub(crate) struct Everything {
    /// The registration it had.
    pub registered: Option<(NodeId, Incarnation)>,
    /// All members it has.
    pub reports: Vec<AttemptReport>,
}

/// One member that the agent has.
struct Held {
    /// The last that was heard of it.
    report: AttemptReport,
    /// How a live one is asked to stop.
    stop: watch::Sender<bool>,
}

/// The actor.
pub(crate) struct Reconciler {
    desk: Arc<Desk>,
    journal: Journal,
    remover: Remover,
    registered: Option<(NodeId, Incarnation)>,
    steps: BTreeMap<(JobId, StepIndex), Arc<StepContext>>,
    wanted: BTreeMap<MemberKey, Wanted>,
    /// Whether a coordinator has said everything since this agent started.
    complete: bool,
    held: BTreeMap<MemberKey, Held>,
    news: (mpsc::Sender<AttemptReport>, mpsc::Receiver<AttemptReport>),
    /// Where reports go on to the coordinator.
    reports: mpsc::Sender<AttemptReport>,
}

impl Reconciler {
    /// A reconciler that takes up what the journal remembers.
    pub(crate) fn new(
        desk: Arc<Desk>,
        journal: Journal,
        remembered: Remembered,
        reports: mpsc::Sender<AttemptReport>,
    ) -> Self {
        let mut this = Self {
            desk,
            journal,
            remover: Remover::start(),
            registered: remembered.registered,
            steps: remembered.steps,
            wanted: BTreeMap::new(),
            complete: false,
            held: BTreeMap::new(),
            news: mpsc::channel(NEWS),
            reports,
        };
        for member in remembered.members.into_values() {
            this.begin(member, Begun::Before);
        }
        this
    }

    fn begin(&mut self, member: DesiredMember, begun: Begun) {
        let key = member.key;
        let Some(context) = self.steps.get(&(key.task.job, key.task.step)).cloned() else {
            tracing::error!(?key, "a member came without its step");
            return;
        };
        let (stop, stopping) = watch::channel(false);
        self.held.insert(key, Held { report: blank(key, Phase::Accepted), stop });
        let attempt = Attempt::new(Arc::clone(&self.desk), context, member, self.news.0.clone(), stopping);
        let news = self.news.0.clone();
        tokio::spawn(async move {
            // A panic is a fault of ours; the task it hit must not wait for ever.
            if let Err(fault) = tokio::spawn(attempt.walk(begun)).await {
                tracing::error!(?key, %fault, "an attempt's walk failed");
                let end = platforms(flowyard_model::Reason::Sandbox, "the agent failed while it ran this; see its log");
                let _ = news.send(ended(key, end)).await;
            }
        });
    }

    fn on_desired(&mut self, desired: Desired) {
        for context in desired.steps {
            let key = (context.job, context.step);
            if self.steps.get(&key) != Some(&context) {
                self.journal.step(&context);
                self.steps.insert(key, context);
            }
        }
        let mut touched: Vec<MemberKey> = Vec::new();
        if desired.all {
            touched.extend(self.wanted.keys().chain(self.held.keys()));
            self.wanted.clear();
            self.complete = true;
        }
        let mut starting: BTreeMap<MemberKey, DesiredMember> = BTreeMap::new();
        for member in desired.run {
            self.wanted.insert(member.key, Wanted::Run { known: member.known });
            touched.push(member.key);
            starting.insert(member.key, member);
        }
        for key in desired.stop {
            self.wanted.insert(key, Wanted::Stop);
            touched.push(key);
        }
        for key in desired.gone {
            self.wanted.remove(&key);
            touched.push(key);
        }
        touched.sort_unstable();
        touched.dedup();
        for key in touched {
            self.act(key, starting.remove(&key));
        }
        self.drop_unused_steps();
    }

    fn act(&mut self, key: MemberKey, member: Option<DesiredMember>) {
        let observed = self.held.get(&key).map(|held| match held.report.phase {
            Phase::Ended => Observed::Ended,
            _ => Observed::Live { stopping: *held.stop.borrow() },
        });
        match reconcile(self.wanted.get(&key).copied(), observed) {
            None => {}
            Some(Action::Start) => {
                if let Some(member) = member {
                    self.journal.accepted(&member);
                    self.begin(member, Begun::Not);
                }
            }
            Some(Action::Stop) => {
                if let Some(held) = self.held.get(&key) {
                    held.stop.send_replace(true);
                }
            }
            Some(Action::Report) => {
                if let Some(held) = self.held.get(&key) {
                    self.pass_on(held.report.clone());
                }
            }
            Some(Action::ReportLost) => self.pass_on(ended(key, attempt::lost())),
            Some(Action::ReportStopped) => self.pass_on(ended(key, attempt::stopped_early())),
            Some(Action::Forget) => self.forget(key),
        }
    }

    fn forget(&mut self, key: MemberKey) {
        self.held.remove(&key);
        self.journal.forgotten(key);
        self.remover.remove(self.desk.folder(key));
    }

    /// The coordinator tells a context again with the next member of a step of which it wants nothing at the moment.
    fn drop_unused_steps(&mut self) {
        let used: BTreeSet<_> =
            self.wanted.keys().chain(self.held.keys()).map(|key| (key.task.job, key.task.step)).collect();
        self.steps.retain(|step, _| used.contains(step));
    }

    fn on_news(&mut self, report: AttemptReport) {
        let key = report.member;
        let Some(held) = self.held.get_mut(&key) else { return };
        if held.report.phase == Phase::Ended {
            return;
        }
        held.report = report.clone();
        self.pass_on(report);
        if self.complete && !self.wanted.contains_key(&key) {
            self.act(key, None);
        }
    }

    /// The link merges what it cannot send; while there is no session, the next one says everything anyway.
    fn pass_on(&self, report: AttemptReport) {
        if let Err(mpsc::error::TrySendError::Full(report)) = self.reports.try_send(report) {
            let reports = self.reports.clone();
            tokio::spawn(async move {
                let _ = reports.send(report).await;
            });
        }
    }
}

fn blank(member: MemberKey, phase: Phase) -> AttemptReport {
    AttemptReport { member, phase, times: PhaseTimes::NONE, end: None, checkpoint: None }
}

fn ended(member: MemberKey, end: End) -> AttemptReport {
    let times = PhaseTimes { ended: Some(TimeMs(flowyard_clock::wall_ms())), ..PhaseTimes::NONE };
    AttemptReport { times, end: Some(Arc::new(end)), ..blank(member, Phase::Ended) }
}

impl Actor for Reconciler {
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
                signal = mailbox.recv() => return Ok(signal),
                Some(report) = self.news.1.recv() => self.on_news(report),
            }
        }
    }
}

impl Message<ReconcilerMessage> for Reconciler {
    type Reply = ();

    async fn handle(&mut self, message: ReconcilerMessage, _: &mut Context<Self, ()>) {
        match message {
            ReconcilerMessage::Desired(desired) => self.on_desired(desired),
            ReconcilerMessage::Registered(node, incarnation) => {
                self.registered = Some((node, incarnation));
                self.journal.registered(node, incarnation);
            }
            ReconcilerMessage::Observed(answer) => {
                let reports = self.held.values().map(|held| held.report.clone()).collect();
                let _ = answer.send(Everything { registered: self.registered, reports });
            }
        }
    }
}
