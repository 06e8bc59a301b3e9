//! Keeps ready work placed: a plan from the newest view, proposed, and the next one before the last was applied.
//!
//! Plans are pipelined: what is under way is applied to a copy of the view, which costs nothing to copy and is thrown away, so
//! the next plan is made as if the ones before it had been committed. Those that turn out stale are refused singly by `apply`.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use flowyard_model::{
    AttemptNumber, ClusterVersion, Command, Entry, JobId, MadeFrom, Plan, Reply, Revision, TimeMs, limits,
};
use flowyard_scheduling::{Bound, Proposal, Scheduler};
use flowyard_state::{ReadyStep, State, View, apply};
use kameo::actor::{Actor, ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::feed::Feed;
use crate::proposer::Proposer;

/// Plans proposed and not yet applied.
const PLANS_IN_FLIGHT: usize = 4;
/// Steps of one round: enough for ten thousand nodes and hundreds of shapes.
const STEPS: u64 = 4_000_000;
/// Wait after a plan that was stale; doubled with each that follows, so that a fault of ours is no busy loop.
const STALE_WAIT: Duration = Duration::from_millis(2);
/// Longest wait after stale plans.
const LONGEST_STALE_WAIT: Duration = Duration::from_secs(1);
/// Who might be evicted is looked for in so many times as long as the last round took that did: placing must not wait for it.
const EVICTIONS_PAUSE: u32 = 10;
/// Where work is left waiting for room, a round is followed by a pause of so long for each node: what falls free meanwhile is given out
/// together, so that an agent is told of several tasks at once and reports their ends at once.
const PAUSE_FOR_NODE: Duration = Duration::from_micros(5);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// Longest wait for a time before the wall clock is looked at again.
const LONGEST_WAKE_WAIT: Duration = Duration::from_secs(15);

/// The actor. It has no messages: it follows the applier's signal.
pub struct Placer {
    proposer: Proposer,
    feed: Feed,
    work: watch::Receiver<u64>,
    in_flight: VecDeque<(Plan, JoinHandle<bool>)>,
    /// Plans made so far.
    made: u64,
    /// `None` only while a round is made.
    scheduler: Option<Scheduler>,
    stale_wait: Duration,
    /// When the next round may begin.
    rests_until: Option<Instant>,
    /// When something may be evicted that may not be yet.
    wake_at: Option<TimeMs>,
    /// When the last round ended that looked for whom to evict, and how long it took.
    looked: Option<(Instant, Duration)>,
    /// How long an agent may take to accept what is placed.
    accept_ms: u64,
}

impl Placer {
    /// What it is made from, anew at each term.
    pub fn new(proposer: Proposer, feed: Feed, accept_ms: u64) -> Self {
        let mut work = feed.placement();
        work.mark_changed();
        // Another order among equals with each term.
        let scheduler = Some(Scheduler::new(feed.view().revision().0));
        let (in_flight, stale_wait) = (VecDeque::new(), STALE_WAIT);
        let made = 0;
        Self {
            proposer,
            feed,
            work,
            in_flight,
            made,
            scheduler,
            stale_wait,
            rests_until: None,
            wake_at: None,
            looked: None,
            accept_ms,
        }
    }

    /// How long it takes until it may be looked for whom to evict.
    fn pause_left(&self) -> Duration {
        let left = |(ended, took): (Instant, Duration)| {
            (took * EVICTIONS_PAUSE).saturating_sub(flowyard_clock::elapsed(ended))
        };
        self.looked.map_or(Duration::ZERO, left)
    }

    /// Makes plans until nothing more can be placed, or enough are under way.
    async fn place(&mut self) {
        while self.in_flight.len() < PLANS_IN_FLIGHT {
            if let Some(until) = self.rests_until.take() {
                tokio::time::sleep_until(until.into()).await;
            }
            let mut scheduler = self.scheduler.take().expect("no round is being made");
            let under_way: Vec<Plan> = self.in_flight.iter().map(|(plan, _)| plan.clone()).collect();
            let tasks = (PLANS_IN_FLIGHT - under_way.len()) * limits::PLACEMENTS_PER_PLAN;
            let (view, bound) = (self.feed.view(), Bound { tasks: tasks as u64, steps: STEPS });
            let accept_ms = (view.version() >= ClusterVersion::ACCESS).then_some(self.accept_ms);
            let (based_on, numbers) = (view.revision(), accept_ms.and_then(|_| numbers(&under_way)));
            let start = flowyard_clock::monotonic();
            // It may take long, so it runs beside the asynchronous threads.
            let (now, pause) = (TimeMs(flowyard_clock::wall_ms()), self.pause_left());
            let solved = tokio::task::spawn_blocking(move || {
                let state = expected(&view, under_way);
                let proposal = match pause.is_zero() {
                    true => scheduler.round(&state, now, bound),
                    false => scheduler.place(&state, bound),
                };
                let Proposal { plans, complete, wake_at, .. } = proposal;
                let plans: Vec<_> = plans.into_iter().map(|plan| (firsts(&view, &plan), plan)).collect();
                let placed = plans.iter().map(|(_, plan)| plan.placements.len()).sum();
                let rest = if leaves_waiting(&state, placed) { rest_after(&state) } else { Duration::ZERO };
                (plans, complete, wake_at, rest, scheduler)
            })
            .await;
            self.proposer.counts().rounds.observe_since(start);
            // Its panic is ours, and the supervisor's to answer.
            let (plans, complete, wake_at, rest, scheduler) =
                solved.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            self.scheduler = Some(scheduler);
            self.rests_until = (complete && !rest.is_zero()).then(|| start + rest);
            if pause.is_zero() && complete {
                self.looked = Some((flowyard_clock::monotonic(), flowyard_clock::elapsed(start)));
            }
            self.wake_at = if pause.is_zero() { wake_at } else { Some(now.after(pause.as_millis() as u64 + 1)) };
            for (part, (firsts, mut plan)) in (0..).zip(plans) {
                let from = |under_way| MadeFrom { number: self.made, part, tasks: bound.tasks, under_way };
                plan.made_from = numbers.clone().map(from);
                (plan.accept_ms, plan.based_on) = (accept_ms, based_on);
                self.made += 1;
                let proposed = tokio::spawn(propose(self.proposer.clone(), Command::CommitPlan(plan.clone()), firsts));
                self.in_flight.push_back((plan, proposed));
            }
            if complete {
                return;
            }
        }
    }
}

/// Whether more tasks are ready in a state than these.
fn leaves_waiting(state: &State, placed: usize) -> bool {
    let steps = state.ready_groups().map(ReadyStep::group).collect::<Vec<_>>();
    let mut ready = 0;
    steps.iter().flat_map(|group| state.ready_in(group)).any(|step| {
        ready += state.step(step.job, step.step).map_or(0, |step| step.counts.ready as usize);
        ready > placed
    })
}

/// How long a round is followed by none, where it leaves work waiting for room.
fn rest_after(state: &State) -> Duration {
    PAUSE_FOR_NODE.saturating_mul(u32::try_from(state.node_count()).unwrap_or(u32::MAX)).min(LONGEST_PAUSE)
}

/// The numbers of the plans under way; `None` if one has none, because an older release would not have known it.
fn numbers(under_way: &[Plan]) -> Option<Vec<u64>> {
    under_way.iter().map(|plan| plan.made_from.as_ref().map(|from| from.number)).collect()
}

/// The state once the plans under way are applied.
fn expected(view: &View, under_way: Vec<Plan>) -> State {
    let mut expected: State = (**view).clone();
    for plan in under_way {
        // Placements that are in the view already are refused here, which changes nothing.
        let index = Revision(expected.revision().0 + 1);
        // What may be evicted depends on the time.
        let time = plan.at.map_or(expected.time(), |at| at.max(expected.time()));
        let entry = Entry { index, time, command: Command::CommitPlan(plan) };
        apply(&mut expected, entry);
    }
    expected
}

/// Waits for a time of the wall clock, which may be set meanwhile.
async fn until(wake_at: Option<TimeMs>) {
    let Some(wake_at) = wake_at else { return std::future::pending().await };
    let left = Duration::from_millis(wake_at.0.saturating_sub(flowyard_clock::wall_ms()));
    tokio::time::sleep(left.min(LONGEST_WAKE_WAIT)).await;
}

/// Waits for the oldest plan under way, and longer each time that one was stale.
async fn settled(in_flight: &mut VecDeque<(Plan, JoinHandle<bool>)>, stale_wait: &mut Duration) {
    let Some((_, proposed)) = in_flight.front_mut() else {
        return std::future::pending().await;
    };
    let taken = proposed.await.unwrap_or(false);
    in_flight.pop_front();
    if taken {
        *stale_wait = STALE_WAIT;
    } else {
        tokio::time::sleep(*stale_wait).await;
        *stale_wait = (*stale_wait * 2).min(LONGEST_STALE_WAIT);
    }
}

/// When those jobs were submitted of which this plan would place something for the first time.
fn firsts(view: &View, plan: &Plan) -> Vec<TimeMs> {
    let tried_first = plan.placements.iter().filter(|placement| placement.attempt == AttemptNumber(1));
    let jobs: BTreeSet<JobId> = tried_first.map(|placement| placement.task.job).collect();
    let unplaced = jobs.into_iter().filter(|job| view.steps(*job).all(|(_, step)| step.started_at.is_none()));
    unplaced.filter_map(|job| Some(view.outline(job)?.submitted_at)).collect()
}

/// Counts what became of a plan with so many placements, of which so many were stale.
fn count(proposer: &Proposer, placements: usize, stale: usize, firsts: &[TimeMs]) {
    let counts = proposer.counts();
    counts.placed.add(placements.saturating_sub(stale) as u64);
    counts.stale.add(stale as u64);
    if stale == 0 {
        let now_ms = flowyard_clock::wall_ms();
        let waited = |submitted: &TimeMs| Duration::from_millis(now_ms.saturating_sub(submitted.0));
        firsts.iter().for_each(|submitted| counts.first_placed.observe(waited(submitted)));
    }
}

/// Proposes a plan; whether all of it was taken.
async fn propose(proposer: Proposer, command: Command, firsts: Vec<TimeMs>) -> bool {
    let placements = if let Command::CommitPlan(plan) = &command { plan.placements.len() } else { 0 };
    let began_us = flowyard_clock::wall_us();
    let answer = proposer.propose(&command).await;
    if let Ok(Reply::PlanCommitted { refused, .. }) = &answer {
        count(&proposer, placements, refused.len(), &firsts);
        if let (Some(tracer), Command::CommitPlan(plan), true) = (proposer.tracer(), &command, refused.is_empty()) {
            tracer.placed(plan, began_us);
        }
    }
    match answer {
        Ok(Reply::PlanCommitted { refused, refused_claims }) if refused.is_empty() && refused_claims.is_empty() => true,
        Ok(answer) => {
            tracing::debug!(?answer, "a plan was stale in part");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a plan was not taken");
            false
        }
    }
}

impl Actor for Placer {
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
                () = settled(&mut self.in_flight, &mut self.stale_wait) => {}
                () = until(self.wake_at) => self.wake_at = None,
                changed = self.work.changed() => if changed.is_err() { return Ok(None) },
            }
            self.place().await;
        }
    }
}
