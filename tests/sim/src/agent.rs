//! An agent's process: the real session and the real decision what to start and stop; what an attempt does is pretended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_agent::attempt::ending::bare;
use flowyard_agent::attempt::{lost, stopped_early};
use flowyard_agent::reconcile::{Action, Observed, Wishes, reconcile};
use flowyard_model::*;

use crate::host::{Exit, Host, end_of, unwritten};
use crate::link::Link;
use crate::mutation::Mutation;
use crate::outside::{Outside, TIMING};
use crate::schedule::InAgent;

/// Looks at what runs and is not known, before the agent begins all the same.
const STRAY_LOOKS: u32 = 300;

pub(crate) struct AgentProcess {
    pub(crate) id: u64,
    pub(crate) held: BTreeMap<MemberKey, Held>,
    /// What an agent before it had accepted and not begun: it waits until a coordinator says that it is still wanted.
    taken_up: BTreeSet<MemberKey>,
    /// Whether a coordinator has said what it wants.
    heard: bool,
    pub(crate) wishes: Wishes,
    pub(crate) steps: BTreeMap<(JobId, StepIndex), Arc<StepContext>>,
    /// Reports that wait for a session.
    pub(crate) outgoing: BTreeMap<MemberKey, AttemptReport>,
    pub(crate) flushing: bool,
    pub(crate) highest: Fence,
    pub(crate) link: Option<Link>,
    pub(crate) target: usize,
    pub(crate) backoff_ms: u64,
    pub(crate) redirects: u32,
}

/// What the agent has of one member.
pub(crate) struct Held {
    pub(crate) phase: Phase,
    stopping: bool,
    end: Option<Arc<End>>,
    run: u64,
}

impl Host {
    fn agent_mut(&mut self) -> &mut AgentProcess {
        self.agent.as_mut().expect("only a living agent acts")
    }

    pub(crate) fn plan_agent(&self, outside: &mut Outside, delay_ms: u64, what: InAgent) {
        if let Some(agent) = &self.agent {
            outside.in_agent(delay_ms, self.at, agent.id, what);
        }
    }

    /// Starts the agent's process, which first ends what runs and is not remembered.
    pub(crate) fn start_agent(&mut self, outside: &mut Outside) {
        if self.agent.is_some() || self.given_up {
            return;
        }
        self.processes += 1;
        self.end_lease_of_earlier_boot();
        self.agent = Some(AgentProcess {
            id: self.processes,
            held: BTreeMap::new(),
            taken_up: BTreeSet::new(),
            heard: outside.mutates(Mutation::BeginUnasked),
            wishes: Wishes::default(),
            steps: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            flushing: false,
            highest: Fence { term: Term(0), revision: Revision(0) },
            link: None,
            target: outside.dice.within(0, 2) as usize,
            backoff_ms: 0,
            redirects: 0,
        });
        self.plan_agent(outside, 10, InAgent::Begin { waited: 0 });
    }

    /// Ends what is not known; then takes up what is remembered, and looks for a coordinator.
    pub(crate) fn begin_agent(&mut self, outside: &mut Outside, waited: u32) {
        let strays = self.programs.iter().filter(|(_, program)| !self.disk.members.contains_key(&program.member));
        let strays: Vec<_> = strays.map(|(run, _)| *run).collect();
        if !strays.is_empty() && waited < STRAY_LOOKS {
            for run in strays.iter().filter(|_| waited == 0) {
                self.stop(outside, *run);
            }
            return self.plan_agent(outside, 200, InAgent::Begin { waited: waited + 1 });
        }
        let remembered: Vec<_> = self.disk.members.iter().map(|(key, kept)| (*key, kept.clone())).collect();
        for (key, kept) in remembered {
            let step = (key.task.job, key.task.step);
            self.agent_mut().steps.insert(step, kept.context.clone());
            match (&kept.exit, kept.launched) {
                (None, Some(run)) if self.programs.contains_key(&run) => self.hold(outside, key, Phase::Running, run),
                (Some(_), _) | (None, Some(_)) => {
                    self.hold(outside, key, Phase::Running, 0);
                    self.store(outside, key);
                }
                (None, None) => {
                    self.agent_mut().taken_up.insert(key);
                    if self.agent_mut().heard {
                        self.accept_again(outside, key);
                    } else {
                        let run = outside.dice.next() >> 16;
                        self.hold(outside, key, Phase::Accepted, run);
                    }
                }
            }
        }
        self.plan_agent(outside, 0, InAgent::Connect);
        self.plan_agent(outside, TIMING.heartbeat_ms, InAgent::Timer);
    }

    fn accept_again(&mut self, outside: &mut Outside, key: MemberKey) {
        let run = outside.dice.next() >> 16;
        self.hold(outside, key, Phase::Accepted, run);
        let delay = outside.dice.within(1, 400);
        self.plan_agent(outside, delay, InAgent::Step { member: key, run });
    }

    /// What was taken up and is still wanted goes on, once that was said for the first time.
    pub(crate) fn go_on(&mut self, outside: &mut Outside) {
        if std::mem::replace(&mut self.agent_mut().heard, true) {
            return;
        }
        for key in self.agent_mut().taken_up.clone() {
            let held = self.agent_mut().held.get(&key);
            if let Some(run) = held.filter(|held| held.phase == Phase::Accepted && !held.stopping).map(|held| held.run)
            {
                let delay = outside.dice.within(1, 400);
                self.plan_agent(outside, delay, InAgent::Step { member: key, run });
            }
        }
    }

    fn hold(&mut self, outside: &mut Outside, key: MemberKey, phase: Phase, run: u64) {
        self.agent_mut().held.insert(key, Held { phase, stopping: false, end: None, run });
        self.news(outside, key);
    }

    /// What the agent says of a member.
    pub(crate) fn reports(&self) -> Vec<AttemptReport> {
        let held = self.agent.iter().flat_map(|agent| &agent.held);
        held.map(|(key, held)| report(*key, held.phase, held.end.clone())).collect()
    }

    /// Obeys the real decision about one member.
    pub(crate) fn act(&mut self, outside: &mut Outside, key: MemberKey) {
        let agent = self.agent_mut();
        let observed = agent.held.get(&key).map(|held| match held.phase {
            Phase::Ended => Observed::Ended,
            _ => Observed::Live { stopping: held.stopping },
        });
        let mut action = reconcile(agent.wishes.of(key), observed);
        let undesired = action == Some(Action::Stop) && agent.wishes.of(key).is_none();
        if undesired && outside.mutates(Mutation::AdoptUndesired) {
            action = None;
        }
        if action == Some(Action::Report) && outside.mutates(Mutation::StartWhatEnded) {
            self.forget(outside, key);
            self.agent_mut().held.remove(&key);
            action = Some(Action::Start);
        }
        match action {
            None => {}
            Some(Action::Start) => self.begin_member(outside, key),
            Some(Action::Stop) => self.stop_member(outside, key),
            Some(Action::Report) => {
                let end = self.agent_mut().held.get(&key).and_then(|held| held.end.clone());
                self.put(outside, report(key, Phase::Ended, end));
            }
            Some(Action::ReportLost) => self.put(outside, report(key, Phase::Ended, Some(Arc::new(lost())))),
            Some(Action::ReportStopped) => {
                self.put(outside, report(key, Phase::Ended, Some(Arc::new(stopped_early()))));
            }
            Some(Action::Forget) => {
                self.agent_mut().held.remove(&key);
                self.forget(outside, key);
            }
        }
    }

    fn begin_member(&mut self, outside: &mut Outside, key: MemberKey) {
        let step = (key.task.job, key.task.step);
        let Some(context) = self.agent_mut().steps.get(&step).cloned() else { return };
        self.accept(outside, key, context);
        self.accept_again(outside, key);
    }

    pub(crate) fn stop_member(&mut self, outside: &mut Outside, key: MemberKey) {
        let Some(held) = self.agent_mut().held.get_mut(&key) else { return };
        held.stopping = true;
        outside.stopped.push(key);
        let (phase, run) = (held.phase, held.run);
        match phase {
            Phase::Running if outside.mutates(Mutation::OrphanProgram) => self.finish(outside, key, stopped_early()),
            Phase::Running => self.stop(outside, run),
            Phase::Placed | Phase::Accepted | Phase::Fetching => self.finish(outside, key, stopped_early()),
            Phase::Storing | Phase::Ended => {}
        }
    }

    /// A member gets on by one phase.
    pub(crate) fn step(&mut self, outside: &mut Outside, key: MemberKey, run: u64) {
        let Some(held) = self.agent_mut().held.get(&key).filter(|held| held.run == run) else { return };
        match held.phase {
            Phase::Placed | Phase::Accepted => {
                let longest = if outside.dice.chance(200) { 200_000 } else { 4_000 };
                // What an agent before it has fetched is there already.
                let longest = if self.agent_mut().taken_up.contains(&key) { 30 } else { longest };
                let slow = outside.circumstances.slow_fetching && longest > 30 && outside.dice.chance(500);
                let delay = if slow { outside.dice.within(10_000, 200_000) } else { outside.dice.within(10, longest) };
                self.agent_mut().held.get_mut(&key).expect("it is held").phase = Phase::Fetching;
                self.plan_agent(outside, delay, InAgent::Step { member: key, run });
                self.news(outside, key);
            }
            Phase::Fetching => match failed_early(outside) {
                Some(end) => self.finish(outside, key, end),
                None => match self.launch(outside, key, run) {
                    Ok(()) => {
                        self.agent_mut().held.get_mut(&key).expect("it is held").phase = Phase::Running;
                        self.news(outside, key);
                    }
                    Err(end) => self.finish(outside, key, end),
                },
            },
            Phase::Storing => {
                let held = self.agent_mut().held.get_mut(&key).expect("it is held");
                held.phase = Phase::Ended;
                self.news(outside, key);
            }
            Phase::Running | Phase::Ended => {}
        }
    }

    /// A member's program has ended, and its agent hears of it.
    pub(crate) fn program_ended(&mut self, outside: &mut Outside, key: MemberKey) {
        if self.agent_mut().held.get(&key).is_some_and(|held| held.phase == Phase::Running) {
            self.store(outside, key);
        }
    }

    /// A program ended while the agent lives, or before it began.
    fn store(&mut self, outside: &mut Outside, key: MemberKey) {
        let exit: Option<Exit> = self.disk.members.get(&key).and_then(|kept| kept.exit.clone());
        let end = match exit {
            None if outside.mutates(Mutation::PublishUnwritten) => unwritten(),
            exit => exit.map_or_else(lost, |exit| end_of(outside, key, &exit)),
        };
        self.finish(outside, key, end);
    }

    /// The end of a member is known; its logs and outputs are being stored.
    fn finish(&mut self, outside: &mut Outside, key: MemberKey, end: End) {
        let Some(held) = self.agent_mut().held.get_mut(&key) else { return };
        (held.phase, held.end, held.run) = (Phase::Storing, Some(Arc::new(end)), outside.dice.next() >> 16);
        let run = held.run;
        let delay = outside.dice.within(10, 1_500);
        self.plan_agent(outside, delay, InAgent::Step { member: key, run });
        self.news(outside, key);
    }

    /// There is news of a member.
    fn news(&mut self, outside: &mut Outside, key: MemberKey) {
        let Some(held) = self.agent_mut().held.get(&key) else { return };
        let end = held.end.clone().filter(|_| held.phase == Phase::Ended);
        let report = report(key, held.phase, end);
        if report.end.is_some() && outside.mutates(Mutation::ForgetReport) {
            // It takes it for told, and lets it go.
            self.agent_mut().held.remove(&key);
            return self.forget(outside, key);
        }
        if report.end.is_some() && self.disk.members.get(&key).is_some_and(|kept| kept.exit.is_some()) {
            outside.told_ended.insert(key);
        }
        self.put(outside, report);
        if self.agent_mut().wishes.is_undesired(key) {
            self.act(outside, key);
        }
    }
}

fn report(member: MemberKey, phase: Phase, end: Option<Arc<End>>) -> AttemptReport {
    AttemptReport { member, phase, times: PhaseTimes::NONE, end, checkpoint: None, stuck: None, saved_at: None }
}

/// What may go wrong before a program runs.
fn failed_early(outside: &mut Outside) -> Option<End> {
    use AttemptOutcome::{Failed, Rejected};
    match outside.dice.within(0, 99) {
        0..=1 => Some(bare(Failed, Reason::Image, Blame::Platform, "")),
        2 => Some(bare(Failed, Reason::Device, Blame::Hardware, "")),
        3 => Some(bare(Rejected, Reason::Refused, Blame::Platform, "")),
        _ => None,
    }
}
