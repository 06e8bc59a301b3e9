//! One coordinator: what its disk keeps, what its process knows, and what it does when it leads.

use flowyard_coordinator::liveness::LastHeard;
use flowyard_model::*;
use flowyard_state::State;

use crate::clock::Clock;
use crate::leader::Leader;
use crate::mutation::Mutation;
use crate::outside::Outside;
use crate::schedule::{AtReplica, Event};
use crate::wrong;

/// Entries between two snapshots.
const SNAPSHOT_ENTRIES: usize = 400;

pub(crate) struct Replica {
    pub(crate) at: usize,
    pub(crate) clock: Clock,
    /// Its processes so far; the last one runs if it is up.
    pub(crate) process: u64,
    pub(crate) up: bool,
    /// Its process stands still; what happens to it waits.
    pub(crate) paused: bool,
    pub(crate) waiting: Vec<Event>,
    /// Nothing goes to or comes from other coordinators; so often it was cut off.
    pub(crate) isolated: u32,
    /// Time that its disk takes at most.
    pub(crate) disk_ms: u64,
    snapshot: (usize, Vec<Record>),
    pub(crate) applied: usize,
    pub(crate) state: State,
    pub(crate) heard: LastHeard,
    pub(crate) leader: Option<Leader>,
    /// Whether a look at what was chosen is planned.
    pub(crate) catching_up: bool,
}

/// The time that a disk takes on which nothing is wrong.
pub(crate) const USUAL_DISK_MS: u64 = 8;

impl Replica {
    pub(crate) fn new(at: usize, outside: &mut Outside) -> Self {
        let dice = &mut outside.dice;
        let clock = Clock::new(dice.within(1_000, 1 << 30), dice.around(1_000), dice.around(crate::clock::DRIFT_PPM));
        Self {
            at,
            clock,
            process: 1,
            up: true,
            paused: false,
            waiting: Vec::new(),
            isolated: 0,
            disk_ms: USUAL_DISK_MS,
            snapshot: (0, State::new().records().collect()),
            applied: 0,
            state: State::new(),
            heard: LastHeard::default(),
            leader: None,
            catching_up: false,
        }
    }

    /// Whether others hear it and it hears them.
    pub(crate) fn takes_part(&self) -> bool {
        self.up && !self.paused && self.isolated == 0
    }

    pub(crate) fn boot(&self, outside: &Outside) -> u64 {
        self.clock.boot(outside.now())
    }

    pub(crate) fn term(&self) -> Option<u64> {
        self.leader.as_ref().map(|leader| leader.term)
    }

    pub(crate) fn plan(&self, outside: &mut Outside, delay_ms: u64, what: AtReplica) {
        outside.schedule.after(delay_ms, Event::At { replica: self.at, process: self.process, what });
    }

    /// Its process dies.
    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.paused = false;
        self.leader = None;
        self.waiting.clear();
    }

    /// It reads its snapshot and its log, which has all that it had applied.
    pub(crate) fn start(&mut self, outside: &mut Outside, chosen: &[Entry]) -> Result<(), String> {
        if self.up {
            return Ok(());
        }
        (self.up, self.catching_up, self.heard) = (true, false, LastHeard::default());
        self.process += 1;
        let before = std::mem::take(&mut self.state);
        self.state = State::from_records(self.snapshot.1.clone()).map_err(|error| error.to_string())?;
        for entry in &chosen[self.snapshot.0..self.applied] {
            self.apply_one(outside, entry);
        }
        if self.state != before {
            return Err(format!("coordinator {} has another state after its start", self.at));
        }
        self.plan(outside, 0, AtReplica::CatchUp);
        Ok(())
    }

    fn apply_one(&mut self, outside: &mut Outside, entry: &Entry) -> Effects {
        let mut entry = entry.clone();
        let differs = (entry.command == Command::Tick || !entry.command.reports().is_empty()) && self.at == 1;
        if differs && outside.mutates(Mutation::ApplyDiffers) {
            entry.time.0 += 1;
        }
        wrong::apply(&mut self.state, entry, outside)
    }

    /// Applies the next chosen entry.
    pub(crate) fn apply_next(&mut self, outside: &mut Outside, entry: &Entry) -> Option<Effects> {
        self.applied += 1;
        if self.at == 2 && self.applied.is_multiple_of(50) && outside.mutates(Mutation::LoseChosenEntry) {
            return None;
        }
        let effects = self.apply_one(outside, entry);
        self.keep_snapshot();
        Some(effects)
    }

    /// It leads, and has the state that was just chosen.
    pub(crate) fn adopt(&mut self, state: &State, chosen: usize) {
        (self.state, self.applied) = (state.clone(), chosen);
        self.keep_snapshot();
    }

    fn keep_snapshot(&mut self) {
        if self.applied - self.snapshot.0 >= SNAPSHOT_ENTRIES {
            self.snapshot = (self.applied, self.state.records().collect());
        }
    }

    /// What a client that follows a job is shown.
    pub(crate) fn shown(&self, job: JobId) -> Option<Shown> {
        let record = self.state.job(job)?.clone();
        let steps = self.state.steps(job).map(|(_, step)| step.clone()).collect();
        let tasks = self.state.tasks_of(job).map(|(key, task)| (key, task.clone())).collect();
        Some(Shown { job: record, steps, tasks })
    }
}

/// All of a job, with the histories of its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) job: std::sync::Arc<Job>,
    steps: Vec<std::sync::Arc<Step>>,
    tasks: Vec<(TaskKey, std::sync::Arc<Task>)>,
}
