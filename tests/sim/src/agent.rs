//! An agent and its machine: the real session and the real decision of what to start and stop; what runs is pretended.
//!
//! Three things die apart: the process of the agent (what runs goes on), the machine (what runs is gone, its folders are
//! not), and the disk (nothing is remembered).

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_agent::reconcile::{Action, Observed, Wanted, reconcile};
use flowyard_agent::session::Session;
use flowyard_model::*;

use crate::jobs::output_name;
use crate::message::{Down, Up};
use crate::outside::Outside;
use crate::schedule::Event;

/// Between two looks at the clock, in milliseconds.
const TIMER_MS: u64 = 300;
/// Silence of the coordinator after which a session is given up.
const SILENCE_MS: u64 = 1_500;

pub(crate) struct Agent {
    at: usize,
    inventory: Arc<Inventory>,
    disk: Disk,
    process: Option<Process>,
    /// Processes started so far.
    processes: u64,
    /// Runs, sessions and requests made so far; each number is used once.
    numbers: u64,
}

#[derive(Default)]
struct Disk {
    registration: Option<(NodeId, Incarnation)>,
    members: BTreeMap<MemberKey, Folder>,
}

/// What is kept of one member.
struct Folder {
    run: u64,
    phase: Phase,
    stopping: bool,
    end: Option<Arc<End>>,
}

struct Process {
    id: u64,
    /// The request for registration that is on its way, or was answered.
    request: u64,
    registered: bool,
    /// Whether the inventory was shown without its last device.
    degraded: bool,
    highest: Fence,
    heard_at: u64,
    link: Option<Link>,
}

struct Link {
    id: u64,
    session: Session,
    /// Numbers of messages, both ways.
    received: u64,
    sent: u64,
    wanted: BTreeMap<MemberKey, Wanted>,
}

impl Agent {
    pub(crate) fn new(at: usize, inventory: Arc<Inventory>) -> Self {
        Self { at, inventory, disk: Disk::default(), process: None, processes: 0, numbers: 0 }
    }

    pub(crate) fn name(&self) -> Name {
        format!("n{}", self.at).parse().expect("it is a name")
    }

    /// What it would show if it registered now.
    pub(crate) fn shown_inventory(&self) -> Arc<Inventory> {
        let mut shown = (*self.inventory).clone();
        if self.process.as_ref().is_some_and(|process| process.degraded) {
            shown.gpus.pop();
        }
        Arc::new(shown)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn is_degraded(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.degraded)
    }

    /// What runs and what is kept, in words.
    pub(crate) fn kept(&self) -> String {
        let folders = self.disk.members.iter().map(|(key, folder)| {
            format!("{key:?} {:?} stopping {} ended {}", folder.phase, folder.stopping, folder.end.is_some())
        });
        let link = self.process.as_ref().and_then(|process| process.link.as_ref());
        let session = link.map(|link| format!("received {} sent {} wants {:?}", link.received, link.sent, link.wanted));
        format!("registered {:?}, session {session:?}, keeps {:?}", self.disk.registration, folders.collect::<Vec<_>>())
    }

    /// Nothing runs and nothing is kept.
    pub(crate) fn is_clean(&self) -> bool {
        self.disk.members.is_empty()
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers * 100 + self.at as u64
    }

    /// Starts the agent's process.
    pub(crate) fn start(&mut self, outside: &mut Outside) {
        if self.process.is_some() {
            return;
        }
        self.processes += 1;
        let degraded = !outside.healed && outside.dice.chance(100);
        let highest = Fence { term: Term(0), revision: Revision(0) };
        let (id, heard_at) = (self.processes, outside.schedule.now());
        self.process = Some(Process { id, request: 0, registered: false, degraded, highest, heard_at, link: None });
        self.timer(outside, id);
    }

    /// The process dies; what runs goes on.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// The machine dies; what ran is gone without an exit.
    pub(crate) fn crash(&mut self) {
        self.kill();
        for folder in self.disk.members.values_mut().filter(|folder| folder.end.is_none()) {
            folder.end = Some(Arc::new(end(AttemptOutcome::Lost, Reason::NodeLost, Blame::Platform)));
            folder.phase = Phase::Ended;
        }
    }

    /// The machine is replaced: it remembers nothing.
    pub(crate) fn wipe(&mut self) {
        self.kill();
        self.disk = Disk::default();
    }

    pub(crate) fn timer(&mut self, outside: &mut Outside, process: u64) {
        let Some(alive) = self.process.as_mut().filter(|alive| alive.id == process) else { return };
        let now = outside.schedule.now();
        outside.schedule.after(TIMER_MS, Event::AgentTimer { agent: self.at, process });
        if now.saturating_sub(alive.heard_at) > SILENCE_MS {
            alive.heard_at = now;
            alive.link = None;
        }
        // What was held back for later news of the same member is due by now.
        self.flush(outside);
        let Some(alive) = &self.process else { return };
        match (&alive.link, alive.registered) {
            (_, false) => {
                let request = self.number();
                self.process.as_mut().expect("it is alive").request = request;
                let previous = self.disk.registration;
                outside.send_up(self.at, Up::Register { request, previous });
            }
            (None, true) => self.connect(outside),
            (Some(link), true) => {
                let beat = Up::Beat { session: link.id, sent: link.sent };
                outside.send_up(self.at, beat);
            }
        }
    }

    fn connect(&mut self, outside: &mut Outside) {
        let session = self.number();
        let Some((node, incarnation)) = self.disk.registration else { return };
        let observed = self.disk.members.iter().map(|(key, folder)| report(*key, folder)).collect();
        let link = Link { id: session, session: Session::begin(), received: 0, sent: 0, wanted: BTreeMap::new() };
        self.process.as_mut().expect("only a living agent connects").link = Some(link);
        outside.send_up(self.at, Up::Connect { session, node, incarnation, observed });
    }

    pub(crate) fn hear(&mut self, outside: &mut Outside, message: Down) {
        let Some(process) = &mut self.process else { return };
        let current = process.link.as_ref().map(|link| link.id);
        match message {
            Down::Registered { request, reply } => self.registered(outside, request, reply),
            Down::Closed { session, register } if current == Some(session) => {
                process.link = None;
                process.registered &= !register;
            }
            Down::Ack { session, sequence } if current == Some(session) => {
                process.heard_at = outside.schedule.now();
                process.link.as_mut().expect("it is current").session.acknowledge(sequence);
                self.flush(outside);
            }
            Down::Beat { session, sent, acknowledged } if current == Some(session) => {
                process.heard_at = outside.schedule.now();
                let link = process.link.as_mut().expect("it is current");
                link.session.acknowledge(acknowledged);
                if link.received < sent {
                    process.link = None;
                }
                self.flush(outside);
            }
            Down::Desired { session, desired } if current == Some(session) => self.desired(outside, &desired),
            Down::Closed { .. } | Down::Ack { .. } | Down::Beat { .. } | Down::Desired { .. } => {}
        }
    }

    fn registered(&mut self, outside: &mut Outside, request: u64, reply: Reply) {
        let process = self.process.as_mut().expect("only a living agent hears");
        let Reply::Registered { node, incarnation } = reply else { return };
        if process.request != request || process.registered {
            return;
        }
        process.registered = true;
        process.heard_at = outside.schedule.now();
        self.disk.registration = Some((node, incarnation));
        self.connect(outside);
    }

    fn desired(&mut self, outside: &mut Outside, desired: &Desired) {
        let process = self.process.as_mut().expect("only a living agent hears");
        process.heard_at = outside.schedule.now();
        let link = process.link.as_mut().expect("the message belongs to a session");
        if link.session.receive(desired, &mut process.highest).is_err() {
            process.link = None;
            return;
        }
        link.received = desired.sequence;
        if desired.all {
            link.wanted.clear();
        }
        link.wanted.extend(desired.run.iter().map(|member| (member.key, Wanted::Run { known: member.known })));
        link.wanted.extend(desired.stop.iter().map(|key| (*key, Wanted::Stop)));
        link.wanted.retain(|key, _| !desired.gone.contains(key));
        let mut keys: Vec<_> = desired.run.iter().map(|member| member.key).collect();
        keys.extend(desired.stop.iter().chain(&desired.gone));
        if desired.all {
            keys.extend(self.disk.members.keys());
        }
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            self.act(outside, key);
        }
        self.flush(outside);
    }

    /// Does what the real decision says about one member.
    fn act(&mut self, outside: &mut Outside, key: MemberKey) {
        let process = self.process.as_mut().expect("only a living agent acts");
        let Some(link) = process.link.as_mut().filter(|link| link.received > 0) else { return };
        let folder = self.disk.members.get_mut(&key);
        let observed = folder.as_ref().map(|folder| match folder.end {
            Some(_) => Observed::Ended,
            None => Observed::Live { stopping: folder.stopping },
        });
        let gone = |outcome, reason| {
            let end = Some(Arc::new(end(outcome, reason, Blame::Platform)));
            report(key, &Folder { run: 0, phase: Phase::Ended, stopping: false, end })
        };
        match (reconcile(link.wanted.get(&key).copied(), observed), folder) {
            (Some(Action::Start), _) => self.begin(outside, key),
            (Some(Action::Stop), Some(folder)) => {
                folder.stopping = true;
                let (agent, run, delay) = (self.at, folder.run, outside.dice.within(1, 50));
                outside.schedule.after(delay, Event::Progress { agent, member: key, run });
            }
            (Some(Action::Report), Some(folder)) => link.session.report(report(key, folder), outside.schedule.now()),
            (Some(Action::ReportLost), _) => {
                link.session.report(gone(AttemptOutcome::Lost, Reason::NodeLost), outside.schedule.now());
            }
            (Some(Action::ReportStopped), _) => {
                link.session.report(gone(AttemptOutcome::Stopped, Reason::Cancelled), outside.schedule.now());
            }
            (Some(Action::Forget), _) => drop(self.disk.members.remove(&key)),
            (None | Some(Action::Stop | Action::Report), _) => {}
        }
    }

    fn begin(&mut self, outside: &mut Outside, key: MemberKey) {
        let run = self.number();
        let folder = Folder { run, phase: Phase::Accepted, stopping: false, end: None };
        self.disk.members.insert(key, folder);
        outside.schedule.after(outside.dice.within(0, 20), Event::Progress { agent: self.at, member: key, run });
        self.tell(key, outside.schedule.now());
    }

    /// Puts the present state of a member in line for the coordinator.
    fn tell(&mut self, key: MemberKey, now_ms: u64) {
        let link = self.process.as_mut().and_then(|process| process.link.as_mut());
        if let (Some(link), Some(folder)) = (link, self.disk.members.get(&key)) {
            link.session.report(report(key, folder), now_ms);
        }
    }

    fn flush(&mut self, outside: &mut Outside) {
        let Some(link) = self.process.as_mut().and_then(|process| process.link.as_mut()) else { return };
        while let Some((sequence, reports)) = link.session.next_batch(outside.schedule.now()) {
            link.sent = sequence;
            outside.send_up(self.at, Up::Reports { session: link.id, sequence, reports });
        }
    }

    /// A pretended run gets on by one phase, or stops; whether or not the agent's process lives.
    pub(crate) fn progress(&mut self, outside: &mut Outside, key: MemberKey, run: u64) {
        let Some(folder) = self.disk.members.get_mut(&key).filter(|folder| folder.run == run) else { return };
        if folder.end.is_some() {
            return;
        }
        let next = match folder.phase {
            _ if folder.stopping && outside.dice.chance(700) => Phase::Ended,
            Phase::Placed => Phase::Accepted,
            Phase::Accepted => Phase::Fetching,
            Phase::Fetching => Phase::Running,
            Phase::Running => Phase::Storing,
            Phase::Storing | Phase::Ended => Phase::Ended,
        };
        folder.phase = next;
        if next == Phase::Ended {
            folder.end = Some(Arc::new(outcome(outside, key, run, folder.stopping)));
            if self.process.is_some() {
                self.act(outside, key);
            }
        } else {
            let longest = if next == Phase::Running { 400 } else { 40 };
            let delay = outside.dice.within(1, longest);
            outside.schedule.after(delay, Event::Progress { agent: self.at, member: key, run });
            self.tell(key, outside.schedule.now());
        }
        self.flush(outside);
    }
}

fn report(member: MemberKey, folder: &Folder) -> AttemptReport {
    let times = PhaseTimes::NONE;
    AttemptReport { member, phase: folder.phase, times, end: folder.end.clone(), checkpoint: None, stuck: None }
}

/// How a run ends: mostly well.
fn outcome(outside: &mut Outside, member: MemberKey, run: u64, stopping: bool) -> End {
    use AttemptOutcome::{Failed, Rejected, Stopped, Succeeded};
    if stopping && outside.dice.chance(800) {
        return end(Stopped, Reason::Cancelled, Blame::Platform);
    }
    let mut end = match outside.dice.within(0, 99) {
        0..=79 => end(Succeeded, Reason::Exit, Blame::User),
        80..=88 => end(Failed, Reason::Exit, Blame::User),
        89..=91 => end(Failed, Reason::Oom, Blame::User),
        92..=94 => end(Failed, Reason::Image, Blame::Platform),
        95..=96 => end(Failed, Reason::Device, Blame::Hardware),
        _ => end(Rejected, Reason::Refused, Blame::Platform),
    };
    if end.outcome == Succeeded {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&run.to_le_bytes());
        let manifest = Digest { hash, length: run };
        let list = Some(ItemList { items: manifest, count: outside.dice.within(0, 4) as u32 });
        end.outputs.insert(output_name(), Output { manifest, list });
        outside.written.insert(manifest, member);
    }
    end
}

fn end(outcome: AttemptOutcome, reason: Reason, blame: Blame) -> End {
    End {
        outcome,
        reason,
        blame,
        exit_code: None,
        signal: None,
        message: String::new(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: BTreeMap::new(),
        logs: Logs::NONE,
    }
}
