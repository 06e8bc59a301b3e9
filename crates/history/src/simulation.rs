//! A workload in virtual time: what happens from outside comes at its time, what is placed is decided by a policy, and what runs ends
//! as it did.
//!
//! Ids are given anew, because another order may give other ones; what the workload calls a job or a node is translated.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use flowyard_model::{
    Attempt, AttemptDesired, AttemptNumber, AttemptOutcome, AttemptReport, Blame, ChangeDevice, ChangeNode, Command,
    Effects, End, Entry, Health, Incarnation, JobId, JobSpec, Logs, Member, MemberKey, NodeId, Phase, PhaseTimes, Plan,
    Reason, RegisterNode, Reply, ReportAttempts, Revision, SetDevices, SubmitJob, TaskKey, TimeMs,
};
use flowyard_scheduling::{Bound, Proposal};
use flowyard_state::{State, apply};

use crate::fragmented::Kinds;
use crate::measures::Measures;
use crate::observer::Observer;
use crate::policy::{Placing, Policy};
use crate::workload::{Happening, Told, Workload};

/// Rounds are this far apart at least: what falls due meanwhile is placed together.
const APART_MS: u64 = 100;
/// From when a member is asked to stop until it has stopped, if it takes no notice.
const STOP_MS: u64 = 100;
/// What a round may do.
const BOUND: Bound = Bound { tasks: 4_000, steps: 4_000_000 };
/// Who asks for what an operator asked for.
const OPERATOR: &str = "what-if";
/// A tick that came to nothing is not tried again before.
const IDLE_MS: u64 = 60_000;

/// What comes at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// Something from outside, by its place in the workload.
    Happening(usize),
    /// A process runs.
    Running(NodeId, MemberKey),
    /// It has saved its work.
    Saved(NodeId, MemberKey),
    /// A member ends.
    End(NodeId, MemberKey),
    /// Time passes.
    Tick,
    /// What is free is given out; after everything else of that time.
    Round,
}

/// A workload that runs.
pub(crate) struct Simulation<'w> {
    workload: &'w Workload,
    policy: Policy,
    state: State,
    now: TimeMs,
    due: BinaryHeap<Reverse<(TimeMs, Due)>>,
    placing: Placing,
    observer: Observer,
    /// Ids of the workload, as they are here, and back.
    jobs: BTreeMap<JobId, JobId>,
    recorded_jobs: BTreeMap<JobId, JobId>,
    nodes: BTreeMap<NodeId, NodeId>,
    /// Members that were asked to stop, and will.
    stopping: BTreeSet<MemberKey>,
    last_round: Option<TimeMs>,
    round_due: bool,
    /// When a round is made whatever happens until then.
    wake_due: Option<TimeMs>,
    tick_due: Option<TimeMs>,
    /// Until then no tick is needed, because one came to nothing.
    idle_until: TimeMs,
    /// Attempts that ran as others of their task or step did, because they were not recorded.
    pub(crate) guessed: u64,
    /// Attempts of which nothing is known; they run to the end.
    pub(crate) unknown: u64,
    /// What was refused that was not, when it was recorded.
    pub(crate) refused: Vec<String>,
}

impl<'w> Simulation<'w> {
    pub(crate) fn new(workload: &'w Workload, policy: Policy, seed: u64) -> Self {
        let state = workload.base.clone();
        let mut this = Self {
            observer: Observer::new(&state, &workload.kinds()),
            now: state.time().max(begins(workload)),
            jobs: state.outlines().map(|(id, _)| (id, id)).collect(),
            recorded_jobs: state.outlines().map(|(id, _)| (id, id)).collect(),
            nodes: state.nodes().map(|(id, _)| (id, id)).collect(),
            due: BinaryHeap::new(),
            placing: Placing::new(policy, seed),
            stopping: BTreeSet::new(),
            last_round: None,
            round_due: false,
            wake_due: None,
            tick_due: None,
            idle_until: TimeMs(0),
            guessed: 0,
            unknown: 0,
            refused: Vec::new(),
            workload,
            policy,
            state,
        };
        this.begin();
        this
    }

    /// What runs and waits already.
    fn begin(&mut self) {
        for at in 0..self.workload.happenings.len() {
            self.wait_for(self.workload.happenings[at].0, Due::Happening(at));
        }
        let jobs: BTreeSet<JobId> = self.state.outlines().map(|(id, _)| id).collect();
        self.placing.changed(&self.state, &jobs);
        let nodes: BTreeSet<NodeId> = self.state.nodes().map(|(id, _)| id).collect();
        for node in &nodes {
            let live: Vec<_> =
                self.state.live_members(*node).map(|(key, attempt, _)| (key, attempt.placed_at)).collect();
            live.into_iter().for_each(|(key, placed_at)| self.runs(*node, key, placed_at));
        }
        self.see_stops(&nodes);
        self.want_round();
        self.want_tick();
    }

    /// The state as it is.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// What the workload calls a job.
    pub(crate) fn recorded(&self, job: JobId) -> JobId {
        self.recorded_jobs.get(&job).copied().unwrap_or(job)
    }

    /// Applies what an operator changes at the beginning; whether it was taken.
    pub(crate) fn change(&mut self, command: Command) -> Effects {
        self.apply(command)
    }

    /// Runs to the end of the record, or until nothing more comes; shows the state as it was until each time.
    pub(crate) fn run(mut self, seen: &mut dyn FnMut(TimeMs, &State)) -> (Measures, Self) {
        let until = self.workload.until;
        seen(self.now, &self.state);
        while let Some(Reverse((at, due))) = self.due.pop() {
            if until.is_some_and(|until| at > until) || (due == Due::Tick && self.is_over()) {
                break;
            }
            if at > self.now {
                seen(at, &self.state);
            }
            self.now = self.now.max(at);
            match due {
                Due::Happening(at) => self.happens(at),
                Due::Running(node, key) => self.reports(node, key, Phase::Running, None),
                Due::Saved(node, key) => self.saved(node, key),
                Due::End(node, key) => self.ends(node, key),
                Due::Tick => self.tick(),
                Due::Round => self.round(),
            }
        }
        let end = until.unwrap_or(self.now);
        let observer = std::mem::replace(&mut self.observer, Observer::new(&State::new(), &Kinds::new()));
        (observer.finish(end), self)
    }

    /// Whether nothing can come any more but the passing of time that nobody waits for.
    fn is_over(&self) -> bool {
        let only_ticks = self.due.iter().all(|Reverse((_, due))| *due == Due::Tick);
        let waits = |task: &flowyard_model::Task| matches!(task.state, flowyard_model::TaskState::Waiting(_));
        let waiting = || self.state.outlines().any(|(id, _)| self.state.tasks_of(id).any(|(_, task)| waits(task)));
        only_ticks && !waiting()
    }

    fn wait_for(&mut self, at: TimeMs, due: Due) {
        self.due.push(Reverse((at.max(self.now), due)));
    }

    fn apply(&mut self, command: Command) -> Effects {
        let index = Revision(self.state.revision().0 + 1);
        let effects = apply(&mut self.state, Entry { index, time: self.now, command: command.clone() });
        self.observer.saw(&self.state, &command, &effects);
        self.placing.changed(&self.state, &effects.changed.jobs);
        if effects.changed.placement {
            self.want_round();
        }
        self.see_stops(&effects.changed.nodes);
        self.want_tick();
        effects
    }

    fn want_round(&mut self) {
        if !self.round_due {
            self.round_due = true;
            let earliest = self.last_round.map_or(self.now, |last| last.after(APART_MS));
            self.wait_for(earliest, Due::Round);
        }
    }

    fn want_tick(&mut self) {
        let Some(at) = self.state.next_deadline() else { return };
        let at = at.max(self.now).max(self.idle_until);
        if self.tick_due.is_none_or(|due| at < due) {
            self.tick_due = Some(at);
            self.wait_for(at, Due::Tick);
        }
    }

    fn tick(&mut self) {
        // One that was put off, or is early because an earlier one was needed, does no harm.
        self.tick_due = self.tick_due.filter(|due| *due > self.now);
        if self.state.next_deadline().is_none_or(|at| at > self.now) {
            return self.want_tick();
        }
        self.idle_until = self.now.after(IDLE_MS);
        let effects = self.apply(Command::Tick);
        if !(effects.changed.jobs.is_empty() && effects.changed.nodes.is_empty()) {
            self.idle_until = TimeMs(0);
            self.want_tick();
        }
    }

    /// Notes which members are asked to stop, on nodes of which anything changed.
    fn see_stops(&mut self, nodes: &BTreeSet<NodeId>) {
        let mut stops = Vec::new();
        for node in nodes {
            let runs = |(_, attempt, member): &(MemberKey, &Attempt, &Member)| {
                attempt.desired_of(member) == AttemptDesired::Run
            };
            let asked = self.state.live_members(*node).filter(|it| !runs(it));
            stops.extend(asked.map(|(key, attempt, _)| (*node, key, attempt.preempted.is_some())));
        }
        for (node, key, evicted) in stops {
            if self.stopping.insert(key) {
                // Whoever is evicted with notice uses it.
                let spec = self.state.step_spec(key.task.job, key.task.step).filter(|_| evicted);
                let notice_ms = spec.and_then(|spec| spec.notice).map_or(0, |notice| notice.ms);
                self.wait_for(self.now.after(notice_ms).after(STOP_MS), Due::End(node, key));
            }
        }
    }

    fn happens(&mut self, at: usize) {
        let happening = &self.workload.happenings[at].1;
        let Some(command) = self.command(happening) else { return };
        let effects = self.apply(command);
        match (happening, effects.reply) {
            (Happening::Submit(recorded, _), Reply::Submitted { job, .. }) => {
                self.jobs.insert(*recorded, job);
                self.recorded_jobs.insert(job, *recorded);
            }
            (Happening::Register(recorded, _), Reply::Registered { node, .. }) => {
                self.nodes.insert(*recorded, node);
            }
            (Happening::Submit(recorded, _), Reply::Rejected(why)) => {
                self.refused.push(format!("job {recorded}: {why}"))
            }
            (Happening::Put(queue), Reply::Rejected(why)) => self.refused.push(format!("queue {}: {why}", queue.path)),
            _ => {}
        }
    }

    fn command(&self, happening: &Happening) -> Option<Command> {
        let node = |recorded: &NodeId| self.nodes.get(recorded).copied();
        Some(match happening {
            Happening::Submit(_, wish) => Command::SubmitJob(self.wish(wish)),
            Happening::Cancel(job) => Command::CancelJob { job: *self.jobs.get(job)? },
            Happening::Put(queue) => Command::PutQueue(self.policy.queue(queue)),
            Happening::Drop(path) => Command::DropQueue { path: path.clone() },
            Happening::Register(_, wish) => Command::RegisterNode(RegisterNode {
                previous: wish.previous.and_then(|(id, _)| Some((node(&id)?, self.incarnation(node(&id)?)?))),
                ..wish.clone()
            }),
            Happening::Health(id, health) => {
                let (node, health) = (node(id)?, *health);
                Command::SetNodeHealth { node, incarnation: self.incarnation(node)?, health }
            }
            Happening::Scheduling(id, scheduling) => {
                Command::SetNodeScheduling { node: node(id)?, scheduling: *scheduling }
            }
            Happening::Change(id, change) => Command::ChangeNode(ChangeNode {
                node: node(id)?,
                change: *change,
                by: OPERATOR.to_owned(),
                reason: String::new(),
            }),
            Happening::Found(id, devices) => {
                let (node, devices) = (node(id)?, devices.clone());
                Command::SetDevices(SetDevices { node, incarnation: self.incarnation(node)?, devices })
            }
            Happening::Device(id, wish) => Command::ChangeDevice(ChangeDevice { node: node(id)?, ..wish.clone() }),
            Happening::Same(command) => command.clone(),
        })
    }

    fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        self.state.node(node).map(|node| node.incarnation)
    }

    /// A submission that names the jobs it waits for as they are called here.
    fn wish(&self, wish: &SubmitJob) -> SubmitJob {
        if wish.spec.after.is_empty() {
            return wish.clone();
        }
        let after = wish.spec.after.iter().map(|job| self.jobs.get(job).copied().unwrap_or(*job)).collect();
        SubmitJob { spec: Arc::new(JobSpec { after, ..(*wish.spec).clone() }), ..wish.clone() }
    }

    fn round(&mut self) {
        self.round_due = false;
        self.last_round = Some(self.now);
        // What is placed must see the time that it is.
        if self.state.time() < self.now {
            self.apply(Command::Tick);
        }
        loop {
            let Proposal { plans, complete, wake_at, .. } = self.placing.round(&self.state, self.now, BOUND);
            let mut taken = false;
            for plan in plans {
                taken |= self.commit(plan);
            }
            if complete || !taken {
                // Somebody may be evicted later who may not be now.
                let later = wake_at.map(|at| at.max(self.now.after(APART_MS)));
                if let Some(at) = later.filter(|at| self.wake_due.is_none_or(|due| due <= self.now || *at < due)) {
                    self.wake_due = Some(at);
                    self.wait_for(at, Due::Round);
                }
                break;
            }
        }
    }

    /// Whether anything of the plan was taken.
    fn commit(&mut self, plan: Plan) -> bool {
        let placed: Vec<(TaskKey, AttemptNumber)> = plan.placements.iter().map(|it| (it.task, it.attempt)).collect();
        let repairs: Vec<_> = plan.repairs.iter().map(|it| (it.task, it.seats.clone())).collect();
        let claims = plan.claims.len();
        let reply = self.apply(Command::CommitPlan(plan)).reply;
        let Reply::PlanCommitted { refused, refused_claims } = reply else { return false };
        if claims > refused_claims.len() {
            // A round makes so many claims and no more.
            self.want_round();
        }
        let refused: Vec<u32> = refused.into_iter().map(|(at, _)| at).collect();
        let taken = (0..).zip(placed).filter(|(at, _)| refused.binary_search(at).is_err());
        let mut members = Vec::new();
        for (task, rank) in repairs.iter().flat_map(|(task, seats)| seats.iter().map(|(rank, _)| (*task, *rank))) {
            let Some(attempt) = self.state.task(task).and_then(|task| task.attempts.last()) else { continue };
            let new = attempt.members.get(rank.0 as usize).filter(|member| member.phase == Phase::Placed);
            members.extend(new.map(|member| (member.node, attempt.member_key(task, rank), self.state.time())));
        }
        for (_, (task, number)) in taken {
            let Some(attempt) = self.state.attempt(task, number) else { continue };
            for (rank, member) in (0..).zip(&attempt.members) {
                members.push((member.node, attempt.member_key(task, flowyard_model::Rank(rank)), attempt.placed_at));
            }
        }
        members.iter().for_each(|(node, key, placed_at)| self.runs(*node, *key, *placed_at));
        !members.is_empty()
    }

    /// A member is placed: what becomes of it is known, if nobody stops it.
    fn runs(&mut self, node: NodeId, key: MemberKey, placed_at: TimeMs) {
        let Some(Told { course, known }) = self.told(key) else {
            self.unknown += 1;
            return;
        };
        self.guessed += u64::from(!known);
        if course.start_ms < course.end_ms {
            self.wait_for(placed_at.after(course.start_ms), Due::Running(node, key));
        }
        // What was saved before is in the state.
        let now = self.now;
        for at in course.saves.iter().map(|at| placed_at.after(*at)).filter(|at| *at >= now) {
            self.wait_for(at, Due::Saved(node, key));
        }
        self.wait_for(placed_at.after(course.end_ms), Due::End(node, key));
    }

    fn told(&self, key: MemberKey) -> Option<Told> {
        let task = TaskKey { job: self.recorded(key.task.job), ..key.task };
        self.workload.courses.of(task, key.attempt, key.rank)
    }

    fn is_live(&self, node: NodeId, key: MemberKey) -> Option<AttemptDesired> {
        let attempt = self.state.attempt(key.task, key.attempt).filter(|attempt| attempt.epoch == key.epoch)?;
        let member = attempt.members.get(key.rank.0 as usize).filter(|it| it.replacement == key.replacement)?;
        (member.node == node && member.phase != Phase::Ended).then_some(attempt.desired_of(member))
    }

    fn ends(&mut self, node: NodeId, key: MemberKey) {
        let Some(desired) = self.is_live(node, key) else {
            self.stopping.remove(&key);
            return;
        };
        let end = match desired {
            AttemptDesired::Run => self.told(key).map(|told| told.course.end),
            _ if self.stopping.remove(&key) => Some(Arc::new(stopped())),
            _ => None,
        };
        if let Some(end) = end {
            self.reports(node, key, Phase::Ended, Some(end));
        }
    }

    fn reports(&mut self, node: NodeId, member: MemberKey, phase: Phase, end: Option<Arc<End>>) {
        let now = Some(self.now);
        let times = match phase {
            Phase::Ended => PhaseTimes { ended: now, ..PhaseTimes::NONE },
            _ => PhaseTimes { accepted: now, running: now, ..PhaseTimes::NONE },
        };
        self.says(node, AttemptReport { member, phase, times, end, checkpoint: None, stuck: None, saved_at: None });
    }

    /// A member has saved its work, so that less is lost if it has to go.
    fn saved(&mut self, node: NodeId, member: MemberKey) {
        let (phase, times, saved_at) = (Phase::Running, PhaseTimes::NONE, Some(self.now));
        self.says(node, AttemptReport { member, phase, times, end: None, checkpoint: None, stuck: None, saved_at });
    }

    fn says(&mut self, node: NodeId, report: AttemptReport) {
        let (Some(_), Some(incarnation)) = (self.is_live(node, report.member), self.incarnation(node)) else { return };
        // An agent that is not heard from reports nothing; it does once it is heard from again, if it still has it.
        if self.state.node(node).is_some_and(|node| node.health != Health::Up) && report.phase != Phase::Ended {
            return;
        }
        self.apply(Command::ReportAttempts(ReportAttempts { node, incarnation, reports: vec![report] }));
    }
}

/// When a workload begins that has no past: before its first happening there is no time worth counting.
fn begins(workload: &Workload) -> TimeMs {
    let first = workload.happenings.first().filter(|_| workload.base.revision() == Revision(0));
    first.map_or(TimeMs(0), |(at, _)| *at)
}

fn stopped() -> End {
    End {
        outcome: AttemptOutcome::Stopped,
        reason: Reason::Cancelled,
        blame: Blame::Platform,
        exit_code: None,
        signal: None,
        message: String::new(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: BTreeMap::new(),
        logs: Logs::NONE,
    }
}
