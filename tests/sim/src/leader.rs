//! What a coordinator does while it leads, or believes so. The scheduler and what is concluded from silence are the
//! real ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flowyard_coordinator::liveness::{conclusions, listening_since};
use flowyard_model::*;
use flowyard_scheduling::{Bound, Scheduler};
use flowyard_state::apply;

use crate::mutation::Mutation;
use crate::outside::{Outside, TIMING};
use crate::replica::Replica;
use crate::schedule::{AtReplica, Event};
use crate::sessions::Talk;

const BOUND: Bound = Bound { tasks: 4_000, steps: 1_000_000 };
/// Longest sleep before the wall clock is looked at again.
const LONGEST_SLEEP_MS: u64 = 60_000;

pub(crate) struct Leader {
    pub(crate) term: u64,
    /// Whether it has applied everything from before its term.
    pub(crate) ready: bool,
    /// When it began to listen, in its boot time; and in true time.
    since_ms: u64,
    pub(crate) began: u64,
    /// When a majority followed it last, in its boot time.
    pub(crate) followed_ms: u64,
    pub(crate) pending: VecDeque<Proposal>,
    committing: bool,
    placing: bool,
    place_again: bool,
    scheduler: Scheduler,
    /// When the placer is to be woken by itself.
    wake_at: Option<TimeMs>,
    /// Plans so far, where they come once more.
    earlier: Vec<Plan>,
    /// Conclusions that are not in the log yet; it does not look again before they are.
    concluding: u32,
    pub(crate) sessions: BTreeMap<u64, Talk>,
    pub(crate) greetings: BTreeMap<u64, (usize, Vec<AttemptReport>)>,
    /// Reports that wait for others to go along with, with session and number.
    pub(crate) joining: Vec<((u64, u64), ReportAttempts)>,
}

/// What a leader wants in the log.
pub(crate) struct Proposal {
    pub(crate) command: Command,
    pub(crate) time: TimeMs,
    pub(crate) origin: Origin,
    /// Whether it may have reached another coordinator.
    pub(crate) sent: bool,
}

/// Whom to answer.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    Nobody,
    Client(usize),
    Registration {
        stream: u64,
    },
    Greeting {
        stream: u64,
        node: NodeId,
        incarnation: Incarnation,
    },
    Reports {
        stream: u64,
        sequence: u64,
    },
    /// Reports of several sessions that went together.
    Joined(Vec<(u64, u64)>),
    Conclusion,
}

impl Leader {
    pub(crate) fn new(term: u64, now_ms: u64) -> Self {
        Self {
            term,
            ready: false,
            since_ms: now_ms,
            began: 0,
            followed_ms: now_ms,
            pending: VecDeque::new(),
            committing: false,
            placing: false,
            place_again: false,
            scheduler: Scheduler::new(term),
            wake_at: None,
            earlier: Vec::new(),
            concluding: 0,
            sessions: BTreeMap::new(),
            greetings: BTreeMap::new(),
            joining: Vec::new(),
        }
    }

    /// Nothing is on its way into the log any more.
    pub(crate) fn idle(&mut self) {
        self.committing = false;
    }
}

impl Replica {
    /// It has applied what was there before its term, and begins.
    pub(crate) fn lead(&mut self, outside: &mut Outside, term: u64) {
        let now_ms = self.boot(outside);
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.term == term) else { return };
        leader.ready = true;
        leader.began = outside.schedule.now();
        leader.since_ms = if outside.mutates(Mutation::NoGraceAfterElection) { 0 } else { now_ms };
        self.heard.begin();
        if self.state.version() < ClusterVersion::NEWEST {
            let version = ClusterVersion(self.state.version().0 + 1);
            self.propose(outside, Command::RaiseVersion { version }, Origin::Nobody);
        }
        self.wake_placer(outside);
        self.wake_clock(outside);
        self.plan(outside, 0, AtReplica::Look { term, planned_ms: now_ms });
    }

    pub(crate) fn propose(&mut self, outside: &mut Outside, command: Command, origin: Origin) {
        if self.state.supports(&command).is_err() {
            return;
        }
        let (time, sent) = (TimeMs(self.clock.wall(outside.now())), self.isolated == 0);
        let Some(leader) = &mut self.leader else { return };
        leader.pending.push_back(Proposal { command, time, origin, sent });
        self.plan_commit(outside);
    }

    /// Sees to it that what is proposed becomes durable.
    pub(crate) fn plan_commit(&mut self, outside: &mut Outside) {
        let Some(leader) = self.leader.as_mut().filter(|leader| !leader.committing && !leader.pending.is_empty())
        else {
            return;
        };
        leader.committing = true;
        let (term, delay) = (leader.term, outside.dice.within(1, self.disk_ms));
        self.plan(outside, delay, AtReplica::Commit { term });
    }

    /// Does what follows from an applied entry.
    pub(crate) fn react(&mut self, outside: &mut Outside, effects: &Effects, origin: Origin, ticked: bool) {
        if effects.changed.deadline || ticked {
            self.wake_clock(outside);
        }
        let refused = matches!(
            &effects.reply,
            Reply::PlanCommitted { refused, refused_claims } if !refused.is_empty() || !refused_claims.is_empty()
        );
        if effects.changed.placement || refused {
            self.wake_placer(outside);
        }
        self.answer(outside, &effects.reply, origin);
        if !effects.changed.nodes.is_empty() {
            self.tell(outside, &effects.changed.nodes);
        }
    }

    fn answer(&mut self, outside: &mut Outside, reply: &Reply, origin: Origin) {
        match origin {
            Origin::Nobody => {}
            Origin::Client(client) => {
                let job = if let Reply::Submitted { job, .. } = reply { Some(*job) } else { None };
                let delay = outside.dice.within(1, outside.network.delay_ms);
                if !outside.dice.chance(outside.network.loss) {
                    outside.schedule.after(delay, Event::Answer { client, job });
                }
            }
            Origin::Registration { stream } => self.registered(outside, stream, reply),
            Origin::Greeting { stream, node, incarnation } => self.welcome(outside, stream, node, incarnation),
            Origin::Reports { stream, sequence } => self.acknowledge(outside, stream, sequence),
            Origin::Joined(all) => {
                all.into_iter().for_each(|(stream, sequence)| self.acknowledge(outside, stream, sequence));
            }
            Origin::Conclusion => {
                let again_in = outside.dice.within(1, 100);
                let planned_ms = self.boot(outside) + again_in;
                let Some(leader) = &mut self.leader else { return };
                leader.concluding -= 1;
                let term = leader.term;
                if leader.concluding == 0 {
                    self.plan(outside, again_in, AtReplica::Look { term, planned_ms });
                }
            }
        }
    }

    fn wake_clock(&mut self, outside: &mut Outside) {
        let Some((due, leader)) = self.state.next_deadline().zip(self.leader.as_ref().filter(|leader| leader.ready))
        else {
            return;
        };
        let wait = due.0.saturating_sub(self.clock.wall(outside.now())).min(LONGEST_SLEEP_MS);
        self.plan(outside, wait, AtReplica::TickDue { term: leader.term });
    }

    pub(crate) fn tick_due(&mut self, outside: &mut Outside) {
        let wall = self.clock.wall(outside.now());
        match self.state.next_deadline() {
            Some(due) if due.0 <= wall => self.propose(outside, Command::Tick, Origin::Nobody),
            Some(_) => self.wake_clock(outside),
            None => {}
        }
    }

    pub(crate) fn wake_placer(&mut self, outside: &mut Outside) {
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.ready) else { return };
        if leader.placing {
            leader.place_again = true;
        } else {
            leader.placing = true;
            let (term, delay) = (leader.term, outside.dice.within(1, 80));
            self.plan(outside, delay, AtReplica::Place { term });
        }
    }

    /// The real scheduler, as the placer asks it: about the state once the plans under way are applied; the answer comes a little
    /// later. What it remembers of the states before must make no difference.
    pub(crate) fn place(&mut self, outside: &mut Outside) {
        let mut expected = self.state.clone();
        let now = TimeMs(self.clock.wall(outside.now()));
        let Some(leader) = &mut self.leader else { return };
        for proposal in &leader.pending {
            if let Command::CommitPlan(plan) = &proposal.command {
                let index = Revision(expected.revision().0 + 1);
                let time = plan.at.map_or(expected.time(), |at| at.max(expected.time()));
                let entry = Entry { index, time, command: proposal.command.clone() };
                apply(&mut expected, entry);
            }
        }
        let term = leader.term;
        let proposed = leader.scheduler.round(&expected, now, BOUND);
        let anew = Scheduler::new(term).round(&expected, now, BOUND);
        assert!(proposed == anew, "a scheduler that remembers proposes {proposed:?}, and a new one {anew:?}");
        let delay = outside.dice.within(0, 20);
        let woken = std::mem::replace(&mut leader.wake_at, proposed.wake_at);
        self.plan(outside, delay, AtReplica::Planned { term, plans: proposed.plans });
        if let Some(wake_at) = proposed.wake_at.filter(|_| woken != proposed.wake_at) {
            self.plan(outside, wake_at.0.saturating_sub(now.0), AtReplica::Wake { term });
        }
    }

    /// Something may be evicted now that might not be before.
    pub(crate) fn woken(&mut self, outside: &mut Outside) {
        let Some(leader) = &mut self.leader else { return };
        leader.wake_at = None;
        self.wake_placer(outside);
    }

    pub(crate) fn planned(&mut self, outside: &mut Outside, mut plans: Vec<Plan>) {
        if outside.circumstances.late_plans {
            self.planned_before(outside, &plans);
        }
        self.spoil(outside, &mut plans);
        for plan in plans {
            if outside.dice.chance(30) {
                self.propose(outside, Command::CommitPlan(plan.clone()), Origin::Nobody);
            }
            self.propose(outside, Command::CommitPlan(plan), Origin::Nobody);
        }
        let Some(leader) = &mut self.leader else { return };
        leader.placing = false;
        if std::mem::take(&mut leader.place_again) {
            self.wake_placer(outside);
        }
    }

    /// Makes plans wrong where that is asked for.
    fn spoil(&self, outside: &mut Outside, plans: &mut Vec<Plan>) {
        let claims: Vec<_> = plans.iter().flat_map(|plan| &plan.claims).map(|claim| claim.task).collect();
        if let Some(plan) = plans.last().filter(|_| !claims.is_empty()).cloned()
            && outside.mutates(Mutation::EvictWithoutClaim)
        {
            plans.push(Plan { placements: Vec::new(), claims: Vec::new(), drops: claims, ..plan });
        }
        if self.state.claims().next().is_some() && outside.mutates(Mutation::StaleClaim) {
            for plan in plans {
                plan.placements.retain(|placement| self.state.claim(&placement.task).is_none());
                plan.drops.clear();
            }
        }
    }

    /// What was planned for the same tasks before comes once more, ahead of these plans.
    fn planned_before(&mut self, outside: &mut Outside, plans: &[Plan]) {
        let Some(leader) = &mut self.leader else { return };
        let tasks: BTreeSet<_> = plans.iter().flat_map(|plan| &plan.placements).map(|placed| placed.task).collect();
        let mut again = leader.earlier.clone();
        for plan in &mut again {
            plan.placements.retain(|placed| tasks.contains(&placed.task));
            plan.claims.clear();
            plan.drops.clear();
        }
        leader.earlier.extend_from_slice(plans);
        for plan in again.into_iter().filter(|plan| !plan.placements.is_empty()) {
            self.propose(outside, Command::CommitPlan(plan), Origin::Nobody);
        }
    }

    /// The real conclusions: who is silent, who is gone, and who is back.
    pub(crate) fn look(&mut self, outside: &mut Outside, planned_ms: u64) {
        let now_ms = self.boot(outside);
        let Some(leader) = &mut self.leader else { return };
        leader.since_ms = listening_since(leader.since_ms, &TIMING, planned_ms, now_ms);
        let (term, since_ms) = (leader.term, leader.since_ms);
        let at = self.heard.at().clone();
        let (concluded, again_in) = conclusions(&self.state.view(), &at, &TIMING, since_ms, now_ms);
        for (node, incarnation, health) in concluded {
            if health == Health::Down && !self.heard.give_up(node, incarnation, at.get(&node).copied()) {
                continue;
            }
            self.leader.as_mut().expect("it leads").concluding += 1;
            self.propose(outside, Command::SetNodeHealth { node, incarnation, health }, Origin::Conclusion);
        }
        if self.leader.as_ref().is_some_and(|leader| leader.concluding == 0) {
            let delay = self.clock.until(outside.now(), now_ms + again_in);
            self.plan(outside, delay, AtReplica::Look { term, planned_ms: now_ms + again_in });
        }
    }
}
