//! One run: a cluster, its clients, and what breaks. First faults, then healing, in which every job must end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::{ChangeNode, ClusterVersion, Command, JobId, NodeChange, Reply, Scheduling, SubmitJob, TimeMs};
use flowyard_state::State;

use crate::agent::Agent;
use crate::coordinator::{Coordinator, Origin};
use crate::dice::Dice;
use crate::jobs;
use crate::message::Ask;
use crate::network::Network;
use crate::outside::Outside;
use crate::schedule::{Event, Schedule};
use crate::trace::Trace;

/// How long things break, at most, in simulated milliseconds.
const FAULTS_MS: u64 = 12_000;
/// How long everything may take to end after that.
const HEALING_MS: u64 = 900_000;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Jobs that ended.
    pub jobs: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Entries applied.
    pub entries: u64,
    /// Attempts made.
    pub attempts: u64,
    /// Tasks that succeeded.
    pub succeeded: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Equal for equal histories.
    pub trace: u64,
}

/// A rule that did not hold in a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed} at {at_ms} ms: {broken}")]
pub struct Failure {
    /// The seed that shows it again.
    pub seed: u64,
    /// When, in simulated milliseconds.
    pub at_ms: u64,
    /// The rule.
    pub broken: String,
}

struct Client {
    wish: Option<SubmitJob>,
    job: Option<JobId>,
}

struct World {
    outside: Outside,
    coordinator: Coordinator,
    agents: Vec<Agent>,
    clients: Vec<Client>,
    idle: State,
    faults: u64,
}

/// Runs one seed to its end.
///
/// # Errors
/// The first rule that does not hold.
pub fn run(seed: u64) -> Result<Summary, Failure> {
    let mut world = World::new(seed);
    while let Some(event) = world.outside.schedule.next() {
        let at_ms = world.outside.schedule.now();
        let failed = |broken| Failure { seed, at_ms, broken };
        let looks = matches!(event, Event::ClientTimer { .. } | Event::AgentTimer { .. });
        world.handle(event).map_err(failed)?;
        if looks && world.outside.healed {
            if world.is_over() {
                return Ok(world.summary());
            }
            if at_ms > FAULTS_MS + HEALING_MS {
                return Err(failed(world.unfinished()));
            }
        }
    }
    unreachable!("agents look at their clocks for ever")
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let count = dice.within(1, 5) as usize;
        let network = Network::new(&mut dice, count);
        let inventories: Vec<_> = (0..count).map(|_| Arc::new(jobs::inventory(&mut dice))).collect();
        let agents = inventories.iter().enumerate().map(|(at, inventory)| Agent::new(at, inventory.clone()));
        let clients = (0..dice.within(1, 10)).map(|_| Client { wish: None, job: None }).collect();
        let mut world = Self {
            agents: agents.collect(),
            clients,
            idle: jobs::idle_cluster(&inventories),
            outside: Outside {
                dice,
                schedule: Schedule::new(),
                network,
                trace: Trace::new(),
                healed: false,
                acknowledged: BTreeSet::new(),
                written: BTreeMap::new(),
            },
            coordinator: Coordinator::new(),
            faults: 0,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        let Outside { schedule, dice, .. } = &mut self.outside;
        schedule.after(0, Event::StartCoordinator);
        for agent in 0..self.agents.len() {
            schedule.after(dice.within(0, 500), Event::StartAgent { agent });
        }
        for client in 0..self.clients.len() {
            schedule.after(dice.within(10, FAULTS_MS / 2), Event::ClientTimer { client });
        }
        schedule.after(dice.within(100, 1_000), Event::Fault);
        schedule.after(dice.within(FAULTS_MS / 4, FAULTS_MS), Event::Heal);
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        let Self { outside, coordinator, agents, .. } = self;
        let leader = |term: u64| move |leader: &&mut crate::coordinator::Leader| leader.term == term;
        match event {
            Event::Up { agent, message } => {
                if let Some(leader) = &mut coordinator.leader {
                    let shown = || (agents[agent].name(), agents[agent].shown_inventory());
                    leader.hear(outside, agent, message, shown);
                }
            }
            Event::Down { agent, message } => agents[agent].hear(outside, message),
            Event::Ask(ask) => {
                if let Some(leader) = &mut coordinator.leader {
                    leader.ask(outside, ask);
                }
            }
            Event::Answer { client, reply } => self.answered(client, &reply)?,
            Event::ClientTimer { client } => self.client_timer(client),
            Event::Committed { term } => coordinator.committed(outside, term)?,
            Event::Place { term } => {
                coordinator.leader.as_mut().filter(leader(term)).into_iter().for_each(|leader| leader.place(outside));
            }
            Event::Planned { term, plans } => {
                if let Some(leader) = coordinator.leader.as_mut().filter(leader(term)) {
                    leader.planned(outside, plans);
                }
            }
            Event::TickDue { term } => {
                coordinator
                    .leader
                    .as_mut()
                    .filter(leader(term))
                    .into_iter()
                    .for_each(|leader| leader.tick_due(outside));
            }
            Event::Liveness { term } => {
                coordinator
                    .leader
                    .as_mut()
                    .filter(leader(term))
                    .into_iter()
                    .for_each(|leader| leader.liveness(outside));
            }
            Event::StartCoordinator => coordinator.start(outside)?,
            Event::StartAgent { agent } => agents[agent].start(outside),
            Event::AgentTimer { agent, process } => agents[agent].timer(outside, process),
            Event::Progress { agent, member, run } => agents[agent].progress(outside, member, run),
            Event::Mend { agent } => outside.network.cut(agent, false),
            Event::Fault => self.fault(),
            Event::Heal => self.heal(),
        }
        Ok(())
    }

    fn client_timer(&mut self, client: usize) {
        if self.clients[client].job.is_some() {
            return;
        }
        let known: Vec<_> = self.clients.iter().filter_map(|client| client.job).collect();
        let dice = &mut self.outside.dice;
        let idle = &self.idle;
        let wish = self.clients[client].wish.get_or_insert_with(|| jobs::job(dice, client, &known, idle)).clone();
        self.outside.send_by_client_link(|| Event::Ask(Ask::Submit { client, wish: wish.clone() }));
        self.outside.schedule.after(500, Event::ClientTimer { client });
    }

    fn answered(&mut self, client: usize, reply: &Reply) -> Result<(), String> {
        let Reply::Submitted { job, .. } = reply else {
            // Its queue may not have been made yet; it asks again.
            return match reply {
                Reply::Rejected(flowyard_model::Rejection::UnknownQueue { .. }) => Ok(()),
                other => Err(format!("client {client} was answered {other:?}")),
            };
        };
        let known = *self.clients[client].job.get_or_insert(*job);
        if known != *job {
            return Err(format!("client {client} submitted once and has jobs {known} and {job}"));
        }
        let first = self.outside.acknowledged.insert(*job);
        if first && self.outside.dice.chance(150) {
            let (job, delay) = (*job, self.outside.dice.within(1, 3_000));
            self.outside.schedule.after(delay, Event::Ask(Ask::Cancel { job }));
        }
        Ok(())
    }

    /// Something breaks.
    fn fault(&mut self) {
        if self.outside.healed {
            return;
        }
        self.faults += 1;
        let agent = self.outside.dice.within(0, self.agents.len() as u64 - 1) as usize;
        let kind = self.outside.dice.within(0, 99);
        let Outside { schedule, dice, network, .. } = &mut self.outside;
        match kind {
            0..=24 => {
                schedule.after(dice.within(50, 2_000), Event::StartCoordinator);
                self.coordinator.crash(&mut self.outside);
            }
            25..=49 => {
                schedule.after(dice.within(50, 5_000), Event::StartAgent { agent });
                self.agents[agent].kill();
            }
            50..=59 => {
                schedule.after(dice.within(500, 5_000), Event::StartAgent { agent });
                self.agents[agent].crash();
            }
            60..=64 => {
                schedule.after(dice.within(500, 5_000), Event::StartAgent { agent });
                self.agents[agent].wipe();
            }
            65..=84 => {
                network.cut(agent, true);
                schedule.after(dice.within(100, 6_000), Event::Mend { agent });
            }
            _ => self.meddle(),
        }
        let next = self.outside.dice.within(50, 1_500);
        self.outside.schedule.after(next, Event::Fault);
    }

    /// An operator changes something.
    fn meddle(&mut self) {
        let Self { outside, coordinator, .. } = self;
        let Some(leader) = &mut coordinator.leader else { return };
        let nodes: Vec<_> = leader.state.nodes().map(|(id, _)| id).collect();
        let command = if nodes.is_empty() || outside.dice.chance(400) {
            Command::PutQueue(jobs::small_queue(outside.dice.within(1, 5) as u32))
        } else if leader.state.version() < ClusterVersion::ACCESS {
            Command::RaiseVersion { version: ClusterVersion::ACCESS }
        } else {
            let node = nodes[outside.dice.within(0, nodes.len() as u64 - 1) as usize];
            let now = leader.time(outside);
            let change = node_change(&mut outside.dice, now);
            Command::ChangeNode(ChangeNode { node, change, by: "sim".to_owned(), reason: String::new() })
        };
        leader.propose(outside, command, Origin::Nobody);
    }

    /// Everything is repaired.
    fn heal(&mut self) {
        let Self { outside, coordinator, agents, .. } = self;
        outside.healed = true;
        outside.network.heal();
        for agent in &mut *agents {
            if agent.is_degraded() {
                agent.kill();
            }
            agent.start(outside);
        }
        if coordinator.leader.is_none() {
            // The one that was to start it finds it running.
            coordinator.start(outside).expect("checked again by the start that was scheduled");
        }
        let leader = coordinator.leader.as_mut().expect("it was just started");
        let nodes: Vec<_> = leader.state.nodes().map(|(id, _)| id).collect();
        for node in nodes {
            let command = Command::SetNodeScheduling { node, scheduling: Scheduling::Open };
            leader.propose(outside, command, Origin::Nobody);
        }
        leader.propose(outside, Command::PutQueue(jobs::small_queue(3)), Origin::Nobody);
    }

    /// Every client was answered, every job has ended, and no machine runs or keeps anything.
    fn is_over(&self) -> bool {
        let answered = self.clients.iter().all(|client| client.job.is_some());
        let ended = || {
            let leader = self.coordinator.leader.as_ref();
            leader.is_some_and(|leader| leader.state.jobs().all(|(_, job)| job.ended.is_some()))
        };
        answered && ended() && self.agents.iter().all(|agent| agent.is_running() && agent.is_clean())
    }

    fn unfinished(&self) -> String {
        let unanswered = self.clients.iter().filter(|client| client.job.is_none()).count();
        let kept = self.agents.iter().map(|agent| format!("{}: {}", agent.name(), agent.kept()));
        let kept: Vec<_> = kept.collect();
        let Some(leader) = &self.coordinator.leader else { return "healed, yet nobody leads".to_owned() };
        let state = &leader.state;
        let jobs = state.jobs().filter(|(_, job)| job.ended.is_none());
        let open: Vec<_> = jobs.map(|(id, job)| format!("{id} ({:?})", job.desired)).collect();
        let live = state.nodes().flat_map(|(id, _)| state.live_members(id));
        let live: Vec<_> =
            live.map(|(key, attempt, member)| format!("{key:?} {:?} {attempt:?}", member.phase)).collect();
        let nodes: Vec<_> = state.nodes().map(|(id, node)| format!("{id} {} {:?}", node.name, node.health)).collect();
        let (ready, due) = (state.ready_steps().collect::<Vec<_>>(), state.next_deadline());
        format!(
            "healed, yet jobs {open:?} are open and {unanswered} clients unanswered\n  nodes {nodes:?}\n  live {live:#?}\n  \
             ready {ready:?}\n  due {due:?} at {:?}\n  machines {kept:#?}",
            state.time()
        )
    }

    fn summary(&self) -> Summary {
        let state = &self.coordinator.leader.as_ref().expect("the run is over").state;
        let steps = state.jobs().flat_map(|(id, _)| state.steps(id).map(move |(index, step)| (id, index, step)));
        let (mut attempts, mut succeeded) = (0, 0);
        for (id, index, step) in steps {
            succeeded += u64::from(step.counts.succeeded);
            let tasks = state.tasks_from(id, index, flowyard_model::TaskIndex(0));
            attempts += tasks.map(|(_, task)| task.attempts.len() as u64).sum::<u64>();
        }
        Summary {
            jobs: state.job_count() as u64,
            faults: self.faults,
            entries: self.coordinator.entries,
            attempts,
            succeeded,
            simulated_ms: self.outside.schedule.now(),
            trace: self.outside.trace.hash(),
        }
    }
}

/// What an operator may want of a node at this time: mostly to empty it, soon.
fn node_change(dice: &mut Dice, now: TimeMs) -> NodeChange {
    match dice.within(0, 9) {
        0 => NodeChange::Cordon,
        1 => NodeChange::Drain { deadline: None },
        2..=5 => NodeChange::Drain { deadline: Some(now.after(dice.within(0, 3_000))) },
        6..=7 => NodeChange::Uncordon,
        _ => NodeChange::Remove,
    }
}
