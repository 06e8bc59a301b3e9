//! One machine: what runs on it, what its disk keeps, and its clocks. Whether a program may begin and when it must end under
//! its lease is decided by the real code.
//!
//! Three things die apart: the agent's process (what runs goes on), the machine (what runs is gone, its disk is not), and the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use flowyard_agent::attempt::ending::of_exit;
use flowyard_agent::launcher::ending::{Act, Ending, Reason as Why, WaitStatus, lease_to_begin};
use flowyard_agent::runtime::spec::{ExitCause, ExitRecord, LaunchSpec, Limits, Sandbox};
use flowyard_model::*;

use crate::agent::AgentProcess;
use crate::clock::Clock;
use crate::jobs::output_name;
use crate::mutation::Mutation;
use crate::outside::Outside;
use crate::schedule::Event;

/// What was written within this time before a power cut is lost.
const UNSYNCED_MS: u64 = 5_000;

pub(crate) struct Host {
    pub(crate) at: usize,
    pub(crate) name: Name,
    pub(crate) clock: Clock,
    pub(crate) inventory: Arc<Inventory>,
    /// Its agent shows the inventory without the last device.
    pub(crate) degraded: bool,
    /// Its agent will never run again.
    pub(crate) given_up: bool,
    boots: u64,
    /// The lease file, and the boot in which it was written.
    lease: Option<(u64, u64)>,
    pub(crate) disk: Disk,
    pub(crate) programs: BTreeMap<u64, Program>,
    pub(crate) agent: Option<AgentProcess>,
    /// The agent's process stands still; what happens to it waits.
    pub(crate) paused: bool,
    /// It will stand still from its next sign of life on.
    pub(crate) pauses_next: bool,
    pub(crate) waiting: Vec<Event>,
    pub(crate) processes: u64,
    /// Since when nothing that broke touches it.
    pub(crate) calm_since: u64,
    /// Members whose programs run here, and since when nobody wants that, as it was looked at.
    pub(crate) unwanted_since: BTreeMap<MemberKey, u64>,
}

#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) registration: Option<(NodeId, Incarnation)>,
    pub(crate) members: BTreeMap<MemberKey, Kept>,
    /// What a power cut undoes, with the time it was written.
    recent: Vec<(u64, Undo)>,
}

enum Undo {
    Registered(Option<(NodeId, Incarnation)>),
    Accepted(MemberKey),
    Forgotten(MemberKey, Kept),
}

/// What is kept of one member.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) context: Arc<StepContext>,
    /// The program that was handed to the launcher.
    pub(crate) launched: Option<u64>,
    pub(crate) exit: Option<Exit>,
}

/// How a program ended.
#[derive(Clone)]
pub(crate) struct Exit {
    pub(crate) run: u64,
    pub(crate) record: ExitRecord,
}

/// A program of a task that runs.
pub(crate) struct Program {
    pub(crate) member: MemberKey,
    ending: Ending,
    will: WaitStatus,
    /// It ends when it is asked to; otherwise it must be killed.
    obeys: bool,
}

impl Host {
    pub(crate) fn new(at: usize, inventory: Arc<Inventory>, outside: &mut Outside) -> Self {
        let dice = &mut outside.dice;
        let clock = Clock::new(dice.within(60_000, 1 << 30), dice.around(2_000), dice.around(crate::clock::DRIFT_PPM));
        Self {
            at,
            name: format!("n{at}").parse().expect("it is a name"),
            clock,
            inventory,
            degraded: false,
            given_up: false,
            boots: 0,
            lease: None,
            disk: Disk::default(),
            programs: BTreeMap::new(),
            agent: None,
            paused: false,
            pauses_next: false,
            waiting: Vec::new(),
            processes: 0,
            calm_since: 0,
            unwanted_since: BTreeMap::new(),
        }
    }

    pub(crate) fn boot(&self, outside: &Outside) -> u64 {
        self.clock.boot(outside.now())
    }

    pub(crate) fn renew_lease(&mut self, until_ms: u64) {
        self.lease = Some((until_ms, self.boots));
    }

    /// As the agent does before it begins anything.
    pub(crate) fn end_lease_of_earlier_boot(&mut self) {
        if self.lease.is_some_and(|(_, boot)| boot != self.boots) {
            self.lease = None;
        }
    }

    fn read_lease(&self) -> impl Fn(&Path) -> Option<u64> + use<> {
        let until = self.lease.map(|(until, _)| until);
        move |_| until
    }

    /// Begins a member's program.
    ///
    /// # Errors
    /// Why nothing runs.
    pub(crate) fn launch(&mut self, outside: &mut Outside, member: MemberKey, run: u64) -> Result<(), End> {
        let (now_ms, read_lease) = (self.boot(outside), self.read_lease());
        let kept = self.disk.members.get_mut(&member).expect("only what is kept is begun");
        kept.launched = Some(run);
        let step = kept.context.spec.clone();
        let spec = launch_spec(&step);
        let mut lease_until = lease_to_begin(&spec, now_ms, read_lease);
        if lease_until.is_err() && outside.mutates(Mutation::BeginWithoutLease) {
            lease_until = Ok(0);
        }
        let lease_until = match lease_until {
            Ok(until) => until,
            Err(cause) => {
                let record = record(cause);
                let end = of_exit(&record);
                kept.exit = Some(Exit { run, record });
                return Err(end);
            }
        };
        let dice = &mut outside.dice;
        let will = if dice.chance(850) { WaitStatus::Exited(0) } else { WaitStatus::Exited(dice.within(1, 3) as i32) };
        let obeys = dice.chance(700) && !outside.circumstances.stubborn;
        let long = if dice.chance(250) { 240_000 } else { 30_000 };
        let long = if outside.circumstances.long_programs { (100_000, 300_000) } else { (50, long) };
        let lasts = dice.within(long.0, long.1);
        let program = Program { member, ending: Ending::new(&spec, now_ms, lease_until), will, obeys };
        self.programs.insert(run, program);
        outside.schedule.after(lasts, Event::Exit { agent: self.at, run });
        outside.runs(run, member, step.on_disconnect);
        self.plan_due(outside, run);
        Ok(())
    }

    fn plan_due(&self, outside: &mut Outside, run: u64) {
        let due = self.programs.get(&run).and_then(|program| program.ending.next_deadline());
        if let Some(due_ms) = due {
            let delay = self.clock.until(outside.now(), due_ms);
            outside.schedule.after(delay, Event::Due { agent: self.at, run });
        }
    }

    /// Asks a program to end, with the grace of its step.
    pub(crate) fn stop(&mut self, outside: &mut Outside, run: u64) {
        let now_ms = self.boot(outside);
        if let Some(program) = self.programs.get_mut(&run) {
            let act = program.ending.end(Why::Stopped, None, now_ms);
            self.signal(outside, run, act);
        }
    }

    /// What watches a program looks at the clock.
    pub(crate) fn due(&mut self, outside: &mut Outside, run: u64) {
        let (now_ms, read) = (self.boot(outside), self.read_lease());
        if let Some(program) = self.programs.get_mut(&run) {
            let act = program.ending.due(now_ms, read);
            self.signal(outside, run, act);
        }
    }

    fn signal(&mut self, outside: &mut Outside, run: u64, act: Act) {
        let obeys = self.programs.get(&run).is_some_and(|program| program.obeys);
        match act {
            Act::Terminate(_) if obeys => {
                let delay = outside.dice.within(1, 200);
                outside.schedule.after(delay, Event::Obeys { agent: self.at, run });
            }
            Act::Kill => outside.schedule.after(0, Event::Obeys { agent: self.at, run }),
            Act::Terminate(_) | Act::Nothing => {}
        }
        self.plan_due(outside, run);
    }

    /// A program ends; who it was. What it wrote is there if it ended well.
    pub(crate) fn exit(&mut self, outside: &mut Outside, run: u64, signalled: bool) -> Option<MemberKey> {
        let program = self.programs.remove(&run)?;
        outside.live.remove(&run);
        let status = if signalled { WaitStatus::Signalled(15) } else { program.will };
        let cause = program.ending.cause(status, false, 0);
        if let Some(kept) = self.disk.members.get_mut(&program.member) {
            kept.exit = Some(Exit { run, record: record(cause) });
        }
        Some(program.member)
    }

    pub(crate) fn accept(&mut self, outside: &Outside, member: MemberKey, context: Arc<StepContext>) {
        self.disk.members.insert(member, Kept { context, launched: None, exit: None });
        self.disk.recent.push((outside.now(), Undo::Accepted(member)));
    }

    pub(crate) fn forget(&mut self, outside: &Outside, member: MemberKey) {
        if let Some(mut kept) = self.disk.members.remove(&member) {
            // Its folder goes at once.
            (kept.launched, kept.exit) = (None, None);
            self.disk.recent.push((outside.now(), Undo::Forgotten(member, kept)));
        }
        self.disk.recent.retain(|(time, _)| *time + UNSYNCED_MS > outside.now());
    }

    pub(crate) fn registered(&mut self, outside: &Outside, registration: (NodeId, Incarnation)) {
        let before = self.disk.registration.replace(registration);
        self.disk.recent.push((outside.now(), Undo::Registered(before)));
    }

    /// The machine is switched off and on: what ran is gone without an exit. With `power_cut`, so is what was written last.
    pub(crate) fn reboot(&mut self, outside: &mut Outside, power_cut: bool) {
        self.agent = None;
        (self.paused, self.boots) = (false, self.boots + 1);
        self.waiting.clear();
        for run in std::mem::take(&mut self.programs).into_keys() {
            outside.live.remove(&run);
        }
        let now = outside.now();
        self.clock.reboot(now);
        let recent = std::mem::take(&mut self.disk.recent);
        for (_, undo) in recent.into_iter().rev().filter(|(time, _)| power_cut && *time + UNSYNCED_MS > now) {
            match undo {
                Undo::Registered(before) => self.disk.registration = before,
                Undo::Accepted(member) => {
                    // It remembers nothing of it, its end neither.
                    outside.told_ended.remove(&member);
                    self.disk.members.remove(&member);
                }
                Undo::Forgotten(member, kept) => {
                    outside.told_ended.remove(&member);
                    self.disk.members.insert(member, kept);
                }
            }
        }
    }

    /// What the agent remembers is lost; what runs goes on.
    pub(crate) fn lose_journal(&mut self) {
        self.disk = Disk::default();
    }

    /// The agent's process dies; what runs goes on.
    pub(crate) fn kill_agent(&mut self) {
        self.agent = None;
        (self.paused, self.pauses_next) = (false, false);
        self.waiting.clear();
    }

    /// Nothing runs and nothing is kept.
    pub(crate) fn is_clean(&self) -> bool {
        self.agent.is_some() && self.disk.members.is_empty() && self.programs.is_empty()
    }

    /// What runs and what is kept, in words.
    pub(crate) fn kept(&self) -> String {
        let link = self.agent.as_ref().map(|agent| (agent.target, agent.link.as_ref().map(|link| link.welcomed)));
        let kept: Vec<_> = self.disk.members.keys().collect();
        let held = self.agent.iter().flat_map(|agent| &agent.held).map(|(key, held)| (key, held.phase));
        let (name, runs) = (&self.name, self.programs.len());
        format!("{name}: link {link:?}, {runs} programs, keeps {kept:?}, holds {:?}", held.collect::<Vec<_>>())
    }

    /// What its agent would show of it.
    pub(crate) fn shown(&self) -> Arc<Inventory> {
        let mut shown = (*self.inventory).clone();
        if self.degraded {
            shown.gpus.pop();
        }
        Arc::new(shown)
    }
}

/// The end of an attempt whose program ended; with what it wrote, if it ended well.
pub(crate) fn end_of(outside: &mut Outside, member: MemberKey, exit: &Exit) -> End {
    let mut end = of_exit(&exit.record);
    if end.outcome == AttemptOutcome::Succeeded {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&exit.run.to_le_bytes());
        let manifest = Digest { hash, length: exit.run };
        let list = Some(ItemList { items: manifest, count: (exit.run % 4) as u32 });
        end.outputs.insert(output_name(), Output { manifest, list });
        outside.written.insert(manifest, member);
    }
    end
}

/// As an agent would say that takes what it lost sight of for done.
pub(crate) fn unwritten() -> End {
    let mut end = of_exit(&record(ExitCause::Exited { code: 0 }));
    let manifest = Digest { hash: [7; 32], length: 7 };
    end.outputs.insert(output_name(), Output { manifest, list: Some(ItemList { items: manifest, count: 1 }) });
    end
}

fn record(cause: ExitCause) -> ExitRecord {
    ExitRecord { cause, started_at_ms: None, ended_at_ms: 0, peak_memory_bytes: 0, cpu_us: 0 }
}

fn launch_spec(step: &StepSpec) -> LaunchSpec {
    LaunchSpec {
        name: String::new(),
        folder: Default::default(),
        argv: Vec::new(),
        env: Vec::new(),
        secret_env: Vec::new(),
        workdir: Default::default(),
        limits: Limits { cpu_milli: 0, memory_bytes: 0, pids: 0, shm_bytes: 0, disk_bytes: 0 },
        sandbox: Sandbox::Process,
        timeout_ms: step.timeout_ms,
        kill_grace_ms: step.kill_grace_ms,
        stop_signal: step.stop_signal,
        notice_signal: None,
        log_limit_bytes: 0,
        lease_file: (step.on_disconnect == OnDisconnect::Stop).then(|| "lease".into()),
    }
}
