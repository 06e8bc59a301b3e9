//! When a task would start: the real scheduler, run forward on a copy of the state in which what runs ends when it has to.
//!
//! What is known is when something has to end that has a `timeout`: that long after its process began, and the time it has to stop; and else what is
//! expected of it, or what earlier runs took, which is said. So the answer holds if all of it takes that long, ends well, and nothing new comes; it is no promise, and says what it rests on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::{
    Attempt, AttemptDesired, AttemptOutcome, AttemptReport, Blame, Command, End, FanOut, Logs, Member, MemberKey,
    NodeId, Phase, PhaseTimes, QueuePath, Reason, ReportAttempts, StepSpec, TaskKey, TaskState, TimeMs, limits,
};
use flowyard_state::{Basis, State};

use super::bounds::{Reckon, alternatives, way};
use super::change::perform;
use super::effort::{Effort, FORECAST_ROUNDS, Verdict};
use super::fit::Fit;
use crate::beside::Own;
use crate::scheduler::{Line, Proposal};

/// So many ends are each looked at alone; later ones that are near each other are joined.
const EXACT_ENDS: u32 = 8;
/// Ends are joined that lie within this part of the time from now.
const JOINED_PART: u64 = 8;
/// Running work that is named.
const NAMED: usize = 3;
/// Ticks that are due at one time, at most.
const TICKS: usize = 64;

/// When a task would start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the next plan.
    Now,
    /// At this time, if all that has to end by then takes as long as it may, ends well, and nothing new comes.
    At {
        /// When.
        at: TimeMs,
        /// Whether ends were joined, so that it may be up to an eighth of the time sooner.
        joined: bool,
        /// How many attempts end before, of those that run now.
        ends: u64,
        /// Whether something ends before whose followers are not known, because it writes the list that they come from.
        unknown_followers: bool,
        /// Of how much of what ends before it is known from earlier runs how long it takes.
        learned: u64,
        /// How many runs that are, the fewest of any; nothing if it is not known so of any of it.
        runs: Option<u32>,
        /// Of how much of it it was told what is expected, and nothing else is known.
        expected: u64,
        /// Whether a throttle holds some of it up: how long what is placed takes to begin to run is not known, and taken as nothing.
        throttled: bool,
    },
    /// As soon as some of what is placed and does not run yet, which a throttle bounds, does run; how long that takes is not known.
    OnceRunning {
        /// Members that are placed and do not run yet.
        starting: u64,
    },
    /// It cannot be known, because this runs, or would by then, and has no `timeout`.
    NoTimeout {
        /// Some of it.
        whose: Vec<Endless>,
        /// How much of it there is.
        all: u64,
    },
    /// Not even if all ended that runs.
    NotEvenThen,
    /// Its job is stopped first, at this time: one of the job's times passes.
    StopsBefore(TimeMs),
    /// It was not found out within the bound: not before this time.
    Beyond(TimeMs),
}

/// Something that runs and has no `timeout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endless {
    /// Which task.
    pub task: TaskKey,
    /// A node that it runs on.
    pub node: NodeId,
}

/// What is said of a member: that it ended, or that its agent has it.
type Said = (MemberKey, Option<Arc<End>>);

/// The cluster in virtual time.
struct Ahead {
    state: State,
    /// The state that it began with.
    first: State,
    began: TimeMs,
    now: TimeMs,
    /// What has to end, by when.
    ends: BTreeMap<TimeMs, Vec<(NodeId, MemberKey)>>,
    /// What runs and need not end.
    endless: Vec<(NodeId, MemberKey)>,
    /// What is known of already.
    known: BTreeSet<MemberKey>,
    /// What was asked to go, and goes.
    leaving: BTreeSet<MemberKey>,
    /// When somebody may be evicted who may not be now.
    wake: Option<TimeMs>,
    ended: u64,
    joined: bool,
    unknown_followers: bool,
    /// What ends at a time that is an estimate, and how many runs that is from; 0 if it was declared.
    estimated: BTreeMap<MemberKey, u32>,
    /// Of those that ended: how many were estimated from runs, the fewest runs, and how many were declared.
    basis: (u64, Option<u32>, u64),
    /// Members that were placed and did not run yet at first, if a throttle bounds how many may be.
    starting: Option<u64>,
}

/// When the task would start that the first round, made from this state, does not place.
pub(crate) fn start(state: State, task: TaskKey, first: &Proposal, now: TimeMs, effort: &mut Effort) -> Option<Start> {
    let spec = state.step_spec(task.job, task.step)?.clone();
    let queue = state.outline(task.job)?.spec.queue.clone();
    let mut ahead = Ahead::of(state, now);
    ahead.place(first);
    // What the throttle held up goes on as soon as it may.
    let (mut is_settled, mut ends) = (settles(first) && ahead.starting.is_none_or(|starting| starting == 0), 0);
    for _ in 0..FORECAST_ROUNDS {
        if is_settled {
            if !ahead.next(ends >= EXACT_ENDS) {
                return Some(ahead.stuck(task, &queue, &spec));
            }
            ends += 1;
        }
        if ahead.state.task_state(task) != Some(TaskState::Ready) {
            return Some(Start::StopsBefore(ahead.now));
        }
        let Some(proposal) = effort.round(&ahead.state, ahead.now) else { break };
        if let Verdict::Placed(_) = effort.judged(&proposal, task) {
            return Some(ahead.starts());
        }
        ahead.place(&proposal);
        is_settled = settles(&proposal);
    }
    effort.cut = true;
    Some(Start::Beyond(ahead.now))
}

/// Whether there is nothing to be done after a round until something ends. After one that did something there is another: room may be
/// kept then for somebody who is to go before others at the next end.
fn settles(proposal: &Proposal) -> bool {
    proposal.complete && proposal.plans.is_empty()
}

impl Ahead {
    fn of(state: State, now: TimeMs) -> Self {
        let now = now.max(state.time());
        let (ends, endless, known, leaving, wake) = Default::default();
        let (ended, joined, unknown_followers) = (0, false, false);
        let (estimated, basis) = Default::default();
        let mut ahead = Self {
            first: state.clone(),
            starting: (!state.policy().throttle.is_none()).then(|| starting(&state)),
            state,
            began: now,
            now,
            ends,
            endless,
            known,
            leaving,
            wake,
            ended,
            joined,
            unknown_followers,
            estimated,
            basis,
        };
        ahead.take_in();
        ahead.accept();
        ahead
    }

    /// It is placed now.
    fn starts(self) -> Start {
        let Self { now: at, joined, ended: ends, unknown_followers, basis, starting, .. } = self;
        if let Some(starting) = starting.filter(|_| at == self.began && ends == 0) {
            return Start::OnceRunning { starting };
        }
        let ((learned, runs, expected), throttled) = (basis, starting.is_some());
        Start::At { at, joined, ends, unknown_followers, learned, runs, expected, throttled }
    }

    /// Places what a round has placed.
    fn place(&mut self, proposal: &Proposal) {
        for plan in &proposal.plans {
            perform(&mut self.state, self.now, Command::CommitPlan(plan.clone()));
        }
        self.wake = proposal.wake_at;
        self.take_in();
        if self.starting.is_some() && !proposal.plans.is_empty() {
            self.accept();
        }
    }

    /// Notes when what runs has to end; who is asked to go ends sooner than was known.
    fn take_in(&mut self) {
        let nodes: Vec<NodeId> = self.state.nodes().map(|(id, _)| id).collect();
        for node in nodes {
            for (key, attempt, member) in self.state.live_members(node) {
                let leaves = attempt.desired != AttemptDesired::Run && self.leaving.insert(key);
                if !self.known.insert(key) && !leaves {
                    continue;
                }
                if leaves {
                    self.endless.retain(|(_, other)| *other != key);
                    self.ends.values_mut().for_each(|keys| keys.retain(|(_, other)| *other != key));
                }
                match self
                    .state
                    .step_spec(key.task.job, key.task.step)
                    .and_then(|spec| end(&self.state, (key, spec), attempt, member, self.now))
                {
                    Some((at, basis)) => {
                        match basis {
                            Basis::Bound => None,
                            Basis::Declared => self.estimated.insert(key, 0),
                            Basis::Runs(runs) => self.estimated.insert(key, runs),
                        };
                        self.ends.entry(at.max(self.now)).or_default().push((node, key));
                    }
                    None => self.endless.push((node, key)),
                }
            }
        }
    }

    /// What agents have not said yet that they have is taken as had: otherwise it would be given up meanwhile. Where a throttle bounds what
    /// starts it is taken as running, since nobody knows how long that takes.
    fn accept(&mut self) {
        let least = if self.starting.is_some() { Phase::Running } else { Phase::Accepted };
        let nodes: Vec<NodeId> = self.state.nodes().map(|(id, _)| id).collect();
        for node in nodes {
            let placed = self.state.live_members(node).filter(|(_, _, member)| member.phase < least);
            let placed: Vec<_> = placed.map(|(key, ..)| (key, None)).collect();
            self.report(node, placed);
        }
    }

    /// Goes on to when something ends next; `false` if nothing has to.
    fn next(&mut self, may_join: bool) -> bool {
        self.ends.retain(|_, keys| !keys.is_empty());
        let first = self.ends.first_key_value().map(|(at, _)| *at);
        let wake = self.wake.take().filter(|wake| first.is_none_or(|first| *wake < first));
        if let Some(wake) = wake {
            self.now = self.now.max(wake);
            return true;
        }
        let Some(first) = &first else { return false };
        let mut until = *first;
        if may_join {
            let window = first.0.saturating_sub(self.began.0) / JOINED_PART;
            let last = self.ends.range(..=first.after(window)).next_back().map(|(at, _)| *at);
            until = last.unwrap_or(*first);
            self.joined |= until != *first;
        }
        self.now = self.now.max(until);
        let later = self.ends.split_off(&until.after(1));
        let over = std::mem::replace(&mut self.ends, later);
        self.end(over.into_values().flatten().collect());
        for _ in 0..TICKS {
            if self.state.next_deadline().is_none_or(|at| at > self.now) {
                break;
            }
            perform(&mut self.state, self.now, Command::Tick);
        }
        true
    }

    fn end(&mut self, over: Vec<(NodeId, MemberKey)>) {
        let mut by_node: BTreeMap<NodeId, Vec<Said>> = BTreeMap::new();
        let good = Arc::new(good_end());
        for (node, key) in over {
            self.ended += u64::from(key.rank.0 == 0);
            self.unknown_followers |= self.writes_a_list(key.task);
            self.count_basis(key);
            by_node.entry(node).or_default().push((key, Some(good.clone())));
        }
        by_node.into_iter().for_each(|(node, keys)| self.report(node, keys));
    }

    /// Notes on what it rests when somebody ended.
    fn count_basis(&mut self, key: MemberKey) {
        let Some(of) = self.estimated.get(&key).copied() else { return };
        let ((learned, runs, expected), one) = (&mut self.basis, u64::from(key.rank.0 == 0));
        if of == 0 {
            *expected += one;
            return;
        }
        *learned += one;
        *runs = Some(runs.map_or(of, |runs| runs.min(of)));
    }

    fn writes_a_list(&self, task: TaskKey) -> bool {
        let steps = self.state.outline(task.job).map(|job| job.spec.steps.as_slice()).unwrap_or_default();
        steps.iter().any(|step| matches!(step.fan_out, FanOut::Output { step, .. } if step == task.step))
    }

    fn report(&mut self, node: NodeId, keys: Vec<Said>) {
        let Some(incarnation) = self.state.node(node).map(|node| node.incarnation) else { return };
        for part in keys.chunks(limits::REPORTS_PER_ENTRY) {
            let lives = if self.starting.is_some() { Phase::Running } else { Phase::Accepted };
            let report = |(member, end): &Said| AttemptReport {
                member: *member,
                phase: if end.is_some() { Phase::Ended } else { lives },
                times: PhaseTimes::NONE,
                end: end.clone(),
                checkpoint: None,
                stuck: None,
                saved_at: None,
            };
            let reports = part.iter().map(report).collect();
            let command = Command::ReportAttempts(ReportAttempts { node, incarnation, reports });
            perform(&mut self.state, self.now, command);
            self.state = self.state.clone().as_learned_in(&self.first);
        }
    }

    /// Nothing has to end any more, and the task still waits.
    fn stuck(mut self, task: TaskKey, queue: &QueuePath, spec: &StepSpec) -> Start {
        let endless = std::mem::take(&mut self.endless);
        let live = |(node, key): &(NodeId, MemberKey)| {
            self.state.live_members(*node).any(|(live, ..)| live == *key).then_some((*node, *key))
        };
        let endless: Vec<_> = endless.iter().filter_map(live).collect();
        let way = |alternative| way(&self.state, queue, (spec, alternative), Reckon::Kept, None);
        let met = alternatives(spec).flat_map(|alternative| way(alternative).bounds).flatten();
        let met: BTreeSet<QueuePath> = met.map(|bound| bound.queue).collect();
        let in_the_way = |(node, key): &&(NodeId, MemberKey)| {
            let suits = self.state.node(*node).is_some_and(|node| spec.allows(&node.inventory));
            let of = self.state.outline(key.task.job).map(|job| &job.spec.queue);
            suits || of.is_some_and(|of| met.iter().any(|bound| bound.covers(of)))
        };
        let tasks = endless.iter().rev().filter(in_the_way).map(|(node, key)| (key.task, *node));
        let tasks: BTreeMap<TaskKey, NodeId> = tasks.collect();
        self.end(endless);
        let waits = self.state.task_state(task) == Some(TaskState::Ready);
        // Room that is kept, for it or for others, is not what it would wait for then.
        let claims: Vec<TaskKey> = self.state.claims().map(|(key, _)| *key).collect();
        claims.into_iter().for_each(|key| self.state = self.state.without_claim(key));
        let mut line = Line::of(&self.state);
        let tags = self.state.job(task.job).map(|job| job.spec.tags.clone()).unwrap_or_default();
        let own = Own { tags, key: (task.job, task.step) };
        let ever = waits && Fit::of(&self.state, spec, own).is_possible(&self.state, queue, spec, Some(&mut line));
        if !ever || tasks.is_empty() {
            return Start::NotEvenThen;
        }
        let all = tasks.len() as u64;
        let whose = tasks.into_iter().take(NAMED).map(|(task, node)| Endless { task, node }).collect();
        Start::NoTimeout { whose, all }
    }
}

/// Members that are placed and do not run yet.
fn starting(state: &State) -> u64 {
    let live = state.nodes().flat_map(|(id, _)| state.live_members(id));
    live.filter(|(.., member)| member.phase < Phase::Running).count() as u64
}

/// When a member will have ended, and how that is known; nothing if it is not.
fn end(
    state: &State,
    (key, spec): (MemberKey, &StepSpec),
    attempt: &Attempt,
    member: &Member,
    now: TimeMs,
) -> Option<(TimeMs, Basis)> {
    if attempt.desired != AttemptDesired::Run {
        let job = state.outline(key.task.job).filter(|_| attempt.preempted.is_some());
        let Some(contract) = job.map(|job| state.contract(&job.spec.queue)) else {
            return Some((now.after(spec.kill_grace_ms), Basis::Bound));
        };
        let notice_ms = spec.notice.map_or(0, |notice| notice.ms.min(contract.notice_ms));
        return Some((now.after(notice_ms).after(spec.kill_grace_ms.min(contract.kill_within_ms)), Basis::Bound));
    }
    let began = member.times.running.unwrap_or(attempt.placed_at).max(attempt.placed_at);
    let (lasts, basis) = state.lasts(key.task.job, key.task.step)?;
    Some((began.after(lasts), basis))
}

fn good_end() -> End {
    End {
        outcome: AttemptOutcome::Succeeded,
        reason: Reason::Exit,
        blame: Blame::User,
        exit_code: Some(0),
        signal: None,
        message: String::new(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: BTreeMap::new(),
        logs: Logs::NONE,
    }
}
