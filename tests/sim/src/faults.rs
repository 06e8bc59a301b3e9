//! What breaks, for how long, and what then mends it.

use std::collections::BTreeSet;

use flowyard_model::*;

use crate::circumstances::FAVOURED;
use crate::clock::DRIFT_PPM;
use crate::group::REPLICAS;
use crate::host::Host;
use crate::jobs;
use crate::leader::Origin;
use crate::network::{USUAL_DELAY_MS, Way};
use crate::outside::Outside;
use crate::replica::USUAL_DISK_MS;
use crate::schedule::Event;
use crate::world::World;

macro_rules! kinds {
    ($($(#[$meta:meta])* $kind:ident = $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "`name` says it")]
        pub enum FaultKind { $($kind,)* }

        impl FaultKind {
            /// All of them.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// What it is called.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    Loss = "messages lost",
    Delay = "messages delayed",
    Doubling = "messages doubled",
    Reordering = "messages reordered",
    SessionCut = "session cut",
    SilenceUp = "agent not heard (one way)",
    SilenceDown = "agent not told (one way)",
    AgentCutOff = "agent cut off",
    AgentKilled = "agent killed, started again",
    AgentPaused = "agent paused",
    HostRebooted = "host rebooted",
    PowerCut = "host: power cut, unsynced writes lost",
    JournalLost = "agent's journal lost",
    AgentGone = "agent killed and never back",
    DeviceLost = "device lost at registration",
    LeaderKilled = "leader killed",
    FollowerKilled = "follower killed",
    LeaderMoved = "leadership moved",
    LeaderIsolated = "leader isolated, goes on talking",
    CoordinatorPaused = "coordinator paused",
    AllKilled = "all coordinators killed",
    SlowDisk = "slow disk of a coordinator",
    ClockJump = "wall clock jumps",
    ClockDrift = "clock drifts otherwise",
    Drained = "node drained, cordoned, opened",
    Removed = "node removed",
    CancelStorm = "jobs cancelled",
    Forgotten = "ended jobs forgotten",
    Bounds = "bounds of a queue changed",
}

/// What mends something.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Repair {
    Network,
    Mend { agent: usize, replica: usize, way: Way },
    StartAgent { agent: usize },
    Resume { agent: usize },
    StartReplica { replica: usize },
    ResumeReplica { replica: usize },
    Connect { replica: usize },
    Disk { replica: usize },
}

/// How long something is broken: mostly seconds, sometimes longer than it takes to give a node up.
fn lasts(outside: &mut Outside, kind: FaultKind) -> u64 {
    if let Some((least, most)) = outside.circumstances.lasts(kind) {
        return outside.dice.within(least, most);
    }
    if outside.dice.chance(350) { outside.dice.within(50_000, 240_000) } else { outside.dice.within(300, 25_000) }
}

fn draw_kind(outside: &mut Outside) -> FaultKind {
    let favoured = outside.circumstances.faults;
    if !favoured.is_empty() && outside.dice.chance(FAVOURED) {
        return favoured[outside.dice.within(0, favoured.len() as u64 - 1) as usize].0;
    }
    FaultKind::ALL[outside.dice.within(0, FaultKind::ALL.len() as u64 - 1) as usize]
}

fn repair(outside: &mut Outside, after_ms: u64, repair: Repair) {
    outside.schedule.after(after_ms, Event::Repair(repair));
}

impl World {
    /// Something breaks.
    pub(crate) fn fault(&mut self) -> Result<(), String> {
        if self.outside.healed {
            return Ok(());
        }
        let (least, most) = self.outside.circumstances.spacing_ms;
        let next = self.outside.dice.within(least, most);
        self.outside.schedule.after(next, Event::Fault);
        let kind = draw_kind(&mut self.outside);
        let agent = self.outside.dice.within(0, self.hosts.len() as u64 - 1) as usize;
        let same = self.outside.circumstances.one_machine && self.outside.dice.chance(FAVOURED);
        let agent = if same { 0 } else { agent };
        let replica = self.outside.dice.within(0, REPLICAS as u64 - 1) as usize;
        self.group.note_majority(&self.outside);
        if let Some(hosts) = self.break_it(kind, agent, replica)? {
            let phases: Vec<_> = hosts.iter().flat_map(|host| self.phases(*host)).collect();
            self.coverage.fault(kind, phases.into_iter());
        }
        self.group.seek_leader(&mut self.outside);
        Ok(())
    }

    /// Breaks something; the machines that it touches, or nothing if it cannot be broken now.
    fn break_it(&mut self, kind: FaultKind, agent: usize, replica: usize) -> Result<Option<Vec<usize>>, String> {
        use FaultKind::*;
        match kind {
            Loss | Delay | Doubling | Reordering => self.break_network(kind),
            SessionCut | SilenceUp | SilenceDown | AgentCutOff => self.break_link(kind, agent),
            AgentKilled | AgentPaused | HostRebooted | PowerCut | JournalLost | AgentGone | DeviceLost => {
                return Ok(self.break_host(kind, agent));
            }
            LeaderKilled | FollowerKilled | LeaderMoved | LeaderIsolated | CoordinatorPaused | AllKilled | SlowDisk => {
                if !self.break_coordinator(kind, replica)? {
                    return Ok(None);
                }
            }
            ClockJump | ClockDrift => self.break_clock(kind, agent, replica),
            Drained | Removed | CancelStorm | Forgotten | Bounds => {
                let touched = self.meddle(kind);
                return Ok(touched.then(|| (0..self.hosts.len()).collect()));
            }
        }
        let one = matches!(kind, SessionCut | SilenceUp | SilenceDown | AgentCutOff);
        Ok(Some(if one { vec![agent] } else { (0..self.hosts.len()).collect() }))
    }

    fn break_network(&mut self, kind: FaultKind) {
        let Outside { network, dice, .. } = &mut self.outside;
        match kind {
            FaultKind::Loss => network.loss = dice.within(5, 100),
            FaultKind::Delay => network.delay_ms = dice.within(200, 5_000),
            FaultKind::Doubling => network.doubling = dice.within(5, 100),
            _ => network.reorder = dice.within(5, 100),
        }
        let after_ms = lasts(&mut self.outside, kind);
        repair(&mut self.outside, after_ms, Repair::Network);
    }

    fn break_link(&mut self, kind: FaultKind, agent: usize) {
        let outside = &mut self.outside;
        if kind == FaultKind::SessionCut {
            for stream in outside.network.streams_of(|stream| stream.agent == agent) {
                outside.network.reset_later(&mut outside.schedule, stream, 1);
            }
            return;
        }
        let after_ms = lasts(outside, kind);
        let ways: &[Way] = match kind {
            FaultKind::SilenceUp => &[Way::Up],
            FaultKind::SilenceDown => &[Way::Down],
            _ => &[Way::Up, Way::Down],
        };
        for replica in 0..REPLICAS {
            for way in ways {
                outside.network.cut(agent, replica, *way);
                repair(outside, after_ms, Repair::Mend { agent, replica, way: *way });
            }
        }
    }

    fn break_host(&mut self, kind: FaultKind, agent: usize) -> Option<Vec<usize>> {
        let lonely = self.hosts.iter().filter(|host| !host.given_up).count() < 2;
        let host = &self.hosts[agent];
        let devices = !host.inventory.gpus.is_empty();
        let impossible = match kind {
            FaultKind::AgentGone => lonely || host.given_up || self.spares == 0,
            FaultKind::DeviceLost => host.given_up || !devices,
            _ => host.given_up || host.agent.is_none(),
        };
        if impossible {
            return None;
        }
        let outside = &mut self.outside;
        let after_ms = lasts(outside, kind);
        if kind == FaultKind::AgentPaused {
            if outside.dice.chance(500) {
                self.hosts[agent].paused = true;
            } else {
                self.hosts[agent].pauses_next = true;
            }
            repair(outside, after_ms, Repair::Resume { agent });
            return Some(vec![agent]);
        }
        // What is hit is looked at before it is gone.
        let hit: Vec<_> = self.phases(agent);
        self.coverage.fault(kind, hit.into_iter());
        let outside = &mut self.outside;
        let host = &mut self.hosts[agent];
        let streams = outside.network.streams_of(|stream| stream.agent == agent);
        let told = matches!(kind, FaultKind::AgentKilled | FaultKind::DeviceLost | FaultKind::AgentGone);
        for stream in streams {
            if told { outside.close(stream, Way::Up) } else { outside.network.vanish(stream) }
        }
        host.kill_agent();
        match kind {
            FaultKind::HostRebooted | FaultKind::PowerCut => host.reboot(outside, kind == FaultKind::PowerCut),
            FaultKind::JournalLost => host.lose_journal(),
            FaultKind::AgentGone => {
                host.given_up = true;
                self.spares -= 1;
                self.take_name(agent);
                return None;
            }
            FaultKind::DeviceLost => host.degraded = true,
            _ => host.degraded = false,
        }
        repair(outside, after_ms, Repair::StartAgent { agent });
        None
    }

    /// Where that happens, another machine comes under the name of one that is lost, and on which programs may still run.
    fn take_name(&mut self, lost: usize) {
        if !self.outside.circumstances.names_taken {
            return;
        }
        let agent = self.hosts.len();
        let (name, inventory) = (self.hosts[lost].name.clone(), self.hosts[lost].inventory.clone());
        let mut host = Host::new(agent, inventory, &mut self.outside);
        host.name = name;
        self.hosts.push(host);
        let after_ms = self.outside.dice.within(3_000, 40_000);
        repair(&mut self.outside, after_ms, Repair::StartAgent { agent });
    }

    fn break_coordinator(&mut self, kind: FaultKind, replica: usize) -> Result<bool, String> {
        let leader = self.group.leader();
        let other = leader.map(|leader| (leader + 1 + replica % (REPLICAS - 1)) % REPLICAS);
        let after_ms = lasts(&mut self.outside, kind);
        let one = match kind {
            FaultKind::LeaderKilled | FaultKind::LeaderIsolated => leader,
            FaultKind::FollowerKilled | FaultKind::LeaderMoved => other,
            _ => Some(replica),
        };
        let Some(one) = one.filter(|one| self.group.replicas[*one].up && !self.group.replicas[*one].paused) else {
            return Ok(false);
        };
        match kind {
            FaultKind::LeaderKilled | FaultKind::FollowerKilled => self.kill_replica(one, after_ms),
            FaultKind::AllKilled => {
                for one in 0..REPLICAS {
                    let longer_ms = self.outside.dice.within(0, 5_000);
                    self.kill_replica(one, after_ms + longer_ms);
                }
            }
            FaultKind::LeaderMoved => {
                if !self.group.replicas[one].takes_part() {
                    return Ok(false);
                }
                self.group.change_leader(&mut self.outside, one)?;
            }
            FaultKind::LeaderIsolated => {
                self.group.replicas[one].isolated += 1;
                repair(&mut self.outside, after_ms, Repair::Connect { replica: one });
            }
            FaultKind::CoordinatorPaused => {
                self.group.replicas[one].paused = true;
                repair(&mut self.outside, after_ms, Repair::ResumeReplica { replica: one });
            }
            _ => {
                self.group.replicas[one].disk_ms = self.outside.dice.within(200, 5_000);
                repair(&mut self.outside, after_ms, Repair::Disk { replica: one });
            }
        }
        Ok(true)
    }

    fn kill_replica(&mut self, replica: usize, after_ms: u64) {
        if !self.group.replicas[replica].up {
            return;
        }
        for stream in self.outside.network.streams_of(|stream| stream.replica == replica) {
            self.outside.close(stream, Way::Down);
        }
        self.group.replicas[replica].crash();
        repair(&mut self.outside, after_ms, Repair::StartReplica { replica });
    }

    fn break_clock(&mut self, kind: FaultKind, agent: usize, replica: usize) {
        let dice = &mut self.outside.dice;
        let (jump_ms, rate, of_agent) = (dice.around(120_000), dice.around(DRIFT_PPM), dice.chance(500));
        let now = self.outside.schedule.now();
        let clock = if of_agent { &mut self.hosts[agent].clock } else { &mut self.group.replicas[replica].clock };
        match kind {
            FaultKind::ClockJump => clock.jump(jump_ms),
            _ => clock.set_rate(now, rate),
        }
    }

    /// An operator or a user wants something; whether anybody could be asked.
    fn meddle(&mut self, kind: FaultKind) -> bool {
        let (forgotten, outside) = (self.forgettable(), &mut self.outside);
        let Some(leader) = self.group.leading() else { return false };
        let nodes: Vec<_> = leader.state.nodes().map(|(id, _)| id).collect();
        match kind {
            FaultKind::CancelStorm => {
                let open: Vec<_> =
                    leader.state.jobs().filter(|(_, job)| job.ended.is_none()).map(|(id, _)| id).collect();
                let every = outside.dice.within(2, 4) as usize;
                for job in open.into_iter().step_by(every) {
                    leader.propose(outside, Command::CancelJob { job }, Origin::Nobody);
                }
            }
            FaultKind::Forgotten => {
                outside.forgotten.extend(&forgotten);
                leader.propose(outside, Command::ForgetJobs { jobs: forgotten.into_iter().collect() }, Origin::Nobody);
            }
            FaultKind::Bounds => {
                let queue = jobs::other_bounds(&mut outside.dice);
                leader.propose(outside, Command::PutQueue(queue.into()), Origin::Nobody);
            }
            _ if nodes.is_empty() => return false,
            _ => {
                let node = nodes[outside.dice.within(0, nodes.len() as u64 - 1) as usize];
                let now = TimeMs(leader.clock.wall(outside.now()));
                let removes = kind == FaultKind::Removed;
                let change = if removes { NodeChange::Remove } else { node_change(outside, now) };
                if removes {
                    let change = NodeChange::Cordon;
                    let cordon = ChangeNode { node, change, by: "sim".to_owned(), reason: String::new() };
                    leader.propose(outside, Command::ChangeNode(cordon), Origin::Nobody);
                }
                let wish = ChangeNode { node, change, by: "sim".to_owned(), reason: String::new() };
                leader.propose(outside, Command::ChangeNode(wish), Origin::Nobody);
            }
        }
        true
    }

    /// Some ended jobs whose clients know that they were taken.
    fn forgettable(&self) -> BTreeSet<JobId> {
        let known = self.outside.acknowledged.iter().filter(|job| !self.outside.forgotten.contains(job));
        let ended = known.filter(|job| self.group.front.job(**job).is_some_and(|job| job.ended.is_some()));
        let unneeded = ended.filter(|job| !self.is_waited_for(**job));
        unneeded.take(3).copied().collect()
    }

    /// An agent's process goes on, with everything that came meanwhile, in its order: what a coordinator said before it hung up
    /// can still be read.
    fn take_what_waited(&mut self, agent: usize) -> Result<(), String> {
        for event in std::mem::take(&mut self.hosts[agent].waiting) {
            match event {
                Event::Down { stream, message } => self.hosts[agent].told(&mut self.outside, stream, message),
                event => self.handle(event)?,
            }
        }
        Ok(())
    }

    pub(crate) fn repair(&mut self, repair: Repair) -> Result<(), String> {
        let outside = &mut self.outside;
        match repair {
            Repair::Network => {
                let network = &mut outside.network;
                (network.loss, network.doubling, network.reorder, network.delay_ms) = (0, 0, 0, USUAL_DELAY_MS);
            }
            Repair::Mend { agent, replica, way } => {
                let Outside { network, schedule, dice, .. } = outside;
                network.mend(schedule, dice, (agent, replica, way));
            }
            Repair::StartAgent { agent } => self.hosts[agent].start_agent(outside),
            Repair::Resume { agent } => {
                (self.hosts[agent].paused, self.hosts[agent].pauses_next) = (false, false);
                self.take_what_waited(agent)?;
            }
            Repair::StartReplica { replica } => self.group.replicas[replica].start(outside, &self.group.chosen)?,
            Repair::ResumeReplica { replica } => {
                let paused = &mut self.group.replicas[replica];
                paused.paused = false;
                let waiting = std::mem::take(&mut paused.waiting);
                waiting.into_iter().for_each(|event| outside.schedule.after(0, event));
                let delay = outside.dice.within(1, 500);
                outside.schedule.after(delay, Event::Learn { replica });
            }
            Repair::Connect { replica } => {
                let isolated = &mut self.group.replicas[replica].isolated;
                *isolated = isolated.saturating_sub(1);
                let delay = outside.dice.within(1, 500);
                outside.schedule.after(delay, Event::Learn { replica });
            }
            Repair::Disk { replica } => self.group.replicas[replica].disk_ms = USUAL_DISK_MS,
        }
        self.group.seek_leader(&mut self.outside);
        Ok(())
    }
}

/// What an operator may want of a node at this time: mostly to empty it, soon.
fn node_change(outside: &mut Outside, now: TimeMs) -> NodeChange {
    match outside.dice.within(0, 9) {
        0 => NodeChange::Cordon,
        1 => NodeChange::Drain { deadline: None },
        2..=4 => NodeChange::Drain { deadline: Some(now.after(outside.dice.within(0, 60_000))) },
        _ => NodeChange::Uncordon,
    }
}
