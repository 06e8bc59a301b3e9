//! One run: a cluster, its clients, and what breaks. First faults, then healing, in which every job must end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::{
    AttemptDesired, ChangeNode, Command, Health, JobId, MemberKey, NodeChange, OnDisconnect, Phase, Scheduling,
    Standing, SubmitJob,
};
use flowyard_state::State;

use crate::circumstances::Circumstances;
use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::group::{Group, REPLICAS};
use crate::host::Host;
use crate::jobs;
use crate::leader::Origin;
use crate::mutation::Mutation;
use crate::network::Network;
use crate::outside::{Outside, TIMING};
use crate::replica::Replica;
use crate::schedule::{AtReplica, Event, InAgent, Schedule};
use crate::summary::{Failure, Summary};
use crate::trace::Trace;

/// How long things break, in simulated milliseconds.
const FAULTS_MS: (u64, u64) = (240_000, 480_000);
/// Faults that every run has at least.
const LEAST_FAULTS: u64 = 10;
/// How long everything may take to end after that.
const HEALING_MS: u64 = 3 * 3_600_000;
/// Between two looks at all machines.
const INSPECT_MS: u64 = 10_000;
/// How long, on machines where nothing breaks, something may run that is not wanted.
const UNWANTED_MS: u64 = 30_000;
/// After so long without anything broken, a node must have been heard.
const CALM_MS: u64 = 60_000;
/// How long everything stays as it is before a run is over.
const QUIET_MS: u64 = 2 * INSPECT_MS;
/// Between two tries of a client.
const RETRY_MS: u64 = 3_000;
/// Agents that may be lost where another machine comes under the name of each.
const SPARES_WITH_NAMES: u32 = 4;
/// What every run has at least.
pub(crate) const JOBS: (u64, u64) = (50, 60);

struct Client {
    wish: Option<SubmitJob>,
    job: Option<JobId>,
}

pub(crate) struct World {
    pub(crate) outside: Outside,
    pub(crate) group: Group,
    pub(crate) hosts: Vec<Host>,
    /// Agents that may be lost for good; each is replaced when everything is repaired.
    pub(crate) spares: u32,
    pub(crate) coverage: Coverage,
    clients: Vec<Client>,
    idle: State,
    /// Since when nothing is left to do.
    over_since: Option<u64>,
    /// Since when no coordinator and nothing of the network is broken.
    calm_since: u64,
}

/// Runs one seed to its end. A `full` trace takes long, and tells histories apart that differ in anything.
///
/// # Errors
/// The first rule that does not hold.
pub fn run(seed: u64, full: bool) -> Result<Summary, Failure> {
    World::new(seed, full, Circumstances::USUAL, None).run(seed)
}

/// Runs one seed with a product that is wrong, in circumstances in which that matters; and how often it could do wrong.
pub fn run_wrong(seed: u64, mutation: Mutation) -> (Result<Summary, Failure>, u64) {
    let mut world = World::new(seed, false, mutation.circumstances(), Some(mutation));
    let result = world.run(seed);
    (result, world.outside.mutated)
}

/// Runs one seed in the same circumstances with the product as it is.
///
/// # Errors
/// The first rule that does not hold.
pub fn run_right(seed: u64, mutation: Mutation) -> Result<Summary, Failure> {
    run_in(seed, mutation.circumstances())
}

/// Runs one seed in these circumstances.
///
/// # Errors
/// The first rule that does not hold.
pub fn run_in(seed: u64, circumstances: Circumstances) -> Result<Summary, Failure> {
    World::new(seed, false, circumstances, None).run(seed)
}

impl World {
    fn new(seed: u64, full: bool, circumstances: Circumstances, mutation: Option<Mutation>) -> Self {
        let mut dice = Dice::new(seed);
        let count = dice.within(3, 5) as usize;
        let inventories: Vec<_> = (0..count).map(|_| Arc::new(jobs::inventory(&mut dice))).collect();
        let jobs = dice.within(JOBS.0, JOBS.1);
        let mut outside = Outside {
            dice,
            schedule: Schedule::new(),
            network: Network::new(),
            trace: Trace::new(full),
            healed: false,
            circumstances,
            mutation,
            acknowledged: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            submitted: jobs,
            written: BTreeMap::new(),
            live: BTreeMap::new(),
            told_ended: BTreeSet::new(),
            stopped: Vec::new(),
            broken: None,
            mutated: 0,
        };
        let hosts = inventories.iter().enumerate();
        let hosts = hosts.map(|(at, inventory)| Host::new(at, inventory.clone(), &mut outside)).collect();
        let mut world = Self {
            group: Group::new(&mut outside),
            hosts,
            spares: if circumstances.names_taken { SPARES_WITH_NAMES } else { 1 },
            coverage: Coverage::default(),
            clients: (0..jobs).map(|_| Client { wish: None, job: None }).collect(),
            idle: jobs::idle_cluster(&inventories),
            outside,
            over_since: None,
            calm_since: 0,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        let faults_ms = self.outside.dice.within(FAULTS_MS.0, FAULTS_MS.1);
        let Outside { schedule, dice, .. } = &mut self.outside;
        schedule.after(dice.within(100, 1_000), Event::Elect);
        for agent in 0..self.hosts.len() {
            let repair = crate::faults::Repair::StartAgent { agent };
            schedule.after(dice.within(0, 3_000), Event::Repair(repair));
        }
        for client in 0..self.clients.len() {
            schedule.after(dice.within(100, faults_ms * 3 / 4), Event::ClientTimer { client });
        }
        schedule.after(dice.within(3_000, 10_000), Event::Fault);
        schedule.after(INSPECT_MS, Event::Inspect);
        schedule.after(faults_ms, Event::Heal);
    }

    fn run(&mut self, seed: u64) -> Result<Summary, Failure> {
        let mut healed_at = None;
        while let Some(event) = self.outside.schedule.next() {
            let at_ms = self.outside.now();
            let failed = |broken| Failure { seed, at_ms, broken };
            let inspects = matches!(event, Event::Inspect);
            self.handle(event).map_err(failed)?;
            if let Some(broken) = self.outside.broken.take() {
                return Err(failed(broken));
            }
            self.look_at_stops().map_err(failed)?;
            if inspects && self.outside.healed {
                let since = *healed_at.get_or_insert(at_ms);
                if self.is_over_for_long() {
                    self.group.check_end(&mut self.outside).map_err(failed)?;
                    return Ok(self.summary());
                }
                // Jobs that follow each other, of programs that run for minutes, take that much longer.
                let longer = if self.outside.circumstances.long_programs { 4 } else { 1 };
                if at_ms > since + longer * HEALING_MS {
                    return Err(failed(self.unfinished()));
                }
            }
        }
        unreachable!("machines are looked at for ever")
    }

    pub(crate) fn handle(&mut self, event: Event) -> Result<(), String> {
        let Some(event) = self.unless_paused(event) else { return Ok(()) };
        match event {
            Event::Up { stream, message } => {
                let Some(replica) = self.outside.network.stream(stream).map(|stream| stream.replica) else {
                    return Ok(());
                };
                if !self.group.replicas[replica].up {
                    self.outside.close(stream, crate::network::Way::Down);
                    return Ok(());
                }
                let takes_part = self.group.replicas[replica].takes_part();
                let leader = self.group.leader().filter(|_| takes_part);
                let follows = self.group.follows(replica);
                self.group.replicas[replica].hear(&mut self.outside, stream, message, leader, follows);
            }
            Event::Down { stream, message } => {
                let agent = self.outside.network.stream(stream).map(|stream| stream.agent);
                agent.into_iter().for_each(|agent| self.hosts[agent].told(&mut self.outside, stream, message.clone()));
            }
            Event::EndsAbove { replica, stream } => self.group.replicas[replica].hung_up(stream),
            Event::EndsBelow { agent, stream } => self.hosts[agent].stream_ended(&mut self.outside, stream),
            Event::At { replica, process, what } => self.at_replica(replica, process, what)?,
            Event::Elect => self.group.elect(&mut self.outside)?,
            Event::Learn { replica } => self.group.learn(&mut self.outside, replica),
            Event::In { agent, process, what } => self.in_agent(agent, process, what),
            Event::Exit { agent, run } => self.exits(agent, run, false),
            Event::Obeys { agent, run } => self.exits(agent, run, true),
            Event::Due { agent, run } => self.hosts[agent].due(&mut self.outside, run),
            Event::ClientTimer { client } => self.client_timer(client),
            Event::Submission { client, replica } => self.submission(client, replica),
            Event::Answer { client, job } => self.answered(client, job)?,
            Event::Watched { job, replica } => self.group.watched(&mut self.outside, job, replica)?,
            Event::Cancel { job } => {
                if let Some(leader) = self.group.leading() {
                    leader.propose(&mut self.outside, Command::CancelJob { job }, Origin::Nobody);
                }
            }
            Event::Fault => self.fault()?,
            Event::Repair(repair) => self.repair(repair)?,
            Event::Inspect => self.inspect()?,
            Event::Heal => self.heal()?,
        }
        Ok(())
    }

    /// What happens to a process that stands still waits.
    fn unless_paused(&mut self, event: Event) -> Option<Event> {
        let network = &self.outside.network;
        let (replica, agent) = match &event {
            Event::Up { stream, .. } => (network.stream(*stream).map(|stream| stream.replica), None),
            Event::Down { stream, .. } => (None, network.stream(*stream).map(|stream| stream.agent)),
            Event::EndsAbove { replica, .. } | Event::At { replica, .. } => (Some(*replica), None),
            Event::EndsBelow { agent, .. } | Event::In { agent, .. } => (None, Some(*agent)),
            _ => (None, None),
        };
        let mut event = Some(event);
        if let Some(replica) = replica.map(|at| &mut self.group.replicas[at]).filter(|replica| replica.paused) {
            replica.waiting.extend(event.take());
        }
        if let Some(host) = agent.map(|at| &mut self.hosts[at]).filter(|host| host.paused) {
            host.waiting.extend(event.take());
        }
        event
    }

    fn at_replica(&mut self, at: usize, process: u64, what: AtReplica) -> Result<(), String> {
        let follows = self.group.follows(at);
        let outside = &mut self.outside;
        let replica = &mut self.group.replicas[at];
        if !replica.up || replica.process != process {
            return Ok(());
        }
        let now_leads = replica.term();
        let leads = |term: u64| now_leads == Some(term);
        match what {
            AtReplica::CatchUp => self.group.catch_up(outside, at)?,
            AtReplica::Lead { term } if leads(term) && follows => {
                self.group.catch_up(outside, at)?;
                self.group.replicas[at].lead(outside, term);
            }
            // It goes on trying to have its first entry chosen.
            AtReplica::Lead { term } if leads(term) => replica.plan(outside, 250, AtReplica::Lead { term }),
            AtReplica::Commit { term } => self.group.commit(outside, at, term)?,
            AtReplica::Place { term } if leads(term) => replica.place(outside),
            AtReplica::Planned { term, plans } if leads(term) => replica.planned(outside, plans),
            AtReplica::Wake { term } if leads(term) => replica.woken(outside),
            AtReplica::Tell { stream } => replica.tell_late(outside, stream),
            AtReplica::Join { term } if leads(term) => replica.join(outside),
            AtReplica::TickDue { term } if leads(term) => replica.tick_due(outside),
            AtReplica::Look { term, planned_ms } if leads(term) => {
                replica.look(outside, planned_ms);
                self.look_at_conclusions(at)?;
            }
            AtReplica::Silence { stream } => replica.silence(outside, stream),
            _ => {}
        }
        Ok(())
    }

    fn in_agent(&mut self, at: usize, process: u64, what: InAgent) {
        let (host, outside) = (&mut self.hosts[at], &mut self.outside);
        if host.agent.as_ref().is_none_or(|agent| agent.id != process) {
            return;
        }
        match what {
            InAgent::Begin { waited } => host.begin_agent(outside, waited),
            InAgent::Connect => host.connect(outside),
            InAgent::Timer => host.timer(outside),
            InAgent::Flush => host.flush_due(outside),
            InAgent::Ended { member } => host.program_ended(outside, member),
            InAgent::Step { member, run } => host.step(outside, member, run),
        }
    }

    fn exits(&mut self, agent: usize, run: u64, signalled: bool) {
        let host = &mut self.hosts[agent];
        let Some(member) = host.exit(&mut self.outside, run, signalled) else { return };
        host.plan_agent(&mut self.outside, 0, InAgent::Ended { member });
    }

    fn client_timer(&mut self, client: usize) {
        if self.clients[client].job.is_some() {
            return;
        }
        let Self { outside, idle, .. } = self;
        self.clients[client].wish.get_or_insert_with(|| {
            let known: Vec<_> = outside.acknowledged.difference(&outside.forgotten).copied().collect();
            jobs::job(outside, client, &known, idle)
        });
        let replica = outside.dice.within(0, REPLICAS as u64 - 1) as usize;
        if !outside.dice.chance(outside.network.loss) {
            let delay = outside.dice.within(1, outside.network.delay_ms);
            outside.schedule.after(delay, Event::Submission { client, replica });
        }
        outside.schedule.after(RETRY_MS, Event::ClientTimer { client });
    }

    /// A submission reaches a coordinator, which passes it on to the leader.
    fn submission(&mut self, client: usize, replica: usize) {
        let Some(wish) = self.clients[client].wish.clone() else { return };
        let here = &self.group.replicas[replica];
        let direct = here.up && !here.paused && here.leader.as_ref().is_some_and(|leader| leader.ready);
        let to = if direct { Some(replica) } else { self.group.leader().filter(|_| here.takes_part()) };
        let Some(to) = to else { return };
        let leader = &mut self.group.replicas[to];
        if self.outside.mutation == Some(Mutation::AcknowledgeBeforeCommit)
            && self.outside.mutates(Mutation::AcknowledgeBeforeCommit)
        {
            let next = leader.state.jobs().next_back().map_or(1, |(id, _)| id.0 + 1);
            self.outside.schedule.after(1, Event::Answer { client, job: Some(JobId(next)) });
        }
        leader.propose(&mut self.outside, Command::SubmitJob(wish), Origin::Client(client));
    }

    fn answered(&mut self, client: usize, job: Option<JobId>) -> Result<(), String> {
        let Some(job) = job else { return Ok(()) };
        let known = *self.clients[client].job.get_or_insert(job);
        if known != job && !self.outside.forgotten.contains(&known) {
            return Err(format!("client {client} submitted once and has jobs {known} and {job}"));
        }
        if self.outside.acknowledged.insert(job) {
            self.group.watch(&mut self.outside, job);
            if self.outside.dice.chance(100) {
                let delay = self.outside.dice.within(1, 60_000);
                self.outside.schedule.after(delay, Event::Cancel { job });
            }
        }
        Ok(())
    }

    /// Whether a job that is open, or was not taken yet, waits for this one.
    pub(crate) fn is_waited_for(&self, job: JobId) -> bool {
        let wishes =
            self.clients.iter().filter(|client| client.job.is_none()).filter_map(|client| client.wish.as_ref());
        let mut specs = wishes.map(|wish| &wish.spec);
        specs.any(|spec| spec.after.contains(&job))
            || self.group.front.jobs().any(|(_, open)| open.ended.is_none() && open.spec.after.contains(&job))
    }

    /// How far the attempts are that a machine has, or should have.
    pub(crate) fn phases(&self, host: usize) -> Vec<Phase> {
        let host = &self.hosts[host];
        let here = host.agent.as_ref().map(|agent| &agent.held);
        let mut phases: BTreeMap<_, _> = here.into_iter().flatten().map(|(key, held)| (*key, held.phase)).collect();
        for (key, kept) in &host.disk.members {
            let known = if kept.exit.is_some() { Phase::Ended } else { Phase::Running };
            phases.entry(*key).or_insert(if kept.launched.is_some() { known } else { Phase::Accepted });
        }
        if let Some((node, _)) = self.group.front.node_named(&host.name) {
            for (key, _, member) in self.group.front.live_members(node) {
                phases.entry(key).or_insert(member.phase);
            }
        }
        phases.into_values().collect()
    }

    /// Everything is repaired.
    fn heal(&mut self) -> Result<(), String> {
        if self.coverage.faults() < LEAST_FAULTS {
            self.outside.schedule.after(INSPECT_MS, Event::Heal);
            return Ok(());
        }
        self.outside.healed = true;
        let Outside { network, schedule, dice, .. } = &mut self.outside;
        network.heal(schedule, dice);
        for replica in 0..REPLICAS {
            self.group.replicas[replica].isolated = 0;
            for repair in [
                crate::faults::Repair::ResumeReplica { replica },
                crate::faults::Repair::StartReplica { replica },
                crate::faults::Repair::Disk { replica },
            ] {
                self.repair(repair)?;
            }
        }
        self.replace_given_up();
        for agent in 0..self.hosts.len() {
            self.repair(crate::faults::Repair::Resume { agent })?;
            let host = &mut self.hosts[agent];
            if host.degraded {
                host.degraded = false;
                host.kill_agent();
                for stream in self.outside.network.streams_of(|stream| stream.agent == agent) {
                    self.outside.close(stream, crate::network::Way::Up);
                }
            }
            self.hosts[agent].start_agent(&mut self.outside);
        }
        Ok(())
    }

    /// An operator brings a new machine for each that is lost.
    fn replace_given_up(&mut self) {
        let lost: Vec<_> = self.hosts.iter().filter(|host| host.given_up).map(|host| host.inventory.clone()).collect();
        for inventory in lost {
            let host = Host::new(self.hosts.len(), inventory, &mut self.outside);
            self.hosts.push(host);
        }
    }

    /// Opens all nodes, since nothing may stay closed that an operator closed, and gives queues bounds by which every job can run.
    fn open_nodes(&mut self) {
        let Some(leader) = self.group.leading() else { return };
        let closed = leader.state.nodes().filter(|(_, node)| node.scheduling != Scheduling::Open);
        let closed: Vec<_> = closed.map(|(id, _)| id).collect();
        for node in closed {
            let command = Command::SetNodeScheduling { node, scheduling: Scheduling::Open };
            leader.propose(&mut self.outside, command, Origin::Nobody);
        }
        let shunned = leader.state.nodes().filter(|(_, node)| node.standing() == Standing::Shunned);
        let shunned: Vec<_> = shunned.map(|(id, _)| id).collect();
        for node in shunned {
            let (change, by, reason) = (NodeChange::Forgive, "ops".to_owned(), String::new());
            let command = Command::ChangeNode(ChangeNode { node, change, by, reason });
            leader.propose(&mut self.outside, command, Origin::Nobody);
        }
        for queue in jobs::queues() {
            let is_there = |known: &Arc<flowyard_model::Queue>| !self.outside.healed || **known == queue;
            if !leader.state.queue(&queue.path).is_some_and(is_there) {
                leader.propose(&mut self.outside, Command::PutQueue(queue.into()), Origin::Nobody);
            }
        }
    }

    /// Looks at all machines: nothing that nobody wants runs for long where nothing is broken.
    fn inspect(&mut self) -> Result<(), String> {
        let now = self.outside.now();
        self.outside.schedule.after(INSPECT_MS, Event::Inspect);
        self.group.move_watchers(&mut self.outside);
        self.group.seek_leader(&mut self.outside);
        let lacks = |leader: &Replica| jobs::queues().iter().any(|queue| leader.state.queue(&queue.path).is_none());
        let rejected = self.group.leading().is_some_and(|leader| lacks(leader));
        if self.outside.healed || rejected {
            self.open_nodes();
        }
        if !self.is_calm() {
            self.calm_since = now;
        }
        for at in 0..self.hosts.len() {
            if !self.is_host_calm(at) {
                self.hosts[at].calm_since = now;
            }
            self.look_at_programs(at)?;
        }
        let done = self.outside.healed && self.is_over();
        self.over_since = if done { self.over_since.or(Some(now)) } else { None };
        Ok(())
    }

    fn is_calm(&self) -> bool {
        let network = &self.outside.network;
        let kind = network.loss == 0 && network.doubling == 0 && network.reorder == 0;
        let coordinators = self
            .group
            .replicas
            .iter()
            .all(|replica| replica.takes_part() && replica.disk_ms == crate::replica::USUAL_DISK_MS);
        kind && network.delay_ms == crate::network::USUAL_DELAY_MS && coordinators && self.group.leader().is_some()
    }

    fn is_host_calm(&self, at: usize) -> bool {
        let (host, network) = (&self.hosts[at], &self.outside.network);
        let ways = [crate::network::Way::Up, crate::network::Way::Down];
        let cut = (0..REPLICAS).any(|replica| ways.iter().any(|way| network.is_cut(at, replica, *way)));
        host.agent.as_ref().is_some_and(|agent| agent.link.as_ref().is_some_and(|link| link.welcomed))
            && !host.paused
            && !cut
    }

    /// Nothing that nobody wants runs for long on a machine where nothing is broken; so a gang that lost a member is soon gone.
    fn look_at_programs(&mut self, at: usize) -> Result<(), String> {
        let now = self.outside.now();
        let calm_since = self.calm_since.max(self.hosts[at].calm_since);
        let (host, front) = (&mut self.hosts[at], &self.group.front);
        let mut unwanted_since = BTreeMap::new();
        for key in host.programs.values().map(|program| program.member).filter(|key| !is_wanted(front, *key)) {
            let since = host.unwanted_since.get(&key).copied().unwrap_or(now);
            unwanted_since.insert(key, since);
            let grace_ms = front
                .step_spec(key.task.job, key.task.step)
                .map_or(TIMING.longest_grace_ms(), |spec| spec.kill_grace_ms);
            if now - since.max(calm_since) > UNWANTED_MS + grace_ms {
                return Err(format!("{key:?} runs on n{at} though nobody wants it"));
            }
        }
        host.unwanted_since = unwanted_since;
        Ok(())
    }

    /// What an agent stopped nobody wanted: no outage of the coordinators ends work.
    fn look_at_stops(&mut self) -> Result<(), String> {
        for key in std::mem::take(&mut self.outside.stopped) {
            if is_wanted(&self.group.front, key) {
                return Err(format!("{key:?} was stopped though it is wanted"));
            }
        }
        Ok(())
    }

    /// A node is concluded down only after its silence, never because nobody could hear it.
    fn look_at_conclusions(&self, at: usize) -> Result<(), String> {
        let now = self.outside.now();
        let Some(leader) = &self.group.replicas[at].leader else { return Ok(()) };
        let down = leader.pending.iter().filter_map(|proposal| match proposal.command {
            Command::SetNodeHealth { node, health: Health::Down, .. } => Some(node),
            _ => None,
        });
        for node in down {
            let name = self.group.front.node(node).map(|node| &node.name);
            let leads_for = now - leader.began;
            if leads_for < TIMING.down_ms * 95 / 100 {
                return Err(format!("node {node} was concluded down {leads_for} ms after the leader began to listen"));
            }
            let Some(host) = self.hosts.iter().find(|host| Some(&host.name) == name) else { continue };
            let calm = now - self.calm_since.max(host.calm_since);
            if self.group.follows(at) && calm > CALM_MS && leads_for > CALM_MS {
                return Err(format!("node {node} was concluded down, and could be heard for {calm} ms"));
            }
        }
        Ok(())
    }

    fn is_over_for_long(&self) -> bool {
        self.over_since.is_some_and(|since| self.outside.now() >= since + QUIET_MS)
    }

    /// Every client was answered, every job has ended, and no machine runs or keeps anything.
    fn is_over(&self) -> bool {
        let answered = self.clients.iter().all(|client| client.job.is_some());
        let ended = || self.group.front.jobs().all(|(_, job)| job.ended.is_some());
        let clean = || self.hosts.iter().filter(|host| !host.given_up).all(Host::is_clean);
        let gone = || self.outside.live.values().all(|(_, kind)| *kind != OnDisconnect::Stop);
        answered && ended() && clean() && gone() && self.group.leader().is_some()
    }

    fn unfinished(&self) -> String {
        let unanswered = self.clients.iter().filter(|client| client.job.is_none()).count();
        let kept: Vec<_> = self.hosts.iter().map(Host::kept).collect();
        let state = &self.group.front;
        let jobs = state.jobs().filter(|(_, job)| job.ended.is_none());
        let open: Vec<_> = jobs.map(|(id, job)| format!("{id} ({:?})", job.desired)).collect();
        let live = state.nodes().flat_map(|(id, _)| state.live_members(id));
        let live: Vec<_> = live
            .map(|(key, attempt, member)| {
                format!("{key:?} {:?} {:?} on {}", member.phase, attempt.desired, member.node)
            })
            .collect();
        let nodes: Vec<_> = state.nodes().map(|(id, node)| format!("{id} {} {:?}", node.name, node.health)).collect();
        let (ready, due) = (state.ready_steps().collect::<Vec<_>>(), state.next_deadline());
        format!(
            "healed, yet jobs {open:?} are open and {unanswered} clients unanswered; leader {:?}\n  nodes {nodes:?}\n  live {live:#?}\n  \
             ready {ready:?}\n  due {due:?} at {:?}\n  machines {kept:#?}",
            self.group.leader(),
            state.time()
        )
    }

    fn summary(&mut self) -> Summary {
        let state = &self.group.front;
        let steps = state.jobs().flat_map(|(id, _)| state.steps(id).map(move |(index, step)| (id, index, step)));
        let (mut attempts, mut succeeded, mut evictions, mut replaced) = (0, 0, 0, 0);
        for (id, index, step) in steps {
            succeeded += u64::from(step.counts.succeeded);
            for (_, task) in state.tasks_from(id, index, flowyard_model::TaskIndex(0)) {
                attempts += task.attempts.len() as u64;
                evictions += task.attempts.iter().filter(|attempt| attempt.preempted.is_some()).count() as u64;
                let surgeries = task.attempts.iter().filter_map(|attempt| attempt.surgery.as_ref());
                replaced += surgeries.map(|surgery| surgery.replaced.len() as u64).sum::<u64>();
                let ends =
                    task.attempts.iter().flat_map(|attempt| &attempt.members).filter_map(|member| member.end.as_ref());
                ends.for_each(|end| self.coverage.ended(end.reason));
            }
        }
        Summary {
            jobs: self.clients.len() as u64,
            faults: self.coverage.faults(),
            entries: self.group.chosen.len() as u64,
            attempts,
            succeeded,
            evictions,
            replaced,
            simulated_ms: self.outside.now(),
            trace: self.outside.trace.hash(),
            coverage: self.coverage.clone(),
        }
    }
}

/// Whether the state wants a member to run where it is.
fn is_wanted(state: &State, key: MemberKey) -> bool {
    let attempt = state.attempt(key.task, key.attempt);
    attempt.is_some_and(|attempt| {
        let member = &attempt.members[key.rank.0 as usize];
        let live = member.phase != Phase::Ended && member.replacement == key.replacement;
        live && attempt.desired == AttemptDesired::Run && member.leaving.is_none()
    })
}
