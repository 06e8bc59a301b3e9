//! Makes observed follow desired: the actor around the pure decision in [`crate::reconcile`].
//!
//! Owns what is desired, what is observed and the journal. Invariant: a member is in the journal before anything of it exists,
//! and leaves it after nothing of it does.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use flowyard_model::{
    AttemptReport, Desired, DesiredMember, End, Gang, JobId, MemberKey, Phase, PhaseTimes, Reason, StepContext,
    StepIndex, StopTerms, TimeMs,
};
use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};
use kameo::message::{Context, Message};
use tokio::sync::{mpsc, oneshot, watch};

use crate::attempt::ending::platforms;
use crate::attempt::{self, Attempt, Begun, Desk};
use crate::journal::{Journal, Registration, Remembered};
use crate::outgoing::Outgoing;
use crate::reconcile::{Action, Observed, Wishes, reconcile};
use crate::remover::Remover;

/// News of attempts on their way to the reconciler.
const NEWS: usize = 1_024;

/// What the reconciler is told.
#[derive(Debug)]
pub(crate) enum ReconcilerMessage {
    /// What the coordinator wants; the first of a session says everything.
    Desired(Desired),
    /// The node was registered.
    Registered(Registration),
    /// Says everything that is observed, for the beginning of a session.
    Observed(oneshot::Sender<Everything>),
    /// Says once nothing is left of any attempt that has ended.
    Forgotten(oneshot::Sender<()>),
}

/// Everything an agent says at the beginning of a session.
#[derive(Debug)]
pub(crate) struct Everything {
    /// The registration it had.
    pub registered: Option<Registration>,
    /// All members it has.
    pub reports: Vec<AttemptReport>,
}

/// One member that the agent has.
struct Held {
    /// The last that was heard of it.
    report: AttemptReport,
    /// How a live one is asked to stop.
    stop: watch::Sender<Option<StopTerms>>,
    /// How it hears who is in its gang now.
    gang: watch::Sender<Option<Gang>>,
    /// What was taken, to be taken up again.
    member: DesiredMember,
    /// The epoch in which it was begun or taken up: what it stored is with the coordinators of that one.
    epoch: u32,
}

/// The actor.
pub(crate) struct Reconciler {
    desk: Arc<Desk>,
    journal: Journal,
    remover: Remover,
    registered: Option<Registration>,
    steps: BTreeMap<(JobId, StepIndex), Arc<StepContext>>,
    wishes: Wishes,
    held: BTreeMap<MemberKey, Held>,
    news: (mpsc::Sender<AttemptReport>, mpsc::Receiver<AttemptReport>),
    /// Where reports go on to the coordinator.
    outgoing: Outgoing,
    /// Who waits until nothing is left of what has ended.
    leaving: Vec<oneshot::Sender<()>>,
}

impl Reconciler {
    /// A reconciler that takes up what the journal remembers.
    pub(crate) fn new(desk: Arc<Desk>, journal: Journal, remembered: Remembered, outgoing: Outgoing) -> Self {
        let mut this = Self {
            desk,
            journal,
            remover: Remover::start(),
            registered: remembered.registered,
            steps: remembered.steps,
            wishes: Wishes::default(),
            held: BTreeMap::new(),
            news: mpsc::channel(NEWS),
            outgoing,
            leaving: Vec::new(),
        };
        for member in remembered.members.into_values() {
            if let Some(context) = this.context(member.key) {
                let asked = remembered.stopping.get(&member.key).copied();
                this.begin(context, member, Begun::Before, asked);
            }
        }
        this
    }

    fn context(&self, key: MemberKey) -> Option<Arc<StepContext>> {
        self.steps.get(&(key.task.job, key.task.step)).cloned()
    }

    /// Begins a member, unless the next agent could not know of it. What cannot be begun is told as its end.
    fn start(&mut self, member: DesiredMember) {
        let key = member.key;
        let refused = match self.context(key) {
            None => platforms(Reason::Sandbox, "the coordinator did not say what step this belongs to"),
            Some(context) => match self.journal.accepted(&context, &member) {
                Ok(()) => return self.begin(context, member, Begun::Not, None),
                Err(error) => attempt::disk_failure("the agent's journal cannot be written", &error),
            },
        };
        tracing::error!(?key, message = refused.message, "an attempt cannot be begun");
        self.pass_on(ended(key, refused));
    }

    /// Begins or takes up a member, which is asked to stop already if `asked`.
    fn begin(&mut self, context: Arc<StepContext>, member: DesiredMember, begun: Begun, asked: Option<StopTerms>) {
        let key = member.key;
        let ((stop, stopping), (gang, regrouping)) = (watch::channel(asked), watch::channel(None));
        let epoch = self.epoch();
        self.held.insert(key, Held { report: blank(key, Phase::Accepted), stop, gang, member: member.clone(), epoch });
        let told = (stopping, regrouping);
        let attempt = Attempt::new(Arc::clone(&self.desk), context, member, self.news.0.clone(), told);
        let news = self.news.0.clone();
        let walk = self.desk.tasks.spawn(attempt.walk(begun));
        self.desk.tasks.spawn(async move {
            // A panic is a fault of ours; the task it hit must not wait for ever.
            if let Err(fault) = walk.await {
                tracing::error!(?key, %fault, "an attempt's walk failed");
                let end = platforms(Reason::Sandbox, "the agent failed while it ran this; see its log");
                let _ = news.send(ended(key, end)).await;
            }
        });
    }

    fn on_desired(&mut self, desired: Desired) {
        let (touched, all) = (self.wishes.take(&desired, self.held.keys().copied()), desired.all);
        for context in desired.steps {
            self.steps.insert((context.job, context.step), context);
        }
        let mut starting: BTreeMap<MemberKey, DesiredMember> =
            desired.run.into_iter().map(|member| (member.key, member)).collect();
        for (key, gang) in starting.iter().filter_map(|(key, member)| Some((key, member.gang.as_ref()?))) {
            self.regroup(*key, gang);
        }
        for key in touched {
            self.act(key, starting.remove(&key), desired.stop_terms.get(&key).copied().unwrap_or_default());
        }
        self.stop_at_once(desired.stop.iter().filter(|key| !desired.stop_terms.contains_key(*key)));
        if all {
            self.desk.heard.send_replace(true);
        }
        self.drop_unused_steps();
    }

    /// A member that runs hears of a later generation of its gang.
    fn regroup(&self, key: MemberKey, gang: &Gang) {
        let Some(held) = self.held.get(&key) else { return };
        let known = held.gang.borrow().as_ref().or(held.member.gang.as_ref()).map_or(0, |gang| gang.generation);
        if gang.generation > known {
            held.gang.send_replace(Some(gang.clone()));
        }
    }

    /// What was given notice, and is to stop for another reason now, does not wait for its notice to pass.
    fn stop_at_once<'k>(&mut self, keys: impl Iterator<Item = &'k MemberKey>) {
        for key in keys {
            let Some(held) = self.held.get(key) else { continue };
            if held.stop.borrow().is_some_and(|terms| terms.notice_ms.is_some()) {
                held.stop.send_replace(Some(StopTerms::default()));
                self.journal.stopping(*key, StopTerms::default());
            }
        }
    }

    /// Does what is to be done about a member; one that is to stop is asked to in this way.
    fn act(&mut self, key: MemberKey, member: Option<DesiredMember>, terms: StopTerms) {
        let observed = self.held.get(&key).map(|held| match held.report.phase {
            Phase::Ended => Observed::Ended,
            _ => Observed::Live { stopping: held.stop.borrow().is_some() },
        });
        match reconcile(self.wishes.of(key), observed) {
            None => {}
            Some(Action::Start) => {
                if let Some(member) = member {
                    self.start(member);
                }
            }
            Some(Action::Stop) => {
                if let Some(held) = self.held.get(&key) {
                    // The next agent asks it again, whether or not it hears from a coordinator.
                    self.journal.stopping(key, terms);
                    held.stop.send_replace(Some(terms));
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
        self.say_forgotten();
    }

    /// Tells who waits for it that nothing is left of what has ended, once that is so.
    fn say_forgotten(&mut self) {
        if self.leaving.is_empty() || self.held.values().any(|held| held.report.phase == Phase::Ended) {
            return;
        }
        self.leaving.drain(..).for_each(|leaving| self.remover.say(leaving));
    }

    /// The coordinator tells a context again with the next member of a step of which it wants nothing at the moment.
    fn drop_unused_steps(&mut self) {
        let used: BTreeSet<_> =
            self.wishes.members().chain(self.held.keys()).map(|key| (key.task.job, key.task.step)).collect();
        self.steps.retain(|step, _| used.contains(step));
    }

    fn epoch(&self) -> u32 {
        self.registered.as_ref().map_or(0, |registered| registered.epoch)
    }

    /// Takes a new registration. In a higher epoch the coordinators may lack what was stored before it, so what has ended is taken
    /// up again, which stores its outputs and logs once more.
    fn on_registered(&mut self, registration: Registration) {
        self.registered = Some(registration.clone());
        self.journal.registered(registration);
        let ended = self.held.iter().filter(|(_, held)| held.report.phase == Phase::Ended).map(|(key, _)| *key);
        for key in ended.collect::<Vec<_>>() {
            self.store_again(key);
        }
    }

    /// Takes up a member that ended in an earlier epoch; `false` if it is of this one.
    fn store_again(&mut self, key: MemberKey) -> bool {
        let epoch = self.epoch();
        let Some(held) = self.held.get(&key).filter(|held| held.epoch < epoch) else { return false };
        // What never ran has stored nothing.
        if !self.desk.folder(key).join(attempt::LAUNCHED).exists() {
            return false;
        }
        let (Some(context), member) = (self.context(key), held.member.clone()) else { return false };
        let asked = *held.stop.borrow();
        tracing::info!(?key, epoch, "an attempt that ended in an earlier epoch is stored again");
        self.begin(context, member, Begun::Before, asked);
        true
    }

    fn on_news(&mut self, report: AttemptReport) {
        let key = report.member;
        let Some(held) = self.held.get(&key) else { return };
        if held.report.phase == Phase::Ended || (report.phase == Phase::Ended && self.store_again(key)) {
            return;
        }
        let Some(held) = self.held.get_mut(&key) else { return };
        held.report = report.clone();
        self.pass_on(report);
        if self.wishes.is_undesired(key) {
            self.act(key, None, StopTerms::default());
        }
    }

    fn pass_on(&self, report: AttemptReport) {
        self.outgoing.put(report);
    }
}

fn blank(member: MemberKey, phase: Phase) -> AttemptReport {
    AttemptReport { member, phase, times: PhaseTimes::NONE, end: None, checkpoint: None, stuck: None, saved_at: None }
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
            ReconcilerMessage::Registered(registration) => self.on_registered(registration),
            ReconcilerMessage::Observed(answer) => {
                let reports = self.held.values().map(|held| held.report.clone()).collect();
                let _ = answer.send(Everything { registered: self.registered.clone(), reports });
            }
            ReconcilerMessage::Forgotten(leaving) => {
                self.leaving.push(leaving);
                self.say_forgotten();
            }
        }
    }
}
