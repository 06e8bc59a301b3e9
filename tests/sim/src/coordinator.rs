//! The coordinator: a log that survives, and a leader that does not. State, placement, the bridge between them, and what is
//! concluded from silence are the real ones.

use std::collections::VecDeque;

use flowyard_coordinator::Timing;
use flowyard_coordinator::liveness::conclusions;
use flowyard_coordinator::placer::bridge;
use flowyard_model::*;
use flowyard_placement::{Budget, solve};
use flowyard_state::{State, apply};

use crate::checkers::{self, Checker, Seen};
use crate::message::{Ask, Down};
use crate::outside::Outside;
use crate::schedule::Event;
use crate::session::Sessions;

/// Leaders' clocks start here, so that one can run behind.
const EPOCH_MS: u64 = 1_000_000;
/// Short, so that much happens in little time.
const TIMING: Timing = Timing { heartbeat_ms: 300, suspect_ms: 1_000, down_ms: 3_000, lease_ms: 1_000 };
const BUDGET: Budget = Budget { steps: 100_000 };
/// Entries after which a snapshot may replace the log.
const LOG_ENTRIES: usize = 200;

pub(crate) struct Coordinator {
    pub(crate) leader: Option<Leader>,
    term: u64,
    durable: Durable,
    checkers: Vec<Box<dyn Checker>>,
    /// Entries applied in all.
    pub(crate) entries: u64,
}

/// What survives.
struct Durable {
    snapshot: Vec<Record>,
    log: Vec<Entry>,
    /// The state as it was when the last leader fell: a replay must give it again.
    fallen: Option<(Revision, State)>,
}

pub(crate) struct Leader {
    pub(crate) term: u64,
    pub(crate) state: State,
    pub(crate) sessions: Sessions,
    /// Milliseconds by which its clock is ahead of the start of time.
    clock_ms: u64,
    /// When it began to lead.
    since_ms: u64,
    pending: VecDeque<(Command, Origin)>,
    placing: bool,
    place_again: bool,
}

/// Whom to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    Nobody,
    Client(usize),
    Registration { agent: usize, request: u64 },
    Reports { agent: usize, session: u64, sequence: u64 },
}

impl Coordinator {
    pub(crate) fn new() -> Self {
        let snapshot = State::new().records().collect();
        let durable = Durable { snapshot, log: Vec::new(), fallen: None };
        Self { leader: None, term: 0, durable, checkers: checkers::all(), entries: 0 }
    }

    /// A new leader reads snapshot and log, and treats everything as changed.
    pub(crate) fn start(&mut self, outside: &mut Outside) -> Result<(), String> {
        if self.leader.is_some() {
            return Ok(());
        }
        self.term += 1;
        let mut state = State::from_records(self.durable.snapshot.clone()).map_err(|error| error.to_string())?;
        let fallen = self.durable.fallen.take();
        let mut later = Vec::new();
        for entry in self.durable.log.clone() {
            if fallen.as_ref().is_some_and(|(revision, _)| entry.index > *revision) {
                later.push(entry);
            } else {
                apply(&mut state, entry);
            }
        }
        if fallen.is_some_and(|(_, fallen)| fallen != state) {
            return Err("a replay gives another state".to_owned());
        }
        let term = self.term;
        self.leader = Some(Leader {
            term,
            state,
            sessions: Sessions::new(),
            clock_ms: EPOCH_MS + outside.dice.within(0, 1_000),
            since_ms: outside.schedule.now(),
            pending: VecDeque::new(),
            placing: false,
            place_again: false,
        });
        for entry in later {
            self.apply(outside, entry, Origin::Nobody)?;
        }
        let leader = self.leader.as_mut().expect("it was just made");
        leader.wake_placer(outside);
        leader.wake_clock(outside);
        outside.schedule.after(0, Event::Liveness { term });
        Ok(())
    }

    /// The leader falls. Some of what it had proposed is in the log nevertheless, in order.
    pub(crate) fn crash(&mut self, outside: &mut Outside) {
        let Some(leader) = self.leader.take() else { return };
        self.durable.fallen = Some((leader.state.revision(), leader.state.clone()));
        let kept = outside.dice.within(0, leader.pending.len() as u64) as usize;
        let time = leader.time(outside);
        for (at, (command, _)) in leader.pending.into_iter().take(kept).enumerate() {
            let index = Revision(leader.state.revision().0 + 1 + at as u64);
            self.durable.log.push(Entry { index, time, command });
        }
    }

    /// The oldest proposal is durable: it is applied and answered.
    pub(crate) fn committed(&mut self, outside: &mut Outside, term: u64) -> Result<(), String> {
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.term == term) else { return Ok(()) };
        let (command, origin) = leader.pending.pop_front().expect("a commit belongs to a proposal");
        let entry = Entry { index: Revision(leader.state.revision().0 + 1), time: leader.time(outside), command };
        self.durable.log.push(entry.clone());
        self.apply(outside, entry, origin)?;
        if self.durable.log.len() > LOG_ENTRIES && outside.dice.chance(100) {
            let leader = self.leader.as_ref().expect("it applied the entry");
            self.durable.snapshot = leader.state.records().collect();
            self.durable.log.clear();
        }
        Ok(())
    }

    fn apply(&mut self, outside: &mut Outside, entry: Entry, origin: Origin) -> Result<(), String> {
        self.entries += 1;
        let leader = self.leader.as_mut().expect("only a leader applies");
        let before = leader.state.view();
        let effects = apply(&mut leader.state, entry.clone());
        outside.trace.add(&entry);
        outside.trace.add(&effects);
        let seen = Seen {
            before: &before,
            state: &leader.state,
            entry: &entry,
            effects: &effects,
            acknowledged: &outside.acknowledged,
            written: &outside.written,
        };
        for checker in &mut self.checkers {
            checker.check(&seen).map_err(|broken| format!("entry {}: {broken}", entry.index))?;
        }
        let ticked = matches!(entry.command, Command::Tick);
        leader.react(outside, &effects, origin, ticked);
        Ok(())
    }
}

impl Leader {
    pub(crate) fn time(&self, outside: &Outside) -> TimeMs {
        TimeMs(self.clock_ms + outside.schedule.now())
    }

    pub(crate) fn propose(&mut self, outside: &mut Outside, command: Command, origin: Origin) {
        self.pending.push_back((command, origin));
        outside.schedule.after(outside.dice.within(0, 5), Event::Committed { term: self.term });
    }

    fn react(&mut self, outside: &mut Outside, effects: &Effects, origin: Origin, ticked: bool) {
        if effects.changed.deadline || ticked {
            self.wake_clock(outside);
        }
        let refused = matches!(&effects.reply, Reply::PlanCommitted { refused } if !refused.is_empty());
        if effects.changed.placement || refused {
            self.wake_placer(outside);
        }
        self.answer(outside, &effects.reply, origin);
        let view = self.state.view();
        for node in &effects.changed.nodes {
            self.sessions.tell(outside, &view, *node, Term(self.term));
        }
    }

    fn answer(&mut self, outside: &mut Outside, reply: &Reply, origin: Origin) {
        match origin {
            Origin::Nobody => {}
            Origin::Client(client) => {
                outside.send_by_client_link(|| Event::Answer { client, reply: reply.clone() });
            }
            Origin::Registration { agent, request } => {
                if let Reply::Registered { node, .. } = reply {
                    self.sessions.heard(*node, outside.schedule.now());
                }
                outside.send_down(agent, Down::Registered { request, reply: reply.clone() });
            }
            Origin::Reports { agent, session, sequence } => {
                self.sessions.acknowledge(outside, agent, session, sequence);
            }
        }
    }

    fn wake_clock(&mut self, outside: &mut Outside) {
        if let Some(due) = self.state.next_deadline() {
            let wait = due.0.saturating_sub(self.time(outside).0);
            outside.schedule.after(wait, Event::TickDue { term: self.term });
        }
    }

    pub(crate) fn tick_due(&mut self, outside: &mut Outside) {
        if self.state.next_deadline().is_some_and(|due| due <= self.time(outside)) {
            self.propose(outside, Command::Tick, Origin::Nobody);
        }
    }

    fn wake_placer(&mut self, outside: &mut Outside) {
        if self.placing {
            self.place_again = true;
        } else {
            self.placing = true;
            outside.schedule.after(outside.dice.within(0, 3), Event::Place { term: self.term });
        }
    }

    /// The real bridge and the real solver, on the state as it is now; the answer comes a little later.
    pub(crate) fn place(&mut self, outside: &mut Outside) {
        let (problem, index) = bridge::problem(&self.state);
        let seed = outside.dice.next();
        let solution = solve(&problem, BUDGET, seed);
        let plans = bridge::plans(&index, &solution, BUDGET, seed);
        outside.schedule.after(outside.dice.within(0, 20), Event::Planned { term: self.term, plans });
    }

    pub(crate) fn planned(&mut self, outside: &mut Outside, plans: Vec<Plan>) {
        self.placing = false;
        for plan in plans {
            if outside.dice.chance(30) {
                self.propose(outside, Command::CommitPlan(plan.clone()), Origin::Nobody);
            }
            self.propose(outside, Command::CommitPlan(plan), Origin::Nobody);
        }
        if std::mem::take(&mut self.place_again) {
            self.wake_placer(outside);
        }
    }

    pub(crate) fn ask(&mut self, outside: &mut Outside, ask: Ask) {
        match ask {
            Ask::Submit { client, wish } => {
                self.propose(outside, Command::SubmitJob(wish), Origin::Client(client));
            }
            Ask::Cancel { job } => self.propose(outside, Command::CancelJob { job }, Origin::Nobody),
        }
    }

    /// The real conclusions: who is silent, who is gone, and who is back.
    pub(crate) fn liveness(&mut self, outside: &mut Outside) {
        let now = outside.schedule.now();
        let heard = &self.sessions.heard;
        let (concluded, again_in) = conclusions(&self.state.view(), heard, &TIMING, self.since_ms, now);
        outside.schedule.after(again_in, Event::Liveness { term: self.term });
        for (node, incarnation, health) in concluded {
            let command = Command::SetNodeHealth { node, incarnation, health };
            self.propose(outside, command, Origin::Nobody);
        }
    }
}
