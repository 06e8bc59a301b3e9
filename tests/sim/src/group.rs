//! The coordinators together: one order of entries, of which each has applied a part; at most one leads with a majority.
//!
//! The library that makes them agree is not here (its own simulation is in the coordinator's tests). Pretended is what it
//! promises: what was chosen stays, in one order; what was only proposed may be chosen by the next leader, or lost; a leader
//! that was replaced may not know it for long.

use std::collections::BTreeMap;

use flowyard_model::*;
use flowyard_state::{State, View};

use crate::checkers::{self, Checker, Seen};
use crate::leader::{Leader, Origin, Proposal};
use crate::mutation::Mutation;
use crate::outside::Outside;
use crate::replica::{Replica, Shown};
use crate::schedule::{AtReplica, Event};
use crate::wrong;

pub(crate) const REPLICAS: usize = 3;
/// Entries between two comparisons of whole states.
const COMPARED: usize = 256;
/// Entries that one barrier of the disk makes durable at most.
const BATCH: u64 = 8;
/// Changes within this time are told together to whoever follows a job.
const MERGED_MS: u64 = 50;

pub(crate) struct Group {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) chosen: Vec<Entry>,
    effects: Vec<Effects>,
    states: BTreeMap<usize, State>,
    /// The state after everything that was chosen.
    pub(crate) front: State,
    pub(crate) term: u64,
    electing: bool,
    checkers: Vec<Box<dyn Checker>>,
    pub(crate) watchers: BTreeMap<JobId, Watcher>,
}

/// A client that follows a job, at one coordinator.
pub(crate) struct Watcher {
    pub(crate) replica: usize,
    due: bool,
    told: Option<Shown>,
}

impl Group {
    pub(crate) fn new(outside: &mut Outside) -> Self {
        Self {
            replicas: (0..REPLICAS).map(|at| Replica::new(at, outside)).collect(),
            chosen: Vec::new(),
            effects: Vec::new(),
            states: BTreeMap::new(),
            front: State::new(),
            term: 0,
            electing: false,
            checkers: checkers::all(),
            watchers: BTreeMap::new(),
        }
    }

    fn has_majority(&self, at: usize) -> bool {
        let part = self.replicas.iter().filter(|replica| replica.takes_part()).count();
        self.replicas[at].takes_part() && part * 2 > REPLICAS
    }

    /// Whether a majority follows this one.
    pub(crate) fn follows(&self, at: usize) -> bool {
        self.has_majority(at) && self.replicas[at].term() == Some(self.term)
    }

    /// Who leads with a majority.
    pub(crate) fn leader(&self) -> Option<usize> {
        (0..REPLICAS).find(|at| self.follows(*at))
    }

    /// The leader, ready, for what people ask of it.
    pub(crate) fn leading(&mut self) -> Option<&mut Replica> {
        let at = self.leader()?;
        Some(&mut self.replicas[at]).filter(|replica| replica.leader.as_ref().is_some_and(|leader| leader.ready))
    }

    /// To be called after who takes part has changed: a leader may be missing now.
    pub(crate) fn seek_leader(&mut self, outside: &mut Outside) {
        if self.leader().is_none() && !self.electing {
            self.electing = true;
            let delay = outside.dice.within(300, 1_500);
            outside.schedule.after(delay, Event::Elect);
        }
    }

    /// Before a leader loses its majority, it had it until now.
    pub(crate) fn note_majority(&mut self, outside: &Outside) {
        if let Some(at) = self.leader() {
            let now_ms = self.replicas[at].boot(outside);
            self.replicas[at].leader.iter_mut().for_each(|leader| leader.followed_ms = now_ms);
        }
    }

    pub(crate) fn elect(&mut self, outside: &mut Outside) -> Result<(), String> {
        self.electing = false;
        if self.leader().is_some() {
            return Ok(());
        }
        let able: Vec<_> = (0..REPLICAS).filter(|at| self.has_majority(*at)).collect();
        if able.is_empty() {
            return Ok(());
        }
        let next = able[outside.dice.within(0, able.len() as u64 - 1) as usize];
        self.change_leader(outside, next)
    }

    /// This one leads from now on, in a new term. Something of what the one before had proposed may have reached it.
    pub(crate) fn change_leader(&mut self, outside: &mut Outside, next: usize) -> Result<(), String> {
        let before = self.term;
        self.term += 1;
        let old = (0..REPLICAS).find(|at| self.replicas[*at].term() == Some(before) && self.replicas[*at].up);
        if let Some(old) = old {
            let pending = &self.replicas[old].leader.as_ref().expect("it leads").pending;
            let sent = pending.iter().take_while(|proposal| proposal.sent).count() as u64;
            let kept = outside.dice.within(0, sent) as usize;
            let kept: Vec<_> = pending.iter().take(kept).map(|one| (one.command.clone(), one.time)).collect();
            for (command, time) in kept {
                self.choose(outside, command, time)?;
            }
            if self.replicas[old].takes_part() {
                self.replicas[old].step_down(outside);
            }
        }
        let now_ms = self.replicas[next].boot(outside);
        self.replicas[next].leader = Some(Leader::new(self.term, now_ms));
        let (term, delay) = (self.term, outside.dice.within(1, 60));
        self.replicas[next].plan(outside, delay, AtReplica::Lead { term });
        Ok(())
    }

    /// A leader that was replaced hears of it.
    pub(crate) fn learn(&mut self, outside: &mut Outside, at: usize) {
        let replica = &mut self.replicas[at];
        if replica.takes_part() && replica.term().is_some_and(|term| term < self.term) {
            replica.step_down(outside);
        }
    }

    /// An entry is chosen: everybody will apply it at this place.
    fn choose(&mut self, outside: &mut Outside, command: Command, time: TimeMs) -> Result<Effects, String> {
        if let Command::SubmitJob(wish) = &command
            && outside.mutation == Some(Mutation::DoubleCommit)
            && wish.key.is_some()
            && outside.mutates(Mutation::DoubleCommit)
        {
            let again = SubmitJob { key: None, ..wish.clone() };
            self.choose(outside, Command::SubmitJob(again), time)?;
        }
        if outside.mutation == Some(Mutation::SkipFence) {
            let reports = command.reports().iter();
            let astray: Vec<_> = reports.flat_map(|wish| wrong::unfenced(&self.front, wish)).collect();
            for astray in astray {
                outside.mutates(Mutation::SkipFence);
                self.choose(outside, Command::ReportAttempts(astray), time)?;
            }
        }
        if let Command::ReportAttempts(wish) = &command
            && outside.mutation == Some(Mutation::ReplaceWithoutFence)
        {
            for astray in wrong::unreplaced(&self.front, wish) {
                outside.mutates(Mutation::ReplaceWithoutFence);
                self.choose(outside, Command::ReportAttempts(astray), time)?;
            }
        }
        let index = Revision(self.chosen.len() as u64 + 1);
        let entry = Entry { index, time, command };
        let before = self.front.view();
        let effects = wrong::apply(&mut self.front, entry.clone(), outside);
        outside.trace.add(outside.now() ^ (index.0 << 40), (&entry, &effects));
        self.chosen.push(entry);
        self.effects.push(effects.clone());
        if self.chosen.len().is_multiple_of(COMPARED) {
            self.states.insert(self.chosen.len(), self.front.clone());
        }
        self.check(outside, &before, &effects)?;
        Ok(effects)
    }

    fn check(&mut self, outside: &Outside, before: &View, effects: &Effects) -> Result<(), String> {
        let entry = self.chosen.last().expect("it was just chosen");
        let differences = self.front.differences(before);
        let seen = Seen {
            before,
            state: &self.front,
            entry,
            effects,
            differences: &differences,
            acknowledged: &outside.acknowledged,
            forgotten: &outside.forgotten,
            submitted: outside.submitted,
            written: &outside.written,
        };
        for checker in &mut self.checkers {
            checker.check(&seen).map_err(|broken| format!("entry {}: {broken}", entry.index))?;
        }
        Ok(())
    }

    /// What a leader has proposed is durable on a majority, if it has one.
    pub(crate) fn commit(&mut self, outside: &mut Outside, at: usize, term: u64) -> Result<(), String> {
        if self.replicas[at].term() != Some(term) {
            return Ok(());
        }
        if !self.follows(at) {
            // It goes on trying.
            self.replicas[at].plan(outside, 250, AtReplica::Commit { term });
            return Ok(());
        }
        self.catch_up(outside, at)?;
        for _ in 0..outside.dice.within(1, BATCH) {
            let next = self.replicas[at].leader.as_mut().and_then(|leader| leader.pending.pop_front());
            let Some(Proposal { command, time, origin, .. }) = next else { break };
            let ticked = matches!(command, Command::Tick);
            let effects = self.choose(outside, command, time)?;
            self.replicas[at].adopt(&self.front, self.chosen.len());
            self.tell_watchers(outside, at, &effects);
            self.replicas[at].react(outside, &effects, origin, ticked);
        }
        if let Some(leader) = &mut self.replicas[at].leader {
            leader.idle();
        }
        self.replicas[at].plan_commit(outside);
        for replica in self.replicas.iter_mut().filter(|replica| replica.up && !replica.catching_up) {
            replica.catching_up = true;
            let delay = outside.dice.within(1, 120);
            replica.plan(outside, delay, AtReplica::CatchUp);
        }
        Ok(())
    }

    /// A coordinator applies what was chosen, if it hears of it.
    pub(crate) fn catch_up(&mut self, outside: &mut Outside, at: usize) -> Result<(), String> {
        self.replicas[at].catching_up = false;
        while self.replicas[at].takes_part() && self.replicas[at].applied < self.chosen.len() {
            if let Some(effects) = self.apply_next(outside, at)? {
                self.replicas[at].react(outside, &effects, Origin::Nobody, false);
            }
        }
        Ok(())
    }

    fn apply_next(&mut self, outside: &mut Outside, at: usize) -> Result<Option<Effects>, String> {
        let replica = &mut self.replicas[at];
        let index = replica.applied;
        let effects = replica.apply_next(outside, &self.chosen[index]);
        let same = effects.as_ref().is_none_or(|effects| *effects == self.effects[index]);
        checkers::require(same, || format!("coordinator {at}: entry {} has other effects", index + 1))?;
        if let Some(expected) = self.states.get(&replica.applied) {
            let same = *expected == replica.state;
            checkers::require(same, || format!("coordinator {at} has another state after entry {}", index + 1))?;
        }
        if let Some(effects) = &effects {
            self.tell_watchers(outside, at, effects);
        }
        Ok(effects)
    }

    /// Who follows a job at this coordinator is shown it again.
    fn tell_watchers(&mut self, outside: &mut Outside, at: usize, effects: &Effects) {
        let lost = self.replicas[at].applied.is_multiple_of(7) && outside.mutates(Mutation::LoseWatchEvent);
        for job in effects.changed.jobs.iter().filter(|_| !lost) {
            if let Some(watcher) = self.watchers.get_mut(job).filter(|watcher| watcher.replica == at && !watcher.due) {
                watcher.due = true;
                outside.schedule.after(MERGED_MS, Event::Watched { job: *job, replica: at });
            }
        }
    }

    /// A client begins to follow a job.
    pub(crate) fn watch(&mut self, outside: &mut Outside, job: JobId) {
        let replica = outside.dice.within(0, REPLICAS as u64 - 1) as usize;
        self.watchers.insert(job, Watcher { replica, due: true, told: None });
        outside.schedule.after(MERGED_MS, Event::Watched { job, replica });
    }

    /// A client that follows a job is shown it as it is now.
    pub(crate) fn watched(&mut self, outside: &mut Outside, job: JobId, replica: usize) -> Result<(), String> {
        if self.watchers.get(&job).is_none_or(|watcher| watcher.replica != replica) {
            return Ok(());
        }
        let here = &self.replicas[replica];
        let other = self.leader().filter(|_| !here.takes_part());
        if let Some(other) = other {
            // It is connected to another one, which shows nothing before it has applied what there is.
            self.catch_up(outside, other)?;
            self.watchers.get_mut(&job).expect("it follows").replica = other;
        }
        let shown = self.replicas[other.unwrap_or(replica)].shown(job);
        let watcher = self.watchers.get_mut(&job).expect("it follows");
        watcher.due = false;
        watcher.told = shown;
        Ok(())
    }

    /// Clients whose coordinator is gone look for another.
    pub(crate) fn move_watchers(&mut self, outside: &mut Outside) {
        for (job, watcher) in &mut self.watchers {
            if !self.replicas[watcher.replica].takes_part() && !watcher.due {
                watcher.due = true;
                outside.schedule.after(MERGED_MS, Event::Watched { job: *job, replica: watcher.replica });
            }
        }
    }

    /// At the end of a run: everybody has the same, and who followed a job has seen all of it.
    pub(crate) fn check_end(&mut self, outside: &mut Outside) -> Result<(), String> {
        for at in 0..REPLICAS {
            self.catch_up(outside, at)?;
            let same = self.replicas[at].state == self.front;
            checkers::require(same, || format!("coordinator {at} has another state in the end"))?;
        }
        for job in outside.acknowledged.difference(&outside.forgotten) {
            let Some(now) = self.replicas[0].shown(*job) else {
                return Err(format!("job {job} was acknowledged and is gone"));
            };
            let told = self.watchers.get(job).and_then(|watcher| watcher.told.as_ref());
            checkers::require(told == Some(&now), || format!("who followed job {job} did not see all of it"))?;
        }
        flowyard_state::check_all(&self.front).map_err(|violation| violation.to_string())
    }
}
