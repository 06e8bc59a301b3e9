//! The attempts of one hollow node. Pure: times are handed in, and what is to be reported is handed out.
//!
//! What to begin, stop and forget is decided by the agent's own `reconcile`; here is only what the attempts come to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use flowyard_agent::attempt::ending::{bare, platforms, users};
use flowyard_agent::attempt::{lost, stopped_early};
use flowyard_agent::reconcile::{Action, Observed, Wishes, reconcile};
use flowyard_model::{
    AttemptOutcome, AttemptReport, Blame, Desired, End, JobId, MemberKey, Phase, PhaseTimes, Reason, StepContext,
    StepIndex, TimeMs,
};

use crate::counts::Counts;
use crate::fate::{Fate, Fates};
use crate::order::LABEL;

/// The variable in which a task says how long it is to take, in milliseconds; no time at all if it does not.
pub const DURATION: &str = "HOLLOW_MS";

/// The time now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Of the boot, which passes evenly.
    pub boot_ms: u64,
    /// Of the wall, which is reported.
    pub wall_ms: u64,
}

impl Now {
    /// The machine's.
    pub fn of_clock() -> Self {
        Self { boot_ms: flowyard_clock::boot_ms(), wall_ms: flowyard_clock::wall_ms() }
    }
}

/// What is kept of a step.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Whether it asks for hollow nodes of this run.
    ours: bool,
    duration_ms: u64,
}

/// One attempt.
#[derive(Debug)]
struct Held {
    times: PhaseTimes,
    /// Once it is over.
    end: Option<Arc<End>>,
}

/// Everything that one hollow node has and is wanted to have.
#[derive(Debug)]
pub struct Attempts {
    run: Arc<str>,
    fates: Fates,
    counts: Arc<Counts>,
    wishes: Wishes,
    held: BTreeMap<MemberKey, Held>,
    steps: BTreeMap<(JobId, StepIndex), Step>,
    /// When each that runs is over; also of some that were stopped before.
    due: BinaryHeap<Reverse<(u64, MemberKey)>>,
}

impl Attempts {
    /// A node of this run, on which nothing runs yet.
    pub fn none(run: Arc<str>, fates: Fates, counts: Arc<Counts>) -> Self {
        Self {
            run,
            fates,
            counts,
            wishes: Wishes::default(),
            held: BTreeMap::new(),
            steps: BTreeMap::new(),
            due: BinaryHeap::new(),
        }
    }

    /// Everything it has, for the beginning of a session.
    pub fn everything(&self) -> Vec<AttemptReport> {
        self.held.iter().map(|(key, held)| report(*key, held)).collect()
    }

    /// Follows what a coordinator wants; what there is to report of it.
    pub fn follow(&mut self, desired: &Desired, now: Now) -> Vec<AttemptReport> {
        let touched = self.wishes.take(desired, self.held.keys().copied());
        for context in &desired.steps {
            self.steps.insert((context.job, context.step), self.step(context));
        }
        let news = touched.into_iter().filter_map(|key| self.act(key, now)).collect();
        self.drop_unused_steps();
        news
    }

    /// When the next attempt is over, in milliseconds of boot time.
    pub fn due_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at_ms, _))| *at_ms)
    }

    /// Ends what is over by now; what there is to report of it.
    pub fn pass(&mut self, now: Now) -> Vec<AttemptReport> {
        let mut news = Vec::new();
        while let Some(Reverse((at_ms, key))) = self.due.peek().copied()
            && at_ms <= now.boot_ms
        {
            self.due.pop();
            let runs = self.held.get(&key).is_some_and(|held| held.end.is_none());
            if runs {
                news.push(self.end(key, self.drawn(key), now));
                if self.wishes.is_undesired(key) {
                    self.act(key, now);
                }
            }
        }
        news
    }

    fn step(&self, context: &StepContext) -> Step {
        let of_run = |values: &[String]| values.iter().any(|value| **value == *self.run);
        let ours = context.spec.constraints.iter().any(|asked| asked.label.as_str() == LABEL && of_run(&asked.values));
        let duration_ms = context.spec.env.get(DURATION).and_then(|text| text.parse().ok()).unwrap_or(0);
        Step { ours, duration_ms }
    }

    fn act(&mut self, key: MemberKey, now: Now) -> Option<AttemptReport> {
        let observed = self.held.get(&key).map(|held| match held.end {
            Some(_) => Observed::Ended,
            None => Observed::Live { stopping: false },
        });
        match reconcile(self.wishes.of(key), observed)? {
            Action::Start => Some(self.begin(key, now)),
            Action::Stop => {
                self.counts.add(&self.counts.stopped);
                let stopped = bare(AttemptOutcome::Stopped, Reason::Cancelled, Blame::User, "stopped on request");
                let news = self.end(key, stopped, now);
                if self.wishes.is_undesired(key) {
                    self.held.remove(&key);
                }
                Some(news)
            }
            Action::Report => self.held.get(&key).map(|held| report(key, held)),
            Action::ReportLost => {
                self.counts.add(&self.counts.lost);
                Some(ended(key, lost(), now))
            }
            Action::ReportStopped => {
                self.counts.add(&self.counts.stopped);
                Some(ended(key, stopped_early(), now))
            }
            Action::Forget => {
                self.held.remove(&key);
                self.counts.add(&self.counts.let_go);
                None
            }
        }
    }

    fn begin(&mut self, key: MemberKey, now: Now) -> AttemptReport {
        let at = Some(TimeMs(now.wall_ms));
        self.held.insert(key, Held { times: PhaseTimes { accepted: at, ..PhaseTimes::NONE }, end: None });
        let Some(step) = self.steps.get(&(key.task.job, key.task.step)).copied().filter(|step| step.ours) else {
            self.counts.add(&self.counts.refused);
            let why = "this is a hollow node of a capacity test, on which nothing can run";
            return self.end(key, bare(AttemptOutcome::Rejected, Reason::Refused, Blame::Platform, why), now);
        };
        self.counts.begin(key.task, key.attempt);
        if let Some(held) = self.held.get_mut(&key) {
            held.times.running = at;
        }
        if step.duration_ms == 0 {
            return self.end(key, self.drawn(key), now);
        }
        self.due.push(Reverse((now.boot_ms.saturating_add(step.duration_ms), key)));
        report(key, &self.held[&key])
    }

    /// How it ends that was drawn for it.
    fn drawn(&self, key: MemberKey) -> End {
        match self.fates.of(key.task, key.attempt) {
            Fate::Succeeds => {
                self.counts.add(&self.counts.succeeded);
                End { exit_code: Some(0), ..bare(AttemptOutcome::Succeeded, Reason::Exit, Blame::User, "") }
            }
            Fate::Fails => {
                self.counts.add(&self.counts.failed);
                End { exit_code: Some(1), ..users(Reason::Exit, "the command exited with code 1, as was drawn") }
            }
            Fate::Breaks => {
                self.counts.add(&self.counts.broken);
                platforms(Reason::Sandbox, "the hollow node could not run it, as was drawn")
            }
        }
    }

    fn end(&mut self, key: MemberKey, end: End, now: Now) -> AttemptReport {
        let held = self.held.entry(key).or_insert(Held { times: PhaseTimes::NONE, end: None });
        held.times.ended = Some(TimeMs(now.wall_ms));
        held.end = Some(Arc::new(end));
        report(key, held)
    }

    /// The coordinator tells of a step again with the next member of it.
    fn drop_unused_steps(&mut self) {
        let used: BTreeSet<_> =
            self.wishes.members().chain(self.held.keys()).map(|key| (key.task.job, key.task.step)).collect();
        self.steps.retain(|step, _| used.contains(step));
    }
}

fn report(member: MemberKey, held: &Held) -> AttemptReport {
    let phase = if held.end.is_some() { Phase::Ended } else { Phase::Running };
    AttemptReport {
        member,
        phase,
        times: held.times,
        end: held.end.clone(),
        checkpoint: None,
        stuck: None,
        saved_at: None,
    }
}

/// The report of a member that is not held.
fn ended(member: MemberKey, end: End, now: Now) -> AttemptReport {
    let times = PhaseTimes { ended: Some(TimeMs(now.wall_ms)), ..PhaseTimes::NONE };
    report(member, &Held { times, end: Some(Arc::new(end)) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flowyard_model::{
        AttemptNumber, Constraint, ConstraintOperator, DesiredMember, Epoch, FanOut, Fence, Image, Isolation,
        NetworkMode, OnDisconnect, OnFailure, Rank, Resources, Retry, Revision, StepSpec, StopSignal, TaskIndex,
        TaskKey, Term,
    };

    use super::*;

    fn key(task: u32) -> MemberKey {
        let task = TaskKey { job: JobId(1), step: StepIndex(0), task: TaskIndex(task) };
        MemberKey { task, attempt: AttemptNumber(1), rank: Rank(0), epoch: Epoch(0), replacement: 0 }
    }

    fn context(run: &str, duration_ms: u64) -> Arc<StepContext> {
        let name: flowyard_model::Name = "work".parse().unwrap();
        let hollow = Constraint {
            label: LABEL.parse().unwrap(),
            operator: ConstraintOperator::In,
            values: vec![run.to_owned()],
        };
        let spec = StepSpec {
            name: name.clone(),
            command: vec!["nothing".to_owned()],
            image: Image::Host,
            isolation: Isolation::Process,
            code: None,
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            fan_out: FanOut::Range { start: 0, count: 10 },
            needs: BTreeMap::new(),
            env: BTreeMap::from([(DURATION.to_owned(), duration_ms.to_string())]),
            resources: Resources {
                cpu_milli: 1_000,
                memory_bytes: 1,
                disk_bytes: 0,
                shm_bytes: 0,
                tokens: BTreeMap::new(),
                gpus: vec![],
            },
            size: 1,
            retry: Retry::plain(0, 0, []),
            timeout_ms: None,
            expected_ms: None,
            on_failure: OnFailure::Continue,
            max_parallel: None,
            constraints: vec![hollow],
            network: NetworkMode::Host,
            mounts: vec![],
            kill_grace_ms: 0,
            stop_signal: StopSignal::Term,
            on_disconnect: OnDisconnect::Keep,
            priority: 0,
            secrets: vec![],
            preemptible: true,
            notice: None,
            placing: Default::default(),
        };
        Arc::new(StepContext {
            job: JobId(1),
            step: StepIndex(0),
            job_name: name,
            spec,
            params: BTreeMap::new(),
            owner: "ada".to_owned(),
            lists: BTreeSet::new(),
        })
    }

    fn desired(all: bool, steps: Vec<Arc<StepContext>>, run: &[u32], gone: &[u32]) -> Desired {
        let member = |task: &u32| DesiredMember {
            key: key(*task),
            gpus: vec![],
            gpu_alternative: 0,
            inputs: BTreeMap::new(),
            item: None,
            known: Phase::Placed,
            gang: None,
        };
        let fence = Fence { term: Term(1), revision: Revision(1) };
        let run = run.iter().map(member).collect();
        Desired {
            fence,
            sequence: 1,
            all,
            steps,
            run,
            stop: vec![],
            gone: gone.iter().map(|task| key(*task)).collect(),
            stop_terms: BTreeMap::new(),
        }
    }

    fn node(failures_ppm: u32) -> (Attempts, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        let fates = Fates { seed: 1, failures_ppm, faults_ppm: 0 };
        (Attempts::none("run".into(), fates, Arc::clone(&counts)), counts)
    }

    fn at(boot_ms: u64) -> Now {
        Now { boot_ms, wall_ms: 1_000_000 + boot_ms }
    }

    fn ends(reports: &[AttemptReport]) -> Vec<(u32, Option<AttemptOutcome>)> {
        let end = |report: &AttemptReport| (report.member.task.task.0, report.end.as_ref().map(|end| end.outcome));
        reports.iter().map(end).collect()
    }

    #[test]
    fn a_task_of_no_time_is_over_at_once_and_forgotten_when_its_end_was_taken() {
        let (mut node, counts) = node(0);
        let news = node.follow(&desired(true, vec![context("run", 0)], &[3], &[]), at(10));
        assert_eq!(ends(&news), [(3, Some(AttemptOutcome::Succeeded))]);
        assert_eq!(news[0].times.running, Some(TimeMs(1_000_010)));
        assert_eq!(node.everything().len(), 1, "a lost session tells it again");
        assert_eq!(ends(&node.follow(&desired(false, vec![], &[], &[3]), at(20))), []);
        assert_eq!((node.everything().len(), node.due_ms()), (0, None));
        let told = counts.told();
        assert_eq!((told.begun, told.succeeded, told.let_go, told.twice), (1, 1, 1, 0));
    }

    #[test]
    fn a_task_takes_the_time_that_it_says_and_ends_as_was_drawn() {
        let (mut node, counts) = node(1_000_000);
        let news = node.follow(&desired(true, vec![context("run", 500)], &[0, 1], &[]), at(1_000));
        assert_eq!(ends(&news), [(0, None), (1, None)]);
        assert_eq!(node.due_ms(), Some(1_500));
        assert_eq!(ends(&node.pass(at(1_499))), []);
        let failed = Some(AttemptOutcome::Failed);
        assert_eq!(ends(&node.pass(at(1_500))), [(0, failed), (1, failed)]);
        assert_eq!(node.everything()[0].end.as_ref().unwrap().exit_code, Some(1));
        assert_eq!(counts.told().failed, 2);
        let again = node.follow(&desired(true, vec![context("run", 500)], &[0], &[]), at(1_600));
        assert_eq!(ends(&again), [(0, failed)], "it is told again and not begun again");
        assert_eq!((counts.told().begun, counts.told().let_go), (2, 1));
    }

    #[test]
    fn what_is_not_wanted_any_more_is_stopped_and_does_not_end_a_second_time() {
        let (mut node, counts) = node(0);
        node.follow(&desired(true, vec![context("run", 500)], &[0], &[]), at(0));
        let news = node.follow(&desired(false, vec![], &[], &[0]), at(1));
        assert_eq!(ends(&news), [(0, Some(AttemptOutcome::Stopped))]);
        assert_eq!(ends(&node.pass(at(600))), []);
        assert_eq!(node.everything(), []);
        assert_eq!((counts.told().stopped, counts.told().succeeded), (1, 0));
    }

    #[test]
    fn work_of_others_is_refused_and_never_pretended() {
        let (mut node, counts) = node(0);
        for foreign in [context("another-run", 0), {
            let mut plain = (*context("run", 0)).clone();
            plain.spec.constraints.clear();
            Arc::new(plain)
        }] {
            let news = node.follow(&desired(true, vec![foreign], &[7], &[]), at(0));
            assert_eq!(ends(&news), [(7, Some(AttemptOutcome::Rejected))]);
            node.follow(&desired(true, vec![], &[], &[]), at(0));
        }
        assert_eq!((counts.told().begun, counts.told().refused), (0, 2));
    }
}
